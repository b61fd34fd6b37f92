"""What follows from a tool's result, and from a person's word on a call in doubt."""

from processors.agents.decider import rejected
from processors.executions import delegation, loop_tools
from processors.executions.facts import observed
from processors.executions.prompt import outcome_text, tool_message
from processors.executions.state import SETTLED, Call, Run
from schemas.commands import EndWait, RecordToolResult, ResolveDoubt
from schemas.envelope import is_person
from schemas.events import Event, ToolCompleted, ToolFailed


def on_result(run: Run, command: RecordToolResult) -> list[Event]:
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
    after = _after(run, call, outcome_text(command.output, command.error), "answered")
    stored = loop_tools.kept(run, call) if command.error is None else []
    return [*delegation.finished(run, call, command), result, *stored, *after]


def on_wait_end(run: Run, command: EndWait, at_ms: int) -> list[Event]:
    """A call has waited long enough, by the time of this record."""
    call = run.calls.get(command.call_id)
    if call is None or call.due_ms is None or at_ms < call.due_ms:
        return []
    waited = {"waited_seconds": call.arguments["seconds"]}
    return on_result(run, RecordToolResult(execution_id=run.id, call_id=call.id, output=waited))


def on_doubt_resolved(run: Run, command: ResolveDoubt, actor: str) -> list[Event]:
    """A person says what became of a call in doubt."""
    if not is_person(actor):
        return [rejected(command, "not_a_person", "only a person may say what became of a call", run.id)]
    call = run.calls.get(command.call_id)
    if call is None or call.status != "in_doubt":
        return [rejected(command, "not_in_doubt", "that call is not in doubt", run.id)]
    if command.outcome == "completed":
        error = None
    else:
        error = command.note or "A person found that this call was not carried out."
    result = RecordToolResult(execution_id=run.id, call_id=call.id, output=command.output, error=error)
    return on_result(run, result)


def go_on(run: Run, call: Call, denial: str) -> list[Event]:
    """Return the next observation after `call` was denied, if nothing else of its step is open."""
    return _after(run, call, outcome_text(None, denial), "denied")


def _after(run: Run, call: Call, outcome: str, became: str) -> list[Event]:
    """Return the next observation, if `call` was the last open one of its step."""
    if run.ended or call.step != run.step:
        return []
    step = [other for other in run.calls.values() if other.step == run.step]
    if any(other.status not in SETTLED for other in step if other is not call):
        return []
    fresh = [tool_message(other.model_call_id, outcome if other is call else other.outcome) for other in step]
    summary = ", ".join(f"{other.tool} {became if other is call else other.status}" for other in step)
    return [observed(run, fresh, tuple(other.id for other in step), summary[:500])]
