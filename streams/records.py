"""How commands and events stand in their topics: CloudEvents 1.0, Kafka binary mode.

The value is the payload as JSON bytes, the headers are the envelope. Names of extensions are part of the wire
format and frozen by a golden test.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from pydantic import ValidationError

from schemas.commands import COMMANDS, AnyCommand
from schemas.envelope import CommandEnvelope, EventEnvelope
from schemas.errors import DecodeError
from schemas.events import EVENTS, Event
from schemas.ids import AgentId, CommandId, EventId, SiteId, parse_agent_id, parse_site_id
from schemas.message import STORED
from schemas.upcasters import lift
from streams.chain import CHAIN, PREVIOUS, Head, framed, framed_bytes
from streams.log import Draft, Headers, Record
from streams.sizes import HEADER_BYTES, RECORD_BYTES

# Names of headers as the chain frames them; what stands in a header follows each.
_CAUSATION_ID, _CAUSATION_OFFSET, _CORRELATION_ID, _ID, _SEQUENCE, _SUBJECT, _TIME = (
    framed_bytes(b"ce_" + name)
    for name in (b"causationid", b"causationoffset", b"correlationid", b"id", b"sequence", b"subject", b"time")
)
# What a record has besides what is hashed, at most: its chain, and Kafka's own bytes around all of it.
_UNHASHED_BYTES = RECORD_BYTES + 16 * HEADER_BYTES + len(CHAIN) + 64

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


def encode_command(asked: Asked, value: bytes | None = None) -> Draft:
    """Return the record of a command, keyed by its agent; `value` is its payload, where that is encoded already."""
    key, actor, site, source = _asker(asked.agent_id, asked.actor, asked.site_id, asked.source)
    headers: Headers = (
        _JSON,
        actor,
        ("ce_correlationid", asked.correlation_id.encode()),
        ("ce_id", asked.id.encode()),
        site,
        source,
        _SPECVERSION,
        ("ce_type", asked.command.wire.encode()),
    )
    if asked.traceparent is not None:
        headers = (*headers, ("ce_traceparent", asked.traceparent.encode()))
    return Draft(key, asked.command.encode() if value is None else value, headers)


@lru_cache(maxsize=4096)  # a worker says all about an agent in the same words
def _asker(
    agent_id: AgentId, actor: str, site_id: SiteId, source: str
) -> tuple[bytes, tuple[str, bytes], tuple[str, bytes], tuple[str, bytes]]:
    """Return a command's key, and the headers that name who asks, for which site, from where."""
    return (
        agent_id.encode(),
        ("ce_actor", actor.encode()),
        ("ce_siteid", site_id.encode()),
        ("ce_source", source.encode()),
    )


def decode_command(record: Record) -> CommandEnvelope:
    """Return the command of a record of `ai.commands`.

    Raises:
        DecodeError: it is no command that this release knows; the message says what is wrong with it.
    """
    headers = dict(record.headers)
    wire = headers.get("ce_type", b"")
    schema = _COMMANDS.get(wire)
    if schema is None:
        raise DecodeError(f"{wire[:80].decode(errors='replace')!r} is no command of this release")
    if record.key is None or record.value is None:
        raise DecodeError(f"a command {schema.wire!r} needs an agent's id as its key, and a payload")
    try:
        agent_id, site_id = _agent_id(record.key), _site_id(_needed(headers, "ce_siteid"))
        traceparent = headers.get("ce_traceparent")
        return CommandEnvelope(
            CommandId(_needed(headers, "ce_id").decode()),
            site_id,
            agent_id,
            _needed(headers, "ce_actor").decode(),
            _needed(headers, "ce_correlationid").decode(),
            traceparent.decode() if traceparent is not None else None,
            record.offset,
            record.at_ms,
            schema.__pydantic_validator__.validate_json(record.value, context=STORED),
        )
    except ValidationError as error:
        raise DecodeError(f"a command {schema.wire!r} has a wrong payload: {_first(error)}") from None
    except UnicodeDecodeError:
        raise DecodeError("a header is not UTF-8") from None
    except ValueError as error:
        raise DecodeError(f"a command {schema.wire!r} has a wrong key or site: {error}") from None


_COMMANDS = {wire.encode(): command for wire, command in COMMANDS.items()}


@lru_cache(maxsize=16_384)
def _agent_id(key: bytes) -> AgentId:
    return parse_agent_id(key.decode("ascii"))


