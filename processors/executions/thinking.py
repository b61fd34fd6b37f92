"""What follows from what a run knows, and from what its model says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from processors.agents.decider import rejected
from processors.agents.state import Agent
from processors.executions import loop_tools
from processors.executions.approving import ask_for
from processors.executions.delegation_rules import FORCED_TEXT, forced_calls, found_for
from processors.executions.endings import completed, failed
from processors.executions.facts import denied, observed, requested
from processors.executions.metering import metered, price_of
from processors.executions.policy import Denial, call_sha256, visible_tools
from processors.executions.prompt import assistant_message, first_messages, outcome_text, tool_message
from processors.executions.risk import assess
from processors.executions.state import Run
from processors.executions.verdict import verdict_on
from schemas.catalogue import ToolDefinition
from schemas.commands import RecordAttempt, RecordContext, RecordModelFailure, RecordThought
from schemas.delegation import DELEGATE
from schemas.events import (
    ApprovalRequested,
    CatalogueRecorded,
    ContextAssembled,
    DelegationRuled,
    Event,
    PlannedCall,
    StepAttemptFailed,
    StepModelFailed,
    StepThought,
)
from schemas.ids import CallId, call_id_of


def on_context(agent: Agent, run: Run, command: RecordContext, at_ms: int) -> list[Event]:
    """The run knows what it needs: its first question can be asked."""
    if run.status != "assembling":
        return []
    sha256, catalogue = command.catalogue_sha256, agent.catalogues.get(command.catalogue_sha256)
    events: list[Event] = []
    if catalogue is None:
        catalogue = command.catalogue
        if catalogue is None or catalogue.sha256 != sha256:
            return [
                rejected(command, "unknown_catalogue", "the catalogue's body is missing or another", run.id),
                *failed(run, "internal", "the tools in force could not be read", at_ms),
            ]
        events.append(CatalogueRecorded(sha256=sha256, catalogue=catalogue))
    events.append(
        ContextAssembled(
            execution_id=run.id,
            memories=command.memories,
            entity=command.entity,
            catalogue_sha256=sha256,
            site=None if command.site == agent.site else command.site,
        )
    )
    config, memories = agent.configs[run.agent_version], command.memories
    rules = found_for(config, run.trigger)
    head = first_messages(config, run.trigger, memories, command.entity, run.goals, run.started_at_ms, rules)
    tools = visible_tools(config, catalogue)
    forced = forced_calls(config, run.id, rules, at_ms)
    if rules:
        events.append(DelegationRuled(execution_id=run.id, rules=rules, calls=forced))
    if forced:  # decided as things are when the context is assigned
        lines = [message.encode() for message in head]
        ready = replace(run, catalogue=catalogue, tools=tools, lines=lines)
        informed = replace(agent, site=command.site or agent.site)
        return [*events, *_plan(informed, ready, forced, FORCED_TEXT, len(forced), at_ms)]
    summary = f"woken by {run.trigger.event_type or run.trigger.type}"
    events.append(observed(run, head, (), summary, tools))
    return events


def on_thought(agent: Agent, run: Run, command: RecordThought, at_ms: int) -> list[Event]:
    """The model replied: it is paid for once, and counts if it answers the question that is open."""
    if run.status != "thinking" or command.step != run.step:
        return [metered(run.catalogue, command, "late" if run.ended else "second")]
    planned = tuple(
        PlannedCall(
            call_id=call_id_of(at_ms, run.id, run.step, position),
            model_call_id=call.id,
            tool=call.name,
            arguments=call.arguments,
        )
        for position, call in enumerate(command.tool_calls)
    )
    cost, currency, price_version = price_of(run.catalogue, command.provider, command.model, command.usage)
    thought = StepThought(
        execution_id=run.id,
        step=run.step,
        reply_id=command.reply_id,
        provider=command.provider,
        model=command.model,
        text=command.text,
        calls=planned,
        finish_reason=command.finish_reason,
        usage=command.usage,
        cost_micros=cost,
        currency=currency,
        price_version=price_version,
        latency_ms=command.latency_ms,
    )
    if command.finish_reason == "content_filter":
        return [thought, *failed(run, "content_filter", "the model's provider filtered its answer", at_ms, thought)]
    if run.final:
        said = command.text or "the model gave no final answer"
        return [thought, *failed(run, "max_steps_reached", said, at_ms, thought)]
    if not planned:
        return [thought, *completed(run, command.text, at_ms, thought)]
    if (result := loop_tools.result_of(agent, run, planned, at_ms)) is not None:
        return [thought, *completed(run, result, at_ms, thought)]
    return [thought, *_plan(agent, run, planned, command.text, run.limits.max_tool_calls_per_step, at_ms)]


def _plan(agent: Agent, run: Run, planned: tuple[PlannedCall, ...], text: str, limit: int, at_ms: int) -> list[Event]:
    """Return what becomes of calls that were made with `text`, of which `limit` are allowed at a time."""
    events: list[Event] = []
    outcomes: dict[CallId, str] = {}
    delegations = 0
    granted: Counter[str] = Counter()
    for position, call in enumerate(planned):
        verdict: ToolDefinition | Denial
        if position >= limit:
            verdict = Denial("too_many_calls", f"At most {limit} tool calls a step: ask for this one again.")
        else:
            verdict = verdict_on(agent, run, call, at_ms, planned=granted[call.tool], delegated=delegations)
            delegations += call.tool == DELEGATE and not isinstance(verdict, Denial)
        if isinstance(verdict, Denial):
            outcomes[call.call_id] = outcome_text(None, verdict.message)
            events.append(denied(run, call.call_id, call.tool, verdict))
        else:
            permitted = _permitted(agent, run, call, verdict, at_ms)
            granted[call.tool] += not isinstance(permitted[0], ApprovalRequested)
            events += permitted
    if len(outcomes) < len(planned):
        return events
    fresh = [assistant_message(text, planned)]
    fresh += (tool_message(call.model_call_id, outcomes[call.call_id]) for call in planned)
    return [*events, observed(run, fresh, tuple(outcomes), "every call was refused")]


def _permitted(agent: Agent, run: Run, call: PlannedCall, tool: ToolDefinition, at_ms: int) -> Sequence[Event]:
    risk = assess(agent, run, tool, call.arguments)
    if risk.gated:
        return [ask_for(agent, run, call, tool, risk, at_ms)]
    sha256 = call_sha256(tool, call, run.site_id)
    return requested(run, call.call_id, tool.name, tool.version, sha256, call.arguments)


def on_model_failure(run: Run, command: RecordModelFailure, at_ms: int) -> list[Event]:
    """A model call was given up: the run fails."""
    if run.status != "thinking" or command.step != run.step:
        if command.usage is None:
            return []
        return [metered(run.catalogue, command, "late" if run.ended else "second")]
    cost, currency, price_version = price_of(run.catalogue, command.provider, command.model, command.usage)
    failure = StepModelFailed(
        execution_id=run.id,
        step=run.step,
        reply_id=command.reply_id,
        provider=command.provider,
        model=command.model,
        reason=command.reason,
        message=command.message,
        usage=command.usage,
        cost_micros=cost,
        currency=currency,
        price_version=price_version,
    )
    said = f"the model {command.model!r} did not answer: {command.reason}"
    return [failure, *failed(run, "model_failed", said, at_ms, failure)]


def on_attempt(run: Run, command: RecordAttempt) -> list[Event]:
    """A try gave no thought, and another follows: what it cost is the run's all the same."""
    if run.ended:
        return [] if command.usage is None else [metered(run.catalogue, command, "late")]
    cost, currency, price_version = price_of(run.catalogue, command.provider, command.model, command.usage)
    return [
        StepAttemptFailed(
            execution_id=run.id,
            step=command.step,
            reply_id=command.reply_id,
            provider=command.provider,
            model=command.model,
            reason=command.reason,
            message=command.message,
            usage=command.usage,
            unsettled=command.unsettled,
            cost_micros=cost,
            currency=currency,
            price_version=price_version,
        )
    ]
