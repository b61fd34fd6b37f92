"""Who reads Kafka: readers without a group, and members of a group that keep their own positions."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError, OffsetOutOfRangeError

from schemas.errors import LogTruncatedError, UnavailableError
from streams.log import Bounds, Headers, RebalanceListener, Record
from streams.raw_batches import fetch_raw
from streams.sentences import out_of_range

logger = logging.getLogger(__name__)

NOT_HELD_S = 0.05  # a loop that polls what it does not hold goes round this often
REBALANCE_GRACE_S = 0.25  # aiokafka's own timeout does not count while the group moves; ours does
COMMITTED_S = 5.0  # asking for, or telling, a committed offset
WATCH_S = 0.5  # how often a member asks whether its group has failed

BoundsOf = Callable[[str, int], Awaitable[Bounds]]


class Positions:
    """Where reading goes on, partition by partition, and the polls that move it.

    aiokafka's own positions are not enough: when one partition's batch can't be read, what the same poll took
    from others is lost with the error. So after any error all go back to where we know they were.
    """

    def __init__(self, consumer: AIOKafkaConsumer, bounds: BoundsOf) -> None:
        """Read with a started consumer."""
        self._consumer = consumer
        self._bounds = bounds
        self._next: dict[TopicPartition, int] = {}

    def __contains__(self, tp: TopicPartition) -> bool:
        return tp in self._next

    def __bool__(self) -> bool:
        return bool(self._next)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Go on at `offset`."""
        self._next[tp] = offset
        self._consumer.seek(tp, offset)

    def of(self, tp: TopicPartition) -> int | None:
        """Return the next offset to read, behind gaps too; None where nobody sought."""
        return self._next.get(tp)

    def clear(self) -> None:
        """Forget all."""
        self._next = {}

    async def poll(self, tps: Sequence[TopicPartition], max_records: int, timeout_s: float) -> list[Record]:
        """Return the next records of the given partitions (none given: of all), and move on.

        Raises:
            LogTruncatedError: a position is not in the log.
            UnavailableError: reading failed; the next poll tries again at the same place.
        """
        here = self._next
        try:
            found = await self._consumer.getmany(*tps, timeout_ms=timeout_s * 1000, max_records=max_records)
        except UnicodeDecodeError as error:
            logger.warning("a record can't be read as others are (%s): reading its batch byte by byte", error)
            return await self._poll_raw(tps or tuple(here), max_records)
        except OffsetOutOfRangeError as error:
            self._rewind()
            raise await self._truncated(error) from error
        except (KafkaError, ConsumerStoppedError) as error:
            self._rewind()
            raise unavailable(error) from error
        if self._next is not here:
            # The group moved while we waited: what was read belongs to whoever sought since.
            self._rewind()
            return []
        records: list[Record] = []
        for tp, taken in found.items():
            here[tp] = taken[-1].offset + 1
            records += to_records(taken)
        if not records:
            await self._pass_gaps(tps or tuple(here))
        return records

    async def _pass_gaps(self, tps: Sequence[TopicPartition]) -> None:
        """Move behind what was fetched and held no records: all were compacted, or it ended a transaction."""
        here = self._next
        for tp in tps:
            with contextlib.suppress(IllegalStateError):  # the group is about to move
                reached: int = await self._consumer.position(tp)
                here[tp] = max(here[tp], reached)

    async def _poll_raw(self, tps: Sequence[TopicPartition], max_records: int) -> list[Record]:
        self._rewind()
        here = self._next
        records: list[Record] = []
        share = max(1, max_records // len(tps))  # each gets on, or a long one would keep us from the bad batch
        for tp in tps:
            try:
                taken = (await fetch_raw(self._consumer, tp, here[tp]))[:share]
            except KafkaError as error:
                raise unavailable(error) from error
            if self._next is not here:
                return []
            if taken:
                self.seek(tp, taken[-1].offset + 1)
                records += taken
        return records

    def _rewind(self) -> None:
        assigned = self._consumer.assignment()
        for tp, offset in self._next.items():
            if tp in assigned:
                self._consumer.seek(tp, offset)

    async def _truncated(self, error: OffsetOutOfRangeError) -> LogTruncatedError:
        tp, offset = next(iter(error.args[0].items()))
        bounds = await self._bounds(tp.topic, tp.partition)
        return LogTruncatedError(out_of_range(tp.topic, tp.partition, offset, bounds))


def to_records(found: Iterable[Any]) -> list[Record]:
    """Return aiokafka's records as ours. A header without content, which only others write, gets an empty one."""
    return [
        Record(
            r.topic,
            r.partition,
            r.offset,
            r.timestamp,
            r.key,
            r.value,
            r.headers if None not in [content for _, content in r.headers] else _without_none(r.headers),
        )
        for r in found
    ]


def _without_none(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    return tuple((name, content or b"") for name, content in headers)


def unavailable(error: BaseException) -> UnavailableError:
    """Return our error for what a consumer raises when it can't go on."""
    return UnavailableError(f"Kafka can't be read ({str(error) or type(error).__name__}): try again")


class KafkaReader:
    """A `Reader` of Kafka."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, positions: Mapping[int, int], bounds: BoundsOf) -> None:
        """Read with a started consumer of no group."""
        self._tps = {partition: TopicPartition(topic, partition) for partition in positions}
        consumer.assign(list(self._tps.values()))
        self._positions = Positions(consumer, bounds)
        for partition, offset in positions.items():
            self.seek(partition, offset)

    async def poll(self, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of any partition, in order within each; empty after `timeout_s` without any.

        Raises:
            LogTruncatedError: a position is not in the log.
            UnavailableError: reading failed; the next poll tries again at the same place.
        """
        return await self._positions.poll((), max_records, timeout_s)

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading `partition` at `offset`."""
        self._positions.seek(self._tps[partition], offset)

    def position(self, partition: int) -> int:
        """Return the next offset to read, behind gaps too."""
        return self._positions.of(self._tps[partition]) or 0


class KafkaMember(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """A `Member` of a group in Kafka.

    A partition that was just assigned is paused until its owner seeks: nothing is ever read from a committed offset.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, topic: str, on_rebalance: RebalanceListener, bounds: BoundsOf
    ) -> None:
        """Join with a started consumer of a group, in the background."""
        self._consumer = consumer
        self._topic = topic
        self._on_rebalance = on_rebalance
        self._positions = Positions(consumer, bounds)
        self._held: dict[int, TopicPartition] = {}
        self._failure: Exception | None = None
        consumer.subscribe([topic], listener=self)

    async def watch(self) -> None:
        """Keep the member in its group, until cancelled.

        When joining fails, aiokafka waits until somebody polls and takes the error; after one that it does not expect,
        it never joins again. Who holds nothing has nothing to poll, and would wait for ever.
        """
        group = self._consumer._coordinator  # there is no public way; aiokafka is pinned below 0.15
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                group.check_errors()
            except KafkaError as error:
                logger.warning("the group of %r is joined again: %s", self._topic, str(error) or type(error).__name__)
            if group._coordination_task.done():
                group.request_rejoin()
                group._coordination_task = asyncio.create_task(group._coordination_routine())

    async def poll(self, partition: int, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of one held partition; empty after `timeout_s`, or when it is not held.

        Raises:
            LogTruncatedError: the position is not in the log.
            UnavailableError: reading failed, or the group can't be joined: try again, then leave and join anew.
        """
        tp = self._held.get(partition)
        return await self._poll((tp,) if tp in self._positions else None, max_records, timeout_s)

    async def poll_any(self, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        """Return the next records of any held partition that was sought; empty after `timeout_s` without any.

        Raises:
            LogTruncatedError: a position is not in the log.
            UnavailableError: reading failed, or the group can't be joined: try again, then leave and join anew.
        """
        return await self._poll(() if self._positions else None, max_records, timeout_s)

    async def _poll(self, tps: Sequence[TopicPartition] | None, max_records: int, timeout_s: float) -> Sequence[Record]:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if tps is None:
            await asyncio.sleep(min(timeout_s, NOT_HELD_S))
            return ()
        try:
            async with asyncio.timeout(timeout_s + REBALANCE_GRACE_S):
                return await self._positions.poll(tps, max_records, timeout_s)
        except TimeoutError:
            return ()

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading `partition` at `offset`; nothing happens if it is not held any more."""
        if (tp := self._held.get(partition)) is not None:
            self._positions.seek(tp, offset)
            self._consumer.resume(tp)

    def position(self, partition: int) -> int | None:
        """Return the next offset to read, behind gaps too; None where it is not held, or was not sought."""
        tp = self._held.get(partition)
        return None if tp is None else self._positions.of(tp)

    def holds(self, partition: int) -> bool:
        """Whether the group gave `partition` to this member, as far as it knows."""
        return partition in self._held

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell the group the next offset to read of each partition; a failure is only logged."""
        held = {self._held[p]: offset for p, offset in offsets.items() if p in self._held}
        if not held:
            return
        try:
            async with asyncio.timeout(COMMITTED_S):
                await self._consumer.commit(held)
        except (KafkaError, TimeoutError) as error:
            logger.debug("offsets of %r were not committed: %r", self._topic, error)

    async def committed(self, partition: int) -> int | None:
        """Return what the group was last told of `partition`; None if nothing.

        Raises:
            UnavailableError: the group's coordinator does not answer.
        """
        try:
            async with asyncio.timeout(COMMITTED_S):
                offset: int | None = await self._consumer.committed(TopicPartition(self._topic, partition))
        except (KafkaError, ConsumerStoppedError, TimeoutError) as error:
            raise unavailable(error) from error
        return offset

    def close(self) -> None:
        """Hold nothing any more; nobody is told, since who leaves knows."""
        self._held = {}
        self._positions.clear()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Lose everything; aiokafka calls it when the group begins to move."""
        lost = frozenset(self._held)
        self.close()
        await self._tell(lost, frozenset())

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Hold these partitions from now on; aiokafka calls it when the group has moved."""
        for tp in assigned:
            # A position of any kind keeps aiokafka from looking for a committed one; paused, it is never read.
            self._consumer.seek(tp, 0)
            self._consumer.pause(tp)
            self._held[tp.partition] = tp
        await self._tell(frozenset(), frozenset(self._held))

    async def _tell(self, revoked: frozenset[int], assigned: frozenset[int]) -> None:
        if not revoked and not assigned:
            return
        try:
            await self._on_rebalance(revoked, assigned)
        except Exception as error:  # noqa: BLE001 - aiokafka would only log it; it belongs to who polls
            self._failure = error
