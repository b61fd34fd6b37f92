import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import orjson
import pytest
import pytest_asyncio
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.errors import ConfigurationError, LogTruncatedError, NotFoundError, UnavailableError
from streams import kafka_topics
from streams.kafka import KafkaLog
from streams.kafka_topics import check_topics, create_definitions, create_topics
from streams.log import Draft, Record
from streams.memory_log import MemoryLog
from streams.topics import (
    AI_TOPICS,
    CHECKPOINTS,
    COMMANDS,
    DAY_MS,
    DEAD_LETTERS,
    EVENTS,
    LIVE,
    TopicDefinition,
    definitions,
    ensure_genesis,
    genesis,
    is_genesis,
    log_id,
)


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    log.create(definitions(["module.events"]), partitions=2)
    return log


def test_topics_are_kept_as_designed() -> None:
    kept = {d.name: (d.retention_ms, d.cleanup, d.append_time, d.max_message_bytes) for d in definitions(["m"])}
    assert kept == {
        "ai.commands": (30 * DAY_MS, "delete", True, 2 * 2**20),
        "ai.events": (None, "delete", True, 2 * 2**20),
        "ai.checkpoints": (None, "compact", True, 2 * 2**20),
        "ai.live": (600_000, "delete", True, 2 * 2**20),
        "ai.guardian-observations": (7 * DAY_MS, "delete", True, 2 * 2**20),
        "dramac-guardians-windows-changelog": (None, "compact", True, 2 * 2**20),
        "ai.dead-letters": (30 * DAY_MS, "delete", True, 4 * 2**20),
        "m": (7 * DAY_MS, "delete", False, 2 * 2**20),
    }


# --- genesis


async def test_every_partition_gets_a_log_id_of_its_own(log: MemoryLog) -> None:
    await ensure_genesis(log, EVENTS)
    ids = {await log_id(log, EVENTS, partition) for partition in (0, 1)}
    assert len(ids) == 2
    first = log.records(EVENTS, 0)[0]
    assert is_genesis(first)
    assert (first.offset, first.key) == (0, None)
    assert orjson.loads(first.value or b"")["topic"] == EVENTS


async def test_a_second_genesis_changes_no_log_id(log: MemoryLog) -> None:
    await ensure_genesis(log, EVENTS)
    known = await log_id(log, EVENTS, 0)
    await ensure_genesis(log, EVENTS)
    assert len(log.records(EVENTS, 0)) == 1
    await log.append(EVENTS, 0, [genesis(EVENTS, 0, "another's")])  # a race was lost
    assert await log_id(log, EVENTS, 0) == known


async def test_two_at_once_agree_on_one_log_id(log: MemoryLog) -> None:
    await asyncio.gather(ensure_genesis(log, COMMANDS), ensure_genesis(log, COMMANDS))
    assert len(log.records(COMMANDS, 0)) == 2  # both wrote; offset 0 wins
    assert await log_id(log, COMMANDS, 0) == orjson.loads(log.records(COMMANDS, 0)[0].value or b"")["log_id"]
    assert all(is_genesis(record) for record in log.records(COMMANDS))


async def test_compaction_never_takes_the_first_genesis(log: MemoryLog) -> None:
    await asyncio.gather(ensure_genesis(log, CHECKPOINTS), ensure_genesis(log, CHECKPOINTS))
    known = await log_id(log, CHECKPOINTS, 0)
    log.compact(CHECKPOINTS)
    assert await log_id(log, CHECKPOINTS, 0) == known


async def test_a_topic_created_anew_has_another_log_id(log: MemoryLog) -> None:
    await ensure_genesis(log, EVENTS)
    known = await log_id(log, EVENTS, 0)
    log.delete(EVENTS)
    log.create(AI_TOPICS, partitions=2)
    await ensure_genesis(log, EVENTS)
    assert await log_id(log, EVENTS, 0) != known


