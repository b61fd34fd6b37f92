"""How runs end other than by their model: once, and with an answer for whoever asks again."""

from processors.executions.endings import ACTIONS_TOLD
from processors.executions.risk import APPROVAL_MS
from schemas.commands import CancelExecution
from schemas.events import ExecutionCancelled, ExecutionFailed, ExecutionTimedOut
from schemas.ids import ExecutionId
from tests.processors.asks import (
    NOBODY,
    STARTED,
    THINKING,
    activate,
    approve,
    call,
    cancel,
    context,
    create,
    deactivate,
    delete,
    doubt,
    resolve_doubt,
    result,
    start,
    start_tool,
    thought,
    time_out,
)
from tests.processors.samples import APPROVING, USER, config
from tests.processors.spec import SECOND_MS, Spec

LIMIT_MS = 120 * SECOND_MS
HOUR_MS = 3_600_000
DUE = THINKING.run.deadline_ms - THINKING.at_ms


def test_a_person_cancels_a_run_at_any_point() -> None:
    for run in (STARTED, THINKING, THINKING.given(thought(call("a")))):
        assert run.when(cancel("enough"), actor=USER).then("execution.cancelled").the(ExecutionCancelled).reason == (
            "enough"
        )


def test_cancelling_twice_is_rejected() -> None:
    THINKING.given(cancel(), actor=USER).when(cancel(), actor=USER).then("command.rejected (not_found)")


def test_cancelling_what_never_was_is_rejected() -> None:
    never = CancelExecution(execution_id=ExecutionId(NOBODY))
    THINKING.when(never, actor=USER).then("command.rejected (not_found)")


def test_what_comes_after_the_end_changes_nothing() -> None:
    ended = THINKING.given(thought(call("a"))).given(cancel(), actor=USER)
    for late in (result("a"), context(), start_tool("a"), doubt("a"), time_out()):
        ended.when(late).then_nothing()


def test_a_run_is_timed_out_by_the_time_of_the_record() -> None:
    THINKING.when(time_out(), later_ms=DUE - 1).then_nothing()
    over = THINKING.when(time_out(), later_ms=DUE).then("execution.timed_out")
    assert over.the(ExecutionTimedOut).duration_ms == LIMIT_MS


def test_a_run_that_knows_nothing_yet_is_timed_out_too() -> None:
    STARTED.when(time_out(), later_ms=LIMIT_MS).then("execution.timed_out")


def test_time_stands_still_while_a_person_is_awaited() -> None:
    waiting = THINKING.given(thought(call("a", "send_mail")))
    waiting.when(time_out(), later_ms=LIMIT_MS * 10).then_nothing()
    asked_ms = waiting.at_ms
    approved = waiting.given(approve("a"), actor=APPROVING, later_ms=HOUR_MS)
    assert approved.run.deadline_ms == THINKING.run.deadline_ms + approved.at_ms - asked_ms
    left = approved.run.deadline_ms - approved.at_ms
    approved.when(time_out(), later_ms=left - 1).then_nothing()
    approved.when(time_out(), later_ms=left).then("execution.timed_out")


def test_time_stands_still_until_the_last_person_has_answered() -> None:
    waiting = THINKING.given(thought(call("a", "send_mail"), call("b", "send_mail")))
    one = waiting.given(approve("a"), actor=APPROVING, later_ms=HOUR_MS)
    assert one.run.paused_at_ms == waiting.at_ms
    both = one.given(approve("b"), actor=APPROVING, later_ms=HOUR_MS)
    assert both.run.paused_at_ms is None
    assert both.run.deadline_ms == THINKING.run.deadline_ms + 2 * HOUR_MS


def test_time_stands_still_while_a_call_is_in_doubt() -> None:
    begun = THINKING.given(thought(call("a", "charge_card")), start_tool("a"), doubt("a"))
    begun.when(time_out(), later_ms=LIMIT_MS * 10).then_nothing()
    settled = begun.given(resolve_doubt("a", done=True), actor=USER, later_ms=HOUR_MS)
    assert settled.run.deadline_ms == THINKING.run.deadline_ms + HOUR_MS


def test_a_result_beside_an_approval_does_not_let_time_go_on() -> None:
    waiting = THINKING.given(thought(call("a"), call("b", "send_mail"))).given(result("a"), later_ms=HOUR_MS)
    waiting.when(time_out(), later_ms=APPROVAL_MS).then_nothing()


def test_a_deleted_agent_s_runs_are_cancelled() -> None:
    two = THINKING.given(start("trigger-2"))
    two.when(delete(), actor=USER).then("execution.cancelled", "execution.cancelled", "agent.deleted")
    assert two.given(delete(), actor=USER).stream.runs == {}


def test_an_end_lists_only_the_newest_of_very_many_calls() -> None:
    spec = Spec()
    for ask in (create(config(max_steps_per_run=6)), activate(), start(), context()):
        spec.handle(ask)
    for step in range(6):
        spec.handle(thought(*(call(f"{step}-{n}", "nothing") for n in range(100))), later_ms=1)
    spec.handle(thought(text="This is all."))
    end = spec.the(ExecutionFailed)
    assert len(end.actions_taken) == ACTIONS_TOLD
    assert end.actions_taken[-1].call_id == spec.call_ids["5-99"]


def test_a_deactivated_agent_s_run_may_finish() -> None:
    last = THINKING.given(deactivate(), actor=USER)
    last.given(thought(call("a")), result("a")).when(thought(text="Done.")).then(
        "step.thought 2", "execution.completed"
    )
