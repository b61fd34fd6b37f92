"""JSON with integers of any length: orjson reads those beyond 64 bits as floats, so rounded, and can't write them."""

import math
from typing import Any

import orjson
from pydantic_core import from_json

from schemas.message import Json

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
    return value if _LONG not in raw.translate(_DIGITS) else from_json(raw, allow_inf_nan=False)


def dump_exact(value: Json, option: int = 0) -> bytes:
    """Return JSON, integers as they are; half a surrogate pair becomes U+FFFD, NaN null, and what is no JSON its text.

    Raises:
        ValueError: it is nested too deeply.
    """
    try:
        return orjson.dumps(value, option=option, default=str)
    except TypeError:
        return orjson.dumps(_writable(value), option=option, default=str)


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
