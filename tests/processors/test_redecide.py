"""Deciding again gives every byte that stands in the log, and finds each that does not follow from the commands."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.runtime import decision as deciding
from processors.runtime.redecide import Redecided
from processors.runtime.stream import Stream, decide
from schemas.commands import RecordThought, ResolveApproval
from schemas.envelope import CommandEnvelope
from schemas.events import CommandRejected, Event, ExecutionCompleted, ExecutionStarted
from streams.log import Headers, Record
from tests.processors.asks import (
    activate,
    cancel,
    context,
    create,
    deactivate,
    start,
    thought,
)
from tests.processors.random_asks import Said, stories
from tests.processors.samples import USER
from tests.processors.told import Told, active, redecided, whole_run

bounded = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)


def is_identical(found: Redecided) -> bool:
    return not found.differences and all(found.runs.values())


def test_a_whole_run_is_identical() -> None:
    told = whole_run()
    found = redecided(told.commands, told.records())
    assert is_identical(found)
    assert found.runs == {event.execution_id: True for event in told.all(ExecutionStarted)}
    assert (found.commands, found.events) == (len(told.commands), len(told.drafts))
    assert (found.given, found.pending, found.internal, found.dead_letters) == (0, 0, 0, 0)


@bounded
@given(stories)
def test_any_story_is_identical(story: list[Said]) -> None:
    told = active().tell(story)
    found = redecided(told.commands, told.records())
    assert is_identical(found)
    assert found.events == len(told.drafts)
    assert len(found.runs) == len(told.all(ExecutionStarted))


@bounded
@given(stories, st.data())
def test_what_a_rival_wrote_changes_nothing(story: list[Said], data: st.DataObject) -> None:
    told = active().tell(story)
    records = told.records()
    for _ in range(3):
        copied = data.draw(st.integers(0, len(records) - 1))
        records.insert(data.draw(st.integers(copied + 1, len(records))), records[copied])
    assert is_identical(redecided(told.commands, records))


@bounded
@given(stories, st.data())
def test_where_the_first_commands_are_gone_the_rest_is_decided_from_the_events_before(
    story: list[Said], data: st.DataObject
) -> None:
    told = active().tell(story)
    first = data.draw(st.integers(1, len(told.commands)))
    found = redecided(told.commands, told.records(), first)
    assert is_identical(found)
    assert found.starts == {0: first}
    assert found.given + found.events == len(told.drafts)


def test_commands_that_are_not_decided_yet_are_no_difference() -> None:
    told = whole_run()
    found = redecided(told.commands, told.records()[:-3])
    assert (is_identical(found), found.pending) == (True, 1)


# --- internal -------------------------------------------------------------------------------------------------------


def test_what_was_decided_as_internal_is_taken_as_given() -> None:
    told = active().given(start(), context())
    told.fail(thought())
    told = told.given(start("t2"))
    told.fail(start("t3"))
    told.fail(cancel(), USER)
    found = redecided(told.commands, told.records())
    assert (is_identical(found), found.internal) == (True, 3)


def test_a_changed_byte_is_found_in_what_was_decided_as_internal_too() -> None:
    told = active()
    told.fail(start())
    records = told.records()
    records[-1] = records[-1]._replace(value=(records[-1].value or b"").replace(b"see", b"sea"))
    (difference,) = redecided(told.commands, records).differences
    assert difference.offset == len(records) - 1


# --- changed bytes --------------------------------------------------------------------------------------------------

RUN = whole_run()
PARTS = ["key", "value", *(name for name, _ in RUN.drafts[0].headers)]


def flipped(raw: bytes | None) -> bytes:
    assert raw
    return raw[:-1] + bytes([raw[-1] ^ 1])


def altered(record: Record, part: str) -> Record:
    if part == "key":
        return record._replace(key=flipped(record.key))
    if part == "value":
        return record._replace(value=flipped(record.value))
    headers: Headers = tuple((name, flipped(raw) if name == part else raw) for name, raw in record.headers)
    return record._replace(headers=headers)


@pytest.mark.parametrize("part", PARTS)
def test_a_flipped_byte_is_found_and_located_and_nothing_else_differs(part: str) -> None:
    for offset in range(len(RUN.drafts)):
        records = RUN.records()
        records[offset] = altered(records[offset], part)
        found = redecided(RUN.commands, records)
        (difference,) = found.differences
        assert (difference.offset, difference.sequence) == (offset, offset + 1)
        assert part in difference.part
        assert difference.expected != difference.found
        assert len(found.runs) == 2
        assert list(found.runs.values()).count(False) <= 1


def test_a_header_out_of_its_order_is_found() -> None:
    records = RUN.records()
    headers = records[5].headers
    records[5] = records[5]._replace(headers=(headers[1], headers[0], *headers[2:]))
    (difference,) = redecided(RUN.commands, records).differences
    assert (difference.offset, difference.part) == (5, "headers")


def test_a_lost_record_is_found() -> None:
    records = RUN.records()
    lost = records.pop(7)
    differences = redecided(RUN.commands, records).differences
    assert (differences[0].sequence, differences[0].offset, differences[0].found) == (8, None, "none")
    assert (lost.header("ce_id") or b"?").decode() in differences[0].expected
    assert len(differences) == 1


def test_an_event_that_follows_from_no_command_is_found() -> None:
    told = whole_run()
    told.commands[-1] = told.commands[-1]._replace(value=b"{}")
    found = redecided(told.commands, told.records())
    assert found.dead_letters == 1
    assert {difference.expected for difference in found.differences} == {"none"}
    assert "approval.resolved" in found.differences[0].found


def test_an_event_too_many_is_found() -> None:
    told = active()
    envelope = told.envelope(start())
    at_ms = envelope.at_ms
    more = CommandRejected(command="x", reason="x", message="x")
    told.apply(envelope, [*decide(told.stream, envelope, at_ms), more], at_ms)
    (difference,) = redecided(told.commands, told.records()).differences
    assert (difference.part, difference.expected, difference.offset) == ("record", "none", 3)


# --- another decider ------------------------------------------------------------------------------------------------


def test_a_decider_that_decides_otherwise_is_found_and_what_follows_is_compared_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def politely(stream: Stream, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
        events = decide(stream, envelope, at_ms)
        if isinstance(envelope.command, RecordThought):
            return [e.model_copy(update={"result": "!"}) if isinstance(e, ExecutionCompleted) else e for e in events]
        return events

    monkeypatch.setattr(deciding, "decide", politely)
    found = redecided(RUN.commands, RUN.records())
    (difference,) = found.differences
    assert difference.part.startswith("value")
    assert '"result":"!"' in difference.expected
    assert '"result":"Done."' in difference.found
    assert sorted(found.runs.values()) == [False, True]


def test_a_decider_that_fails_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(stream: Stream, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
        if isinstance(envelope.command, ResolveApproval):
            raise ZeroDivisionError
        return decide(stream, envelope, at_ms)

    monkeypatch.setattr(deciding, "decide", fails)
    found = redecided(RUN.commands, RUN.records())
    assert ["ZeroDivisionError" in difference.expected for difference in found.differences] == [True, True]


def test_a_decider_that_says_more_or_less_than_before_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def quiet(stream: Stream, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
        return [e for e in decide(stream, envelope, at_ms) if not isinstance(e, CommandRejected)]

    told = active().given(create(), actor=USER).given(deactivate(), actor=USER)
    with monkeypatch.context() as patched:
        patched.setattr(deciding, "decide", quiet)
        (difference,) = redecided(told.commands, told.records()).differences
        assert difference.expected == "none"
    silent = Told()
    monkeypatch.setattr("tests.processors.spec.decide", quiet)
    silent = silent.given(create()).given(create(), actor=USER).given(activate())
    (difference,) = redecided(silent.commands, silent.records()).differences
    assert "ai.command.rejected" in difference.expected
