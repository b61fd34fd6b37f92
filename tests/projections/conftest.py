"""A database of its own for each module, and a log in memory with the topic `ai.events`."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from projections.db import Pool
from projections.rebuild import rebuild
from tests.databases import own_database
from tests.projections.journal import Journal, new_journal


@pytest_asyncio.fixture(scope="module")
async def database(postgres_url: str) -> AsyncIterator[str]:
    """URL of a fresh database, which no other xdist worker has."""
    async with own_database(postgres_url, "projections") as url:
        yield url


@pytest_asyncio.fixture(scope="module")
async def module_pool(database: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=6) as pool:
        yield pool


@pytest_asyncio.fixture
async def pool(module_pool: Pool) -> Pool:
    """A pool of the module's database, its tables empty."""
    await rebuild(module_pool)
    return module_pool


@pytest_asyncio.fixture
async def journal() -> Journal:
    return await new_journal(Journal())
