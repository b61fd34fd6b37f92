"""What tests share: one embedded stack for the whole session, whatever the number of xdist workers.

Postgres and Kafka that already run are used instead where DRAMAC_TEST_KAFKA and DRAMAC_TEST_POSTGRES name them.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from infra.dev.kafka import KafkaServer
from infra.dev.postgres import PostgresServer
from infra.dev.stack import Endpoints
from streams import settling
from streams.kafka import KafkaLog
from tests.shared_server import shared_server

KAFKA_SESSION_S = 2.0  # the embedded broker allows sessions from 1 s


@pytest.fixture(autouse=True)
def logs_that_end_where_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for a tail that a test has cut off: only a real broker finds one again after a crash."""
    monkeypatch.setattr(settling, "PATIENCE_S", 0.0)


@pytest.fixture(scope="session")
def session_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all xdist workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest_asyncio.fixture(scope="session")
async def kafka_address(session_dir: Path) -> AsyncIterator[str]:
    """`host:port` of a real Kafka."""
    if given := os.environ.get("DRAMAC_TEST_KAFKA"):
        yield given
        return
    async with shared_server(session_dir / "kafka", KafkaServer) as address:
        yield address


@pytest_asyncio.fixture(scope="session")
async def postgres_url(session_dir: Path) -> AsyncIterator[str]:
    """URL of a real Postgres; its user may create databases and roles."""
    if given := os.environ.get("DRAMAC_TEST_POSTGRES"):
        yield given
        return
    async with shared_server(session_dir / "postgres", PostgresServer) as address:
        yield address


@pytest.fixture(scope="session")
def stack(kafka_address: str, postgres_url: str) -> Endpoints:
    """A real Kafka and a real Postgres."""
    return Endpoints(kafka_address, postgres_url)


@pytest_asyncio.fixture(scope="session")
async def kafka_log(kafka_address: str) -> AsyncIterator[KafkaLog]:
    """A log on the real Kafka; tests make topics of their own."""
    async with KafkaLog(kafka_address, session_timeout_s=KAFKA_SESSION_S) as log:
        yield log
