"""The log on Apache Kafka, by aiokafka."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import collect_hosts
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from schemas.errors import AppendError, NotFoundError, RecordTooLargeError, UnavailableError
from streams.kafka_consumers import KafkaMember, KafkaReader
from streams.kafka_producers import FLUSH_S, Producers
from streams.kafka_sends import Sends
from streams.log import Bounds, Draft, Member, Position, Reader, RebalanceListener
from streams.partitioner import partition_of
from streams.sentences import no_answer, no_partition, no_topic, too_large, unanswered
from streams.sizes import BATCH_BYTES, record_bytes
from streams.topics import AI_TOPICS

logger = logging.getLogger(__name__)

KIB, MIB = 1024, 1024 * 1024

CONNECT_S = 4.0  # a person at a prompt waits for this
REQUEST_MS = 8_000  # one request; a lost answer is asked for again within WRITE_S
WRITE_S = 20.0  # a write, all attempts: a broker that was killed is back after 4 s in development, 12 s by default
LARGEST_BATCH = 5 * MIB  # above what any topic takes: topics judge sizes, this only bounds memory
SHARED_BATCH = 64 * KIB  # of what `send` puts together; small enough for every topic, large enough to compress

SESSION_S = 6.0  # the least that Kafka allows by default: a killed member's partitions move after at most this
HEARTBEAT_MS = 500  # how soon the others learn that the group moves
# Members never leave for want of polls: a loop that restores for long is alive as long as the event loop beats.
IDLE_MS = 24 * 3_600_000
METADATA_MS = 30_000  # how soon a member learns that its topic was created anew: 5 minutes by default

# aiokafka has one fetch in flight a node. A partition whose records were still waiting when it went out is not in it
# and waits until it returns, so it must return soon, however idle the others are. And it sends no fetch for as long as
# any partition's records wait, 100 ms by default: one busy partition would hold up all others (measured: 47 ms each
# instead of 1).
FETCH_WAIT_MS = 50
UNREAD_WAIT_S = 0.005
FETCH_BYTES = 4 * MIB + 64 * KIB  # a partition's share of a fetch: the largest record, with its batch
LINGER_BYTES = 256 * KIB  # what a reader that would rather have more at a time need not wait any longer for

_OURS = frozenset(definition.name for definition in AI_TOPICS)


class KafkaLog:
    """A `Log` on Kafka; an async context manager. Opened, it is connected."""

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "dramac",
        security: Mapping[str, Any] | None = None,
        session_timeout_s: float = SESSION_S,
        write_timeout_s: float = WRITE_S,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            bootstrap: `host:port` of one or more brokers, separated by commas.
            client_id: Name of this client in the broker's logs and quotas.
            security: aiokafka's arguments for TLS and SASL, such as `security_protocol` and `ssl_context`.
            session_timeout_s: How long a group waits for a silent member; brokers allow from 6 s by default.
            write_timeout_s: How long a write may take, all attempts, before its outcome counts as unknown.
        """
        self.bootstrap = bootstrap
        self._common: dict[str, Any] = {
            **(security or {}),
            "bootstrap_servers": bootstrap.split(","),
            "client_id": client_id,
            "request_timeout_ms": REQUEST_MS,
        }
        self._session_ms = int(session_timeout_s * 1000)
        self._write_s = write_timeout_s
        self._counts: dict[str, int] = {}  # partitions of topics that we write to
        self._limits: dict[str, int] = {}  # and their max.message.bytes
        self._learning = asyncio.Lock()
        self._keyless = 0
        self._appenders = Producers(bootstrap, lambda: self._producer(LARGEST_BATCH))
        self._senders = Producers(bootstrap, lambda: self._producer(SHARED_BATCH))
        self._sends = Sends(self._append_shared, SHARED_BATCH)
        self._stack = AsyncExitStack()
        self.admin: AIOKafkaAdminClient = None
        self._offsets: AIOKafkaConsumer = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            UnavailableError: no broker answers.
        """
        await _reach(self.bootstrap)
        async with AsyncExitStack() as stack:
            self.admin = AIOKafkaAdminClient(**self._common)
            stack.push_async_callback(self.admin.close)
            self._offsets = AIOKafkaConsumer(**self._common)
            stack.push_async_callback(self._offsets.stop)
            stack.push_async_callback(self._close_producers)
            try:
                async with asyncio.timeout(CONNECT_S):
                    await self.admin.start()
                    await self._offsets.start()
            except (KafkaError, TimeoutError, OSError) as error:
                raise UnavailableError(no_answer(self.bootstrap, error)) from error
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def append(self, topic: str, partition: int, drafts: Sequence[Draft]) -> int:
        """Append `drafts` as one atomic batch and return the offset of the first, once it is acknowledged."""
        return await self._append(self._appenders, topic, partition, drafts)

    async def _append(self, producers: Producers, topic: str, partition: int, drafts: Sequence[Draft]) -> int:
        if not drafts:
            raise ValueError("an append needs at least one record")
        limit = await self._writable(topic, partition)
        producer = producers.ready(topic) or await _prepared(producers, topic, partition)
        batch = producer.create_batch()
        for draft in drafts:
            if batch.append(timestamp=None, key=draft.key, value=draft.value, headers=list(draft.headers)) is None:
                raise RecordTooLargeError(too_large(topic, LARGEST_BATCH, limit))
        if batch.size() > limit:
            raise RecordTooLargeError(too_large(topic, batch.size(), limit))
        batch.close()
        try:
            async with asyncio.timeout(self._write_s):
                placed = await (await producer.send_batch(batch, topic, partition=partition))
        except (KafkaError, TimeoutError) as error:
            producers.discard(producer, grace_s=_grace(error))
            raise self._failed(error, topic, partition, batch.size()) from error
        if placed is None or placed.offset < 0:  # a duplicate whose place the broker no longer remembers
            producers.discard(producer, grace_s=FLUSH_S)
            raise AppendError(unanswered(topic, partition, "no offset came back"))
        return int(placed.offset)

    async def send(self, topic: str, draft: Draft, *, partition: int | None = None) -> Position:
        """Append one record, batched with others sent meanwhile, and return its place once it is acknowledged."""
        limit = self._limits.get(topic) if topic in self._counts else None
        if limit is None or (partition is not None and partition >= self._counts[topic]):
            limit = await self._writable(topic, partition)
        if partition is None:
            partition = self._choose(topic, draft.key)
        if (size := BATCH_BYTES + record_bytes(draft)) > limit:
            raise RecordTooLargeError(too_large(topic, size, limit))
        return await self._sends.send(topic, partition, draft, size)

    async def _append_shared(self, topic: str, partition: int, drafts: Sequence[Draft]) -> int:
        return await self._append(self._senders, topic, partition, drafts)

    async def partitions(self, topic: str) -> int:
        """Return how many partitions the topic has."""
        # All topics are listed: asking for one by name creates it on brokers that create topics by themselves.
        for found in await self.topics():
            if found["topic"] == topic:
                return len(found["partitions"])
        raise NotFoundError(no_topic(topic))

    async def bounds(self, topic: str, partition: int) -> Bounds:
        """Return the offsets that a partition holds."""
        tp = TopicPartition(topic, partition)
        if partition not in (self._offsets.partitions_for_topic(topic) or ()):
            _check_partition(topic, partition, await self.partitions(topic))
            # Without this, aiokafka finds out by a failure and waits for 100 ms.
            await self._offsets._client.force_metadata_update()
        try:
            starts, ends = await asyncio.gather(self._offsets.beginning_offsets([tp]), self._offsets.end_offsets([tp]))
        except KafkaError as error:
            _check_partition(topic, partition, await self.partitions(topic))
            raise UnavailableError(no_answer(self.bootstrap, error)) from error
        return Bounds(starts[tp], ends[tp])

    @asynccontextmanager
    async def reader(self, topic: str, positions: Mapping[int, int], *, linger_s: float = 0.0) -> AsyncIterator[Reader]:
        """Open a reader of the given partitions, each from its offset.

        With `linger_s` the broker holds an answer back until it has LINGER_BYTES, or for so long.
        """
        count = await self.partitions(topic)
        for partition in positions:
            _check_partition(topic, partition, count)
        patience = {"fetch_min_bytes": LINGER_BYTES, "fetch_max_wait_ms": round(linger_s * 1000)} if linger_s else {}
        async with self._consumer(**patience) as consumer:
            yield KafkaReader(consumer, topic, positions, self.bounds)

    @asynccontextmanager
    async def member(self, topic: str, group: str, on_rebalance: RebalanceListener) -> AsyncIterator[Member]:
        """Join a consumer group, in the background.

        Of a topic that is not ours, what a transaction took back is not read. `on_rebalance` runs before the first
        heartbeat of a new generation: it must be done within the session timeout.
        """
        await self.partitions(topic)
        # aiokafka keeps what a sticky member held on the class; several members live in one process.
        sticky = type("Sticky", (StickyPartitionAssignor,), {})
        async with self._consumer(
            group_id=group,
            partition_assignment_strategy=(sticky,),
            request_timeout_ms=max(REQUEST_MS, self._session_ms + 2_000),  # joining waits for the others
            session_timeout_ms=self._session_ms,
            rebalance_timeout_ms=self._session_ms,
            heartbeat_interval_ms=min(HEARTBEAT_MS, self._session_ms // 3),
            max_poll_interval_ms=IDLE_MS,
            metadata_max_age_ms=METADATA_MS,
            # We write without transactions; in our topics a stranger's, left open, would only hold everybody up.
            isolation_level="read_uncommitted" if topic in _OURS else "read_committed",
        ) as consumer:
            member = KafkaMember(consumer, topic, on_rebalance, self.bounds)
            watch = asyncio.create_task(member.watch())
            try:
                yield member
            finally:
                watch.cancel()
                member.close()

    async def topics(self) -> list[dict[str, Any]]:
        """Return all topics as Kafka describes them: name, partitions, replicas.

        Raises:
            UnavailableError: no broker answers.
        """
        try:
            async with asyncio.timeout(REQUEST_MS / 1000):
                found: list[dict[str, Any]] = await self.admin.describe_topics()
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(no_answer(self.bootstrap, error)) from error
        return found

    async def configs(self, topic: str) -> dict[str, str]:
        """Return the settings of a topic by Kafka's names; empty where this client may not see them.

        Raises:
            UnavailableError: no broker answers.
        """
        try:
            async with asyncio.timeout(REQUEST_MS / 1000):
                (answer,) = await self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(no_answer(self.bootstrap, error)) from error
        _, _, _, _, entries = answer.resources[0]
        return {name: value for name, value, *_ in entries}

    @asynccontextmanager
    async def _consumer(self, **settings: Any) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **{**self._common, "fetch_max_wait_ms": FETCH_WAIT_MS, **settings},
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        try:
            try:
                await consumer.start()
            except (KafkaError, OSError) as error:
                raise UnavailableError(no_answer(self.bootstrap, error)) from error
            consumer._fetcher._prefetch_backoff = UNREAD_WAIT_S  # no argument leads there
            await asyncio.sleep(0)  # aiokafka's `stop` raises CancelledError while its own tasks have not begun
            yield consumer
        finally:
            await consumer.stop()

    async def _close_producers(self) -> None:
        await self._sends.close(FLUSH_S)
        await asyncio.gather(self._appenders.close(), self._senders.close())

    def _producer(self, max_batch: int) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._common,
            acks="all",
            enable_idempotence=True,
            compression_type="snappy",  # a fifth more bytes than aiokafka's lz4, for a fifth of its time
            linger_ms=0,  # while a request is in flight the next batch fills by itself
            max_batch_size=max_batch,
            max_request_size=LARGEST_BATCH,
        )

    async def _writable(self, topic: str, partition: int | None) -> int:
        """Return the topic's limit in bytes, once it is known that topic and partition exist."""
        if (count := self._counts.get(topic)) is None:
            async with self._learning:  # one asks for all; those who wait go on in the order in which they came
                if (count := self._counts.get(topic)) is None:
                    count = await self._learn(topic)
        if partition is not None:
            _check_partition(topic, partition, count)
        return self._limits[topic]

    async def _learn(self, topic: str) -> int:
        """Look up how many partitions a topic has, and its limit; return the former."""
        try:
            count = await self.partitions(topic)
            limit = (await self.configs(topic)).get("max.message.bytes", LARGEST_BATCH)
        except UnavailableError as error:
            raise AppendError(unanswered(topic, None, error)) from error
        self._counts[topic], self._limits[topic] = count, int(limit)
        return count

    def _choose(self, topic: str, key: bytes | None) -> int:
        if key is not None:
            return partition_of(key, self._counts[topic])
        self._keyless += 1
        return self._keyless % self._counts[topic]

    def _failed(self, error: BaseException, topic: str, partition: int, size: int) -> AppendError | RecordTooLargeError:
        """Return our error for a write that failed."""
        limit = self._limits.get(topic, 0)
        if not isinstance(error, TimeoutError):
            self._counts.pop(topic, None)  # what the broker refuses may be because the topic is not as it was
        if isinstance(error, MessageSizeTooLargeError | RecordListTooLargeError) and size > SHARED_BATCH:
            return RecordTooLargeError(too_large(topic, size, limit))
        why = f"no answer in {self._write_s:g} s" if isinstance(error, TimeoutError) else repr(error)
        return AppendError(unanswered(topic, partition, why))


def _grace(error: BaseException) -> float:
    """Return for how long a failed producer may still be heard: not at all, if nobody answers it."""
    return 0.0 if isinstance(error, TimeoutError) else FLUSH_S


async def _prepared(producers: Producers, topic: str, partition: int) -> AIOKafkaProducer:
    try:
        return await producers.prepare(topic)
    except UnavailableError as error:
        raise AppendError(unanswered(topic, partition, error)) from error


async def _reach(bootstrap: str) -> None:
    """Try whether any broker listens, before aiokafka tries and fills the log with its errors.

    Raises:
        UnavailableError: none does.
    """
    last: Exception = TimeoutError()
    try:
        async with asyncio.timeout(CONNECT_S):
            for host, port, _ in collect_hosts(bootstrap.split(",")):
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except OSError as error:
                    last = error
                    continue
                writer.close()
                return
    except TimeoutError:
        pass
    raise UnavailableError(no_answer(bootstrap, last))


def _check_partition(topic: str, partition: int, count: int) -> None:
    if not 0 <= partition < count:
        raise NotFoundError(no_partition(topic, partition, count))
