"""Runs that work for other runs: an orchestrator's tool call starts one, and its end is the call's result.

The two are in different streams. Whatever must cross is awaited by one of them until the log says that it has
arrived: the parent awaits the child's start, or its cancellation, until the outcome is recorded; the child awaits
that its end was told. So neither's owner may die at any moment without the other hearing of it in the end.
"""

from processors.executions.delegation_rules import FORCED_STEP, with_event
from processors.executions.policy import Denial
from processors.executions.state import Call, Run
from schemas.agents import AgentConfig
from schemas.commands import AnyCommand, RecordToolResult, ReportDelegation
from schemas.delegation import Delegator, Outcome, OutcomeStatus
from schemas.events import (
    DelegationFinished,
    DelegationReported,
    Event,
    PlannedCall,
    RunLimits,
    ToolFailed,
)
from schemas.ids import ExecutionId
from schemas.module_events import Trigger

NO_LIMITS = RunLimits(max_steps=0, max_tool_calls_per_step=0, timeout_seconds=0)

_STATUSES: dict[str, OutcomeStatus] = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
    "timed_out": "timed_out",
}
_SAID = {
    "failed": "The agent's run failed",
    "cancelled": "The agent's run was cancelled",
    "timed_out": "The agent ran out of time",
    "refused": "The agent did not begin",
}


def refusal(config: AgentConfig, run: Run, call: PlannedCall, earlier: int) -> Denial | None:
    """Return why `call` may not delegate; `earlier` calls of its step do already."""
    slug = call.arguments.get("agent")
    if slug not in config.managed_agents:
        known = ", ".join(config.managed_agents) or "none"
        return Denial("not_allowed", f"You may delegate to these agents only: {known}.")
    if slug == config.slug:
        return Denial("not_allowed", "You can't delegate to yourself.")
    if run.trigger.depth >= config.max_causation_depth:
        return Denial(
            "not_allowed", f"Work may be passed on {config.max_causation_depth} times at most: do it yourself."
        )
    if run.delegations + earlier >= config.max_delegations_per_run:
        limit = config.max_delegations_per_run
        return Denial("too_many_calls", f"At most {limit} delegations a run: go on with what you have.")
    return None


def trigger_of(run: Run, call: Call) -> Trigger:
    """Return what wakes the agent that `call` is for: the same however often it is sent."""
    context = call.arguments.get("context")
    if call.step == FORCED_STEP:
        context = with_event(run.trigger, context)
    return Trigger(
        type="delegation",
        source=f"/executions/{run.id}",
        id=call.id,
        time_ms=call.delegated_at_ms,
        data={"task": call.arguments.get("task", ""), "context": context},
        depth=run.trigger.depth + 1,
        caused_by=run.agent_id,
        delegator=Delegator(agent_id=run.agent_id, execution_id=run.id, call_id=call.id),
        budget=call.share,
    )


def refused_id(delegator: Delegator) -> ExecutionId:
    """Return the id under which a stream keeps that it owes an answer to a call that started no run: the call's."""
    return ExecutionId(delegator.call_id)


def result_for_delegator(run: Run, delegator: Delegator) -> RecordToolResult:
    """Return what an ended run tells the run that it worked for."""
    status: OutcomeStatus = "refused" if run.refused else _STATUSES[run.status]
    outcome = Outcome(
        agent_id=run.agent_id,
        execution_id=None if run.refused else run.id,
        status=status,
        runs=run.delegated_runs + (0 if run.refused else 1),
        tokens_input=run.tokens_input + run.delegated_tokens_input,
        tokens_output=run.tokens_output + run.delegated_tokens_output,
        cost_micros=run.cost_micros + run.delegated_cost_micros,
    )
    if status == "completed":
        told = {"status": status, "result": run.outcome}
        return RecordToolResult(
            execution_id=delegator.execution_id, call_id=delegator.call_id, output=told, delegated=outcome
        )
    said = f"{_SAID[status]}: {run.outcome}" if run.outcome else f"{_SAID[status]}."
    return RecordToolResult(
        execution_id=delegator.execution_id, call_id=delegator.call_id, error=said[:2_000], delegated=outcome
    )


def on_report(run: Run, command: ReportDelegation) -> list[Event]:
    """The run's end was told to the run that it worked for."""
    delegator = run.trigger.delegator
    if delegator is None or not run.ended or run.reported:
        return []
    return [DelegationReported(execution_id=run.id, delegator=delegator)]


def settled(run: Run, command: AnyCommand, said: str) -> list[Event]:
    """Return what settles a delegation though `command` could not be decided: it comes once, and nobody sends it again.

    The call fails with `said` as its error, and counts what the other run used.
    """
    if isinstance(command, ReportDelegation):
        return on_report(run, command)
    if not isinstance(command, RecordToolResult) or command.delegated is None:
        return []
    call = run.calls.get(command.call_id)
    if call is None or not call.delegated:
        return []
    failure = ToolFailed(
        execution_id=run.id, step=call.step, call_id=call.id, tool=call.tool, error=said, output=None, duration_ms=0
    )
    return [*finished(run, call, command), failure]


def finished(run: Run, call: Call, command: RecordToolResult) -> list[Event]:
    """Return what a delegated run's end brings besides the call's result: what it cost."""
    if command.delegated is None or call.child is None:
        return []
    return [DelegationFinished(execution_id=run.id, call_id=call.id, outcome=command.delegated)]
