"""Making an output fit for the log: JSON that every reader can read, and no longer than it should be."""

import hashlib
import math

import orjson
from pydantic_core import from_json

from processors.tools.port import ToolError, ToolResult
from schemas.message import Json

OUTPUT_LIMIT_BYTES = 64 * 1024  # of JSON: a quarter of an event, and already much of a model's window
FLAT_BRACKETS = 64  # an output with fewer opening brackets can't be nested deeper than any reader goes
SPARE_LEVELS = 24  # what records add around an output, and some more
INT64 = range(-(2**63), 2**64)  # what orjson writes and reads back exactly

# What orjson would write in a way of its own has to be cleaned here, or the object and its bytes would differ.
_PLAIN_ONLY = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def clean_text(text: str) -> str:
    """Return `text` with each lone surrogate replaced by U+FFFD: it could not be encoded."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def clean_output(output: Json) -> ToolResult:
    """Return `output` as a result for the log; its bytes are made once if nothing has to be cleaned.

    NaN and infinities become null, lone surrogates and invalid UTF-8 U+FFFD, tuples and sets lists.
    Over `OUTPUT_LIMIT_BYTES` it is cut: `{"cut": true, "full_bytes": n, "text": the beginning}`.

    Raises:
        ToolError: it is not JSON, or is nested too deeply to be read again.
    """
    try:
        raw = orjson.dumps(output, option=_PLAIN_ONLY)
    except TypeError:
        output = _cleaned(output)
        raw = _dumped(output)
    else:
        if b"null" in raw:  # it may have been a NaN: the bytes are right, the object may not be
            output = orjson.loads(raw)
    if len(raw) > OUTPUT_LIMIT_BYTES:
        return _cut(output, raw)
    if raw.count(b"[") + raw.count(b"{") > FLAT_BRACKETS:
        _check_depth(raw)
    return ToolResult(output=output)


def _dumped(output: Json) -> bytes:
    try:
        return orjson.dumps(output)
    except TypeError as error:
        raise ToolError("The tool's answer is nested too deeply to be kept.") from error


def _check_depth(raw: bytes) -> None:
    """Read `raw` as the log's readers will, with room for what will stand around it."""
    nested = b"[" * SPARE_LEVELS + raw + b"]" * SPARE_LEVELS
    try:
        from_json(nested)
    except ValueError as error:
        raise ToolError("The tool's answer is nested too deeply to be kept.") from error


def _cleaned(value: Json) -> Json:
    try:
        return _clean(value)
    except RecursionError as error:
        raise ToolError("The tool's answer is nested too deeply to be kept.") from error


def _clean(value: Json) -> Json:
    match value:
        case None | bool():
            return value
        case str():
            return clean_text(str(value))
        case bytes() | bytearray():
            return value.decode("utf-8", "replace")
        case int():
            return int(value) if value in INT64 else str(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case dict():
            return {_clean_key(key): _clean(item) for key, item in value.items()}
        case list() | tuple():
            return [_clean(item) for item in value]
        case set() | frozenset():
            return sorted((_clean(item) for item in value), key=repr)
        case _:
            raise ToolError(f"The tool's answer is not JSON: it holds a {type(value).__name__}.")


def _clean_key(key: object) -> str:
    if isinstance(key, str):
        return clean_text(key)
    if isinstance(key, int):
        return str(key)
    raise ToolError(f"The tool's answer is not JSON: it has a {type(key).__name__} for a key.")


def _cut(output: Json, raw: bytes) -> ToolResult:
    # Text is cut as text; everything else as the text of its JSON, which no longer is JSON once it is cut.
    whole = output.encode() if isinstance(output, str) else raw
    size = OUTPUT_LIMIT_BYTES
    while True:
        # Quotes, backslashes and control characters grow when the beginning becomes a JSON string itself.
        cut = {"cut": True, "full_bytes": len(raw), "text": whole[:size].decode("utf-8", "ignore")}
        surplus = len(orjson.dumps(cut)) - OUTPUT_LIMIT_BYTES
        if surplus <= 0:
            return ToolResult(output=cut, full_bytes=len(raw), full_sha256=hashlib.sha256(raw).hexdigest())
        size -= max(surplus // 6, 64)  # 6 bytes at most a character: never cuts more than it must by much
