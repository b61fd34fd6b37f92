"""A tool that can't be repeated, for workers of tests: it notes each call that it begins and each that takes effect."""

import asyncio

from processors.tools.port import ToolRequest
from schemas.catalogue import ToolDefinition
from schemas.message import Json
from tests.chaos.notes import Notes

ONCE_S = 0.02  # from its beginning to its effect: long enough to be cut

COUNT_ONCE = ToolDefinition(
    name="count_once",
    display_name="Count once",
    description="Count something; a second call with the same key counts it again.",
    category="test",
    parameters={
        "type": "object",
        "properties": {"what": {"type": "string"}},
        "required": ["what"],
        "additionalProperties": False,
    },
    handler_type="external",
    module="test",
    action="count",
    idempotent=False,
)


class OnceGateway:
    """A `ModuleGateway` of that tool."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Begin, take effect after a moment, and say so."""
        self._notes.add("once", request.call_id)
        await asyncio.sleep(ONCE_S)
        self._notes.add("effect", request.call_id)
        return {"counted": request.arguments["what"]}
