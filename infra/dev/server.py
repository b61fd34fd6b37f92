"""What the embedded servers have in common: they start, answer, stop, and can be killed and started again."""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from infra.dev.ports import LOOPBACK, PortTakenError
from infra.dev.process import Launch, ServerProcess, launch, to_its_end
from infra.dev.progress import Progress, Silence
from schemas.errors import StackError

PORT_ATTEMPTS = 3


class EmbeddedServer(ABC):
    """One server with its data in a directory.

    It can be stopped or killed, and started again on the same data and, if it is still free, the same port.
    """

    NAME: ClassVar[str]

    def __init__(self, home: Path, *, port: int | None, progress: Progress | None) -> None:
        """Prepare a server; nothing happens yet. `port` None: a free one, kept from run to run."""
        self.home = home.absolute()
        self._fixed_port = port
        self._progress = progress or Silence()
        self._port: int | None = None
        self._process: ServerProcess | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients find it, once it was started."""

    @abstractmethod
    def _lay_out(self) -> None:
        """Make directories, files and data; blocks."""

    @abstractmethod
    def _launch(self) -> Launch:
        """Return how it is started; the command chooses `_port`."""

    async def _fetch(self) -> None:
        """Get what has to come over the network, if it is not here."""
        return

    @property
    def process(self) -> ServerProcess | None:
        """The running process, if there is one."""
        return self._process if self._process and self._process.is_alive() else None

    async def start(self) -> str:
        """Start it, unless it runs, and wait until it serves; return its address.

        Raises:
            PortTakenError: the port that was asked for is in use.
            StackError: it can't be started; the message says what to do.
        """
        if self.process:
            return self.address
        await self.stop()  # whatever is left of one that ended by itself
        await self._fetch()
        self._progress.step(self.NAME, note="starting")
        began = time.monotonic()
        try:
            await to_its_end(self._lay_out)
        except OSError as error:
            raise StackError(
                f"can't write to {str(self.home)!r} ({error.strerror}): choose another directory"
            ) from error
        for attempt in range(1, PORT_ATTEMPTS + 1):
            try:
                self._process = await launch(self._launch())
                break
            except PortTakenError:
                if self._fixed_port is not None or attempt == PORT_ATTEMPTS:
                    raise
        took = time.monotonic() - began
        self._progress.step(self.NAME, 1, 1, f"ready at {LOOPBACK}:{self._port} in {took:.1f} s")
        return self.address

    async def stop(self) -> None:
        """Stop it in good order; does nothing if it does not run."""
        if self._process:
            await self._process.stop()
            self._process = None

    async def kill(self) -> None:
        """SIGKILL it with all its children, as a crash of the machine would."""
        if self._process:
            await self._process.kill()
            self._process = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
