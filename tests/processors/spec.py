"""Given, when, then over one stream. Offsets and times are assigned here; every step is checked from the bytes too.

A `Spec` is never changed: `given` and `when` return another one. Expected events are written as lines, such as
`tool.requested a` or `execution.failed (max_steps_reached)`; calls go by the name that the model gave them.
"""

import copy
from collections.abc import Callable
from typing import Self, TypeVar

from processors.executions.state import Run
from processors.runtime.stream import Stream, decide, evolve
from schemas.commands import AnyCommand
from schemas.envelope import CommandEnvelope
from schemas.events import (
    ApprovalRequested,
    CommandRejected,
    DelegationRuled,
    Event,
    ExecutionFailed,
    ExecutionStarted,
    StepAttemptFailed,
    StepObserved,
    StepThought,
    ToolDenied,
    TriggerSkipped,
    UsageMetered,
)
from schemas.ids import ApprovalId, CallId, CommandId, ExecutionId, event_id_of, timed_id
from streams.chain import judge
from streams.log import Draft, Record
from streams.records import Asked, Said, decode_command, decode_event, encode_command, encode_event
from streams.topics import COMMANDS, EVENTS
from tests.processors.samples import AGENT, SITE, START_MS, WORKER

Ask = AnyCommand | Callable[["Spec"], AnyCommand]
E = TypeVar("E", bound=Event)

SECOND_MS = 1_000


class Spec:
    """A stream after some commands. `events` are all so far, `said` those of the last command."""

    def __init__(self) -> None:
        self.stream = Stream.empty(AGENT, SITE)
        self.folded = Stream.empty(AGENT, SITE)
        self.at_ms = START_MS - SECOND_MS
        self.offset = 0
        self.events: list[Event] = []
        self.said: list[Event] = []
        self.drafts: list[Draft] = []
        self.call_ids: dict[str, CallId] = {}
        self.approval_ids: dict[str, ApprovalId] = {}
        self.run_id = ExecutionId("")
        self.step = 0

    @property
    def run(self) -> Run:
        """The state of the run that was started last; it must be live."""
        return self.stream.runs[self.run_id]

    @property
    def lines(self) -> list[str]:
        """All events so far, a line each."""
        return [self.line(event) for event in self.events]

    def given(self, *asks: Ask, actor: str = WORKER, later_ms: int = SECOND_MS) -> Self:
        """Return the spec after these commands, each `later_ms` after the one before."""
        after = self.copy()
        for ask in asks:
            after.handle(ask, actor, later_ms)
        return after

    def when(self, ask: Ask, *, actor: str = WORKER, later_ms: int = SECOND_MS) -> Self:
        """Return the spec after one more command."""
        return self.given(ask, actor=actor, later_ms=later_ms)

    def then(self, *lines: str) -> Self:
        """Check what the last command led to."""
        assert [self.line(event) for event in self.said] == list(lines)
        return self

    def then_nothing(self) -> Self:
        """Check that the last command changed nothing."""
        return self.then()

    def the(self, kind: type[E]) -> E:
        """Return the last event of this kind."""
        return next(event for event in reversed(self.events) if isinstance(event, kind))

    def all(self, kind: type[E]) -> list[E]:
        """Return all events of this kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def envelope(self, ask: Ask, *, actor: str = WORKER, later_ms: int = SECOND_MS) -> CommandEnvelope:
        """Return the next command as it stands in the log; its bytes were written and read."""
        command = ask if not callable(ask) else ask(self)
        id_ = CommandId(timed_id(self.at_ms, "command", self.offset))
        draft = encode_command(Asked(id_, SITE, AGENT, actor, "correlation-1", command))
        at_ms = self.at_ms + later_ms
        return decode_command(Record(COMMANDS, 0, self.offset, at_ms, draft.key, draft.value, draft.headers))

    def handle(self, ask: Ask, actor: str = WORKER, later_ms: int = SECOND_MS) -> list[Event]:
        """Decide one command and apply what follows to the live state, and to the one folded from the bytes."""
        envelope = self.envelope(ask, actor=actor, later_ms=later_ms)
        at_ms = max(envelope.at_ms, self.stream.at_ms)
        self.said = decide(self.stream, envelope, at_ms)
        self.apply(envelope, self.said, at_ms)
        self.at_ms, self.offset = envelope.at_ms, envelope.offset + 1
        return self.said

    def apply(self, envelope: CommandEnvelope, events: list[Event], at_ms: int) -> None:
        """Append `events`, and fold them as the owner does, and as a reader of the log does."""
        for index, event in enumerate(events):
            run = self.stream.runs.get(getattr(event, "execution_id", None) or ExecutionId(""))
            correlation_id = envelope.correlation_id if run is None else run.correlation_id
            said = Said(
                event_id_of(at_ms, envelope.id, envelope.offset, index),
                SITE,
                AGENT,
                at_ms,
                envelope.id,
                envelope.offset,
                correlation_id,
                envelope.actor,
                None,
                event,
            )
            draft, head = encode_event(said, self.stream.head)
            evolve(self.stream, event, at_ms, envelope.correlation_id)
            self.stream.head, self.stream.cause = head, envelope.offset
            self._fold(draft)
            self.drafts.append(draft)
            self.note(event)
        assert self.folded == self.stream, "folding the events gives another state than deciding them"

    def copy(self) -> Self:
        """Return a spec that can go another way."""
        other = copy.copy(self)
        other.stream, other.folded = copy.deepcopy(self.stream), copy.deepcopy(self.folded)
        other.events, other.said, other.drafts = list(self.events), list(self.said), list(self.drafts)
        other.call_ids, other.approval_ids = dict(self.call_ids), dict(self.approval_ids)
        return other

    def line(self, event: Event) -> str:
        """Return an event as tests write it."""
        name = event.wire.removeprefix("ai.")
        match event:
            case CommandRejected() | TriggerSkipped() | ExecutionFailed():
                return f"{name} ({event.reason})"
            case UsageMetered():
                return f"{name} {event.step} ({event.reason})"
            case ToolDenied():
                return f"{name} {self.named(event.call_id)} ({event.reason})"
            case StepAttemptFailed():
                return f"{name} {event.step} ({event.reason})"
            case StepObserved() | StepThought():
                return f"{name} {event.step}"
        call_id: CallId | None = getattr(event, "call_id", None)
        return name if call_id is None else f"{name} {self.named(call_id)}"

    def named(self, call_id: CallId) -> str:
        """Return the name that the model gave a call."""
        return next((name for name, id_ in self.call_ids.items() if id_ == call_id), call_id)

    def note(self, event: Event) -> None:
        """Learn the names of what an event begins, for the commands that come after it."""
        self.events.append(event)
        match event:
            case ExecutionStarted():
                self.run_id, self.step = event.execution_id, 0
            case StepObserved():
                self.step = event.step
            case StepThought() | DelegationRuled():
                self.call_ids |= {call.model_call_id: call.call_id for call in event.calls}
            case ApprovalRequested():
                self.approval_ids[self.named(event.call_id)] = event.approval_id

    def _fold(self, draft: Draft) -> None:
        record = Record(EVENTS, 0, len(self.drafts), 0, draft.key, draft.value, draft.headers)
        verdict, head = judge(self.folded.head, record)
        assert verdict == "counts"
        read = decode_event(record)
        evolve(self.folded, read.event, read.at_ms, read.correlation_id)
        self.folded.head, self.folded.cause = head, read.causation_offset
