"""What the embedded stack tells a person while it starts."""

import threading
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress


class Progress(Protocol):
    """Is told of steps; may be called from any thread."""

    def step(self, name: str, done: float | None = None, total: float | None = None, note: str = "") -> None:
        """Tell that the step `name` stands at `done` of `total`.

        Args:
            name: The step, such as `Kafka`; one line each.
            done: How far it is; None where nobody knows.
            total: Where it ends, in the unit of `done`. `done >= total` finishes the step.
            note: What is going on, in a few words.
        """
        ...

    def close(self) -> None:
        """Take away what is drawn of steps that didn't finish; a later step draws anew."""
        ...


class Silence:
    """Shows nothing."""

    def step(self, name: str, done: float | None = None, total: float | None = None, note: str = "") -> None:
        """Ignore the step."""

    def close(self) -> None:
        """There is nothing to take away."""


class Lines:
    """Prints a line whenever a step's note changes: for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._notes: dict[str, str] = {}

    def step(self, name: str, done: float | None = None, total: float | None = None, note: str = "") -> None:
        """Print the note, unless it was printed last."""
        if self._notes.get(name) != note:
            self._notes[name] = note
            self._console.print(f"{name}: {note}", markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the lines as they are."""


class Bars:
    """Draws a line a step, with a bar where the end is known; a finished step stays as a plain line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._bars: RichProgress | None = None

    def step(self, name: str, done: float | None = None, total: float | None = None, note: str = "") -> None:
        """Draw the step where it stands."""
        with self._lock:
            if done is not None and total is not None and done >= total:
                self._finish(name, note)
                return
            bars = self._bars = self._bars or self._begin()
            if name not in self._tasks:
                self._tasks[name] = bars.add_task(name, total=None, note=note)
            # A rich task without a total pulses.
            bars.update(self._tasks[name], completed=done or 0, total=total, note=note)

    def close(self) -> None:
        """Stop drawing; gives the terminal its cursor back."""
        with self._lock:
            if self._bars:
                self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _begin(self) -> RichProgress:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[note]}"))
        bars = RichProgress(*columns, console=self._console, transient=True)
        bars.start()
        return bars

    def _finish(self, name: str, note: str) -> None:
        task = self._tasks.pop(name, None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
        if self._bars is not None and not self._tasks:
            self._bars.stop()
            self._bars = None
        self._console.print(f"[green]✓[/green] {name}: {note}", highlight=False)


def terminal_progress(console: Console | None = None) -> Progress:
    """Return bars if `console` (by default: standard error) is a terminal, else lines."""
    console = console or Console(stderr=True)
    return Bars(console) if console.is_terminal else Lines(console)
