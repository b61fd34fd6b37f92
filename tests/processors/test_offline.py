import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from processors.runtime import decision as deciding
from processors.runtime.offline import offline
from processors.runtime.stream import Stream, decide
from schemas.commands import ActivateAgent
from schemas.envelope import CommandEnvelope
from schemas.errors import OfflineError
from schemas.events import Event
from tests.processors.told import active, redecided

FORBIDDEN: dict[str, Callable[[], object]] = {
    "a new socket": socket.socket,
    "a name looked up": lambda: socket.getaddrinfo("localhost", 80),
    "a connection by a library": lambda: socket.create_connection(("127.0.0.1", 9)),
    "a program": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    "a shell": lambda: os.system("true"),
}


@pytest.mark.parametrize("act", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_nothing_leaves_the_process(act: Callable[[], object]) -> None:
    with pytest.raises(OfflineError, match="nothing but the log"), offline():
        act()


def test_an_open_socket_connects_nowhere() -> None:
    with socket.socket() as open_before, pytest.raises(OfflineError, match=r"socket\.connect"), offline():
        open_before.connect(("127.0.0.1", 9))


def test_what_was_swallowed_is_raised_at_the_end() -> None:
    def swallow() -> None:
        with contextlib.suppress(OfflineError):
            socket.socket()

    with pytest.raises(OfflineError), offline():
        swallow()


def test_outside_of_the_section_all_is_as_before() -> None:
    with offline():
        pass
    with socket.socket():
        pass
    with pytest.raises(KeyError), offline():
        raise KeyError
    with socket.socket():
        pass


def test_other_threads_are_not_concerned() -> None:
    opened: list[bool] = []
    begin, end = threading.Event(), threading.Event()

    def other() -> None:
        begin.wait()
        with socket.socket():
            opened.append(True)
        end.set()

    thread = threading.Thread(target=other)
    thread.start()
    with offline():
        begin.set()
        end.wait()
    thread.join()
    assert opened == [True]


def test_a_decider_that_reaches_for_the_network_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def asks_around(stream: Stream, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
        if isinstance(envelope.command, ActivateAgent):
            socket.getaddrinfo("localhost", 80)
        return decide(stream, envelope, at_ms)

    told = active()
    monkeypatch.setattr(deciding, "decide", asks_around)
    with pytest.raises(OfflineError, match="getaddrinfo"), offline():
        redecided(told.commands, told.records())
