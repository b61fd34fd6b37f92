"""Sessions with MCP servers, as the settings have it."""

from functools import partial

from infra.mcp.session import McpSessions
from infra.secrets import sealer_of
from infra.settings import Settings
from infra.tools.hosts import parse_hosts


def open_sessions(settings: Settings) -> McpSessions:
    """Return what talks to the servers that the settings let be reached."""
    return McpSessions(parse_hosts(settings.tool_hosts), settings.mcp_commands, partial(sealer_of, settings))
