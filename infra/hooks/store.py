"""Hooks in Postgres: who may wake which agent, their sealed secrets, what was delivered, and how fast."""

import asyncio
import logging
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg

from infra.hooks.signatures import Scheme
from infra.own_schema import OwnSchema
from infra.sealed_rows import reseal_rows
from infra.secrets import Sealed, Sealer
from projections.db import Pool
from schemas.errors import ConfigurationError, NotFoundError, RefusedError, UnavailableError
from schemas.ids import UUID_PATTERN, AgentId, SiteId, random_id

logger = logging.getLogger(__name__)

SCHEMA = OwnSchema("hooks", Path(__file__).with_name("hooks.sql"), "deliveries_received", lock=0x686F6F6B)  # "hook"

LIST_LIMIT = 500
VALID_SECRETS = 5  # of one hook at a time: each is tried with every delivery
BURST_S = 60  # as many deliveries at once as are allowed in such a time
DELIVERIES_KEPT = timedelta(days=30)  # no sender goes on trying for so long; the longest that are known take a week
PURGE_EVERY_S = 3_600.0

_COLUMNS = """
site_id::text, id::text, agent_id::text, agent_slug, name, scheme, is_enabled, per_minute, created_by, created_at
"""
CREATE = """
INSERT INTO hooks.hooks (site_id, id, agent_id, agent_slug, name, scheme, per_minute, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING :columns
""".replace(":columns", _COLUMNS)
FIND = "SELECT :columns FROM hooks.hooks WHERE id = $1".replace(":columns", _COLUMNS)
SECRETS = """
SELECT id::text, key_id, nonce, ciphertext FROM hooks.secrets
WHERE hook_id = $1 AND site_id = $2 AND (expires_at IS NULL OR expires_at > clock_timestamp())
ORDER BY created_at DESC, id
"""
LIST = """
SELECT :columns FROM hooks.hooks WHERE site_id = $1 AND id::text LIKE $2 || '%' ORDER BY created_at, id LIMIT $3
""".replace(":columns", _COLUMNS)
LOCKED = "SELECT 1 FROM hooks.hooks WHERE site_id = $1 AND id = $2 FOR UPDATE"
ADD_SEALED = """
INSERT INTO hooks.secrets (site_id, hook_id, id, key_id, nonce, ciphertext) VALUES ($1, $2, $3, $4, $5, $6)
"""
EXPIRE = """
UPDATE hooks.secrets SET expires_at = least(expires_at, clock_timestamp() + $3)
WHERE site_id = $1 AND hook_id = $2
"""
ENABLE = "UPDATE hooks.hooks SET is_enabled = $3, updated_at = now() WHERE site_id = $1 AND id = $2"
DELETE = "DELETE FROM hooks.hooks WHERE site_id = $1 AND id = $2"
ALL_SECRETS = "SELECT site_id::text, hook_id::text, id::text, key_id, nonce, ciphertext FROM hooks.secrets FOR UPDATE"
RESEAL = "UPDATE hooks.secrets SET key_id = $2, nonce = $3, ciphertext = $4 WHERE id = $1"

# One row's lock orders all processes. A bucket that empties at a steady rate: full, it lets nothing in. Nobody waits
# for the disk while holding that lock: after a crash of Postgres, some deliveries more are let in.
METER = """
INSERT INTO hooks.meters AS m (hook_id, empty_at)
SELECT $1, clock_timestamp() + $2::interval FROM set_config('synchronous_commit', 'off', true)
ON CONFLICT (hook_id) DO UPDATE SET empty_at = greatest(m.empty_at, clock_timestamp()) + $2::interval
WHERE greatest(m.empty_at, clock_timestamp()) + $2::interval <= clock_timestamp() + $3::interval
RETURNING 1
"""
WAIT = """
SELECT extract(epoch FROM empty_at + $2::interval - $3::interval - clock_timestamp())::float8
FROM hooks.meters WHERE hook_id = $1
"""
# The update changes nothing: it is there so that the row which is there already is returned.
CLAIM = """
INSERT INTO hooks.deliveries (hook_id, delivery_id, body_sha256, time_ms) VALUES ($1, $2, $3, $4)
ON CONFLICT (hook_id, delivery_id) DO UPDATE SET hook_id = EXCLUDED.hook_id
RETURNING body_sha256, time_ms, taken_at IS NOT NULL AS is_taken
"""
# Forgotten in a crash, it is asked again for the same run, which the agent's stream knows.
TAKEN = """
UPDATE hooks.deliveries SET taken_at = clock_timestamp() FROM set_config('synchronous_commit', 'off', true)
WHERE hook_id = $1 AND delivery_id = $2
"""
PURGE = """
WITH expired AS (DELETE FROM hooks.secrets WHERE expires_at <= clock_timestamp())
DELETE FROM hooks.deliveries WHERE received_at < clock_timestamp() - $1::interval
"""


