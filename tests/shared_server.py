"""One server for all xdist workers of a test session: the first that needs it starts it, and stops it last."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Protocol


class Server(Protocol):
    async def start(self) -> str: ...

    async def stop(self) -> None: ...


@asynccontextmanager
async def shared_server(home: Path, make: Callable[[Path], Server]) -> AsyncIterator[str]:
    """Yield the address of the one server of `home`.

    Users hold a shared lock on a file, which the system frees if they die; the owner waits for all of them.
    """
    address_file = home / "address"
    server: Server | None = None
    with _open(home / "users.lock") as users:
        with _open(home / "start.lock") as starting:
            await _lock(starting, fcntl.LOCK_EX)
            await _lock(users, fcntl.LOCK_SH)
            if address_file.exists():
                address = address_file.read_text()
            else:
                server = make(home / "server")
                address = await server.start()
                address_file.write_text(address)
        try:
            yield address
        finally:
            if server is not None:
                await _lock(users, fcntl.LOCK_EX)
                address_file.unlink()
                await server.stop()


def _open(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w")


async def _lock(file: IO[str], kind: int) -> None:
    await asyncio.to_thread(fcntl.flock, file, kind)
