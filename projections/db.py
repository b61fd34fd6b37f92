"""What the rest of this room needs of Postgres: the names of its types, and set-based statements."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Protocol, Union, get_args, get_origin

import asyncpg
from asyncpg.pool import PoolConnectionProxy

SCHEMA = "projections"

Pool = asyncpg.Pool
Db = asyncpg.Connection | PoolConnectionProxy

# Postgres or the way to it is gone, or somebody was in the way: the same again, later, may succeed.
TRANSIENT = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # "connection is closed"
    asyncpg.InternalClientError,  # seen of a connection whose server was killed while a query was being cancelled
    asyncpg.OperatorInterventionError,  # shutting down, starting up
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, until it takes over
    asyncpg.PostgresSystemError,  # its disk
    asyncpg.InternalServerError,  # a table dropped while a statement was being planned, for one
    # The schema was dropped and built anew under us; the next session finds or makes it.
    asyncpg.InvalidCachedStatementError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.exceptions.OutdatedSchemaCacheError,
)

# Postgres does not take a value: trying again gives the same.
UNSTORABLE = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)


Uuid = Annotated[str, "uuid"]

_KINDS = {str: "text", int: "bigint", bool: "boolean", bytes: "bytea", date: "date", datetime: "timestamptz"}


class Row(Protocol):
    """A dataclass whose fields are a statement's columns, in order."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement for any number of rows: `sql` has an array for each column."""

    sql: str
    columns: Callable[[Any], Sequence[Any]]

    async def write(self, db: Db, rows: Sequence[Row]) -> None:
        """Run it for `rows`; nothing happens where there are none."""
        if rows:
            await db.execute(self.sql, *zip(*map(self.columns, rows), strict=True))


def statement(row: type[Row], template: str) -> Statement:
    """Return the statement of a row class: `:rows` in `template` becomes its unnested arrays, named `d`.

    Fields give the Postgres types: text, bigint, boolean, date, timestamptz, and uuid where they are `Uuid`. JSON
    comes as text and is cast in the template, so that no codec of the connection has a say.
    """
    columns = fields(row)
    names = [column.name for column in columns]
    arrays = ", ".join(f"${i}::{_kind(column.type)}[]" for i, column in enumerate(columns, 1))
    return Statement(template.replace(":rows", f"unnest({arrays}) AS d({', '.join(names)})"), attrgetter(*names))


def _kind(annotation: Any) -> str:
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not NoneType)
    return "uuid" if annotation == Uuid else _KINDS[annotation]
