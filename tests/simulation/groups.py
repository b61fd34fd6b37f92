"""Consumer groups as Kafka's broker deals them: heartbeats, sessions that expire, eager rebalances, and zombies.

A member learns what became of it by its next heartbeat, no sooner: one that is frozen, cut off or slow holds, reads
and writes on what the group has long given to another.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from streams.log import RebalanceListener, Record
from streams.memory_log import MemoryLog
from tests.simulation.loop import OUTSIDE, Host, VirtualLoop
from tests.simulation.network import Network

BEAT_S = 0.7
SESSION_S = 3.0  # who is not heard of for so long is dropped
REBALANCE_S = 2.5  # how long a rebalance waits for those who have not come back
POLL_SIZES = (1, 1, 2, 3, 5, 500)  # how many records a fetch may bring: where batches are cut must not matter


@dataclass(eq=False, slots=True)
class Place:
    """What the group knows of one member."""

    host: Host
    heard_s: float
    joining: asyncio.Future[frozenset[int]] | None = None


class Group:
    """One group, at the broker."""

    def __init__(self, loop: VirtualLoop, broker: MemoryLog, topic: str, rng: random.Random) -> None:
        """Start without members."""
        self.topic = topic
        self.broker = broker
        self.committed: dict[int, int] = {}
        self.owners: dict[int, Host] = {}
        self.places: dict[int, Place] = {}
        self._loop = loop
        self._rng = rng
        self._numbers = 0
        self._settled = True
        self._round = 0
        loop.spawn(OUTSIDE, self._watch())

    def join(self, number: int | None, host: Host) -> tuple[int, asyncio.Future[frozenset[int]]]:
        """Take a member in, or back; the answer comes when all are there, or have been waited for."""
        if number is None or number not in self.places:
            self._numbers += 1
            number = self._numbers
            self.places[number] = Place(host, self._loop.time())
        place = self.places[number]
        place.heard_s = self._loop.time()
        place.joining = self._loop.create_future()
        joining = place.joining
        if self._settled:
            self.rebalance()
        self._settle_if_all_came()
        return number, joining

    def beat(self, number: int) -> bool:
        """Note that a member lives; whether it still holds what it was given."""
        if (place := self.places.get(number)) is None:
            return False
        place.heard_s = self._loop.time()
        return self._settled

    def leave(self, number: int) -> None:
        """Let a member go."""
        if self.places.pop(number, None) is not None:
            self.rebalance()

    def rebalance(self) -> None:
        """Ask everybody to come and be dealt partitions anew."""
        self._settled = False
        self._round += 1
        self._loop.call_later(REBALANCE_S, self._settle, self._round, context=OUTSIDE.context())

    def commit(self, number: int, offsets: Mapping[int, int]) -> None:
        """Note how far a member read; a stale member's word is ignored."""
        if number in self.places and self._settled:
            self.committed.update(offsets)

    def _settle_if_all_came(self) -> None:
        if all(place.joining is not None for place in self.places.values()):
            self._settle(self._round)

    def _settle(self, round_: int) -> None:
        if self._settled or round_ != self._round:
            return
        self._settled = True
        for number in [n for n, place in self.places.items() if place.joining is None]:
            del self.places[number]
        places = list(self.places.values())
        self._rng.shuffle(places)
        count = self.broker.count(self.topic)
        self.owners = {}
        for index, place in enumerate(places):
            dealt = frozenset(p for p in range(count) if p % len(places) == index)
            self.owners |= dict.fromkeys(dealt, place.host)
            if place.joining is not None and not place.joining.done():
                place.joining.set_result(dealt)
            place.joining, place.heard_s = None, self._loop.time()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            silent = self._loop.time() - SESSION_S
            gone = [n for n, place in self.places.items() if place.heard_s < silent and place.joining is None]
            for number in gone:
                self.leave(number)


@dataclass
class Coordinator:
    """All groups of the broker. `deaf` says until when (the loop's time) a process hears nothing from it."""

    loop: VirtualLoop
    broker: MemoryLog
    rng: random.Random
    groups: dict[tuple[str, str], Group] = field(default_factory=dict)
    deaf: dict[Host, float] = field(default_factory=dict)
    on_commit: Callable[[Host, str], None] | None = None

    def group(self, topic: str, name: str) -> Group:
        """Return a group, made at its first use."""
        key = (topic, name)
        if key not in self.groups:
            self.groups[key] = Group(self.loop, self.broker, topic, self.rng)
        return self.groups[key]


