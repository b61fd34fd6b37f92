import asyncio

import pytest

from projections.db import Pool
from projections.migrate import migrate, migrations
from projections.rebuild import rebuild
from schemas.errors import ConfigurationError


def test_migrations_are_numbered_once_each_from_one_on() -> None:
    numbers = [migration.number for migration in migrations()]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 1


async def test_each_is_applied_once(pool: Pool) -> None:
    await pool.execute("DROP SCHEMA projections CASCADE")
    assert await migrate(pool) == len(migrations())
    assert await migrate(pool) == 0


async def test_several_at_once_apply_each_once(pool: Pool) -> None:
    for _ in range(5):  # with connections that are new, and ones that have seen a schema come and go
        await pool.execute("DROP SCHEMA projections CASCADE")
        assert sum(await asyncio.gather(*(migrate(pool) for _ in range(4)))) == len(migrations())


async def test_an_edited_migration_is_refused(pool: Pool) -> None:
    await pool.execute("UPDATE projections.migrations SET sha256 = 'x' WHERE number = 2")
    with pytest.raises(ConfigurationError, match=r"'0002_stream_heads.sql' is not the .* that was applied"):
        await migrate(pool)
    await rebuild(pool)
    assert await migrate(pool) == 0


async def test_a_newer_releases_schema_is_refused(pool: Pool) -> None:
    await pool.execute("INSERT INTO projections.migrations VALUES (9999, '9999_future.sql', 'x')")
    with pytest.raises(ConfigurationError, match=r"'9999_future.sql', which this release does not know"):
        await migrate(pool)