async def test_retention_takes_the_log_id_of_commands_and_nothing_writes_another(log: MemoryLog) -> None:
    await ensure_genesis(log, COMMANDS)
    log.truncate(COMMANDS, 0, before=1)
    assert await log_id(log, COMMANDS, 0) is None
    await ensure_genesis(log, COMMANDS)
    assert log.records(COMMANDS, 0) == []


async def test_record_0_gone_from_what_is_kept_for_ever_is_an_error(log: MemoryLog) -> None:
    await ensure_genesis(log, EVENTS)
    log.truncate(EVENTS, 0, before=1)
    with pytest.raises(LogTruncatedError, match=r"'ai.events' partition 0 begins at offset 1, but is to be kept"):
        await log_id(log, EVENTS, 0)


async def test_a_missing_genesis_says_what_to_do(log: MemoryLog) -> None:
    with pytest.raises(NotFoundError, match=r"'ai.events' partition 1 has no genesis record: run `dramac topics"):
        await log_id(log, EVENTS, 1)
    await log.append(EVENTS, 1, [Draft(b"k", b"v")])
    with pytest.raises(NotFoundError, match=r"record 0 of 'ai.events' partition 1 is not a genesis record"):
        await log_id(log, EVENTS, 1)


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b"\xff"])
async def test_a_broken_genesis_is_said_so(log: MemoryLog, value: bytes | None) -> None:
    await log.append(EVENTS, 0, [Draft(None, value, (("dramac_genesis", b"1"),))])
    with pytest.raises(ConfigurationError, match=r"the genesis record of 'ai.events' partition 0 can't be read"):
        await log_id(log, EVENTS, 0)


def test_other_records_are_no_genesis() -> None:
    assert not is_genesis(Record(EVENTS, 0, 0, 0, None, b'{"log_id": "x"}', (("ce_id", b"1"),)))


# --- Kafka


class Renamed:
    """Our topics under names of one test's own, since other tests use the real names; without genesis."""

    def __init__(self) -> None:
        suffix = os.urandom(3).hex()
        self.names = {d.name: f"{d.name}-{suffix}" for d in AI_TOPICS}

    def __getitem__(self, name: str) -> str:
        return self.names[name]

    def definitions(self, module_topics: Sequence[str] = ()) -> tuple[TopicDefinition, ...]:
        assert not module_topics
        return tuple(replace(d, name=self.names[d.name], genesis=False) for d in AI_TOPICS)

    def definition(self, name: str) -> TopicDefinition:
        return next(d for d in self.definitions() if d.name == self.names[name])


@pytest_asyncio.fixture
async def ours(kafka_log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Renamed]:
    renamed = Renamed()
    monkeypatch.setattr(kafka_topics, "definitions", renamed.definitions)
    monkeypatch.setattr(kafka_topics, "COMMANDS", renamed[COMMANDS])
    monkeypatch.setattr(kafka_topics, "EVENTS", renamed[EVENTS])
    yield renamed
    there = {found["topic"] for found in await kafka_log.topics()}
    await kafka_log.admin.delete_topics([name for name in renamed.names.values() if name in there])


async def set_configs(log: KafkaLog, topic: str, configs: dict[str, str]) -> None:
    await log.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])


async def test_creating_twice_is_creating_once(kafka_log: KafkaLog, ours: Renamed) -> None:
    first = await create_topics(kafka_log.bootstrap, partitions=2, replication_factor=1)
    assert set(first) == set(ours.names.values())
    assert await create_topics(kafka_log.bootstrap, partitions=2, replication_factor=1) == ()
    assert await check_topics(kafka_log.bootstrap, partitions=2) == []


async def test_the_real_topics_have_their_genesis_and_pass_the_check(kafka_log: KafkaLog) -> None:
    await create_topics(kafka_log.bootstrap, partitions=4, replication_factor=1, module_topics=["module.events"])
    assert await check_topics(kafka_log.bootstrap, partitions=4, module_topics=["module.events"]) == []
    for topic in (COMMANDS, EVENTS, CHECKPOINTS, DEAD_LETTERS):
        assert await log_id(kafka_log, topic, 3) is not None
    assert (await kafka_log.bounds("module.events", 0)).start == 0


