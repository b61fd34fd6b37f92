"""The live log against its anchors."""

import asyncio

import pytest

from streams.chain import Head
from streams.log import Record
from streams.memory_log import MemoryLog, MemoryPartition
from streams.replay import read_span
from streams.topics import EVENTS
from streams.verify import Anchors, Report, verify_log
from tests.streams.dumps import PARTITIONS, Place, agent, busy_place, drafts


def anchors_of(place: Place) -> Anchors:
    return {str(stream): (head.sequence, head.chain) for stream, head in place.heads.items()}


def partition_of(log: MemoryLog, stream: str) -> MemoryPartition:
    """The partition that holds a stream, open to whoever has the broker's disk."""
    found = log._topics[EVENTS].partitions
    return next(held for held in found if any(record.key == stream.encode() for record in held.records))


def where(report: Report) -> list[tuple[str | None, int | None]]:
    return [(found.stream, found.sequence) for found in report.breaks]


async def test_a_whole_log_reaches_its_anchors() -> None:
    place = await busy_place()
    report = await verify_log(place.log, EVENTS, anchors_of(place))
    assert report.ok
    assert (report.events, report.streams) == (33, 5)


async def test_anchors_that_lag_behind_are_reached() -> None:
    place = await busy_place()
    anchors = anchors_of(place)
    await place.say(agent(1), 5)
    assert (await verify_log(place.log, EVENTS, anchors)).ok


async def test_a_lost_tail_breaks_after_the_last_that_counts() -> None:
    place = await busy_place()
    anchors, held = anchors_of(place), partition_of(place.log, agent(4))
    position = max(i for i, record in enumerate(held.records) if record.key == agent(4).encode())
    del held.records[position]
    assert where(await verify_log(place.log, EVENTS, anchors)) == [(str(agent(4)), place.heads[agent(4)].sequence)]


async def test_a_lost_stream_breaks_at_its_first_record() -> None:
    place = await busy_place()
    anchors, held = anchors_of(place), partition_of(place.log, agent(4))
    held.records[:] = [record for record in held.records if record.key != agent(4).encode()]
    report = await verify_log(place.log, EVENTS, anchors)
    assert where(report) == [(str(agent(4)), 1)]
    assert "the whole stream" in report.text()


async def test_a_topic_made_anew_has_lost_every_stream() -> None:
    place = await busy_place()
    anchors = anchors_of(place)
    place.log.delete(EVENTS)
    await place.open()
    assert sorted(where(await verify_log(place.log, EVENTS, anchors))) == sorted((stream, 1) for stream in anchors)


@pytest.mark.parametrize("part", ["value", "header", "chain"])
async def test_an_altered_record_breaks_its_stream_there(part: str) -> None:
    place = await busy_place()
    anchors, held = anchors_of(place), partition_of(place.log, agent(4))
    position = [i for i, record in enumerate(held.records) if record.key == agent(4).encode()][2]
    held.records[position] = altered(held.records[position], part)
    report = await verify_log(place.log, EVENTS, anchors)
    assert where(report) == [(str(agent(4)), 3)]
    assert report.breaks[0].offset == held.records[position].offset


def altered(record: Record, part: str) -> Record:
    headers = tuple(
        (name, content.upper() if part == "chain" and name == "ce_chain" else content)
        for name, content in record.headers
    )
    if part == "header":
        headers = tuple((name, b"user:eve" if name == "ce_actor" else content) for name, content in headers)
    value = (record.value or b"") + b" " if part == "value" else record.value
    return Record(EVENTS, record.partition, record.offset, record.at_ms, record.key, value, headers)


async def test_a_history_made_anew_with_good_chains_differs_from_its_anchor() -> None:
    place = await Place().open()
    await place.say(agent(0), 4)
    anchors = anchors_of(place)
    place.log.delete(EVENTS)
    await place.open()
    await place.put(agent(0), drafts(agent(0), 6, name="Forged")[0])
    assert where(await verify_log(place.log, EVENTS, anchors)) == [(str(agent(0)), 4)]


async def test_without_anchors_what_does_not_continue_is_doubtful() -> None:
    place = await Place().open()
    await place.say(agent(0), 2)
    await place.put(agent(0), drafts(agent(0), 1, head=Head(7, b"\x01" * 32))[0])
    report = await verify_log(place.log, EVENTS)
    assert report.ok
    assert [(found.stream, found.sequence) for found in report.doubtful] == [(str(agent(0)), 3)]
    assert report.text().startswith("note: ")


async def test_a_log_that_lost_its_beginning_says_so() -> None:
    place = await Place().open()
    await place.say(agent(0), 3)
    held = partition_of(place.log, agent(0))
    partition = held.records[0].partition
    anchors = anchors_of(place)
    place.log.truncate(EVENTS, partition, 2)
    report = await verify_log(place.log, EVENTS, anchors)
    assert where(report) == [(str(agent(0)), 1), (None, None)]


async def test_gaps_between_offsets_are_no_breaks() -> None:
    place = await Place().open()
    await place.say(agent(0), 3)
    place.log.skip(EVENTS, partition_of(place.log, agent(0)).records[0].partition, 5)
    await place.say(agent(0), 3)
    assert (await verify_log(place.log, EVENTS, anchors_of(place))).ok


async def test_progress_reaches_the_number_of_records() -> None:
    place, seen = await busy_place(), list[tuple[int, int]]()
    await verify_log(place.log, EVENTS, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (40, 40)


async def test_a_log_that_ends_with_a_gap_is_read_to_its_end() -> None:
    """As it does after a transaction: its last offset has a mark that nobody is given."""
    place = await busy_place()
    for partition in range(PARTITIONS):
        place.log.skip(EVENTS, partition, 1)
    async with asyncio.timeout(10):
        assert (await verify_log(place.log, EVENTS, anchors_of(place))).ok
        held = await place.log.bounds(EVENTS, 0)
        spans = [records async for records in read_span(place.log, EVENTS, 0, held)]
    assert spans[-1][-1].offset == held.end - 2
