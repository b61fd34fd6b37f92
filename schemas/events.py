"""What has happened: the payloads of `ai.events`. Past tense, immutable, each carrying what is new.

Arguments of a tool call stand once, in `ai.step.thought`; later events name the call and its sha256.
Ids and time are in the record's envelope. Money is in micro-units, durations in ms, times in Unix ms.
"""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.agents import AgentConfig, AgentType
from schemas.catalogue import Catalogue, RiskLevel
from schemas.chat import FinishReason, Usage
from schemas.commands import RecalledMemory
from schemas.delegation import Delegator, Outcome, RuleFound
from schemas.governance import APPROVER, Requester, SiteGrants
from schemas.ids import AgentId, ApprovalId, CallId, ExecutionId
from schemas.message import Json, JsonObject, Message
from schemas.module_events import Trigger, TriggerType

SkipReason = Literal[
    "inactive", "not_allowed", "quota", "concurrency", "loop", "stale", "future", "cancelled", "internal"
]
FailureReason = Literal[
    "max_steps_reached",
    "model_failed",
    "content_filter",
    "invalid_reply",
    "denied",
    "budget_exceeded",
    "unpriced_model",
    "internal",
]
DenialReason = Literal[
    "unknown_tool",
    "not_allowed",
    "missing_permission",
    "missing_module",
    "arguments_too_large",
    "invalid_arguments",
    "constraint",
    "rate_limited",
    "too_many_calls",
    "approval",
    "expired",
]


class Event(Message):
    """A fact; `wire` is its name in `ce_type`, which never changes, `version` that of its schema."""

    wire: ClassVar[str]
    version: ClassVar[int] = 1


class RunEvent(Event):
    """A fact of one run."""

    execution_id: ExecutionId


# --- agents ---------------------------------------------------------------------------------------------------------


class AgentCreated(Event):
    """An agent exists, not yet active."""

    wire = "ai.agent.created"
    # 1: a configuration without time zone and missed runs; 2: without rules by type and measured goals; 3: without
    # permissions, risk rules, approvals, budgets and fallback models
    version = 4
    id: AgentId
    name: str
    type: AgentType
    domain: str | None
    agent_version: int
    config: AgentConfig


class AgentUpdated(Event):
    """The configuration changed: `changes` has the new value of each changed field.

    `rolled_back_to`: it is that of this earlier version again.
    """

    wire = "ai.agent.updated"
    version = 2  # 1: without `rolled_back_to` and `reason`
    id: AgentId
    agent_version: int
    changes: JsonObject
    rolled_back_to: int | None = None
    reason: str = ""


class AgentDeleted(Event):
    """The agent is gone; its history stays."""

    wire = "ai.agent.deleted"
    id: AgentId
    name: str


class AgentActivated(Event):
    """Triggers start runs from now on."""

    wire = "ai.agent.activated"
    id: AgentId
    name: str


class AgentDeactivated(Event):
    """Triggers start no more runs; `cancel_runs`: those under way were cancelled, else they finish."""

    wire = "ai.agent.deactivated"
    version = 2  # 1: without `cancel_runs`; what ran finished
    id: AgentId
    name: str
    cancel_runs: bool = False


class TriggerSkipped(Event):
    """A trigger that started no run, and why."""

    wire = "ai.agent.trigger_skipped"
    trigger_type: TriggerType
    trigger_source: str
    trigger_id: str
    trigger_time_ms: int
    event_type: str | None
    reason: SkipReason
    message: str = ""
    delegator: Delegator | None = None


class ScheduleAdvanced(Event):
    """A schedule was followed up to `until_ms`; it comes next at `next_due_ms`, or never again.

    At `due_ms` it was due: the next event says what came of it. `missed` times before that started no run.
    """

    wire = "ai.agent.schedule_advanced"
    schedule: str
    due_ms: int | None
    missed: int
    until_ms: int
    next_due_ms: int | None


class CatalogueRecorded(Event):
    """Tools and prices that runs of this stream refer to by sha256."""

    wire = "ai.agent.catalogue_recorded"
    sha256: str
    catalogue: Catalogue


class GoalProgressed(Event):
    """An event moved a goal: by `delta`, to `value`, which `count` events gave since the goal's period began.

    `total` is the sum of their amounts. `achieved_at_ms` is since when the goal is met, None while it is not;
    `period_start_ms` and `period_end_ms` are None for a goal without a period.
    """

    wire = "ai.goal.progressed"
    goal: str
    event_source: str
    event_id: str
    event_type: str
    event_time_ms: int
    amount: float
    delta: float
    value: float
    total: float
    count: int
    achieved: bool
    achieved_at_ms: int | None
    period_start_ms: int | None
    period_end_ms: int | None


# --- runs -----------------------------------------------------------------------------------------------------------


class RunLimits(Message):
    """What a run may use, fixed when it starts."""

    max_steps: int
    max_tool_calls_per_step: int
    timeout_seconds: int


ActionStatus = Literal["completed", "failed", "denied", "in_doubt", "open"]


class ActionTaken(Message):
    """One tool call of a run, and how it ended."""

    call_id: CallId
    tool: str
    status: ActionStatus


