"""The embedded stack: Kafka and Postgres of one data directory, for one owner at a time."""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlsplit

from infra.dev.kafka import KafkaServer
from infra.dev.ports import answers
from infra.dev.postgres import PostgresServer
from infra.dev.process import ProcessId, write_atomically
from infra.dev.progress import Progress, Silence
from schemas.errors import StackError

STATE_FILE = "stack.json"
LOCK_FILE = "stack.lock"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the servers are."""

    kafka: str  # bootstrap servers, `host:port`
    postgres: str  # URL, with the password


class Stack:
    """Starts what is not given by address, keeps its data in a directory, and tells others where it is.

    Only one owner at a time may have a data directory. When the owner ends, however it ends, the servers are stopped.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        kafka: str | None = None,
        postgres: str | None = None,
        progress: Progress | None = None,
        cache_dir: Path | None = None,
        repository: str | None = None,
    ) -> None:
        """Prepare a stack; nothing happens yet.

        Args:
            data_dir: Where the servers' data is kept from run to run; made if need be.
            kafka: Address of a Kafka that is there already; None to start one.
            postgres: URL of a Postgres that is there already; None to start one.
            progress: Is told how it goes.
            cache_dir: Where Kafka's jars are kept.
            repository: Address of a Maven repository instead of Maven Central.
        """
        self.data_dir = data_dir.absolute()
        self.kafka = (
            None
            if kafka
            else KafkaServer(self.data_dir / "kafka", cache_dir=cache_dir, repository=repository, progress=progress)
        )
        self.postgres = None if postgres else PostgresServer(self.data_dir / "postgres", progress=progress)
        self._given = Endpoints(kafka or "", postgres or "")
        self._progress = progress or Silence()
        self._lock: IO[str] | None = None

    async def start(self) -> Endpoints:
        """Start the servers side by side; return where they are.

        Raises:
            StackError: the directory has an owner, or a server can't be started; nothing is left running.
        """
        self._lock = _take(self.data_dir)
        try:
            async with asyncio.TaskGroup() as starting:
                servers = [server for server in (self.kafka, self.postgres) if server]
                for server in servers:
                    starting.create_task(server.start())
            endpoints = Endpoints(
                self.kafka.address if self.kafka else self._given.kafka,
                self.postgres.address if self.postgres else self._given.postgres,
            )
            self._tell(endpoints)
        except BaseExceptionGroup as failures:
            await self.stop()
            raise _first(failures) from None
        except BaseException:
            await self.stop()
            raise
        finally:
            self._progress.close()
        return endpoints

    async def stop(self) -> None:
        """Stop what was started, and give the directory free."""
        (self.data_dir / STATE_FILE).unlink(missing_ok=True)
        try:
            async with asyncio.TaskGroup() as stopping:
                for server in (self.kafka, self.postgres):
                    if server:
                        stopping.create_task(server.stop())
        finally:
            if self._lock:
                self._lock.close()
                self._lock = None

    async def __aenter__(self) -> Endpoints:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _tell(self, endpoints: Endpoints) -> None:
        owner = ProcessId.of(os.getpid())
        ours = [name for name in ("kafka", "postgres") if getattr(self, name)]
        state = {"endpoints": asdict(endpoints), "owner": asdict(owner), "embedded": ours}
        write_atomically(self.data_dir / STATE_FILE, json.dumps(state, indent=1))


@asynccontextmanager
async def embedded_stack(
    data_dir: Path, *, kafka: str | None = None, postgres: str | None = None, progress: Progress | None = None
) -> AsyncIterator[Endpoints]:
    """Run what is not given by address while the block runs; see `Stack`."""
    async with Stack(data_dir, kafka=kafka, postgres=postgres, progress=progress) as endpoints:
        yield endpoints


async def find_running(data_dir: Path) -> Endpoints | None:
    """Return where the stack of `data_dir` is that another process runs; None if none runs and answers."""
    state = _read_state(data_dir)
    if state is None:
        return None
    endpoints, owner, embedded = state
    if not owner.is_alive():
        return None  # what it left behind is being stopped by its keepers, or will be at the next start
    ports = [_port(getattr(endpoints, name)) for name in embedded]
    answered = await asyncio.gather(*(asyncio.to_thread(answers, port) for port in ports))
    return endpoints if all(answered) else None


def _read_state(data_dir: Path) -> tuple[Endpoints, ProcessId, list[str]] | None:
    try:
        state: dict[str, Any] = json.loads((data_dir / STATE_FILE).read_text())
        return Endpoints(**state["endpoints"]), ProcessId(**state["owner"]), list(state["embedded"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _port(address: str) -> int:
    return urlsplit(address if "://" in address else f"//{address}").port or 0


def _take(data_dir: Path) -> IO[str]:
    """Return the lock on `data_dir`; it is free again when the file is closed, or the process ends."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / LOCK_FILE).open("a+")
    except OSError as error:
        raise StackError(
            f"can't write to the data directory {str(data_dir)!r} ({error.strerror}): set DRAMAC_DATA_DIR to another"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise StackError(
            f"already running (pid {owner}) on {str(data_dir)!r}: use it, or stop it with Ctrl-C where it runs, "
            "or set DRAMAC_DATA_DIR to another directory"
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _first(failures: BaseExceptionGroup) -> BaseException:
    """Return what to tell: our own error if there is one, else the first."""
    ours, _ = failures.split(StackError)
    error: BaseException = ours or failures
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
