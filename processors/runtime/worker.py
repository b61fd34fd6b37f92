"""A process's share of the partitions, as the group deals it."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from processors.runtime.partition import Partition
from processors.runtime.process import Process
from streams.log import Member
from streams.topics import COMMANDS

logger = logging.getLogger(__name__)

GROUP = "dramac-decider"
STOP_S = 8.0  # an orderly end takes milliseconds; supervisors often kill after 10 s
KEPT_S = 10.0  # a partition that left often comes back within a rebalance: its state waits so long


class Worker:
    """Runs the loop of every partition that the group gives to this process."""

    def __init__(self, process: Process) -> None:
        """Run nothing yet."""
        self._process = process
        self._partitions: dict[int, Partition] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._leaving: dict[int, asyncio.TimerHandle] = {}
        self._member: Member | None = None
        self._held: set[int] = set()
        self._failed: asyncio.Future[None] | None = None

    @property
    def partitions(self) -> Mapping[int, Partition]:
        """The partitions whose state is here, held or just lost."""
        return self._partitions

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            LogReplacedError, LogTruncatedError: the log is not the one that was read.
        """
        self._failed = asyncio.get_running_loop().create_future()
        try:
            async with self._process.log.member(COMMANDS, GROUP, self._rebalanced) as member:
                self._member = member
                for number in self._held:
                    self._take(number)
                try:
                    await self._failed
                except asyncio.CancelledError:
                    await self._stop()  # before the group moves: who takes over restores from what is left
                    raise
        finally:
            self._member = None
            for handle in self._leaving.values():
                handle.cancel()
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _stop(self) -> None:
        """Let every partition end its round and leave an image, and let results into the log, within STOP_S.

        A call that can't be repeated is waited for too: ended in the middle it would be in doubt. Who cancels again
        does not wait for any of it.
        """
        for partition in self._partitions.values():
            partition.stop()
        begun, telling = self._process.begun, self._process.telling
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                while waiting := [t for t in (*self._tasks.values(), *begun.values(), *telling) if not t.done()]:
                    await asyncio.wait(waiting)

    async def _rebalanced(self, revoked: frozenset[int], assigned: frozenset[int]) -> None:
        self._held = (self._held - revoked) | assigned
        loop = asyncio.get_running_loop()
        for number in revoked:
            if (partition := self._partitions.get(number)) is not None:
                partition.revoked()
                self._leaving[number] = loop.call_later(KEPT_S, self._let_go, number)
        if self._member is not None:  # else it is joining, and takes what it holds when it has joined
            for number in assigned:
                self._take(number)
        logger.info("holds partitions %s", sorted(self._held))

    def _take(self, number: int) -> None:
        if (handle := self._leaving.pop(number, None)) is not None:
            handle.cancel()
        partition = self._partitions.get(number)
        if partition is None:
            if self._member is None:
                return
            partition = self._partitions[number] = Partition(number, self._process, self._member)
            task = asyncio.create_task(partition.run(), name=f"partition-{number}")
            task.add_done_callback(self._ended)
            self._tasks[number] = task
        partition.assigned()

    def _let_go(self, number: int) -> None:
        self._leaving.pop(number, None)
        self._partitions.pop(number, None)
        if (task := self._tasks.pop(number, None)) is not None:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._failed is None or self._failed.done():
            return
        if (error := task.exception()) is not None:
            self._failed.set_exception(error)
