"""An agent's schedules: planned, due, missed, moved on; one run for each time, whoever says so and however often."""

import asyncio
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.agents.schedules import COUNTED, GRACE_MS, follow
from processors.runtime.schedules import FollowSchedule, awaiting_of
from schemas.agents import AgentConfig
from schemas.commands import AdvanceSchedule
from schemas.events import ExecutionStarted, ScheduleAdvanced, TriggerSkipped
from schemas.message import STORED
from schemas.schedules import parse_schedule
from tests.processors.asks import activate, create, deactivate, delete, update
from tests.processors.fakes import Clock, Owner, history, new_log, process, tell, until
from tests.processors.samples import START_MS, config
from tests.processors.spec import SECOND_MS, Spec

MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
NEXT_HOUR_MS = START_MS + 30 * MINUTE_MS  # the stories begin at half past nine
HOURLY = "hourly @ UTC"


def scheduled(*schedules: str, **changes: Any) -> Spec:
    triggers = ("manual", *(f"schedule:{schedule}" for schedule in schedules or ("hourly",)))
    return Spec().given(create(config(triggers=triggers, **changes)), activate())


def ring(spec: Spec, at_ms: int, key: str = HOURLY) -> AdvanceSchedule:
    """Return what a timer that looks at its clock at `at_ms` says."""
    planned = spec.stream.agent.schedules[key]
    command = follow(spec.stream.agent.config, key, planned.after_ms, at_ms)
    assert command is not None
    return command


def rung(spec: Spec, at_ms: int, key: str = HOURLY) -> Spec:
    """Return the spec after a timer rang at `at_ms`."""
    return spec.when(ring(spec, at_ms, key), later_ms=at_ms - spec.at_ms)


def started(spec: Spec) -> list[str]:
    return [run.trigger.id for run in spec.all(ExecutionStarted)]


def test_an_activated_agent_waits_for_the_time_of_its_schedule() -> None:
    spec = scheduled()
    activated_ms = spec.at_ms
    assert awaiting_of(spec.stream.agent) == (FollowSchedule(HOURLY, activated_ms),)
    planned = rung(spec, spec.at_ms + 5).then("agent.schedule_advanced")
    assert awaiting_of(planned.stream.agent) == (FollowSchedule(HOURLY, activated_ms, NEXT_HOUR_MS),)


def test_a_time_that_is_due_starts_a_run_and_the_schedule_goes_on() -> None:
    spec = rung(rung(scheduled(), START_MS + 3_000), NEXT_HOUR_MS + 7)
    spec.then("agent.schedule_advanced", "execution.started")
    run = spec.the(ExecutionStarted)
    assert run.trigger_type == "schedule"
    assert (run.trigger.source, run.trigger.id) == ("/schedules", "hourly @ UTC 2026-01-24T10:00:00.000Z")
    assert run.trigger.time_ms == NEXT_HOUR_MS
    assert run.trigger.data == {"schedule": HOURLY, "due": "2026-01-24T10:00:00.000Z", "missed": 0}
    assert awaiting_of(spec.stream.agent) == (FollowSchedule(HOURLY, NEXT_HOUR_MS, NEXT_HOUR_MS + HOUR_MS),)


def test_a_timer_that_is_repeated_or_runs_in_two_places_starts_one_run() -> None:
    spec = rung(scheduled(), START_MS + 3_000)
    said = ring(spec, NEXT_HOUR_MS + 7)
    spec = spec.when(said, later_ms=HOUR_MS)
    for again in (said, said.model_copy(update={"next_due_ms": NEXT_HOUR_MS + 2 * HOUR_MS})):
        spec = spec.when(again).then_nothing()
    assert len(started(spec)) == 1


def test_a_clock_that_is_ahead_of_the_logs_is_not_believed() -> None:
    spec = rung(scheduled(), START_MS + 3_000)
    early = ring(spec, NEXT_HOUR_MS + 7)
    spec = spec.when(early, later_ms=NEXT_HOUR_MS - 1 - spec.at_ms).then_nothing()
    spec.when(early, later_ms=1).then("agent.schedule_advanced", "execution.started")


@pytest.mark.parametrize(
    "changes",
    [
        {"after_ms": 0},
        {"until_ms": START_MS - DAY_MS},
        {"due_ms": START_MS - DAY_MS},
        {"due_ms": NEXT_HOUR_MS + HOUR_MS},
        {"next_due_ms": NEXT_HOUR_MS},
        {"schedule": "daily @ UTC"},
    ],
)
def test_what_does_not_go_on_from_where_the_schedule_stands_changes_nothing(changes: dict[str, Any]) -> None:
    spec = rung(scheduled(), START_MS + 3_000)
    said = ring(spec, NEXT_HOUR_MS + 7).model_copy(update=changes)
    spec.when(said, later_ms=DAY_MS).then_nothing()


