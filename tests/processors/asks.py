"""Commands as a test says them: ids of runs, steps, calls and approvals come from the `Spec` that is asked."""

from collections.abc import Callable, Sequence
from typing import Any

from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue
from schemas.chat import FinishReason, ToolCall, Usage
from schemas.commands import (
    ActivateAgent,
    AdvanceSchedule,
    CancelExecution,
    CreateAgent,
    DeactivateAgent,
    DeleteAgent,
    DoubtTool,
    ExpireApproval,
    RecalledMemory,
    RecordAttempt,
    RecordContext,
    RecordGoalProgress,
    RecordModelFailure,
    RecordThought,
    RecordToolResult,
    ResolveApproval,
    ResolveDoubt,
    StartExecution,
    StartTool,
    TimeOutExecution,
    UpdateAgent,
)
from schemas.governance import SiteGrants
from schemas.ids import ApprovalId, CallId
from schemas.message import Json, JsonObject
from schemas.module_events import Trigger, TriggerType
from tests.processors.samples import CATALOGUE, START_MS, config
from tests.processors.spec import Spec

USAGE = Usage(input_tokens=100, output_tokens=10)
NOBODY = "00000000-0000-8000-8000-000000000000"  # names nothing


def create(agent: AgentConfig | None = None) -> CreateAgent:
    return CreateAgent(config=agent or config())


def update(expected_version: int | None = None, **changes: Any) -> UpdateAgent:
    return UpdateAgent(config=config(**changes), expected_version=expected_version)


def activate() -> ActivateAgent:
    return ActivateAgent()


def deactivate(*, cancel_runs: bool = False) -> DeactivateAgent:
    return DeactivateAgent(cancel_runs=cancel_runs)


def progress(goal: str = "Win", amount: float = 1, id_: str = "e1", time_ms: int = START_MS) -> RecordGoalProgress:
    return RecordGoalProgress(
        goal=goal, amount=amount, source="/crm", id=id_, event_type="crm.deal.won", time_ms=time_ms
    )


def delete() -> DeleteAgent:
    return DeleteAgent()


def start(
    id_: str = "trigger-1",
    *,
    type_: TriggerType = "manual",
    event_type: str | None = None,
    time_ms: int = START_MS,
    data: Json = None,
    depth: int = 0,
    caused_by: str | None = None,
) -> StartExecution:
    return StartExecution(
        trigger=Trigger(
            type=type_,
            source="/tests",
            id=id_,
            event_type=event_type,
            time_ms=time_ms,
            data=data,
            depth=depth,
            caused_by=caused_by,
        )
    )


def advance(key: str, pick: int) -> Callable[[Spec], AdvanceSchedule]:
    """A timer's word on a schedule, now and then a wrong one."""

    def ask(spec: Spec) -> AdvanceSchedule:
        planned = spec.stream.agent.schedules.get(key)
        after_ms = planned.after_ms if planned is not None and pick % 5 else spec.at_ms - pick
        until_ms = after_ms + (pick % 4) * 500
        return AdvanceSchedule(
            schedule=key,
            after_ms=after_ms,
            until_ms=until_ms,
            due_ms=until_ms if pick % 2 else None,
            missed=pick % 3,
            next_due_ms=until_ms + pick * 1_000 if pick % 7 else None,
        )

    return ask


def context(
    catalogue: Catalogue = CATALOGUE,
    *,
    memories: Sequence[RecalledMemory] = (),
    entity: Json = None,
    body: bool = True,
    sha256: str | None = None,
    site: SiteGrants | None = None,
) -> Callable[[Spec], RecordContext]:
    return lambda spec: RecordContext(
        execution_id=spec.run_id,
        memories=tuple(memories),
        entity=entity,
        catalogue_sha256=sha256 or catalogue.sha256,
        catalogue=catalogue if body else None,
        site=site,
    )


def call(name: str, tool: str = "look_up", **arguments: Json) -> ToolCall:
    return ToolCall(id=name, name=tool, arguments=arguments)


