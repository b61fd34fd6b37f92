"""A call that was begun, of which nobody knows the end: never run twice, settled by whoever knows."""

import pytest

from schemas.events import ExecutionCancelled, ExecutionTimedOut, ToolCompleted, ToolFailed, ToolInDoubt
from tests.processors.asks import (
    THINKING,
    call,
    cancel,
    delete,
    doubt,
    resolve_doubt,
    result,
    start_tool,
    thought,
    time_out,
)
from tests.processors.samples import USER
from tests.processors.spec import SECOND_MS

BEGUN = THINKING.given(thought(call("a", "charge_card"), call("b")), start_tool("a", "runner-1"))
IN_DOUBT = BEGUN.given(result("b"), doubt("a", "runner-1"))
ENDED = BEGUN.given(cancel(), actor=USER)


def test_a_call_whose_runner_is_gone_is_in_doubt() -> None:
    assert BEGUN.when(doubt("a", "runner-1")).then("tool.in_doubt a").the(ToolInDoubt).runner == "runner-1"


def test_only_the_runner_that_began_it_can_be_doubted() -> None:
    BEGUN.when(doubt("a", "runner-2")).then_nothing()
    IN_DOUBT.when(doubt("a", "runner-1")).then_nothing()


def test_a_call_in_doubt_holds_its_step_back() -> None:
    assert IN_DOUBT.run.status == "acting"


def test_a_person_says_that_it_was_done() -> None:
    settled = IN_DOUBT.when(resolve_doubt("a", done=True, output="charged"), actor=USER)
    settled.then("tool.completed a", "step.observed 2")
    assert settled.the(ToolCompleted).output == "charged"


def test_a_person_says_that_it_was_not_done() -> None:
    settled = IN_DOUBT.when(resolve_doubt("a", done=False), actor=USER).then("tool.failed a", "step.observed 2")
    assert "not carried out" in settled.the(ToolFailed).error


def test_a_doubt_that_is_none_is_rejected() -> None:
    BEGUN.when(resolve_doubt("a", done=True), actor=USER).then("command.rejected (not_in_doubt)")
    settled = IN_DOUBT.given(resolve_doubt("a", done=True), actor=USER)
    settled.when(resolve_doubt("a", done=False), actor=USER).then("command.rejected (not_in_doubt)")


@pytest.mark.parametrize("actor", ["agent:sales", "module:/crm", "system:worker"])
def test_only_a_person_says_what_became_of_a_call(actor: str) -> None:
    IN_DOUBT.when(resolve_doubt("a", done=True), actor=actor).then("command.rejected (not_a_person)")


def test_the_real_result_settles_a_doubt_too() -> None:
    real = IN_DOUBT.when(result("a", "charged")).then("tool.completed a", "step.observed 2")
    real.when(resolve_doubt("a", done=False), actor=USER).then("command.rejected (not_in_doubt)")


def test_a_result_settles_a_call_after_it_began_without_any_doubt() -> None:
    BEGUN.given(result("b")).when(result("a")).then("tool.completed a", "step.observed 2")


def test_the_end_of_a_run_puts_every_begun_call_in_doubt_first() -> None:
    ENDED.then("tool.in_doubt a", "execution.cancelled")
    actions = {action.tool: action.status for action in ENDED.the(ExecutionCancelled).actions_taken}
    assert actions == {"charge_card": "in_doubt", "look_up": "open"}


def test_a_time_out_and_a_deletion_put_begun_calls_in_doubt_too() -> None:
    over = BEGUN.when(time_out(), later_ms=121 * SECOND_MS).then("tool.in_doubt a", "execution.timed_out")
    assert over.the(ExecutionTimedOut).timeout_seconds == 120
    BEGUN.when(delete(), actor=USER).then("tool.in_doubt a", "execution.cancelled", "agent.deleted")


def test_the_real_result_settles_a_doubt_after_the_end() -> None:
    ENDED.when(result("a", "charged")).then("tool.completed a").when(result("a", "charged")).then_nothing()


def test_a_person_settles_a_doubt_after_the_end() -> None:
    settled = ENDED.when(resolve_doubt("a", done=False, note="no charge found"), actor=USER).then("tool.failed a")
    settled.when(resolve_doubt("a", done=False), actor=USER).then("command.rejected (not_found)")


def test_a_call_that_can_be_repeated_is_not_settled_after_the_end() -> None:
    ENDED.when(result("b")).then_nothing()


def test_the_end_is_final_for_a_run_with_a_call_in_doubt() -> None:
    ENDED.when(cancel(), actor=USER).then("command.rejected (ended)")
    ENDED.when(time_out(), later_ms=10**9).then_nothing()
    ENDED.when(start_tool("a")).then_nothing()
    ENDED.when(doubt("a")).then_nothing()
    ENDED.when(thought(text="late")).then("usage.metered 1 (late)")


def test_a_doubt_after_the_agent_was_deleted_can_still_be_settled() -> None:
    BEGUN.given(delete(), actor=USER).when(result("a")).then("tool.completed a")
