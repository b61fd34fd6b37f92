"""The MCP servers of sites, and what was approved of them, in Postgres."""

from dataclasses import dataclass
from datetime import datetime

import asyncpg
import orjson

from infra.mcp.frozen import Offer
from infra.sealed_rows import columns_of, reseal_rows, sealed_of
from infra.secrets import Sealed, Sealer
from infra.tools.store import SCHEMA
from projections.db import Pool
from schemas.catalogue import ToolDefinition
from schemas.errors import NotFoundError, RefusedError
from schemas.ids import SiteId
from schemas.message import JsonObject

SERVERS_OF_A_SITE = 50
TOOLS_OF_A_SITE = 500

ADD = """
INSERT INTO tools.mcp_servers (site_id, name, url, header, key_id, nonce, ciphertext, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING 1
"""
COUNT = "SELECT count(*) FROM tools.mcp_servers WHERE site_id = $1"
GET = """
SELECT name, url, header, key_id, nonce, ciphertext, created_by, created_at FROM tools.mcp_servers
WHERE site_id = $1 AND ($2::text IS NULL OR name = $2) ORDER BY name
"""
REMOVE = "DELETE FROM tools.mcp_servers WHERE site_id = $1 AND name = $2 RETURNING 1"
APPROVE = """
INSERT INTO tools.mcp_tools (site_id, server, tool, sha256, told, definition, approved_by)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6::text::jsonb, $7)
ON CONFLICT (site_id, server, tool) DO UPDATE
SET sha256 = EXCLUDED.sha256, told = EXCLUDED.told, definition = EXCLUDED.definition,
    approved_by = EXCLUDED.approved_by, approved_at = now()
"""
APPROVED = """
SELECT server, tool, sha256, told::text AS told, definition::text AS definition, approved_by FROM tools.mcp_tools
WHERE site_id = $1 AND ($2::text IS NULL OR server = $2) ORDER BY server, tool LIMIT $3
"""
ALL_SECRETS = """
SELECT site_id::text, name, key_id, nonce, ciphertext FROM tools.mcp_servers WHERE key_id IS NOT NULL FOR UPDATE
"""
RESEAL = "UPDATE tools.mcp_servers SET key_id = $3, nonce = $4, ciphertext = $5 WHERE site_id = $1 AND name = $2"
COUNT_TOOLS = "SELECT count(*) FROM tools.mcp_tools WHERE site_id = $1"


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server of one site. Without `url`, it is the command of that name in the settings."""

    site_id: SiteId
    name: str
    url: str | None
    header: str | None
    sealed: Sealed | None
    created_by: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ApprovedTool:
    """What was approved: what the server said of it then, and the definition that came of it."""

    server: str
    tool: str
    sha256: str
    told: JsonObject
    definition: ToolDefinition
    approved_by: str


class McpStore:
    """The servers of all sites; every method names the site, and may raise UnavailableError."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(self) -> None:
        """Create the tables that are missing."""
        with SCHEMA.failures_in_words():
            await SCHEMA.ensure(self._pool)

    async def add(
        self,
        site_id: SiteId,
        name: str,
        url: str | None,
        user: str,
        *,
        header: str | None = None,
        secret: bytes | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        """Store a server; nothing of it is approved yet.

        Raises:
            RefusedError: the site has one of that name, or too many.
        """
        sealed = sealer.seal(secret, context_of(site_id, name)) if sealer is not None and secret is not None else None
        with SCHEMA.failures_in_words():
            if await self._pool.fetchval(COUNT, site_id) >= SERVERS_OF_A_SITE:
                raise RefusedError(f"the site has {SERVERS_OF_A_SITE} MCP servers already", reason="too_many")
            if await self._pool.fetchval(ADD, site_id, name, url, header, *columns_of(sealed), user) is None:
                told = f"the site has an MCP server {name!r} already: remove it first, with all that was approved of it"
                raise RefusedError(told, reason="exists")

    async def servers(self, site_id: SiteId) -> tuple[McpServer, ...]:
        """Return the site's servers, by name."""
        with SCHEMA.failures_in_words():
            return tuple(_server(site_id, row) for row in await self._pool.fetch(GET, site_id, None))

    async def get(self, site_id: SiteId, name: str) -> McpServer:
        """Return the site's server of that name.

        Raises:
            NotFoundError: there is none.
        """
        with SCHEMA.failures_in_words():
            row = await self._pool.fetchrow(GET, site_id, name)
        if row is None:
            raise NotFoundError(f"the site has no MCP server {name[:80]!r}: see `dramac tools mcp list`")
        return _server(site_id, row)

    async def remove(self, site_id: SiteId, name: str) -> None:
        """Remove a server with all that was approved of it.

        Raises:
            NotFoundError: there is none.
        """
        with SCHEMA.failures_in_words():
            if await self._pool.fetchval(REMOVE, site_id, name) is None:
                raise NotFoundError(f"the site has no MCP server {name[:80]!r}: see `dramac tools mcp list`")

    async def approve(self, site_id: SiteId, server: str, offer: Offer, definition: ToolDefinition, user: str) -> None:
        """Let agents of the site use the tool as it is described now.

        Raises:
            RefusedError: too many are approved, or another one has the same name for models.
        """
        told, defined = orjson.dumps(offer.told).decode(), definition.encode().decode()
        with SCHEMA.failures_in_words():
            if await self._pool.fetchval(COUNT_TOOLS, site_id) >= TOOLS_OF_A_SITE:
                raise RefusedError(f"{TOOLS_OF_A_SITE} tools of MCP servers are approved already", reason="too_many")
            for other in await self.approved(site_id):
                if other.definition.name == definition.name and (other.server, other.tool) != (server, offer.tool):
                    taken = f"{other.tool!r} of {other.server!r} is {definition.name!r} already"
                    raise RefusedError(f"{taken}: of two tools with one name, one can be approved", reason="same_name")
            await self._pool.execute(APPROVE, site_id, server, offer.tool, offer.sha256, told, defined, user)

    async def approved(self, site_id: SiteId, server: str | None = None) -> tuple[ApprovedTool, ...]:
        """Return what was approved, of one server or of all."""
        with SCHEMA.failures_in_words():
            rows = await self._pool.fetch(APPROVED, site_id, server, TOOLS_OF_A_SITE)
        return tuple(
            ApprovedTool(
                row["server"],
                row["tool"],
                row["sha256"],
                orjson.loads(row["told"]),
                ToolDefinition.model_validate(orjson.loads(row["definition"])),
                row["approved_by"],
            )
            for row in rows
        )

    async def reseal(self, sealer: Sealer) -> int:
        """Seal every secret with the newest master key; return how many were sealed with another.

        Raises:
            ConfigurationError: one does not open; nothing was changed.
        """
        with SCHEMA.failures_in_words():
            return await reseal_rows(
                self._pool,
                sealer,
                ALL_SECRETS,
                RESEAL,
                ("site_id", "name"),
                lambda row: context_of(row["site_id"], row["name"]),
            )

    async def definitions(self, site_id: SiteId) -> tuple[ToolDefinition, ...]:
        """Return the approved tools as models and the policy see them."""
        return tuple(tool.definition for tool in await self.approved(site_id))


def context_of(site_id: str, name: str) -> tuple[str, ...]:
    """Return what a server's secret is bound to."""
    return ("mcp", site_id, name)


def _server(site_id: SiteId, row: asyncpg.Record) -> McpServer:
    return McpServer(
        site_id, row["name"], row["url"], row["header"], sealed_of(row), row["created_by"], row["created_at"]
    )
