"""An event loop in virtual time that runs several processes, each of which can be frozen or killed between two steps.

Nothing waits: when nothing is ready, time jumps to the next timer. What runs next is drawn from all that is ready, so
one seed is one order of everything, and another seed another. A process is whatever runs in the context of a `Host`:
killing it drops its callbacks, as SIGKILL would, without running a single `finally`; freezing it keeps them, as
SIGSTOP would.
"""

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

T = TypeVar("T")

STEP_S = 10e-6  # what a step costs: so no busy loop can hold up time, and a time names a place in a run


@dataclass(eq=False, slots=True)
class Host:
    """A simulated process. After `fuse` more steps of it (0: never), `blow` is called."""

    name: str
    state: Literal["up", "frozen", "dead"] = "up"
    fuse: int = 0
    blow: Callable[[], None] | None = None
    kept: list[tuple["Host", asyncio.Handle]] = field(default_factory=list)

    def context(self) -> Context:
        """Return a new context, in which everything belongs to this process."""
        context = copy_context()
        context.run(HOST.set, self)
        return context


OUTSIDE = Host("outside")  # brokers, people, faults: what neither freezes nor dies
HOST: ContextVar[Host] = ContextVar("HOST", default=OUTSIDE)


class StuckError(Exception):
    """Everything waits for something that can't come."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """The loop. Only what asyncio's tasks, futures, locks and timeouts need: there are no sockets and no threads."""

    def __init__(self, rng: random.Random) -> None:
        """Start at time 0; `rng` draws the order."""
        self.tasks: list[asyncio.Task[Any]] = []
        self.failures: list[str] = []
        self.steps = 0
        self._draw = rng.random
        self._time = 0.0
        self._ready: list[tuple[Host, asyncio.Handle]] = []
        self._timers: list[tuple[float, int, Host, asyncio.TimerHandle]] = []
        self._numbered = 0

    # --- what asyncio asks of a loop --------------------------------------------------------------------------------

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._time

    def call_soon(  # type: ignore[override]  # typeshed's signature has a TypeVarTuple that says nothing here
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback soon, in any order with others."""
        if context is None:
            context = copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append((context.get(HOST, OUTSIDE), handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback in `delay` seconds."""
        return self.call_at(self._time + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run a callback at a time."""
        if context is None:
            context = copy_context()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._numbered += 1
        heapq.heappush(self._timers, (when, self._numbered, context.get(HOST, OUTSIDE), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Run a coroutine. The task is remembered, so that none is collected, or fails, unseen."""
        task = asyncio.Task(coro, loop=self, name=name or "", context=context)
        self.tasks.append(task)
        return task

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def is_running(self) -> bool:
        """Return True: nobody asks at another time."""
        return True

    def is_closed(self) -> bool:
        """Return False: there is nothing to close."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Remember what nobody caught."""
        self.failures.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer stays on the heap until its time."""

    # --- running ----------------------------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run until `main` is done, and return its result.

        Raises:
            StuckError: nothing is left that could go on.
        """
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
            return task.result()
        finally:
            asyncio._set_running_loop(None)

    def leap(self, seconds: float) -> None:
        """Let time pass at once, as when a machine sleeps: everything due meanwhile is due now."""
        self._time += seconds

    def spawn(self, host: Host, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Run a coroutine as part of a process."""
        return self.create_task(work, name=name, context=host.context())

    def freeze(self, host: Host) -> None:
        """Stop a process where it is, as SIGSTOP does."""
        if host.state == "up":
            host.state = "frozen"

    def thaw(self, host: Host) -> None:
        """Let it go on, as SIGCONT does."""
        if host.state == "frozen":
            host.state = "up"
            self._ready += host.kept
            host.kept = []

    def kill(self, host: Host) -> None:
        """End a process where it is, as SIGKILL does."""
        host.state, host.kept = "dead", []

    def dispose(self) -> None:
        """Close every coroutine that is left, quietly: what a killed process would have done matters no more."""
        asyncio._set_running_loop(self)
        try:
            for task in self.tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio's own tests do
                    _exhaust(task.get_coro())
        finally:
            asyncio._set_running_loop(None)
        self.tasks.clear()
        self._ready.clear()
        self._timers.clear()

    def _step(self) -> None:
        ready, timers = self._ready, self._timers
        while not ready and timers:
            when, _, host, timer = heapq.heappop(timers)
            if not timer.cancelled():
                self._time = max(self._time, when)
                ready.append((host, timer))
        if not ready:
            raise StuckError("nothing is ready, and no timer is set")
        while timers and timers[0][0] <= self._time:
            _, _, host, timer = heapq.heappop(timers)
            ready.append((host, timer))
        chosen = int(self._draw() * len(ready))
        host, handle = ready[chosen]
        ready[chosen] = ready[-1]
        ready.pop()
        if handle.cancelled() or host.state == "dead":
            return
        if host.state == "frozen":
            host.kept.append((host, handle))
            return
        self._time += STEP_S
        self.steps += 1
        handle._run()
        if host.fuse:
            host.fuse -= 1
            if not host.fuse and host.blow is not None:
                host.blow()


def _exhaust(coro: Any) -> None:
    """Close a coroutine that may await, or fail, while it is closed."""
    for _ in range(100):
        try:
            coro.close()
        except RuntimeError:  # it awaits in spite of that: once more
            continue
        except Exception:  # noqa: BLE001 - nobody is there to care
            return
        return
