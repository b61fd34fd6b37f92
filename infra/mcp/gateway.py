"""Calling tools of MCP servers: those that a person approved, as they were when they were approved."""

from collections.abc import Callable, Mapping
from typing import Protocol

from infra.mcp.frozen import VERSION_CHARS
from infra.mcp.store import McpServer, McpStore
from processors.tools.port import ToolError, ToolRequest
from schemas.errors import NotFoundError
from schemas.message import Json


class Sessions(Protocol):
    """Who talks to servers; `infra.mcp.session.McpSessions` does."""

    async def call(self, server: McpServer, tool: str, sha256: str, arguments: Mapping[str, Json], key: str) -> Json:
        """Call a tool, if its description is still the one with this sha256."""
        ...


class McpGateway:
    """A `ModuleGateway` for tools of MCP servers; an action is `server/tool`."""

    def __init__(self, store: McpStore, opened: Callable[[], Sessions]) -> None:
        """Call what `store` has; `opened` is asked for sessions at the first call."""
        self._store = store
        self._opened = opened
        self._sessions: Sessions | None = None

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Make one try of the call, in a session of its own.

        Raises:
            ToolError: refused or failed, in words for the model.
            BusyError: the server does not answer; it may have acted.
        """
        server, _, tool = action.partition("/")
        name = request.tool.name
        approved = {each.tool: each for each in await self._store.approved(request.site_id, server)}.get(tool)
        if approved is None or approved.sha256[:VERSION_CHARS] != request.tool.version:
            raise ToolError(f"The tool {name} was removed, or approved anew in another form: it can't be called.")
        try:
            found = await self._store.get(request.site_id, server)
        except NotFoundError:
            raise ToolError(f"The tool {name} was removed: it can't be called any more.") from None
        self._sessions = self._sessions or self._opened()
        return await self._sessions.call(found, tool, approved.sha256, request.arguments, request.call_id)
