"""How commands and events stand in their topics: CloudEvents 1.0, Kafka binary mode.

The value is the payload as JSON bytes, the headers are the envelope. Names of extensions are part of the wire
format and frozen by a golden test.
"""

from collections.abc import Sequence
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
from streams.chain import CHAIN, Head, framed, framed_bytes, seal
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
    encoder = Encoder(
        said.site_id,
        said.agent_id,
        said.at_ms,
        said.causation_id,
        said.causation_offset,
        said.actor,
        said.correlation_id,
        said.traceparent,
    )
    return encoder.encode(said.id, said.event, head)


class Encoder:
    """Encodes the events of one decision: what they share is put into headers and framed for the chain once."""

    __slots__ = ("_first", "_framed_first", "_framed_last", "_framed_site", "_key", "_key_framed", "_last", "_site")

    def __init__(
        self,
        site_id: SiteId,
        agent_id: AgentId,
        at_ms: int,
        causation_id: CommandId,
        causation_offset: int,
        actor: str,
        correlation_id: str,
        traceparent: str | None,
    ) -> None:
        """Prepare what is the same for all events of a decision."""
        self._key, self._key_framed, self._site, self._framed_site = _address(site_id, agent_id)
        self._first: Headers = (
            ("ce_actor", actor.encode()),
            ("ce_causationid", causation_id.encode()),
            ("ce_causationoffset", b"%d" % causation_offset),
            ("ce_correlationid", correlation_id.encode()),
        )
        self._framed_first = framed(self._first)
        time_ = ("ce_time", format_time(at_ms).encode())
        self._last: Headers = (time_,) if traceparent is None else (time_, ("ce_traceparent", traceparent.encode()))
        self._framed_last = framed(self._last)

    def encode(self, event_id: EventId, event: Event, head: Head) -> tuple[Draft, Head]:
        """Return the record of an event that follows `head`, and its stream's new head."""
        type_, version, framed_type = _constants(type(event))
        sequence = head.sequence + 1
        own = (("ce_id", event_id.encode()), version, ("ce_sequence", b"%d" % sequence))
        run_id: str | None = getattr(event, "execution_id", None)
        subject = (("ce_subject", run_id.encode() if run_id else self._key),)
        value = event.encode()
        # Every header but the chain, in sorted order: as `streams.chain.link` does it for a record of any kind.
        chain = seal(
            head.chain,
            self._key_framed,
            (
                self._framed_first,
                framed(own),
                self._framed_site,
                framed(subject),
                self._framed_last,
                framed_type,
            ),
            value,
        )
        headers = (
            *(*self._first, *own, *self._site, *subject, self._last[0], type_, _JSON, *self._last[1:]),
            (CHAIN, chain.hex().encode()),
        )
        return Draft(self._key, value, headers), Head(sequence, chain)


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
        id_, site_id, sequence, time, subject, version, cause, cause_offset, correlation_id, actor, chain = (
            _all_required(headers, _EVENT_HEADERS)
        )
        value = lift(wire, int(version), schema.version, record.value)
        return EventEnvelope(
            EventId(id_),
            wire,
            SiteId(site_id),
            AgentId(record.key.decode("ascii")),
            int(sequence),
            parse_time(time),
            subject,
            int(version),
            CommandId(cause),
            int(cause_offset),
            correlation_id,
            actor,
            chain,
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


@lru_cache(maxsize=256)  # the events of one decision share it
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


@lru_cache(maxsize=4096)  # an agent's events share it
def _address(site_id: SiteId, agent_id: AgentId) -> tuple[bytes, bytes, Headers, bytes]:
    """Return the key of an agent's records, and its headers: each also framed for the chain."""
    key = agent_id.encode()
    headers = (
        ("ce_siteid", site_id.encode()),
        ("ce_source", f"/sites/{site_id}/agents/{agent_id}".encode()),
        _SPECVERSION,
    )
    return key, framed_bytes(key), headers, framed(headers)


@lru_cache(maxsize=256)
def _constants(schema: type[Event]) -> tuple[tuple[str, bytes], tuple[str, bytes], bytes]:
    """Return the headers of an event's type and version, and the former with the content type, framed for the chain."""
    type_ = ("ce_type", schema.wire.encode())
    return type_, ("ce_schemaversion", b"%d" % schema.version), framed((type_, _JSON))


def _text_headers(record: Record) -> dict[str, str]:
    headers: Headers = record.headers
    try:
        return {name: value.decode() for name, value in headers}
    except UnicodeDecodeError:
        raise DecodeError("a header is not UTF-8") from None


_EVENT_HEADERS = (
    *("ce_id", "ce_siteid", "ce_sequence", "ce_time", "ce_subject", "ce_schemaversion"),
    *("ce_causationid", "ce_causationoffset", "ce_correlationid", "ce_actor", CHAIN),
)


def _all_required(headers: dict[str, str], names: Sequence[str]) -> list[str]:
    found = [headers.get(name, "") for name in names]
    if "" in found or max(map(len, found)) > HEADER_CHARS:
        return [_required(headers, name) for name in names]  # it says which
    return found


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
