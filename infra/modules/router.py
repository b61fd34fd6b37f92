"""Which door a tool goes through: modules and internal handlers by a gateway, each under the same rules."""

from collections.abc import Mapping

from processors.tools.call import call_tool
from processors.tools.port import ModuleGateway, ToolError, ToolRequest, ToolResult
from schemas.catalogue import HandlerType
from schemas.message import Json


class ToolRouter:
    """A `ToolPort` that chooses the gateway by the definition's handler type.

    The sandbox serves both `module` and `internal`: `ToolRouter({"module": sandbox, "internal": sandbox})`.
    """

    __slots__ = ("_gateways",)

    def __init__(self, gateways: Mapping[HandlerType, ModuleGateway]) -> None:
        self._gateways = dict(gateways)

    async def call(self, request: ToolRequest) -> ToolResult:
        """Make the call and return what came of it: failures are results too."""
        return await call_tool(self._answer, request)

    async def _answer(self, request: ToolRequest) -> Json:
        tool = request.tool
        gateway = self._gateways.get(tool.handler_type)
        if gateway is None or tool.module is None or tool.action is None:
            raise ToolError(f"{tool.name} can't be called on this system: nothing serves {tool.handler_type} tools.")
        return await gateway.call(tool.module, tool.action, request)
