"""The log in memory: for tests and simulations, under the same contract suite as Kafka.

Besides the contract it models what a real log does to its users, each on demand: an append that is refused, one that
lands without an answer, one that lands late (`on_write`, `release`), offsets that are skipped, retention, compaction,
a topic that is deleted and created anew, and a member that was dropped from its group and does not know it.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

from schemas.errors import AppendError, ConfigurationError, LogTruncatedError, NotFoundError, RecordTooLargeError
from streams.log import Bounds, Draft, Position, RebalanceListener, Record
from streams.memory_consumers import MemoryGroup, MemoryMember, MemoryReader
from streams.partitioner import partition_of
from streams.sentences import no_partition, no_topic, out_of_range, too_large, unanswered
from streams.sizes import batch_bytes
from streams.topics import TopicDefinition

Outcome = Literal["ok", "refused", "unanswered", "late"]
# Asked before each write: (topic, partition, drafts) -> what becomes of it.
WriteFault = Callable[[str, int, Sequence[Draft]], Outcome]


@dataclass(slots=True)
class MemoryPartition:
    """One partition: its records by ascending offset, with gaps where records were compacted or skipped."""

    start: int = 0
    end: int = 0
    records: list[Record] = field(default_factory=list)


@dataclass(slots=True)
class MemoryTopic:
    """One topic. `changed` is set, and replaced, whenever records arrive or go."""

    definition: TopicDefinition
    partitions: list[MemoryPartition]
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    keyless: int = 0  # the next partition of a record without a key

    def notify(self) -> None:
        """Wake everybody who waits for this topic."""
        self.changed.set()
        self.changed = asyncio.Event()


def system_clock_ms() -> int:
    """Return the time in Unix ms."""
    return time.time_ns() // 1_000_000


class MemoryLog:
    """A `Log` that is gone when the process is. `clock` gives append times in Unix ms."""

    def __init__(self, *, clock: Callable[[], int] = system_clock_ms, on_write: WriteFault | None = None) -> None:
        """Start without topics.

        Args:
            clock: The broker's clock; it may step back, as real ones do.
            on_write: Decides the fate of each write; can be set and cleared at any time.
        """
        self.on_write = on_write
        self._clock = clock
        self._topics: dict[str, MemoryTopic] = {}
        self._groups: dict[tuple[str, str], MemoryGroup] = {}
        self._late: list[tuple[str, int, tuple[Draft, ...]]] = []

    # The contract: see `streams.log.Log`.

    async def append(self, topic: str, partition: int, drafts: Sequence[Draft]) -> int:
        """Append `drafts` as one atomic batch and return the offset of the first."""
        if not drafts:
            raise ValueError("an append needs at least one record")
        found = self._topic(topic)
        self._partition(found, partition)
        await asyncio.sleep(0)  # a real append always lets others run
        return self._write(found, partition, drafts)

    async def send(self, topic: str, draft: Draft, *, partition: int | None = None) -> Position:
        """Append one record and return its place."""
        found = self._topic(topic)
        if partition is None:
            partition = self._choose(found, draft.key)
        self._partition(found, partition)
        await asyncio.sleep(0)
        return Position(partition, self._write(found, partition, (draft,)))

    async def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has."""
        return self.count(topic)

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """Return the offsets that a partition holds."""
        found = self._partition(self._topic(topic), partition)
        return Bounds(found.start, found.end)

    def reader(self, topic: str, positions: Mapping[int, int], *, linger_s: float = 0.0) -> MemoryReader:
        """Open a reader of the given partitions, each from its offset; it holds nothing back."""
        return MemoryReader(self, topic, positions)

    def member(self, topic: str, group: str, on_rebalance: RebalanceListener) -> MemoryMember:
        """Join a consumer group."""
        return MemoryMember(self, self.group(topic, group), on_rebalance)

    # For tests and simulations.

    def create(self, definitions: Iterable[TopicDefinition], partitions: int) -> None:
        """Create topics without records.

        Raises:
            ConfigurationError: a topic exists with another number of partitions.
        """
        for definition in definitions:
            there = self._topics.get(definition.name)
            if there is None:
                self._topics[definition.name] = MemoryTopic(definition, [MemoryPartition() for _ in range(partitions)])
            elif len(there.partitions) != partitions:
                raise ConfigurationError(
                    f"{definition.name!r} has {len(there.partitions)} partitions, not {partitions}: "
                    "they can't be changed later without moving keys"
                )

    def delete(self, topic: str) -> None:
        """Delete a topic with all its records; `create` makes a new one of that name."""
        self._topics.pop(topic).notify()

    def truncate(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before an offset, as retention does."""
        found = self._topic(topic)
        held = self._partition(found, partition)
        held.start = max(held.start, min(before, held.end))
        held.records = [record for record in held.records if record.offset >= held.start]
        found.notify()

    def compact(self, topic: str) -> None:
        """Keep the last record of every key, as log compaction does; a last record without a value goes too."""
        found = self._topic(topic)
        for held in found.partitions:
            last = {record.key: record.offset for record in held.records}
            held.records = [r for r in held.records if last[r.key] == r.offset and r.value is not None]

    def skip(self, topic: str, partition: int, count: int) -> None:
        """Leave a gap of `count` offsets at the end, as transactions and compaction do."""
        found = self._topic(topic)
        self._partition(found, partition).end += count
        found.notify()

    def release(self) -> int:
        """Let the writes that were held back by "late" land now, in order; return how many."""
        late, self._late = self._late, []
        for topic, partition, drafts in late:
            self._store(self._topic(topic), partition, drafts)
        return len(late)

    def records(self, topic: str, partition: int | None = None) -> list[Record]:
        """Return what a topic or one partition holds, partition by partition."""
        found = self._topic(topic)
        chosen = found.partitions if partition is None else [self._partition(found, partition)]
        return [record for held in chosen for record in held.records]

    def group(self, topic: str, group: str) -> MemoryGroup:
        """Return a consumer group: who holds what, what was committed, and a way to drop a member unawares."""
        return self._groups.setdefault((topic, group), MemoryGroup(topic, self))

    # For readers and members.

    def changed(self, topic: str) -> asyncio.Event:
        """Return the event that is set when `topic` changes next."""
        return self._topic(topic).changed

    def wake(self, topic: str) -> None:
        """Wake everybody who waits for `topic`."""
        if (found := self._topics.get(topic)) is not None:
            found.notify()

    def count(self, topic: str) -> int:
        """Return how many partitions the topic has."""
        return len(self._topic(topic).partitions)

    def end(self, topic: str, partition: int) -> int:
        """Return the offset at which a partition ends."""
        return self._partition(self._topic(topic), partition).end

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from `offset` on; none at the end.

        Raises:
            LogTruncatedError: the partition does not hold that offset.
        """
        held = self._partition(self._topic(topic), partition)
        if not held.start <= offset <= held.end:
            raise LogTruncatedError(out_of_range(topic, partition, offset, Bounds(held.start, held.end)))
        first = bisect_left(held.records, offset, key=attrgetter("offset"))
        return held.records[first : first + limit]

    def _topic(self, topic: str) -> MemoryTopic:
        if (found := self._topics.get(topic)) is None:
            raise NotFoundError(no_topic(topic))
        return found

    def _partition(self, topic: MemoryTopic, partition: int) -> MemoryPartition:
        if not 0 <= partition < len(topic.partitions):
            raise NotFoundError(no_partition(topic.definition.name, partition, len(topic.partitions)))
        return topic.partitions[partition]

    def _choose(self, topic: MemoryTopic, key: bytes | None) -> int:
        if key is not None:
            return partition_of(key, len(topic.partitions))
        topic.keyless += 1
        return topic.keyless % len(topic.partitions)

    def _write(self, topic: MemoryTopic, partition: int, drafts: Sequence[Draft]) -> int:
        name, limit = topic.definition.name, topic.definition.max_message_bytes
        if (size := batch_bytes(drafts)) > limit:
            raise RecordTooLargeError(too_large(name, size, limit))
        outcome = "ok" if self.on_write is None else self.on_write(name, partition, drafts)
        if outcome == "late":
            self._late.append((name, partition, tuple(drafts)))
        elif outcome != "refused":
            base = self._store(topic, partition, drafts)
            if outcome == "ok":
                return base
        raise AppendError(unanswered(name, partition, outcome))

    def _store(self, topic: MemoryTopic, partition: int, drafts: Sequence[Draft]) -> int:
        held = topic.partitions[partition]
        name, base, at_ms = topic.definition.name, held.end, self._clock()
        if topic.definition.cleanup == "compact" and any(draft.key is None for draft in drafts):
            raise AppendError(f"{name!r} is compacted: every record needs a key")
        held.records.extend(
            Record(name, partition, base + i, at_ms, draft.key, draft.value, tuple(draft.headers))
            for i, draft in enumerate(drafts)
        )
        held.end = base + len(drafts)
        topic.notify()
        return base
