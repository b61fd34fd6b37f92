"""What is under way: tasks that tell what they were paid for, and alarms."""

import asyncio
from collections.abc import Callable

LONGEST_SLEEP_S = 30.0  # a clock may be set, and a machine sleep: nobody waits longer without a look at the clock


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

    def __init__(self, left_s: Callable[[], float], begin: Callable[[], asyncio.Task[None]]) -> None:
        """Begin the task when nothing is left of `left_s`, which goes by a clock that may be set."""
        self._begun: asyncio.Task[None] | None = None
        self._handle = self._wait(left_s, begin)

    def _wait(self, left_s: Callable[[], float], begin: Callable[[], asyncio.Task[None]]) -> asyncio.TimerHandle:
        wait_s = min(max(0.0, left_s()), LONGEST_SLEEP_S)
        return asyncio.get_running_loop().call_later(wait_s, self._ring, left_s, begin)

    def _ring(self, left_s: Callable[[], float], begin: Callable[[], asyncio.Task[None]]) -> None:
        if left_s() > 0:
            self._handle = self._wait(left_s, begin)
        else:
            self._begun = begin()

    def cancel(self) -> None:
        """Cancel it, begun or not."""
        self._handle.cancel()
        if self._begun is not None:
            self._begun.cancel()


Handle = asyncio.Task[None] | Work | Alarm