async def test_another_number_of_partitions_is_refused(kafka_log: KafkaLog, ours: Renamed) -> None:
    await create_topics(kafka_log.bootstrap, partitions=2, replication_factor=1)
    with pytest.raises(ConfigurationError, match=r"has 2 partitions, not 3: the number can't be changed later"):
        await create_topics(kafka_log.bootstrap, partitions=3, replication_factor=1)
    problems = await check_topics(kafka_log.bootstrap, partitions=3)
    assert {problem.topic for problem in problems} == set(ours.names.values())


async def test_more_replicas_than_brokers_are_refused_in_words(kafka_log: KafkaLog, ours: Renamed) -> None:
    with pytest.raises(ConfigurationError, match=r"Kafka refuses the topic .*replication factor"):
        await create_topics(kafka_log.bootstrap, partitions=2, replication_factor=3)


async def test_missing_topics_are_found(kafka_log: KafkaLog, ours: Renamed) -> None:
    problems = await check_topics(kafka_log.bootstrap, partitions=2, module_topics=["no.module"])
    assert {p.topic for p in problems} == {*ours.names.values(), "no.module"}
    assert all("is missing" in p.text for p in problems)


async def test_wrong_settings_and_unlike_keying_are_found(kafka_log: KafkaLog, ours: Renamed) -> None:
    events = NewTopic(ours[EVENTS], 3, 1, topic_configs=ours.definition(EVENTS).configs())
    await kafka_log.admin.create_topics([events])
    others = [ours.definition(name) for name in (COMMANDS, CHECKPOINTS, LIVE, DEAD_LETTERS)]
    await create_definitions(kafka_log, others, partitions=2, replication_factor=1)
    await set_configs(kafka_log, ours[COMMANDS], {"message.timestamp.type": "CreateTime", "retention.ms": "1000000"})
    await set_configs(kafka_log, ours[DEAD_LETTERS], {"max.message.bytes": "1000000"})
    await set_configs(kafka_log, ours[CHECKPOINTS], {"cleanup.policy": "delete"})
    await set_configs(kafka_log, ours[LIVE], {**ours.definition(LIVE).configs(), "max.message.bytes": "4000000"})
    found = {
        (p.topic, p.text.split(",")[0].split(":")[0]) for p in await check_topics(kafka_log.bootstrap, partitions=2)
    }
    assert found >= {
        (ours[EVENTS], "has 3 partitions"),
        (ours[COMMANDS], "has message.timestamp.type=CreateTime"),
        (ours[COMMANDS], "has retention.ms=1000000"),
        (ours[DEAD_LETTERS], "has max.message.bytes=1000000"),
        (ours[CHECKPOINTS], "has cleanup.policy=delete"),
    }
    assert not [text for topic, text in found if topic == ours[LIVE]]  # more bytes than needed are no problem
    assert any("both are keyed by agent" in p.text for p in await check_topics(kafka_log.bootstrap, partitions=2))


async def test_a_topic_without_genesis_is_found(kafka_log: KafkaLog, ours: Renamed) -> None:
    name = ours[EVENTS]
    await create_topics(kafka_log.bootstrap, partitions=2, replication_factor=1)
    problems = await kafka_topics._check_genesis(kafka_log, name, 2)
    assert [p.text.partition(":")[0] for p in problems] == [
        f"{name!r} partition {partition} has no genesis record" for partition in (0, 1)
    ]


async def test_no_broker_is_one_clear_error() -> None:
    with pytest.raises(UnavailableError, match=r"Kafka at '127.0.0.1:9' does not answer .*set DRAMAC_KAFKA"):
        await create_topics("127.0.0.1:9", partitions=1, replication_factor=1)
