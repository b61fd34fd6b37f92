"""The topics of the house: how each is kept, and the genesis record that tells one log from another.

Record 0 of every partition of the topics in which we store offsets is a genesis record with a random log id.
Whoever stores an offset stores the log id with it and refuses to go on if they differ: a topic that was deleted
and created anew is otherwise read on without a word. Of two genesis records written at once, offset 0 wins and every
reader ignores the other.

Where a topic's retention deletes its record 0 (`ai.commands`, `ai.dead-letters`: after 30 days), the log id is
None from then on. What can still be checked is that the log has not ended before a stored offset.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from schemas.errors import ConfigurationError, LogTruncatedError, NotFoundError, UnavailableError
from streams.log import Draft, Log, Record

MINUTE_MS = 60_000
DAY_MS = 86_400_000
MIB = 1024 * 1024

MODULE_EVENTS = "module.events"
COMMANDS = "ai.commands"
EVENTS = "ai.events"
CHECKPOINTS = "ai.checkpoints"
LIVE = "ai.live"
DEAD_LETTERS = "ai.dead-letters"
OBSERVATIONS = "ai.guardian-observations"
GUARDIANS = "dramac-guardians"  # Faust's group
WINDOWS = "windows"  # and its table: the changelog's name is made of both, by Faust

GENESIS_HEADER = "dramac_genesis"
GENESIS_READ_S = 10.0  # reading record 0 takes milliseconds; longer, and the broker is in trouble

DEFAULT_PARTITIONS = 32  # they can't be changed later without moving keys


@dataclass(frozen=True, slots=True)
class TopicDefinition:
    """How a topic is kept. `retention_ms` None means for ever; `append_time`: the broker's clock stamps records."""

    name: str
    retention_ms: int | None = None
    cleanup: Literal["delete", "compact"] = "delete"
    append_time: bool = True
    max_message_bytes: int = 2 * MIB
    segment_ms: int | None = None
    genesis: bool = False

    def configs(self) -> dict[str, str]:
        """Return the topic's settings by Kafka's names."""
        configs = {
            "cleanup.policy": self.cleanup,
            "retention.ms": "-1" if self.retention_ms is None else str(self.retention_ms),
            "retention.bytes": "-1",
            "max.message.bytes": str(self.max_message_bytes),
            "message.timestamp.type": "LogAppendTime" if self.append_time else "CreateTime",
            "compression.type": "producer",
        }
        if self.segment_ms is not None:
            configs["segment.ms"] = str(self.segment_ms)
        return configs


AI_TOPICS = (
    TopicDefinition(COMMANDS, retention_ms=30 * DAY_MS, genesis=True),
    TopicDefinition(EVENTS, genesis=True),
    # Only closed segments are compacted: an hour bounds how long images that are no longer needed take space.
    TopicDefinition(CHECKPOINTS, cleanup="compact", segment_ms=60 * MINUTE_MS, genesis=True),
    # Only closed segments are deleted, so they are closed as often.
    TopicDefinition(LIVE, retention_ms=10 * MINUTE_MS, segment_ms=10 * MINUTE_MS),
    # What guardians count, and what they have counted. A loss of either delays or forgets a count, nothing else.
    TopicDefinition(OBSERVATIONS, retention_ms=7 * DAY_MS),
    TopicDefinition(f"{GUARDIANS}-{WINDOWS}-changelog", cleanup="compact", segment_ms=60 * MINUTE_MS),
    TopicDefinition(DEAD_LETTERS, retention_ms=30 * DAY_MS, max_message_bytes=4 * MIB, genesis=True),
)


def module_topic(name: str = MODULE_EVENTS) -> TopicDefinition:
    """Return how a topic of the platform's modules is kept where we create it: the embedded stack and tests.

    It is the platform's, so its time is its producers', and it has no genesis record.
    """
    return TopicDefinition(name, retention_ms=7 * DAY_MS, append_time=False)


def definitions(module_topics: Sequence[str] = ()) -> tuple[TopicDefinition, ...]:
    """Return our topics, and the given ones of the platform's modules."""
    return (*AI_TOPICS, *(module_topic(name) for name in module_topics))


def is_genesis(record: Record) -> bool:
    """Whether `record` only names the log: every reader skips it, wherever it stands."""
    for name, _ in record.headers:  # noqa: SIM110 - every reader asks this of every record
        if name == GENESIS_HEADER:
            return True
    return False


def genesis(topic: str, partition: int, log_id: str) -> Draft:
    """Return the genesis record of a partition.

    In a compacted topic a record needs a key, and only the last of a key is kept: the key is the log id itself, so
    that no later genesis record ever replaces the first.
    """
    body = orjson.dumps({"log_id": log_id, "topic": topic, "partition": partition})
    key = f"{GENESIS_HEADER}/{log_id}".encode() if topic == CHECKPOINTS else None
    return Draft(key, body, ((GENESIS_HEADER, b"1"), ("content-type", b"application/json")))


async def ensure_genesis(log: Log, topic: str) -> None:
    """Write a genesis record into every partition of `topic` that has never held a record.

    Raises:
        NotFoundError: there is no such topic.
        AppendError: a write was refused or its outcome is unknown: call again.
    """
    for partition in range(await log.partitions(topic)):
        if (await log.bounds(topic, partition)).end == 0:
            await log.append(topic, partition, [genesis(topic, partition, os.urandom(16).hex())])


async def log_id(log: Log, topic: str, partition: int) -> str | None:
    """Return the log id of a partition; None where its retention has deleted record 0.

    Raises:
        NotFoundError: the topic is missing, or has no genesis record.
        LogTruncatedError: record 0 is gone from a topic that is kept for ever.
        UnavailableError: the log does not answer.
    """
    bounds = await log.bounds(topic, partition)
    if bounds.start > 0:
        if _kept_for_ever(topic):
            raise LogTruncatedError(
                f"{topic!r} partition {partition} begins at offset {bounds.start}, but is to be kept for ever: "
                "restore it from a backup; nothing that was derived from it can be checked"
            )
        return None
    if bounds.end == 0:
        raise NotFoundError(f"{topic!r} partition {partition} has no genesis record: run `dramac topics create`")
    async with log.reader(topic, {partition: 0}) as reader:
        first = await reader.poll(max_records=1, timeout_s=GENESIS_READ_S)
    if not first:
        raise UnavailableError(f"record 0 of {topic!r} partition {partition} could not be read: try again")
    return _parse_log_id(first[0])


def _kept_for_ever(topic: str) -> bool:
    return any(d.name == topic and d.retention_ms is None and d.cleanup == "delete" for d in AI_TOPICS)


def _parse_log_id(record: Record) -> str | None:
    if record.offset != 0 or not is_genesis(record):
        raise NotFoundError(
            f"record {record.offset} of {record.topic!r} partition {record.partition} is not a genesis record: "
            "something wrote to the topic before `dramac topics create`; delete it and create it anew"
        )
    try:
        found = orjson.loads(record.value or b"")["log_id"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"the genesis record of {record.topic!r} partition {record.partition} can't be read: {error}"
        ) from error
    return str(found)
