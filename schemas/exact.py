"""JSON with integers of any length: orjson reads those beyond 64 bits as floats, so rounded, and can't write them."""

import json
import math
from typing import Any

import orjson
from pydantic_core import from_json

from schemas.message import Json

INT64 = range(-(2**63), 2**64)  # what orjson writes and reads back exactly

_LONG = b"0" * 19  # the shortest integer that 64 bits may not hold
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_WORD_BITS = 63


def load_exact(raw: bytes | str) -> Json:
    """Return what JSON says, integers as they are.

    Raises:
        ValueError: it is not JSON; NaN, half a surrogate pair and numbers that no float holds are not.
    """
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogatepass")
    value = orjson.loads(raw)
    return from_json(raw, allow_inf_nan=False) if may_be_rounded(raw) else value


def may_be_rounded(raw: bytes) -> bool:
    """Whether JSON may hold an integer that orjson reads as a float."""
    return _LONG in raw.translate(_DIGITS)


def dump_exact(value: Json, option: int = 0) -> bytes:
    """Return JSON, integers as they are; half a surrogate pair becomes U+FFFD, NaN null, and what is no JSON its text.

    Raises:
        ValueError: it is nested too deeply.
    """
    try:
        return orjson.dumps(value, option=option, default=str)
    except TypeError:
        return orjson.dumps(_writable(value), option=option, default=str)


def json_text(value: Json, option: int = 0) -> str:
    """Return JSON text for a model, integers as they are: any module or model may have written them."""
    try:
        return orjson.dumps(value, option=option).decode()
    except TypeError:
        return json.dumps(value, ensure_ascii=False, indent=2 if option else None)


def _writable(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int() if value.bit_length() > _WORD_BITS:
            return orjson.Fragment(b"%d" % value)
        case float() if not math.isfinite(value):
            return None
        case str():
            return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_writable(name): _writable(item) for name, item in value.items()}
        case list() | tuple():
            return [_writable(item) for item in value]
    return value
