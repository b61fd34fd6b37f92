"""A risky call waits for a person: asked once, answered once, in time, by somebody who may, for this very call.

A grant is for the frozen arguments and their sha256; nothing that an answer brings along is ever executed. Policy is
asked again when a grant comes, since what was allowed at the time of asking may be denied by now.
"""

from processors.agents.decider import rejected
from processors.agents.state import Agent
from processors.executions.acting import go_on
from processors.executions.endings import cancelled
from processors.executions.facts import denied, requested
from processors.executions.policy import Denial, sha256_of_call
from processors.executions.risk import Risk, assess, describe
from processors.executions.state import Call, Run
from processors.executions.verdict import verdict_on
from schemas.catalogue import ToolDefinition
from schemas.commands import ExpireApproval, ResolveApproval
from schemas.envelope import is_person, spelled
from schemas.events import (
    ApprovalEscalated,
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    Event,
    PlannedCall,
)
from schemas.ids import ApprovalId, approval_id_of
from schemas.message import JsonObject

NOT_APPROVED = "A person did not approve this action."
NOT_IN_TIME = "Nobody approved this action in time."


def ask_for(
    agent: Agent, run: Run, call: PlannedCall | Call, tool: ToolDefinition, risk: Risk, at_ms: int
) -> ApprovalRequested:
    """Return the event that asks a person for a call, with its arguments as they stand in the log."""
    call_id = call.call_id if isinstance(call, PlannedCall) else call.id
    return ApprovalRequested(
        execution_id=run.id,
        approval_id=approval_id_of(at_ms, call_id),
        agent_id=run.agent_id,
        step=run.step,
        call_id=call_id,
        action_type=tool.name,
        action_description=describe(tool, call.arguments),
        risk_level=risk.level,
        risk_explanation=risk.explanation,
        call_sha256=sha256_of_call(tool, call.arguments, run.site_id),
        expires_at_ms=at_ms + agent.config.approval_timeout_seconds * 1000,
        role=agent.config.approver_role,
        arguments=call.arguments,
    )


def on_approval(agent: Agent, run: Run, command: ResolveApproval, actor: str, at_ms: int) -> list[Event]:
    """A person says yes or no to a risky call, or what they would say yes to."""
    call = _call_awaiting(run, command.approval_id)
    if call is None:
        return [rejected(command, "not_pending", "that approval is not pending", run.id)]
    if (fault := _may_not_resolve(run, call, command, actor, at_ms)) is not None:
        return [rejected(command, *fault, run.id)]
    tool = run.catalogue.tool(call.tool)
    if command.arguments is not None and tool is not None:
        changed = sha256_of_call(tool, command.arguments, run.site_id) != call.sha256
        if changed:
            return _asked_anew(agent, run, call, tool, command, command.arguments, actor, at_ms)
    resolved = _resolved(run, call, command, actor)
    if not command.approved:
        return [resolved, *_refused(agent, run, call, command.note, actor, at_ms)]
    verdict = verdict_on(agent, run, _planned(call, call.arguments), at_ms)
    if isinstance(verdict, Denial):
        return [resolved, denied(run, call.id, call.tool, verdict), *go_on(run, call, verdict.message)]
    return [resolved, *requested(run, call.id, call.tool, verdict.version, call.sha256, call.arguments)]


def on_expiry(agent: Agent, run: Run, command: ExpireApproval, actor: str, at_ms: int) -> list[Event]:
    """Nobody answered in time, by the time of this record: somebody else is asked, once, or the call is refused."""
    call = _call_awaiting(run, command.approval_id)
    if call is None or at_ms < call.expires_at_ms:
        return []
    config = agent.config
    if config.on_expiry == "escalate" and config.escalate_to is not None and not call.escalated:
        return [
            ApprovalEscalated(
                execution_id=run.id,
                approval_id=command.approval_id,
                call_id=call.id,
                role=config.escalate_to,
                expires_at_ms=at_ms + config.approval_timeout_seconds * 1000,
            )
        ]
    expired = ApprovalExpired(execution_id=run.id, approval_id=command.approval_id, call_id=call.id)
    refused = denied(run, call.id, call.tool, Denial("expired", NOT_IN_TIME))
    if config.on_expiry == "deny":
        return [expired, refused, *go_on(run, call, NOT_IN_TIME)]
    return [expired, refused, *cancelled(run, "an approval expired", actor, at_ms, denied=call.id)]


