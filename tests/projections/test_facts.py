from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.facts import TOO_DEEP, as_json, clean_text, parse, read_fact
from schemas.errors import DecodeError
from streams.log import Record
from streams.topics import EVENTS
from tests.projections.histories import Stream


def record(stream: Stream, index: int = 0) -> Record:
    draft = stream.drafts[index]
    return Record(EVENTS, 0, index, 0, draft.key, draft.value, draft.headers)


def test_a_fact_is_what_the_record_says() -> None:
    stream = Stream().created()
    fact = read_fact(record(stream, 1))
    assert (fact.wire, fact.site_id, fact.agent_id) == (b"ai.agent.activated", stream.site_id, stream.agent_id)
    assert (fact.sequence, fact.data["name"], fact.header("ce_actor")) == (2, "Greeter", "user:ann")
    assert fact.at == datetime(2026, 1, 24, 9, 29, 59, 700_000, UTC)


def test_integers_beyond_64_bits_are_not_rounded() -> None:
    assert parse(b'{"wei": 123456789012345678901}') == {"wei": 123_456_789_012_345_678_901}
    assert as_json({"wei": 123_456_789_012_345_678_901}) == '{"wei": 123456789012345678901}'


def test_a_time_before_the_calendar_begins_is_told_as_one_that_cant_be_read() -> None:
    told = record(Stream().created())
    early = tuple((n, b"0001-01-01T00:00:00+01:00" if n == "ce_time" else content) for n, content in told.headers)
    with pytest.raises(DecodeError, match="can't be read"):
        read_fact(told._replace(headers=early))


def test_nul_becomes_the_replacement_character_in_values_and_keys() -> None:
    assert parse(orjson.dumps({"a\0": ["b\0", {"c": "\0"}]})) == {"a\ufffd": ["b\ufffd", {"c": "\ufffd"}]}


def test_a_written_backslash_u0000_is_left_alone() -> None:
    assert parse(orjson.dumps({"a": r"\u0000"})) == {"a": r"\u0000"}


def test_lone_surrogates_become_the_replacement_character_and_pairs_stay() -> None:
    assert parse(rb'{"a": "x\ud800y", "b": "\ud83d\ude00", "\udc00": 1}') == {"a": "x\ufffdy", "b": "😀", "\ufffd": 1}


def test_numbers_that_json_does_not_know_become_null() -> None:
    assert parse(b'{"a": NaN, "b": [Infinity]}') == {"a": None, "b": [None]}


def test_what_is_nested_too_deeply_is_marked() -> None:
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    assert as_json(deep) == TOO_DEEP


def test_large_integers_are_kept() -> None:
    assert as_json({"a": 2**70}) == '{"a": 1180591620717411303424}'


@pytest.mark.parametrize("value", [b"[]", b"1", b"", b"{", b"\xff"])
def test_what_is_no_object_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json and we say it in different words
        parse(value)


@given(st.text(st.characters(codec=None)))
def test_cleaned_text_can_be_stored_and_clean_text_is_unchanged(text: str) -> None:
    cleaned = clean_text(text)
    assert "\0" not in cleaned
    cleaned.encode()
    assert clean_text(cleaned) == cleaned
    assert len(cleaned) <= len(text)


@pytest.mark.parametrize("header", ["ce_siteid", "ce_time", "ce_schemaversion", "ce_sequence"])
def test_a_missing_header_is_a_decode_error(header: str) -> None:
    whole = record(Stream().created())
    rest = tuple((name, value) for name, value in whole.headers if name != header)
    with pytest.raises(DecodeError, match=header):
        read_fact(Record(EVENTS, 0, 0, 0, whole.key, whole.value, rest))
