"""One partition, two owners that need not be at the same place, and everything that may come between them.

The owner decides as commands come; its rival decides the same ones later. The owner may forget its state and restore
it from the log or from an image, be given commands again, and fail on one. Whatever the order: the bytes are the same.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processors.runtime.awaiting import awaiting
from processors.runtime.decision import apply, decision_of
from processors.runtime.images import read_image, take_image
from processors.runtime.reading import asked, fold
from processors.runtime.stream import Stream
from schemas.commands import AnyCommand
from schemas.events import Event
from schemas.ids import CommandId, timed_id
from streams.log import Draft, Record
from streams.records import Asked, encode_command
from streams.topics import COMMANDS, EVENTS
from tests.processors import asks
from tests.processors.random_asks import Said, sayings
from tests.processors.samples import AGENT, SITE, START_MS, USER
from tests.processors.spec import Spec

Streams = dict[bytes, Stream]
KEY = AGENT.encode()


class TwoOwners(RuleBasedStateMachine):
    """`commands` and `log` are the two topics; `failed` has the offsets that were decided as `internal`."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[Record] = []
        self.log: list[Draft] = []
        self.failed: set[int] = set()
        self.owner: Streams = {}
        self.rival: Streams = {}
        self.rival_at = 0
        self.names = Spec()  # what people call the things that the log knows by ids
        self.at_ms = START_MS
        for first in (asks.create(), asks.activate()):
            self._ask(first, USER, 0)

    # --- what may happen --------------------------------------------------------------------------------------------

    @rule(said=sayings)
    def somebody_says_something(self, said: Said) -> None:
        self._say(said)

    @rule(said=sayings)
    def the_owner_fails_on_a_command(self, said: Said) -> None:
        self.failed.add(len(self.commands))
        self._say(said)

    @rule(back=st.integers(0, 30), later_ms=st.sampled_from((0, 1_000)))
    def a_command_lands_again(self, back: int, later_ms: int) -> None:
        old = self.commands[-1 - back % len(self.commands)]
        self.at_ms += later_ms
        self._land(old._replace(offset=len(self.commands), at_ms=self.at_ms))

    @rule()
    def the_owner_restores_from_the_log(self) -> None:
        restored: Streams = {}
        for offset, draft in enumerate(self.log):
            assert fold(restored, Record(EVENTS, 0, offset, 0, draft.key, draft.value, draft.headers))
        assert restored == self.owner
        self.owner = restored

    @rule()
    def the_owner_restores_from_an_image(self) -> None:
        image = take_image(self.owner)
        restored = read_image(b"".join(blob for _, blob in image.core), image.buckets)
        assert restored == self.owner
        self.owner = restored

    @rule(back=st.integers(0, 30))
    def the_owner_reads_on_from_further_back(self, back: int) -> None:
        for record in self.commands[-1 - back % len(self.commands) :]:
            if record.offset <= self.owner[KEY].cause:
                assert asked(self.owner, record) is None

    @precondition(lambda self: self.rival_at < len(self.commands))
    @rule(count=st.integers(1, 20))
    def the_rival_decides_some_more(self, count: int) -> None:
        for record in self.commands[self.rival_at : self.rival_at + count]:
            begun = self._sequence(self.rival)
            written = self._decide(self.rival, record)
            assert written == self.log[begun : begun + len(written)]
            self.rival_at = record.offset + 1

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def the_log_is_as_long_as_the_owner_s_stream(self) -> None:
        assert self._sequence(self.owner) == len(self.log)

    @invariant()
    def what_is_awaited_follows_from_the_state_alone(self) -> None:
        for run in self.owner[KEY].runs.values():
            assert awaiting(run) == awaiting(run)
            assert run.ended or awaiting(run) or run.unsettled

    def teardown(self) -> None:
        """In the end the rival has written the same log."""
        if self.commands[self.rival_at :]:
            self.the_rival_decides_some_more(len(self.commands))
        assert self.rival == self.owner

    # --- how --------------------------------------------------------------------------------------------------------

    def _say(self, said: Said) -> None:
        self.names.stream, self.names.at_ms = self.owner[KEY], self.at_ms
        command = said.ask(self.names) if callable(said.ask) else said.ask
        self._ask(command, said.actor, said.later_ms)

    def _ask(self, command: AnyCommand, actor: str, later_ms: int) -> None:
        self.at_ms = max(0, self.at_ms + later_ms)
        offset = self.names.offset = len(self.commands)
        id_ = CommandId(timed_id(START_MS, "command", offset))
        draft = encode_command(Asked(id_, SITE, AGENT, actor, f"correlation-{offset % 3}", command))
        self._land(Record(COMMANDS, 0, offset, self.at_ms, draft.key, draft.value, draft.headers))

    def _land(self, record: Record) -> None:
        self.commands.append(record)
        self.log += self._decide(self.owner, record, self.names)

    def _decide(self, streams: Streams, record: Record, told: Spec | None = None) -> list[Draft]:
        found = asked(streams, record)
        assert found is not None, "what lands now was never decided before"
        stream, envelope = found
        decision = decision_of(stream, envelope, internal=record.offset in self.failed)
        apply(stream, envelope, decision)
        events: tuple[Event, ...] = decision.events
        for event in events if told is not None else ():
            self.names.note(event)
        return list(decision.drafts)

    def _sequence(self, streams: Streams) -> int:
        return streams[KEY].head.sequence if KEY in streams else 0


TestTwoOwners = TwoOwners.TestCase
TestTwoOwners.settings = settings(
    max_examples=6,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
