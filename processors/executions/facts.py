"""Events that more than one decision gives."""

from processors.agents.state import Agent
from processors.executions.policy import Denial, visible_tools
from processors.executions.prompt import final_message, first_messages, prompt_sha256
from processors.executions.state import Run
from schemas.catalogue import Catalogue
from schemas.chat import ChatMessage
from schemas.events import StepObserved, ToolDenied, ToolRequested
from schemas.ids import CallId


def requested(run: Run, call_id: CallId, tool: str, version: str, sha256: str) -> ToolRequested:
    """Return the event that lets a call be made."""
    return ToolRequested(
        execution_id=run.id,
        step=run.step,
        call_id=call_id,
        tool=tool,
        tool_version=version,
        call_sha256=sha256,
        idempotency_key=call_id,
    )


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


def prompt_so_far(agent: Agent, run: Run) -> list[ChatMessage]:
    """Return what the model was shown and said up to now."""
    config = agent.configs[run.agent_version]
    return [*first_messages(config, run.trigger, run.memories, run.entity), *run.transcript]


def observed(
    agent: Agent, run: Run, catalogue: Catalogue, prompt: list[ChatMessage], calls: tuple[CallId, ...], summary: str
) -> StepObserved:
    """Return the event that asks the model with `prompt`; the last question of a run comes without tools."""
    final = run.step >= run.limits.max_steps
    if final:
        prompt = [*prompt, final_message()]
    tools = () if final else visible_tools(agent.configs[run.agent_version], catalogue)
    return StepObserved(
        execution_id=run.id,
        step=run.step + 1,
        summary=summary,
        calls=calls,
        final=final,
        prompt_sha256=prompt_sha256(prompt, tools),
    )
