"""Module events that wait in Postgres until the log has them."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import asyncpg
import orjson

from infra.modules.sandbox_actions import Db, ModuleEvent
from schemas.errors import DramacError
from schemas.ids import SiteId, random_id
from schemas.message import Json

logger = logging.getLogger(__name__)

WAIT_S = 3.0  # a change was made, whether its event is out or not: its caller isn't kept longer than this
LOOK_S = 2.0  # how often what was left over is looked for; usually there is nothing
BATCH = 200  # rows published at once: bounds what is held in memory and how long their locks are held

FAILURES = (
    DramacError,
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection whose server was killed while a statement was being cancelled
)

PUT = """
INSERT INTO sandbox.outbox (event_id, site_id, type, source, subject, data, extensions)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb)
"""
# Rows that another process is publishing are left to it.
LEFT = """
SELECT position, event_id, site_id, type, source, subject, data::text, extensions::text, occurred_at
FROM sandbox.outbox WHERE published_at IS NULL ORDER BY position LIMIT $1 FOR UPDATE SKIP LOCKED
"""
DONE = "UPDATE sandbox.outbox SET published_at = now() WHERE position = ANY($1)"


class EventPublisher(Protocol):
    """Publishes module events; `streams.client.ModuleEventPublisher` does."""

    async def publish(
        self,
        *,
        type: str,
        site_id: SiteId,
        source: str,
        data: Json,
        subject: str | None = None,
        id: str | None = None,
        time: datetime | None = None,
        extensions: Mapping[str, str] | None = None,
    ) -> object:
        """Publish one event, and return once the log has it."""
        ...


class Outbox:
    """Publishes what waits, in order, at least once and always under the id that it was written with."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", publisher: EventPublisher) -> None:
        self._pool = pool
        self._publisher = publisher
        self._publishing = asyncio.Lock()

    async def put(self, db: Db, site_id: SiteId, event: ModuleEvent, extensions: Mapping[str, str]) -> None:
        """Let `event` wait, as part of the caller's transaction: it happens exactly if the change does."""
        data, more = orjson.dumps(event.data).decode(), orjson.dumps(dict(extensions)).decode()
        await db.execute(PUT, random_id(), site_id, event.type, event.source, event.subject, data, more)

    async def publish_left(self) -> int:
        """Publish what waits and return how many events that were.

        Raises:
            DramacError: the log did not take one; it waits for the next time.
        """
        published = 0
        async with self._publishing:
            while count := await self._publish_batch():
                published += count
                if count < BATCH:
                    break
        return published

    async def _publish_batch(self) -> int:
        async with self._pool.acquire() as db, db.transaction():
            rows = await db.fetch(LEFT, BATCH)
            outcomes = await asyncio.gather(*(self._publish(row) for row in rows), return_exceptions=True)
            done = [row["position"] for row, outcome in zip(rows, outcomes, strict=True) if outcome is None]
            if done:
                await db.execute(DONE, done)
        for outcome in outcomes:  # after the commit, so that those which were published are not published again
            if outcome is not None:
                raise outcome
        return len(rows)

    async def _publish(self, row: asyncpg.Record) -> None:
        await self._publisher.publish(
            type=row["type"],
            site_id=SiteId(str(row["site_id"])),
            source=row["source"],
            data=orjson.loads(row["data"]),
            subject=row["subject"],
            id=str(row["event_id"]),
            time=row["occurred_at"],
            extensions=orjson.loads(row["extensions"]),
        )

    async def run(self) -> None:
        """Publish what an outage left over, until cancelled: nobody else may ever come by."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.publish_left_if_possible()

    async def publish_left_if_possible(self) -> None:
        """Publish what waits; where that fails, say so in the log and leave it for the next time."""
        try:
            async with asyncio.timeout(WAIT_S):
                await self.publish_left()
        except FAILURES:
            logger.warning("events of the sandbox wait in its outbox: publishing them failed", exc_info=True)
