"""The platform's modules on a small scale, in Postgres: a CRM, tasks, a calendar and an email outbox.

For the embedded stack, the demo and tests. What matters is as in the real ones: every change happens once for its
idempotency key, belongs to one site, and tells the other modules by an event.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import orjson

from infra.modules.outbox import EventPublisher, Outbox
from infra.modules.sandbox_actions import CHANGES, READS, Changed, Db, Order, create_contact
from infra.modules.sandbox_seed import SEED_CONTACTS
from infra.own_schema import OwnSchema
from processors.tools.cleaning import clean_text
from processors.tools.port import ToolError, ToolRequest
from schemas.errors import UnavailableError
from schemas.ids import SiteId
from schemas.message import Json, JsonObject

SCHEMA = OwnSchema("sandbox", Path(__file__).with_name("sandbox.sql"), "calendar_of_site", lock=0x73616E64)  # "sand"

# A key that is being used by a call in flight is waited for, by the unique index, until that call is decided.
CLAIM = "INSERT INTO sandbox.applied_calls (site_id, key, asked) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING 1"
APPLIED = "SELECT asked, result::text FROM sandbox.applied_calls WHERE site_id = $1 AND key = $2"
APPLY = "UPDATE sandbox.applied_calls SET result = $3::text::jsonb WHERE site_id = $1 AND key = $2"
SEED = """
INSERT INTO sandbox.contacts
    (site_id, id, email, first_name, last_name, company, status, tags, custom_fields, created_by)
SELECT $1, c.id, c.email, c.first_name, c.last_name, c.company, c.status, c.tags, c.custom_fields, 'seed'
FROM jsonb_to_recordset($2::text::jsonb) AS c(id uuid, email text, first_name text, last_name text, company text,
                                              status text, tags text[], custom_fields jsonb)
ON CONFLICT DO NOTHING RETURNING id
"""


class Sandbox:
    """A `ModuleGateway` over the schema `sandbox`. Call `open` once before anything else.

    `publisher` takes the module events that follow from changes.
    """

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", publisher: EventPublisher) -> None:
        self._pool = pool
        self._outbox = Outbox(pool, publisher)

    async def open(self) -> None:
        """Create what is missing, and publish the events that an earlier process left behind.

        Raises:
            UnavailableError: Postgres does not answer.
        """
        with _failures_in_words():
            await SCHEMA.ensure(self._pool)
        await self._outbox.publish_left_if_possible()

    async def run(self) -> None:
        """Publish what an outage of the log or of Postgres left over, until cancelled."""
        await self._outbox.run()

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Let `module` do `action`; a change happens once for `request.call_id`, whose first result is returned.

        What only reads is not remembered: a second call reads again.

        Raises:
            ToolError: refused, in words for the model; nothing was changed.
            UnavailableError: Postgres does not answer; the change may have been made.
        """
        order = Order(request.site_id, f"agent:{request.agent_id}", _storable(request.arguments))
        read = READS.get((module, action))
        if read is not None:
            with _failures_in_words():
                async with self._pool.acquire() as db:
                    return await read(db, order)
        if (module, action) not in CHANGES:
            raise ToolError(f"The sandbox has no {action} in its module {module}.")
        with _failures_in_words():
            async with self._pool.acquire() as db, db.transaction():
                result = await self._change_once(db, module, action, order, request)
        await self._outbox.publish_left_if_possible()
        return result

    async def _change_once(self, db: Db, module: str, action: str, order: Order, request: ToolRequest) -> Json:
        asked = _sha256(module, action, order.arguments)
        if await db.fetchval(CLAIM, order.site_id, request.call_id, asked) is None:
            applied = await db.fetchrow(APPLIED, order.site_id, request.call_id)
            if applied is None or applied["asked"] != asked:
                raise ToolError("This call's key was used for another call before: nothing was done.")
            return orjson.loads(applied["result"])
        changed = await CHANGES[module, action](db, order)
        extensions = {
            "agentid": request.agent_id,
            "causationdepth": str(request.depth + 1),
            "correlationid": request.correlation_id,
        }
        await self._tell(db, order.site_id, changed, extensions)
        await db.execute(APPLY, order.site_id, request.call_id, orjson.dumps(changed.result).decode())
        return changed.result

    async def _tell(self, db: Db, site_id: SiteId, changed: Changed, extensions: dict[str, str]) -> None:
        for event in changed.events:
            await self._outbox.put(db, site_id, event, extensions)

    async def create_contact(
        self,
        site_id: SiteId,
        *,
        email: str,
        first_name: str | None = None,
        last_name: str | None = None,
        company: str | None = None,
        status: str = "lead",
        tags: Sequence[str] = (),
        custom_fields: JsonObject | None = None,
    ) -> JsonObject:
        """Create a contact as a person would, and return it; `crm.contact.created` follows, caused by no agent.

        Raises:
            ToolError: the site has a contact with this email.
            UnavailableError: Postgres does not answer.
        """
        given = {
            "email": email,
            "first_name": first_name,
            "last_name": last_name,
            "company": company,
            "status": status,
            "tags": list(tags),
            "custom_fields": custom_fields or {},
        }
        with _failures_in_words():
            async with self._pool.acquire() as db, db.transaction():
                changed = await create_contact(db, Order(site_id, "user", _storable(given)))
                await self._tell(db, site_id, changed, {})
        await self._outbox.publish_left_if_possible()
        return changed.result

    async def seed(self, site_id: SiteId, contacts: Sequence[JsonObject] = SEED_CONTACTS) -> int:
        """Add contacts that were always there, so without events; return how many were not there yet.

        Raises:
            UnavailableError: Postgres does not answer.
        """
        with _failures_in_words():
            rows = await self._pool.fetch(SEED, site_id, orjson.dumps(list(contacts)).decode())
        return len(rows)

    async def publish_left(self) -> int:
        """Publish the events that still wait and return how many they were.

        Raises:
            DramacError: the log did not take one; it waits for the next time.
        """
        return await self._outbox.publish_left()


@contextmanager
def _failures_in_words() -> Iterator[None]:
    """Turn what Postgres says into what the project says."""
    try:
        yield
    except (
        asyncpg.DataError,
        asyncpg.IntegrityConstraintViolationError,
        ValueError,
    ) as error:  # ValueError: asyncpg's own
        raise ToolError(
            "The values can't be stored: one of them is out of range or not what the field takes."
        ) from error
    except (
        OSError,
        asyncpg.InterfaceError,  # the connection or the pool is closed
        asyncpg.InternalClientError,  # the server was killed while a statement was being cancelled
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
        asyncpg.IdleInTransactionSessionTimeoutError,
        asyncpg.TransactionRollbackError,
    ) as error:
        raise UnavailableError(f"Postgres does not answer for the sandbox: {error}") from error


def _sha256(module: str, action: str, arguments: JsonObject) -> str:
    asked = orjson.dumps([module, action, arguments], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(asked).hexdigest()


def _storable(value: Json) -> Json:
    """Return JSON with U+FFFD for what Postgres has no place for: NUL and lone surrogates."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
