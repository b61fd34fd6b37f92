"""Whether a trigger starts a run: exactly counted, once a trigger, never out of its own time."""

import pytest

from schemas.events import ExecutionStarted, TriggerSkipped
from schemas.ids import execution_id_of
from schemas.module_events import TRIGGER_AHEAD_MS, TRIGGER_KEPT_MS, TriggerType
from tests.processors.asks import (
    ACTIVE,
    STARTED,
    THINKING,
    activate,
    call,
    cancel,
    context,
    create,
    deactivate,
    delete,
    start,
    start_tool,
    thought,
    update,
)
from tests.processors.samples import AGENT, OTHER_SITE, START_MS, USER, config
from tests.processors.spec import SECOND_MS, Spec

HOUR_MS = 3_600 * SECOND_MS
DAY_MS = 24 * HOUR_MS


def active(**changes: int | bool | tuple[str, ...]) -> Spec:
    return Spec().given(create(config(**changes)), activate())


def test_a_trigger_starts_a_run_once() -> None:
    STARTED.when(start()).then_nothing()
    STARTED.given(cancel(), actor=USER).when(start()).then_nothing()


def test_a_person_s_second_start_is_answered() -> None:
    STARTED.when(start(), actor=USER).then("command.rejected (nothing_to_do)")


def test_a_run_is_named_by_its_agent_and_its_trigger() -> None:
    started = STARTED.the(ExecutionStarted)
    assert started.execution_id == execution_id_of(STARTED.at_ms, AGENT, "/tests", "trigger-1")
    assert started.agent_version == 1


def test_a_skipped_trigger_starts_nothing_later_either() -> None:
    skipped = Spec().given(create()).when(start()).then("agent.trigger_skipped (inactive)")
    skipped.given(activate()).when(start()).then_nothing()


def test_a_trigger_is_named_by_source_and_id_together() -> None:
    STARTED.when(start("trigger-2")).then("execution.started")


def test_a_run_has_the_limits_of_its_time() -> None:
    run = active(max_steps_per_run=4, max_tool_calls_per_step=2, timeout_seconds=60).given(start())
    limits = run.the(ExecutionStarted).limits
    assert (limits.max_steps, limits.max_tool_calls_per_step, limits.timeout_seconds) == (4, 2, 60)
    assert run.given(update(max_steps_per_run=9), actor=USER).run.limits.max_steps == 4


def test_a_deactivated_agent_starts_nothing() -> None:
    ACTIVE.given(deactivate(), actor=USER).when(start()).then("agent.trigger_skipped (inactive)")


def test_a_deleted_agent_starts_nothing() -> None:
    deleted = ACTIVE.given(delete(), actor=USER).when(start()).then("agent.trigger_skipped (inactive)")
    deleted.when(start()).then_nothing()


@pytest.mark.parametrize(
    ("type_", "event_type", "admitted"),
    [
        ("manual", None, True),
        ("event", "contact.created", True),
        ("event", "contacts", False),
        ("event", "deal.won", False),
        ("event", None, False),
        ("webhook", None, False),
        ("schedule", None, False),
        ("delegation", None, True),
    ],
)
def test_an_agent_starts_only_for_what_it_listens_to(
    type_: TriggerType, event_type: str | None, admitted: bool
) -> None:
    asked = ACTIVE.when(start(type_=type_, event_type=event_type))
    asked.then("execution.started" if admitted else "agent.trigger_skipped (not_allowed)")


def test_a_skip_says_what_was_skipped_and_why() -> None:
    skipped = ACTIVE.when(start("t9", type_="event", event_type="deal.won")).the(TriggerSkipped)
    assert (skipped.trigger_source, skipped.trigger_id, skipped.event_type) == ("/tests", "t9", "deal.won")
    assert "deal.won" in skipped.message


def test_a_trigger_may_be_as_old_as_module_events_are_kept_and_a_day() -> None:
    ACTIVE.when(start(time_ms=ACTIVE.at_ms + SECOND_MS - TRIGGER_KEPT_MS)).then("execution.started")
    ACTIVE.when(start(time_ms=ACTIVE.at_ms + SECOND_MS - TRIGGER_KEPT_MS - 1)).then("agent.trigger_skipped (stale)")


def test_a_trigger_is_never_started_again_once_it_was_forgotten() -> None:
    again = STARTED.given(cancel(), actor=USER)
    for days in (1, 7, 8):
        again.when(start(), later_ms=days * DAY_MS - 3 * SECOND_MS).then_nothing()
    again.when(start(), later_ms=8 * DAY_MS + HOUR_MS).then("agent.trigger_skipped (stale)")


