"""How commands and events stand in their topics: CloudEvents 1.0, Kafka binary mode.

The value is the payload as JSON bytes, the headers are the envelope. Names of extensions are part of the wire
format and frozen by a golden test.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from pydantic import ValidationError

from schemas.commands import COMMANDS, AnyCommand
from schemas.envelope import CommandEnvelope, EventEnvelope
from schemas.errors import DecodeError
from schemas.events import EVENTS, Event
from schemas.ids import AgentId, CommandId, EventId, SiteId, parse_agent_id, parse_site_id
from schemas.upcasters import lift
from streams.chain import CHAIN, Head, link
from streams.log import Draft, Headers, Record

HEADER_CHARS = 1_000  # what comes from outside and goes into a header is refused above this

_JSON = ("content-type", b"application/json")
_SPECVERSION = ("ce_specversion", b"1.0")


# --- commands -------------------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A command on its way into `ai.commands`; `source` names who asks, such as `/router`."""

    id: CommandId
    site_id: SiteId
    agent_id: AgentId
    actor: str
    correlation_id: str
    command: AnyCommand
    source: str = "/worker"
    traceparent: str | None = None


def encode_command(asked: Asked) -> Draft:
    """Return the record of a command, keyed by its agent."""
    headers = [
        _JSON,
        ("ce_actor", asked.actor.encode()),
        ("ce_correlationid", asked.correlation_id.encode()),
        ("ce_id", asked.id.encode()),
        ("ce_siteid", asked.site_id.encode()),
        ("ce_source", asked.source.encode()),
        _SPECVERSION,
        ("ce_type", asked.command.wire.encode()),
    ]
    if asked.traceparent is not None:
        headers.append(("ce_traceparent", asked.traceparent.encode()))
    return Draft(asked.agent_id.encode(), asked.command.encode(), tuple(headers))


def decode_command(record: Record) -> CommandEnvelope:
    """Return the command of a record of `ai.commands`.

    Raises:
        DecodeError: it is no command that this release knows; the message says what is wrong with it.
    """
    headers = _text_headers(record)
    wire = headers.get("ce_type", "")
    schema = COMMANDS.get(wire)
    if schema is None:
        raise DecodeError(f"{wire[:80]!r} is no command of this release")
    if record.key is None or record.value is None:
        raise DecodeError(f"a command {wire!r} needs an agent's id as its key, and a payload")
    try:
        agent_id = parse_agent_id(record.key.decode("ascii"))
        site_id = parse_site_id(_required(headers, "ce_siteid"))
        command = schema.__pydantic_validator__.validate_json(record.value)
    except ValidationError as error:
        raise DecodeError(f"a command {wire!r} has a wrong payload: {_first(error)}") from None
    except ValueError as error:
        raise DecodeError(f"a command {wire!r} has a wrong key or site: {error}") from None
    return CommandEnvelope(
        CommandId(_required(headers, "ce_id")),
        site_id,
        agent_id,
        _required(headers, "ce_actor"),
        _required(headers, "ce_correlationid"),
        headers.get("ce_traceparent"),
        record.offset,
        record.at_ms,
        command,
    )


# --- events ---------------------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """An event on its way into `ai.events`, without its place in the chain."""

    id: EventId
    site_id: SiteId
    agent_id: AgentId
    at_ms: int
    causation_id: CommandId
    causation_offset: int
    correlation_id: str
    actor: str
    traceparent: str | None
    event: Event


