"""A section of code in which nothing may leave the process: no socket, no name looked up, no other program.

Deciding again must need nothing but the log. Python tells its audit hooks (PEP 578) of each of these acts before it
is done, by whatever library, and a hook that raises prevents it. A hook can't be removed; ours does nothing outside
of a section. An event loop that is not Python's own (uvloop) opens connections unseen, but only when it runs:
a section has no `await` in it. It is of one thread: others, such as those of clients, go on.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from schemas.errors import OfflineError

PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn")

_state = threading.local()


@contextmanager
def offline() -> Iterator[None]:
    """Have this thread make no connection and start no program for the length of the block.

    Raises:
        OfflineError: from whatever tries, and again at the end of the block if that was swallowed.
    """
    _listen()
    _state.depth = getattr(_state, "depth", 0) + 1
    _state.caught = None
    try:
        yield
    finally:
        _state.depth -= 1
        caught, _state.caught = _state.caught, None
    if caught is not None:
        raise OfflineError(caught)


@cache
def _listen() -> None:
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if getattr(_state, "depth", 0) == 0:
        return
    if event.startswith("socket.") or event in PROGRAMS:
        _state.caught = f"{event!r} while deciding again: a decision may depend on nothing but the log"
        raise OfflineError(_state.caught)
