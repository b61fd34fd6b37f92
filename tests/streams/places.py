"""What the tests of both logs share."""

import asyncio
from collections.abc import Awaitable, Callable

from streams.log import Draft, Log, Member, Reader, Record

PATIENCE_S = 20.0

Truncate = Callable[[str, int, int], Awaitable[None]]


class Place:
    """A log, and a topic of four partitions in it that only this test uses."""

    def __init__(self, log: Log, topic: str, truncate: Truncate) -> None:
        self.log = log
        self.topic = topic
        self.truncate = truncate


def drafts(count: int, *, size: int = 10) -> list[Draft]:
    return [Draft(b"key", b"%d-" % i + b"x" * size, (("n", b"%d" % i),)) for i in range(count)]


async def read(reader: Reader, count: int) -> list[Record]:
    """Read exactly `count` records."""
    records: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(records) < count:
            records += await reader.poll(max_records=count - len(records))
    return records


async def poll(member: Member, partition: int, count: int) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(records) < count:
            records += await member.poll(partition, max_records=count - len(records), timeout_s=0.2)
    return records