def _call_awaiting(run: Run, approval_id: str) -> Call | None:
    if run.ended:
        return None
    return next((c for c in run.calls.values() if c.status == "approval" and c.approval_id == approval_id), None)


def _may_not_resolve(run: Run, call: Call, command: ResolveApproval, actor: str, at_ms: int) -> tuple[str, str] | None:
    """Return why this answer does not count, in a word and in a sentence."""
    if at_ms >= call.expires_at_ms:
        return "expired", "that approval has expired"
    if not is_person(actor):
        return "not_a_person", "only a person may answer"
    if call.role not in command.roles:
        return "not_an_approver", f"only somebody with the role {call.role!r} may answer"
    if run.requester is not None and spelled(actor) == spelled(run.requester.actor):
        return "own_request", "you asked for this run yourself: somebody else must answer"
    if spelled(actor) in map(spelled, call.edited_by):
        return "own_request", "you changed what is asked for: somebody else must answer"
    if command.call_sha256 is not None and command.call_sha256 != call.sha256:
        return "changed", "this is not the call that you saw: look at it again"
    if command.arguments is not None and not command.approved:
        return "invalid", "other arguments go with an approval: a denial has none"
    return None


def _planned(call: Call, arguments: JsonObject) -> PlannedCall:
    return PlannedCall(call_id=call.id, model_call_id=call.model_call_id, tool=call.tool, arguments=arguments)


def _refused(agent: Agent, run: Run, call: Call, note: str, actor: str, at_ms: int) -> list[Event]:
    if agent.config.on_denial == "tell":
        said = f"{NOT_APPROVED} They said: {note}" if note else NOT_APPROVED
        return [denied(run, call.id, call.tool, Denial("approval", said)), *go_on(run, call, said)]
    refused = denied(run, call.id, call.tool, Denial("approval", NOT_APPROVED))
    said = f"the action {call.tool!r} was not approved"
    return [refused, *cancelled(run, said, actor, at_ms, denied=call.id)]


def _asked_anew(
    agent: Agent,
    run: Run,
    call: Call,
    tool: ToolDefinition,
    command: ResolveApproval,
    arguments: JsonObject,
    actor: str,
    at_ms: int,
) -> list[Event]:
    """Ask somebody else for the call with other arguments; what was asked before is answered with no."""
    planned = _planned(call, arguments)
    verdict = verdict_on(agent, run, planned, at_ms)
    if isinstance(verdict, Denial):
        return [rejected(command, verdict.reason, verdict.message, run.id)]
    found = assess(agent, run, tool, arguments)
    risk = Risk(found.level, found.explanation or "a person changed the arguments", gated=True)
    anew = approval_id_of(at_ms, call.id, len(call.edited_by) + 1)
    asked = ask_for(agent, run, planned, tool, risk, at_ms)
    asked = asked.model_copy(
        update={
            "approval_id": anew,
            "step": call.step,
            "role": call.role,
            "edited_by": actor,
            "replaces": command.approval_id,
        }
    )
    return [_resolved(run, call, command, actor, approved=False, replaced_by=anew), asked]


def _resolved(
    run: Run,
    call: Call,
    command: ResolveApproval,
    actor: str,
    *,
    approved: bool | None = None,
    replaced_by: ApprovalId | None = None,
) -> ApprovalResolved:
    return ApprovalResolved(
        execution_id=run.id,
        approval_id=command.approval_id,
        call_id=call.id,
        approved=command.approved if approved is None else approved,
        resolved_by=actor,
        note=command.note,
        replaced_by=replaced_by,
    )
