"""What must hold of the log itself: nothing lost, every reply paid for once, no effect without a request or its grant.

Everything here is about records that count. Events may break the rules that are checked, so nothing is taken
for granted of their order, and folding them may fail.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from processors.runtime.audit_grants import GrantAudit
from processors.runtime.awaiting import awaiting
from processors.runtime.reading import fold, read_command
from processors.runtime.stored import cause_of
from processors.runtime.stream import Stream
from schemas import events as ev
from schemas.commands import RecordAttempt, RecordModelFailure, RecordThought, StartExecution
from schemas.envelope import CommandEnvelope, EventEnvelope
from schemas.errors import DecodeError
from schemas.ids import CallId, ExecutionId
from streams.audit import Finding
from streams.chain import Heads
from streams.log import Record
from streams.records import decode_event
from streams.topics import is_genesis

End = ev.ExecutionCompleted | ev.ExecutionFailed | ev.ExecutionCancelled | ev.ExecutionTimedOut
Place = tuple[bytes, int]  # a stream's key, and the offset of a command


@dataclass(slots=True)
class _Known:
    """What is known of a stream: its site, and the command of its first event."""

    site_id: str
    since: int


@dataclass(slots=True)
class _Call:
    """What became of a tool call."""

    requested: int = 0
    started: int = 0
    results: int = 0


class LogAudit:
    """Audits one partition: first all of its events, then its commands."""

    def __init__(self, partition: int) -> None:
        """Start before the first record."""
        self.lost = Finding("I1", "nothing lost: a trigger starts one run or is skipped, a run ends once or waits")
        self.folded = Finding("I4", "fold(log) = live state = rows")
        self.paid = Finding("I6", "every reply is metered once")
        self.effects = Finding("I7", "no result without a request, one a call")
        self._grants = GrantAudit()
        self._where = f"partition {partition}"
        self._heads = Heads()
        self._streams: dict[bytes, Stream] = {}
        self._unfoldable: set[bytes] = set()
        self._known: dict[bytes, _Known] = {}
        self._answers: dict[Place, list[tuple[str, str]]] = {}
        self._triggers: dict[tuple[bytes, str, str], int] = {}  # by the first command that was answered
        self._due: list[tuple[Place, str]] = []  # by commands of schedules, and where it stands
        self._starts: Counter[tuple[bytes, str, str]] = Counter()
        self._runs: dict[ExecutionId, list[int]] = {}  # started, ended
        self._metered: Counter[tuple[bytes, str]] = Counter()
        self._calls: dict[CallId, _Call] = {}
        self._keys: dict[str, CallId] = {}
        self._last_cause = -1

    # --- events -----------------------------------------------------------------------------------------------------

    def add_event(self, record: Record) -> None:
        """Take the next record of `ai.events`."""
        if is_genesis(record) or record.key is None or not self._heads.admit(record):
            return
        self._last_cause = max(self._last_cause, cause_of(record))
        try:
            envelope = decode_event(record)
        except DecodeError as error:
            self.folded.violated(f"{self._where}, offset {record.offset} counts and can't be read: {error}")
            self._unfoldable.add(record.key)
            return
        self._known.setdefault(record.key, _Known(envelope.site_id, envelope.causation_offset))
        self._fold(record)
        self._look(record.key, envelope)
        self._grants.look(envelope, self._at(envelope))

    def _fold(self, record: Record) -> None:
        key = record.key or b""
        if key in self._unfoldable:
            return
        try:
            fold(self._streams, record)
        except Exception as error:  # noqa: BLE001 - what breaks it is what is looked for
            self._unfoldable.add(key)
            self.folded.violated(f"{self._where}, offset {record.offset} can't be folded: {error!r}")

    def _look(self, key: bytes, envelope: EventEnvelope) -> None:
        event = envelope.event
        match event:
            case ev.ExecutionStarted(trigger=trigger):
                self._runs.setdefault(event.execution_id, [0, 0])[0] += 1
                self._starts[key, trigger.source, trigger.id] += 1
                self._answer(key, envelope, trigger.source, trigger.id)
            case ev.TriggerSkipped(trigger_source=source, trigger_id=id_):
                self._answer(key, envelope, source, id_)
            case ev.ScheduleAdvanced(schedule=schedule, due_ms=due_ms) if due_ms is not None:
                self._due.append(((key, envelope.causation_offset), f"{self._at(envelope)}: {schedule!r}"))
            case ev.ExecutionCompleted() | ev.ExecutionFailed() | ev.ExecutionCancelled() | ev.ExecutionTimedOut():
                self._runs.setdefault(event.execution_id, [0, 0])[1] += 1
            case ev.StepThought() | ev.StepModelFailed() | ev.StepAttemptFailed() | ev.UsageMetered():
                self._meter(key, envelope, event)
            case ev.ToolRequested() | ev.ToolStarted() | ev.ToolCompleted() | ev.ToolFailed() | ev.ToolInDoubt():
                self._call(envelope, event)
            case _:
                pass

    def _answer(self, key: bytes, envelope: EventEnvelope, source: str, id_: str) -> None:
        self._answers.setdefault((key, envelope.causation_offset), []).append((source, id_))
        self._triggers.setdefault((key, source, id_), envelope.causation_offset)

    def _meter(
        self,
        key: bytes,
        envelope: EventEnvelope,
        event: ev.StepThought | ev.StepModelFailed | ev.StepAttemptFailed | ev.UsageMetered,
    ) -> None:
        if event.usage is None:
            refused = isinstance(event, ev.StepAttemptFailed) and not event.unsettled
            self.paid.count({"unsettled": int(not refused)})
            return
        self._metered[key, event.reply_id] += 1
        self.paid.count({"replies": 1})
        if self._metered[key, event.reply_id] == 2:
            self.paid.violated(f"{self._at(envelope)}: the reply {event.reply_id!r} is metered a second time")

    def _call(
        self,
        envelope: EventEnvelope,
        event: ev.ToolRequested | ev.ToolStarted | ev.ToolCompleted | ev.ToolFailed | ev.ToolInDoubt,
    ) -> None:
        call, where = self._calls.setdefault(event.call_id, _Call()), self._at(envelope)
        named = f"the call {event.call_id!r} of {event.tool!r}"
        match event:
            case ev.ToolRequested(idempotency_key=key):
                call.requested += 1
                self.effects.count({"requests": 1})
                if call.requested > 1:
                    self.effects.violated(f"{where}: {named} is requested a second time")
                elif self._keys.setdefault(key, event.call_id) != event.call_id:
                    self.effects.violated(f"{where}: {named} has the idempotency key of {self._keys[key]!r}")
                return
            case ev.ToolStarted():
                call.started += 1
                if call.started > 1:
                    self.effects.violated(f"{where}: {named} can't be repeated and is started a second time")
            case ev.ToolInDoubt():
                if not call.started:
                    self.effects.violated(f"{where}: {named} is in doubt and was never started")
            case ev.ToolCompleted() | ev.ToolFailed():
                call.results += 1
                self.effects.count({"results": 1})
                if call.results > 1:
                    self.effects.violated(f"{where}: {named} has a second result")
        if not call.requested:
            self.effects.violated(f"{where}: {event.wire} of {named} without an earlier request")

    def _at(self, envelope: EventEnvelope) -> str:
        return f"stream {envelope.agent_id} at sequence {envelope.sequence} ({self._where}, offset {envelope.offset})"

    # --- commands ---------------------------------------------------------------------------------------------------

    def add_command(self, record: Record, letters: Collection[str] | None) -> None:
        """Take the next record of `ai.commands`, after all events.

        Args:
            record: The record.
            letters: The ids of all dead letters; None if some may have been deleted.
        """
        if is_genesis(record):
            return
        try:
            envelope = read_command(record)
        except DecodeError:
            self._dead(record, letters)
            return
        known = self._known.get(record.key or b"")
        if isinstance(envelope.command, StartExecution | RecordThought | RecordModelFailure | RecordAttempt):
            if known is None or known.since >= record.offset or known.site_id != envelope.site_id:
                self._dead(record, letters)
            elif isinstance(envelope.command, StartExecution):
                self._start(record, envelope, envelope.command)
            else:
                self._reply(record, envelope.command)

    def _dead(self, record: Record, letters: Collection[str] | None) -> None:
        self.lost.count({"dead_letters": 1})
        id_ = f"{record.topic}/{record.partition}/{record.offset}"
        if letters is not None and record.offset <= self._last_cause and id_ not in letters:
            self.lost.violated(f"{id_} can't be decided, and is not among the dead letters")

    def _start(self, record: Record, envelope: CommandEnvelope, command: StartExecution) -> None:
        key, trigger = record.key or b"", (command.trigger.source, command.trigger.id)
        answers = self._answers.get((key, record.offset), [])
        where = f"ai.commands, {self._where}, offset {record.offset}: the trigger {trigger} of {envelope.agent_id}"
        self.lost.count({"triggers": 1})
        if len(answers) > 1:
            self.lost.violated(f"{where} led to {len(answers)} starts or skips")
        elif answers:
            if answers[0] != trigger:
                self.lost.violated(f"{where} led to a start or skip of {answers[0]}")
        elif self._triggers.get((key, *trigger), record.offset) < record.offset:
            self.lost.count({"repeated": 1})
        elif record.offset > self._last_cause:
            self.lost.count({"undecided": 1})
        else:
            self.lost.violated(f"{where} led to nothing")

    def _reply(self, record: Record, command: RecordThought | RecordModelFailure | RecordAttempt) -> None:
        if command.usage is None or record.offset > self._last_cause:
            return
        if not self._metered[record.key or b"", command.reply_id]:
            self.paid.violated(
                f"ai.commands, {self._where}, offset {record.offset}: {command.reply_id!r} is not metered"
            )

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> list[Finding]:
        """Judge what only shows at the end, and return what was found."""
        for (key, source, id_), starts in self._starts.items():
            if starts > 1:
                self.lost.violated(
                    f"{self._where}: the trigger {(source, id_)} of {key.decode()} started {starts} runs"
                )
        for place, where in self._due:
            if len(self._answers.get(place, ())) != 1:
                self.lost.violated(f"{where} was due, which led to no start or skip, or to several")
        live = {run.id: run for stream in self._streams.values() for run in stream.runs.values()}
        for run_id, (started, ended) in self._runs.items():
            self.lost.count({"runs": 1, "live": int(not ended)})
            if started != 1:
                self.lost.violated(f"the run {run_id} ({self._where}) has {started} starts")
            if ended > 1:
                self.lost.violated(f"the run {run_id} ({self._where}) has {ended} ends")
            elif ended == 0:
                run = live.get(run_id)
                if run is None or not (awaiting(run) or run.unsettled):
                    self.lost.violated(f"the run {run_id} ({self._where}) has no end, and waits for nothing")
        self.effects.count({"calls": len(self._calls)})
        return [self.lost, self.folded, self.paid, self.effects, self._grants.finding]
