"""What is under way: tasks that tell what they were paid for, and alarms."""

import asyncio
from collections.abc import Callable


class Work:
    """A task that is cancelled when nobody awaits it any more, until it tells what was paid for or done.

    `reserved` is how many reservations its run had, as far as the log has acknowledged them.
    """

    __slots__ = ("_more", "reserved", "task", "tells")

    def __init__(self, reserved: int = 0) -> None:
        """Hold no task yet."""
        self.task: asyncio.Task[None] | None = None
        self.tells = False
        self.reserved = reserved
        self._more = asyncio.Event()

    def notice(self, reserved: int) -> None:
        """Let what waits for a further reservation go on."""
        if reserved > self.reserved:
            self.reserved = reserved
            self._more.set()

    async def until_reserved(self, count: int) -> None:
        """Wait for the reservation of that number; without one, the task is cancelled."""
        while self.reserved < count:
            self._more.clear()
            await self._more.wait()

    def cancel(self) -> None:
        """Cancel the task, unless it has a result to tell."""
        if self.task is not None and not self.tells:
            self.task.cancel()


class Alarm:
    """A task that begins later: nearly all timers are cancelled long before, and a task is dear."""

    __slots__ = ("_begun", "_handle")

    def __init__(self, wait_s: float, begin: Callable[[], asyncio.Task[None]]) -> None:
        """Begin the task after `wait_s`."""
        self._begun: asyncio.Task[None] | None = None
        self._handle = asyncio.get_running_loop().call_later(wait_s, self._ring, begin)

    def _ring(self, begin: Callable[[], asyncio.Task[None]]) -> None:
        self._begun = begin()

    def cancel(self) -> None:
        """Cancel it, begun or not."""
        self._handle.cancel()
        if self._begun is not None:
            self._begun.cancel()


Handle = asyncio.Task[None] | Work | Alarm
