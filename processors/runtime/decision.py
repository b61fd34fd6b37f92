"""From a command to the very records that follow from it: pure, the same for every owner and every replay."""

from typing import NamedTuple

from processors.runtime.stream import Stream, decide, decide_internal, evolve
from schemas.envelope import DECISION_LIMIT_BYTES, CommandEnvelope
from schemas.errors import RecordTooLargeError
from schemas.events import Event
from schemas.ids import ExecutionId, event_ids_of
from streams.chain import Head
from streams.log import Draft
from streams.records import Encoder


class Decision(NamedTuple):
    """What follows from one command: events, their records of `size` bytes together, the stream's head after them."""

    events: tuple[Event, ...]
    drafts: tuple[Draft, ...]
    head: Head
    at_ms: int
    size: int


def time_of(stream: Stream, envelope: CommandEnvelope) -> int:
    """Return the time of a decision: append time, but never before what the stream last said."""
    return max(envelope.at_ms, stream.at_ms)


def decision_of(stream: Stream, envelope: CommandEnvelope, *, internal: bool = False) -> Decision:
    """Return what follows from a command; `internal`: as if `decide` had failed on it.

    Raises:
        RecordTooLargeError: the events do not fit into one record batch.
    """
    at_ms = time_of(stream, envelope)
    events = decide_internal(stream, envelope, at_ms) if internal else decide(stream, envelope, at_ms)
    head, size, ids = stream.head, 0, event_ids_of(at_ms, envelope.id, envelope.offset)
    drafts: list[Draft] = []
    encoders: dict[str, Encoder] = {}  # by correlation: nearly always one
    for index, event in enumerate(events):
        correlation_id = _correlation_of(stream, envelope, event)
        if (encoder := encoders.get(correlation_id)) is None:
            encoder = encoders[correlation_id] = _encoder(stream, envelope, at_ms, correlation_id)
        draft, head, bytes_ = encoder.encode(f"{ids}{index:04x}", event, head)
        drafts.append(draft)
        size += bytes_
    if size > DECISION_LIMIT_BYTES:
        raise RecordTooLargeError(f"the events of one command may have {DECISION_LIMIT_BYTES} bytes, these have {size}")
    return Decision(tuple(events), tuple(drafts), head, at_ms, size)


def apply(stream: Stream, envelope: CommandEnvelope, decision: Decision) -> None:
    """Assign a decision to the stream that it was made for."""
    for event in decision.events:
        evolve(stream, event, decision.at_ms, envelope.correlation_id)
    if decision.events:
        stream.head, stream.cause = decision.head, envelope.offset


def _correlation_of(stream: Stream, envelope: CommandEnvelope, event: Event) -> str:
    run_id: ExecutionId | None = getattr(event, "execution_id", None)
    run = stream.runs.get(run_id) if run_id is not None else None
    return envelope.correlation_id if run is None else run.correlation_id


def _encoder(stream: Stream, envelope: CommandEnvelope, at_ms: int, correlation_id: str) -> Encoder:
    return Encoder(
        stream.agent.site_id,
        stream.agent.id,
        at_ms,
        envelope.id,
        envelope.offset,
        envelope.actor,
        correlation_id,
        envelope.traceparent,
    )
