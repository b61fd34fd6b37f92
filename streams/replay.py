"""Reading the log again: a span of one partition, and all of it."""

import time
from collections.abc import AsyncIterator, Callable

from streams.log import Bounds, Log, Record
from streams.verify import POLL_RECORDS, STALL_S, stalled

Progress = Callable[[int, int], None]  # how many records of how many were read


async def read_span(log: Log, topic: str, partition: int, held: Bounds) -> AsyncIterator[list[Record]]:
    """Yield the records of a partition that stand in `held`, in order, some at a time.

    Raises:
        LogTruncatedError: its beginning is gone.
        TimeoutError: a record that is there can't be read.
    """
    if held.end <= held.start:
        return
    async with log.reader(topic, {partition: held.start}) as reader:
        since, reached = time.monotonic(), held.start
        while reached < held.end:
            records = await reader.poll(max_records=POLL_RECORDS)
            if inside := [record for record in records if record.offset < held.end]:
                yield inside
            before, reached = reached, reader.position(partition)  # behind gaps too, such as a transaction's mark
            if reached > before:
                since = time.monotonic()
            elif time.monotonic() - since > STALL_S:
                raise TimeoutError(stalled(topic, partition))