def test_a_refused_run_is_told_and_the_schedule_goes_on() -> None:
    spec = rung(rung(scheduled(max_runs_per_hour=1), START_MS + 3_000), NEXT_HOUR_MS)
    spec = spec.given(update(triggers=("schedule:hourly", "schedule:every_minute"), max_runs_per_hour=1))
    spec = rung(spec, spec.at_ms, "every_minute @ UTC")
    spec = rung(spec, NEXT_HOUR_MS + MINUTE_MS, "every_minute @ UTC")
    spec.then("agent.schedule_advanced", "agent.trigger_skipped (quota)")
    assert spec.stream.agent.schedules["every_minute @ UTC"].next_due_ms == NEXT_HOUR_MS + 2 * MINUTE_MS


def test_nothing_is_due_while_the_agent_sleeps_and_nothing_is_made_up_for_it() -> None:
    spec = rung(scheduled(), START_MS + 3_000).given(deactivate())
    assert awaiting_of(spec.stream.agent) == ()
    spec = spec.given(activate(), later_ms=5 * HOUR_MS)
    spec = rung(spec, spec.at_ms + 5)
    assert started(spec) == []
    assert spec.the(ScheduleAdvanced).next_due_ms == START_MS + 5 * HOUR_MS + 30 * MINUTE_MS


def test_a_deleted_agent_waits_for_nothing() -> None:
    spec = rung(scheduled(), START_MS + 3_000)
    said = ring(spec, NEXT_HOUR_MS)
    spec = spec.given(delete()).when(said, later_ms=HOUR_MS).then_nothing()
    assert awaiting_of(spec.stream.agent) == ()


def test_an_update_keeps_the_place_of_what_stays() -> None:
    spec = rung(scheduled("hourly", "daily_9am"), START_MS + 3_000)
    kept = spec.stream.agent.schedules[HOURLY]
    spec = spec.given(update(triggers=("schedule:hourly", "schedule:weekly"), timezone="UTC"), later_ms=MINUTE_MS)
    assert spec.stream.agent.schedules[HOURLY] == kept
    assert list(spec.stream.agent.schedules) == [HOURLY, "weekly @ UTC"]
    assert [wait.key for wait in awaiting_of(spec.stream.agent)] == [HOURLY, "weekly @ UTC"]
    moved = spec.given(update(triggers=("schedule:hourly",), timezone="Asia/Kolkata"))
    assert [wait.key for wait in awaiting_of(moved.stream.agent)] == ["hourly @ Asia/Kolkata"]


def test_of_missed_times_the_last_one_starts_a_run() -> None:
    spec = rung(rung(scheduled(), START_MS + 3_000), NEXT_HOUR_MS + 3 * HOUR_MS + 20 * MINUTE_MS)
    spec.then("agent.schedule_advanced", "execution.started")
    assert started(spec) == ["hourly @ UTC 2026-01-24T13:00:00.000Z"]
    advanced = spec.the(ScheduleAdvanced)
    assert (advanced.missed, advanced.next_due_ms) == (3, NEXT_HOUR_MS + 4 * HOUR_MS)


def test_missed_times_may_be_skipped_unless_the_last_is_not_long_ago() -> None:
    spec = rung(scheduled(missed_runs="skip"), START_MS + 3_000)
    late = rung(spec, NEXT_HOUR_MS + 3 * HOUR_MS + GRACE_MS + 1).then("agent.schedule_advanced")
    assert late.the(ScheduleAdvanced).missed == 4
    assert awaiting_of(late.stream.agent)[0].due_ms == NEXT_HOUR_MS + 4 * HOUR_MS
    soon = rung(spec, NEXT_HOUR_MS + 3 * HOUR_MS + GRACE_MS)
    assert started(soon) == ["hourly @ UTC 2026-01-24T13:00:00.000Z"]
    assert soon.the(ScheduleAdvanced).missed == 3


def test_missed_times_may_all_be_made_up_up_to_a_number() -> None:
    spec = rung(scheduled(missed_runs="all", max_missed_runs=3), START_MS + 3_000)
    at_ms = NEXT_HOUR_MS + 5 * HOUR_MS + 20 * MINUTE_MS
    for _ in range(3):
        spec = rung(spec, at_ms).then("agent.schedule_advanced", "execution.started")
        at_ms += SECOND_MS
    assert started(spec) == [f"hourly @ UTC 2026-01-24T{hour}:00:00.000Z" for hour in (13, 14, 15)]
    assert [advanced.missed for advanced in spec.all(ScheduleAdvanced)] == [0, 3, 0, 0]
    assert awaiting_of(spec.stream.agent)[0].due_ms == NEXT_HOUR_MS + 6 * HOUR_MS


