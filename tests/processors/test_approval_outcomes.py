"""What becomes of a run when a person says no, or nobody says anything; and what is asked again when one says yes."""

from typing import Any

from processors.executions.risk import APPROVAL_MS
from schemas.catalogue import Catalogue
from schemas.events import ApprovalEscalated, ApprovalRequested, StepObserved, ToolDenied
from schemas.governance import EnforcedConstraint, SiteGrants
from tests.processors.asks import (
    activate,
    approve,
    call,
    context,
    create,
    delete,
    expire,
    result,
    start,
    thought,
    update,
)
from tests.processors.fakes import Clock, Owner, StubModel, lines, new_log, process, steps, tell, until
from tests.processors.samples import APPROVING, USER, config, tool
from tests.processors.spec import Spec


def pending(*more: str, **changes: Any) -> Spec:
    """A run of an agent with these changes, whose call `a` waits, and more calls of the same tool."""
    begun = Spec().given(create(config(**changes)), activate(), start(), context())
    return begun.given(thought(*(call(name, "send_mail", id=name) for name in ("a", *more))))


# --- no -------------------------------------------------------------------------------------------------------------


def test_a_denial_can_be_told_to_the_model_with_the_note() -> None:
    told = pending(on_denial="tell").when(approve("a", approved=False, note="ask Ann first"), actor=APPROVING)
    told.then("approval.resolved a", "tool.denied a (approval)", "step.observed 2")
    assert told.the(ToolDenied).message == "A person did not approve this action. They said: ask Ann first"
    assert "ask Ann first" in told.run.transcript[-1].content


def test_a_denial_that_is_told_waits_for_the_other_calls_of_its_step() -> None:
    both = pending("b", on_denial="tell")
    one = both.when(approve("a", approved=False), actor=APPROVING).then(
        "approval.resolved a", "tool.denied a (approval)"
    )
    two = one.when(approve("b"), actor=APPROVING).then("approval.resolved b", "tool.requested b")
    two.when(result("b")).then("tool.completed b", "step.observed 2")
    assert [m.tool_call_id for m in two.given(result("b")).run.transcript[-2:]] == ["a", "b"]


def test_a_denial_that_cancels_leaves_nothing_of_its_step_to_be_granted() -> None:
    gone = pending("b").given(approve("a", approved=False), actor=APPROVING)
    gone.when(approve("b"), actor=APPROVING).then("command.rejected (not_found)")


# --- no answer ------------------------------------------------------------------------------------------------------


def test_an_agent_s_own_time_to_answer_counts() -> None:
    soon = pending(approval_timeout_seconds=60)
    assert soon.the(ApprovalRequested).expires_at_ms == soon.at_ms + 60_000
    soon.when(approve("a"), actor=APPROVING, later_ms=60_000).then("command.rejected (expired)")


def test_an_expiry_can_be_told_to_the_model() -> None:
    told = pending(on_expiry="deny").when(expire("a"), later_ms=APPROVAL_MS)
    told.then("approval.expired a", "tool.denied a (expired)", "step.observed 2")
    told.when(approve("a"), actor=APPROVING).then("command.rejected (not_pending)")


ESCALATING = pending(on_expiry="escalate", escalate_to="manager")


def test_an_expiry_can_ask_another_role_once() -> None:
    asked = ESCALATING.when(expire("a"), later_ms=APPROVAL_MS).then("approval.escalated a")
    escalated = asked.the(ApprovalEscalated)
    assert (escalated.role, escalated.expires_at_ms) == ("manager", asked.at_ms + APPROVAL_MS)
    asked.when(approve("a"), actor=APPROVING).then("command.rejected (not_an_approver)")
    granted = asked.when(approve("a", roles=("manager",)), actor=APPROVING)
    granted.then("approval.resolved a", "tool.requested a")
    over = asked.when(expire("a"), later_ms=APPROVAL_MS)
    over.then("approval.expired a", "tool.denied a (expired)", "execution.cancelled")


def test_the_timer_of_the_first_time_changes_nothing_after_the_escalation() -> None:
    asked = ESCALATING.given(expire("a"), later_ms=APPROVAL_MS)
    asked.when(expire("a"), later_ms=1).then_nothing()