def test_a_trigger_of_the_far_future_is_refused_and_may_come_again_in_its_time() -> None:
    ahead = START_MS + TRIGGER_AHEAD_MS + HOUR_MS
    refused = ACTIVE.when(start(time_ms=ahead)).then("agent.trigger_skipped (future)")
    refused.when(start(time_ms=ahead), later_ms=2 * HOUR_MS).then("execution.started")
    ACTIVE.when(start(time_ms=ACTIVE.at_ms + SECOND_MS + TRIGGER_AHEAD_MS)).then("execution.started")


def test_a_clock_far_ahead_does_not_fill_the_memory_of_a_deleted_agent() -> None:
    deleted = ACTIVE.given(delete(), actor=USER).given(start(time_ms=START_MS * 1_000))
    assert len(deleted.stream.agent.triggers) == 0


def test_an_agent_does_not_wake_itself() -> None:
    own = start(type_="event", event_type="contact.created", caused_by=AGENT, depth=1)
    ACTIVE.when(own).then("agent.trigger_skipped (loop)")
    active(triggers=("event:contact.*",), allow_self_trigger=True).when(own).then("execution.started")


def test_another_agent_may_wake_it() -> None:
    ACTIVE.when(start(type_="event", event_type="contact.created", caused_by=OTHER_SITE, depth=3)).then(
        "execution.started"
    )


def test_a_chain_of_causes_ends_at_the_allowed_depth() -> None:
    agent = active(max_causation_depth=2, allow_self_trigger=True)
    agent.when(start(depth=2)).then("execution.started")
    agent.when(start(depth=3)).then("agent.trigger_skipped (loop)")


def test_runs_at_once_are_counted_exactly() -> None:
    agent = active(max_concurrent_runs=2).given(start("1"), start("2"))
    agent.when(start("3")).then("agent.trigger_skipped (concurrency)")
    agent.given(cancel(), actor=USER).when(start("4")).then("execution.started")


def test_an_ended_run_with_a_call_in_doubt_is_not_under_way() -> None:

    agent = active(max_concurrent_runs=1).given(start(), context(), thought(call("a", "charge_card")), start_tool("a"))
    agent.given(cancel(), actor=USER).when(start("2")).then("execution.started")


def test_the_hour_rolls_to_the_millisecond() -> None:
    agent = active(max_runs_per_hour=2).given(start("1")).given(start("2"), later_ms=10 * SECOND_MS)
    agent.when(start("3")).then("agent.trigger_skipped (quota)")
    first_ms = agent.at_ms - 10 * SECOND_MS
    left = first_ms + HOUR_MS - agent.at_ms
    agent.when(start("3"), later_ms=left - 1).then("agent.trigger_skipped (quota)")
    free = agent.when(start("3"), later_ms=left).then("execution.started")
    free.when(start("4")).then("agent.trigger_skipped (quota)")


def test_the_day_rolls_to_the_millisecond() -> None:
    agent = active(max_runs_per_day=1).given(start("1"))
    agent.when(start("2"), later_ms=DAY_MS - 1).then("agent.trigger_skipped (quota)")
    agent.when(start("2"), later_ms=DAY_MS).then("execution.started")


def test_a_skipped_trigger_does_not_count_against_the_quota() -> None:
    agent = active(max_runs_per_hour=1, max_concurrent_runs=5).given(
        start("0", type_="webhook"), start("1", depth=9), start("2")
    )
    agent.then("execution.started")
    agent.when(start("3")).then("agent.trigger_skipped (quota)")


def test_a_quota_follows_the_configuration_of_now() -> None:
    agent = active(max_runs_per_hour=1).given(start("1"))
    agent.given(update(max_runs_per_hour=2), actor=USER).when(start("2")).then("execution.started")


def test_runs_before_a_deletion_still_count() -> None:
    agent = active(max_runs_per_hour=1).given(start("1"))
    anew = agent.given(delete(), create(config(max_runs_per_hour=1)), activate(), actor=USER)
    anew.when(start("2")).then("agent.trigger_skipped (quota)")


def test_starts_older_than_a_day_are_not_kept() -> None:
    agent = active().given(start("1"), start("2")).given(start("3"), later_ms=DAY_MS)
    assert list(agent.stream.agent.day) == [agent.at_ms]
    assert list(agent.stream.agent.hour) == [agent.at_ms]


def test_a_clock_that_steps_back_does_not_move_the_stream_s_time() -> None:
    agent = THINKING.given(thought(text="Done."), later_ms=HOUR_MS)
    back = agent.when(start("2"), later_ms=-HOUR_MS).then("execution.started")
    assert back.run.started_at_ms == agent.at_ms
