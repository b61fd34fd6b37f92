"""Waiting, and ending a run. No module serves them: the loop itself waits, and ends."""

from schemas.catalogue import ToolDefinition
from schemas.loop_tools import FINISH, LONGEST_WAIT_S, WAIT

WAIT_TOOL = ToolDefinition(
    name=WAIT,
    display_name="Wait",
    description="Wait for some seconds before the next step. The time counts as the run's own.",
    category="system",
    parameters={
        "type": "object",
        "properties": {
            "seconds": {
                "type": "integer",
                "minimum": 1,
                "maximum": LONGEST_WAIT_S,
                "description": "How long; never longer than the run still has.",
            },
        },
        "required": ["seconds"],
        "additionalProperties": False,
    },
    handler_type="internal",
)

FINISH_TOOL = ToolDefinition(
    name=FINISH,
    display_name="Finish",
    description="End your work with its result. Call it alone: nothing that comes with it would be done.",
    category="system",
    parameters={
        "type": "object",
        "properties": {
            "result": {"type": "string", "minLength": 1, "maxLength": 20_000, "description": "What came of the work."},
        },
        "required": ["result"],
        "additionalProperties": False,
    },
    handler_type="internal",
)

TOOLS = (WAIT_TOOL, FINISH_TOOL)
