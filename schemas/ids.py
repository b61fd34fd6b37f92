"""Identifiers: typed, made from what they name, and ordered by time.

A decider's ids are UUIDv8 (RFC 9562, section 5.8): 48 bits of Unix time in ms, then bits of the sha256 of
what names the thing. So every replay makes the same ids, no model ever makes one up, and a database's
indexes stay local.
"""

import hashlib
import random
import re
import time
from functools import lru_cache
from typing import Annotated, NewType

from pydantic import AfterValidator

UUID_PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@lru_cache(maxsize=16_384)  # sites and agents come again and again
def _uuid(text: str) -> str:
    lowered = text.lower()
    if UUID_PATTERN.fullmatch(lowered) is None:
        raise ValueError(f"{text[:80]!r} is not a UUID such as 0f8fad5b-d9cb-469f-a165-70867728950e")
    return lowered


SiteId = NewType("SiteId", str)
AgentId = NewType("AgentId", str)
ExecutionId = NewType("ExecutionId", str)
CallId = NewType("CallId", str)
ApprovalId = NewType("ApprovalId", str)
EventId = NewType("EventId", str)
CommandId = NewType("CommandId", str)

# The same names as pydantic reads them from outside.
AnyUuid = Annotated[str, AfterValidator(_uuid)]
AnySiteId = Annotated[SiteId, AfterValidator(_uuid)]
AnyAgentId = Annotated[AgentId, AfterValidator(_uuid)]


def parse_site_id(text: str) -> SiteId:
    """Return `text` as a site's id.

    Raises:
        ValueError: it is not a UUID.
    """
    return SiteId(_uuid(text))


def parse_agent_id(text: str) -> AgentId:
    """Return `text` as an agent's id.

    Raises:
        ValueError: it is not a UUID.
    """
    return AgentId(_uuid(text))


def timed_id(at_ms: int, *names: str | bytes | int) -> str:
    """Return the UUIDv8 of the thing that `names` name, made at `at_ms` (Unix time in ms)."""
    parts = []
    for name in names:
        raw = name if isinstance(name, bytes) else str(name).encode("utf-8", "surrogatepass")
        parts.append(len(raw).to_bytes(4, "big"))
        parts.append(raw)
    return _format(at_ms, hashlib.sha256(b"".join(parts)).digest())


def named_id(*names: str) -> str:
    """Return the UUIDv8 of what has a name and no time: an agent, by its site and slug."""
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    return _format(int.from_bytes(digest[10:16], "big"), digest)


def random_id() -> str:
    """Return a fresh id. Only for the edges: a decider makes its ids from what it was told."""
    return _format(time.time_ns() // 1_000_000, random.getrandbits(80).to_bytes(10, "big"))


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def _format(at_ms: int, noise: bytes) -> str:
    text = noise.hex()
    time_ = f"{at_ms & 0xFFFF_FFFF_FFFF:012x}"
    # Version 8 stands in a digit of its own, the variant of RFC 9562 in the two highest bits of another.
    return f"{time_[:8]}-{time_[8:]}-8{text[1:4]}-{_VARIANTS[text[4]]}{text[5:8]}-{text[8:20]}"


def agent_id_of(site_id: SiteId, slug: str) -> AgentId:
    """Return the id of the agent `slug` of a site: its stream's key, the same on every machine."""
    return AgentId(named_id("agent", site_id, slug))


def execution_id_of(at_ms: int, agent_id: AgentId, source: str, trigger_id: str) -> ExecutionId:
    """Return the id of the run that the trigger (source, id) starts."""
    return ExecutionId(timed_id(at_ms, "execution", agent_id, source, trigger_id))


def call_id_of(at_ms: int, execution_id: ExecutionId, step: int, position: int) -> CallId:
    """Return the id of the tool call at `position` (from 0) of a step, never the one that a model made up."""
    return CallId(timed_id(at_ms, "call", execution_id, step, position))


def approval_id_of(at_ms: int, call_id: CallId, edition: int = 0) -> ApprovalId:
    """Return the id of the approval that a call asks for; each change of its arguments by a person is an edition."""
    names = (call_id, edition) if edition else (call_id,)
    return ApprovalId(timed_id(at_ms, "approval", *names))


def event_id_of(at_ms: int, command_id: CommandId, offset: int, index: int) -> EventId:
    """Return the id of the event at `index` (from 0) of those that follow from the command at `offset`.

    The offset tells two copies of a command from each other: who sends until acknowledged may leave several, and
    each may lead to an event, such as a refusal, at the same time.
    """
    return EventId(f"{event_ids_of(at_ms, command_id, offset)}{index:04x}")


def event_ids_of(at_ms: int, command_id: CommandId, offset: int) -> str:
    """Return what the ids of all events of one command begin with; the index follows, in four hexadecimal digits.

    They are hashed once, not each.
    """
    return timed_id(at_ms, "event", command_id, offset)[:-4]
