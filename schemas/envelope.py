"""What surrounds a payload: who, when, where in its stream, and because of what."""

import unicodedata
from typing import Literal, NamedTuple

from schemas.commands import AnyCommand
from schemas.events import Event
from schemas.ids import AgentId, CommandId, EventId, SiteId

EVENT_LIMIT_BYTES = 256 * 1024  # one event's payload
DECISION_LIMIT_BYTES = 768 * 1024  # all events of one command: they go out in one record batch

ActorKind = Literal["user", "agent", "module", "system"]


def is_person(actor: str) -> bool:
    """Whether a command's actor is a person, who waits for an answer."""
    return actor.startswith("user:")


def spelled(actor: str) -> str:
    """Return an actor's name so that two are the same if they only look different to programs: case, width, spaces."""
    return "".join(unicodedata.normalize("NFKC", actor).casefold().split())


class CommandEnvelope(NamedTuple):
    """A command as it stands in `ai.commands`. `at_ms` is its append time, `offset` its place in the partition."""

    id: CommandId
    site_id: SiteId
    agent_id: AgentId
    actor: str
    correlation_id: str
    traceparent: str | None
    offset: int
    at_ms: int
    command: AnyCommand


class EventEnvelope(NamedTuple):
    """An event as it stands in `ai.events`. `sequence` counts from 1 in the agent's stream; `chain` is hex."""

    id: EventId
    type: str
    site_id: SiteId
    agent_id: AgentId
    sequence: int
    at_ms: int
    subject: str
    schema_version: int
    causation_id: CommandId
    causation_offset: int
    correlation_id: str
    actor: str
    chain: str
    traceparent: str | None
    partition: int
    offset: int
    event: Event