class ExecutionStarted(RunEvent):
    """A run began, for this trigger, with this version of its agent."""

    wire = "ai.execution.started"
    version = 2  # 1: without whom it works for, and what its delegator lets it spend
    agent_id: AgentId
    trigger_type: TriggerType
    trigger: Trigger
    agent_version: int
    limits: RunLimits
    requester: Requester | None = None


class ContextAssembled(RunEvent):
    """What the run knew when it began to think. `site` is set where the stream did not know the site's grants so."""

    wire = "ai.context.assembled"
    version = 2  # 1: without the site's grants
    memories: tuple[RecalledMemory, ...]
    entity: Json
    catalogue_sha256: str
    site: SiteGrants | None = None


class RunTotals(Message):
    """What a run used up to its end; runs that it delegated to are counted apart."""

    steps: int
    llm_calls: int
    tool_calls: int
    tokens_input: int
    tokens_output: int
    cost_micros: int
    delegated_runs: int = 0
    delegated_cost_micros: int = 0


class ExecutionCompleted(RunEvent):
    """The run reached its end."""

    wire = "ai.execution.completed"
    agent_id: AgentId
    result: str
    actions_taken: tuple[ActionTaken, ...]
    tokens_used: int
    totals: RunTotals
    duration_ms: int


class ExecutionFailed(RunEvent):
    """The run can't go on."""

    wire = "ai.execution.failed"
    version = 2  # 1: with fewer reasons
    agent_id: AgentId
    reason: FailureReason
    error: str
    actions_taken: tuple[ActionTaken, ...]
    tokens_used: int
    totals: RunTotals
    duration_ms: int


class ExecutionCancelled(RunEvent):
    """Somebody ended the run."""

    wire = "ai.execution.cancelled"
    agent_id: AgentId
    reason: str
    cancelled_by: str
    actions_taken: tuple[ActionTaken, ...]
    tokens_used: int
    totals: RunTotals
    duration_ms: int


class ExecutionTimedOut(RunEvent):
    """The run's time was over."""

    wire = "ai.execution.timed_out"
    agent_id: AgentId
    timeout_seconds: int
    actions_taken: tuple[ActionTaken, ...]
    tokens_used: int
    totals: RunTotals
    duration_ms: int


# --- steps ----------------------------------------------------------------------------------------------------------


class StepObserved(RunEvent):
    """The model is asked. The outcomes of `calls` are new for it; the log holds the rest of the prompt.

    `final`: the last question, without tools. `prompt_sha256` is over the whole prompt, see executions.prompt.
    """

    wire = "ai.step.observed"
    step: int
    summary: str
    calls: tuple[CallId, ...]
    final: bool
    prompt_sha256: str


class PlannedCall(Message):
    """A tool call of a step: our id, the model's name for it, and the arguments, which stand only here."""

    call_id: CallId
    model_call_id: str
    tool: str
    arguments: JsonObject


class StepThought(RunEvent):
    """The model's reply, and what it cost."""

    wire = "ai.step.thought"
    step: int
    reply_id: str
    provider: str
    model: str
    text: str
    calls: tuple[PlannedCall, ...]
    finish_reason: FinishReason
    usage: Usage
    cost_micros: int
    currency: str
    price_version: str | None
    latency_ms: int


class StepModelFailed(RunEvent):
    """A model call was given up."""

    wire = "ai.step.model_failed"
    step: int
    reply_id: str
    provider: str
    model: str
    reason: str
    message: str
    usage: Usage | None
    cost_micros: int
    currency: str
    price_version: str | None


class StepAttemptFailed(RunEvent):
    """A question to a model gave no thought, and another try followed; what it cost, where that is known.

    `unsettled`: tokens may have been spent of which nobody told us.
    """

    wire = "ai.step.attempt_failed"
    step: int
    reply_id: str
    provider: str
    model: str
    reason: str
    message: str
    usage: Usage | None
    unsettled: bool
    cost_micros: int
    currency: str
    price_version: str | None


class BudgetReserved(RunEvent):
    """A run may spend this much on its next question, or leave it to the run that `call_id` delegates to.

    It is held until what was spent is known. None is where nothing caps it.
    """

    wire = "ai.budget.reserved"
    step: int
    call_id: CallId | None
    tokens: int | None
    cost_micros: int | None


class BudgetAwaited(RunEvent):
    """The next question may cost this much, and has to wait until others' reservations are settled."""

    wire = "ai.budget.awaited"
    step: int
    tokens: int
    cost_micros: int


class UsageMetered(RunEvent):
    """A reply that was paid for but came second or too late."""

    wire = "ai.usage.metered"
    step: int
    reply_id: str
    provider: str
    model: str
    reason: Literal["second", "late", "internal"]
    usage: Usage
    cost_micros: int
    currency: str
    price_version: str | None


# --- tools and approvals --------------------------------------------------------------------------------------------


class ToolRequested(RunEvent):
    """A call may be made. `call_sha256` is over tool, version, arguments and site."""

    wire = "ai.tool.requested"
    step: int
    call_id: CallId
    tool: str
    tool_version: str
    call_sha256: str
    idempotency_key: str


