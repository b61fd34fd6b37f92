"""The ReAct loop of a run: observe, think, act, until it completes, fails, is cancelled or times out.

`decide` is pure and `evolve` only assigns. A decision that ends a run first puts every begun call without a
result in doubt; a late real result settles such a call, also after the end.
"""

from processors.agents.decider import rejected
from processors.agents.state import Agent
from processors.executions import delegation, spending
from processors.executions.acting import on_doubt_resolved, on_result, on_wait_end
from processors.executions.approving import on_approval, on_expiry
from processors.executions.delegation_rules import FORCED_STEP, FORCED_TEXT
from processors.executions.endings import cancelled, timed_out
from processors.executions.facts import furnish
from processors.executions.policy import count_call
from processors.executions.prompt import assistant_message, outcome_text, tool_message
from processors.executions.state import WAITS_FOR_A_PERSON, Call, Run
from processors.executions.thinking import on_attempt, on_context, on_model_failure, on_thought
from schemas.commands import (
    CancelExecution,
    DoubtTool,
    EndWait,
    ExpireApproval,
    RecordAttempt,
    RecordContext,
    RecordModelFailure,
    RecordThought,
    RecordToolResult,
    ReportDelegation,
    ResolveApproval,
    ResolveDoubt,
    RunCommand,
    StartTool,
    TimeOutExecution,
)
from schemas.delegation import Delegator
from schemas.events import (
    ApprovalEscalated,
    ApprovalRequested,
    BudgetAwaited,
    BudgetReserved,
    ContextAssembled,
    DelegationFinished,
    DelegationReported,
    DelegationRuled,
    DelegationStarted,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    ExecutionTimedOut,
    PlannedCall,
    StepAttemptFailed,
    StepModelFailed,
    StepObserved,
    StepThought,
    ToolCompleted,
    ToolDenied,
    ToolFailed,
    ToolInDoubt,
    ToolRequested,
    ToolStarted,
    TriggerSkipped,
    WaitStarted,
)
from schemas.ids import SiteId
from schemas.module_events import Trigger


def decide(  # noqa: C901 - one case a command
    agent: Agent, run: Run, command: RunCommand, actor: str, at_ms: int
) -> list[Event]:
    """Return the new facts; none if `command` was already handled or comes too late to matter."""
    match command:
        case RecordThought():
            return on_thought(agent, run, command, at_ms)
        case RecordToolResult():
            return on_result(run, command)
        case RecordContext():
            return on_context(agent, run, command, at_ms)
        case StartTool():
            return _start_tool(run, command)
        case DoubtTool():
            return _doubt_tool(run, command)
        case RecordModelFailure():
            return on_model_failure(run, command, at_ms)
        case RecordAttempt():
            return on_attempt(run, command)
        case CancelExecution(reason=reason):
            if run.ended:
                return [rejected(command, "ended", f"the run is {run.status} already", run.id)]
            return cancelled(run, reason, actor, at_ms)
        case TimeOutExecution():
            due = not run.ended and run.paused_at_ms is None and at_ms >= run.deadline_ms
            return timed_out(run, at_ms) if due else []
        case ResolveDoubt():
            return on_doubt_resolved(run, command, actor)
        case ResolveApproval():
            return on_approval(agent, run, command, actor, at_ms)
        case ExpireApproval():
            return on_expiry(agent, run, command, actor, at_ms)
        case EndWait():
            return on_wait_end(run, command, at_ms)
        case ReportDelegation():
            return delegation.on_report(run, command)


def begin(event: ExecutionStarted, site_id: SiteId, correlation_id: str, at_ms: int) -> Run:
    """Return the run that `event` starts."""
    return Run(
        id=event.execution_id,
        agent_id=event.agent_id,
        site_id=site_id,
        agent_version=event.agent_version,
        trigger=event.trigger,
        limits=event.limits,
        correlation_id=correlation_id,
        started_at_ms=at_ms,
        deadline_ms=at_ms + event.limits.timeout_seconds * 1000,
        requester=event.requester,
    )


def refuse(agent: Agent, event: TriggerSkipped, delegator: Delegator, correlation_id: str, at_ms: int) -> Run:
    """Return what a stream keeps of a delegation that it refused, until it was told: a run that never began."""
    trigger = Trigger(
        type=event.trigger_type,
        source=event.trigger_source,
        id=event.trigger_id,
        time_ms=event.trigger_time_ms,
        delegator=delegator,
    )
    return Run(
        id=delegation.refused_id(delegator),
        agent_id=agent.id,
        site_id=agent.site_id,
        agent_version=agent.version,
        trigger=trigger,
        limits=delegation.NO_LIMITS,
        correlation_id=correlation_id,
        started_at_ms=at_ms,
        deadline_ms=at_ms,
        status="cancelled",
        outcome=event.message or event.reason,
        refused=True,
    )


