"""Lifts payloads that an older release wrote to the shape that this one reads.

An upcaster takes the payload of version n and returns that of n + 1. The stored bytes never change.
"""

from collections.abc import Callable

import orjson

from schemas.errors import DecodeError
from schemas.message import JsonObject

Upcaster = Callable[[JsonObject], JsonObject]

# (wire name, version it lifts from). Empty: every event is still at its first version.
UPCASTERS: dict[tuple[str, int], Upcaster] = {}


def lift(wire: str, version: int, to: int, value: bytes) -> bytes:
    """Return `value`, a payload of `version`, as one of version `to`.

    Raises:
        DecodeError: it is of a newer version than this release knows, or no upcaster leads there.
    """
    if version == to:
        return value
    if version > to:
        raise DecodeError(f"{wire!r} has schema version {version}, this release knows {to}: upgrade first")
    payload = orjson.loads(value)
    for step in range(version, to):
        upcaster = UPCASTERS.get((wire, step))
        if upcaster is None:
            raise DecodeError(f"nothing lifts {wire!r} from schema version {step}")
        payload = upcaster(payload)
    return orjson.dumps(payload)
