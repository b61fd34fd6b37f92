"""Events that more than one decision gives."""

from collections.abc import Sequence

from processors.agents.state import Agent
from processors.executions.policy import Denial, visible_tools
from processors.executions.prompt import final_message, first_messages, lines_sha256
from processors.executions.state import Run
from schemas.catalogue import ToolDefinition
from schemas.chat import ChatMessage
from schemas.delegation import DELEGATE
from schemas.events import DelegationStarted, StepObserved, ToolDenied, ToolRequested
from schemas.ids import CallId, agent_id_of
from schemas.message import JsonObject


def requested(
    run: Run, call_id: CallId, tool: str, version: str, sha256: str, arguments: JsonObject
) -> list[ToolRequested | DelegationStarted]:
    """Return the events that let a call be made; one of another agent has an event more."""
    request = ToolRequested(
        execution_id=run.id,
        step=run.step,
        call_id=call_id,
        tool=tool,
        tool_version=version,
        call_sha256=sha256,
        idempotency_key=call_id,
    )
    return [request] if tool != DELEGATE else [request, delegation_started(run, call_id, arguments)]


def delegation_started(run: Run, call_id: CallId, arguments: JsonObject) -> DelegationStarted:
    """Return the event that names the agent which a call is for."""
    slug = str(arguments["agent"])
    child = agent_id_of(run.site_id, slug)
    return DelegationStarted(execution_id=run.id, call_id=call_id, child_agent_id=child, agent=slug)


def denied(run: Run, call_id: CallId, tool: str, denial: Denial) -> ToolDenied:
    """Return the event that refuses a call."""
    return ToolDenied(
        execution_id=run.id,
        step=run.step,
        call_id=call_id,
        tool=tool,
        reason=denial.reason,
        message=denial.message,
    )


def observed(
    run: Run,
    fresh: Sequence[ChatMessage],
    calls: tuple[CallId, ...],
    summary: str,
    tools: tuple[ToolDefinition, ...] | None = None,
) -> StepObserved:
    """Return the event that asks the model, `fresh` being new for it; a run's last question comes without tools."""
    final = run.step >= run.limits.max_steps
    lines = [*run.lines, *(message.encode() for message in fresh)]
    if final:
        lines.append(final_message().encode())
    offered = () if final else run.tools if tools is None else tools
    return StepObserved(
        execution_id=run.id,
        step=run.step + 1,
        summary=summary,
        calls=calls,
        final=final,
        prompt_sha256=lines_sha256(lines, offered),
    )


def furnish(agent: Agent, run: Run) -> None:
    """Give a run what follows from its agent's version, its catalogue and its context."""
    config = agent.configs[run.agent_version]
    run.catalogue = agent.catalogues[run.catalogue_sha256]
    run.tools = visible_tools(config, run.catalogue)
    run.opening = first_messages(config, run.trigger, run.memories, run.entity, run.goals, run.started_at_ms, run.rules)
    run.lines = [message.encode() for message in (*run.opening, *run.transcript)]
