import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime

import orjson
import pytest
import pytest_asyncio

from schemas.envelope import EventEnvelope
from schemas.errors import (
    AppendError,
    ConfigurationError,
    DecodeError,
    LogReplacedError,
    NotFoundError,
    RecordTooLargeError,
    UnavailableError,
)
from schemas.events import AgentActivated, AgentDeleted, Event
from schemas.ids import AgentId, CommandId, SiteId, agent_id_of, event_id_of
from streams import client
from streams.chain import CHAIN, NO_HEAD, Head, link
from streams.client import Cursor, ModuleEventPublisher, Subscription, subscribe
from streams.cloudevents import from_record
from streams.kafka import KafkaLog
from streams.kafka_topics import create_definitions
from streams.log import Draft, Headers
from streams.memory_log import MemoryLog, Outcome
from streams.partitioner import partition_of
from streams.records import Said, encode_event
from streams.topics import EVENTS, MODULE_EVENTS, definitions, ensure_genesis, module_topic

SITE = SiteId("0f8fad5b-d9cb-469f-a165-70867728950e")
PARTITIONS = 3


@pytest_asyncio.fixture
async def log() -> MemoryLog:
    log = MemoryLog(clock=lambda: 1_700_000_000_000)
    log.create(definitions([MODULE_EVENTS]), PARTITIONS)
    await ensure_genesis(log, EVENTS)
    return log


# --- publishing


@pytest_asyncio.fixture
async def publisher(log: MemoryLog) -> AsyncIterator[ModuleEventPublisher]:
    async with ModuleEventPublisher(log) as publisher:
        yield publisher


async def test_a_published_event_is_a_cloudevent_of_its_site(log: MemoryLog, publisher: ModuleEventPublisher) -> None:
    at = await publisher.publish(
        type="crm.contact.created",
        site_id=SITE.upper(),
        source="/crm",
        data={"id": "c1", "name": "Zoë"},
        subject="c1",
        time=datetime(2026, 1, 24, 9, 30, tzinfo=UTC),
        extensions={"correlationid": "x"},
    )
    (record,) = log.records(MODULE_EVENTS)
    event = from_record(record, now=0)
    assert (at.id, at.topic, at.partition, at.offset) == (event.id, MODULE_EVENTS, record.partition, record.offset)
    assert (event.type, event.source, event.subject, event.time_ms) == (
        "crm.contact.created", "/crm", "c1", 1_769_247_000_000,
    )  # fmt: skip
    assert event.extensions == {"correlationid": "x", "siteid": SITE}
    assert event.data == {"id": "c1", "name": "Zoë"}


async def test_the_key_is_the_subject_or_else_the_site(log: MemoryLog, publisher: ModuleEventPublisher) -> None:
    for subject, key in ((None, None), ("c1", None), ("c1", "mine")):
        await publisher.publish(type="t", site_id=SITE, source="/s", data=None, subject=subject, key=key)
    assert {record.key for record in log.records(MODULE_EVENTS)} == {SITE.encode(), b"c1", b"mine"}


async def test_ids_are_made_where_none_is_given(log: MemoryLog, publisher: ModuleEventPublisher) -> None:
    made = [await publisher.publish(type="t", site_id=SITE, source="/s", data=1) for _ in range(2)]
    assert made[0].id != made[1].id
    assert (await publisher.publish(type="t", site_id=SITE, source="/s", data=1, id="mine", time=5)).id == "mine"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"site_id": "my site"}, "'my site' is not a UUID"),
        ({"type": ""}, "'type' must not be empty"),
        ({"source": ""}, "'source' must not be empty"),
        ({"data": float("nan")}, "NaN or infinity"),
        ({"time": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001
        ({"extensions": {"Not-A-Name": "x"}}, "is no attribute's name"),
        ({"extensions": {"subject": "x"}}, "it has a field of its own"),
    ],
)
async def test_what_is_wrong_is_told_before_anything_is_sent(
    log: MemoryLog, publisher: ModuleEventPublisher, wrong: dict[str, object], why: str
) -> None:
    right: dict[str, object] = {"type": "t", "site_id": SITE, "source": "/s", "data": {}}
    with pytest.raises(ValueError, match=why):
        await publisher.publish(**{**right, **wrong})  # type: ignore[arg-type]
    assert log.records(MODULE_EVENTS) == []


