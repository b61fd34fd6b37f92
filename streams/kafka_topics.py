"""Creating our topics in Kafka, and checking that they still are what they have to be."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from schemas.errors import ConfigurationError, LogTruncatedError, NotFoundError, UnavailableError
from streams.kafka import KafkaLog
from streams.topics import COMMANDS, EVENTS, TopicDefinition, definitions, ensure_genesis, log_id

CHECKED = ("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "message.timestamp.type")
REPLICAS_FOR_QUORUM = 3  # from here on, two must have a record before it is acknowledged
LEADERS_S = 20.0  # a new topic's partitions have leaders after milliseconds
LEADERS_POLL_S = 0.05

CANT_CHANGE = "the number can't be changed later without moving keys: delete the topic, or configure its number"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about a topic that has to be mended; `text` says what, and what to do."""

    topic: str
    text: str


async def create_topics(
    bootstrap: str,
    *,
    partitions: int,
    replication_factor: int,
    module_topics: Sequence[str] = (),
    security: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Create what is missing of our topics, with their genesis records, and return the names of the created ones.

    Running it again changes nothing. `module_topics` are created too: for stacks where no platform does.

    Raises:
        ConfigurationError: a topic exists with another number of partitions, or the broker refuses one.
        UnavailableError: no broker answers.
    """
    async with KafkaLog(bootstrap, security=security) as log:
        return await create_definitions(
            log, definitions(module_topics), partitions=partitions, replication_factor=replication_factor
        )


async def create_definitions(
    log: KafkaLog, wanted: Sequence[TopicDefinition], *, partitions: int, replication_factor: int
) -> tuple[str, ...]:
    """Create what is missing of the given topics; see `create_topics`."""
    there = await _counts(log)
    for definition in wanted:
        _refuse_other_count(definition.name, there.get(definition.name, partitions), partitions)
    missing = [definition for definition in wanted if definition.name not in there]
    if missing:
        await _create(log, missing, partitions, replication_factor)
    await _wait_for_leaders(log, {definition.name for definition in wanted}, partitions)
    for definition in wanted:
        if definition.genesis:
            await ensure_genesis(log, definition.name)
    return tuple(definition.name for definition in missing)


async def check_topics(
    bootstrap: str,
    *,
    partitions: int,
    module_topics: Sequence[str] = (),
    security: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """Return what is wrong with the topics; nothing if all is well.

    Raises:
        UnavailableError: no broker answers.
    """
    async with KafkaLog(bootstrap, security=security) as log:
        described = {found["topic"]: found for found in await log.topics()}
        problems: list[Problem] = []
        for definition in definitions():
            if (found := described.get(definition.name)) is None:
                problems.append(Problem(definition.name, "is missing: run `dramac topics create`"))
                continue
            count = len(found["partitions"])
            if count != partitions:
                problems.append(Problem(definition.name, f"has {count} partitions, not {partitions}: {CANT_CHANGE}"))
            problems += await _check_configs(log, definition, len(found["partitions"][0]["replicas"]))
            if definition.genesis:
                problems += await _check_genesis(log, definition.name, count)
        problems += _check_keying({name: len(found["partitions"]) for name, found in described.items()})
        problems += [
            Problem(name, "is missing: the platform's modules publish to it, and nothing is read until it is there")
            for name in module_topics
            if name not in described
        ]
    return problems


async def _counts(log: KafkaLog) -> dict[str, int]:
    return {found["topic"]: len(found["partitions"]) for found in await log.topics()}


def _refuse_other_count(topic: str, count: int, partitions: int) -> None:
    if count != partitions:
        raise ConfigurationError(f"{topic!r} has {count} partitions, not {partitions}: {CANT_CHANGE}")


async def _create(log: KafkaLog, missing: Iterable[TopicDefinition], partitions: int, replication_factor: int) -> None:
    quorum = {"min.insync.replicas": "2"} if replication_factor >= REPLICAS_FOR_QUORUM else {}
    new = [
        NewTopic(definition.name, partitions, replication_factor, topic_configs={**definition.configs(), **quorum})
        for definition in missing
    ]
    try:
        answer = await log.admin.create_topics(new)
    except (KafkaError, TimeoutError) as error:
        raise UnavailableError(f"topics could not be created ({error!r}): try again") from error
    for name, code, why in answer.topic_errors:
        kind = for_code(code)
        if code != 0 and kind is not TopicAlreadyExistsError:  # somebody else created it meanwhile
            raise ConfigurationError(f"Kafka refuses the topic {name!r}: {why or kind.__name__}")


async def _wait_for_leaders(log: KafkaLog, names: set[str], partitions: int) -> None:
    try:
        async with asyncio.timeout(LEADERS_S):
            while True:
                ready = {
                    found["topic"]: len(found["partitions"])
                    for found in await log.topics()
                    if found["topic"] in names and all(p["leader"] >= 0 for p in found["partitions"])
                }
                if len(ready) == len(names):
                    break
                await asyncio.sleep(LEADERS_POLL_S)
    except TimeoutError as error:
        raise UnavailableError(f"new topics have no leaders after {LEADERS_S:g} s: is a broker down?") from error
    for name, count in ready.items():
        _refuse_other_count(name, count, partitions)


async def _check_configs(log: KafkaLog, definition: TopicDefinition, replicas: int) -> list[Problem]:
    found = await log.configs(definition.name)
    wanted = definition.configs()
    problems = [
        Problem(definition.name, f"has {name}={found[name]}, not {wanted[name]}: set it with kafka-configs")
        for name in CHECKED
        if name in found and not _same(name, found[name], wanted[name])
    ]
    if replicas >= REPLICAS_FOR_QUORUM and int(found.get("min.insync.replicas", "2")) < 2:
        text = "has min.insync.replicas=1: what one broker acknowledged can be lost; set it to 2 with kafka-configs"
        problems.append(Problem(definition.name, text))
    return problems


def _same(name: str, found: str, wanted: str) -> bool:
    if name == "max.message.bytes":
        return int(found) >= int(wanted)
    return found == wanted


def _check_keying(counts: Mapping[str, int]) -> list[Problem]:
    commands, events = counts.get(COMMANDS), counts.get(EVENTS)
    if commands is None or events is None or commands == events:
        return []
    text = f"has {events} partitions, but {COMMANDS!r} has {commands}: both are keyed by agent and need as many"
    return [Problem(EVENTS, text)]


async def _check_genesis(log: KafkaLog, topic: str, partitions: int) -> list[Problem]:
    problems = []
    for partition in range(partitions):
        try:
            await log_id(log, topic, partition)
        except (NotFoundError, LogTruncatedError, ConfigurationError) as error:
            problems.append(Problem(topic, str(error)))
    return problems
