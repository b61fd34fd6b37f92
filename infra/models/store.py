"""Sites' own model providers in Postgres: what each speaks, where, and its sealed key, which is never shown again."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import asyncpg

from infra.models.addresses import Api
from infra.models.endpoints import check_endpoint
from infra.own_schema import OwnSchema
from infra.sealed_rows import columns_of, reseal_rows, sealed_of
from infra.secrets import Sealed, Sealer
from projections.db import Pool
from schemas.errors import NotFoundError
from schemas.ids import SiteId

SCHEMA = OwnSchema(
    "providers", Path(__file__).with_name("providers.sql"), "providers_by_key", lock=0x70726F76  # "prov"
)  # fmt: skip

_COLUMNS = """
site_id::text, name, api, url, tools, requests_per_minute, tokens_per_minute, key_id, nonce, ciphertext, updated_by,
updated_at
"""
SET = """
INSERT INTO providers.providers AS p (site_id, name, api, url, tools, requests_per_minute, tokens_per_minute, key_id,
  nonce, ciphertext, updated_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (site_id, name) DO UPDATE SET api = EXCLUDED.api, url = EXCLUDED.url, tools = EXCLUDED.tools,
  requests_per_minute = EXCLUDED.requests_per_minute, tokens_per_minute = EXCLUDED.tokens_per_minute,
  key_id = EXCLUDED.key_id, nonce = EXCLUDED.nonce, ciphertext = EXCLUDED.ciphertext,
  updated_by = EXCLUDED.updated_by, updated_at = clock_timestamp()
"""
LIST = "SELECT :columns FROM providers.providers WHERE site_id = $1 ORDER BY name".replace(":columns", _COLUMNS)
FIND = "SELECT :columns FROM providers.providers WHERE site_id = $1 AND name = $2".replace(":columns", _COLUMNS)
REMOVE = "DELETE FROM providers.providers WHERE site_id = $1 AND name = $2 RETURNING 1"
ALL = "SELECT :columns FROM providers.providers WHERE key_id IS NOT NULL FOR UPDATE".replace(":columns", _COLUMNS)
RESEAL = "UPDATE providers.providers SET key_id = $3, nonce = $4, ciphertext = $5 WHERE site_id = $1 AND name = $2"


@dataclass(frozen=True, slots=True)
class SiteProvider:
    """A provider that a site has of its own. `sealed` is its key, if it has one."""

    site_id: SiteId
    name: str
    api: Api
    url: str | None
    tools: bool
    requests_per_minute: int | None
    tokens_per_minute: int | None
    sealed: Sealed | None = field(repr=False)
    updated_by: str
    updated_at: datetime | None

    @property
    def context(self) -> tuple[str, ...]:
        """What the key is bound to: nobody who can write to the table makes it go elsewhere."""
        return ("provider", self.site_id, self.name, self.api, self.url or "")


class ProviderStore:
    """The providers of all sites. Call `open` once before anything else; every method may raise UnavailableError."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(self) -> None:
        """Create the table, if it is missing."""
        with SCHEMA.failures_in_words():
            await SCHEMA.ensure(self._pool)

    async def set(self, sealer: Sealer | None, provider: SiteProvider, key: str, allowed: tuple[str, ...]) -> None:
        """Store a provider in place of the one of its name; an empty `key` is none.

        Raises:
            ConfigurationError: its address is not among those `allowed`.
        """
        check_endpoint(provider.url, allowed)
        sealed = sealer.seal(key.encode(), provider.context) if key and sealer is not None else None
        with SCHEMA.failures_in_words():
            await self._pool.execute(
                SET,
                provider.site_id,
                provider.name,
                provider.api,
                provider.url,
                provider.tools,
                provider.requests_per_minute,
                provider.tokens_per_minute,
                *columns_of(sealed),
                provider.updated_by,
            )

    async def list(self, site_id: SiteId) -> tuple[SiteProvider, ...]:
        """Return a site's providers, by name."""
        with SCHEMA.failures_in_words():
            return tuple(_provider(row) for row in await self._pool.fetch(LIST, site_id))

    async def find(self, site_id: SiteId, name: str) -> SiteProvider | None:
        """Return a site's provider, if it has one of that name."""
        with SCHEMA.failures_in_words():
            row = await self._pool.fetchrow(FIND, site_id, name)
        return None if row is None else _provider(row)

    async def remove(self, site_id: SiteId, name: str) -> None:
        """Delete a provider and its key.

        Raises:
            NotFoundError: there is none of that name.
        """
        with SCHEMA.failures_in_words():
            if await self._pool.fetchval(REMOVE, site_id, name) is None:
                raise NotFoundError(f"the site has no provider {name!r:.60} of its own: see `dramac providers list`")

    async def reseal(self, sealer: Sealer) -> int:
        """Seal every key with the newest master key; return how many were sealed with another.

        Raises:
            ConfigurationError: one does not open; nothing was changed.
        """
        with SCHEMA.failures_in_words():
            return await reseal_rows(
                self._pool, sealer, ALL, RESEAL, ("site_id", "name"), lambda row: _provider(row).context
            )


def _provider(row: asyncpg.Record) -> SiteProvider:
    told = {name: value for name, value in dict(row).items() if name not in ("key_id", "nonce", "ciphertext")}
    return SiteProvider(**told, sealed=sealed_of(row))
