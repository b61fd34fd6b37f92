from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.chain import CHAIN, GENESIS, NO_HEAD, SEQUENCE, Head, Heads, judge, link, stamp
from streams.log import Headers, Record

KEY = b"0f8fad5b-d9cb-869f-8165-70867728950e"

header_names = st.text(st.characters(codec="utf-8"), max_size=10).filter(lambda name: name not in (CHAIN, SEQUENCE))
contents = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20), st.lists(st.tuples(header_names, st.binary(max_size=10)), max_size=4)
    ),
    min_size=1,
    max_size=6,
)
sample = Record(
    "ai.events", 0, 0, 0, KEY, b'{"name":"x"}', (("ce_id", b"1"), ("ce_type", b"ai.agent.created"), ("empty", b""))
)


def chained(record: Record, head: Head) -> tuple[Record, Head]:
    """The record with the sequence and chain that follow `head`."""
    sequence = head.sequence + 1
    headers = (*record.headers, (SEQUENCE, b"%d" % sequence))
    chain = link(head.chain, record.key, headers, record.value)
    return record._replace(headers=(*headers, (CHAIN, chain.hex().encode()))), Head(sequence, chain)


def stream(bodies: list[tuple[bytes | None, list[tuple[str, bytes]]]]) -> list[Record]:
    records, head = [], NO_HEAD
    for offset, (value, headers) in enumerate(bodies):
        record, head = chained(Record("ai.events", 0, offset, 0, KEY, value, tuple(headers)), head)
        records.append(record)
    return records


FIRST, FIRST_HEAD = chained(sample, NO_HEAD)


def test_the_chain_is_a_fixed_function_of_the_bytes() -> None:
    # By hand: sha256 over length-prefixed previous chain, key, sorted headers, value. Never to change.
    assert FIRST_HEAD.chain.hex() == "c7ee54f26f0fca9fee4268e946dfec4d4197819535bb29b251fef04975ab1e55"


def test_the_order_of_headers_and_the_chain_s_own_header_don_t_matter() -> None:
    headers = FIRST.headers
    assert link(GENESIS, KEY, headers, FIRST.value) == FIRST_HEAD.chain
    assert link(GENESIS, KEY, headers[::-1], FIRST.value) == FIRST_HEAD.chain


def test_absent_and_empty_are_not_the_same() -> None:
    links = {link(GENESIS, key, (), value) for key in (None, b"") for value in (None, b"")}
    assert len(links) == 4


@given(st.binary(max_size=6), st.binary(max_size=6), st.binary(max_size=6), st.binary(max_size=6))
def test_bytes_can_t_move_from_one_field_to_the_next(a: bytes, b: bytes, c: bytes, d: bytes) -> None:
    if (a, b) != (c, d):
        assert link(GENESIS, a, (), b) != link(GENESIS, c, (), d)
        assert link(GENESIS, None, (("n", a), ("o", b)), None) != link(GENESIS, None, (("n", c), ("o", d)), None)


def altered_bytes(raw: bytes, flips: tuple[int, ...] = (0x01, 0x20, 0x80)) -> Iterator[bytes]:
    for place in range(len(raw)):
        for flip in flips:
            yield raw[:place] + bytes([raw[place] ^ flip]) + raw[place + 1 :]
    for place in range(len(raw) + 1):
        yield raw[:place] + b"\x00" + raw[place:]
    for place in range(len(raw)):
        yield raw[:place] + raw[place + 1 :]


def alterations(record: Record) -> Iterator[Record]:
    """The record with each single byte changed, added or removed, and each header dropped, doubled or renamed."""
    for key in altered_bytes(record.key or b""):
        yield record._replace(key=key)
    for value in altered_bytes(record.value or b""):
        yield record._replace(value=value)
    yield record._replace(value=None)
    for place, (name, content) in enumerate(record.headers):
        before, after = record.headers[:place], record.headers[place + 1 :]
        yield record._replace(headers=before + after)
        yield record._replace(headers=(*before, (name + "x", content), *after))
        for changed in altered_bytes(content, (0x01, 0x80) if name == CHAIN else (0x01, 0x20, 0x80)):
            yield record._replace(headers=(*before, (name, changed), *after))
        if name != CHAIN:
            yield record._replace(headers=(*record.headers, (name, content)))
    yield record._replace(headers=(*record.headers, ("added", b"")))


def test_every_single_alteration_of_a_record_is_seen() -> None:
    verdicts = [judge(NO_HEAD, altered)[0] for altered in alterations(FIRST)]
    assert len(verdicts) > 600
    assert "counts" not in verdicts


