"""Lifts payloads that an older release wrote to the shape that this one reads.

An upcaster takes the payload of version n and returns that of n + 1. The stored bytes never change.
"""

from collections.abc import Callable

from schemas.errors import DecodeError
from schemas.exact import dump_exact, load_exact
from schemas.message import JsonObject

Upcaster = Callable[[JsonObject], JsonObject]


def _as_it_is(payload: JsonObject) -> JsonObject:
    """What is new has a default, which says what an older release did."""
    return payload


# (wire name, version it lifts from).
UPCASTERS: dict[tuple[str, int], Upcaster] = {
    ("ai.agent.created", 1): _as_it_is,
    ("ai.agent.created", 2): _as_it_is,
    ("ai.agent.created", 3): _as_it_is,
    ("ai.agent.updated", 1): _as_it_is,
    ("ai.agent.deactivated", 1): _as_it_is,
    ("ai.execution.started", 1): _as_it_is,
    ("ai.context.assembled", 1): _as_it_is,
    ("ai.tool.denied", 1): _as_it_is,
    ("ai.approval.requested", 1): _as_it_is,
    ("ai.approval.resolved", 1): _as_it_is,
    ("ai.execution.failed", 1): _as_it_is,
}


def lift(wire: str, version: int, to: int, value: bytes) -> bytes:
    """Return `value`, a payload of `version`, as one of version `to`.

    Raises:
        DecodeError: it is of a newer version than this release knows, or no upcaster leads there.
    """
    if version == to:
        return value
    if version > to:
        raise DecodeError(f"{wire!r} has schema version {version}, this release knows {to}: upgrade first")
    payload = load_exact(value)
    for step in range(version, to):
        upcaster = UPCASTERS.get((wire, step))
        if upcaster is None:
            raise DecodeError(f"nothing lifts {wire!r} from schema version {step}")
        payload = upcaster(payload)
    return dump_exact(payload)
