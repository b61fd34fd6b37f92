"""Applies the numbered SQL files of `migrations/`, each once, all in one transaction.

The ledger lives in the schema that it describes: whoever drops the schema drops the ledger with it, and the next
start makes everything anew.
"""

import hashlib
import importlib.resources
import re
from dataclasses import dataclass

from projections.db import SCHEMA, Db, Pool
from schemas.errors import ConfigurationError

LOCK = 0x6472616D61630001  # "dramac" and 1: one migrator at a time

LEDGER = """
CREATE SCHEMA IF NOT EXISTS projections;
CREATE TABLE IF NOT EXISTS projections.migrations (
  number int  PRIMARY KEY,
  name   text NOT NULL,
  sha256 text NOT NULL
);
"""
# Asked of the catalogue's rows: `to_regclass` would leave "there is no such schema" in the connection's cache, where
# CREATE SCHEMA IF NOT EXISTS believes it still after it waited for another migrator.
LEDGER_EXISTS = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'projections' AND tablename = 'migrations')
"""
APPLIED = "SELECT number, name, sha256 FROM projections.migrations ORDER BY number"
RECORD = "INSERT INTO projections.migrations (number, name, sha256) VALUES ($1, $2, $3)"

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One SQL file, never edited after it landed."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The file's fingerprint in the ledger."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> tuple[Migration, ...]:
    """Return the migrations of this release, in order."""
    found = []
    for file in (importlib.resources.files("projections") / "migrations").iterdir():
        if match := _NAME.fullmatch(file.name):
            found.append(Migration(int(match[1]), file.name, file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.number))


async def migrate(pool: Pool) -> int:
    """Bring the schema to this release's state; return how many files were applied.

    Raises:
        ConfigurationError: the schema is not one that this release can go on from.
    """
    async with pool.acquire() as db:
        if not await _missing(db):
            return 0  # the usual case needs neither the lock nor the owner's rights
        async with db.transaction():
            await lock(db)
            await db.execute(LEDGER)
            return await apply_missing(db)


async def lock(db: Db) -> None:
    """Let one migrator at a time through, to the end of the transaction."""
    await db.execute("SELECT pg_advisory_xact_lock($1)", LOCK)


async def apply_missing(db: Db) -> int:
    """Apply what the ledger does not have; the caller holds the lock."""
    missing = await _missing(db)
    for migration in missing:
        await db.execute(migration.sql)
        await db.execute(RECORD, migration.number, migration.name, migration.sha256)
    return len(missing)


async def _missing(db: Db) -> tuple[Migration, ...]:
    wanted = migrations()
    if not await db.fetchval(LEDGER_EXISTS):
        return wanted
    applied = {row["number"]: (row["name"], row["sha256"]) for row in await db.fetch(APPLIED)}
    known = {migration.number for migration in wanted}
    if newer := sorted(set(applied) - known):
        raise ConfigurationError(
            f"schema {SCHEMA!r} has migration {applied[newer[-1]][0]!r}, which this release does not know: "
            "upgrade, or drop the schema and let it be built anew from the log"
        )
    for migration in wanted:
        name, sha256 = applied.get(migration.number, (migration.name, migration.sha256))
        if sha256 != migration.sha256:
            raise ConfigurationError(
                f"migration {migration.name!r} is not the {name!r} that was applied to schema {SCHEMA!r}: "
                "a migration is never edited; drop the schema and let it be built anew from the log"
            )
    return tuple(migration for migration in wanted if migration.number not in applied)
