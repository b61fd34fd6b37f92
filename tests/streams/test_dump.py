"""A dump shows by itself whether it is whole, and where it is not."""

import asyncio
import functools
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import streams.dump
from streams.chain import Head, Heads
from streams.dump import verify_dump
from streams.dump_lines import decode_record, encode_record
from streams.log import Draft, Record
from streams.topics import EVENTS
from streams.verify import Report, verify_log
from tests.streams.dumps import Place, agent, busy_place, drafts


class Line(NamedTuple):
    """A line of the dump. `due`: no copy and no rival's record can take its place in its stream."""

    raw: bytes
    record: Record
    sequence: int | None
    due: bool


@functools.cache
def dump() -> bytes:
    """A dump of five streams with all that is legitimate in it: copies, forks, records ahead."""

    async def make() -> bytes:
        return await (await busy_place()).dump()

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(make())
    finally:
        loop.close()


@functools.cache
def lines() -> list[Line]:
    found = []
    heads: dict[int, Heads] = {}
    raws = dump().splitlines(keepends=True)[:-1]
    for raw in raws:
        record = decode_record(raw, EVENTS)
        counts = heads.setdefault(record.partition, Heads()).admit(record)
        sequence = int(record.header("ce_sequence") or 0) or None
        rivals = sum(record.key == r.key and record.header("ce_sequence") == r.header("ce_sequence") for r in decoded())
        found.append(Line(raw, record, sequence, counts and rivals == 1))
    return found


@functools.cache
def decoded() -> list[Record]:
    return [decode_record(raw, EVENTS) for raw in dump().splitlines(keepends=True)[:-1]]


def footer() -> bytes:
    return dump().splitlines(keepends=True)[-1]


def check(raw: bytes) -> Report:
    return verify_dump(io.BytesIO(raw))


def check_lines(*raws: bytes) -> Report:
    return check(b"".join(raws))


def streams_of(report: Report) -> set[tuple[str | None, int | None]]:
    return {(found.stream, found.sequence) for found in report.breaks}


def places_of(report: Report) -> set[tuple[int | None, int | None]]:
    return {(found.partition, found.offset) for found in report.breaks}


def name(line: Line) -> tuple[str, int | None]:
    return (line.record.key or b"").decode(), line.sequence


def place(line: Line) -> tuple[int, int]:
    return line.record.partition, line.record.offset


def test_a_dump_with_rivals_records_is_whole() -> None:
    report = check(dump())
    assert report.breaks == ()
    assert report.text() == "verify: OK (33 events, 5 streams; 4 records that don't count)"
    assert (report.records, report.events, report.ignored, report.streams) == (40, 33, 4, 5)
    assert any(not line.due for line in lines() if line.record.key)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_altered_byte_is_found(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(dump()) - 1))
    byte = data.draw(st.integers(0, 255))
    assume(byte != dump()[at])
    assert not check(dump()[:at] + bytes([byte]) + dump()[at + 1 :]).ok


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_an_altered_byte_of_a_key_header_or_value_names_its_stream_and_sequence(data: st.DataObject) -> None:
    number = data.draw(st.sampled_from([i for i, line in enumerate(lines()) if line.due]))
    line = lines()[number]
    at = data.draw(st.integers(line.raw.index(b'"key"'), len(line.raw) - 1))
    byte = data.draw(st.integers(0, 255))
    assume(byte != line.raw[at])
    raws = [other.raw for other in lines()] + [footer()]
    raws[number] = line.raw[:at] + bytes([byte]) + line.raw[at + 1 :]
    assert name(line) in streams_of(check_lines(*raws))


def test_every_byte_of_the_footer_is_checked() -> None:
    body, last = dump()[: -len(footer())], footer()
    for at in range(len(last)):
        altered = last[:at] + bytes([last[at] ^ (1 << at % 8)]) + last[at + 1 :]
        assert not check(body + altered).ok, altered


def test_a_record_that_is_gone_is_named() -> None:
    for number, line in enumerate(lines()):
        raws = [other.raw for other in lines()]
        report = check_lines(*raws[:number], *raws[number + 1 :], footer())
        assert place(line) in places_of(report) or report.breaks[0].partition == line.record.partition
        if line.due:
            assert name(line) in streams_of(report)
        else:
            assert (None, None) in streams_of(report)


