"""One contract, two logs: what holds on Kafka holds in memory, word for word. Groups have their own file."""

import asyncio
import os

import pytest

from schemas.errors import LogTruncatedError, NotFoundError, RecordTooLargeError
from streams.log import Bounds, Draft
from streams.topics import MIB
from tests.streams.places import Place, drafts, read

# --- writing


async def test_an_append_returns_the_offset_of_its_first_record(place: Place) -> None:
    assert await place.log.append(place.topic, 1, drafts(3)) == 0
    assert await place.log.append(place.topic, 1, drafts(2)) == 3
    assert await place.log.append(place.topic, 2, drafts(1)) == 0
    assert await place.log.bounds(place.topic, 1) == Bounds(0, 5)


async def test_what_was_appended_is_read_byte_for_byte(place: Place) -> None:
    headers = (("ce_id", b"1"), ("empty", b""), ("raw", bytes(range(256))), ("ünïcode", "é".encode()))
    written = [Draft(b"k\x00\xff", bytes(range(256)), headers), Draft(None, b"", ()), Draft(b"gone", None, headers)]
    await place.log.append(place.topic, 0, written)
    async with place.log.reader(place.topic, {0: 0}) as reader:
        found = await read(reader, 3)
    assert [Draft(r.key, r.value, r.headers) for r in found] == written
    assert [(r.topic, r.partition, r.offset) for r in found] == [(place.topic, 0, i) for i in range(3)]
    assert all(r.at_ms > 1_600_000_000_000 for r in found)


async def test_the_records_of_one_append_have_one_append_time(place: Place) -> None:
    await place.log.append(place.topic, 0, drafts(20))
    async with place.log.reader(place.topic, {0: 0}) as reader:
        assert len({record.at_ms for record in await read(reader, 20)}) == 1


async def test_concurrent_appends_to_several_partitions_all_land(place: Place) -> None:
    appends = [place.log.append(place.topic, p, drafts(5)) for p in range(4) for _ in range(10)]
    bases = await asyncio.gather(*appends)
    for partition in range(4):
        assert sorted(bases[partition * 10 : partition * 10 + 10]) == list(range(0, 50, 5))


async def test_records_sent_at_once_each_stand_where_their_sender_was_told(place: Place) -> None:
    places = await asyncio.gather(*(place.log.send(place.topic, draft, partition=3) for draft in drafts(100)))
    assert sorted(at.offset for at in places) == list(range(100))
    assert {at.partition for at in places} == {3}
    async with place.log.reader(place.topic, {3: 0}) as reader:
        found = await read(reader, 100)
    assert [found[at.offset].header("n") for at in places] == [b"%d" % i for i in range(100)]


async def test_records_sent_one_after_the_other_stand_in_that_order(place: Place) -> None:
    assert [(await place.log.send(place.topic, draft, partition=0)).offset for draft in drafts(5)] == [0, 1, 2, 3, 4]


async def test_a_key_chooses_the_same_partition_in_every_log(place: Place) -> None:
    chosen = [(await place.log.send(place.topic, Draft(key, b""))).partition for key in (b"a", b"b", b"c", b"agent-1")]
    assert chosen == [0, 0, 2, 3]


async def test_records_without_a_key_are_spread(place: Place) -> None:
    places = [await place.log.send(place.topic, Draft(None, b"x")) for _ in range(8)]
    assert {p.partition for p in places} == {0, 1, 2, 3}


async def test_a_record_may_have_neither_key_nor_value(place: Place) -> None:
    at = await place.log.send(place.topic, Draft(None, None, (("only", b"headers"),)), partition=2)
    async with place.log.reader(place.topic, {2: at.offset}) as reader:
        (record,) = await read(reader, 1)
    assert (record.key, record.value, record.headers) == (None, None, (("only", b"headers"),))


async def test_a_batch_near_the_limit_is_taken_and_read(place: Place) -> None:
    large = [Draft(b"k", os.urandom(MIB - 4096)) for _ in range(2)]
    await place.log.append(place.topic, 0, large)
    at = await place.log.send(place.topic, Draft(b"k", os.urandom(2 * MIB - 1024)), partition=0)
    async with place.log.reader(place.topic, {0: 0}) as reader:
        found = await read(reader, 3)
    assert at.offset == 2
    assert [len(r.value or b"") for r in found] == [MIB - 4096, MIB - 4096, 2 * MIB - 1024]


@pytest.mark.parametrize("content", [os.urandom(1), b"z"], ids=["hardly compressible", "compressible"])
async def test_a_batch_above_the_limit_is_refused_and_nothing_is_written(place: Place, content: bytes) -> None:
    # Refused too where compression would make it fit: the verdict must not depend on the bytes.
    too_much = [Draft(b"k", content * MIB) for _ in range(3)]
    with pytest.raises(RecordTooLargeError, match=r"3,14\d,\d+ bytes are too large for .* takes 2,097,152"):
        await place.log.append(place.topic, 0, too_much)
    with pytest.raises(RecordTooLargeError, match=r"are too large"):
        await place.log.send(place.topic, Draft(b"k", content * 3 * MIB), partition=0)
    assert await place.log.bounds(place.topic, 0) == Bounds(0, 0)


