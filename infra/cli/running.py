"""Having Kafka, Postgres and the working parts at hand, for `dev` and `demo`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from infra.dev.progress import Progress
from infra.dev.stack import Endpoints, embedded_stack
from infra.settings import EMBEDDED_PARTITIONS, Settings
from infra.wiring import ROLES, House, open_house
from streams.kafka_topics import create_topics


@asynccontextmanager
async def stack_of(settings: Settings, progress: Progress) -> AsyncIterator[Endpoints]:
    """Start what has no address, and see to it that our topics are there.

    Raises:
        StackError: the embedded servers can't be started.
        UnavailableError, ConfigurationError: a given server does not answer, or its topics are not ours.
    """
    embedded = settings.kafka is None
    async with embedded_stack(
        settings.data_dir, kafka=settings.kafka, postgres=settings.postgres_url, progress=progress
    ) as endpoints:
        await create_topics(
            endpoints.kafka,
            partitions=EMBEDDED_PARTITIONS if embedded else settings.partitions,
            replication_factor=1 if embedded else settings.replication_factor,
            module_topics=settings.module_topics if embedded else (),
            security=settings.kafka_options(),
        )
        yield endpoints


@asynccontextmanager
async def working_house(settings: Settings, endpoints: Endpoints, scripts: Sequence[Path] = ()) -> AsyncIterator[House]:
    """Run every part in the background while the block runs; a part that fails ends the block with its error."""
    async with open_house(settings, endpoints, ROLES, scripts) as house:
        work = asyncio.create_task(house.run(), name="house")
        block = asyncio.current_task()

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None and block is not None:
                block.cancel()

        work.add_done_callback(ended)
        try:
            yield house
        except asyncio.CancelledError:
            if work.done() and not work.cancelled() and (error := work.exception()) is not None:
                raise error from None
            raise
        finally:
            work.remove_done_callback(ended)
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work
