"""Talking to an MCP server: what it offers, and calling a tool of it. Every session is opened anew and closed again."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, Implementation, TextContent

from infra.mcp.commands import McpCommand
from infra.mcp.frozen import Offer, offer_of
from infra.mcp.store import McpServer, context_of
from infra.secrets import Sealer
from infra.tools.hosts import Hosts
from infra.tools.http_tool import SECRET
from infra.web.addresses import DEFAULT_PORTS
from infra.web.connecting import CheckedTransport, Connector
from infra.web.fetching import USER_AGENT
from processors.tools.port import BusyError, ToolError
from schemas.errors import ConfigurationError
from schemas.message import Json

logger = logging.getLogger(__name__)

PAGES = 20  # of a server's list of tools
OFFERS = 500
SILENCE_S = 30.0
ANSWER_BYTES = 4 * 1024 * 1024  # of one answer; a stream of events is one
KEY = "dramac-agents/idempotency-key"  # in a call's _meta
ERROR_CHARS = 500

# The server understood and refused: nothing was done.
_REFUSED = frozenset({-32700, -32600, -32601, -32602})


class McpSessions:
    """Opens sessions with the servers of sites."""

    def __init__(
        self,
        hosts: Hosts,
        commands: Mapping[str, McpCommand],
        sealer: Callable[[], Sealer],
        *,
        connector: Connector | None = None,
        silence_s: float = SILENCE_S,
    ) -> None:
        """Reach `hosts` alone, and run `commands` alone; `sealer` is asked only where a server has a secret."""
        self._hosts = hosts
        self._commands = dict(commands)
        self._sealer = sealer
        self._connector = connector or Connector(exempt=hosts.exempt)
        self._silence_s = silence_s

    async def offers(self, server: McpServer) -> tuple[Offer, ...]:
        """Return the tools that the server describes now, by name.

        Raises:
            ToolError, BusyError: see `session`.
        """
        async with self.session(server) as client:
            return await _offers(client)

    async def call(self, server: McpServer, tool: str, sha256: str, arguments: Mapping[str, Json], key: str) -> Json:
        """Call a tool, if its description is still the one with this sha256.

        Raises:
            ToolError: it is not, and nothing was called; or the server refused, in words for the model.
            BusyError: the server does not answer; it may have acted.
        """
        async with self.session(server) as client:
            offered = {offer.tool: offer for offer in await _offers(client)}.get(tool)
            if offered is None or offered.sha256 != sha256:
                change = "is gone from its server" if offered is None else "was changed by its server"
                logger.warning("the tool %r of the MCP server %r %s: nothing was called", tool, server.name, change)
                raise ToolError(
                    f"The tool {tool[:80]} {change} since a person approved it: it can't be used until it is reviewed."
                )
            meta: Any = {KEY: key}  # an open map, which this checker does not know yet
            result = await client.call_tool(tool, dict(arguments), meta=meta)
        return _output(result)

    @asynccontextmanager
    async def session(self, server: McpServer) -> AsyncIterator[Client]:
        """Open a session with a server.

        Raises:
            ToolError: it may not be reached, or refused.
            BusyError: it does not answer, or not as MCP says.
        """
        try:
            async with self._client(server) as client:
                yield client
        except Exception as error:  # noqa: BLE001 - the library raises its own, httpx2's, anyio's groups of them
            raise _in_words(error, server.name) from None

    @asynccontextmanager
    async def _client(self, server: McpServer) -> AsyncIterator[Client]:
        if server.url is None:
            async with self._command(server) as client:
                yield client
            return
        url = self._hosts.check(server.url)
        # Asked here too, where the refusal can be told in words; what counts is asked again for each connection.
        await self._connector.addresses(url.raw_host.decode("ascii"), url.port or DEFAULT_PORTS[url.scheme])
        headers = {
            "User-Agent": USER_AGENT,
            **self._headers(server, is_safe=url.scheme == "https" or self._hosts.is_exempt(url)),
        }
        transport = CheckedTransport(self._connector, most_bytes=ANSWER_BYTES)
        async with (
            httpx2.AsyncClient(
                transport=transport, headers=headers, timeout=self._silence_s, follow_redirects=False, trust_env=False
            ) as http,
            self._opened(streamable_http_client(str(url), http_client=http)) as client,
        ):
            yield client

    @asynccontextmanager
    async def _command(self, server: McpServer) -> AsyncIterator[Client]:
        command = self._commands.get(server.name)
        if command is None or not command.serves(server.site_id):
            raise ToolError(
                f"The MCP server {server.name} can't be used on this system: it is not in DRAMAC_MCP_COMMANDS."
            )
        program, *arguments = command.command
        env = {name: value.get_secret_value() for name, value in command.env.items()}
        given = StdioServerParameters(command=program, args=arguments, env=env, encoding_error_handler="replace")
        with open(os.devnull, "w") as nowhere:  # noqa: ASYNC230 - no file is behind it
            async with self._opened(stdio_client(given, errlog=nowhere)) as client:
                yield client

    def _opened(self, transport: Any) -> Client:
        info = Implementation(name="dramac-agents", version="1")
        return Client(transport, read_timeout_seconds=self._silence_s, client_info=info, cache=None)

    def _headers(self, server: McpServer, *, is_safe: bool) -> dict[str, str]:
        if server.header is None:
            return {}
        name, _, value = server.header.partition(":")
        if SECRET in value:
            if server.sealed is None or not is_safe:
                raise ToolError(f"The MCP server {server.name} can't be used: its secret is sent over https only.")
            try:
                secret = self._sealer().open(server.sealed, context_of(server.site_id, server.name)).decode("ascii")
            except ConfigurationError as error:
                logger.error("the secret of the MCP server %r can't be used: %s", server.name, error)  # noqa: TRY400
                raise ToolError(f"The MCP server {server.name} can't be used: its secret can't be read.") from None
            value = value.replace(SECRET, secret)
        return {name.strip(): value.strip()}


async def _offers(client: Client) -> tuple[Offer, ...]:
    found: dict[str, Offer] = {}
    cursor: str | None = None
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        for tool in page.tools:
            offer = offer_of(tool.model_dump(mode="json", by_alias=True, exclude_none=True))
            found[offer.tool] = offer
        cursor = page.next_cursor
        if cursor is None:
            break
        if len(found) > OFFERS:
            raise ToolError(f"The MCP server offers more than {OFFERS} tools: that is too many.")
    return tuple(found[name] for name in sorted(found))


def _output(result: CallToolResult) -> Json:
    """Return what a call gave: what is structured as it is, text as text; of images and the like only what they are."""
    parts: list[Json] = []
    for item in result.content:
        if isinstance(item, TextContent):
            parts.append(item.text)
        else:
            told = item.model_dump(mode="json", by_alias=True, exclude_none=True)
            data = told.pop("data", None)
            parts.append({**told, "left_out_chars": len(data)} if isinstance(data, str) else told)
    if result.is_error:
        words = " ".join(" ".join(part for part in parts if isinstance(part, str)).split())
        raise ToolError(words[:ERROR_CHARS] or "The tool failed, and did not say why.")
    if result.structured_content is not None:
        return result.structured_content
    if all(isinstance(part, str) for part in parts):
        return "\n".join(parts)
    return parts


def _in_words(error: BaseException, name: str) -> Exception:
    """Return what to raise for whatever ended a session; the library's groups hold the reason somewhere."""
    reasons = list(_leaves(error))
    for reason in reasons:
        if isinstance(reason, ToolError | BusyError):
            return reason
    for reason in reasons:
        if isinstance(reason, ConfigurationError):
            return ToolError(f"The MCP server {name} offers what can't be used: {reason}.")
        if isinstance(reason, MCPError) and reason.code in _REFUSED:
            return ToolError(f"The MCP server {name} refused: {' '.join(reason.message.split())[:ERROR_CHARS]}")
    first = reasons[0] if reasons else error
    said = " ".join(str(first).split())[:200]
    return BusyError(f"the MCP server {name!r} does not answer: {type(first).__name__} {said}")


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    if isinstance(error, asyncio.CancelledError):
        return []
    return [error]