def test_a_very_long_while_is_not_walked_minute_by_minute() -> None:
    agent = config(triggers=("schedule:every_minute",), missed_runs="all", max_missed_runs=5)
    now_ms = START_MS + 3_650 * DAY_MS
    said = follow(agent, "every_minute @ UTC", START_MS, now_ms)
    assert said is not None
    assert said.due_ms == now_ms - 4 * MINUTE_MS
    assert said.next_due_ms == now_ms - 3 * MINUTE_MS
    assert said.missed >= COUNTED - 5


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize(
    ("begin", "due"),
    [
        (
            "2026-03-27T12:00:00+00:00",
            ["2026-03-28T01:30:00+00:00", "2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"],
        ),
        (
            "2026-10-23T12:00:00+00:00",
            ["2026-10-24T00:30:00+00:00", "2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"],
        ),
    ],
    ids=["spring", "autumn"],
)
def test_a_change_of_the_clocks_fires_once(begin: str, due: list[str]) -> None:
    """Rung every minute by two timers at once for three days, the run of half past two starts once a day."""
    key = "daily_2_30am @ Europe/Berlin"
    spec = Spec()
    spec.at_ms = at(begin)
    spec = spec.given(
        create(config(triggers=("schedule:daily_2_30am",), timezone="Europe/Berlin", max_concurrent_runs=9)),
        activate(),
    )
    at_ms = spec.at_ms + SECOND_MS
    while at_ms < at(begin) + 3 * DAY_MS:
        said = [ring(spec, at_ms, key), ring(spec, at_ms, key)]
        if spec.stream.agent.schedules[key].known and said[0].due_ms is None:
            at_ms += MINUTE_MS
            continue
        for each in said:
            spec.handle(each, later_ms=at_ms - spec.at_ms)
        at_ms += MINUTE_MS
    assert [run.trigger.time_ms for run in spec.all(ExecutionStarted)] == [at(each) for each in due]
    assert spec.all(TriggerSkipped) == []


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["every_5_minutes", "hourly", "daily_9am", "*/7 2 * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    st.lists(st.integers(1, 3 * HOUR_MS), min_size=1, max_size=12),
)
def test_whenever_timers_ring_every_time_is_started_once_or_counted_as_missed(
    schedule: str, zone: str, rings: list[int]
) -> None:
    spec = scheduled(schedule, timezone=zone, max_runs_per_hour=1_000, max_concurrent_runs=1_000)
    key = f"{schedule} @ {zone}"
    begin_ms = spec.stream.agent.schedules[key].after_ms
    at_ms = spec.at_ms
    for later_ms in rings:
        at_ms += later_ms
        spec = rung(spec, at_ms, key)
    times = list(takewhile(lambda due: due <= at_ms, parse_schedule(key).after(begin_ms)))
    runs = [run.trigger.time_ms for run in spec.all(ExecutionStarted)]
    assert runs == sorted(set(runs) & set(times))
    assert len(runs) + sum(advanced.missed for advanced in spec.all(ScheduleAdvanced)) == len(times)


# --- with owners, timers and a clock --------------------------------------------------------------------------------


async def test_an_owner_fires_on_time_and_goes_on() -> None:
    clock = Clock()
    log = await new_log(clock=clock)
    async with Owner(process(log), log):
        await tell(log, create(config(triggers=("schedule:hourly",))), activate())
        await until(lambda: "agent.schedule_advanced" in history(log).lines)
        clock.moved_ms += 30 * MINUTE_MS - 400  # the timer's sleep was set before: this is shorter than it
        assert history(log).all(ExecutionStarted) == []
    async with Owner(process(log), log):
        await until(lambda: history(log).all(ExecutionStarted))
        assert history(log).all(ExecutionStarted)[0].trigger.time_ms == NEXT_HOUR_MS


async def test_two_owners_and_restarts_start_each_time_once() -> None:
    """Owners who do not know of each other ring for the same schedule; the log hears one of them."""
    clock = Clock()
    log = await new_log(clock=clock)
    async with Owner(process(log), log, "one"):
        await tell(log, create(config(triggers=("schedule:hourly",), max_runs_per_hour=100)), activate())
        await until(lambda: "agent.schedule_advanced" in history(log).lines)
    for hours in range(1, 4):
        clock.moved_ms += HOUR_MS
        async with Owner(process(log), log, "one"), Owner(process(log), log, "two"):
            await until(lambda hours=hours: len(history(log).all(ExecutionStarted)) >= hours)  # type: ignore[misc]
            await asyncio.sleep(0)
    runs = [run.trigger.time_ms for run in history(log).all(ExecutionStarted)]
    assert runs == [NEXT_HOUR_MS, NEXT_HOUR_MS + HOUR_MS, NEXT_HOUR_MS + 2 * HOUR_MS]
    assert datetime.fromtimestamp(runs[0] / 1000, UTC).minute == 0


async def test_a_time_zone_that_a_machine_does_not_know_stops_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The agent was saved where it was known; another schedule of the same agent is followed."""
    log = await new_log()
    told = config(triggers=("schedule:hourly @ Europe/Berlin", "schedule:hourly")).model_dump(mode="json")
    told["triggers"][0] = "schedule:hourly @ Atlantis/Capital"
    async with Owner(process(log), log):
        await tell(log, create(AgentConfig.model_validate(told, context=STORED)), activate())
        await until(lambda: "agent.schedule_advanced" in history(log).lines)
        await until(lambda: "there is no time zone 'Atlantis/Capital'" in caplog.text)
        assert [advanced.schedule for advanced in history(log).all(ScheduleAdvanced)] == [HOURLY]
