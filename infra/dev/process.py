"""Processes of the embedded servers: started under a keeper, stopped, killed, found again after a crash."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from infra.dev.ports import PortTakenError
from schemas.errors import StackError

KEEPER = Path(__file__).with_name("keeper.py")
POLL_S = 0.02
KEEPER_GRACE_S = 5.0  # a keeper ends as soon as its server has
LOG_TAIL_BYTES = 16 * 1024
SAME_START_S = 1.0  # how exactly the system tells when a process began; a pid is not used again as fast as that

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for good: a pid alone may be given to another process later."""

    pid: int
    started: float  # seconds since 1970

    @classmethod
    def of(cls, pid: int) -> "ProcessId":
        """Name the process that has `pid` now."""
        return cls(pid, psutil.Process(pid).create_time())

    def is_alive(self) -> bool:
        """Tell if it still runs (a zombie doesn't)."""
        return self.process() is not None

    def process(self) -> psutil.Process | None:
        """Return a handle on it, or None if it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < SAME_START_S
        except psutil.NoSuchProcess:
            return None
        return process if same and _is_running(process) else None


@dataclass(frozen=True, slots=True)
class Launch:
    """How to run one server."""

    name: str  # for people
    command: Callable[[], Sequence[str]]  # called when nothing runs in `home` any more: its ports are free
    home: Path  # working directory; pid file and log lie here
    environment: Mapping[str, str]
    stop_signal: signal.Signals
    grace_s: float  # from the stop signal to SIGKILL
    timeout_s: float  # from the start to the first answer
    ready: Callable[[], Awaitable[bool]]

    @property
    def log(self) -> Path:
        """Where the server's output goes; the log of the run before is kept beside it."""
        return self.home / "server.log"

    @property
    def pid_file(self) -> Path:
        """Names the process, for whoever comes after a crash."""
        return self.home / "server.pid"


class ServerProcess:
    """A running server, and its keeper in between (see `keeper.py`)."""

    def __init__(self, launch: Launch, keeper: "subprocess.Popen[bytes]", identity: ProcessId) -> None:
        self.identity = identity
        self._launch = launch
        self._keeper = keeper

    def is_alive(self) -> bool:
        """Tell if the server runs."""
        return self._keeper.poll() is None

    async def stop(self) -> None:
        """Stop it in good order, by SIGKILL after the grace period."""
        if self._keeper.stdin:
            self._keeper.stdin.close()
        await until(lambda: self._keeper.poll() is not None, self._launch.grace_s + KEEPER_GRACE_S)
        if self.identity.is_alive():  # somebody ended the keeper
            await to_its_end(stop_left_over, self._launch)
        await self.kill()
        self._launch.pid_file.unlink(missing_ok=True)

    async def kill(self) -> None:
        """SIGKILL it with its children, as a crash would; returns when all are gone."""
        await to_its_end(kill_tree, self.identity)
        if not await until(lambda: self._keeper.poll() is not None, KEEPER_GRACE_S):
            self._keeper.kill()
            await asyncio.to_thread(self._keeper.wait)
        if self._keeper.stdin:
            self._keeper.stdin.close()


async def launch(spec: Launch) -> ServerProcess:
    """Start a server and wait until it answers; first stop one that was left over in the same home.

    Raises:
        PortTakenError: its port was taken in the meantime.
        StackError: it ended while it started, or does not answer in time.
    """
    await to_its_end(stop_left_over, spec)
    process = _spawn(spec)  # some 40 ms, not in a thread: a cancelled wait would lose the process
    try:
        await _until_ready(spec, process)
    except BaseException:
        await process.kill()
        raise
    return process


async def _until_ready(spec: Launch, process: ServerProcess) -> None:
    deadline = time.monotonic() + spec.timeout_s
    while not await spec.ready():
        if not process.is_alive():
            raise _died(spec)
        if time.monotonic() > deadline:
            raise StackError(f"{spec.name} gave no answer in {spec.timeout_s:.0f} s: see {str(spec.log)!r}")
        await asyncio.sleep(POLL_S)


