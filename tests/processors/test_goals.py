"""Goals: which event moves which, by how much, once; and what the model is told of it."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.agents.goals import goal_commands, goal_lines, span_of
from processors.agents.state import GoalProgress
from processors.executions.prompt import messages_of
from processors.runtime.decision import decision_of
from processors.triggers.agent_events import agent_event
from processors.triggers.directory import Listener
from processors.triggers.goals import goal_drafts
from schemas.agents import Goal, Period
from schemas.commands import AMOUNT_LIMIT, RecordGoalProgress
from schemas.events import GoalProgressed
from schemas.message import Json
from schemas.module_events import DAY_MS, TRIGGER_KEPT_MS, Trigger
from streams.log import Record
from streams.records import decode_command, decode_event
from streams.topics import COMMANDS, EVENTS
from tests.processors.asks import activate, context, create, delete, progress, start, thought, update
from tests.processors.samples import AGENT, SITE, START_MS, USER, config
from tests.processors.spec import Spec
from tests.processors.test_run_properties import bounded

HOUR_MS = 3_600_000
WON = Goal(name="Win", event="crm.deal.*", progress="data.amount", target=100)


def event(data: Json = None, type_: str = "crm.deal.won", id_: str = "e1", time_ms: int = START_MS) -> Trigger:
    return Trigger(type="event", source="/crm", id=id_, event_type=type_, time_ms=time_ms, data=data, subject="deal/1")


def amounts(goal: Goal, told: Trigger) -> list[float]:
    return [command.amount for command in goal_commands(config(goals=(goal,)), told)]


def moved(amount: float, id_: str = "e1", goal: str = "Win", time_ms: int = START_MS) -> RecordGoalProgress:
    return progress(goal, amount, id_, time_ms)


def agent_with(*goals: Goal) -> Spec:
    return Spec().given(create(config(goals=goals)), activate())


# --- from an event to commands --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("data.amount", {"amount": 7.5}, [7.5]),
        ("1", {}, [1]),
        ("data.amount > 5 ? 1 : 0", {"amount": 7}, [1]),
        ("data.amount > 5 ? 1 : 0", {"amount": 3}, []),  # nothing moved
        ("data.ok", {"ok": True}, [1]),
        ("event.subject == 'deal/1' && event.data.ok", {"ok": True}, [1]),
        ("data.name.startsWith('A')", {"name": "Bo"}, []),
        ("data.amount", {}, []),
        ("data.amount", {"amount": "7"}, []),
        ("data.amount", None, []),
        ("data.amount", {"amount": [1]}, []),
        ("data.a / data.b", {"a": 1, "b": 0}, []),
        ("data.amount", {"amount": 1e300}, []),
        ("data.text", {"text": "\ud800"}, []),
        ("-data.amount", {"amount": 2}, [-2]),
    ],
)
def test_an_expression_says_by_how_much(text: str, data: Json, expected: list[float]) -> None:
    assert amounts(WON.model_copy(update={"progress": text}), event(data)) == expected


def test_a_condition_says_which_events_count() -> None:
    large = WON.model_copy(update={"condition": "data.amount > 5"})
    assert amounts(large, event({"amount": 7})) == [7]
    assert amounts(large, event({"amount": 3})) == []
    assert amounts(large, event({})) == []
    assert amounts(WON.model_copy(update={"condition": "not CEL"}), event({"amount": 7})) == []


def test_an_average_counts_what_is_nothing_too() -> None:
    rate = Goal(name="Replies", event="email.*", progress="event.type == 'email.replied'", aggregate="average")
    assert amounts(rate, event(type_="email.sent")) == [0]
    assert amounts(rate, event(type_="email.replied")) == [1]


def test_only_events_that_fit_move_a_goal_and_goals_never_move_goals() -> None:
    every = WON.model_copy(update={"event": "*", "progress": "1"})
    assert amounts(WON, event({"amount": 1}, type_="crm.contact.created")) == []
    assert amounts(Goal(name="Not measured"), event()) == []
    assert amounts(every, event(type_="ai.goal.progressed")) == []
    assert amounts(every, event(type_="x")) == [1]
    assert amounts(every, event(type_="ai.execution.completed")) == []  # only who says `ai.` counts its own runs
    assert amounts(WON.model_copy(update={"event": "deal.*"}), event({"amount": 2})) == [2]  # as triggers match


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@bounded
@given(json_values)
def test_whatever_an_event_holds_gives_a_finite_amount_or_none(data: Json) -> None:
    for text in ("data", "data.a", "data + 1", "data[0]", "size(data)", "int(data)", "data == null"):
        for amount in amounts(WON.model_copy(update={"progress": text}), event(data)):
            assert math.isfinite(amount)


def test_commands_are_records_that_can_be_sent_twice() -> None:
    listener = Listener(AGENT, (), {}, goals=(WON,))
    (one,) = goal_drafts([listener], SITE, "c", event({"amount": 3}))
    (two,) = goal_drafts([listener], SITE, "c", event({"amount": 3}))
    assert one == two
    envelope = decode_command(Record(COMMANDS, 0, 0, START_MS, one.key, one.value, one.headers))
    assert envelope.command == moved(3)


def test_a_module_can_not_speak_for_an_agent_s_own_runs() -> None:
    own = Goal(name="Runs", event="ai.execution.completed")
    listener = Listener(AGENT, (), {}, goals=(own, WON.model_copy(update={"event": "*", "progress": "1"})))
    forged = event(type_="ai.execution.completed")
    assert goal_drafts([listener], SITE, "c", forged) == []
    assert len(goal_drafts([listener], SITE, "c", forged, own=True)) == 1


# --- what follows ---------------------------------------------------------------------------------------------------


def test_progress_is_added_up_once_for_each_event() -> None:
    spec = agent_with(WON).when(moved(40.1)).then("goal.progressed")
    first = spec.the(GoalProgressed)
    assert (first.value, first.delta, first.count, first.achieved, first.event_id) == (40.1, 40.1, 1, False, "e1")
    spec.when(moved(40.1)).then_nothing()
    spec = spec.when(moved(59.9, "e2")).then("goal.progressed")
    second = spec.the(GoalProgressed)
    assert (second.value, second.delta, second.count, second.achieved) == (100, 59.9, 2, True)
    assert second.achieved_at_ms == START_MS


def test_a_person_is_answered_when_progress_was_counted_before() -> None:
    spec = agent_with(WON).given(moved(1))
    spec.when(moved(1), actor=USER).then("command.rejected (nothing_to_do)")


def test_one_event_may_move_two_goals() -> None:
    deals = Goal(name="Deals", event="crm.deal.won")
    spec = agent_with(WON, deals).given(moved(5)).when(moved(1, goal="Deals")).then("goal.progressed")
    assert {name: p.value for name, p in spec.stream.agent.goals.items()} == {"Win": 5, "Deals": 1}


@pytest.mark.parametrize(
    ("aggregate", "values"), [("sum", [10, 30, 35]), ("last", [10, 20, 5]), ("average", [10, 15, 11.666667])]
)
def test_a_value_is_made_of_amounts_as_the_goal_says(aggregate: str, values: list[float]) -> None:
    goal = WON.model_copy(update={"aggregate": aggregate})
    spec = agent_with(goal).given(moved(10, "a"), moved(20, "b"), moved(5, "c"))
    assert [e.value for e in spec.all(GoalProgressed)] == values


def test_sums_do_not_drift() -> None:
    spec = agent_with(WON).given(*(moved(0.1, f"e{n}") for n in range(30)))
    assert spec.the(GoalProgressed).value == 3.0


def test_a_period_begins_a_goal_anew() -> None:
    daily = WON.model_copy(update={"period": "day"})
    spec = agent_with(daily).given(moved(100, "a"))
    assert spec.the(GoalProgressed).achieved
    midnight_ms = span_of("day", START_MS).end_ms
    spec = spec.given(moved(1, "b", time_ms=midnight_ms), later_ms=DAY_MS)
    fresh = spec.the(GoalProgressed)
    assert (fresh.value, fresh.count, fresh.achieved, fresh.period_start_ms) == (1, 1, False, midnight_ms)
    spec.when(moved(7, "late")).then_nothing()  # of yesterday, which is over


def test_an_event_from_the_future_ends_no_period() -> None:
    hourly = WON.model_copy(update={"period": "hour"})
    spec = agent_with(hourly).given(moved(1, "a", time_ms=START_MS + 5 * HOUR_MS))
    assert spec.the(GoalProgressed).period_start_ms == span_of("hour", START_MS).start_ms
    spec.when(moved(1, "b")).then("goal.progressed")
    spec.when(moved(1, "c", time_ms=START_MS + 3 * DAY_MS)).then_nothing()


def test_what_is_older_than_any_memory_is_not_counted() -> None:
    agent_with(WON).when(moved(1), later_ms=TRIGGER_KEPT_MS + HOUR_MS).then_nothing()


def test_a_goal_that_does_not_recur_stays_achieved() -> None:
    once = WON.model_copy(update={"is_recurring": False})
    spec = agent_with(once).given(moved(100, "a"), moved(-50, "b"))
    assert [e.achieved for e in spec.all(GoalProgressed)] == [True, True]
    again = agent_with(WON).given(moved(100, "a"), moved(-50, "b"))
    assert [e.achieved for e in again.all(GoalProgressed)] == [True, False]


def test_a_goal_met_after_its_deadline_is_not_achieved() -> None:
    deadline = datetime.fromtimestamp(START_MS / 1000 + 60, UTC)
    due = WON.model_copy(update={"deadline": deadline})
    late = agent_with(due).given(moved(100, "a", time_ms=START_MS + 61_000), later_ms=2 * HOUR_MS)
    assert not late.the(GoalProgressed).achieved
    in_time = agent_with(due).given(moved(100, "a"), later_ms=2 * HOUR_MS)  # the event was in time
    assert in_time.the(GoalProgressed).achieved
    naive = WON.model_copy(update={"deadline": deadline.replace(tzinfo=None)})
    assert agent_with(naive).given(moved(100)).the(GoalProgressed).achieved


@pytest.mark.parametrize(
    ("comparison", "met"), [("gt", False), ("gte", True), ("lt", False), ("lte", True), ("eq", True)]
)
def test_every_comparison_is_made(comparison: str, met: bool) -> None:
    spec = agent_with(WON.model_copy(update={"comparison": comparison})).given(moved(100))
    assert spec.the(GoalProgressed).achieved is met


def test_unknown_goals_and_deleted_agents_are_not_moved() -> None:
    spec = agent_with(WON, Goal(name="Not measured"))
    spec.when(moved(1, goal="Other")).then_nothing()
    spec.when(moved(1, goal="Not measured")).then_nothing()
    spec.given(delete()).when(moved(1)).then_nothing()


def test_progress_goes_by_the_name_and_goes_when_the_goal_goes() -> None:
    deals = Goal(name="Deals", event="crm.deal.won")
    spec = agent_with(WON, deals).given(moved(5), moved(1, goal="Deals"))
    raised = WON.model_copy(update={"target": 200})
    spec = spec.given(update(goals=(raised,)))
    assert list(spec.stream.agent.goals) == ["Win"]
    spec = spec.given(update(goals=(raised, deals)), moved(1, "e2", goal="Deals"), moved(1, "e2"))
    assert {name: p.value for name, p in spec.stream.agent.goals.items()} == {"Win": 6, "Deals": 1}
    anew = spec.given(delete(), create(config(goals=(WON,))))
    assert anew.stream.agent.goals == {}


@bounded
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-1e6, 1e6)), max_size=12))
def test_however_often_an_event_comes_it_counts_once(told: list[tuple[int, float]]) -> None:
    first: dict[int, float] = {}
    spec = agent_with(WON)
    for number, amount in told:
        spec = spec.given(moved(amount, f"e{number}"))
        first.setdefault(number, amount)
    value = spec.stream.agent.goals.get("Win", GoalProgress()).value
    assert value == pytest.approx(sum(first.values()), abs=1e-4)


def test_an_amount_has_bounds() -> None:
    with pytest.raises(ValueError, match="less than or equal"):
        moved(AMOUNT_LIMIT * 2)


@pytest.mark.parametrize(
    ("period", "first", "end"),
    [
        ("hour", "2026-12-31T23:00", "2027-01-01T00:00"),
        ("day", "2026-12-31T00:00", "2027-01-01T00:00"),
        ("week", "2026-12-28T00:00", "2027-01-04T00:00"),
        ("month", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("quarter", "2026-10-01T00:00", "2027-01-01T00:00"),
        ("year", "2026-01-01T00:00", "2027-01-01T00:00"),
    ],
)
def test_periods_are_those_of_the_calendar_in_utc(period: Period, first: str, end: str) -> None:
    def ms(text: str) -> int:
        return int(datetime.fromisoformat(f"{text}:00+00:00").timestamp() * 1000)

    span = span_of(period, ms("2026-12-31T23:59") + 59_999)
    assert (span.start_ms, span.end_ms) == (ms(first), ms(end))
    assert span_of(period, span.start_ms) == span
    assert span_of(period, span.end_ms).start_ms == span.end_ms


# --- what the model is told -----------------------------------------------------------------------------------------


def test_goals_are_told_by_priority_with_how_far_they_are() -> None:
    goals = (
        Goal(name="Later", priority=1, description="Some day."),
        Goal(name="Win", priority=9, event="crm.deal.won", metric="revenue", target=100, period="week"),
        Goal(name="Answer", priority=8, metric="minutes", target=1, comparison="lte"),
        Goal(name="Learn", deadline=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    agent = config(goals=goals)
    assert goal_lines(agent, {"Win": GoalProgress(60, 60, 2, None, span_of("week", START_MS).start_ms)}, START_MS) == [
        "- Win (revenue: at least 100; 60 so far this week)",
        "- Answer (minutes: at most 1)",
        "- Learn (due 2026-01-01T00:00:00.000Z, which is over)",
        "- Later: Some day.",
    ]
    old = {"Win": GoalProgress(60, 60, 2, 1, span_of("week", START_MS).start_ms - 7 * DAY_MS)}
    assert goal_lines(agent, old, START_MS)[0] == "- Win (revenue: at least 100; nothing measured this week yet)"


def test_a_run_is_told_how_far_goals_were_when_it_began() -> None:
    agent: dict[str, Any] = {"goals": (WON,)}
    spec = agent_with(WON).given(moved(30), start(), moved(50, "e2"), context(), moved(20, "e3"))
    told = messages_of(config(**agent), spec.run)[0].content
    assert "30 so far" in told
    after = spec.given(thought(text="Done."), start("t2"), context())
    assert "100 so far, achieved" in messages_of(config(**agent), after.run)[0].content


def test_an_event_of_an_agent_s_own_is_seen_with_its_fields() -> None:
    spec = agent_with(WON).given(start())
    envelope = spec.envelope(context(), actor=USER)
    drafts = decision_of(spec.stream, envelope).drafts
    record = Record(EVENTS, 0, 0, 0, drafts[-1].key, drafts[-1].value, drafts[-1].headers)
    told = agent_event(decode_event(record), record, 1)
    goal = Goal(name="Steps", event="ai.step.observed", progress="data.step")
    assert amounts(goal, told) == [1]
    assert (told.caused_by, told.source) == (AGENT, f"/sites/{SITE}/agents/{AGENT}")
