"""Strict replay of partitions: read both topics, then decide again with the network forbidden."""

import asyncio
from collections.abc import Collection

from processors.runtime.offline import offline
from processors.runtime.redecide import Redecided, Redecision
from processors.runtime.stored import Stored
from schemas.errors import LogReplacedError
from streams.log import Log, Record
from streams.replay import read_span
from streams.topics import COMMANDS, EVENTS

SLICE_COMMANDS = 500  # decided between two looks at Ctrl-C


async def redecide(log: Log, partition: int, keys: Collection[bytes] | None = None) -> Redecided:
    """Decide the commands of a partition again, those of the streams `keys` or all, and compare with its events.

    Memory grows with the records of one partition. Of commands, those that stand in the log at the call are decided.

    Raises:
        LogReplacedError: events name commands which `ai.commands` never held, or holds no more at its end.
        DecodeError: an event that counts can't be read by this release.
        OfflineError: deciding reached for the network.
        TimeoutError: a record that is there can't be read.
    """
    held = await log.bounds(COMMANDS, partition)
    commands: list[Record] = []
    async for records in read_span(log, COMMANDS, partition, held):
        commands += [record for record in records if keys is None or record.key in keys]
    stored = Stored(keys)
    async for records in read_span(log, EVENTS, partition, await log.bounds(EVENTS, partition)):
        for record in records:
            stored.add(record)
    end = (await log.bounds(COMMANDS, partition)).end
    if stored.last_cause >= end:
        raise LogReplacedError(
            f"events of partition {partition} name a command at offset {stored.last_cause}, but {COMMANDS!r} ends at "
            f"{end}: it was made anew or lost its end, and nothing can be decided again"
        )
    with offline():
        redecision = Redecision(partition, stored, held.start, keys)
    for begin in range(0, len(commands), SLICE_COMMANDS):
        with offline():
            for record in commands[begin : begin + SLICE_COMMANDS]:
                redecision.take(record)
        await asyncio.sleep(0)
    return redecision.finish(held.end)
