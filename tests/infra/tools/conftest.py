"""A database for the tools of each module, and an API that remembers what it was asked."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from infra.tools.store import SiteToolStore
from projections.db import Pool
from tests.infra.report_places import opened_database


@pytest_asyncio.fixture(scope="module")
async def database(postgres_url: str) -> "AsyncIterator[tuple[asyncpg.Pool[asyncpg.Record], str]]":
    async with opened_database(postgres_url) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module")
async def pool(database: tuple[Pool, str]) -> Pool:
    return database[0]


@pytest_asyncio.fixture(scope="module")
async def store(pool: Pool) -> SiteToolStore:
    made = SiteToolStore(pool)
    await made.open()
    return made
