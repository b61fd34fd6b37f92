"""How every query reads: bound parameters, errors that say what to do, rows as dataclasses."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import asyncpg

from projections.db import TRANSIENT, Pool
from schemas.errors import NotFoundError, UnavailableError
from schemas.exact import load_exact
from schemas.ids import UUID_PATTERN

LIMIT = 500  # rows of one page
PREFIX_CHARS = 4  # of an id that a person shortened; below, chance decides

T = TypeVar("T")


class Where:
    """Conditions that all hold, and the values bound to them."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._conditions: list[str] = []

    def add(self, condition: str, *values: object) -> None:
        """Add a condition; each `?` in it stands for the next of `values`."""
        for value in values:
            self.values.append(value)
            condition = condition.replace("?", f"${len(self.values)}", 1)
        self._conditions.append(condition)

    def given(self, condition: str, value: object | None) -> None:
        """Add a condition with one value, unless that is None."""
        if value is not None:
            self.add(condition, value)

    def sql(self, select: str, *tail: str) -> str:
        """Return `select` under these conditions, and what follows them."""
        where = "WHERE " + " AND ".join(self._conditions) if self._conditions else ""
        return "\n".join((select, where, *tail))


async def fetch(pool: Pool, sql: str, *values: object) -> list[asyncpg.Record]:
    """Return the rows of one statement.

    Raises:
        UnavailableError: Postgres does not answer, or has no tables yet.
    """
    try:
        return await pool.fetch(sql, *values)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise UnavailableError("Postgres has no read models yet: start a projector, it makes them") from error
    except TRANSIENT as error:
        raise UnavailableError(f"Postgres can't be read ({str(error) or repr(error)}): try again") from error


def make(kind: type[T], row: asyncpg.Record | Mapping[str, Any], json: Collection[str] = (), **more: object) -> T:
    """Return a dataclass of a row's columns; those in `json` are JSON text."""
    values = {name: load_exact(v) if name in json and v is not None else v for name, v in row.items()}
    return kind(**values, **more)


def page(limit: int) -> int:
    """Return how many rows to read, between 1 and LIMIT."""
    return max(1, min(limit, LIMIT))


def id_range(ref: str) -> tuple[str, str] | None:
    """Return the first and the last UUID that begin as `ref` does; None if it can't be the beginning of one."""
    text = ref.lower()
    low, high = (text + pattern[len(text) :] for pattern in (_LOWEST, _HIGHEST))
    if not PREFIX_CHARS <= len(text) <= len(_LOWEST) or UUID_PATTERN.fullmatch(low) is None:
        return None
    return low, high


def only(rows: list[asyncpg.Record], what: str, ref: str) -> asyncpg.Record:
    """Return the one row that `ref` names.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    if not rows:
        raise NotFoundError(f"there is no {what} {ref!r}")
    if len(rows) > 1:
        raise NotFoundError(f"{ref!r} names more than one {what}: give the whole id")
    return rows[0]


_LOWEST = "00000000-0000-0000-0000-000000000000"
_HIGHEST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
