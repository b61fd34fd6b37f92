"""Images in `ai.checkpoints`: whatever becomes of them, what is restored is a state that the log says."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence

import pytest
import pytest_asyncio

from processors.runtime import checkpoints, images
from processors.runtime.checkpoints import BlobRef, Checkpoints, End, end_at
from processors.runtime.images import STATE_VERSION
from processors.runtime.stream import Stream
from schemas.ids import agent_id_of
from streams.kafka import KafkaLog
from streams.kafka_topics import create_definitions
from streams.log import Draft, Log, Record
from streams.memory_log import MemoryLog, Outcome
from streams.replay import read_span
from streams.topics import AI_TOPICS, CHECKPOINTS, TopicDefinition, genesis
from tests.processors.fakes import until
from tests.processors.samples import SITE, config
from tests.processors.test_images import bucketed

Streams = dict[bytes, Stream]


@pytest.fixture(params=["memory", "kafka"])
def kafka(request: pytest.FixtureRequest) -> KafkaLog | None:
    log: KafkaLog | None = request.getfixturevalue("kafka_log") if request.param == "kafka" else None
    return log


@pytest_asyncio.fixture
async def log(kafka: KafkaLog | None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Log]:
    """A log with a topic for images that only this test uses."""
    name = f"images-{os.urandom(4).hex()}"
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", name)
    definition = TopicDefinition(name, cleanup="compact")
    if kafka is not None:
        await create_definitions(kafka, [definition], partitions=1, replication_factor=1)
        yield kafka
        await kafka.admin.delete_topics([name])
        return
    yield _memory(definition)


@pytest.fixture
def memory() -> MemoryLog:
    """A log in memory, which can be made to fail."""
    return _memory(*(definition for definition in AI_TOPICS if definition.name == topic()))


def _memory(*definitions: TopicDefinition) -> MemoryLog:
    log = MemoryLog()
    log.create(definitions, 1)
    return log


def topic() -> str:
    """Return the topic in which this test's images stand."""
    name: str = vars(checkpoints)["CHECKPOINTS"]
    return name


def state(turn: int, agents: int = 3) -> Streams:
    """Return a state that is another one at each turn, but for its first agent."""
    streams: Streams = {}
    for number in range(agents):
        agent_id = agent_id_of(SITE, f"agent-{number}")
        stream = Stream.empty(agent_id, SITE)
        stream.agent.version = 1
        stream.agent.configs[1] = config(slug=f"agent-{number}", name=f"turn {turn * bool(number)}")
        streams[agent_id.encode()] = stream
    return streams


def end(offset: int) -> End:
    return end_at(events_offset=offset, events_log_id="e", commands_offset=offset, commands_log_id="c")


async def write(log: Log, turn: int, streams: Streams | None = None) -> Checkpoints:
    """Write an image as an owner that just restored would."""
    writer = Checkpoints(log, 0)
    await writer.newest()
    await writer.finish(state(turn) if streams is None else streams, end(turn))
    return writer


async def assert_restored(log: Log, turn: int | None) -> None:
    """Check which image a new owner finds."""
    restored = await Checkpoints(log, 0).newest()
    if turn is None:
        assert restored is None
        return
    assert restored is not None
    assert restored.end.events_offset == restored.end.commands_offset == turn
    assert restored.streams == state(turn)


async def contents(log: Log) -> list[Record]:
    bounds = await log.bounds(topic(), 0)
    spans = [records async for records in read_span(log, topic(), 0, bounds)]
    return [record for span in spans for record in span]


async def append(log: Log, *drafts: Draft) -> int:
    return await log.append(topic(), 0, drafts)


def standing(records: Sequence[Record]) -> list[bytes]:
    """Return what compaction would leave, without names that are made anew each time."""
    last = {record.key: record for record in records}
    return [(r.key or b"").split(b"/")[0] for r in records if last[r.key] is r and r.value is not None]


# --- on both logs ---------------------------------------------------------------------------------------------------


async def test_without_an_image_there_is_nothing_to_restore(log: Log) -> None:
    await assert_restored(log, None)
    await append(log, genesis(CHECKPOINTS, 0, "id"))
    await assert_restored(log, None)


async def test_the_newest_complete_image_is_the_one(log: Log) -> None:
    for turn in (1, 2, 3):
        await write(log, turn)
        await assert_restored(log, turn)


async def test_an_image_of_nothing_is_an_image(log: Log) -> None:
    await write(log, 1, {})
    restored = await Checkpoints(log, 0).newest()
    assert restored is not None
    assert restored.streams == {}


async def test_large_states_come_back_in_many_blobs(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "CHUNK_BYTES", 1_000)
    streams = state(1, agents=60) | {b"busy": bucketed(3, 3_000)}
    await write(log, 1, streams)
    restored = await Checkpoints(log, 0).newest()
    assert restored is not None
    assert restored.streams == streams
    assert len(restored.end.core) > 60
    assert len(restored.end.buckets) == 72


