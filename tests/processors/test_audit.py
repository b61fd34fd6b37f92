"""Each invariant of the log holds of any story, and a planted violation of it is found."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from processors.runtime.audit import LogAudit
from schemas import events as ev
from schemas.chat import Usage
from schemas.events import Event
from schemas.ids import CallId, ExecutionId
from streams.audit import TOLD_VIOLATIONS, Finding
from streams.log import Record
from tests.processors.asks import activate, advance, call, cancel, context, create, start, thought
from tests.processors.random_asks import Said, stories
from tests.processors.samples import USER, config
from tests.processors.told import Told, active, whole_run

bounded = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)


def audited(
    told: Told, commands: Sequence[Record] | None = None, letters: Collection[str] | None = ()
) -> dict[str, Finding]:
    """Return what an audit of a story finds."""
    audit = LogAudit(0)
    for record in told.records():
        audit.add_event(record)
    for record in told.commands if commands is None else commands:
        audit.add_command(record, letters)
    return {finding.id: finding for finding in audit.finish()}


def claim(told: Told, *events: Event) -> Told:
    """Have events stand in the log that no decider would say; folding them may fail, so nobody does."""
    told = told.copy()
    envelope = told.envelope(cancel(), actor=USER)
    for event in events:
        told.forge(envelope, event)
    told.offset = envelope.offset + 1
    return told


def violated(found: dict[str, Finding]) -> set[str]:
    return {id_ for id_, finding in found.items() if not finding.ok}


def test_a_whole_run_is_in_order() -> None:
    found = audited(whole_run())
    assert violated(found) == set()
    assert found["I1"].counts == {"triggers": 2, "runs": 2, "live": 0}
    assert found["I6"].counts == {"replies": 4}
    assert found["I7"].counts == {"requests": 2, "results": 2, "calls": 2}


@bounded
@given(stories)
def test_any_story_is_in_order(story: list[Said]) -> None:
    assert {id_: finding.violations for id_, finding in audited(active().tell(story)).items() if not finding.ok} == {}


# --- I1 -------------------------------------------------------------------------------------------------------------


def test_a_repeated_trigger_is_no_loss() -> None:
    told = active().given(start(), start()).given(start("t2"))
    assert audited(told)["I1"].counts == {"triggers": 3, "repeated": 1, "runs": 2, "live": 2}


def test_a_trigger_that_led_to_nothing_is_found() -> None:
    told = active().given(start("t1"))
    told.envelope(start("lost"))  # it stands in the log, and nobody decided it
    told.offset += 1
    told = told.given(start("t2"))
    found = audited(told)
    assert violated(found) == {"I1"}
    assert "offset 3" in found["I1"].violations[0]
    assert "led to nothing" in found["I1"].violations[0]


def test_a_trigger_that_is_not_decided_yet_is_counted() -> None:
    told = active()
    told.envelope(start())
    found = audited(told)
    assert (violated(found), found["I1"].counts) == (set(), {"triggers": 1, "undecided": 1})


def test_a_command_for_nobody_must_be_among_the_dead_letters() -> None:
    told = active().given(start())
    told.commands[0] = told.commands[0]._replace(value=b"{")
    assert "ai.commands/0/0" in audited(told)["I1"].violations[0]
    assert audited(told, letters={"ai.commands/0/0"})["I1"].counts["dead_letters"] == 1
    assert violated(audited(told, letters={"ai.commands/0/0"})) == set()
    assert violated(audited(told, letters=None)) == set()


def ended(run_id: ExecutionId, told: Told) -> Event:
    totals = ev.RunTotals(steps=0, llm_calls=0, tool_calls=0, tokens_input=0, tokens_output=0, cost_micros=0)
    return ev.ExecutionTimedOut(
        execution_id=run_id,
        agent_id=told.stream.agent.id,
        timeout_seconds=1,
        actions_taken=(),
        tokens_used=0,
        totals=totals,
        duration_ms=1,
    )


def test_a_time_of_a_schedule_that_led_to_nothing_is_found() -> None:
    told = Told().given(create(config(triggers=("schedule:hourly",))), activate(), advance("hourly @ UTC", 1))
    assert told.lines[-2:] == ["agent.schedule_advanced", "execution.started"]
    assert violated(audited(told)) == set()
    due = told.the(ev.ScheduleAdvanced)
    assert violated(audited(claim(told, due.model_copy(update={"due_ms": due.until_ms + 1})))) == {"I1"}


def test_a_run_that_ends_twice_is_found() -> None:
    told = whole_run()
    run_id = told.all(ev.ExecutionStarted)[0].execution_id
    assert f"the run {run_id} (partition 0) has 2 ends" in audited(claim(told, ended(run_id, told)))["I1"].violations


def test_a_run_that_never_began_is_found() -> None:
    told = active()
    found = audited(claim(told, ended(ExecutionId("00000000-0000-8000-8000-000000000001"), told)))
    assert "has 0 starts" in found["I1"].violations[0]


def test_a_trigger_that_started_two_runs_is_found() -> None:
    told = active().given(start())
    again = told.the(ev.ExecutionStarted).model_copy(update={"execution_id": "00000000-0000-8000-8000-000000000001"})
    assert any("started 2 runs" in why for why in audited(claim(told, again))["I1"].violations)


def test_a_run_that_waits_for_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processors.runtime.audit.awaiting", lambda run: ())
    assert "waits for nothing" in audited(active().given(start()))["I1"].violations[0]


# --- I6 -------------------------------------------------------------------------------------------------------------


def test_a_reply_that_is_metered_twice_is_found() -> None:
    told = active().given(start(), context(), thought(reply="r1"))
    paid = ev.UsageMetered(
        execution_id=told.run_id,
        step=1,
        reply_id="r1",
        provider="p",
        model="m",
        reason="late",
        usage=Usage(),
        cost_micros=0,
        currency="USD",
        price_version=None,
    )
    found = audited(claim(told, paid))
    assert violated(found) == {"I6"}
    assert "'r1' is metered a second time" in found["I6"].violations[0]


def test_a_reply_that_is_not_metered_is_found() -> None:
    told = active().given(start(), context())
    told.envelope(thought(reply="unpaid"))
    told.offset += 1
    told = told.given(thought(reply="paid"))
    found = audited(told)
    assert violated(found) == {"I6"}
    assert "'unpaid' is not metered" in found["I6"].violations[0]


# --- I7 -------------------------------------------------------------------------------------------------------------


def requested(told: Told, call_id: CallId, **changes: Any) -> Event:
    given: dict[str, Any] = {
        "execution_id": told.run_id,
        "step": 1,
        "call_id": call_id,
        "tool": "look_up",
        "tool_version": "1",
        "call_sha256": "0" * 64,
        "idempotency_key": call_id,
    }
    return ev.ToolRequested(**(given | changes))


def answered(told: Told, call_id: CallId) -> Event:
    return ev.ToolFailed(
        execution_id=told.run_id, step=1, call_id=call_id, tool="look_up", error="no", output=None, duration_ms=1
    )


def began(told: Told, call_id: CallId) -> Event:
    return ev.ToolStarted(execution_id=told.run_id, call_id=call_id, tool="look_up", runner="r")


def doubted(told: Told, call_id: CallId) -> Event:
    return ev.ToolInDoubt(execution_id=told.run_id, call_id=call_id, tool="look_up", runner="r")


ONE, TWO = CallId("00000000-0000-8000-8000-00000000000a"), CallId("00000000-0000-8000-8000-00000000000b")
PLANTED: dict[str, tuple[Callable[[Told], Sequence[Event]], str]] = {
    "a result without a request": (lambda t: [answered(t, ONE)], "without an earlier request"),
    "a begun call without a request": (lambda t: [began(t, ONE)], "without an earlier request"),
    "a second result": (lambda t: [requested(t, ONE), answered(t, ONE), answered(t, ONE)], "a second result"),
    "a second request": (lambda t: [requested(t, ONE), requested(t, ONE)], "requested a second time"),
    "a key of another call": (
        lambda t: [requested(t, ONE), requested(t, TWO, idempotency_key=ONE)],
        "has the idempotency key of",
    ),
    "a call begun twice": (lambda t: [requested(t, ONE), began(t, ONE), began(t, ONE)], "started a second time"),
    "a doubt about what never began": (lambda t: [requested(t, ONE), doubted(t, ONE)], "was never started"),
}


@pytest.mark.parametrize(("plant", "said"), PLANTED.values(), ids=PLANTED.keys())
def test_an_effect_against_the_rules_is_found(plant: Callable[[Told], Sequence[Event]], said: str) -> None:
    told = active().given(start(), context(), thought(call("a")))
    found = audited(claim(told, *plant(told)))
    assert said in found["I7"].violations[0]
    assert "can't be folded" in found["I4"].violations[0]


def test_of_many_violations_the_first_are_told_and_all_are_counted() -> None:
    finding = Finding("I1", "nothing lost")
    for number in range(TOLD_VIOLATIONS + 7):
        finding.violated(str(number))
    twice = Finding("I1", "nothing lost")
    twice.add(finding)
    twice.add(finding)
    assert (len(twice.violations), twice.more) == (TOLD_VIOLATIONS, TOLD_VIOLATIONS + 14)
    assert twice.as_json()["ok"] is False