def evolve(agent: Agent, run: Run, event: Event, at_ms: int) -> None:
    """Assign what `event` says to `run`."""
    match event:
        case StepObserved():
            for call_id in event.calls:
                call = run.calls[call_id]
                run.say(tool_message(call.model_call_id, call.outcome))
            run.status, run.step, run.final, run.waits = "thinking", event.step, event.final, False
        case StepThought():
            _spend(run, event)
            run.status, run.waits = "acting", False
            run.say(assistant_message(event.text, event.calls))
            spending.learn(run, event)
            _plan(run, event.calls, event.step)
        case ContextAssembled():
            run.memories, run.entity = event.memories, event.entity
            run.catalogue_sha256 = event.catalogue_sha256
            agent.site = event.site or agent.site
            furnish(agent, run)
        case DelegationRuled():
            run.rules = event.rules
            furnish(agent, run)
            if event.calls:
                run.status = "acting"
                run.say(assistant_message(FORCED_TEXT, event.calls))
                _plan(run, event.calls, FORCED_STEP)
        case StepModelFailed() | StepAttemptFailed():
            _spend(run, event)
        case BudgetReserved() | BudgetAwaited():
            spending.evolve_run(run, event)
        case ExecutionCompleted() | ExecutionFailed() | ExecutionCancelled() | ExecutionTimedOut():
            _evolve_end(run, event)
        case _:
            _evolve_call(agent, run, event, at_ms)


def _evolve_end(run: Run, event: ExecutionCompleted | ExecutionFailed | ExecutionCancelled | ExecutionTimedOut) -> None:
    match event:
        case ExecutionCompleted():
            run.end("completed", event.result)
        case ExecutionFailed():
            run.end("failed", event.error)
        case ExecutionCancelled():
            run.end("cancelled", event.reason)
        case ExecutionTimedOut():
            run.end("timed_out", f"after {event.timeout_seconds} s")


def _evolve_call(agent: Agent, run: Run, event: Event, at_ms: int) -> None:
    match event:
        case ToolRequested():
            call = run.calls[event.call_id]
            call.status, call.sha256 = "requested", event.call_sha256
            run.tool_calls += 1
            count_call(agent, run.catalogue.tool(event.tool), at_ms)
        case ToolCompleted():
            call = run.calls[event.call_id]
            call.status, call.outcome = "completed", outcome_text(event.output, None)
        case ToolFailed():
            call = run.calls[event.call_id]
            call.status, call.outcome = "failed", outcome_text(event.output, event.error)
        case ToolDenied():
            call = run.calls[event.call_id]
            call.status, call.outcome = "denied", outcome_text(None, event.message)
        case ToolStarted():
            call = run.calls[event.call_id]
            call.status, call.runner = "started", event.runner
        case ToolInDoubt():
            run.calls[event.call_id].status = "in_doubt"
        case ApprovalRequested():
            call = run.calls[event.call_id]
            call.status, call.sha256 = "approval", event.call_sha256
            call.approval_id, call.expires_at_ms, call.role = event.approval_id, event.expires_at_ms, event.role
            call.escalated = False
            if event.arguments is not None and event.edited_by is not None:
                call.arguments = event.arguments
                call.edited_by = (*call.edited_by, event.edited_by)
        case ApprovalEscalated():
            call = run.calls[event.call_id]
            call.role, call.expires_at_ms, call.escalated = event.role, event.expires_at_ms, True
        case _:
            _evolve_delegation(run, event, at_ms)
            return
    _stand_still(run, at_ms)


def _evolve_delegation(run: Run, event: Event, at_ms: int) -> None:
    match event:
        case WaitStarted(seconds=seconds):
            run.calls[event.call_id].due_ms = at_ms + seconds * 1000
        case DelegationStarted():
            call = run.calls[event.call_id]
            call.child, call.delegated_at_ms = event.child_agent_id, at_ms
            run.delegations += 1
        case DelegationFinished(outcome=outcome):
            run.delegated_runs += outcome.runs
            run.delegated_tokens_input += outcome.tokens_input
            run.delegated_tokens_output += outcome.tokens_output
            run.delegated_cost_micros += outcome.cost_micros
        case DelegationReported():
            run.reported = True


def _plan(run: Run, calls: tuple[PlannedCall, ...], step: int) -> None:
    for planned in calls:
        tool = run.catalogue.tool(planned.tool)
        run.calls[planned.call_id] = Call(
            id=planned.call_id,
            model_call_id=planned.model_call_id,
            tool=planned.tool,
            arguments=planned.arguments,
            step=step,
            idempotent=tool is None or tool.idempotent,
        )


def _stand_still(run: Run, at_ms: int) -> None:
    """The run's time stands still while a person is awaited, and the deadline moves by as much."""
    awaited = any(call.status in WAITS_FOR_A_PERSON for call in run.calls.values())
    if awaited and run.paused_at_ms is None:
        run.paused_at_ms = at_ms
    elif not awaited and run.paused_at_ms is not None:
        run.deadline_ms += at_ms - run.paused_at_ms
        run.paused_at_ms = None


def _spend(run: Run, event: StepThought | StepModelFailed | StepAttemptFailed) -> None:
    run.llm_calls += not isinstance(event, StepAttemptFailed) or event.usage is not None  # a refusal was no call
    run.cost_micros += event.cost_micros
    if event.usage is not None:
        run.tokens_input += event.usage.input_tokens
        run.tokens_output += event.usage.output_tokens


def _start_tool(run: Run, command: StartTool) -> list[Event]:
    call = run.calls.get(command.call_id)
    if call is None or run.ended or call.status != "requested" or call.idempotent:
        return []
    return [ToolStarted(execution_id=run.id, call_id=call.id, tool=call.tool, runner=command.runner)]


def _doubt_tool(run: Run, command: DoubtTool) -> list[Event]:
    call = run.calls.get(command.call_id)
    if call is None or call.status != "started" or call.runner != command.runner:
        return []
    return [ToolInDoubt(execution_id=run.id, call_id=call.id, tool=call.tool, runner=command.runner)]
