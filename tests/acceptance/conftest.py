"""One real system for all tests of this folder; each test has sites of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest_asyncio

from infra.dev.stack import Endpoints
from projections.migrate import migrate
from streams.kafka import KafkaLog
from streams.kafka_topics import create_topics
from tests.acceptance.system import System


@pytest_asyncio.fixture(scope="session")
async def system(stack: Endpoints, session_dir: Path) -> AsyncIterator[System]:
    home = session_dir / "acceptance"
    home.mkdir(exist_ok=True)
    admin = await asyncpg.connect(stack.postgres)
    try:
        await admin.execute('DROP DATABASE IF EXISTS "acceptance" WITH (FORCE)')
        await admin.execute('CREATE DATABASE "acceptance"')
    finally:
        await admin.close()
    server, _, options = stack.postgres.partition("?")
    endpoints = Endpoints(stack.kafka, f"{server.rpartition('/')[0]}/acceptance?{options}")
    await create_topics(stack.kafka, partitions=4, replication_factor=1, module_topics=("module.events",))
    async with KafkaLog(stack.kafka) as log, asyncpg.create_pool(endpoints.postgres, min_size=1) as pool:
        await migrate(pool)
        made = System(endpoints, log, pool, home)
        yield made
        for worker in made.workers:
            if worker.poll() is None:
                worker.kill()
