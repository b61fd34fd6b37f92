"""All that the log says, read on from where it was read before, and judged by the one rule of what counts."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field

from schemas.commands import Command
from schemas.envelope import CommandEnvelope, EventEnvelope
from schemas.errors import DecodeError
from schemas.ids import AgentId
from streams.chain import Heads
from streams.log import Log, Reader, Record
from streams.records import decode_command, decode_event
from streams.topics import COMMANDS, DEAD_LETTERS, EVENTS, is_genesis

READ_RECORDS = 5_000


@dataclass(slots=True)
class Tape:
    """What was read so far. `ignored` counts records of `ai.events` that do not count."""

    log: Log
    events: list[EventEnvelope] = field(default_factory=list)
    commands: dict[AgentId, list[CommandEnvelope]] = field(default_factory=lambda: defaultdict(list))
    ignored: int = 0
    dead_letters: list[Record] = field(default_factory=list)
    _heads: dict[int, Heads] = field(default_factory=lambda: defaultdict(Heads))
    _positions: dict[tuple[str, int], int] = field(default_factory=dict)
    _digests: dict[tuple[str, int], list[bytes]] = field(default_factory=lambda: defaultdict(list))

    async def read_on(self) -> None:
        """Read to where the log ends now."""
        for topic in (EVENTS, COMMANDS, DEAD_LETTERS):
            for record in await _records(self.log, topic, self._positions):
                self._digests[topic, record.partition].append(_digest(record))
                if not is_genesis(record):
                    self._take(topic, record)

    def ends(self, topic: str) -> dict[int, int]:
        """The next offset to read of each partition."""
        return {partition: offset for (name, partition), offset in self._positions.items() if name == topic}

    async def changed_records(self) -> list[str]:
        """Read everything anew; return the places of records that are not as they were."""
        changed: list[str] = []
        for topic in (EVENTS, COMMANDS):
            again: dict[tuple[str, int], list[bytes]] = defaultdict(list)
            for record in await _records(self.log, topic, {}):
                again[topic, record.partition].append(_digest(record))
            for place, known in self._digests.items():
                if place[0] == topic and again[place][: len(known)] != known:
                    changed.append(f"{topic} partition {place[1]}")
        return changed

    def _take(self, topic: str, record: Record) -> None:
        if topic == DEAD_LETTERS:
            self.dead_letters.append(record)
        elif topic == EVENTS:
            if self._heads[record.partition].admit(record):
                self.events.append(decode_event(record))
            else:
                self.ignored += 1
        else:
            try:
                envelope = decode_command(record)
            except DecodeError:
                return
            self.commands[envelope.agent_id].append(envelope)

    def told(self, *kinds: type[Command]) -> list[CommandEnvelope]:
        """The commands of these kinds."""
        return [e for envelopes in self.commands.values() for e in envelopes if isinstance(e.command, kinds)]


async def _records(log: Log, topic: str, positions: dict[tuple[str, int], int]) -> list[Record]:
    """Every record from `positions` on to where the topic ends now; they are moved there."""
    ends = {partition: (await log.bounds(topic, partition)).end for partition in range(await log.partitions(topic))}
    begins = {partition: positions.get((topic, partition), 0) for partition in ends}
    unread = {partition for partition, end in ends.items() if begins[partition] < end}
    found: list[Record] = []
    if not unread:
        return []
    async with log.reader(topic, {partition: begins[partition] for partition in unread}) as reader:
        while unread:
            found += await _before(reader, ends, positions, unread)
    return found


async def _before(
    reader: Reader, ends: dict[int, int], positions: dict[tuple[str, int], int], unread: set[int]
) -> list[Record]:
    found = []
    for record in await reader.poll(max_records=READ_RECORDS):
        if record.offset < ends[record.partition]:
            found.append(record)
            positions[record.topic, record.partition] = record.offset + 1
        if record.offset + 1 >= ends[record.partition]:
            unread.discard(record.partition)
    return found


def _digest(record: Record) -> bytes:
    said = repr((record.offset, record.key, record.value, record.headers)).encode()
    return hashlib.blake2b(said, digest_size=16).digest()
