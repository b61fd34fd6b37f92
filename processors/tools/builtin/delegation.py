"""Passing work on to another agent. No module serves it: the loop itself starts the other's run."""

from schemas.catalogue import ToolDefinition
from schemas.delegation import DELEGATE

DELEGATE_TOOL = ToolDefinition(
    name=DELEGATE,
    display_name="Delegate",
    description=(
        "Give a task to one of the agents that you manage, and get its result. Several calls in one step run side by "
        "side. The agent knows nothing of your conversation: say all that it needs."
    ),
    category="orchestration",
    parameters={
        "type": "object",
        "properties": {
            "agent": {"type": "string", "maxLength": 63, "description": "The agent's short name."},
            "task": {"type": "string", "minLength": 1, "maxLength": 10_000, "description": "What it should do."},
            "context": {"type": "object", "description": "Facts that it needs, such as ids."},
        },
        "required": ["agent", "task"],
        "additionalProperties": False,
    },
    handler_type="internal",
)

TOOLS = (DELEGATE_TOOL,)
