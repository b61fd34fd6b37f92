"""What holds for the log on Kafka besides the contract."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import CoordinatorLoadInProgressError, OutOfOrderSequenceNumber
from aiokafka.producer import message_accumulator
from aiokafka.record import default_records

from schemas.errors import AppendError, UnavailableError
from streams import kafka
from streams.kafka import KafkaLog
from streams.kafka_topics import create_definitions
from streams.log import Bounds, Draft, Record
from streams.topics import TopicDefinition


@pytest_asyncio.fixture
async def topic(kafka_log: KafkaLog) -> AsyncIterator[str]:
    name = f"kafka-{os.urandom(4).hex()}"
    await create_definitions(kafka_log, [TopicDefinition(name, append_time=False)], partitions=4, replication_factor=1)
    yield name
    await kafka_log.admin.delete_topics([name])


def drafts(count: int) -> list[Draft]:
    return [Draft(b"k", b"%d" % i) for i in range(count)]


# --- no broker


async def test_a_missing_broker_is_one_clear_error_at_once(caplog: pytest.LogCaptureFixture) -> None:
    begun = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(UnavailableError) as caught:
        await KafkaLog("127.0.0.1:9").__aenter__()
    assert time.monotonic() - begun < 5
    assert str(caught.value).startswith("Kafka at '127.0.0.1:9' does not answer (")
    assert str(caught.value).endswith("): start it, or set DRAMAC_KAFKA to where it is")
    assert [entry for entry in caplog.records if entry.name.startswith("aiokafka")] == []


async def test_something_that_listens_but_is_no_broker_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "CONNECT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun = time.monotonic()
        with pytest.raises(UnavailableError, match=r"does not answer \(no answer in time\)"):
            await KafkaLog(f"127.0.0.1:{silent.getsockname()[1]}").__aenter__()
        assert time.monotonic() - begun < 3


async def test_of_several_brokers_one_is_enough(kafka_log: KafkaLog, topic: str) -> None:
    async with KafkaLog(f"127.0.0.1:9,{kafka_log.bootstrap}") as log:
        assert await log.partitions(topic) == 4


async def test_a_closed_log_writes_nothing_more(kafka_log: KafkaLog, topic: str) -> None:
    async with KafkaLog(kafka_log.bootstrap) as log:
        await log.append(topic, 0, drafts(1))
    with pytest.raises(AppendError, match="the log was closed"):
        await log.append(topic, 0, drafts(1))


def test_nothing_is_left_open_and_uvloop_serves(kafka_address: str) -> None:
    # In an interpreter of its own: what is left open warns only at its end.
    script = """
        import asyncio, gc, sys, uvloop
        from streams.kafka import KafkaLog
        from streams.kafka_topics import create_definitions
        from streams.log import Draft
        from streams.topics import TopicDefinition

        async def main(address, topic):
            async with KafkaLog(address) as log:
                await create_definitions(log, [TopicDefinition(topic)], partitions=2, replication_factor=1)
                await log.append(topic, 0, [Draft(b"k", b"v")])
                await log.send(topic, Draft(b"k", b"v"))
                held = asyncio.Event()
                async def on_rebalance(revoked, assigned):
                    held.set()
                async with log.member(topic, topic, on_rebalance) as member, log.reader(topic, {0: 0}) as reader:
                    await held.wait()
                    member.seek(0, 0)
                    assert (await member.poll(0, timeout_s=10)) and (await reader.poll(timeout_s=10))
                await log.admin.delete_topics([topic])
            gc.collect()
            print(type(asyncio.get_running_loop()).__module__)

        uvloop.run(main(*sys.argv[1:]), debug=True)
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(script), kafka_address, os.urandom(4).hex()],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "uvloop"), done.stderr
    assert "nclosed" not in done.stderr
    assert "Traceback" not in done.stderr


# --- a producer that failed


