"""Processes under a keeper, with small scripts in the place of servers."""

import signal
import sys
from pathlib import Path

import pytest

from infra.dev.ports import PortTakenError
from infra.dev.process import Launch, launch
from schemas.errors import StackError

READY = "from pathlib import Path; Path('ready').touch(); "


def launching(home: Path, script: str, **changes: float) -> Launch:
    limits = {"grace_s": 5.0, "timeout_s": 10.0} | changes

    async def ready() -> bool:
        return (home / "ready").exists()

    return Launch(
        name="Server",
        command=lambda: [sys.executable, "-c", script],
        home=home,
        environment={},
        stop_signal=signal.SIGTERM,
        grace_s=limits["grace_s"],
        timeout_s=limits["timeout_s"],
        ready=ready,
    )


async def test_a_server_that_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + "signal.pause()"
    process = await launch(launching(tmp_path, script, grace_s=0.1))
    await process.stop()
    assert not process.identity.is_alive()
    assert not (tmp_path / "server.pid").exists()


async def test_a_server_can_be_killed_and_then_stopped(tmp_path: Path) -> None:
    process = await launch(launching(tmp_path, READY + "import signal; signal.pause()"))
    assert process.is_alive()
    await process.kill()
    assert not process.is_alive()
    await process.stop()


async def test_an_end_while_starting_is_told_with_the_last_error_line(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"Server ended while it started \(ValueError: no disk\): see '.*server.log'"):
        await launch(launching(tmp_path, "raise ValueError('no disk')"))


async def test_a_taken_port_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(PortTakenError):
        await launch(launching(tmp_path, "raise OSError('Address already in use')"))


async def test_a_server_that_stays_silent_is_given_up_and_killed(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="Server gave no answer in 0 s"):
        await launch(launching(tmp_path, "import signal; signal.pause()", timeout_s=0.3))
    replaced = await launch(launching(tmp_path, READY + "import signal; signal.pause()"))
    await replaced.stop()


async def test_a_command_that_does_not_exist_is_told(tmp_path: Path) -> None:
    spec = launching(tmp_path, "")
    missing = Launch(**{name: getattr(spec, name) for name in Launch.__slots__} | {"command": lambda: ["/none"]})
    with pytest.raises(StackError, match=r"ended while it started \(ERROR .*No such file.*/none"):
        await launch(missing)


@pytest.mark.parametrize("content", ["", "[]", '{"server": {"pid": 1}}'])
async def test_a_broken_pid_file_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.pid").write_text(content)
    process = await launch(launching(tmp_path, READY + "import signal; signal.pause()"))
    await process.stop()