class ToolStarted(RunEvent):
    """Only `runner` may begin this call, which can't be repeated."""

    wire = "ai.tool.started"
    call_id: CallId
    tool: str
    runner: str


class ToolCompleted(RunEvent):
    """A tool answered; `full_bytes` and `full_sha256` are set where the output was cut."""

    wire = "ai.tool.completed"
    step: int
    call_id: CallId
    tool: str
    output: Json
    full_bytes: int | None
    full_sha256: str | None
    duration_ms: int


class ToolFailed(RunEvent):
    """A tool gave an error."""

    wire = "ai.tool.failed"
    step: int
    call_id: CallId
    tool: str
    error: str
    output: Json
    duration_ms: int


class ToolDenied(RunEvent):
    """A call was refused and never made."""

    wire = "ai.tool.denied"
    version = 2  # 1: with fewer reasons
    step: int
    call_id: CallId
    tool: str
    reason: DenialReason
    message: str


class ToolInDoubt(RunEvent):
    """A call was begun, its end is unknown and it can't be repeated: a person decides."""

    wire = "ai.tool.in_doubt"
    call_id: CallId
    tool: str
    runner: str


class ApprovalRequested(RunEvent):
    """A risky call with these very arguments waits for a person with `role`.

    Where a person changed the arguments, `edited_by` asks anew, in place of the approval `replaces`.
    """

    wire = "ai.approval.requested"
    version = 2  # 1: of the role 'approver', without the arguments, which are those of the thought
    approval_id: ApprovalId
    agent_id: AgentId
    step: int
    call_id: CallId
    action_type: str
    action_description: str
    risk_level: RiskLevel
    risk_explanation: str
    call_sha256: str
    expires_at_ms: int
    role: str = APPROVER
    arguments: JsonObject | None = None
    edited_by: str | None = None
    replaces: ApprovalId | None = None


class ApprovalResolved(RunEvent):
    """A person answered; `replaced_by` is the approval that they asked for instead, with other arguments."""

    wire = "ai.approval.resolved"
    version = 2  # 1: never with other arguments
    approval_id: ApprovalId
    call_id: CallId
    approved: bool
    resolved_by: str
    note: str
    replaced_by: ApprovalId | None = None


class ApprovalEscalated(RunEvent):
    """Nobody answered in time: somebody with another role is asked now."""

    wire = "ai.approval.escalated"
    approval_id: ApprovalId
    call_id: CallId
    role: str
    expires_at_ms: int


class ApprovalExpired(RunEvent):
    """Nobody answered in time."""

    wire = "ai.approval.expired"
    approval_id: ApprovalId
    call_id: CallId


# --- delegation -----------------------------------------------------------------------------------------------------


class DelegationRuled(RunEvent):
    """Rules of delegation that hold for what woke the run, or of which that can't be said.

    `calls` are those that they force, before the model is asked for the first time: they are of step 0. Whoever is
    called also gets what woke the run, which is not said again here.
    """

    wire = "ai.delegation.ruled"
    rules: tuple[RuleFound, ...]
    calls: tuple[PlannedCall, ...]


class DelegationStarted(RunEvent):
    """A call is for another agent of the site: its run's end will be the call's result."""

    wire = "ai.delegation.started"
    call_id: CallId
    child_agent_id: AgentId
    agent: str


class DelegationFinished(RunEvent):
    """The other agent's run has ended, or never began; what it used is this run's too."""

    wire = "ai.delegation.finished"
    call_id: CallId
    outcome: Outcome


class DelegationReported(RunEvent):
    """The end of this run was told to the run that it worked for. Where none began, `execution_id` is the call's id."""

    wire = "ai.delegation.reported"
    delegator: Delegator


# --- other ----------------------------------------------------------------------------------------------------------


class CommandRejected(Event):
    """A command was understood and refused; the envelope's causation id names it."""

    wire = "ai.command.rejected"
    command: str
    reason: str
    message: str
    execution_id: str | None = Field(default=None)


EVENTS: dict[str, type[Event]] = {
    event.wire: event
    for event in (
        AgentCreated,
        AgentUpdated,
        AgentDeleted,
        AgentActivated,
        AgentDeactivated,
        TriggerSkipped,
        ScheduleAdvanced,
        CatalogueRecorded,
        GoalProgressed,
        ExecutionStarted,
        ContextAssembled,
        ExecutionCompleted,
        ExecutionFailed,
        ExecutionCancelled,
        ExecutionTimedOut,
        StepObserved,
        StepThought,
        StepModelFailed,
        StepAttemptFailed,
        BudgetReserved,
        BudgetAwaited,
        UsageMetered,
        ToolRequested,
        ToolStarted,
        ToolCompleted,
        ToolFailed,
        ToolDenied,
        ToolInDoubt,
        ApprovalRequested,
        ApprovalResolved,
        ApprovalEscalated,
        ApprovalExpired,
        DelegationRuled,
        DelegationStarted,
        DelegationFinished,
        DelegationReported,
        CommandRejected,
    )
}
