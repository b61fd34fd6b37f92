"""A real system for the tests of this folder; each test has sites of its own.

Our topics have one name everywhere, so every xdist worker has a Kafka and a database of its own.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from infra.dev.kafka import KafkaServer
from infra.dev.stack import Endpoints
from projections.migrate import migrate
from streams.kafka import KafkaLog
from streams.kafka_topics import create_topics
from tests.acceptance.system import System
from tests.databases import own_database


@pytest_asyncio.fixture(scope="session")
async def system(postgres_url: str, session_dir: Path) -> AsyncIterator[System]:
    name = f"acceptance_{os.environ.get('PYTEST_XDIST_WORKER', 'only')}"
    home = session_dir / name
    home.mkdir()
    async with own_database(postgres_url, "acceptance") as url, KafkaServer(home / "kafka") as kafka:
        endpoints = Endpoints(kafka.address, url)
        await create_topics(kafka.address, partitions=4, replication_factor=1, module_topics=("module.events",))
        async with KafkaLog(kafka.address) as log, asyncpg.create_pool(endpoints.postgres, min_size=1) as pool:
            await migrate(pool)
            yield System(endpoints, log, pool, home)


@pytest.fixture(autouse=True)
def no_worker_outlives_its_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Kill what a test that failed has left running: it would take partitions from the workers of the next."""
    yield
    if "system" in request.fixturenames:
        for worker in request.getfixturevalue("system").workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