async def test_an_event_that_is_too_large_is_told_to_its_publisher(publisher: ModuleEventPublisher) -> None:
    with pytest.raises(RecordTooLargeError, match=r"too large for 'module.events', which takes 2,097,152"):
        await publisher.publish(type="t", site_id=SITE, source="/s", data="x" * 3_000_000)


async def test_an_unanswered_publish_is_repeated_under_the_same_id(
    log: MemoryLog, publisher: ModuleEventPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BETWEEN_ATTEMPTS_S", 0)
    outcomes: Iterator[Outcome] = iter(["unanswered", "refused", "ok"])
    log.on_write = lambda *_: next(outcomes)
    at = await publisher.publish(type="t", site_id=SITE, source="/s", data=1)
    assert {from_record(record, now=0).id for record in log.records(MODULE_EVENTS)} == {at.id}
    assert len(log.records(MODULE_EVENTS)) == 2


async def test_a_publish_that_fails_for_good_names_the_id_to_use_again(
    log: MemoryLog, publisher: ModuleEventPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "BETWEEN_ATTEMPTS_S", 0)
    log.on_write = lambda *_: "refused"
    with pytest.raises(AppendError, match="publish it again with id='mine', a repeat is dropped"):
        await publisher.publish(type="t", site_id=SITE, source="/s", data=1, id="mine")


async def test_a_publisher_needs_a_topic_and_a_broker() -> None:
    async with ModuleEventPublisher(MemoryLog()) as publisher:
        with pytest.raises(NotFoundError, match=r"no topic 'module.events': run `dramac topics create`"):
            await publisher.publish(type="t", site_id=SITE, source="/s", data=1)
    with pytest.raises(UnavailableError, match=r"'127.0.0.1:9' does not answer"):
        await ModuleEventPublisher("127.0.0.1:9").__aenter__()
    with pytest.raises(ValueError, match="enter the publisher first"):
        await ModuleEventPublisher("127.0.0.1:9").publish(type="t", site_id=SITE, source="/s", data=1)


async def test_a_publisher_opens_and_closes_a_kafka_of_its_own(kafka_log: KafkaLog) -> None:
    topic = f"module-{os.urandom(3).hex()}"
    await create_definitions(kafka_log, [module_topic(topic)], partitions=2, replication_factor=1)
    async with ModuleEventPublisher(kafka_log.bootstrap, topic=topic) as publisher:
        at = await publisher.publish(type="t", site_id=SITE, source="/s", data={"a": 1})
    async with kafka_log.reader(topic, {at.partition: at.offset}) as reader:
        (record,) = await reader.poll(timeout_s=20)
    assert from_record(record, now=0).data == {"a": 1}
    await kafka_log.admin.delete_topics([topic])


# --- subscribing


class Story:
    """Writes the events of agents, as their owner does."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.heads: dict[AgentId, Head] = {}

    def draft(self, name: str, kind: type[AgentActivated | AgentDeleted], head: Head) -> tuple[Draft, Head]:
        agent = agent_id_of(SITE, name)
        command = CommandId(f"{name}-{head.sequence}")
        event: Event = kind(id=agent, name=name)
        said = Said(
            event_id_of(1, command, head.sequence, 0),
            SITE,
            agent,
            1_700_000_000_000,
            command,
            head.sequence,
            "c",
            "user:ann",
            None,
            event,
        )
        return encode_event(said, head)

    async def tell(self, name: str, kind: type[AgentActivated | AgentDeleted] = AgentActivated) -> Draft:
        agent = agent_id_of(SITE, name)
        draft, self.heads[agent] = self.draft(name, kind, self.heads.get(agent, NO_HEAD))
        await self.put(draft)
        return draft

    async def put(self, draft: Draft) -> None:
        assert draft.key is not None
        await self.log.append(EVENTS, partition_of(draft.key, PARTITIONS), [draft])


@pytest.fixture
def story(log: MemoryLog) -> Story:
    return Story(log)


async def take(events: Subscription, count: int) -> list[EventEnvelope]:
    async with asyncio.timeout(10):
        return [await anext(events) for _ in range(count)]


def told(envelopes: Sequence[EventEnvelope]) -> list[tuple[str, int]]:
    return sorted((str(envelope.event.model_dump()["name"]), envelope.sequence) for envelope in envelopes)


async def nothing_more(events: Subscription) -> None:
    """What is there has been read, and none of it was given out."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(events)


async def test_all_that_counts_is_given_out_in_the_order_of_each_stream(log: MemoryLog, story: Story) -> None:
    for _ in range(3):
        for name in ("ann", "bob", "cyd"):
            await story.tell(name)
    async with subscribe(log) as events:
        envelopes = await take(events, 9)
    for name in ("ann", "bob", "cyd"):
        assert [e.sequence for e in envelopes if e.agent_id == agent_id_of(SITE, name)] == [1, 2, 3]


async def test_only_wanted_types_are_given_out(log: MemoryLog, story: Story) -> None:
    await story.tell("ann")
    await story.tell("ann", AgentDeleted)
    await story.tell("ann")
    async with subscribe(log, types="ai.agent.del*") as events:
        assert told(await take(events, 1)) == [("ann", 2)]
        await nothing_more(events)
    async with subscribe(log, types=["ai.execution.*", "ai.agent.activated"]) as events:
        assert told(await take(events, 2)) == [("ann", 1), ("ann", 3)]


async def test_copies_and_forks_of_a_rival_are_not_given_out(log: MemoryLog, story: Story) -> None:
    first = await story.tell("ann")
    await story.put(first)
    fork, _ = story.draft("ann", AgentDeleted, NO_HEAD)
    await story.put(fork)
    await story.tell("ann")
    async with subscribe(log) as events:
        assert told(await take(events, 2)) == [("ann", 1), ("ann", 2)]
        assert events.ignored == 2


async def test_a_cursor_resumes_exactly_behind_the_last_event(log: MemoryLog, story: Story) -> None:
    for name in ("ann", "bob", "cyd", "ann", "ann", "bob"):
        await story.tell(name)
    seen: list[EventEnvelope] = []
    cursor: Cursor | None = None
    for _ in range(6):
        async with subscribe(log, start=cursor or "beginning") as events:
            seen += await take(events, 1)
            cursor = Cursor.from_json(events.cursor().to_json())
            assert cursor == events.cursor()
    assert told(seen) == [("ann", 1), ("ann", 2), ("ann", 3), ("bob", 1), ("bob", 2), ("cyd", 1)]
    async with subscribe(log, start=cursor or "beginning") as events:
        await nothing_more(events)


async def test_a_resumed_subscription_knows_what_counts(log: MemoryLog, story: Story) -> None:
    await story.tell("ann")
    async with subscribe(log) as events:
        await take(events, 1)
        cursor = events.cursor()
    fork, _ = story.draft("ann", AgentDeleted, NO_HEAD)
    await story.put(fork)
    await story.tell("ann")
    async with subscribe(log, start=cursor) as events:
        assert told(await take(events, 1)) == [("ann", 2)]
        assert events.ignored == 1


async def test_latest_gives_out_what_comes_and_still_knows_what_counts(log: MemoryLog, story: Story) -> None:
    await story.tell("ann")
    async with subscribe(log, start="latest") as events:
        fork, _ = story.draft("ann", AgentDeleted, NO_HEAD)
        await story.put(fork)
        await story.tell("ann")
        await story.tell("bob")
        assert told(await take(events, 2)) == [("ann", 2), ("bob", 1)]


async def test_a_subscription_waits_for_what_comes_and_ends_when_it_is_left(log: MemoryLog, story: Story) -> None:
    async with subscribe(log) as events:
        waiting = asyncio.create_task(take(events, 1))
        await asyncio.sleep(0)
        await story.tell("ann")
        assert told(await waiting) == [("ann", 1)]
    assert [envelope async for envelope in events] == []


async def test_another_log_under_the_same_name_is_refused(log: MemoryLog, story: Story) -> None:
    await story.tell("ann")
    async with subscribe(log) as events:
        cursor = events.cursor()
    log.delete(EVENTS)
    log.create(definitions(), PARTITIONS)
    await ensure_genesis(log, EVENTS)
    with pytest.raises(LogReplacedError, match="not the log that the cursor was made on"):
        await subscribe(log, start=cursor).__aenter__()


async def test_a_cursor_of_another_number_of_partitions_is_refused(log: MemoryLog) -> None:
    async with subscribe(log) as events:
        cursor = events.cursor()
    one = Cursor({0: cursor.partitions[0]})
    with pytest.raises(ConfigurationError, match=r"the cursor has 1 partitions, but 'ai.events' has 3"):
        await subscribe(log, start=one).__aenter__()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version":1}', '{"version":2,"partitions":{}}', '{"version":1,"partitions":{"0":{}}}',
             '{"version":1,"partitions":{"0":{"offset":"1","log_id":null,"heads":{}}}}',
             '{"version":1,"partitions":{"0":{"offset":1,"log_id":null,"heads":{"a":[1]}}}}'],
)  # fmt: skip
def test_a_cursor_that_can_t_be_read_is_said_so(text: str) -> None:
    with pytest.raises(ConfigurationError, match="the cursor"):
        Cursor.from_json(text)


