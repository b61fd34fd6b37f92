"""Whether one call may be made: what is asked of it when it is planned, and when a person grants or edits it."""

from processors.agents.state import Agent
from processors.executions import delegation, loop_tools
from processors.executions.policy import Denial, check
from processors.executions.state import Run
from schemas.catalogue import ToolDefinition
from schemas.delegation import DELEGATE
from schemas.events import PlannedCall


def verdict_on(
    agent: Agent, run: Run, call: PlannedCall, at_ms: int, *, planned: int = 0, delegated: int = 0
) -> ToolDefinition | Denial:
    """Return the tool that `call` is of, or why it may not be made now.

    `planned` calls of the same tool are decided along with this one, `delegated` of them all delegate.
    """
    verdict = check(agent, run, call.tool, call.arguments, at_ms, planned)
    if isinstance(verdict, Denial):
        return verdict
    if call.tool == DELEGATE:
        return delegation.refusal(agent.config, run, call, delegated) or verdict
    return loop_tools.refusal(run, call, at_ms) or verdict
