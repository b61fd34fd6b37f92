"""Deciding again: whether the stored events are, byte for byte, what follows from the stored commands.

The state is that of the stored events, so one difference does not hide the next. Where a stored record does not count
any more (a byte of it was changed), what was decided anew stands in for it, and whatever follows is compared too.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from processors.runtime.decision import Decision, apply, decision_of
from processors.runtime.reading import asked, fold
from processors.runtime.stored import Stored
from processors.runtime.stream import Stream
from schemas.envelope import CommandEnvelope
from schemas.errors import DecodeError, OfflineError
from schemas.events import Event, ExecutionStarted
from schemas.ids import ExecutionId
from streams.log import Draft, Record
from streams.verify import stream_name

INTERNAL = b'"reason":"internal"'
TOLD_CHARS = 400  # of a value that differs: enough to see where


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing in which a decision made anew is not what stands in the log.

    `offset` is of the record in `ai.events`, None where there is none; `part` is `record`, `key`, `value` or a header.
    """

    partition: int
    offset: int | None
    command_offset: int
    stream: str
    sequence: int
    part: str
    expected: str
    found: str
    runs: frozenset[ExecutionId]

    def __str__(self) -> str:
        """Say it in a line."""
        where = f"offset {self.offset} of ai.events" if self.offset is not None else "no record of ai.events"
        return (
            f"{where} (partition {self.partition}, stream {self.stream}, sequence {self.sequence}; from command "
            f"{self.command_offset}): {self.part}: expected {self.expected}, found {self.found}"
        )