async def test_what_is_half_written_does_not_count(log: Log) -> None:
    await write(log, 1)
    await append(log, Draft(b"blob/half/0", b"half"), Draft(b"blob/half/1", b"an image"))
    await assert_restored(log, 1)


async def test_behind_many_unneeded_records_an_image_is_found(log: Log) -> None:
    await write(log, 1)
    await append(log, *(Draft(b"blob/half/%d" % number, b"x") for number in range(checkpoints.FIRST_LOOK * 3)))
    await assert_restored(log, 1)


async def test_an_image_that_lost_a_blob_gives_way_to_the_one_before(log: Log) -> None:
    await write(log, 1)
    last = (await write(log, 2)).last
    assert last is not None
    ref = last.core[0]
    for wrong in (
        ref.model_copy(update={"offset": 0}),  # another blob stands there
        ref.model_copy(update={"offset": ref.offset + 1}),
        ref.model_copy(update={"offset": 10_000}),
        ref.model_copy(update={"sha256": "00"}),
    ):
        await append(log, Draft(b"end/x", last.model_copy(update={"core": (wrong,), "events_offset": 9}).encode()))
        await assert_restored(log, 2)


async def test_an_image_of_another_version_is_passed_over(log: Log) -> None:
    last = (await write(log, 1)).last
    assert last is not None
    await append(log, Draft(b"end/x", last.model_copy(update={"state_version": STATE_VERSION + 1}).encode()))
    await append(log, Draft(b"end/y", last.encode()[:-1] + b',"of":"a newer release"}'))
    await assert_restored(log, 1)


async def test_garbage_is_no_image_and_no_harm(log: Log) -> None:
    last = (await write(log, 1)).last
    assert last is not None
    for value in (b"", b"{", b"[]", b"null", b"\xff", b"{}", os.urandom(100)):
        await append(log, Draft(b"end/garbage", value), Draft(os.urandom(8), value), Draft(b"blob/x", value))
    core = b"{}\n{}\n"
    at = await append(log, Draft(b"blob/z", core))
    ref = BlobRef(key="blob/z", sha256=images.sha256_of(core), offset=at)
    await append(log, Draft(b"end/z", last.model_copy(update={"core": (ref,)}).encode()))
    for offset in (-1, 2**70):
        await append(log, Draft(b"end/w", last.encode().replace(b'"events_offset":1', b'"events_offset":%d' % offset)))
    await append(log, Draft(b"end/v", last.encode().replace(b'"offset":', b'"offset":-')))
    await append(log, Draft(b"end/u", None))
    restored = await Checkpoints(log, 0).newest()
    assert restored is not None
    assert restored.streams == state(1)


async def test_an_unchanged_blob_is_written_once_also_by_the_next_owner(log: Log) -> None:
    streams = {b"busy": bucketed(2, images.INLINE_PRINTS + 1)}
    first = await write(log, 1, streams)
    streams |= state(2)
    await first.finish(streams, end(2))
    await write(log, 3, streams | state(3))
    blobs = [record.value for record in await contents(log) if record.key and record.key.startswith(b"blob/")]
    values = [value for value in blobs if value is not None]
    assert len(values) == len(set(values)) == 2 + 3  # two buckets, and each image's core
    await assert_busy(log, streams | state(3))


async def assert_busy(log: Log, streams: Streams) -> None:
    restored = await Checkpoints(log, 0).newest()
    assert restored is not None
    assert restored.streams == streams


async def test_older_images_get_tombstones(log: Log) -> None:
    writer = await write(log, 1)
    for turn in (2, 3):
        await writer.finish(state(turn), end(turn))
    await write(log, 4)
    assert standing(await contents(log)) == [b"blob", b"end"]


async def test_what_others_left_behind_gets_tombstones_too(log: Log) -> None:
    await write(log, 1)
    await append(log, Draft(b"blob/half/0", b"half"), Draft(b"end/other", b"{}"), Draft(b"not ours", b"kept"))
    await write(log, 2)
    assert standing(await contents(log)) == [b"not ours", b"blob", b"end"]


async def test_a_rivals_image_in_between_is_as_good_and_does_no_harm(log: Log) -> None:
    one, two = await write(log, 1), await write(log, 2)
    for turn, writer in ((3, one), (4, two), (5, one)):
        await writer.finish(state(turn), end(turn))
        await assert_restored(log, turn)
    await write(log, 6)
    await assert_restored(log, 6)


# --- on the log that can be made to fail ----------------------------------------------------------------------------


async def test_after_compaction_the_newest_image_is_all_there_is(memory: MemoryLog) -> None:
    one, two = await write(memory, 1), Checkpoints(memory, 0)
    await two.newest()
    for turn, writer in ((2, one), (3, two), (4, one), (5, two)):
        await writer.finish(state(turn), end(turn))
        memory.compact(topic())
        await assert_restored(memory, turn)


