"""The tools that sites registered, in Postgres: every version, with its sealed secret."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import asyncpg
import orjson
from pydantic import ValidationError

from infra.own_schema import OwnSchema
from infra.sealed_rows import columns_of, reseal_rows, sealed_of
from infra.secrets import Sealed, Sealer
from infra.tools.http_tool import HttpTool
from projections.db import Pool
from schemas.catalogue import ToolDefinition
from schemas.errors import ConfigurationError, NotFoundError, RefusedError
from schemas.ids import SiteId

logger = logging.getLogger(__name__)

SCHEMA = OwnSchema("tools", Path(__file__).with_name("tools.sql"), "mcp_tools_of_site", lock=0x746F6F6C)  # "tool"

TOOLS_OF_A_SITE = 200  # a model chooses among them; each stands in every catalogue of the site

_COLUMNS = "name, version, told::text AS told, key_id, nonce, ciphertext, created_by, created_at, removed_at"
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 0))"
NEWEST = f"""
SELECT {_COLUMNS} FROM tools.http_tools WHERE site_id = $1 AND name = $2 ORDER BY version DESC LIMIT 1
"""  # noqa: S608 - our own columns
ADD = """
INSERT INTO tools.http_tools (site_id, name, version, told, key_id, nonce, ciphertext, created_by)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7, $8)
"""
COUNT = "SELECT count(DISTINCT name) FROM tools.http_tools WHERE site_id = $1 AND removed_at IS NULL"
LIST = f"""
SELECT DISTINCT ON (name) {_COLUMNS} FROM tools.http_tools
WHERE site_id = $1 AND removed_at IS NULL ORDER BY name, version DESC
"""  # noqa: S608
FIND = f"""
SELECT {_COLUMNS} FROM tools.http_tools WHERE site_id = $1 AND name = $2 AND version = $3 AND removed_at IS NULL
"""  # noqa: S608
REMOVE = """
UPDATE tools.http_tools SET removed_at = now(), removed_by = $3
WHERE site_id = $1 AND name = $2 AND removed_at IS NULL RETURNING 1
"""
ALL_SECRETS = """
SELECT site_id::text, name, version, key_id, nonce, ciphertext FROM tools.http_tools
WHERE key_id IS NOT NULL FOR UPDATE
"""
RESEAL = """
UPDATE tools.http_tools SET key_id = $4, nonce = $5, ciphertext = $6 WHERE site_id = $1 AND name = $2 AND version = $3
"""


@dataclass(frozen=True, slots=True)
class StoredTool:
    """One version of a site's tool. `sealed` is its secret, if it has one."""

    site_id: SiteId
    tool: HttpTool
    version: int
    sealed: Sealed | None
    created_by: str
    created_at: datetime
    removed: bool = False

    def secret(self, sealer: Callable[[], Sealer]) -> bytes | None:
        """Return the tool's secret, opened.

        Raises:
            ConfigurationError: it does not open.
        """
        if self.sealed is None:
            return None
        return sealer().open(self.sealed, context_of(self.site_id, self.tool.name))


