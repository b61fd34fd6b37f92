"""Counts every observation once, in order, whatever whoever delivers them repeats or leaves out."""

import asyncio
import logging

from processors.signals.counting import Counting
from processors.telling import send_until_acknowledged
from schemas.errors import LogTruncatedError, UnavailableError
from streams.dead_letters import dead_letter
from streams.log import Log, Record
from streams.topics import DEAD_LETTERS, OBSERVATIONS

logger = logging.getLogger(__name__)

RETRY_S = 0.5


class Counter:
    """Brings the records of OBSERVATIONS to a `Counting`, and publishes the signals that follow."""

    def __init__(self, log: Log, counting: Counting, topic: str) -> None:
        """Publish signals to `topic`."""
        self._log = log
        self._counting = counting
        self._topic = topic

    async def take(self, record: Record) -> None:
        """Count a record, before it those of its partition that were not delivered, and not again one that was.

        When this returns, what follows from the record is in the log.
        """
        await self._catch_up(record.partition, record.offset)
        if self._counting.position(record.partition) <= record.offset:
            await self._count(record)

    async def first_uncounted(self, partition: int) -> int | None:
        """Return the offset of the first record of a partition that is still to be counted; None without any."""
        try:
            bounds = await self._log.bounds(OBSERVATIONS, partition)
        except UnavailableError:
            return None
        offset = max(self._counting.position(partition), bounds.start)
        return offset if offset < bounds.end else None

    async def _catch_up(self, partition: int, end: int) -> None:
        """Count what the log has of a partition between its position and `end`."""
        while (position := self._counting.position(partition)) < end:
            try:
                start = max(position, (await self._log.bounds(OBSERVATIONS, partition)).start)
                async with self._log.reader(OBSERVATIONS, {partition: start}) as reader:
                    while reader.position(partition) < end:
                        for record in await reader.poll():
                            if record.offset < end:
                                await self._count(record)
            except (UnavailableError, LogTruncatedError) as error:
                logger.warning("observations that were left out are read again: %s", error)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _count(self, record: Record) -> None:
        """Count one; whatever is wrong with it must not stop those behind it."""
        try:
            signal = self._counting.take(record)
        except Exception as error:  # noqa: BLE001 - it would be lost
            letter = dead_letter(record, str(error), at_ms=record.at_ms)
            await send_until_acknowledged(self._log, letter, topic=DEAD_LETTERS)
        else:
            if signal is not None:
                await send_until_acknowledged(self._log, signal, topic=self._topic)
        self._counting.done(record)