async def to_its_end(work: Callable[..., Result], *arguments: Any, give_up: threading.Event | None = None) -> Result:
    """Do blocking work in a thread; who is cancelled meanwhile waits for its end, since a thread can't be stopped.

    Args:
        work: What to call.
        arguments: What to call it with.
        give_up: Is set when the caller is cancelled, for work that looks at it.
    """
    doing = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        if give_up:
            give_up.set()
        await asyncio.wait([doing])
        doing.exception()  # seen: it ends with the caller's cancellation
        raise


async def until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Wait until `condition` holds; tell if it did within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        if condition():
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)


def kill_tree(identity: ProcessId, timeout_s: float = 5.0) -> None:
    """SIGKILL a process with all that it started, and wait until they are gone."""
    process = identity.process()
    if process is None:
        return
    with suppress(psutil.NoSuchProcess):
        # The parent first: it must not see its children die and tidy up.
        family = [process, *process.children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        wait_for_end(family, timeout_s)


def wait_for_end(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    """Wait until all `processes` have ended, but not longer than `timeout_s`."""
    # Not psutil.wait_procs: it waits for orphans until some init has reaped them, which may take seconds.
    deadline = time.monotonic() + timeout_s
    while any(map(_is_running, processes)) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def stop_left_over(spec: Launch) -> None:
    """Stop the server of an owner that has ended, where its keeper is not done yet or has ended too.

    It is stopped, not taken over: only a keeper of ours stops it when we end.

    Raises:
        StackError: the owner still runs.
    """
    identity, owner = _read_pid_file(spec.pid_file)
    process = identity.process() if identity else None
    if identity and process:
        if owner and owner.pid != os.getpid() and owner.is_alive():
            raise StackError(f"{spec.name} of {str(spec.home)!r} is in use by process {owner.pid}: stop that first")
        with suppress(psutil.NoSuchProcess):
            process.send_signal(spec.stop_signal)
            wait_for_end([process], spec.grace_s)
        kill_tree(identity)
    spec.pid_file.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a file, readable by its owner only, such that a reader sees the old or the new one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


def _write_pid_file(pid_file: Path, server: ProcessId) -> None:
    owner = ProcessId.of(os.getpid())
    write_atomically(pid_file, json.dumps({"server": asdict(server), "owner": asdict(owner)}))


def _read_pid_file(pid_file: Path) -> tuple[ProcessId, ProcessId] | tuple[None, None]:
    try:
        content = json.loads(pid_file.read_text())
        return ProcessId(**content["server"]), ProcessId(**content["owner"])
    except (OSError, ValueError, TypeError, KeyError):
        return None, None


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _spawn(spec: Launch) -> ServerProcess:
    if spec.log.exists():
        spec.log.replace(spec.log.with_suffix(".old.log"))
    instructions = (str(spec.log), str(spec.grace_s), str(int(spec.stop_signal)))
    keeper = subprocess.Popen(  # noqa: S603 - a command of ours
        [sys.executable, "-I", "-S", str(KEEPER), *instructions, *spec.command()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=spec.home,
        env=dict(spec.environment),
        start_new_session=True,  # Ctrl-C in the terminal is for the owner alone, which then stops us
    )
    with keeper.stdout as answer:  # type: ignore[union-attr]
        line = answer.readline()
    try:
        identity = ProcessId.of(int(line))
    except (ValueError, psutil.NoSuchProcess) as error:
        keeper.stdin.close()  # type: ignore[union-attr]
        keeper.wait()
        raise _died(spec) from error
    _write_pid_file(spec.pid_file, identity)
    return ServerProcess(spec, keeper, identity)


def _died(spec: Launch) -> StackError:
    tail = _tail(spec.log)
    if "Address already in use" in tail:
        return PortTakenError(f"a port of {spec.name} was taken while it started: start it again")
    marks = ("FATAL", "ERROR", "Exception", "rror:")
    last = next((line for line in reversed(tail.splitlines()) if any(mark in line for mark in marks)), "")
    told = last.strip()[:200] or "no error told"
    return StackError(f"{spec.name} ended while it started ({told}): see {str(spec.log)!r}")


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
