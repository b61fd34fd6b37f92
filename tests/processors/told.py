"""A `Spec` that keeps its commands too: a history as both topics would hold it, to decide again."""

from collections.abc import Iterable, Sequence
from typing import Self

from processors.runtime.redecide import Redecided, Redecision
from processors.runtime.stored import Stored
from processors.runtime.stream import decide_internal
from schemas.envelope import CommandEnvelope
from schemas.events import Event
from schemas.ids import CommandId, event_id_of, timed_id
from streams.log import Record
from streams.records import Asked, Said, decode_command, encode_command, encode_event
from streams.topics import COMMANDS, EVENTS
from tests.processors import random_asks
from tests.processors.asks import (
    activate,
    approve,
    call,
    context,
    create,
    doubt,
    resolve_doubt,
    result,
    start,
    start_tool,
    thought,
)
from tests.processors.samples import AGENT, APPROVING, SITE, USER, WORKER
from tests.processors.spec import SECOND_MS, Ask, Spec


class Told(Spec):
    """A stream after some commands, and the commands."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[Record] = []

    def envelope(self, ask: Ask, *, actor: str = WORKER, later_ms: int = SECOND_MS) -> CommandEnvelope:
        command = ask if not callable(ask) else ask(self)
        id_ = CommandId(timed_id(self.at_ms, "command", self.offset))
        draft = encode_command(Asked(id_, SITE, AGENT, actor, "correlation-1", command))
        at_ms = self.at_ms + later_ms
        self.commands.append(Record(COMMANDS, 0, self.offset, at_ms, draft.key, draft.value, draft.headers))
        return decode_command(self.commands[-1])

    def fail(self, ask: Ask, actor: str = WORKER) -> None:
        """Have one command decided as if deciding it had failed."""
        envelope = self.envelope(ask, actor=actor)
        at_ms = max(envelope.at_ms, self.stream.at_ms)
        self.apply(envelope, decide_internal(self.stream, envelope, at_ms), at_ms)
        self.at_ms, self.offset = envelope.at_ms, envelope.offset + 1

    def forge(self, envelope: CommandEnvelope, event: Event) -> None:
        """Have an event stand in the log, with a chain that continues, without folding it."""
        at_ms = max(envelope.at_ms, self.stream.at_ms)
        id_ = event_id_of(at_ms, envelope.id, envelope.offset, self.stream.head.sequence)
        said = Said(id_, SITE, AGENT, at_ms, envelope.id, envelope.offset, "correlation-1", envelope.actor, None, event)
        draft, self.stream.head = encode_event(said, self.stream.head)
        self.drafts.append(draft)

    def tell(self, story: Iterable[random_asks.Said]) -> Self:
        """Handle a story."""
        for said in story:
            self.handle(said.ask, said.actor, said.later_ms)
        return self

    def copy(self) -> Self:
        other = super().copy()
        other.commands = list(self.commands)
        return other

    def records(self) -> list[Record]:
        """Return the events as `ai.events` would hold them."""
        return [Record(EVENTS, 0, n, 0, d.key, d.value, d.headers) for n, d in enumerate(self.drafts)]


def active() -> Told:
    """How most stories begin."""
    return Told().given(create(), activate())


def whole_run() -> Told:
    """A run with a tool call, an approval and a doubt, and one that is denied."""
    told = active().given(start(), context(), thought(call("a")), result("a"))
    told = told.given(thought(call("b", "wire_money", id="7"), text="so"))
    told = told.given(approve("b"), actor=APPROVING)
    told = told.given(start_tool("b"), doubt("b"))
    told = told.given(resolve_doubt("b", done=True, output={"id": 7}), actor=USER)
    told = told.given(thought(text="Done."), start("t2"), context(), thought(call("c", "send_mail", id="1")))
    return told.given(approve("c", approved=False), actor=APPROVING)


def redecided(commands: Sequence[Record], records: Sequence[Record], first: int = 0) -> Redecided:
    """Return what comes of deciding `commands` from the offset `first` on against these events."""
    stored = Stored()
    for offset, record in enumerate(records):
        stored.add(record._replace(offset=offset))
    redecision = Redecision(0, stored, first)
    for command in commands:
        if command.offset >= first:
            redecision.take(command)
    return redecision.finish(len(commands))
