"""A record as the fold sees it. Lean: bytes to values, no schema in between; the decider has checked them.

Postgres' text and jsonb hold neither U+0000 nor lone surrogates. Both become U+FFFD, keys included, and numbers
that JSON does not know (NaN, infinities) become null: one odd character must not stop a partition.
"""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from schemas.errors import DecodeError
from schemas.events import EVENTS
from schemas.exact import load_exact
from schemas.ids import UUID_PATTERN
from schemas.upcasters import lift
from streams.log import Record

REPLACEMENT = "\ufffd"
TOO_DEEP = '"[nested too deeply to be stored]"'

_VERSIONS = {wire.encode(): (wire, event.version, b"%d" % event.version) for wire, event in EVENTS.items()}


@dataclass(slots=True)
class Fact:
    """An event that counts. `at` is UTC; `data` is its payload, cleaned."""

    wire: bytes
    site_id: str
    agent_id: str
    sequence: int
    at: datetime
    data: dict[str, Any]
    headers: dict[str, bytes]

    def header(self, name: str) -> str:
        """Return a header's text, cleaned; empty where it is missing."""
        return self.headers.get(name, b"").decode("utf-8", "replace").replace("\0", REPLACEMENT)


def read_fact(record: Record) -> Fact:
    """Return the fact of a record that counts.

    Raises:
        DecodeError: this release can't read it.
    """
    headers = dict(record.headers)
    wire = headers.get("ce_type", b"")
    known = _VERSIONS.get(wire)
    if known is None:
        raise DecodeError(f"{wire[:80]!r} is no event of this release")
    if record.key is None or record.value is None:
        raise DecodeError(f"a {known[0]!r} without a key or a payload")
    value = record.value
    try:
        if headers["ce_schemaversion"] != known[2]:
            value = lift(known[0], int(headers["ce_schemaversion"]), known[1], value)
        return Fact(
            wire,
            _known_uuid(headers["ce_siteid"]),
            _known_uuid(record.key),
            int(headers["ce_sequence"]),
            _moment(headers["ce_time"]),
            parse(value),
            headers,
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DecodeError(f"a {known[0]!r} can't be read: {error!r}") from error


def parse(value: bytes) -> dict[str, Any]:
    r"""Return a payload's fields, cleaned.

    Raises:
        ValueError: it is no JSON object.
    """
    try:
        data = load_exact(value)
    except ValueError:
        data = clean(json.loads(value))  # lone surrogates and NaN pass here
    else:
        if b"\\u0000" in value:  # the only way to write U+0000
            data = clean(data)
    if not isinstance(data, dict):
        raise ValueError("the payload is not a JSON object")  # noqa: TRY004 - it is data
    return data


def time_of(at_ms: int) -> datetime:
    """Return a time of the log, in Unix ms, as Postgres takes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def time_or_none(at_ms: int | None) -> datetime | None:
    """Return `time_of`; None stays None."""
    return None if at_ms is None else time_of(at_ms)


def clean(value: Any) -> Any:
    """Return a JSON value with what Postgres can't hold replaced."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key): clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def clean_text(text: str) -> str:
    """Return `text` with U+0000 and lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", REPLACEMENT)


def as_json(value: Any) -> str | None:
    """Return JSON for a jsonb column; None for null."""
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # deeper than orjson goes, or an integer above 64 bits
        try:
            return json.dumps(value, allow_nan=False)
        except (RecursionError, ValueError):
            return TOO_DEEP


def uuid_text(text: str) -> str:
    """Return `text`.

    Raises:
        ValueError: it is not a UUID: it would fail its whole batch in Postgres.
    """
    if UUID_PATTERN.fullmatch(text) is None:
        raise ValueError(f"{text[:80]!r} is not a UUID")
    return text


@lru_cache(maxsize=65_536)  # a site or an agent comes again and again
def _known_uuid(raw: bytes) -> str:
    return uuid_text(raw.decode("ascii"))


@lru_cache(maxsize=16)  # the events of one decision share it
def _moment(raw: bytes) -> datetime:
    moment = datetime.fromisoformat(raw.decode("ascii"))
    if moment.tzinfo is None:
        raise ValueError(f"{raw!r} has no time zone")
    return moment.astimezone(UTC)
