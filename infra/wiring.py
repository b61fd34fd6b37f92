"""Where everything is put together: the only place that knows which implementation serves which port."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import asyncpg

from infra.context import CatalogueContext
from infra.dev.stack import Endpoints
from infra.guardians import Guardians
from infra.models.scripted import PROVIDER as SCRIPTED
from infra.models.scripted import ScriptedModel
from infra.modules.router import ToolRouter
from infra.modules.sandbox import Sandbox
from infra.settings import Settings
from processors.models.call import ModelPorts
from processors.runtime.effects import Process
from processors.runtime.worker import Worker
from processors.tools.registry import BUILTIN, Registry
from processors.triggers.router import Router
from projections.migrate import migrate
from projections.projector import Projector
from schemas.errors import ConfigurationError, DramacError, UnavailableError
from streams.client import ModuleEventPublisher
from streams.kafka import KafkaLog
from streams.log import Log

logger = logging.getLogger(__name__)

Role = Literal["decider", "router", "projector", "guardian"]
ROLES: tuple[Role, ...] = ("decider", "router", "projector", "guardian")

# A process that hangs in mid-transaction must not hold up who takes over. Longer than any transaction of ours waits for
# something else: the outbox waits for Kafka for 3 s.
IDLE_IN_TRANSACTION_S = 10

SANDBOX_MODULES = frozenset({"crm", "email", "tasks"})


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


@dataclass(slots=True)
class House:
    """The long-running parts of one process, ready to run."""

    log: Log
    pool: "asyncpg.Pool[asyncpg.Record]"
    sandbox: Sandbox
    worker: Worker | None
    routers: Sequence[Router]
    projector: Projector | None
    guardians: Guardians | None

    async def run(self) -> None:
        """Run everything until cancelled; if one part ends with an error, all end with it."""
        parts = [router.run() for router in self.routers]
        parts += [part.run() for part in (self.worker, self.projector, self.guardians) if part is not None]
        parts += [self.sandbox.run()] if self.worker is not None else []
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(part)
        except* DramacError as errors:
            raise errors.exceptions[0] from None


@asynccontextmanager
async def open_house(
    settings: Settings, endpoints: Endpoints, roles: Iterable[Role] = ROLES, scripts: Sequence[Path] = ()
) -> AsyncIterator[House]:
    """Put the parts of `roles` together. `scripts` are for the scripted model, besides those of the settings."""
    wanted = frozenset(roles)
    async with (
        open_log(settings, endpoints) as log,
        open_pool(endpoints) as pool,
        ModuleEventPublisher(log) as publisher,
    ):
        sandbox = Sandbox(pool, publisher)
        await sandbox.open()
        process = Process(
            log=log,
            models=ModelPorts({SCRIPTED: ScriptedModel.from_yaml(*scripts, *settings.scripts, *shipped("scripts"))}),
            tools=ToolRouter({"module": sandbox, "internal": sandbox}),
            context=CatalogueContext(Registry(BUILTIN), SANDBOX_MODULES),
        )
        now_ms = process.now_ms
        yield House(
            log,
            pool,
            sandbox,
            Worker(process) if "decider" in wanted else None,
            [Router(log, topic, now_ms) for topic in settings.module_topics] if "router" in wanted else [],
            Projector(log, pool) if "projector" in wanted else None,
            Guardians(log, settings) if "guardian" in wanted else None,
        )


def shipped(folder: str) -> list[Path]:
    """Return the folder of the examples that come with the project."""
    room = Path(str(files("infra")))
    places = (room / "examples" / folder, room.parent / "examples" / folder)  # installed, and in a checkout
    return [next(place for place in places if place.is_dir())]
