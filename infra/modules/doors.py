"""Which module is served by whom: some by the sandbox, some by handlers of ours, some by the platform over HTTP."""

from collections.abc import Mapping

from processors.tools.port import ModuleGateway, ToolError, ToolRequest
from schemas.message import Json


class Doors:
    """A `ModuleGateway` that chooses another one by the module's name."""

    __slots__ = ("_modules", "_others")

    def __init__(self, modules: Mapping[str, ModuleGateway], others: ModuleGateway | None = None) -> None:
        """Serve `modules`; what is not among them goes to `others`."""
        self._modules = dict(modules)
        self._others = others

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Let the module do it.

        Raises:
            ToolError: nobody serves it, or it refused.
            UnavailableError: it does not answer; it may have acted.
        """
        gateway = self._modules.get(module, self._others)
        if gateway is None:
            raise ToolError(f"{request.tool.name} can't be called on this system: nothing serves the module {module}.")
        return await gateway.call(module, action, request)
