"""What every command of the CLI shares: how it runs, prints, and fails."""

import asyncio
import re
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import orjson
import typer
import uvloop
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from infra.logs import configure_logging
from infra.settings import Settings, load_settings
from schemas.errors import (
    ConfigurationError,
    DramacError,
    InvalidAgentError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from schemas.exact import dump_exact
from schemas.message import Json

PIPE_COLUMNS = 160  # a pipe has no width of its own, and 80 columns break every table

# Exit codes that mean something; 2 is also what a wrong command line gives.
FAILED, USAGE, UNAVAILABLE, NOT_FOUND, REFUSED, INTERNAL, INTERRUPTED = 1, 2, 3, 4, 5, 70, 130

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table for people.")]


# What would move the cursor, set the window's title, turn a line around, or can't be encoded at all.
_HIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class PlainConsole(Console):
    """A console on which nobody's text does more than be read: a model, a tool or an event may have written it."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is printed, with U+FFFD for characters that do something else than show."""
        for segment in super().render(renderable, options):
            shown = segment.control or _HIDDEN.search(segment.text) is None
            yield segment if shown else segment._replace(text=_HIDDEN.sub("\ufffd", segment.text))


def out() -> Console:
    """Return the console for results; made when needed, so that tests and pipes get the stream of the moment."""
    is_terminal = sys.stdout.isatty()
    return PlainConsole(highlight=False, soft_wrap=not is_terminal, width=None if is_terminal else PIPE_COLUMNS)


def err() -> Console:
    """Return the console for errors and progress."""
    return PlainConsole(stderr=True, highlight=False, soft_wrap=True)


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error."""
    match error:
        case ConfigurationError():
            return USAGE
        case UnavailableError():
            return UNAVAILABLE
        case NotFoundError():
            return NOT_FOUND
        case RefusedError():
            return REFUSED
        case DramacError():
            return FAILED
        case KeyboardInterrupt() | asyncio.CancelledError():
            return INTERRUPTED
        case _:
            return INTERNAL


def fail(error: BaseException, *, debug: bool = False) -> NoReturn:
    """Say in one line what is wrong, and exit.

    Raises:
        typer.Exit: always.
    """
    code = exit_code(error)
    if code == INTERRUPTED:
        err().print("stopped")
    elif code == INTERNAL:
        if debug:
            raise error
        told = " ".join(str(error).split())[:300]
        err().print(f"[red]error:[/red] {type(error).__name__}: {escape(told)} (DRAMAC_DEBUG=1 shows more)")
    elif isinstance(error, InvalidAgentError) and len(error.faults) > 1:
        _print_faults(error)
    else:
        err().print(f"[red]error:[/red] {escape(' '.join(str(error).split()))}")
    raise typer.Exit(code) from None


def _print_faults(error: InvalidAgentError) -> None:
    """Print everything that is wrong with an agent, a line each: file and line first, as editors know them."""
    console = err()
    console.print(f"[red]error:[/red] {escape(error.source or 'the agent')} has {len(error.faults)} faults")
    for fault in sorted(error.faults, key=lambda fault: fault.line or 0):
        place = f"{error.source}:{fault.line}" if fault.line else error.source
        said = " ".join(str(fault._replace(line=None)).split())
        console.print(f"  [dim]{escape(place)}[/dim]  {escape(said)}")


def run(work: Callable[[Settings], Coroutine[Any, Any, int | None]]) -> None:
    """Run a command's coroutine; its return value is the exit code.

    Raises:
        typer.Exit: with the code that fits what happened; no traceback reaches a person.
    """
    debug = False
    try:
        settings = load_settings()
        debug = settings.debug
        configure_logging(settings.log_level)
        code = uvloop.run(work(settings))
    except (DramacError, KeyboardInterrupt, asyncio.CancelledError) as error:
        fail(error)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: nothing is left to say
        raise typer.Exit(0) from None
    except Exception as error:  # noqa: BLE001 - the outermost edge
        fail(_only(error), debug=debug)
    if code:
        raise typer.Exit(code)


def read_input(file: str) -> bytes:
    """Return what a file holds, or standard input if it is `-`.

    Raises:
        ConfigurationError: it can't be read.
    """
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file!r} can't be read: {error.strerror or error}") from error


def print_json(value: Json) -> None:
    """Print a value as one JSON document."""
    sys.stdout.buffer.write(dump_exact(value, orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


def print_json_line(value: Json) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.buffer.write(dump_exact(value, orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table."""
    made = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def _only(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
