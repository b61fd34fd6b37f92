"""Who reads the log in memory: readers, and the members of consumer groups."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from streams.log import RebalanceListener, Record


class Storage(Protocol):
    """What readers and members need of the log."""

    def changed(self, topic: str) -> asyncio.Event:
        """Return the event that is set when `topic` changes next."""
        ...

    def wake(self, topic: str) -> None:
        """Wake everybody who waits for `topic`."""
        ...

    def count(self, topic: str) -> int:
        """Return how many partitions the topic has."""
        ...

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from `offset` on; raise LogTruncatedError where the log does not hold it."""
        ...

    def end(self, topic: str, partition: int) -> int:
        """Return the offset at which a partition ends."""
        ...


class MemoryReader:
    """A `Reader` of the log in memory, and its context manager."""

    def __init__(self, storage: Storage, topic: str, positions: Mapping[int, int]) -> None:
        """Read `topic`, each partition from its offset."""
        self._storage = storage
        self._topic = topic
        self._positions = dict(positions)

    async def __aenter__(self) -> Self:
        self._storage.changed(self._topic)  # the topic exists
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        return None

    async def poll(self, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of any partition, in order within each; empty after `timeout_s` without any."""
        await asyncio.sleep(0)
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            changed = self._storage.changed(self._topic)
            if records := _take(self._storage, self._topic, self._positions, tuple(self._positions), max_records):
                return records
            if not await _wait(changed, deadline):
                return ()

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading `partition` at `offset`."""
        self._positions[partition] = offset

    def position(self, partition: int) -> int:
        """Return the next offset to read, behind gaps too."""
        return self._positions[partition]


class MemoryGroup:
    """A consumer group of one topic. Rebalances are eager, as aiokafka's are: all is revoked, then assigned anew."""

    def __init__(self, topic: str, storage: Storage) -> None:
        """Start without members."""
        self.committed: dict[int, int] = {}
        self.members: list[MemoryMember] = []
        self.topic = topic
        self._storage = storage
        self._lock = asyncio.Lock()

    async def join(self, member: "MemoryMember") -> None:
        """Take a member in and share the partitions anew."""
        async with self._lock:
            self.members.append(member)
            await self._rebalance()

    async def leave(self, member: "MemoryMember") -> None:
        """Let a member go, if it is in the group, and share the partitions anew."""
        async with self._lock:
            member.close()
            if member in self.members:
                self.members.remove(member)
                await self._rebalance()

    async def evict(self, member: "MemoryMember") -> None:
        """Drop a member without telling it, as a broker does when its session expires: it goes on as a zombie."""
        async with self._lock:
            self.members.remove(member)
            await self._rebalance()

    async def revive(self, member: "MemoryMember") -> None:
        """Let a zombie find out: it loses what it thought it held, and joins again."""
        await member.revoke()
        await self.join(member)

    def commit(self, member: "MemoryMember", offsets: Mapping[int, int]) -> None:
        """Note how far a member read; a stale member's word is ignored."""
        if member in self.members:
            self.committed.update(offsets)

    async def _rebalance(self) -> None:
        count = self._storage.count(self.topic)
        for member in self.members:
            await member.revoke()
        for place, member in enumerate(self.members):
            await member.assign(frozenset(p for p in range(count) if p * len(self.members) // count == place))
        self._storage.wake(self.topic)


class MemoryMember:
    """A `Member` of a group of the log in memory, and its context manager."""

    def __init__(self, storage: Storage, group: MemoryGroup, on_rebalance: RebalanceListener) -> None:
        """Prepare a member; entering it joins the group."""
        self._storage = storage
        self._group = group
        self._on_rebalance = on_rebalance
        self._held: frozenset[int] = frozenset()
        self._positions: dict[int, int] = {}
        self._generation = 0
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        await self._group.join(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self._group.leave(self)

    async def poll(self, partition: int, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of one held partition; empty after `timeout_s`, or when it is not held."""
        return await self._poll((partition,), max_records, timeout_s)

    async def poll_any(self, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of any held partition that was sought; empty after `timeout_s` without any."""
        return await self._poll(None, max_records, timeout_s)

    async def _poll(self, partitions: Sequence[int] | None, max_records: int, timeout_s: float) -> Sequence[Record]:
        await asyncio.sleep(0)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        generation = self._generation
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            changed = self._storage.changed(self._group.topic)
            wanted = tuple(self._positions) if partitions is None else partitions
            if records := _take(self._storage, self._group.topic, self._positions, wanted, max_records):
                return records
            if not await _wait(changed, deadline) or generation != self._generation:
                return ()

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading `partition` at `offset`; nothing happens if it is not held any more."""
        if partition in self._held:
            self._positions[partition] = offset
            self._storage.wake(self._group.topic)

    def position(self, partition: int) -> int | None:
        """Return the next offset to read, behind gaps too; None where it is not held, or was not sought."""
        return self._positions.get(partition)

    def holds(self, partition: int) -> bool:
        """Whether the group gave `partition` to this member, as far as it knows."""
        return partition in self._held

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group the next offset to read of each held partition."""
        self._group.commit(self, {p: offset for p, offset in offsets.items() if p in self._held})

    async def committed(self, partition: int) -> int | None:
        """Return what the group was last told of `partition`; None if nothing."""
        return self._group.committed.get(partition)

    def close(self) -> None:
        """Hold nothing any more; nobody is told, since who leaves knows."""
        self._held = frozenset()
        self._positions.clear()
        self._generation += 1

    async def revoke(self) -> None:
        """Lose everything; the group calls it."""
        lost = self._held
        self.close()
        if lost:
            await self._tell(lambda: self._on_rebalance(lost, frozenset()))

    async def assign(self, partitions: frozenset[int]) -> None:
        """Hold these partitions from now on; the group calls it."""
        self._held = partitions
        self._generation += 1
        if partitions:
            await self._tell(lambda: self._on_rebalance(frozenset(), partitions))

    async def _tell(self, call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except Exception as error:  # noqa: BLE001 - the listener's error belongs to its owner: the next poll raises it
            self._failure = error


def _take(
    storage: Storage, topic: str, positions: dict[int, int], wanted: Sequence[int], max_records: int
) -> list[Record]:
    """Return what the wanted partitions hold from their positions on, and move these."""
    taken: list[Record] = []
    for partition in wanted:
        offset, left = positions.get(partition), max_records - len(taken)
        if offset is None or left <= 0:
            continue
        records = storage.read(topic, partition, offset, left)
        all_read = len(records) < left  # what is left, if anything, is a gap
        positions[partition] = storage.end(topic, partition) if all_read else records[-1].offset + 1
        taken += records
    return taken


async def _wait(event: asyncio.Event, deadline: float) -> bool:
    """Wait for `event` until `deadline` (the loop's time); whether it came."""
    try:
        async with asyncio.timeout_at(deadline):
            await event.wait()
    except TimeoutError:
        return False
    return True
