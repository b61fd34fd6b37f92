"""CloudEvents 1.0 in Kafka records: binary and structured mode, both ways, validated strictly.

Follows https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md and its JSON
format. Header values are UTF-8, without percent-encoding. In binary mode extensions come back as strings, whatever
they were, since headers have no types. Batches, and formats other than JSON, are refused.
"""

import json
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from schemas.errors import DecodeError
from schemas.exact import INT64, may_be_rounded
from schemas.message import Json
from streams.content_types import JSON, STRUCTURED_JSON, is_json, parse_content_type
from streams.log import Draft, Record
from streams.rfc3339 import EARLIEST_MS, LATEST_MS, format_time, parse_time

Mode = Literal["binary", "structured"]
Extension = str | int | bool

SPECVERSION = "1.0"
PREFIX = "ce_"
CONTENT_TYPE = "content-type"

TYPE_CHARS = 200
ATTRIBUTE_CHARS = 1_000  # id, source, subject, dataschema, datacontenttype
EXTENSION_CHARS = 4_096
NAME_CHARS = 64  # the specification recommends 20
MAX_EXTENSIONS = 64

_NAME = re.compile(r"[a-z0-9]+")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")  # what a String may not hold
_TEXTS = {"id", "source", "type", "subject", "dataschema", "datacontenttype"}
_NOT_EXTENSIONS = _TEXTS | {"specversion", "time", "data"}
_INT32 = range(-(2**31), 2**31)
_INT64_CHARS = 20


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event; (`source`, `id`) names it. `time_ms` is Unix time in ms, `data` is JSON, or bytes of another type.

    `data` None means that there is none. Making one with a wrong attribute raises ValueError.
    """

    id: str
    source: str
    type: str
    subject: str | None = None
    time_ms: int | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    extensions: Mapping[str, Extension] = field(default_factory=dict)
    data: Json | bytes = None
    specversion: str = SPECVERSION

    def __post_init__(self) -> None:
        """Check every attribute."""
        if self.specversion != SPECVERSION:
            raise ValueError(f"specversion {self.specversion!r:.40} is not known: write {SPECVERSION!r}")
        _check_text("id", self.id, ATTRIBUTE_CHARS)
        _check_text("source", self.source, ATTRIBUTE_CHARS)
        _check_text("type", self.type, TYPE_CHARS)
        for name in ("subject", "dataschema", "datacontenttype"):
            if (text := getattr(self, name)) is not None:
                _check_text(name, text, ATTRIBUTE_CHARS)
        if self.datacontenttype is not None:
            parse_content_type(self.datacontenttype)
        if self.time_ms is not None and not EARLIEST_MS <= self.time_ms <= LATEST_MS:
            raise ValueError(f"time {self.time_ms} ms is not in the years 1 to 9999")
        if len(self.extensions) > MAX_EXTENSIONS:
            raise ValueError(f"{len(self.extensions)} extensions are too many: {MAX_EXTENSIONS} are allowed")
        for name, value in self.extensions.items():
            _check_extension(name, value)


def from_record(record: Record, *, now: int) -> CloudEvent:
    """Return the event of a record, in whichever mode it stands. An event without a time gets `now` (Unix ms).

    Raises:
        DecodeError: it is no valid CloudEvent; the message says what is wrong with it.
    """
    try:
        headers = _headers(record)
        declared = headers.get(CONTENT_TYPE)
        media = "" if declared is None else parse_content_type(declared)
        if media.startswith("application/cloudevents"):
            return _from_structured(media, record.value, now)
        return _from_binary(headers, declared, record.value, now)
    except ValueError as error:
        raise DecodeError(f"no valid CloudEvent: {error}") from None


def to_draft(event: CloudEvent, *, key: bytes | None, mode: Mode = "binary") -> Draft:
    """Return the record of an event.

    Raises:
        ValueError: its data is not what its datacontenttype says, or can't be written as JSON.
    """
    if mode == "structured":
        return Draft(key, dump_json(_to_object(event)), ((CONTENT_TYPE, STRUCTURED_JSON.encode()),))
    value, content_type = _to_bytes(event)
    headers = [(PREFIX + name, _text(value).encode()) for name, value in _attributes(event).items()]
    if content_type is not None:
        headers.append((CONTENT_TYPE, content_type.encode()))
    return Draft(key, value, tuple(headers))


def dump_json(data: Json) -> bytes:
    """Return `data` as JSON bytes.

    Raises:
        ValueError: it holds what JSON has no word for: NaN, infinity, half a surrogate pair, an object.
    """
    try:
        if not _is_finite(data):
            raise ValueError("the data holds NaN or infinity, which JSON can't say")
        return orjson.dumps(data)
    except (TypeError, RecursionError) as error:  # orjson.JSONEncodeError is a TypeError
        raise ValueError(f"the data can't be written as JSON: {error}") from None


def load_json(raw: bytes) -> Json:
    """Return what JSON bytes say; an integer beyond 64 bits, which few can keep, as the text of its digits.

    Raises:
        ValueError: they are not JSON; NaN, invalid UTF-8 and half a surrogate pair are not.
    """
    try:
        told: Json = orjson.loads(raw)
        return json.loads(raw, parse_int=_integer) if may_be_rounded(raw) else told
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError("not JSON: it is nested too deeply") from None


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _INT64_CHARS and int(digits) in INT64 else digits


# --- reading


def _headers(record: Record) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, content in record.headers:
        name = CONTENT_TYPE if raw_name.lower() == CONTENT_TYPE else raw_name
        if name != CONTENT_TYPE and not name.startswith(PREFIX):
            continue
        if name in headers:
            raise ValueError(f"the header {name!r:.80} stands twice")
        try:
            headers[name] = content.decode()
        except UnicodeDecodeError:
            raise ValueError(f"the header {name!r:.80} is not UTF-8") from None
    return headers


def _from_binary(headers: Mapping[str, str], declared: str | None, value: bytes | None, now: int) -> CloudEvent:
    if PREFIX + "specversion" not in headers:
        raise ValueError(f"there is neither a header 'ce_specversion' nor a content-type {STRUCTURED_JSON!r}")
    attributes = {name.removeprefix(PREFIX): text for name, text in headers.items() if name != CONTENT_TYPE}
    if "datacontenttype" in attributes:
        raise ValueError("the header 'ce_datacontenttype' has no place in binary mode: it is 'content-type'")
    data: Json = value
    if value is not None and declared is not None and is_json(declared):
        data = load_json(value)
    return _event({**attributes, "datacontenttype": declared}, data, now)


def _from_structured(media: str, value: bytes | None, now: int) -> CloudEvent:
    if media != STRUCTURED_JSON:
        raise ValueError(f"the format {media!r} is not supported: send {STRUCTURED_JSON!r}, or binary mode")
    if value is None:
        raise ValueError("a structured event needs a value")
    whole = load_json(value)
    if not isinstance(whole, dict):
        raise ValueError("a structured event is a JSON object")  # noqa: TRY004 - wrong input, not a wrong call
    attributes = {name: content for name, content in whole.items() if content is not None}  # null means absent
    data, encoded = attributes.pop("data", None), attributes.pop("data_base64", None)
    declared = attributes.get("datacontenttype", JSON)
    if not isinstance(declared, str):
        raise ValueError("'datacontenttype' must be a string")  # noqa: TRY004
    if encoded is not None:
        if data is not None:
            raise ValueError("an event has 'data' or 'data_base64', not both")
        data = _from_base64(encoded, declared)
    elif data is not None and not is_json(declared):
        if not isinstance(data, str):
            raise ValueError(f"'data' of the type {declared!r:.80} must be a string")
        data = data.encode()
    return _event(attributes, data, now)


def _from_base64(encoded: object, declared: str) -> Json | bytes:
    try:
        raw = b64decode(str(encoded), validate=True)  # a number or list is no base64 as text either
    except (Base64Error, ValueError):
        raise ValueError("'data_base64' is not base64") from None
    return load_json(raw) if is_json(declared) else raw


def _event(attributes: Mapping[str, Any], data: Json | bytes, now: int) -> CloudEvent:
    for name in ("specversion", "id", "source", "type"):
        if name not in attributes:
            raise ValueError(f"the attribute {name!r} is missing")
    time = attributes.get("time")
    if time is not None and not isinstance(time, str):
        raise ValueError("'time' must be a string")
    return CloudEvent(
        **{name: attributes[name] for name in _TEXTS if name in attributes},
        specversion=attributes["specversion"],
        time_ms=now if time is None else parse_time(time),
        extensions={name: value for name, value in attributes.items() if name not in _NOT_EXTENSIONS},
        data=data,
    )


# --- writing


def _attributes(event: CloudEvent) -> dict[str, Extension]:
    attributes: dict[str, Extension] = {
        "specversion": event.specversion,
        "id": event.id,
        "source": event.source,
        "type": event.type,
    }
    if event.subject is not None:
        attributes["subject"] = event.subject
    if event.time_ms is not None:
        attributes["time"] = format_time(event.time_ms)
    if event.dataschema is not None:
        attributes["dataschema"] = event.dataschema
    attributes.update(event.extensions)
    return attributes


def _to_bytes(event: CloudEvent) -> tuple[bytes | None, str | None]:
    """Return the value of a binary record, and its content-type."""
    data, declared = event.data, event.datacontenttype
    if data is None or isinstance(data, bytes):
        return data, declared
    if declared is None or is_json(declared):
        return dump_json(data), declared or JSON
    if isinstance(data, str):
        return data.encode(), declared
    raise ValueError(f"data of the type {declared!r:.80} must be bytes or a string")


def _to_object(event: CloudEvent) -> dict[str, Json]:
    whole: dict[str, Json] = dict(_attributes(event))
    if event.datacontenttype is not None:
        whole["datacontenttype"] = event.datacontenttype
    if isinstance(event.data, bytes):
        whole["data_base64"] = b64encode(event.data).decode()
    elif event.data is not None:
        if event.datacontenttype is not None and not is_json(event.datacontenttype) and not isinstance(event.data, str):
            raise ValueError(f"data of the type {event.datacontenttype!r:.80} must be bytes or a string")
        whole["data"] = event.data
    return whole


def _text(value: Extension) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# --- checking


def _check_text(name: str, text: object, limit: int) -> None:
    if not isinstance(text, str):
        raise ValueError(f"{name!r:.80} must be a string, not {type(text).__name__}")  # noqa: TRY004
    if not text:
        raise ValueError(f"{name!r:.80} must not be empty")
    if len(text) > limit:
        raise ValueError(f"{name!r:.80} has {len(text)} characters: {limit} are allowed")
    if found := _UNPRINTABLE.search(text):
        raise ValueError(f"{name!r:.80} holds the character {found[0]!r}, which no attribute may")


def _check_extension(name: str, value: object) -> None:
    if len(name) > NAME_CHARS or _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r:.80} is no attribute's name: 1 to {NAME_CHARS} of a-z and 0-9")
    if name in _NOT_EXTENSIONS:
        raise ValueError(f"{name!r} is no extension: it has a field of its own")
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        if value not in _INT32:
            raise ValueError(f"the extension {name!r} must be a 32-bit number or a string")
    elif value != "":  # an extension may be empty
        _check_text(name, value, EXTENSION_CHARS)


def _is_finite(data: Json) -> bool:
    match data:
        case float():
            return data - data == 0
        case dict():
            return all(map(_is_finite, data.values()))
        case list() | tuple():
            return all(map(_is_finite, data))
        case _:
            return True