def test_two_swapped_records_are_found() -> None:
    for i, first in enumerate(lines()):
        for j in range(i + 1, len(lines())):
            second = lines()[j]
            raws = [line.raw for line in lines()]
            raws[i], raws[j] = raws[j], raws[i]
            report = check_lines(*raws, footer())
            assert {place(first), place(second)} & places_of(report), (i, j, report.text())
            if first.due and second.due and first.record.key == second.record.key:
                assert first.sequence is not None
                assert (name(first)[0], first.sequence + 1) in streams_of(report)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_file_cut_at_any_byte_tells_after_which_record_it_ends(data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(dump()) - 1))
    report = check(dump()[:end])
    assert not report.ok
    read, left = 0, None
    heads: dict[int, Heads] = {}
    for line in lines():
        read += len(line.raw)
        if read - 1 <= end and heads.setdefault(line.record.partition, Heads()).admit(line.record):
            left = name(line)
    assert (left or (None, None)) in streams_of(report)
    assert len(report.breaks) == 1


def test_a_lost_tail_shows_by_the_footer() -> None:
    last = [line for line in lines() if line.due][-1]
    kept = [line.raw for line in lines() if line is not last]
    assert streams_of(check_lines(*kept, footer())) == {name(last), (None, None)}


def test_a_lost_stream_is_missing_from_its_first_record_on() -> None:
    stream = agent(3)
    kept = [line.raw for line in lines() if line.record.key != stream.encode()]
    report = check_lines(*kept, footer())
    assert (stream, 1) in streams_of(report)
    assert "the whole stream" in report.text()


def edited(change: Callable[[dict[str, Any]], object]) -> Report:
    told = json.loads(footer())
    change(told["footer"])
    altered = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    return check_lines(*(line.raw for line in lines()), altered)


def test_an_altered_footer_names_the_stream_it_is_wrong_about() -> None:
    stream, length = str(agent(2)), 7
    assert (stream, length + 1) in streams_of(edited(lambda told: told["heads"][stream].update(sequence=length + 1)))
    assert (stream, length) in streams_of(edited(lambda told: told["heads"][stream].update(sequence=length - 1)))
    assert (stream, length) in streams_of(edited(lambda told: told["heads"][stream].update(chain="0" * 64)))
    assert (stream, 1) in streams_of(edited(lambda told: told["heads"].pop(stream)))
    assert (str(agent(9)), 1) in streams_of(edited(lambda t: t["heads"].update({agent(9): t["heads"][stream]})))
    assert "the footer is what is wrong" in edited(lambda told: told["heads"].pop(stream)).text()


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(topic="ai.others"),
        lambda told: told.update(records=41),
        lambda told: told.update(format=2),
        lambda told: told.update(sha256="0" * 64),
        lambda told: told.update(more=1),
        lambda told: told.pop("heads"),
        lambda told: told["partitions"]["0"].update(log_id=None),
        lambda told: told["partitions"]["0"].update(start=1),
        lambda told: told["partitions"]["1"].update(end=99),
        lambda told: told["partitions"].pop("2"),
        lambda told: told["partitions"].update({"7": {"log_id": None, "start": 0, "end": 0}}),
    ],
)
def test_every_other_field_of_the_footer_is_checked(change: Callable[[dict[str, Any]], object]) -> None:
    assert not edited(change).ok


def test_what_follows_the_footer_is_found() -> None:
    assert not check(dump() + lines()[3].raw).ok
    assert not check(dump() + footer()).ok
    assert not check(dump() + b"\n").ok


@pytest.mark.parametrize("raw", [b"", b"\n", b"hello\n", b"[" * 100_000, b'{"footer":{}}\n', b"null\n", b"\xff\xfe"])
def test_what_is_no_dump_is_broken_and_no_crash(raw: bytes) -> None:
    assert not check(raw).ok


def test_a_footer_forged_with_its_records_shows_by_the_anchors() -> None:
    anchors = {str(agent(1)): (3, b"\x00" * 32)}
    report = verify_dump(io.BytesIO(dump()), anchors)
    assert streams_of(report) == {(str(agent(1)), 3)}


