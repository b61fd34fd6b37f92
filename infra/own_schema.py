"""Tables that only Postgres holds, in schemas of their own: not built from the log, so never dropped with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from projections.db import TRANSIENT
from schemas.errors import UnavailableError

# Running a script where nothing is missing would lock out everybody's writes for a moment, and wait for as long as a
# transaction of somebody who hangs. (`to_regclass` would leave "there is no such schema" in the connection's cache,
# where CREATE SCHEMA IF NOT EXISTS believes it still after it waited for another process.)
IS_THERE = "SELECT EXISTS (SELECT FROM pg_catalog.pg_indexes WHERE schemaname = $1 AND indexname = $2)"


@dataclass(frozen=True, slots=True)
class OwnSchema:
    """A schema, and the script that makes what is missing in it.

    `last_index` is what the script makes last; `lock` is a number of its own: two processes that create the same
    schema at once would collide.
    """

    name: str
    script: Path
    last_index: str
    lock: int

    async def ensure(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        """Create what is missing."""
        if await pool.fetchval(IS_THERE, self.name, self.last_index):
            return
        script = self.script.read_text("utf-8")
        async with pool.acquire() as db, db.transaction():
            await db.execute("SELECT pg_advisory_xact_lock($1)", self.lock)
            await db.execute(script)

    @contextmanager
    def failures_in_words(self) -> Iterator[None]:
        """Turn what Postgres says into what the project says.

        Raises:
            UnavailableError: Postgres does not answer.
        """
        try:
            yield
        except TRANSIENT as error:
            told = str(error) or repr(error)
            raise UnavailableError(f"Postgres does not answer for the {self.name} ({told})") from error
