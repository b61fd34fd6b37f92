"""A TCP proxy that loses what it carries: replies that never come, come late, and connections that break.

For Kafka it reads frames (a length of 4 bytes, then the request: api key, version, correlation id), for Postgres it
looks for the statement that commits. What is asked is always delivered, unless a rule says otherwise: the interesting
failure is that of the answer.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from infra.dev.ports import LOOPBACK

PRODUCE = 0  # Kafka's api key
COMMIT = b"COMMIT;\0"  # how asyncpg ends a transaction's block
CHUNK_BYTES = 64 * 1024
LENGTH_BYTES = 4

# What becomes of one exchange: it passes, its reply is lost with the connection, it is late by so many seconds, or
# the request itself is lost with the connection.
Fate = Literal["pass", "lose reply", "lose request"] | float
Rule = Callable[[int], Fate]  # asked with Kafka's api key, or with 1 for Postgres' COMMIT


def passes(_kind: int) -> Fate:
    """Harm nothing."""
    return "pass"


@dataclass(slots=True)
class Proxy:
    """Listens on `port` and forwards to `target`; an async context manager. `hits` counts what a rule harmed."""

    port: int
    target: int
    kind: Literal["kafka", "postgres"]
    rule: Rule = passes
    hits: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, upstream[1]}
        pump = _kafka if self.kind == "kafka" else _postgres
        task = asyncio.create_task(self._carry(pump(self, (reader, writer), upstream), writer, upstream[1]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, pump: Coroutine[Any, Any, None], *ends: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                await pump
        finally:
            for end in ends:
                end.transport.abort()
                self._open.discard(end)

    def fate(self, kind: int) -> Fate:
        """Ask the rule, and count what it harms."""
        fate = self.rule(kind)
        self.hits += fate != "pass"
        return fate


End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _kafka(proxy: Proxy, client: End, broker: End) -> None:
    """Carry frames; replies come in the order of their requests."""
    fates: deque[Fate] = deque()

    async def requests() -> None:
        while True:
            frame = await _frame(client[0])
            fate = proxy.fate(int.from_bytes(frame[4:6], "big"))
            if fate == "lose request":
                raise EOFError
            fates.append(fate)
            await _write(broker[1], frame)

    async def replies() -> None:
        while True:
            frame = await _frame(broker[0])
            fate = fates.popleft()
            if fate == "lose reply":
                raise EOFError
            if isinstance(fate, float):
                await asyncio.sleep(fate)
            await _write(client[1], frame)

    await _until_first(requests(), replies())


async def _postgres(proxy: Proxy, client: End, server: End) -> None:
    """Carry bytes; a COMMIT comes in a piece of its own, since asyncpg waits for its answer."""
    losing = False

    async def requests() -> None:
        nonlocal losing
        while data := await client[0].read(CHUNK_BYTES):
            if data.endswith(COMMIT):
                fate = proxy.fate(1)
                if fate == "lose request":
                    raise EOFError
                losing = fate == "lose reply"
            await _write(server[1], data)

    async def replies() -> None:
        while data := await server[0].read(CHUNK_BYTES):
            if losing:
                raise EOFError
            await _write(client[1], data)

    await _until_first(requests(), replies())


async def _until_first(*pumps: Coroutine[Any, Any, None]) -> None:
    """Run until one direction ends, then end the other."""
    tasks = [asyncio.create_task(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    length = await reader.readexactly(LENGTH_BYTES)
    return length + await reader.readexactly(int.from_bytes(length, "big"))


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
