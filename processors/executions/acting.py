"""What follows from a tool's result, and from a person's word on a call."""

from processors.agents.decider import rejected
from processors.agents.state import Agent
from processors.executions import delegation, loop_tools
from processors.executions.endings import cancelled
from processors.executions.facts import denied, observed, requested
from processors.executions.policy import Denial
from processors.executions.prompt import outcome_text, tool_message
from processors.executions.state import SETTLED, Call, Run
from schemas.commands import EndWait, ExpireApproval, RecordToolResult, ResolveApproval, ResolveDoubt
from schemas.events import ApprovalExpired, ApprovalResolved, Event, ToolCompleted, ToolFailed


def on_result(agent: Agent, run: Run, command: RecordToolResult) -> list[Event]:
    """A tool answered: the first answer to a call that waits for one counts."""
    call = run.calls.get(command.call_id)
    if call is None:
        return []
    awaited = call.status in ("started", "in_doubt") or call.delegated or (call.status == "requested" and not run.ended)
    if not awaited:
        return []
    result: Event
    if command.error is None:
        result = ToolCompleted(
            execution_id=run.id,
            step=call.step,
            call_id=call.id,
            tool=call.tool,
            output=command.output,
            full_bytes=command.full_bytes,
            full_sha256=command.full_sha256,
            duration_ms=command.duration_ms,
        )
    else:
        result = ToolFailed(
            execution_id=run.id,
            step=call.step,
            call_id=call.id,
            tool=call.tool,
            error=command.error,
            output=command.output,
            duration_ms=command.duration_ms,
        )
    after = _after(agent, run, call, outcome_text(command.output, command.error))
    stored = loop_tools.kept(run, call) if command.error is None else []
    return [*delegation.finished(run, call, command), result, *stored, *after]


def on_wait_end(agent: Agent, run: Run, command: EndWait, at_ms: int) -> list[Event]:
    """A call has waited long enough, by the time of this record."""
    call = run.calls.get(command.call_id)
    if call is None or call.due_ms is None or at_ms < call.due_ms:
        return []
    waited = {"waited_seconds": call.arguments["seconds"]}
    return on_result(agent, run, RecordToolResult(execution_id=run.id, call_id=call.id, output=waited))


def on_doubt_resolved(agent: Agent, run: Run, command: ResolveDoubt) -> list[Event]:
    """A person says what became of a call in doubt."""
    call = run.calls.get(command.call_id)
    if call is None or call.status != "in_doubt":
        return [rejected(command, "not_in_doubt", "that call is not in doubt", run.id)]
    if command.outcome == "completed":
        error = None
    else:
        error = command.note or "A person found that this call was not carried out."
    result = RecordToolResult(execution_id=run.id, call_id=call.id, output=command.output, error=error)
    return on_result(agent, run, result)


def _after(agent: Agent, run: Run, call: Call, outcome: str) -> list[Event]:
    """Return the next observation, if `call` was the last open one of its step."""
    if run.ended or call.step != run.step:
        return []
    step = [other for other in run.calls.values() if other.step == run.step]
    if any(other.status not in SETTLED for other in step if other is not call):
        return []
    fresh = [tool_message(other.model_call_id, outcome if other is call else other.outcome) for other in step]
    summary = ", ".join(f"{other.tool} answered" if other is call else f"{other.tool} {other.status}" for other in step)
    return [observed(run, fresh, tuple(other.id for other in step), summary[:500])]


def on_approval(run: Run, command: ResolveApproval, actor: str, at_ms: int) -> list[Event]:
    """A person says yes or no to a risky call."""
    call = _call_awaiting(run, command.approval_id)
    if call is None:
        return [rejected(command, "not_pending", "that approval is not pending", run.id)]
    if at_ms >= call.expires_at_ms:
        return [rejected(command, "expired", "that approval has expired", run.id)]
    resolved = ApprovalResolved(
        execution_id=run.id,
        approval_id=command.approval_id,
        call_id=call.id,
        approved=command.approved,
        resolved_by=actor,
        note=command.note,
    )
    if command.approved:
        tool = run.catalogue.tool(call.tool)
        version = tool.version if tool is not None else ""
        return [resolved, *requested(run, call.id, call.tool, version, call.sha256, call.arguments)]
    refused = denied(run, call.id, call.tool, Denial("approval", "A person did not approve this action."))
    said = f"the action {call.tool!r} was not approved"
    return [resolved, refused, *cancelled(run, said, actor, at_ms, denied=call.id)]


def on_expiry(run: Run, command: ExpireApproval, actor: str, at_ms: int) -> list[Event]:
    """Nobody answered in time, by the time of this record."""
    call = _call_awaiting(run, command.approval_id)
    if call is None or at_ms < call.expires_at_ms:
        return []
    expired = ApprovalExpired(execution_id=run.id, approval_id=command.approval_id, call_id=call.id)
    refused = denied(run, call.id, call.tool, Denial("expired", "Nobody approved this action in time."))
    return [expired, refused, *cancelled(run, "an approval expired", actor, at_ms, denied=call.id)]


def _call_awaiting(run: Run, approval_id: str) -> Call | None:
    if run.ended:
        return None
    return next((c for c in run.calls.values() if c.status == "approval" and c.approval_id == approval_id), None)