class SiteToolStore:
    """The tools of all sites; every method names the site, and may raise UnavailableError. Call `open` once first."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @property
    def pool(self) -> Pool:
        """The database."""
        return self._pool

    async def open(self) -> None:
        """Create the tables that are missing."""
        with SCHEMA.failures_in_words():
            await SCHEMA.ensure(self._pool)

    async def add(
        self, site_id: SiteId, tool: HttpTool, secret: bytes | None, sealer: Callable[[], Sealer], user: str
    ) -> tuple[int, bool]:
        """Store a tool, or a new version of it; return the version in force, and whether it is a new one.

        Without `secret`, that of the version before stays, as long as it is sent to the same place.

        Raises:
            ConfigurationError: a secret is missing, or is for nothing.
            RefusedError: the site has too many tools.
        """
        if secret is not None and not tool.http.needs_secret:
            raise ConfigurationError(f"no header of {tool.name!r} holds {{secret}}: where should the secret go?")
        with SCHEMA.failures_in_words():
            async with self._pool.acquire() as db, db.transaction():
                await db.execute(LOCK, str(site_id), tool.name)
                row = await db.fetchrow(NEWEST, site_id, tool.name)
                last = _stored(site_id, row) if row is not None else None
                current = last if last is not None and not last.removed else None
                sealed = sealer().seal(secret, context_of(site_id, tool.name)) if secret is not None else None
                if sealed is None and tool.http.needs_secret:
                    sealed = _kept_secret(tool, current)
                if current is not None and secret is None and current.tool == tool:
                    return current.version, False
                if current is None and await db.fetchval(COUNT, site_id) >= TOOLS_OF_A_SITE:
                    raise RefusedError(
                        f"the site has {TOOLS_OF_A_SITE} tools, which is the most: remove one", reason="too_many"
                    )
                version = last.version + 1 if last is not None else 1
                await db.execute(ADD, site_id, tool.name, version, tool.encode().decode(), *columns_of(sealed), user)
        return version, True

    async def list(self, site_id: SiteId) -> tuple[StoredTool, ...]:
        """Return the site's tools in force, by name; one that this release no longer takes is left out, and logged."""
        with SCHEMA.failures_in_words():
            rows = await self._pool.fetch(LIST, site_id)
        found: list[StoredTool] = []
        for row in rows:
            try:
                found.append(_stored(site_id, row))
            except ValidationError as error:
                why = error.errors()[0]["msg"]
                logger.error("the tool %r of site %s is left out, add it anew: %s", row["name"], site_id, why)  # noqa: TRY400
        return tuple(found)

    async def definitions(self, site_id: SiteId) -> tuple[ToolDefinition, ...]:
        """Return the site's tools in force as models and the policy see them."""
        return tuple(stored.tool.definition(stored.version) for stored in await self.list(site_id))

    async def get(self, site_id: SiteId, name: str) -> StoredTool:
        """Return the version in force.

        Raises:
            NotFoundError: there is none.
        """
        with SCHEMA.failures_in_words():
            row = await self._pool.fetchrow(NEWEST, site_id, name)
        if row is None or row["removed_at"] is not None:
            raise NotFoundError(f"the site has no tool {name[:80]!r}: see `dramac tools list`")
        return _stored(site_id, row)

    async def find(self, site_id: SiteId, name: str, version: str) -> StoredTool | None:
        """Return that very version, unless the tool was removed."""
        if not version.isdecimal() or len(version) > 9:
            return None
        with SCHEMA.failures_in_words():
            row = await self._pool.fetchrow(FIND, site_id, name, int(version))
        return _stored(site_id, row) if row is not None else None

    async def remove(self, site_id: SiteId, name: str, user: str) -> None:
        """Take the tool away, also from the runs that see it.

        Raises:
            NotFoundError: there is none.
        """
        with SCHEMA.failures_in_words():
            if not await self._pool.fetch(REMOVE, site_id, name, user):
                raise NotFoundError(f"the site has no tool {name[:80]!r}: see `dramac tools list`")

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
                ("site_id", "name", "version"),
                lambda row: context_of(row["site_id"], row["name"]),
            )


def context_of(site_id: str, name: str) -> tuple[str, ...]:
    """Return what a tool's secret is bound to."""
    return ("tool", site_id, name)


def _kept_secret(tool: HttpTool, current: StoredTool | None) -> Sealed:
    """Return the secret of the version before, which no other host may be sent by a mere change of the address."""
    if current is None or current.sealed is None:
        raise ConfigurationError(f"a header of {tool.name!r} holds {{secret}}: give it with --secret-from")
    if _origin(current.tool) != _origin(tool):
        raise ConfigurationError(f"{tool.name!r} goes to another host than before: give its secret with --secret-from")
    return current.sealed


def _origin(tool: HttpTool) -> str:
    scheme, _, rest = tool.http.url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}".lower()


def _stored(site_id: SiteId, row: asyncpg.Record) -> StoredTool:
    tool = HttpTool.model_validate(orjson.loads(row["told"]))
    return StoredTool(
        site_id,
        tool,
        row["version"],
        sealed_of(row),
        row["created_by"],
        row["created_at"],
        row["removed_at"] is not None,
    )
