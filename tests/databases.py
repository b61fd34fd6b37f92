"""Databases of tests' own, on the session's Postgres."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from projections.db import Pool


def database_url(postgres_url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))


@asynccontextmanager
async def own_database(postgres_url: str, prefix: str) -> AsyncIterator[str]:
    """Yield the URL of an empty database that nobody else has; drop it afterwards, whoever is still connected."""
    name = f"{prefix}_{uuid4().hex}"
    admin = await asyncpg.connect(postgres_url)
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        try:
            yield database_url(postgres_url, name)
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@asynccontextmanager
async def own_pool(postgres_url: str, prefix: str, *, size: int = 4) -> AsyncIterator[Pool]:
    """Yield at most `size` connections to such a database."""
    async with (
        own_database(postgres_url, prefix) as url,
        asyncpg.create_pool(url, min_size=1, max_size=size) as pool,
    ):
        yield pool
