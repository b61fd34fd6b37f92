"""Conditions over tool calls. They are there to be careful, so what can't be evaluated may hold."""

from processors.agents.state import Agent
from processors.executions.state import Run
from schemas.catalogue import ToolDefinition
from schemas.conditions import Facts, compile_condition
from schemas.errors import ConditionError
from schemas.governance import CALL
from schemas.message import JsonObject


def may_hold(text: str | None, agent: Agent, run: Run, tool: ToolDefinition, arguments: JsonObject) -> bool:
    """Whether a condition over a call holds, or can't be said not to: its data is missing, or of another kind.

    A rule of a configuration is checked when it is saved. One that this release can't read any more holds, too.
    """
    if text is None:
        return True
    try:
        condition = compile_condition(text, CALL)
    except ConditionError:
        return True
    return condition.expression.value(_facts(agent, run, tool, arguments)) is not False


def _facts(agent: Agent, run: Run, tool: ToolDefinition, arguments: JsonObject) -> Facts:
    trigger = run.trigger
    return Facts(
        {
            "tool": tool.name,
            "arguments": arguments,
            "agent.slug": agent.config.slug,
            "agent.type": agent.config.agent_type,
            "trigger.type": trigger.type,
            "trigger.event_type": trigger.event_type or "",
            "trigger.source": trigger.source,
            "trigger.subject": trigger.subject or "",
            "trigger.data": trigger.data,
        }
    )