async def test_an_escalation_comes_by_itself_and_then_the_end() -> None:
    clock = Clock()
    log = await new_log(clock=clock)
    asking = config(on_expiry="escalate", escalate_to="manager", approval_timeout_seconds=3_600)
    async with Owner(process(log, StubModel(steps((call("a", "send_mail"),), "Done."))), log):
        await tell(log, create(asking), activate(), start())
        await until(lambda: "approval.requested a" in lines(log))
    clock.moved_ms += 3_600_000
    async with Owner(process(log), log):
        await until(lambda: "approval.escalated a" in lines(log))
    clock.moved_ms += 3_600_000
    async with Owner(process(log), log) as owner:
        await until(lambda: "execution.cancelled" in lines(log))
        await until(lambda: owner.effects == 0)
    assert lines(log)[-4:] == [
        "approval.escalated a",
        "approval.expired a",
        "tool.denied a (expired)",
        "execution.cancelled",
    ]


def test_an_answer_at_the_moment_of_expiry_comes_too_late_and_the_other_role_is_asked_all_the_same() -> None:
    late = ESCALATING.when(approve("a"), actor=APPROVING, later_ms=APPROVAL_MS).then("command.rejected (expired)")
    late.when(expire("a"), later_ms=0).then("approval.escalated a")


def test_the_run_s_time_stands_still_through_an_escalation() -> None:
    waiting = ESCALATING.given(expire("a"), later_ms=APPROVAL_MS)
    granted = waiting.given(approve("a", roles=("manager",)), actor=APPROVING)
    before = pending().run.deadline_ms
    assert granted.run.deadline_ms > before + APPROVAL_MS


# --- yes, and then --------------------------------------------------------------------------------------------------


def test_a_tool_that_was_denied_meanwhile_is_not_called_though_a_person_says_yes() -> None:
    tighter = pending().given(update(denied_tools=("send_*",)), actor=USER)
    refused = tighter.when(approve("a"), actor=APPROVING)
    refused.then("approval.resolved a", "tool.denied a (not_allowed)", "step.observed 2")


def test_a_right_that_the_site_lost_meanwhile_is_none() -> None:
    sending = SiteGrants(modules=("email",))
    mail = Catalogue(tools=(tool("send_mail", risk="high", requires_modules=("email",)),))
    begun = Spec().given(create(), activate(), start(), context(mail, site=sending))
    waiting = begun.given(thought(call("a", "send_mail", id="7")))
    first = waiting.run_id
    lost = waiting.given(start("another"), context(mail, body=False, site=SiteGrants()))
    lost.run_id = first
    lost.when(approve("a"), actor=APPROVING).then(
        "approval.resolved a", "tool.denied a (missing_module)", "step.observed 2"
    )


def test_a_constraint_that_came_meanwhile_holds() -> None:
    rule = EnforcedConstraint(text="Never write to anybody.", tools=("send_*",), effect="deny")
    tighter = pending().given(update(enforced_constraints=(rule,)), actor=USER)
    refused = tighter.when(approve("a"), actor=APPROVING)
    refused.then("approval.resolved a", "tool.denied a (constraint)", "step.observed 2")


def test_looser_rules_do_not_set_free_what_waits() -> None:
    looser = pending().given(update(approval_threshold="critical"), actor=USER)
    looser.when(result("a")).then_nothing()
    assert looser.run.calls[looser.call_ids["a"]].status == "approval"


def test_an_agent_that_was_deleted_does_nothing_more() -> None:
    gone = pending().given(delete(), actor=USER)
    gone.when(approve("a"), actor=APPROVING).then("command.rejected (not_found)")


def test_each_call_of_a_step_is_asked_for_and_the_next_question_comes_when_all_are_settled() -> None:
    three = pending("b", "c", on_denial="tell")
    assert [each.call_id for each in three.all(ApprovalRequested)] == [three.call_ids[name] for name in "abc"]
    done = three.given(approve("c"), approve("a", approved=False), approve("b"), actor=APPROVING).given(result("c"))
    done.when(result("b")).then("tool.completed b", "step.observed 2")
    assert done.given(result("b")).the(StepObserved).calls == tuple(three.call_ids[name] for name in "abc")