class SimMember:
    """A `Member` over the network, and its context manager."""

    def __init__(
        self, coordinator: Coordinator, group: Group, network: Network, host: Host, told: RebalanceListener
    ) -> None:
        """Prepare a member; entering it joins the group."""
        self._coordinator = coordinator
        self._group = group
        self._network = network
        self._host = host
        self._told = told
        self._number: int | None = None
        self._held: frozenset[int] = frozenset()
        self._positions: dict[int, int] = {}
        self._moved = asyncio.Event()
        self._failure: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._join()
        self._task = asyncio.get_running_loop().create_task(self._serve())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._task is not None:
            self._task.cancel()
        self._held = frozenset()
        self._positions.clear()
        if self._number is not None:
            self._group.leave(self._number)

    # --- reading ----------------------------------------------------------------------------------------------------

    async def poll(self, partition: int, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of one held partition."""
        return await self._poll(lambda: (partition,), max_records, timeout_s)

    async def poll_any(self, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of any held partition that was sought."""
        return await self._poll(lambda: tuple(sorted(self._positions)), max_records, timeout_s)

    async def _poll(
        self, partitions: Callable[[], Sequence[int]], max_records: int, timeout_s: float
    ) -> Sequence[Record]:
        await asyncio.sleep(self._network.delay_s())
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        moved, size = self._moved, min(max_records, self._network.rng.choice(POLL_SIZES))
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    changed = self._group.broker.changed(self._group.topic)
                    if self._host not in self._network.cut_off and (records := self._take(partitions(), size)):
                        return records
                    if moved.is_set():
                        return ()
                    await changed.wait()
        except TimeoutError:
            return ()

    def _take(self, partitions: Sequence[int], size: int) -> Sequence[Record]:
        for partition in partitions:
            offset = self._positions.get(partition)
            if offset is None or partition not in self._held:
                continue
            records = self._group.broker.read(self._group.topic, partition, offset, size)
            if len(records) < size:  # behind the last record there may be a gap
                self._positions[partition] = self._group.broker.end(self._group.topic, partition)
            else:
                self._positions[partition] = records[-1].offset + 1
            if records:
                return records
        return ()

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading `partition` at `offset`; nothing happens if it is not held any more."""
        if partition in self._held:
            self._positions[partition] = offset
            self._group.broker.wake(self._group.topic)

    def position(self, partition: int) -> int | None:
        """Return the next offset to read; None where it is not held, or was not sought."""
        return self._positions.get(partition)

    def holds(self, partition: int) -> bool:
        """Whether the group gave `partition` to this member, as far as it knows."""
        return partition in self._held

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group the next offset to read of each held partition."""
        if self._number is not None and self._host not in self._network.cut_off:
            self._group.commit(self._number, {p: offset for p, offset in offsets.items() if p in self._held})
            if self._coordinator.on_commit is not None:
                self._coordinator.on_commit(self._host, "commit")

    async def committed(self, partition: int) -> int | None:
        """Return what the group was last told of `partition`; None if nothing."""
        await self._network.travel(self._host)
        return self._group.committed.get(partition)

    # --- belonging --------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            if await self._still_belongs():
                continue
            lost, self._held = self._held, frozenset()
            self._positions.clear()
            self._wake()
            if lost:
                await self._tell(lambda: self._told(lost, frozenset()))  # noqa: B023 - awaited at once
            await self._join()

    async def _still_belongs(self) -> bool:
        await asyncio.sleep(self._network.delay_s())
        if self._host in self._network.cut_off or self._unheard():
            return True  # as far as it knows
        return self._number is not None and self._group.beat(self._number)

    async def _join(self) -> None:
        while True:
            await asyncio.sleep(self._network.delay_s())
            if self._host in self._network.cut_off or self._unheard():
                await asyncio.sleep(BEAT_S)
                continue
            self._number, dealt = self._group.join(self._number, self._host)
            self._held = await dealt
            self._wake()
            await self._tell(lambda: self._told(frozenset(), self._held))
            return

    def _unheard(self) -> bool:
        return self._coordinator.deaf.get(self._host, 0.0) > asyncio.get_running_loop().time()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
        self._group.broker.wake(self._group.topic)

    async def _tell(self, call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except Exception as error:  # noqa: BLE001 - the listener's error belongs to its owner: the next poll raises it
            self._failure = error