@dataclass(frozen=True, slots=True)
class Hook:
    """One address that wakes one agent of one site. `per_minute` deliveries are taken, on average."""

    site_id: SiteId
    id: str
    agent_id: AgentId
    agent_slug: str
    name: str
    scheme: Scheme
    is_enabled: bool
    per_minute: int
    created_by: str
    created_at: datetime

    @property
    def path(self) -> str:
        """Its address on the API; as the source of triggers, with the delivery's id, it names them."""
        return f"/hooks/{self.id}"


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery as it was first received. `is_taken` once its command is on the log."""

    body_sha256: bytes
    time_ms: int
    is_taken: bool


class HookStore:
    """The hooks of all sites. Call `open` once before anything else; every method may raise UnavailableError."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open(self) -> None:
        """Create the tables that are missing."""
        with SCHEMA.failures_in_words():
            await SCHEMA.ensure(self._pool)

    # --- what people do ---------------------------------------------------------------------------------------------

    async def create(
        self,
        sealer: Sealer,
        secret: str,
        *,
        site_id: SiteId,
        agent_id: AgentId,
        agent_slug: str,
        name: str,
        scheme: Scheme,
        per_minute: int,
        user: str,
    ) -> Hook:
        """Store a new hook with its secret."""
        hook_id = random_id()
        with SCHEMA.failures_in_words():
            async with self._pool.acquire() as db, db.transaction():
                row = await db.fetchrow(CREATE, site_id, hook_id, agent_id, agent_slug, name, scheme, per_minute, user)
                await db.execute(ADD_SEALED, *_sealed(sealer, site_id, hook_id, secret))
        return Hook(**dict(row or {}))

    async def list(self, site_id: SiteId) -> tuple[Hook, ...]:
        """Return the hooks of a site, the oldest first."""
        with SCHEMA.failures_in_words():
            return tuple(Hook(**dict(row)) for row in await self._pool.fetch(LIST, site_id, "", LIST_LIMIT))

    async def get(self, site_id: SiteId, ref: str) -> Hook:
        """Return the site's hook whose id begins with `ref`.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        text = ref.lower()
        rows = []
        if text and set(text) <= set("0123456789abcdef-"):
            with SCHEMA.failures_in_words():
                rows = await self._pool.fetch(LIST, site_id, text, 2)
        if len(rows) != 1:
            told = "names more than one hook: give the whole id" if rows else "is no hook: see `dramac hooks list`"
            raise NotFoundError(f"{ref!r:.60} {told}")
        return Hook(**dict(rows[0]))

    async def rotate(self, sealer: Sealer, hook: Hook, secret: str, grace: timedelta) -> None:
        """Add a secret; the older ones are valid for `grace` more, or less where that was said before.

        Raises:
            RefusedError: too many are valid at a time, or this very secret is.
        """
        with SCHEMA.failures_in_words():
            async with self._pool.acquire() as db, db.transaction():
                if await db.fetchval(LOCKED, hook.site_id, hook.id) is None:
                    raise NotFoundError(f"the hook {hook.id} was deleted meanwhile")
                await db.execute(EXPIRE, hook.site_id, hook.id, grace)
                valid = [_opened(sealer, hook, row) for row in await db.fetch(SECRETS, hook.id, hook.site_id)]
                if secret in valid:
                    raise RefusedError("the hook has this very secret already: give a new one", reason="same_secret")
                if len(valid) >= VALID_SECRETS:
                    told = f"{VALID_SECRETS} secrets of this hook are still valid: rotate with --grace 0 to end them"
                    raise RefusedError(told, reason="too_many_secrets")
                await db.execute(ADD_SEALED, *_sealed(sealer, hook.site_id, hook.id, secret))

    async def enable(self, hook: Hook, is_enabled: bool) -> None:
        """Let deliveries in, or answer them as if there were no such hook."""
        with SCHEMA.failures_in_words():
            await self._pool.execute(ENABLE, hook.site_id, hook.id, is_enabled)

    async def delete(self, hook: Hook) -> None:
        """Delete a hook with its secrets and deliveries; the runs that it started stay on the log."""
        with SCHEMA.failures_in_words():
            await self._pool.execute(DELETE, hook.site_id, hook.id)

    async def reseal(self, sealer: Sealer) -> int:
        """Seal every secret with the newest master key; return how many were sealed with another.

        Raises:
            ConfigurationError: one does not open; nothing was changed.
        """
        with SCHEMA.failures_in_words():
            return await reseal_rows(
                self._pool, sealer, ALL_SECRETS, RESEAL, ("id",), lambda row: _context(row["site_id"], row["hook_id"])
            )

    # --- what deliveries need ---------------------------------------------------------------------------------------

    async def find(self, hook_id: str) -> Hook | None:
        """Return the hook of that very id, if it is enabled."""
        if UUID_PATTERN.fullmatch(hook_id) is None:
            return None
        with SCHEMA.failures_in_words():
            row = await self._pool.fetchrow(FIND, hook_id)
        return Hook(**dict(row)) if row is not None and row["is_enabled"] else None

    async def secrets(self, sealer: Sealer, hook: Hook) -> tuple[str, ...]:
        """Return the hook's valid secrets, the newest first. One that does not open is logged and left out.

        Raises:
            ConfigurationError: none of them opens.
        """
        with SCHEMA.failures_in_words():
            rows = await self._pool.fetch(SECRETS, hook.id, hook.site_id)
        opened, failure = [], None
        for row in rows:
            try:
                opened.append(_opened(sealer, hook, row))
            except ConfigurationError as error:
                failure = error
                logger.error("a secret of the hook %s can't be used: %s", hook.id, error)  # noqa: TRY400 - no traceback
        if failure is not None and not opened:
            raise failure
        return tuple(opened)

    async def wait_s(self, hook: Hook) -> int:
        """Count one delivery and return 0; or, where there were too many, the seconds to wait, and count nothing."""
        each, burst = timedelta(seconds=60 / hook.per_minute), timedelta(seconds=BURST_S)
        with SCHEMA.failures_in_words():
            if await self._pool.fetchval(METER, hook.id, each, burst) is not None:
                return 0
            wait_s: float | None = await self._pool.fetchval(WAIT, hook.id, each, burst)
        return max(1, math.ceil(wait_s or 0))

    async def claim(self, hook: Hook, delivery_id: str, body_sha256: bytes, time_ms: int) -> Claim | None:
        """Return the delivery as it was first received, which may be now; None if the hook was deleted meanwhile."""
        try:
            with SCHEMA.failures_in_words():
                row = await self._pool.fetchrow(CLAIM, hook.id, delivery_id, body_sha256, time_ms)
        except asyncpg.ForeignKeyViolationError:
            return None
        return Claim(**dict(row or {}))

    async def taken(self, hook: Hook, delivery_id: str) -> None:
        """Remember that a delivery's command is on the log."""
        with SCHEMA.failures_in_words():
            await self._pool.execute(TAKEN, hook.id, delivery_id)

    async def purge(self) -> None:
        """Forget expired secrets, and deliveries that nobody sends again."""
        with SCHEMA.failures_in_words():
            await self._pool.execute(PURGE, DELIVERIES_KEPT)

    async def run(self) -> None:
        """Forget what is old, now and then, until cancelled."""
        while True:
            try:
                await self.purge()
            except UnavailableError as error:
                logger.warning("old deliveries of hooks stay for now: %s", error)
            await asyncio.sleep(PURGE_EVERY_S)


def _context(site_id: str, hook_id: str) -> tuple[str, ...]:
    return ("hook", site_id, hook_id)


def _sealed(sealer: Sealer, site_id: SiteId, hook_id: str, secret: str) -> tuple[object, ...]:
    sealed = sealer.seal(secret.encode(), _context(site_id, hook_id))
    return site_id, hook_id, random_id(), sealed.key_id, sealed.nonce, sealed.ciphertext


def _opened(sealer: Sealer, hook: Hook, row: asyncpg.Record) -> str:
    sealed = Sealed(row["key_id"], row["nonce"], row["ciphertext"])
    return sealer.open(sealed, _context(hook.site_id, hook.id)).decode()