@lru_cache(maxsize=4096)
def _site_id(header: bytes) -> SiteId:
    return parse_site_id(header.decode())


def _needed(headers: dict[str, bytes], name: str) -> bytes:
    value = headers.get(name)
    if not value:
        raise DecodeError(f"the header {name!r} is missing")
    if len(value) > HEADER_CHARS:
        raise DecodeError(f"the header {name!r} is longer than {HEADER_CHARS} bytes")
    return value


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
    draft, head, _ = encoder.encode(said.id, said.event, head)
    return draft, head


class Encoder:
    """Encodes the events of one decision: what they share is put into headers and framed for the chain once.

    The chain is over every header but its own, in sorted order, as `streams.chain.link` has it for any record: here
    it is joined from parts that are framed already.
    """

    __slots__ = ("_first", "_framed_first", "_framed_last", "_framed_site", "_key", "_last", "_site", "_time")

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
        self._key, framed_key, self._site, self._framed_site = _address(site_id, agent_id)
        actor_header, framed_actor = _actor(actor)
        cause, cause_offset = causation_id.encode(), b"%d" % causation_offset
        correlation, time = correlation_id.encode(), format_time(at_ms).encode()
        self._first: Headers = (
            actor_header,
            ("ce_causationid", cause),
            ("ce_causationoffset", cause_offset),
            ("ce_correlationid", correlation),
        )
        self._framed_first = b"".join(
            (
                framed_key,
                framed_actor,
                *(_CAUSATION_ID, len(cause).to_bytes(4, "big"), cause),
                *(_CAUSATION_OFFSET, len(cause_offset).to_bytes(4, "big"), cause_offset),
                *(_CORRELATION_ID, len(correlation).to_bytes(4, "big"), correlation, _ID),
            )
        )
        self._time = ("ce_time", time)
        self._framed_last = _TIME + len(time).to_bytes(4, "big") + time
        self._last: Headers = ()
        if traceparent is not None:
            self._last = (("ce_traceparent", traceparent.encode()),)
            self._framed_last += framed(self._last)

    def encode(self, event_id: str, event: Event, head: Head) -> tuple[Draft, Head, int]:
        """Return the record of an event that follows `head`, its stream's new head, and the most bytes it takes."""
        type_, version, framed_type, framed_version = _constants(type(event))
        number = head.sequence + 1
        id_, sequence = event_id.encode(), b"%d" % number
        run_id: str | None = getattr(event, "execution_id", None)
        subject = run_id.encode() if run_id else self._key
        value = event.encode()
        hashed = b"".join(
            (
                *(PREVIOUS, head.chain, self._framed_first, len(id_).to_bytes(4, "big"), id_, framed_version),
                *(len(sequence).to_bytes(4, "big"), sequence, self._framed_site),
                *(len(subject).to_bytes(4, "big"), subject, self._framed_last, framed_type),
                *(len(value).to_bytes(4, "big"), value),
            )
        )
        chain = sha256(hashed).digest()
        headers = (
            *self._first,
            *(("ce_id", id_), version, ("ce_sequence", sequence), *self._site, ("ce_subject", subject), self._time),
            *(type_, _JSON, *self._last, (CHAIN, chain.hex().encode())),
        )
        return Draft(self._key, value, headers), Head(number, chain), len(hashed) + _UNHASHED_BYTES


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
            schema.__pydantic_validator__.validate_json(value, context=STORED),
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
    try:
        delta = moment.astimezone(UTC) - _EPOCH
    except OverflowError:
        raise ValueError(f"{text!r} is not in the years 1 to 9999") from None
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
    return key, framed_bytes(key), headers, framed(headers) + _SUBJECT


@lru_cache(maxsize=4096)  # a few workers, routers and people say nearly everything
def _actor(actor: str) -> tuple[tuple[str, bytes], bytes]:
    """Return the header of an actor, and what the chain hashes of it."""
    header = ("ce_actor", actor.encode())
    return header, framed((header,))


@lru_cache(maxsize=256)
def _constants(schema: type[Event]) -> tuple[tuple[str, bytes], tuple[str, bytes], bytes, bytes]:
    """Return the headers of an event's type and version, and both framed with what stands beside them in the chain."""
    type_, version = ("ce_type", schema.wire.encode()), ("ce_schemaversion", b"%d" % schema.version)
    return type_, version, framed((type_, _JSON)), framed((version,)) + _SEQUENCE


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
