"""Several gateways as one: each module has a door of its own, and one takes the rest."""

from collections.abc import Mapping

from processors.tools.port import ModuleGateway, ToolRequest
from schemas.message import Json


class Doors:
    """A `ModuleGateway` that lets each module of `by_module` have its own, and `otherwise` all others."""

    __slots__ = ("_by_module", "_otherwise")

    def __init__(self, by_module: Mapping[str, ModuleGateway], otherwise: ModuleGateway) -> None:
        self._by_module = dict(by_module)
        self._otherwise = otherwise

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Pass the call on. Raises what the door raises."""
        return await self._by_module.get(module, self._otherwise).call(module, action, request)
