"""Making an output fit for the log: JSON that every reader can read, and no longer than it should be.

What is changed, and into what, stands in docs/tools.md: nothing else is.
"""

import hashlib
import math

import orjson
from pydantic_core import from_json

from processors.tools.port import ToolError, ToolResult
from schemas.exact import INT64
from schemas.message import Json, JsonObject

OUTPUT_LIMIT_BYTES = 64 * 1024  # of JSON: a quarter of an event, and already much of a model's window
READER_LEVELS = 200  # of lists and objects in each other that the log's readers take
LEVELS = 100  # of those in an output: records add some around it, and others read with less
TOO_DEEP = f"[cut: nested deeper than {LEVELS} levels]"
NODES = 1_000_000  # of one output: what refers to itself never ends
LONGEST_DECIMAL = 10**4_000  # Python writes no longer numbers in decimal

# What orjson would write in a way of its own has to be cleaned here, or the object and its bytes would differ.
_PLAIN_ONLY = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def clean_text(text: str) -> str:
    """Return `text` with U+FFFD for each lone surrogate, which can't be encoded, and NUL, which Postgres can't hold."""
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd")


def clean_output(output: Json) -> ToolResult:
    """Return `output` as a result for the log; its bytes are made once if nothing has to be cleaned.

    NaN and infinities become null; NUL, lone surrogates and invalid UTF-8 U+FFFD; integers beyond 64 bits texts; tuples
    and sets lists; what is nested deeper than `LEVELS` the text `TOO_DEEP`. Over `OUTPUT_LIMIT_BYTES` it is cut:
    `{"cut": true, "full_bytes": n, "text": the beginning}`.

    Raises:
        ToolError: it is not JSON.
    """
    try:
        raw = orjson.dumps(output, option=_PLAIN_ONLY)
    except TypeError:
        output, raw = _cleaned(output)
    else:
        # The bytes of a NaN are right and the object is not; those of a NUL look like those of a backslash before
        # "u0000", which the cleaning knows from it.
        if b"\\u0000" in raw or not _is_flat(raw):
            output, raw = _cleaned(output)
        elif b"null" in raw:
            output = orjson.loads(raw)
    if len(raw) > OUTPUT_LIMIT_BYTES:
        return _cut(output, raw)
    return ToolResult(output=output)


def _is_flat(raw: bytes) -> bool:
    """Whether there are at most `LEVELS` levels; a reader counts them faster than we would."""
    if raw.count(b"[") + raw.count(b"{") <= LEVELS:
        return True
    spare = READER_LEVELS - LEVELS
    try:
        from_json(b"[" * spare + raw + b"]" * spare)
    except ValueError:
        return False
    return True


def _cleaned(output: Json) -> tuple[Json, bytes]:
    cleaned = _Cleaning().value(output, LEVELS)
    return cleaned, orjson.dumps(cleaned)


class _Cleaning:
    """One walk through an output."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = NODES

    def value(self, value: Json, levels: int) -> Json:
        """Return `value` cleaned, with `levels` of lists and objects at most."""
        self._left -= 1
        if self._left < 0:
            raise ToolError("The tool's answer has too many parts to be kept: ask for less.")
        match value:
            case None | bool():
                return value
            case str():
                return clean_text(str(value))
            case bytes() | bytearray():
                return clean_text(value.decode("utf-8", "replace"))
            case int():
                return _integer(int(value))
            case float():
                return float(value) if math.isfinite(value) else None
            case dict() | list() | tuple() | set() | frozenset() if levels == 0:
                return TOO_DEEP
            case dict():
                return self._object(value, levels - 1)
            case list() | tuple():
                return [self.value(item, levels - 1) for item in value]
            case set() | frozenset():
                return sorted((self.value(item, levels - 1) for item in value), key=repr)
            case _:
                raise ToolError(f"The tool's answer is not JSON: it holds a {type(value).__name__}.")

    def _object(self, value: dict[object, Json], levels: int) -> JsonObject:
        cleaned: JsonObject = {}
        for key, item in value.items():
            name = _key(key)
            if name in cleaned:  # two names that are alike once they are clean: neither is lost
                name = next(other for n in range(2, len(value) + 2) if (other := f"{name} ({n})") not in cleaned)
            cleaned[name] = self.value(item, levels)
        return cleaned


def _integer(value: int) -> int | str:
    if value in INT64:
        return value
    return str(value) if abs(value) < LONGEST_DECIMAL else hex(value)


def _key(key: object) -> str:
    if isinstance(key, str):
        return clean_text(str(key))
    if isinstance(key, int):
        return str(_integer(int(key)))
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
