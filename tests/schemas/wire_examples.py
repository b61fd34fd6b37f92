"""One example of every command and every event, written as they stand in their topics. Add one for each new name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.agent_rules import DelegationRule, MonitoringRule
from schemas.agents import AgentConfig, Goal
from schemas.catalogue import Catalogue, Price, ToolDefinition
from schemas.chat import ToolCall, Usage
from schemas.commands import (
    ActivateAgent,
    AdvanceSchedule,
    AnyCommand,
    CancelDelegation,
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
    ReportDelegation,
    ResolveApproval,
    ResolveDoubt,
    StartExecution,
    StartTool,
    TimeOutExecution,
    UpdateAgent,
)
from schemas.delegation import Delegator, Outcome, RuleFound
from schemas.events import (
    ActionTaken,
    AgentActivated,
    AgentCreated,
    AgentDeactivated,
    AgentDeleted,
    AgentUpdated,
    ApprovalEscalated,
    ApprovalExpired,
    ApprovalRequested,
    ApprovalResolved,
    BudgetAwaited,
    BudgetReserved,
    CatalogueRecorded,
    CommandRejected,
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
    GoalProgressed,
    PlannedCall,
    RunEvent,
    RunLimits,
    RunTotals,
    ScheduleAdvanced,
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
    UsageMetered,
)
from schemas.governance import Requester, RiskRule, SiteGrants
from schemas.ids import AgentId, ApprovalId, CallId, CommandId, EventId, ExecutionId, SiteId
from schemas.message import Message
from schemas.module_events import Trigger
from streams.chain import NO_HEAD
from streams.log import Draft
from streams.records import Asked, Said, encode_command, encode_event

SITE = SiteId("0f8fad5b-d9cb-469f-a165-70867728950e")
AGENT = AgentId("93e14f72-899b-84d0-aac4-162656a06cf9")
RUN = ExecutionId("019bef56-0000-8000-8000-000000000001")
CALL = CallId("019bef56-0000-8000-8000-000000000002")
APPROVAL = ApprovalId("019bef56-0000-8000-8000-000000000003")
AT_MS = 1_769_247_000_123
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SHA = "a" * 64

CONFIG = AgentConfig(
    slug="sales",
    name="Säles ✓",
    agent_type="specialist",
    system_prompt='Say "hi".\n',
    goals=(Goal(name="Sell", target=0.1),),
    triggers=("event:contact.*", "manual"),
    allowed_tools=("crm_*",),
)
MANAGER = AgentConfig(
    slug="boss",
    name="Boss",
    agent_type="orchestrator",
    system_prompt="Delegate.",
    goals=(
        Goal(name="Win", event="crm.deal.won", progress="data.amount", aggregate="average", period="week", target=9.5),
    ),
    managed_agents=("sales",),
    delegation_rules=(DelegationRule(condition="data.score < 50", agent="sales", mode="force", priority="high"),),
    report_templates=("weekly_performance",),
    monitoring_rules=(
        MonitoringRule(
            name="Logins",
            event="auth.login.*",
            threshold=5,
            window="5m",
            condition="!data.ok",
            key="data.user_id",
            baseline="user_normal",
            deviation=2.5,
            severity="high",
        ),
    ),
)
TRIGGER = Trigger(
    type="event",
    source="/crm",
    id="e-1",
    event_type="contact.created",
    time_ms=AT_MS,
    data={"n": 1, "f": 1.0, "e": 1e22, "none": None, "list": [True, "\u0000 \u2028 €"]},
    subject="contact/1",
    depth=1,
    caused_by=AGENT,
)
DELEGATOR = Delegator(agent_id=AGENT, execution_id=RUN, call_id=CALL)
OUTCOME = Outcome(
    agent_id=AGENT, execution_id=RUN, status="completed", runs=1, tokens_input=100, tokens_output=20, cost_micros=420
)
TOOL = ToolDefinition(
    name="crm_find",
    display_name="Find",
    description="Finds.",
    category="crm",
    parameters={"type": "object"},
    handler_type="module",
    module="crm",
    action="find",
)
CATALOGUE = Catalogue(
    tools=(TOOL,), prices=(Price(provider="openai", model="*", version="1", input=3, cached_input=1, output=9),)
)
REQUESTER = Requester(actor="user:ann", rights=("read_contacts",))
GRANTS = SiteGrants(
    permissions=("read_contacts", "send_emails"),
    modules=("crm",),
    risk_rules=(RiskRule(tool="email_*", risk="critical", argument="to", threshold=10, condition="tool != ''"),),
)
MEMORY = RecalledMemory(id="m1", kind="fact", content="likes tea", score=0.75)
USAGE = Usage(input_tokens=100, output_tokens=20, cached_tokens=30, reasoning_tokens=5)
MODEL: dict[str, Any] = {"step": 1, "reply_id": "r1", "provider": "openai", "model": "gpt-4o"}
COST: dict[str, Any] = {"cost_micros": 420, "currency": "USD", "price_version": "1"}
END: dict[str, Any] = {
    "execution_id": RUN,
    "agent_id": AGENT,
    "actions_taken": (ActionTaken(call_id=CALL, tool="crm_find", status="completed"),),
    "tokens_used": 120,
    "totals": RunTotals(steps=1, llm_calls=1, tool_calls=1, tokens_input=100, tokens_output=20, cost_micros=420),
    "duration_ms": 1_500,
}


@dataclass(frozen=True)
class Example:
    """A payload and the record that carries it."""

    payload: Message
    draft: Draft


def command_examples() -> dict[str, Example]:
    """Return an example of every command, by wire name."""
    commands: Sequence[AnyCommand] = (
        CreateAgent(config=CONFIG),
        UpdateAgent(config=MANAGER, expected_version=1, rolled_back_to=1, reason="too eager"),
        ActivateAgent(),
        DeactivateAgent(cancel_runs=True),
        DeleteAgent(),
        RecordGoalProgress(goal="Sell", amount=0.5, source="/crm", id="e-1", event_type="crm.deal.won", time_ms=AT_MS),
        StartExecution(trigger=TRIGGER, requester=REQUESTER),
        AdvanceSchedule(
            schedule="hourly @ UTC", after_ms=AT_MS - 9, until_ms=AT_MS, due_ms=AT_MS, missed=1, next_due_ms=AT_MS + 9
        ),
        CancelDelegation(trigger=TRIGGER, reason="enough"),
        ReportDelegation(execution_id=RUN),
        CancelExecution(execution_id=RUN, reason="enough"),
        TimeOutExecution(execution_id=RUN),
        RecordContext(
            execution_id=RUN,
            memories=(MEMORY,),
            entity={"id": 1},
            catalogue_sha256=SHA,
            catalogue=CATALOGUE,
            site=GRANTS,
        ),
        RecordThought(
            execution_id=RUN,
            **MODEL,
            text="Let me see.",
            tool_calls=(ToolCall(id="c1", name="crm_find", arguments={"id": "7"}),),
            finish_reason="tool_calls",
            usage=USAGE,
            latency_ms=900,
        ),
        RecordModelFailure(execution_id=RUN, **MODEL, reason="overloaded", message="529", usage=USAGE),
        RecordAttempt(execution_id=RUN, **MODEL, reason="cut_stream", message="broke off", usage=USAGE, unsettled=True),
        StartTool(execution_id=RUN, call_id=CALL, runner="runner-1"),
        RecordToolResult(execution_id=RUN, call_id=CALL, output=[1, "a"], full_bytes=9, full_sha256=SHA, duration_ms=5),
        DoubtTool(execution_id=RUN, call_id=CALL, runner="runner-1"),
        ResolveDoubt(execution_id=RUN, call_id=CALL, outcome="completed", output="ok", note="seen"),
        ResolveApproval(
            execution_id=RUN,
            approval_id=APPROVAL,
            approved=True,
            note="fine",
            roles=("approver",),
            call_sha256=SHA,
            arguments={"id": "8"},
        ),
        ExpireApproval(execution_id=RUN, approval_id=APPROVAL),
    )
    examples: dict[str, Example] = {}
    for command in commands:
        trace = TRACE if "execution" in command.wire else None
        asked = Asked(CommandId("c-1"), SITE, AGENT, "user:änn", "corr-1", command, "/api", trace)
        examples[command.wire] = Example(command, encode_command(asked))
    return examples


def event_examples() -> dict[str, Example]:
    """Return an example of every event, by wire name and version: each the first of a stream of its own."""
    examples: dict[str, Example] = {}
    for event in _events():
        said = Said(
            EventId("e-1"),
            SITE,
            AGENT,
            AT_MS,
            CommandId("c-1"),
            41,
            "corr-1",
            "user:änn",
            TRACE if isinstance(event, RunEvent) else None,
            event,
        )
        examples[f"{event.wire} {event.version}"] = Example(event, encode_event(said, NO_HEAD)[0])
    return examples


def _events() -> Sequence[Event]:
    call: dict[str, Any] = {"execution_id": RUN, "call_id": CALL, "tool": "crm_find"}
    return (
        AgentCreated(id=AGENT, name="Säles ✓", type="specialist", domain=None, agent_version=1, config=CONFIG),
        AgentUpdated(
            id=AGENT,
            agent_version=2,
            changes={"name": "Sales", "temperature": 0.5},
            rolled_back_to=1,
            reason="too eager",
        ),
        AgentDeleted(id=AGENT, name="Sales"),
        AgentActivated(id=AGENT, name="Sales"),
        AgentDeactivated(id=AGENT, name="Sales", cancel_runs=True),
        GoalProgressed(
            goal="Sell",
            event_source="/crm",
            event_id="e-1",
            event_type="crm.deal.won",
            event_time_ms=AT_MS,
            amount=0.5,
            delta=0.5,
            value=1.5,
            total=1.5,
            count=2,
            achieved=True,
            achieved_at_ms=AT_MS,
            period_start_ms=AT_MS - 9,
            period_end_ms=None,
        ),
        ScheduleAdvanced(
            schedule="hourly @ UTC", due_ms=AT_MS, missed=1, until_ms=AT_MS, next_due_ms=AT_MS + 3_600_000
        ),
        TriggerSkipped(
            trigger_type="event",
            trigger_source="/crm",
            trigger_id="e-1",
            trigger_time_ms=AT_MS,
            event_type="contact.created",
            reason="quota",
            message="60 runs an hour are allowed",
        ),
        CatalogueRecorded(sha256=SHA, catalogue=CATALOGUE),
        ExecutionStarted(
            execution_id=RUN,
            agent_id=AGENT,
            trigger_type="event",
            trigger=TRIGGER,
            agent_version=2,
            limits=RunLimits(max_steps=10, max_tool_calls_per_step=3, timeout_seconds=120),
            requester=REQUESTER,
        ),
        ContextAssembled(execution_id=RUN, memories=(MEMORY,), entity={"id": 1}, catalogue_sha256=SHA, site=GRANTS),
        StepObserved(execution_id=RUN, step=1, summary="woken", calls=(CALL,), final=False, prompt_sha256=SHA),
        StepThought(
            execution_id=RUN,
            **MODEL,
            text="Let me see.",
            calls=(PlannedCall(call_id=CALL, model_call_id="c1", tool="crm_find", arguments={"id": "7"}),),
            finish_reason="tool_calls",
            usage=USAGE,
            **COST,
            latency_ms=900,
        ),
        StepModelFailed(execution_id=RUN, **MODEL, reason="overloaded", message="529", usage=None, **COST),
        StepAttemptFailed(
            execution_id=RUN, **MODEL, reason="cut_stream", message="broke off", usage=USAGE, unsettled=True, **COST
        ),
        BudgetReserved(execution_id=RUN, step=1, call_id=None, tokens=9_000, cost_micros=41_000),
        BudgetAwaited(execution_id=RUN, step=1, tokens=9_000, cost_micros=41_000),
        UsageMetered(execution_id=RUN, **MODEL, reason="late", usage=USAGE, **COST),
        ToolRequested(**call, step=1, tool_version="1", call_sha256=SHA, idempotency_key=CALL),
        ToolStarted(**call, runner="runner-1"),
        ToolCompleted(**call, step=1, output={"n": 1.5}, full_bytes=None, full_sha256=None, duration_ms=5),
        ToolFailed(**call, step=1, error="no such contact", output=None, duration_ms=5),
        ToolDenied(**call, step=1, reason="not_allowed", message="no"),
        ToolInDoubt(**call, runner="runner-1"),
        ApprovalRequested(
            execution_id=RUN,
            approval_id=APPROVAL,
            agent_id=AGENT,
            step=1,
            call_id=CALL,
            action_type="crm_find",
            action_description="Find: id='7'",
            risk_level="high",
            risk_explanation="Find is of high risk",
            call_sha256=SHA,
            expires_at_ms=AT_MS + 1,
            role="approver",
            arguments={"id": "7"},
            edited_by="user:ann",
            replaces=APPROVAL,
        ),
        ApprovalResolved(
            execution_id=RUN,
            approval_id=APPROVAL,
            call_id=CALL,
            approved=False,
            resolved_by="user:ann",
            note="no",
            replaced_by=APPROVAL,
        ),
        ApprovalEscalated(
            execution_id=RUN, approval_id=APPROVAL, call_id=CALL, role="manager", expires_at_ms=AT_MS + 1
        ),
        ApprovalExpired(execution_id=RUN, approval_id=APPROVAL, call_id=CALL),
        DelegationRuled(
            execution_id=RUN,
            rules=(RuleFound(rule=0, verdict="holds"), RuleFound(rule=2, verdict="unknown")),
            calls=(
                PlannedCall(
                    call_id=CALL, model_call_id="rule_0", tool="delegate", arguments={"agent": "sales", "task": "Call."}
                ),
            ),
        ),
        DelegationStarted(execution_id=RUN, call_id=CALL, child_agent_id=AGENT, agent="sales"),
        DelegationFinished(execution_id=RUN, call_id=CALL, outcome=OUTCOME),
        DelegationReported(execution_id=RUN, delegator=DELEGATOR),
        ExecutionCompleted(**END, result="Done."),
        ExecutionFailed(**END, reason="model_failed", error="overloaded"),
        ExecutionCancelled(**END, reason="enough", cancelled_by="user:ann"),
        ExecutionTimedOut(**END, timeout_seconds=120),
        CommandRejected(command="ai.agent.update", reason="slug_changed", message="no", execution_id=None),
    )