async def test_an_older_dump_than_its_anchors_is_whole() -> None:
    place = await busy_place()
    raw = await place.dump()
    await place.say(agent(0), 3)
    anchors = {str(name): (head.sequence, head.chain) for name, head in place.heads.items()}
    assert verify_dump(io.BytesIO(raw), anchors).ok


async def test_the_same_log_gives_the_same_bytes() -> None:
    place = await busy_place()
    assert await place.dump() == await place.dump()


async def test_a_stream_in_two_partitions_is_found() -> None:
    place = await busy_place()
    made, _ = drafts(agent(0), 1)
    home = next(record.partition for record in place.log.records(EVENTS) if record.key == made[0].key)
    await place.log.append(EVENTS, (home + 1) % 3, made)
    assert (str(agent(0)), 1) in streams_of(check(await place.dump()))


async def test_progress_reaches_the_number_of_records() -> None:
    place, seen = await busy_place(), list[tuple[int, int]]()
    async for _ in streams.dump.dump_log(place.log, progress=lambda done, total: seen.append((done, total))):
        pass
    assert seen[-1] == (40, 40)


keys = st.none() | st.binary(max_size=20) | st.text(max_size=10).map(lambda text: text.encode("utf-8", "ignore"))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)


@settings(deadline=None)
@given(keys, keys, st.lists(st.tuples(names, st.binary(max_size=20)), max_size=4))
def test_any_record_comes_back_byte_for_byte(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    record = Record(EVENTS, 3, 7, 1_769_247_000_000, key, value, tuple(headers))
    line = encode_record(record)
    assert line.count(b"\n") == 1
    assert decode_record(line, EVENTS) == record


operations = st.lists(
    st.tuples(st.sampled_from(["say", "rival", "ahead", "garbage"]), st.integers(0, 3), st.integers(1, 3)), max_size=12
)


async def perform(place: Place, kind: str, number: int, count: int) -> None:
    stream, head = agent(number), place.heads.get(agent(number), Head())
    match kind:
        case "say":
            await place.say(stream, count)
        case "rival" if head.sequence > 0:
            await place.rival(stream, count, after=max(0, head.sequence - count))
        case "ahead":
            await place.put(stream, drafts(stream, count, head=Head(30 + count, b"\x07" * 32))[0])
        case _:
            await place.put(stream, [Draft(stream.encode(), b"\xff", (("ce_sequence", b"x"),)), Draft(b"\xff", None)])


@settings(deadline=None, max_examples=60)
@given(operations)
def test_whatever_rivals_write_nothing_is_reported_as_broken(done: list[tuple[str, int, int]]) -> None:
    async def work() -> None:
        place = await Place().open()
        for kind, number, count in done:
            await perform(place, kind, number, count)
        anchors = {str(stream): (head.sequence, head.chain) for stream, head in place.heads.items()}
        for report in (
            verify_dump(io.BytesIO(await place.dump()), anchors),
            await verify_log(place.log, EVENTS, anchors),
        ):
            assert report.breaks == ()
            assert report.streams == len(place.heads)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work())
    finally:
        loop.close()


@pytest.fixture
def bare_house(tmp_path: Path) -> Path:
    """A machine with Python and the folder `streams`, and nothing else."""
    shutil.copytree(Path(streams.dump.__file__).parent, tmp_path / "streams")
    return tmp_path


def run_bare(house: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-S", "-E", "-m", "streams.dump", *arguments]
    return subprocess.run(command, cwd=house, input=stdin, capture_output=True, check=False)


def test_python_and_this_folder_are_enough_to_check_one(bare_house: Path) -> None:
    (bare_house / "dump.jsonl").write_bytes(dump())
    whole = run_bare(bare_house, "dump.jsonl")
    assert (whole.returncode, whole.stderr) == (0, b"")
    assert whole.stdout.startswith(b"verify: OK (33 events, 5 streams")
    broken = run_bare(bare_house, "-", "--json", stdin=dump()[:-1000])
    assert broken.returncode == 1
    assert json.loads(broken.stdout)["breaks"][0]["sequence"]
    missing = run_bare(bare_house, "no.jsonl")
    assert (missing.returncode, missing.stdout) == (2, b"")
    assert missing.stderr.count(b"\n") == 1
