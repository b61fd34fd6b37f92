"""How a run ends: once, with every begun call in doubt first, and with what it used."""

from typing import TypedDict

from processors.executions.state import Run
from schemas.events import (
    ActionTaken,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionTimedOut,
    FailureReason,
    RunTotals,
    StepModelFailed,
    StepThought,
    ToolInDoubt,
)
from schemas.ids import AgentId, CallId, ExecutionId

Spent = StepThought | StepModelFailed

ACTIONS_TOLD = 500  # the newest calls that a run's end lists, so that it always fits into an event; all are in the log


class _Summary(TypedDict):
    execution_id: ExecutionId
    agent_id: AgentId
    actions_taken: tuple[ActionTaken, ...]
    tokens_used: int
    totals: RunTotals
    duration_ms: int


def completed(run: Run, result: str, at_ms: int, spent: Spent) -> list[Event]:
    """Return the events with which a run reaches its end; `spent` was decided just before."""
    return [*_doubts(run), ExecutionCompleted(**_summary(run, at_ms, spent), result=result)]


def failed(run: Run, reason: FailureReason, error: str, at_ms: int, spent: Spent | None = None) -> list[Event]:
    """Return the events with which a run fails."""
    return [*_doubts(run), ExecutionFailed(**_summary(run, at_ms, spent), reason=reason, error=error)]


def cancelled(run: Run, reason: str, by: str, at_ms: int, denied: CallId | None = None) -> list[Event]:
    """Return the events with which somebody ends a run; `denied` is a call refused in the same decision."""
    return [*_doubts(run), ExecutionCancelled(**_summary(run, at_ms, None, denied), reason=reason, cancelled_by=by)]


def timed_out(run: Run, at_ms: int) -> list[Event]:
    """Return the events with which a run's time is over."""
    seconds = run.limits.timeout_seconds
    return [*_doubts(run), ExecutionTimedOut(**_summary(run, at_ms, None), timeout_seconds=seconds)]


def _doubts(run: Run) -> list[Event]:
    return [
        ToolInDoubt(execution_id=run.id, call_id=call.id, tool=call.tool, runner=call.runner or "")
        for call in run.calls.values()
        if call.status == "started"
    ]


def _summary(run: Run, at_ms: int, spent: Spent | None, denied: CallId | None = None) -> _Summary:
    totals = run.totals()
    if spent is not None:
        usage = spent.usage
        totals = totals.model_copy(
            update={
                "llm_calls": totals.llm_calls + 1,
                "tokens_input": totals.tokens_input + (usage.input_tokens if usage else 0),
                "tokens_output": totals.tokens_output + (usage.output_tokens if usage else 0),
                "cost_micros": totals.cost_micros + spent.cost_micros,
            }
        )
    return _Summary(
        execution_id=run.id,
        agent_id=run.agent_id,
        actions_taken=tuple(
            ActionTaken(call_id=call.id, tool=call.tool, status="denied" if call.id == denied else call.ended_as)
            for call in [*run.calls.values()][-ACTIONS_TOLD:]
        ),
        tokens_used=totals.tokens_input + totals.tokens_output,
        totals=totals,
        duration_ms=max(0, at_ms - run.started_at_ms),
    )
