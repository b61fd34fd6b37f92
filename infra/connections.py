"""The two things that every command opens: the log and the database. Nothing heavier is loaded for them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from infra.dev.stack import Endpoints
from infra.settings import Settings
from projections.migrate import migrate
from schemas.errors import ConfigurationError, UnavailableError
from streams.kafka import KafkaLog

# A process that hangs in mid-transaction must not hold up who takes over. Longer than any transaction of ours waits for
# something else: the outbox waits for Kafka for 3 s.
IDLE_IN_TRANSACTION_S = 10


@asynccontextmanager
async def open_log(settings: Settings, endpoints: Endpoints) -> AsyncIterator[KafkaLog]:
    """Open the log.

    Raises:
        UnavailableError: Kafka does not answer.
    """
    async with KafkaLog(endpoints.kafka, client_id="dramac", security=settings.kafka_options()) as log:
        yield log


@asynccontextmanager
async def open_pool(endpoints: Endpoints, *, size: int = 8) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    """Open connections to the database, with our tables in it.

    Raises:
        UnavailableError: Postgres does not answer.
        ConfigurationError: the address is wrong, or the tables are of a newer release.
    """
    try:
        pool = await asyncpg.create_pool(
            endpoints.postgres,
            min_size=1,
            max_size=size,
            timeout=10,
            server_settings={"idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s"},
        )
    except (ValueError, asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise ConfigurationError(f"DRAMAC_POSTGRES is wrong: {error}") from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise UnavailableError(f"Postgres does not answer ({error}): start it or set DRAMAC_POSTGRES") from error
    try:
        await migrate(pool)
        yield pool
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 5)