def thought(
    *calls: ToolCall,
    text: str = "",
    step: int | None = None,
    reply: str | None = None,
    usage: Usage = USAGE,
    finish: FinishReason | None = None,
    model: str = "gpt-4o",
) -> Callable[[Spec], RecordThought]:
    """The model's reply to the open question; each command is a reply of its own unless it is named."""
    return lambda spec: RecordThought(
        execution_id=spec.run_id,
        step=step or max(1, spec.step),
        reply_id=reply or f"reply-{spec.offset}",
        provider="openai",
        model=model,
        text=text,
        tool_calls=calls,
        finish_reason=finish or ("tool_calls" if calls else "stop"),
        usage=usage,
    )


def model_failure(
    *, step: int | None = None, reply: str | None = None, usage: Usage | None = None
) -> Callable[[Spec], RecordModelFailure]:
    return lambda spec: RecordModelFailure(
        execution_id=spec.run_id,
        step=step or max(1, spec.step),
        reply_id=reply or f"reply-{spec.offset}",
        provider="openai",
        model="gpt-4o",
        reason="overloaded",
        message="529",
        usage=usage,
    )


def attempt(
    *, step: int | None = None, reply: str | None = None, usage: Usage | None = None, unsettled: bool = False
) -> Callable[[Spec], RecordAttempt]:
    """A try of the open question that gave no thought."""
    return lambda spec: RecordAttempt(
        execution_id=spec.run_id,
        step=step or max(1, spec.step),
        reply_id=reply or f"reply-{spec.offset}",
        provider="openai",
        model="gpt-4o",
        reason="cut_stream",
        message="it broke off",
        usage=usage,
        unsettled=unsettled,
    )


def result(name: str, output: Json = "found", *, error: str | None = None) -> Callable[[Spec], RecordToolResult]:
    return lambda spec: RecordToolResult(
        execution_id=spec.run_id,
        call_id=call_id(spec, name),
        output=None if error else output,
        error=error,
        duration_ms=5,
    )


def start_tool(name: str, runner: str = "runner-1") -> Callable[[Spec], StartTool]:
    return lambda spec: StartTool(execution_id=spec.run_id, call_id=call_id(spec, name), runner=runner)


def doubt(name: str, runner: str = "runner-1") -> Callable[[Spec], DoubtTool]:
    return lambda spec: DoubtTool(execution_id=spec.run_id, call_id=call_id(spec, name), runner=runner)


def resolve_doubt(name: str, *, done: bool, output: Json = None, note: str = "") -> Callable[[Spec], ResolveDoubt]:
    return lambda spec: ResolveDoubt(
        execution_id=spec.run_id,
        call_id=call_id(spec, name),
        outcome="completed" if done else "failed",
        output=output,
        note=note,
    )


def approve(
    name: str,
    *,
    approved: bool = True,
    note: str = "",
    roles: Sequence[str] = ("approver",),
    arguments: JsonObject | None = None,
    sha256: str | None = None,
) -> Callable[[Spec], ResolveApproval]:
    return lambda spec: ResolveApproval(
        execution_id=spec.run_id,
        approval_id=approval_id(spec, name),
        approved=approved,
        note=note,
        roles=tuple(roles),
        call_sha256=sha256,
        arguments=arguments,
    )


def expire(name: str) -> Callable[[Spec], ExpireApproval]:
    return lambda spec: ExpireApproval(execution_id=spec.run_id, approval_id=approval_id(spec, name))


def cancel(reason: str = "no longer needed") -> Callable[[Spec], CancelExecution]:
    return lambda spec: CancelExecution(execution_id=spec.run_id, reason=reason)


def time_out() -> Callable[[Spec], TimeOutExecution]:
    return lambda spec: TimeOutExecution(execution_id=spec.run_id)


def call_id(spec: Spec, name: str) -> CallId:
    return spec.call_ids.get(name, CallId(NOBODY))


def approval_id(spec: Spec, name: str) -> ApprovalId:
    return spec.approval_ids.get(name, ApprovalId(NOBODY))


# How most stories begin.
ACTIVE = Spec().given(create(), activate())
STARTED = ACTIVE.given(start())
THINKING = STARTED.given(context())
