"""The client library: for modules that publish events, and for anyone who follows what agents do.

async with ModuleEventPublisher("127.0.0.1:9092") as publisher:
    await publisher.publish(type="crm.contact.created", site_id=site, source="/crm", data={"id": "c1"})

async with subscribe("127.0.0.1:9092", types="ai.execution.*", start=cursor) as events:
    async for envelope in events:
        ...
        save(events.cursor().to_json())  # together with what followed from the envelope
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from schemas.errors import AppendError
from schemas.ids import parse_site_id, random_id
from schemas.message import Json
from streams.cloudevents import CloudEvent, Extension, to_draft
from streams.content_types import JSON
from streams.kafka import KafkaLog
from streams.log import Draft, Log, Position
from streams.memory_log import system_clock_ms
from streams.subscription import Cursor, PartitionCursor, Subscription, subscribe
from streams.topics import MODULE_EVENTS

__all__ = ["Cursor", "ModuleEventPublisher", "PartitionCursor", "Published", "Subscription", "subscribe"]

SITE = "siteid"
ATTEMPTS = 3  # of one publish, each with all of the log's own; repeats have the same id and are dropped
BETWEEN_ATTEMPTS_S = 0.2


@dataclass(frozen=True, slots=True)
class Published:
    """Where an event landed, and the id that it has: a repeat under the same source and id changes nothing."""

    id: str
    topic: str
    partition: int
    offset: int


class ModuleEventPublisher:
    """Publishes a module's events as CloudEvents; an async context manager."""

    def __init__(self, log: Log | str, *, topic: str = MODULE_EVENTS) -> None:
        """Publish to `topic` of a log that is open, or of the Kafka at `host:port`, which is opened on entering."""
        self._given = log
        self._topic = topic
        self._stack = AsyncExitStack()
        self._log: Log | None = None if isinstance(log, str) else log

    async def __aenter__(self) -> Self:
        """Connect, if need be.

        Raises:
            UnavailableError: no broker answers.
        """
        if isinstance(self._given, str):
            self._log = await self._stack.enter_async_context(KafkaLog(self._given, client_id="dramac-publisher"))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def publish(
        self,
        *,
        type: str,
        site_id: str,
        source: str,
        data: Json,
        subject: str | None = None,
        id: str | None = None,
        time: datetime | int | None = None,
        extensions: Mapping[str, Extension] | None = None,
        key: str | None = None,
    ) -> Published:
        """Publish one event, and return its place once the log has it.

        Args:
            type: What happened, such as `crm.contact.created`.
            site_id: The site in which it happened: a UUID.
            source: Who says so, such as `/crm`; with `id` it names the event.
            data: Any JSON.
            subject: What it is about, such as a contact's id.
            id: Its id; a new one by default. Who publishes again after an error passes the first id.
            time: When it happened: a datetime with a zone, or Unix ms; now by default.
            extensions: Further attributes, with names of a-z and 0-9.
            key: Events of one key stay in order; by default the subject, or else the site.

        Raises:
            ValueError: an attribute or the data is not valid.
            RecordTooLargeError: the event is larger than its topic takes.
            NotFoundError: the topic does not exist.
            AppendError: the log did not acknowledge it; publish it again with the id that the message names.
        """
        if self._log is None:
            raise ValueError("enter the publisher first: `async with ModuleEventPublisher(...) as publisher`")
        site = parse_site_id(site_id)
        event = CloudEvent(
            id=random_id() if id is None else id,
            source=source,
            type=type,
            subject=subject,
            time_ms=_unix_ms(time),
            datacontenttype=JSON,
            extensions={**(extensions or {}), SITE: site},
            data=data,
        )
        draft = to_draft(event, key=(key or subject or site).encode())
        at = await self._send(self._log, draft, event.id)
        return Published(event.id, self._topic, at.partition, at.offset)

    async def _send(self, log: Log, draft: Draft, event_id: str) -> Position:
        attempt = 1
        while True:
            try:
                return await log.send(self._topic, draft)
            except AppendError as error:
                if attempt == ATTEMPTS:
                    raise AppendError(f"{error}; publish it again with id={event_id!r}, a repeat is dropped") from error
            attempt += 1
            await asyncio.sleep(BETWEEN_ATTEMPTS_S)


def _unix_ms(time: datetime | int | None) -> int:
    if time is None:
        return system_clock_ms()
    if isinstance(time, int):
        return time
    if time.tzinfo is None:
        raise ValueError(f"{time.isoformat()} has no time zone: pass an aware datetime, or Unix ms")
    return round(time.timestamp() * 1000)
