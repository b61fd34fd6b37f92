"""The log as one process sees it, over the network."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from streams.log import Bounds, Draft, Member, Position, Reader, RebalanceListener, Record
from streams.partitioner import partition_of
from tests.simulation.groups import Coordinator, SimMember
from tests.simulation.loop import Host
from tests.simulation.network import Network

READ_SIZES = (8, 64, 500)  # how many records a fetch may bring


class SimLog:
    """A `Log` over the network, for one process."""

    def __init__(self, network: Network, coordinator: Coordinator, host: Host) -> None:
        """Connect `host`."""
        self._network = network
        self._coordinator = coordinator
        self.host = host

    async def append(self, topic: str, partition: int, drafts: Sequence[Draft]) -> int:
        """Append `drafts` as one atomic batch and return the offset of the first."""
        return await self._network.write(self.host, topic, partition, drafts)

    async def send(self, topic: str, draft: Draft, *, partition: int | None = None) -> Position:
        """Append one record and return its place."""
        if partition is None:
            partition = 0 if draft.key is None else partition_of(draft.key, self._network.broker.count(topic))
        return Position(partition, await self._network.write(self.host, topic, partition, (draft,)))

    async def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has."""
        return self._network.broker.count(topic)

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """Return the offsets that a partition held when the question arrived."""
        await self._network.travel(self.host)
        bounds = await self._network.broker.bounds(topic, partition)
        await asyncio.sleep(self._network.delay_s())
        return bounds

    def reader(
        self,
        topic: str,
        positions: Mapping[int, int],
        *,
        linger_s: float = 0.0,
    ) -> AbstractAsyncContextManager[Reader]:
        """Open a reader of the given partitions."""
        return SimReader(self._network, self.host, topic, positions)

    def member(self, topic: str, group: str, on_rebalance: RebalanceListener) -> AbstractAsyncContextManager[Member]:
        """Join a consumer group."""
        group_ = self._coordinator.group(topic, group)
        return SimMember(self._coordinator, group_, self._network, self.host, on_rebalance)


class SimReader:
    """A `Reader` over the network: what it brings may be any part of what there is."""

    def __init__(self, network: Network, host: Host, topic: str, positions: Mapping[int, int]) -> None:
        """Read `topic`, each partition from its offset."""
        self._network = network
        self.host = host
        self._reader = network.broker.reader(topic, positions)

    async def __aenter__(self) -> Self:
        await self._reader.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        return None

    async def poll(self, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of any partition."""
        await self._network.travel(self.host)
        size = min(max_records, self._network.rng.choice(READ_SIZES))
        return await self._reader.poll(max_records=size, timeout_s=timeout_s)

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading `partition` at `offset`."""
        self._reader.seek(partition, offset)

    def position(self, partition: int) -> int:
        """Return the next offset to read."""
        return self._reader.position(partition)
