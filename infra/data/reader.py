"""Reading the database for a model: a role that can only read, a transaction that can only read, bounded in time."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

import asyncpg
import orjson

from infra.data.entities import ENTITIES, Entity
from infra.data.statements import aggregate, query
from processors.tools.port import ToolError, ToolRequest
from projections.db import TRANSIENT
from schemas.errors import UnavailableError
from schemas.ids import SiteId
from schemas.message import Json, JsonObject

logger = logging.getLogger(__name__)

MODULE = "data"
ROLE = "dramac_reader"
STATEMENT_S = 5.0
QUESTIONS = 3  # at once: the connections are shared with those that must not wait
ROWS_BYTES = 48 * 1024  # of JSON: below where a result would be cut in mid-record

ROLE_EXISTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)"
# Only a superuser can do without being a member.
MEMBER = "SELECT pg_has_role(current_user, $1, 'MEMBER')"


class DataReader:
    """A `ModuleGateway` for the data tools. Every question is about `request.site_id`, whatever it says."""

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        entities: dict[str, Entity] | None = None,
        *,
        role: str = ROLE,
        statement_s: float = STATEMENT_S,
    ) -> None:
        self._pool = pool
        self._entities = dict(ENTITIES) if entities is None else entities
        self._role = role
        self._statement_ms = round(statement_s * 1000)
        self._has_role = False
        self._asking = asyncio.Semaphore(QUESTIONS)

    async def open(self) -> None:
        """Make the role that can only read the columns of the catalogue, as far as this user may make roles.

        Otherwise the transaction alone is read-only, and the log says so. The tables are there already.

        Raises:
            UnavailableError: Postgres does not answer.
        """
        try:
            async with self._pool.acquire() as db:
                self._has_role = await self._made_role(db)
                if self._has_role:
                    await self._grant(db)
        except asyncpg.InsufficientPrivilegeError:
            self._has_role = False
        except TRANSIENT as error:
            raise UnavailableError(f"Postgres does not answer for the data tools: {error}") from error
        if not self._has_role:
            logger.warning("the data tools read without a role of their own: this user may not make %s", self._role)

    async def _made_role(self, db: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> bool:
        if not await db.fetchval(ROLE_EXISTS, self._role):
            # Roles are of the whole server: another process may be faster.
            with contextlib.suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
                await db.execute(f'CREATE ROLE "{self._role}" NOLOGIN')
        if not await db.fetchval(MEMBER, self._role):
            await db.execute(f'GRANT "{self._role}" TO CURRENT_USER')
        return True

    async def _grant(self, db: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
        """Let the role read what the catalogue names, and nothing else of the same tables where they are plain."""
        for entity in self._entities.values():
            schema = entity.table.partition(".")[0]
            await self._granted(db, f'GRANT USAGE ON SCHEMA {schema} TO "{self._role}"')
            if entity.reads:  # a view runs with the reader's own rights
                for table in entity.tables:
                    await self._granted(db, f'GRANT SELECT ON {table} TO "{self._role}"')
            else:
                columns = ", ".join(f'"{name}"' for name in ("site_id", *entity.columns))
                await self._granted(db, f'GRANT SELECT ({columns}) ON {entity.table} TO "{self._role}"')

    async def _granted(self, db: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", sql: str) -> None:
        for attempt in (1, 2, 3):
            try:
                await db.execute(sql)
            except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError):
                return  # a part that is not installed here, or is of another release: a question about it is told so
            except asyncpg.InternalServerError:  # "tuple concurrently updated": another process grants the same
                if attempt == 3:
                    raise
                await asyncio.sleep(0.05 * attempt)
            else:
                return

    async def call(self, module: str, action: str, request: ToolRequest) -> Json:
        """Answer a question; nothing is changed.

        Raises:
            ToolError: it can't be asked, or takes too long; in words for the model.
            UnavailableError: Postgres does not answer.
        """
        match action:
            case "queryData":
                rows, more = await self._rows(request.site_id, *query(self._entities, request.arguments))
                return {"rows": rows, "count": len(rows), "more": more}
            case "aggregateData":
                rows, more = await self._rows(request.site_id, *aggregate(self._entities, request.arguments))
                if "group_by" not in request.arguments:
                    return {"metric": request.arguments["metric"], "value": rows[0]["value"]}
                return {"metric": request.arguments["metric"], "groups": rows, "more": more}
            case _:
                raise ToolError(f"The data tools can't do {action}.")

    async def _rows(
        self, site_id: SiteId, sql: str, values: Sequence[object], limit: int
    ) -> tuple[list[JsonObject], bool]:
        try:
            found = await self._read(sql, [site_id, *values])
        except asyncpg.InsufficientPrivilegeError:  # the tables were made anew since
            await self.open()
            found = await self._read(sql, [site_id, *values])
        rows: list[JsonObject] = []
        size = 0
        for record in found[:limit]:
            row = {name: _json_value(value) for name, value in record.items()}
            size += len(orjson.dumps(row)) + 1
            if size > ROWS_BYTES:
                return rows, True
            rows.append(row)
        return rows, len(found) > limit

    async def _read(self, sql: str, values: Sequence[object]) -> list[asyncpg.Record]:
        try:
            async with self._asking, self._pool.acquire() as db, db.transaction(readonly=True):
                await db.execute(f"SET LOCAL statement_timeout = {self._statement_ms}")
                await db.execute("SET LOCAL search_path = pg_catalog")
                if self._has_role:
                    await db.execute(f'SET LOCAL ROLE "{self._role}"')
                return await db.fetch(sql, *values)
        except asyncpg.QueryCanceledError as error:
            raise ToolError(
                f"The question took longer than {self._statement_ms / 1000:g} s: ask for less, with filters or a span."
            ) from error
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError) as error:
            raise ToolError("This system has no such records: that part of it is not installed.") from error
        except (asyncpg.DataError, asyncpg.exceptions.DatetimeFieldOverflowError, OverflowError) as error:
            raise ToolError("One of the values is out of the range that can be compared.") from error
        except TRANSIENT as error:
            raise UnavailableError(f"Postgres does not answer for the data tools: {error}") from error


def _json_value(value: object) -> Json:
    match value:
        case None | bool() | int() | str():
            return value
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime() | date():
            return value.isoformat()
        case list():
            return [_json_value(item) for item in value]
        case _:
            return str(value)
