"""`dramac publish`: module events out of a file, as a module of the platform would send them.

The file holds CloudEvents in their JSON format: one a line, one JSON array of them, or a single one. What is missing
is filled in: `specversion` 1.0, a new `id`, the present `time`, the `source` /cli, and `siteid` from DRAMAC_SITE.
`type` has to be there. All are checked before the first is sent.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from infra.cli.common import JsonFlag, out, print_json, read_input, run
from infra.connections import open_log
from infra.places import kafka_alone
from infra.settings import Settings
from schemas.errors import AppendError, ConfigurationError, DecodeError, RecordTooLargeError
from schemas.ids import SiteId, parse_site_id, random_id
from schemas.message import JsonObject
from streams.cloudevents import CloudEvent, dump_json, from_record, load_json, to_draft
from streams.content_types import STRUCTURED_JSON
from streams.kafka import KafkaLog
from streams.log import Draft, Position, Record
from streams.records import format_time
from streams.sentences import too_large
from streams.sizes import batch_bytes
from streams.topics import MODULE_EVENTS

SOURCE = "/cli"
SITE = "siteid"
PARTITION_KEY = "partitionkey"  # of the CloudEvents' Kafka binding: it names the record's key

BATCH = 1_000  # sent at once: bounds what waits in memory for its acknowledgement
ATTEMPTS = 3  # repeats have the same id and are dropped by those who read
BETWEEN_ATTEMPTS_S = 0.2

File = Annotated[str, typer.Argument(help="CloudEvents as JSON: one a line, or an array; - for standard input.")]
Topic = Annotated[str, typer.Option("--topic", help="Where to.")]


@dataclass(frozen=True, slots=True)
class Ready:
    """An event that was checked. `place` is where it stands in the file, for errors."""

    place: str
    event: CloudEvent
    draft: Draft


def publish(file: File, topic: Topic = MODULE_EVENTS, as_json: JsonFlag = False) -> None:
    """Publish module events, and return once the log has them.

    Missing attributes are filled in: a new id, the present time, source /cli, siteid from DRAMAC_SITE. Everything is
    checked before the first event is sent.
    """

    async def work(settings: Settings) -> None:
        now_ms = time.time_ns() // 1_000_000
        events = parse_events(read_input(file), site_id=settings.site_id, now_ms=now_ms)
        async with open_log(settings, await kafka_alone(settings)) as log:
            await log.partitions(topic)  # it is there
            limit = int((await log.configs(topic)).get("max.message.bytes", sys.maxsize))
            _check_sizes(events, topic, limit)
            places = await _send(log, topic, events)
        if as_json:
            print_json([_landed(topic, ready, at) for ready, at in zip(events, places, strict=True)])
        else:
            out().print(f"published {len(events)} event{'' if len(events) == 1 else 's'}")

    run(work)


def parse_events(raw: bytes, *, site_id: SiteId, now_ms: int) -> list[Ready]:
    """Return the events of a file's bytes, with what is missing filled in.

    Raises:
        ConfigurationError: one is not valid; it says which, and what is wrong with it.
    """
    ready = []
    for place, value in _split(raw):
        try:
            ready.append(_ready(place, value, site_id, now_ms))
        except (DecodeError, ValueError) as error:
            raise ConfigurationError(f"{place}: {error}; nothing was published") from None
    return ready


def _split(raw: bytes) -> list[tuple[str, object]]:
    """Return the values in a file, each with its place."""
    raw = raw.removeprefix(b"\xef\xbb\xbf")  # the mark that some editors put before UTF-8
    try:
        whole = load_json(raw)
    except ValueError:
        lines = enumerate(raw.split(b"\n"), 1)
        return [(f"line {number}", _line(number, text)) for number, text in lines if text.strip()]
    if isinstance(whole, list):
        return [(f"event {number} of the array", value) for number, value in enumerate(whole, 1)]
    return [("line 1", whole)]


def _line(number: int, text: bytes) -> object:
    try:
        return load_json(text)
    except ValueError as error:
        raise ConfigurationError(f"line {number}: {error}; nothing was published") from None


def _ready(place: str, value: object, site_id: SiteId, now_ms: int) -> Ready:
    if not isinstance(value, dict):
        raise ValueError("an event is a JSON object")  # noqa: TRY004 - wrong input, not a wrong call
    defaults: dict[str, Any] = {
        "specversion": "1.0",
        "id": random_id(),
        "source": SOURCE,
        "time": format_time(now_ms),
        SITE: site_id,
    }
    given = {name: content for name, content in value.items() if content is not None}  # null means absent
    structured = (("content-type", STRUCTURED_JSON.encode()),)
    event = from_record(Record("", 0, 0, now_ms, None, dump_json({**defaults, **given}), structured), now=now_ms)
    site = parse_site_id(str(event.extensions[SITE]))
    key = str(event.extensions.get(PARTITION_KEY) or event.subject or site)  # as ModuleEventPublisher does
    return Ready(place, event, to_draft(event, key=key.encode()))


def _check_sizes(events: Sequence[Ready], topic: str, limit: int) -> None:
    for ready in events:
        if (size := batch_bytes([ready.draft])) > limit:
            raise RecordTooLargeError(f"{ready.place}: {too_large(topic, size, limit)}; nothing was published")


def _landed(topic: str, ready: Ready, at: Position) -> JsonObject:
    event = ready.event
    return {"id": event.id, "type": event.type, "topic": topic, "partition": at.partition, "offset": at.offset}


async def _send(log: KafkaLog, topic: str, events: Sequence[Ready]) -> list[Position]:
    places: list[Position] = []
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        outcomes = await asyncio.gather(*(_send_one(log, topic, ready) for ready in batch), return_exceptions=True)
        places += (outcome for outcome in outcomes if isinstance(outcome, Position))
        for ready, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                told = f"{len(places)} of {len(events)} events were published; {ready.place} was not: {outcome}"
                raise AppendError(told) from outcome
    return places


async def _send_one(log: KafkaLog, topic: str, ready: Ready) -> Position:
    for _ in range(ATTEMPTS - 1):
        try:
            return await log.send(topic, ready.draft)
        except AppendError:
            await asyncio.sleep(BETWEEN_ATTEMPTS_S)
    return await log.send(topic, ready.draft)