async def test_a_compacted_blob_is_missed_and_written_anew(memory: MemoryLog) -> None:
    streams = {b"busy": bucketed(1, images.INLINE_PRINTS + 1)}
    writer = await write(memory, 1, streams)
    assert writer.last is not None
    await append(memory, Draft(writer.last.buckets[0].key.encode(), None))
    memory.compact(topic())
    await assert_restored(memory, None)
    await write(memory, 2, streams)
    await assert_busy(memory, streams)


async def test_a_blob_that_a_rival_gave_up_is_not_referred_to(memory: MemoryLog) -> None:
    """Its tombstone stands behind the image; only compaction makes it felt."""
    streams = {b"busy": bucketed(1, images.INLINE_PRINTS + 1)}
    writer = await write(memory, 1, streams)
    assert writer.last is not None
    await append(memory, Draft(writer.last.buckets[0].key.encode(), None))
    await write(memory, 2, streams)
    memory.compact(topic())
    await assert_busy(memory, streams)


@pytest.mark.parametrize("outcome", ["refused", "unanswered", "late"])
@pytest.mark.parametrize("broken", [0, 1, 2])  # the blob, the end, the tombstones
async def test_a_write_that_fails_costs_that_image_at_most(memory: MemoryLog, outcome: Outcome, broken: int) -> None:
    writer = await write(memory, 1)
    fates: list[Outcome] = ["ok", "ok", "ok"]
    fates[broken] = outcome
    memory.on_write = lambda topic, partition, drafts: fates.pop(0) if fates else "ok"
    await writer.finish(state(2), end(2))
    assert writer.busy  # it does not try again at once
    restored = await Checkpoints(memory, 0).newest()
    assert restored is not None
    assert restored.streams in (state(1), state(2))
    await writer.finish(state(3), end(3))
    memory.release()
    memory.compact(topic())
    restored = await Checkpoints(memory, 0).newest()
    assert restored is not None
    assert restored.streams in (state(2), state(3))  # the end that was late is newer by its place, and complete
    await write(memory, 4)
    await assert_restored(memory, 4)
    assert standing(memory.records(topic())) == [b"blob", b"end"]


async def test_an_image_that_is_cut_short_is_no_image(memory: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "CHUNK_BYTES", 100)
    writer = await write(memory, 1)
    for cut in (1, 2):
        left = [cut]

        def fate(topic: str, partition: int, drafts: Sequence[Draft]) -> Outcome:
            left[0] -= 1  # noqa: B023 - called within the turn
            if not left[0]:  # noqa: B023
                writer.drop()
            return "ok"

        memory.on_write = fate
        writer.begin(state(2), end(2))
        await until(lambda: left[0] <= 0)  # noqa: B023
        await assert_restored(memory, 1)
    memory.on_write = None
    await writer.finish(state(3), end(3))
    await assert_restored(memory, 3)
    await write(memory, 4)
    assert set(standing(memory.records(topic()))[:-1]) == {b"blob"}
    memory.compact(topic())
    await assert_restored(memory, 4)


async def test_the_topic_may_be_deleted_and_created_anew(memory: MemoryLog) -> None:
    writer = await write(memory, 1, state(1) | {b"busy": bucketed(1, images.INLINE_PRINTS + 1)})
    memory.delete(topic())
    await assert_restored(memory, None)
    await writer.finish(state(2), end(2))  # a warning: the topic is not there
    memory.create([d for d in AI_TOPICS if d.name == topic()], 1)
    streams = state(3) | {b"busy": bucketed(1, images.INLINE_PRINTS + 1)}
    await writer.finish(streams, end(3))
    await writer.finish(streams, end(4))
    await assert_busy(memory, streams)


async def test_an_image_refers_to_nothing_of_a_topic_that_was_replaced(memory: MemoryLog) -> None:
    streams = {b"busy": bucketed(1, images.INLINE_PRINTS + 1)}
    writer = await write(memory, 1, streams)
    memory.delete(topic())
    memory.create([d for d in AI_TOPICS if d.name == topic()], 1)
    await writer.finish(streams, end(2))  # nothing new: it refers to what is gone, and finds out
    await writer.finish(streams, end(3))
    await assert_busy(memory, streams)


async def test_a_truncated_topic_is_only_a_longer_restore(memory: MemoryLog) -> None:
    await write(memory, 1)
    memory.truncate(topic(), 0, 1)
    await assert_restored(memory, None)
    await write(memory, 2)
    await assert_restored(memory, 2)


async def test_gaps_at_the_end_of_the_topic_are_passed(memory: MemoryLog) -> None:
    await write(memory, 1)
    memory.skip(topic(), 0, 5)
    await asyncio.wait_for(assert_restored(memory, 1), 5)


async def test_images_that_can_t_be_read_in_time_are_done_without(
    memory: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(memory, 1)
    monkeypatch.setattr(checkpoints, "READ_S", 0.0)
    await assert_restored(memory, None)


async def test_a_large_image_is_followed_by_a_rest(memory: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Checkpoints(memory, 0)
    await writer.finish(state(1), end(1))
    monkeypatch.setattr(checkpoints, "BYTES_A_SECOND", 1)
    await writer.finish(state(2), end(2))
    assert writer.busy