async def test_after_a_refused_size_writing_goes_on(place: Place) -> None:
    for _ in range(2):
        with pytest.raises(RecordTooLargeError):
            await place.log.append(place.topic, 0, [Draft(b"k", b"x" * 9 * MIB)])
        await place.log.append(place.topic, 0, drafts(1))
        with pytest.raises(RecordTooLargeError):
            await place.log.send(place.topic, Draft(b"k", b"x" * 9 * MIB), partition=0)
        await place.log.send(place.topic, Draft(b"k", b"x"), partition=0)
    assert await place.log.bounds(place.topic, 0) == Bounds(0, 4)


async def test_an_append_of_nothing_is_a_mistake(place: Place) -> None:
    with pytest.raises(ValueError, match="at least one record"):
        await place.log.append(place.topic, 0, [])


async def test_an_unknown_topic_says_how_to_create_it(place: Place) -> None:
    for ask in (
        lambda: place.log.append("no-such-topic", 0, drafts(1)),
        lambda: place.log.send("no-such-topic", Draft(b"k", b"v")),
        lambda: place.log.partitions("no-such-topic"),
        lambda: place.log.bounds("no-such-topic", 0),
    ):
        with pytest.raises(NotFoundError, match=r"no topic 'no-such-topic': run `dramac topics create`"):
            await ask()
    with pytest.raises(NotFoundError):
        async with place.log.reader("no-such-topic", {0: 0}):
            pass


async def test_an_unknown_partition_is_named(place: Place) -> None:
    for ask in (
        lambda: place.log.append(place.topic, 4, drafts(1)),
        lambda: place.log.send(place.topic, Draft(b"k", b"v"), partition=-1),
        lambda: place.log.bounds(place.topic, 9),
    ):
        with pytest.raises(NotFoundError, match="it has 4, counted from 0"):
            await ask()


async def test_the_number_of_partitions_is_known(place: Place) -> None:
    assert await place.log.partitions(place.topic) == 4


# --- reading


async def test_a_reader_starts_at_its_offsets_and_keeps_the_order(place: Place) -> None:
    for partition in range(4):
        await place.log.append(place.topic, partition, drafts(30))
    async with place.log.reader(place.topic, {0: 10, 2: 29}) as reader:
        found = await read(reader, 21)
    assert [r.offset for r in found if r.partition == 0] == list(range(10, 30))
    assert [r.offset for r in found if r.partition == 2] == [29]


async def test_a_reader_returns_no_more_than_was_asked_for(place: Place) -> None:
    await place.log.append(place.topic, 0, drafts(50))
    sizes: list[int] = []
    async with place.log.reader(place.topic, {0: 0}) as reader:
        while sum(sizes) < 50:
            sizes.append(len(await reader.poll(max_records=7, timeout_s=5)))
    assert max(sizes) == 7


async def test_a_reader_at_the_end_waits_for_what_comes(place: Place) -> None:
    await place.log.append(place.topic, 0, drafts(2))
    async with place.log.reader(place.topic, {0: 2}) as reader:
        assert list(await reader.poll(timeout_s=0.05)) == []
        waiting = asyncio.create_task(read(reader, 1))
        await place.log.append(place.topic, 0, drafts(1))
        assert [r.offset for r in await waiting] == [2]


async def test_a_reader_can_seek_back_and_forth(place: Place) -> None:
    await place.log.append(place.topic, 0, drafts(10))
    async with place.log.reader(place.topic, {0: 0}) as reader:
        assert [r.offset for r in await read(reader, 10)] == list(range(10))
        reader.seek(0, 4)
        assert [r.offset for r in await read(reader, 2)] == [4, 5]
        reader.seek(0, 9)
        assert [r.offset for r in await read(reader, 1)] == [9]


@pytest.mark.parametrize("wanted", [0, 6, 99])
async def test_an_offset_that_the_log_does_not_hold_is_an_error_never_a_skip(place: Place, wanted: int) -> None:
    await place.log.append(place.topic, 0, drafts(10))
    await place.truncate(place.topic, 0, 7)
    assert await place.log.bounds(place.topic, 0) == Bounds(7, 10)
    async with place.log.reader(place.topic, {0: wanted}) as reader:
        for _ in range(2):  # and it stays one
            with pytest.raises(LogTruncatedError, match=rf"offset {wanted} of '{place.topic}' partition 0 .* 7 to 10"):
                await read(reader, 1)


async def test_a_log_truncated_under_a_reader_is_an_error(place: Place) -> None:
    await place.log.append(place.topic, 0, drafts(1))
    async with place.log.reader(place.topic, {0: 0}) as reader:
        await read(reader, 1)
        for _ in range(4):
            await place.log.append(place.topic, 0, drafts(1))
        await place.truncate(place.topic, 0, 5)
        reader.seek(0, 2)
        with pytest.raises(LogTruncatedError):
            await read(reader, 1)


async def test_a_reader_that_is_closed_at_once_closes_without_an_error(place: Place) -> None:
    async with place.log.reader(place.topic, {0: 0}):
        pass
