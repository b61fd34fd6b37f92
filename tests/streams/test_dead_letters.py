import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DecodeError
from streams.dead_letters import dead_letter, parse, send_dead_letter
from streams.kafka import KafkaLog
from streams.kafka_topics import create_definitions
from streams.log import Draft, Record
from streams.memory_log import MemoryLog
from streams.topics import DEAD_LETTERS, MIB, definitions

names = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["dl_id", "dl_h_dl_id", "dl_", "ce_id"])
records = st.builds(
    Record,
    topic=st.sampled_from(["module.events", "ai.commands"]),
    partition=st.integers(0, 31),
    offset=st.integers(0, 2**62),
    at_ms=st.integers(0, 2**41),
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary(max_size=50),
    headers=st.lists(st.tuples(names, st.binary(max_size=20)), max_size=6).map(tuple),
)


def stored(draft: Draft) -> Record:
    return Record(DEAD_LETTERS, 0, 0, 0, draft.key, draft.value, draft.headers)


@given(records, st.text(), st.integers(0, 2**41))
def test_a_dead_letter_gives_back_the_exact_record_whatever_its_headers(record: Record, error: str, at_ms: int) -> None:
    letter = parse(stored(dead_letter(record, error, at_ms=at_ms)))
    assert letter.original() == Draft(record.key, record.value, record.headers)
    assert (letter.topic, letter.partition, letter.offset) == (record.topic, record.partition, record.offset)
    assert letter.id == f"{record.topic}/{record.partition}/{record.offset}"
    assert letter.at_ms == at_ms


@given(records)
def test_a_dead_letter_of_a_dead_letter_unwraps_one_by_one(record: Record) -> None:
    once = stored(dead_letter(record, "first", at_ms=1))
    twice = parse(stored(dead_letter(once, "second", at_ms=2)))
    assert twice.error == "second"
    assert parse(stored(twice.original())).original() == Draft(record.key, record.value, record.headers)


def test_the_reason_is_kept_and_cut() -> None:
    letter = parse(stored(dead_letter(Record("t", 0, 1, 0, None, None, ()), "x" * 9_999 + "\ud800", at_ms=0)))
    assert letter.error == "x" * 2_000


@pytest.mark.parametrize("headers", [(), (("dl_id", b"t/0/1"),), (("dl_offset", b"many"),)])
def test_what_is_no_dead_letter_is_said_so(headers: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(DecodeError, match="no dead letter"):
        parse(Record(DEAD_LETTERS, 0, 0, 0, None, None, headers))


async def test_poison_of_any_kind_reaches_the_dead_letters() -> None:
    log = MemoryLog()
    log.create(definitions(), 1)
    poison = Record("module.events", 0, 7, 0, b"\xff", b'{"a": NaN, "b": "\\ud800"}', (("ce_id", b"\xff\xfe"),))
    await send_dead_letter(log, poison, "not JSON")
    await send_dead_letter(log, poison, "not JSON")
    letters = [parse(record) for record in log.records(DEAD_LETTERS)]
    assert {letter.id for letter in letters} == {"module.events/0/7"}
    assert letters[0].original() == Draft(poison.key, poison.value, poison.headers)


async def test_the_largest_record_of_any_topic_fits_in_kafka(kafka_log: KafkaLog) -> None:
    await create_definitions(kafka_log, definitions(), partitions=4, replication_factor=1)
    largest = os.urandom(2 * MIB)
    record = Record("ai.commands", 3, 5, 0, None, largest, (("raw", os.urandom(1000)),))
    place = await send_dead_letter(kafka_log, record, "too odd")
    empty = await send_dead_letter(kafka_log, Record("ai.commands", 3, 6, 0, None, None, ()), "empty")
    for at, expected in ((place, largest), (empty, None)):
        async with kafka_log.reader(DEAD_LETTERS, {at.partition: at.offset}) as reader:
            (found, *_) = await reader.poll(timeout_s=20)
        assert parse(found).value == expected


@pytest.mark.parametrize(
    "record",
    [
        Record("ai.commands", 3, 5, 0, b"k" * 5_000, b"v" * 10 * MIB, (("ce_id", b"1"),)),
        Record("ai.commands", 3, 5, 0, None, None, (("a", b""),) * 300_000),
    ],
    ids=["a value that its producer compressed", "very many headers"],
)
async def test_what_is_too_large_for_a_letter_is_cut_and_said_so(record: Record) -> None:
    log = MemoryLog()
    log.create(definitions(), 1)
    await send_dead_letter(log, record, "not JSON")
    (letter,) = [parse(r) for r in log.records(DEAD_LETTERS)]
    assert (letter.id, letter.error, letter.headers) == ("ai.commands/3/5", "not JSON", ())
    assert (record.value or b"").startswith(letter.value or b"")
    assert letter.cut is not None
    assert f"{len(record.value or b'')} of value, {len(record.headers)} headers" in letter.cut


@pytest.mark.parametrize(("name", "told"), [("dl_partition", b"-1"), ("dl_offset", b"1" + b"0" * 30)])
def test_a_place_that_no_log_has_is_no_dead_letter(name: str, told: bytes) -> None:
    draft = dead_letter(Record("t", 0, 1, 0, None, None, ()), "why", at_ms=0)
    headers = tuple((n, told if n == name else content) for n, content in draft.headers)
    with pytest.raises(DecodeError, match="no dead letter"):
        parse(Record(DEAD_LETTERS, 0, 0, 0, None, None, headers))
