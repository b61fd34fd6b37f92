"""Risky calls wait for a person: once, in time, and for this very call."""

from processors.executions.risk import APPROVAL_MS
from schemas.commands import ResolveApproval
from schemas.events import ApprovalRequested, ExecutionCancelled, ToolDenied, ToolRequested
from schemas.ids import ApprovalId
from tests.processors.asks import (
    NOBODY,
    THINKING,
    approve,
    call,
    cancel,
    context,
    delete,
    expire,
    result,
    start,
    start_tool,
    thought,
)
from tests.processors.samples import AGENT, APPROVING, USER
from tests.processors.spec import SECOND_MS

WAITING = THINKING.given(thought(call("a", "send_mail", id="7")))


def test_a_risky_call_asks_a_person_with_what_it_would_do() -> None:
    WAITING.then("step.thought 1", "approval.requested a")
    asked = WAITING.the(ApprovalRequested)
    assert (asked.agent_id, asked.action_type, asked.risk_level) == (AGENT, "send_mail", "high")
    assert asked.action_description == "Send mail: id='7'"
    assert asked.expires_at_ms == WAITING.at_ms + APPROVAL_MS


def test_a_dangerous_tool_always_asks() -> None:
    asked = THINKING.when(thought(call("a", "wire_money"))).then("step.thought 1", "approval.requested a")
    assert "always" in asked.the(ApprovalRequested).risk_explanation


def test_what_is_made_is_what_was_approved() -> None:
    approved = WAITING.when(approve("a"), actor=APPROVING).then("approval.resolved a", "tool.requested a")
    assert approved.the(ToolRequested).call_sha256 == approved.the(ApprovalRequested).call_sha256
    assert approved.run.calls[approved.call_ids["a"]].arguments == {"id": "7"}


def test_a_grant_is_used_once() -> None:
    approved = WAITING.given(approve("a"), actor=APPROVING)
    approved.when(approve("a"), actor=APPROVING).then("command.rejected (not_pending)")
    approved.given(result("a")).when(approve("a"), actor=APPROVING).then("command.rejected (not_pending)")


def test_a_grant_for_a_call_of_one_run_is_none_for_another_s() -> None:
    other = WAITING.given(start("trigger-2"), context(body=False))
    strayed = ResolveApproval(execution_id=other.run_id, approval_id=other.approval_ids["a"], approved=True)
    other.when(strayed, actor=USER).then("command.rejected (not_pending)")


def test_an_unknown_approval_is_rejected() -> None:
    unknown = ResolveApproval(execution_id=WAITING.run_id, approval_id=ApprovalId(NOBODY), approved=True)
    WAITING.when(unknown, actor=USER).then("command.rejected (not_pending)")


def test_a_refused_call_is_denied_and_ends_the_run() -> None:
    refused = WAITING.when(approve("a", approved=False, note="too dear"), actor=APPROVING)
    refused.then("approval.resolved a", "tool.denied a (approval)", "execution.cancelled")
    end = refused.the(ExecutionCancelled)
    assert (end.cancelled_by, [action.status for action in end.actions_taken]) == (APPROVING, ["denied"])


def test_an_approval_after_its_time_is_rejected_and_never_revives() -> None:
    late = WAITING.when(approve("a"), actor=APPROVING, later_ms=APPROVAL_MS)
    late.then("command.rejected (expired)")
    late.when(approve("a"), actor=APPROVING, later_ms=-APPROVAL_MS).then("command.rejected (expired)")


def test_an_approval_counts_up_to_its_last_millisecond() -> None:
    WAITING.when(approve("a"), actor=APPROVING, later_ms=APPROVAL_MS - 1).then(
        "approval.resolved a", "tool.requested a"
    )


def test_an_approval_that_nobody_gives_expires_and_ends_the_run() -> None:
    expired = WAITING.when(expire("a"), later_ms=APPROVAL_MS)
    expired.then("approval.expired a", "tool.denied a (expired)", "execution.cancelled")
    assert expired.the(ToolDenied).message == "Nobody approved this action in time."


def test_a_timer_that_rings_too_early_changes_nothing() -> None:
    WAITING.when(expire("a"), later_ms=APPROVAL_MS - 1).then_nothing()


def test_an_expiry_after_the_answer_changes_nothing() -> None:
    WAITING.given(approve("a"), actor=APPROVING).when(expire("a"), later_ms=APPROVAL_MS).then_nothing()


def test_an_approval_of_a_run_that_ended_is_rejected() -> None:
    WAITING.given(cancel(), actor=USER).when(approve("a"), actor=APPROVING).then("command.rejected (not_found)")
    WAITING.given(delete(), actor=USER).when(approve("a"), actor=APPROVING).then("command.rejected (not_found)")


def test_an_approval_of_an_ended_run_with_a_call_in_doubt_is_rejected() -> None:
    both = THINKING.given(thought(call("a", "charge_card"), call("b", "send_mail")), start_tool("a"))
    ended = both.given(cancel(), actor=USER)
    ended.when(approve("b"), actor=APPROVING).then("command.rejected (not_pending)")
    ended.when(expire("b"), later_ms=APPROVAL_MS).then_nothing()


def test_a_call_beside_the_one_that_waits_goes_on() -> None:
    both = THINKING.given(thought(call("a"), call("b", "send_mail")))
    both.then("step.thought 1", "tool.requested a", "approval.requested b")
    settled = both.when(result("a")).then("tool.completed a")
    settled.given(approve("b"), actor=APPROVING).when(result("b")).then("tool.completed b", "step.observed 2")


def test_two_approvals_of_a_step_are_two_grants() -> None:
    both = THINKING.given(thought(call("a", "send_mail"), call("b", "send_mail")))
    one = both.when(approve("b"), actor=APPROVING).then("approval.resolved b", "tool.requested b")
    one.when(approve("a"), actor=APPROVING).then("approval.resolved a", "tool.requested a")


def test_a_person_who_answers_twice_at_once_gets_two_answers() -> None:
    WAITING.given(approve("a"), actor=APPROVING, later_ms=SECOND_MS).when(
        approve("a"), actor=APPROVING, later_ms=0
    ).then("command.rejected (not_pending)")