@dataclass(slots=True)
class Redecided:
    """What came of deciding again. Of `runs`, by id, whether all that was compared of them is identical.

    `given` events are of commands that `ai.commands` no longer keeps, `given_runs` those that ended there; `pending`
    commands are not decided yet; `internal` ones were decided as such, which is taken as given. `starts` has the
    partitions whose first commands are no longer kept, and the offset of the first that is.
    """

    commands: int = 0
    events: int = 0
    given: int = 0
    given_runs: int = 0
    pending: int = 0
    internal: int = 0
    dead_letters: int = 0
    runs: dict[ExecutionId, bool] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    def add(self, other: "Redecided") -> None:
        """Add what came of another partition."""
        for name in ("commands", "events", "given", "given_runs", "pending", "internal", "dead_letters"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.runs |= other.runs
        self.starts |= other.starts
        self.differences += other.differences


class Redecision:
    """Decides the commands of one partition again, in their order."""

    def __init__(self, partition: int, stored: Stored, first: int, keys: Collection[bytes] | None = None) -> None:
        """Fold what can't be decided again: the events of commands before the offset `first`.

        Args:
            partition: Its number.
            stored: All of its events.
            first: The first offset that `ai.commands` still holds.
            keys: The streams to decide; all, if None. `stored` may have more.

        Raises:
            DecodeError: a record that counts can't be read by this release.
        """
        self.report = Redecided()
        self.streams: dict[bytes, Stream] = {}
        if first > 0:
            self.report.starts[partition] = first
        self._partition, self._stored, self._keys = partition, stored, keys
        self._begun: set[ExecutionId] = set()  # before `first`
        for record in stored.before(first):
            fold(self.streams, record)
            self.report.given += 1
            if record.header("ce_type") == ExecutionStarted.wire.encode():
                self._begun.update(_runs_of((record,), ()))
        self.report.given_runs = len(self._begun) - sum(stream.live_runs() for stream in self.streams.values())

    def take(self, record: Record) -> None:
        """Decide the next record of `ai.commands`, and compare.

        Raises:
            OfflineError: deciding reached for the network.
        """
        if self._keys is not None and record.key not in self._keys:
            return
        try:
            found = asked(self.streams, record)
        except DecodeError:
            self.report.dead_letters += 1
            return
        if found is None:
            return
        stream, envelope = found
        self.report.commands += 1
        self._handle(stream, envelope, self._stored.take(record.key or b"", record.offset))

    def _handle(self, stream: Stream, envelope: CommandEnvelope, counted: Sequence[Record]) -> None:
        made = self._compared(*_decided(stream, envelope), counted)
        if made.unlike is not None and (failed := self._as_failed(stream, envelope, counted)) is not None:
            made = failed
            self.report.internal += 1
        elif made.unlike is None and made.failure is not None:
            self.report.internal += 1
        elif made.decision.drafts and not any(made.standing) and envelope.offset > self._stored.last_cause:
            self.report.pending += 1
            apply(stream, envelope, made.decision)
            return
        self._note(stream, envelope, made)
        self._go_on(stream, envelope, made)

    def _compared(self, decision: Decision, failure: str | None, counted: Sequence[Record]) -> "_Compared":
        standing = self._stored.standing(decision.drafts, counted)
        return _Compared(decision, failure, counted, standing, _first_unlike(decision.drafts, standing, counted))

    def _as_failed(self, stream: Stream, envelope: CommandEnvelope, counted: Sequence[Record]) -> "_Compared | None":
        """Return what stands in the log, if a failure leads to it: no function of the log, so it is believed."""
        made = self._compared(decision_of(stream, envelope, internal=True), None, counted)
        said = any(record is not None and INTERNAL in (record.value or b"") for record in made.standing)
        return made if said and made.unlike is None else None

    def finish(self, end: int) -> Redecided:
        """Return the report. What is left of commands before the offset `end` follows from no command."""
        for record in self._stored.left(end):
            stream = stream_name(record.key or b"")
            runs = frozenset(_runs_of((record,), ()))
            cause = int(record.header("ce_causationoffset") or b"0")
            sequence = int(record.header("ce_sequence") or b"0")
            told = Difference(
                self._partition, record.offset, cause, stream, sequence, "record", "none", _named(record), runs
            )
            self._differs(told)
        return self.report

    def _note(self, stream: Stream, envelope: CommandEnvelope, made: "_Compared") -> None:
        runs = frozenset(_runs_of((), made.decision.events))
        for run_id in runs & self._begun | frozenset(_started(made.decision.events)):
            self.report.runs.setdefault(run_id, True)
        if made.unlike is None:
            self.report.events += len(made.decision.drafts)
            return
        self.report.events += made.unlike
        draft, record = made.first_unlike(made.unlike)
        part, expected, found = _how(draft, record)
        difference = Difference(
            self._partition,
            record.offset if record is not None else None,
            envelope.offset,
            stream_name(envelope.agent_id.encode()),
            stream.head.sequence + 1 + made.unlike,
            part,
            expected if made.failure is None else f"{expected} (deciding failed: {made.failure})",
            found,
            runs | frozenset(_runs_of(made.counted, ())),
        )
        self._differs(difference)

    def _go_on(self, stream: Stream, envelope: CommandEnvelope, made: "_Compared") -> None:
        """Bring the stream to where the log is: by what stands there, or where that is lost, by what was decided."""
        if made.unlike is not None:
            lost = made.unlike >= len(made.counted) and not self._stored.goes_on(envelope.agent_id.encode())
            if not lost:
                for record in made.counted:
                    fold(self.streams, record)
                return
        apply(stream, envelope, made.decision)

    def _differs(self, difference: Difference) -> None:
        self.report.differences.append(difference)
        for run_id in difference.runs & self.report.runs.keys():
            self.report.runs[run_id] = False


@dataclass(frozen=True, slots=True)
class _Compared:
    """A decision made anew and why if only as a failure's, what counts of its command, and what stands in its place.

    `unlike` is the index of the first draft or record that has not its like; None if all have.
    """

    decision: Decision
    failure: str | None
    counted: Sequence[Record]
    standing: Sequence[Record | None]
    unlike: int | None

    def first_unlike(self, index: int) -> tuple[Draft | None, Record | None]:
        """Return the draft and the record at `index`, where there are some."""
        if index < len(self.decision.drafts):
            return self.decision.drafts[index], self.standing[index]
        return None, self.counted[index]


def _decided(stream: Stream, envelope: CommandEnvelope) -> tuple[Decision, str | None]:
    """Return the decision as the owner makes it, and why if it is only that of a failure."""
    try:
        return decision_of(stream, envelope), None
    except OfflineError:
        raise
    except Exception as error:  # noqa: BLE001 - the owner goes on after any, and so must whoever checks it
        return decision_of(stream, envelope, internal=True), f"{type(error).__name__}: {error}"


def _equal(draft: Draft, record: Record | None) -> bool:
    return (
        record is not None
        and record.value == draft.value
        and record.key == draft.key
        and tuple(record.headers) == tuple(draft.headers)
    )


def _first_unlike(drafts: Sequence[Draft], standing: Sequence[Record | None], counted: Sequence[Record]) -> int | None:
    for index, (draft, record) in enumerate(zip(drafts, standing, strict=True)):
        if not _equal(draft, record):
            return index
    return len(drafts) if len(counted) > len(drafts) else None


def _how(draft: Draft | None, record: Record | None) -> tuple[str, str, str]:
    """Return in which part a record is not what was decided, what was expected, and what was found."""
    if draft is None or record is None:
        return "record", "none" if draft is None else _named(draft), "none" if record is None else _named(record)
    if draft.key != record.key:
        return "key", _told(draft.key), _told(record.key)
    if draft.value != record.value:
        at = _first_byte(draft.value or b"", record.value or b"")
        return f"value, byte {at}", _told(draft.value, at), _told(record.value, at)
    for expected, found in zip(draft.headers, record.headers, strict=False):
        if expected[0] != found[0]:
            return "headers", f"{expected[0]!r} here", f"{found[0]!r}"
        if expected[1] != found[1]:
            return f"header {expected[0]!r}", _told(expected[1]), _told(found[1])
    return "headers", f"{len(draft.headers)} of them", f"{len(record.headers)}"


def _named(record: Record | Draft) -> str:
    headers = dict(record.headers)
    return (
        f"{headers.get('ce_type', b'?').decode(errors='replace')} {headers.get('ce_id', b'?').decode(errors='replace')}"
    )


def _first_byte(expected: bytes, found: bytes) -> int:
    pairs = zip(expected, found, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(expected), len(found)))


def _told(raw: bytes | None, at: int = 0) -> str:
    """Return bytes for a person: those around the offset `at`, if they are many."""
    if raw is None:
        return "nothing"
    if len(raw) <= TOLD_CHARS:
        return repr(raw)[1:]
    begin = max(0, at - TOLD_CHARS // 4)
    return f"…{repr(raw[begin : begin + TOLD_CHARS // 2])[1:]}…"


def _started(events: Sequence[Event]) -> Iterator[ExecutionId]:
    return (event.execution_id for event in events if isinstance(event, ExecutionStarted))


def _runs_of(records: Sequence[Record], events: Sequence[Event]) -> Iterator[ExecutionId]:
    for event in events:
        run_id: ExecutionId | None = getattr(event, "execution_id", None)
        if run_id is not None:
            yield run_id
    for record in records:
        subject = record.header("ce_subject")
        if subject is not None and subject != record.key:
            yield ExecutionId(subject.decode(errors="replace"))
