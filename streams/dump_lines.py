"""The lines of a dump: see `streams.dump` for what they look like. Needs nothing but Python."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streams.log import Headers, Record

FORMAT = 1
FOOTER_START = b'{"footer":'
GENESIS_HEADER = "dramac_genesis"  # as in streams.topics, which needs more than Python

_RECORD_FIELDS = ["partition", "offset", "at", "key", "headers", "value"]
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)

_FOOTER_FIELDS = ["topic", "format", "records", "sha256", "partitions", "heads"]


@dataclass(frozen=True, slots=True)
class PartitionEnds:
    """What a dump has of a partition: offsets from `start` to before `end`, of the log that has this id."""

    log_id: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class StreamHead:
    """A stream's last record that counts; `chain` in hex."""

    partition: int
    sequence: int
    chain: str


@dataclass(frozen=True, slots=True)
class Footer:
    """A dump's last line: what the lines before it have to be."""

    topic: str
    records: int
    sha256: str
    partitions: Mapping[int, PartitionEnds]
    heads: Mapping[str, StreamHead]


def encode_record(record: Record) -> bytes:
    """Return a record's line."""
    return _line(
        {
            "partition": record.partition,
            "offset": record.offset,
            "at": record.at_ms,
            "key": _text(record.key),
            "headers": [[name, _text(content)] for name, content in record.headers],
            "value": _text(record.value),
        }
    )


def encode_footer(footer: Footer) -> bytes:
    """Return the last line."""
    partitions = {
        str(number): {"log_id": held.log_id, "start": held.start, "end": held.end}
        for number, held in footer.partitions.items()
    }
    heads = {
        name: {"partition": head.partition, "sequence": head.sequence, "chain": head.chain}
        for name, head in footer.heads.items()
    }
    values = (footer.topic, FORMAT, footer.records, footer.sha256, partitions, heads)
    return _line({"footer": dict(zip(_FOOTER_FIELDS, values, strict=True))})


def decode_record(line: bytes, topic: str) -> Record:
    """Return the record of a line.

    Raises:
        ValueError: it is none, and why.
    """
    found = _parse(line)
    if list(found) != _RECORD_FIELDS:
        raise ValueError(f"a record has the fields {', '.join(_RECORD_FIELDS)}")
    partition, offset, at_ms = (_whole(found[name]) for name in _RECORD_FIELDS[:3])
    return Record(
        topic, partition, offset, at_ms, _bytes(found["key"]), _bytes(found["value"]), _headers(found["headers"])
    )


def decode_footer(line: bytes) -> Footer:
    """Return the footer of a line, which must be as `encode_footer` writes it, byte for byte.

    Raises:
        ValueError: it is not, and why.
    """
    try:
        found = _parse(line)["footer"]
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}, this release reads {FORMAT}")
        partitions = {
            int(number): PartitionEnds(held["log_id"], _whole(held["start"]), _whole(held["end"]))
            for number, held in found["partitions"].items()
        }
        heads = {
            name: StreamHead(_whole(head["partition"]), _whole(head["sequence"]), str(head["chain"]))
            for name, head in found["heads"].items()
        }
        footer = Footer(str(found["topic"]), _whole(found["records"]), str(found["sha256"]), partitions, heads)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a field is wrong or missing ({error})") from None
    if encode_footer(footer) != line:
        raise ValueError("it is not written as we write it")
    return footer


def genesis_of(record: Record) -> tuple[str | None, str | None]:
    """Return the log id and the topic that a genesis record tells; (None, None) if it is none."""
    if record.offset != 0 or all(name != GENESIS_HEADER for name, _ in record.headers):
        return None, None
    try:
        told = _parse(record.value or b"")
        return str(told["log_id"]), str(told["topic"])
    except (ValueError, KeyError):
        return None, None


def _line(value: Mapping[str, Any]) -> bytes:
    return _ENCODER.encode(value).encode() + b"\n"


def _text(raw: bytes | None) -> str | dict[str, str] | None:
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


def _parse(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - the data is wrong, not the call
    return found


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]!r} is no number of 0 or more")
    return value


def _bytes(value: object) -> bytes | None:
    if type(value) is str:
        return value.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    match value:
        case None:
            return None
        case {"base64": str(encoded), **rest} if not rest:
            try:
                return base64.b64decode(encoded, validate=True)
            except binascii.Error as error:
                raise ValueError(f"wrong base64: {error}") from None
        case _:
            raise ValueError('bytes are a string, {"base64":"…"} or null')


def _headers(pairs: object) -> Headers:
    try:
        headers = tuple([(name, _bytes(content)) for name, content in pairs])  # type: ignore[attr-defined]
    except TypeError:
        raise ValueError("headers are a list of pairs") from None
    if type(pairs) is not list or any(type(name) is not str or content is None for name, content in headers):
        raise ValueError("headers are a list of a name and bytes each")
    return headers  # type: ignore[return-value] # just checked