def with_header(draft: Draft, name: str, content: bytes, head: Head) -> Draft:
    """The record with a header changed, chained anew: it counts."""
    headers: Headers = tuple((n, content if n == name else c) for n, c in draft.headers if n != CHAIN)
    chain = link(head.chain, draft.key, headers, draft.value)
    return draft._replace(headers=(*headers, (CHAIN, chain.hex().encode())))


async def test_events_of_a_newer_release_are_passed_over_and_counted(log: MemoryLog, story: Story) -> None:
    draft, _ = story.draft("ann", AgentActivated, NO_HEAD)
    await story.put(with_header(draft, "ce_type", b"ai.agent.promoted", NO_HEAD))
    await story.tell("bob")
    async with subscribe(log) as events:
        assert told(await take(events, 1)) == [("bob", 1)]
        await nothing_more(events)
        assert (events.unknown, events.ignored) == (1, 0)


async def test_a_counted_event_that_can_t_be_decoded_is_never_lost_in_silence(log: MemoryLog, story: Story) -> None:
    draft, _ = story.draft("ann", AgentActivated, NO_HEAD)
    await story.put(with_header(draft, "ce_time", b"yesterday", NO_HEAD))
    async with subscribe(log) as events:
        with pytest.raises(DecodeError, match=r"'ai.agent.activated' has a wrong header"):
            await anext(events)
        await story.tell("bob")  # who goes on does so behind it
        assert told(await take(events, 1)) == [("bob", 1)]


async def test_a_topic_without_genesis_can_t_be_followed(log: MemoryLog) -> None:
    bare = MemoryLog()
    bare.create(definitions(), 1)
    with pytest.raises(NotFoundError, match="has no genesis record"):
        await subscribe(bare).__aenter__()


def test_a_cursor_is_small_json(log: MemoryLog) -> None:
    cursor = Cursor.from_json(
        '{"version":1,"partitions":{"0":{"offset":7,"log_id":"ab","heads":{"agent":[3,"' + "00" * 32 + '"]}}}}'
    )
    assert cursor.partitions[0].heads == {b"agent": Head(3, b"\x00" * 32)}
    assert orjson.loads(cursor.to_json())["partitions"]["0"]["offset"] == 7