async def test_after_a_failed_append_the_next_one_has_a_new_producer(
    kafka_log: KafkaLog, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await kafka_log.append(topic, 0, drafts(2)) == 0
    failed = kafka_log._appenders.ready(topic)

    async def refuse(*_: object, **__: object) -> asyncio.Future[object]:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(OutOfOrderSequenceNumber())
        return future

    with monkeypatch.context() as patch:
        patch.setattr(AIOKafkaProducer, "send_batch", refuse)
        with pytest.raises(AppendError, match=f"a write to '{topic}' partition 0 was not acknowledged .*OutOfOrder"):
            await kafka_log.append(topic, 0, drafts(1))
    assert await kafka_log.append(topic, 0, drafts(1)) == 2
    assert kafka_log._appenders.ready(topic) is not failed


async def test_a_sequence_that_the_broker_refuses_is_left_behind(kafka_log: KafkaLog, topic: str) -> None:
    await kafka_log.append(topic, 0, drafts(1))
    producer = await kafka_log._appenders.prepare(topic)
    manager = producer._txn_manager
    for tp in list(manager._sequence_numbers):
        manager._sequence_numbers[tp] += 5  # as after a batch that never arrived
    with pytest.raises(AppendError, match="OutOfOrderSequence"):
        await kafka_log.append(topic, 0, drafts(1))
    assert await kafka_log.append(topic, 0, drafts(3)) == 1
    assert await kafka_log.bounds(topic, 0) == Bounds(0, 4)


async def test_a_write_without_an_answer_ends_in_time_and_is_not_written_later(
    kafka_log: KafkaLog, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with KafkaLog(kafka_log.bootstrap, write_timeout_s=0.2) as log:
        await log.append(topic, 0, drafts(1))
        await log.send(topic, drafts(1)[0], partition=1)
        for producers in (log._appenders, log._senders):
            stuck = await producers.prepare(topic)
            stuck._message_accumulator._cluster = type("Nobody", (), {"leader_for_partition": lambda *_: None})()
        with pytest.raises(AppendError, match=r"no answer in 0.2 s"):
            await log.append(topic, 0, drafts(9))
        with pytest.raises(AppendError, match=r"no answer in 0.2 s"):
            await log.send(topic, drafts(1)[0], partition=1)
        assert await log.append(topic, 0, drafts(1)) == 1
        assert (await log.send(topic, drafts(1)[0], partition=1)).offset == 1
    assert await kafka_log.bounds(topic, 0) == Bounds(0, 2)
    assert await kafka_log.bounds(topic, 1) == Bounds(0, 2)


# --- records that aiokafka can't read


class NotUtf8(str):
    """A header's name that no UTF-8 decoder takes."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


async def write_poison(log: KafkaLog, topic: str, partition: int, codec: str | None) -> None:
    """Write, as a client in another language would, a batch whose third record has a header that is not UTF-8."""
    producer = AIOKafkaProducer(bootstrap_servers=log.bootstrap, compression_type=codec)
    await producer.start()
    try:
        batch = producer.create_batch()
        compression = producer._message_accumulator._compression_type
        batch._builder = default_records._DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, 0, 1 << 20)
        for i in range(5):
            headers = [("n", b"%d" % i), (NotUtf8("x"), b"v")] if i == 2 else [("n", b"%d" % i)]
            batch.append(
                timestamp=1_000 + i, key=b"k" if i else None, value=None if i == 1 else b"%d" % i, headers=headers
            )
        batch.close()
        await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


EXPECTED = [
    (0, 1000, None, b"0", (("n", b"0"),)),
    (1, 1001, b"k", None, (("n", b"1"),)),
    (2, 1002, b"k", b"2", (("n", b"2"), ("\\xff\\xfe", b"v"))),
    (3, 1003, b"k", b"3", (("n", b"3"),)),
    (4, 1004, b"k", b"4", (("n", b"4"),)),
]


async def test_the_position_goes_behind_the_end_of_a_transaction(kafka_log: KafkaLog, topic: str) -> None:
    """The mark that ends it takes an offset and is no record: who waits for the topic's end must pass it."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka_log.bootstrap, transactional_id=f"t-{topic}")
    await producer.start()
    try:
        for keys in ((b"a", b"b"), (b"c",)):
            async with producer.transaction():
                for key in keys:
                    await producer.send(topic, b"1", key, partition=0)
    finally:
        await producer.stop()
    async with asyncio.timeout(10):
        end = 0
        while end < 5:  # the broker writes the last mark after it has answered
            end = (await kafka_log.bounds(topic, 0)).end
    assert end == 5
    found: list[Record] = []
    async with asyncio.timeout(10), kafka_log.reader(topic, {0: 0, 1: 0}) as reader:
        while reader.position(0) < end:
            found += await reader.poll()
        assert reader.position(1) == 0
        reader.seek(0, 1)
        assert reader.position(0) == 1
    assert [record.key for record in found] == [b"a", b"b", b"c"]
    held = asyncio.Event()

    async def on_rebalance(revoked: frozenset[int], assigned: frozenset[int]) -> None:
        held.set()

    async with asyncio.timeout(10), kafka_log.member(topic, f"g-{topic}", on_rebalance) as member:
        await held.wait()
        assert member.position(0) is None
        member.seek(0, 0)
        while member.position(0) != end:
            await member.poll(0)


async def test_what_a_transaction_took_back_is_not_read_by_members_of_others_topics(
    kafka_log: KafkaLog, topic: str
) -> None:
    async def on_rebalance(revoked: frozenset[int], assigned: frozenset[int]) -> None:
        held.set()

    held, found = asyncio.Event(), list[Record]()
    async with AIOKafkaProducer(bootstrap_servers=kafka_log.bootstrap, transactional_id=topic) as producer:
        for value, keep in ((b"taken back", False), (b"kept", True)):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, value, partition=0)
            await (producer.commit_transaction() if keep else producer.abort_transaction())
    async with asyncio.timeout(20), kafka_log.member(topic, f"g-{topic}", on_rebalance) as member:
        await held.wait()
        member.seek(0, 0)
        while member.position(0) != 4:
            found += await member.poll(0)
    assert [record.value for record in found] == [b"kept"]


async def test_who_lingers_gets_what_came_meanwhile_at_once(kafka_log: KafkaLog, topic: str) -> None:
    async with asyncio.timeout(20), kafka_log.reader(topic, {0: 0}, linger_s=2.0) as reader:
        for draft in drafts(3):
            await kafka_log.append(topic, 0, [draft])
        found = await reader.poll(timeout_s=10)
    assert [record.value for record in found] == [b"0", b"1", b"2"]


def told(records: list[Record]) -> list[tuple[object, ...]]:
    return [(r.offset, r.at_ms, r.key, r.value, r.headers) for r in records]


async def test_a_header_without_content_is_read_as_an_empty_one(kafka_log: KafkaLog, topic: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka_log.bootstrap) as producer:
        await producer.send_and_wait(topic, b"v", partition=0, headers=[("a", b"1"), ("b", None)])
    async with kafka_log.reader(topic, {0: 0}) as reader:
        (record,) = await reader.poll(timeout_s=20)
    assert record.headers == (("a", b"1"), ("b", b""))


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_a_header_that_is_not_utf8_stops_nobody(
    kafka_log: KafkaLog, topic: str, codec: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    await write_poison(kafka_log, topic, 0, codec)
    await kafka_log.append(topic, 0, drafts(3))
    async with kafka_log.reader(topic, {0: 0}) as reader, asyncio.timeout(20):
        found: list[Record] = []
        while len(found) < 8:
            found += await reader.poll(max_records=2)
    assert told(found[:5]) == EXPECTED
    assert [r.value for r in found[5:]] == [b"0", b"1", b"2"]


async def test_poison_in_one_partition_loses_nothing_of_the_others(kafka_log: KafkaLog, topic: str) -> None:
    for _ in range(3):
        for partition in range(4):
            await kafka_log.append(topic, partition, drafts(20))
        await write_poison(kafka_log, topic, 2, "lz4")
    async with kafka_log.reader(topic, dict.fromkeys(range(4), 0)) as reader, asyncio.timeout(20):
        found: list[Record] = []
        while len(found) < 4 * 60 + 15:
            found += await reader.poll(max_records=7)
    for partition in range(4):
        offsets = [r.offset for r in found if r.partition == partition]
        assert offsets == list(range(75 if partition == 2 else 60))


async def test_a_member_reads_on_behind_poison(kafka_log: KafkaLog, topic: str) -> None:
    held = asyncio.Event()

    async def on_rebalance(revoked: frozenset[int], assigned: frozenset[int]) -> None:
        held.set()

    await write_poison(kafka_log, topic, 0, None)
    await kafka_log.append(topic, 0, drafts(2))
    async with kafka_log.member(topic, topic, on_rebalance) as member, asyncio.timeout(20):
        await held.wait()
        member.seek(0, 3)  # in the middle of the batch
        found: list[Record] = []
        while len(found) < 4:
            found += await member.poll_any()
    assert [r.offset for r in found] == [3, 4, 5, 6]


@pytest.mark.parametrize("error", [CoordinatorLoadInProgressError, AssertionError], ids=lambda error: error.__name__)
async def test_who_holds_nothing_and_does_not_poll_gets_into_the_group_after_an_error(
    kafka_log: KafkaLog, topic: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, failures = asyncio.Event(), list[type[Exception]]()
    join = GroupCoordinator.ensure_active_group

    async def fails_once(self: GroupCoordinator, *given: object) -> object:
        if self.group_id == topic and not failures:
            failures.append(error)
            raise error
        return await join(self, *given)

    async def on_rebalance(revoked: frozenset[int], assigned: frozenset[int]) -> None:
        held.set()

    monkeypatch.setattr(GroupCoordinator, "ensure_active_group", fails_once)
    async with asyncio.timeout(20), kafka_log.member(topic, topic, on_rebalance):
        await held.wait()
    assert failures == [error]


def test_the_fixture_of_poison_is_poison() -> None:
    assert message_accumulator.DefaultRecordBatchBuilder is not default_records._DefaultRecordBatchBuilderPy
    assert NotUtf8("x").encode() == b"\xff\xfe"