def encode_event(said: Said, head: Head) -> tuple[Draft, Head]:
    """Return the record of an event that follows `head`, and its stream's new head."""
    event = said.event
    wire, version = _constants(type(event))
    key, site, source = _address(said.site_id, said.agent_id)
    sequence = head.sequence + 1
    subject: str | None = getattr(event, "execution_id", None)
    headers = [
        ("ce_actor", said.actor.encode()),
        ("ce_causationid", said.causation_id.encode()),
        ("ce_causationoffset", b"%d" % said.causation_offset),
        ("ce_correlationid", said.correlation_id.encode()),
        ("ce_id", said.id.encode()),
        ("ce_schemaversion", version),
        ("ce_sequence", b"%d" % sequence),
        ("ce_siteid", site),
        ("ce_source", source),
        _SPECVERSION,
        ("ce_subject", subject.encode() if subject else key),
        ("ce_time", _time_header(said.at_ms)),
        ("ce_type", wire),
        _JSON,
    ]
    if said.traceparent is not None:
        headers.append(("ce_traceparent", said.traceparent.encode()))
    value = event.encode()
    chain = link(head.chain, key, headers, value)
    headers.append((CHAIN, chain.hex().encode()))
    return Draft(key, value, tuple(headers)), Head(sequence, chain)


def decode_event(record: Record) -> EventEnvelope:
    """Return the event of a record of `ai.events`; whether it counts is for `streams.chain` to say.

    Raises:
        DecodeError: it is no event that this release knows.
    """
    headers = _text_headers(record)
    wire = headers.get("ce_type", "")
    schema = EVENTS.get(wire)
    if schema is None:
        raise DecodeError(f"{wire[:80]!r} is no event of this release: a newer one may have written it, upgrade first")
    if record.key is None or record.value is None:
        raise DecodeError(f"an event {wire!r} needs an agent's id as its key, and a payload")
    try:
        version = int(_required(headers, "ce_schemaversion"))
        value = lift(wire, version, schema.version, record.value)
        return EventEnvelope(
            EventId(_required(headers, "ce_id")),
            wire,
            SiteId(_required(headers, "ce_siteid")),
            AgentId(record.key.decode("ascii")),
            int(_required(headers, "ce_sequence")),
            parse_time(_required(headers, "ce_time")),
            _required(headers, "ce_subject"),
            version,
            CommandId(_required(headers, "ce_causationid")),
            int(_required(headers, "ce_causationoffset")),
            _required(headers, "ce_correlationid"),
            _required(headers, "ce_actor"),
            _required(headers, CHAIN),
            headers.get("ce_traceparent"),
            record.partition,
            record.offset,
            schema.__pydantic_validator__.validate_json(value),
        )
    except ValidationError as error:
        raise DecodeError(f"an event {wire!r} has a wrong payload: {_first(error)}") from None
    except ValueError as error:
        raise DecodeError(f"an event {wire!r} has a wrong header: {error}") from None


# --- shared ---------------------------------------------------------------------------------------------------------


def format_time(at_ms: int) -> str:
    """Return Unix ms as RFC 3339 in UTC: `2026-01-24T09:30:00.123Z`."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


def parse_time(text: str) -> int:
    """Return RFC 3339 as Unix ms.

    Raises:
        ValueError: it is no time with a zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    delta = moment.astimezone(UTC) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=64)  # the events of one second share it
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=256)  # the events of one decision share it
def _time_header(at_ms: int) -> bytes:
    return format_time(at_ms).encode()


@lru_cache(maxsize=4096)  # an agent's events share it
def _address(site_id: SiteId, agent_id: AgentId) -> tuple[bytes, bytes, bytes]:
    """Return key, site and source of an agent's records."""
    return agent_id.encode(), site_id.encode(), f"/sites/{site_id}/agents/{agent_id}".encode()


@lru_cache(maxsize=256)
def _constants(schema: type[Event]) -> tuple[bytes, bytes]:
    return schema.wire.encode(), b"%d" % schema.version


def _text_headers(record: Record) -> dict[str, str]:
    headers: Headers = record.headers
    try:
        return {name: value.decode() for name, value in headers}
    except UnicodeDecodeError:
        raise DecodeError("a header is not UTF-8") from None


def _required(headers: dict[str, str], name: str) -> str:
    value = headers.get(name)
    if not value:
        raise DecodeError(f"the header {name!r} is missing")
    if len(value) > HEADER_CHARS:
        raise DecodeError(f"the header {name!r} is longer than {HEADER_CHARS} characters")
    return value


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