def test_a_chain_in_capitals_is_seen() -> None:
    upper = tuple((name, content.upper() if name == CHAIN else content) for name, content in FIRST.headers)
    assert judge(NO_HEAD, FIRST._replace(headers=upper))[0] == "fork"


def test_a_second_chain_header_is_seen() -> None:
    added = FIRST._replace(headers=((CHAIN, b"anything at all"), *FIRST.headers))
    assert judge(NO_HEAD, added)[0] == "fork"


@given(contents, st.data())
def test_a_stream_counts_as_a_whole_and_not_with_a_record_less_or_swapped(
    bodies: list[tuple[bytes | None, list[tuple[str, bytes]]]], data: st.DataObject
) -> None:
    records = stream(bodies)
    heads = Heads()
    assert all(heads.admit(record) for record in records)
    assert heads.get(KEY).sequence == len(records)
    dropped = data.draw(st.integers(0, len(records) - 1))
    rest = records[:dropped] + records[dropped + 1 :]
    less = Heads()
    assert [less.admit(record) for record in rest] == [True] * dropped + [False] * (len(rest) - dropped)
    assert less.ignored == len(rest) - dropped


@given(contents, st.integers(0, 5), st.integers(1, 3))
def test_copies_are_ignored_wherever_they_stand(
    bodies: list[tuple[bytes | None, list[tuple[str, bytes]]]], start: int, times: int
) -> None:
    records = stream(bodies)
    copies = records[start:] * times
    heads = Heads()
    assert [heads.admit(r) for r in (*records, *copies)] == [True] * len(records) + [False] * len(copies)


def test_what_a_record_is_to_a_stream_is_told_apart() -> None:
    second, head = chained(sample, FIRST_HEAD)
    other, _ = chained(sample._replace(value=b"another decision"), NO_HEAD)
    assert judge(NO_HEAD, FIRST) == ("counts", FIRST_HEAD)
    assert judge(FIRST_HEAD, FIRST) == ("behind", FIRST_HEAD)
    assert judge(NO_HEAD, second) == ("ahead", NO_HEAD)
    assert judge(FIRST_HEAD, second) == ("counts", head)
    assert judge(Head(0, b"\x01" * 32), FIRST)[0] == "fork"
    assert judge(FIRST_HEAD, other)[0] == "behind"


def test_streams_don_t_mix() -> None:
    heads = Heads()
    theirs, _ = chained(sample._replace(key=b"another"), NO_HEAD)
    assert heads.admit(FIRST)
    assert heads.admit(theirs)
    assert heads.as_dict().keys() == {KEY, b"another"}
    assert heads.get(b"nobody") == NO_HEAD


def test_reading_goes_on_from_the_heads_of_an_offset() -> None:
    second, head = chained(sample, FIRST_HEAD)
    resumed = Heads({KEY: FIRST_HEAD})
    assert not resumed.admit(FIRST)
    assert resumed.admit(second)
    assert resumed.as_dict() == {KEY: head}


def test_a_record_without_a_key_is_no_stream_s_and_not_counted_as_ignored() -> None:
    heads = Heads()
    assert not heads.admit(FIRST._replace(key=None))
    assert heads.ignored == 0


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((SEQUENCE, b"1"),),
        ((CHAIN, b"a" * 64),),
        ((SEQUENCE, b"-1"), (CHAIN, b"a" * 64)),
        ((SEQUENCE, b"one"), (CHAIN, b"a" * 64)),
        ((SEQUENCE, b""), (CHAIN, b"a" * 64)),
        ((SEQUENCE, b"1"), (CHAIN, b"g" * 64)),
        ((SEQUENCE, b"1"), (CHAIN, b"\xff" * 64)),
        ((SEQUENCE, b"1"), (CHAIN, b"a" * 63)),
    ],
)
def test_a_malformed_stamp_is_none(headers: Headers) -> None:
    assert stamp(headers) is None
    assert judge(NO_HEAD, sample._replace(headers=headers)) == ("fork", NO_HEAD)


def test_a_number_that_python_refuses_to_read_is_no_sequence() -> None:
    endless = Record("t", 0, 0, 0, b"k", b"v", ((SEQUENCE, b"9" * 5_000), (CHAIN, b"0" * 64)))
    assert stamp(endless.headers) is None
    assert judge(NO_HEAD, endless) == ("fork", NO_HEAD)
    assert not Heads().admit(endless)
