"""The loop of one partition: restore, catch up, read, decide, append, effects. One recovery path for everything.

No effect starts before the events that ask for it are acknowledged and known to count.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from processors.runtime.awaiting import Effect, awaiting
from processors.runtime.checkpoints import Checkpoints, End, end_at
from processors.runtime.decision import Decision, apply, decision_of
from processors.runtime.effects import Effects
from processors.runtime.log_identity import LogIds, check_causes, check_image, check_same_log, read_log_ids
from processors.runtime.process import Process
from processors.runtime.reading import asked, fold
from processors.runtime.schedules import Schedules, may_change_schedules
from processors.runtime.stream import Stream, run_of
from schemas.envelope import CommandEnvelope
from schemas.errors import AppendError, DecodeError, RecordTooLargeError, RivalError, UnavailableError
from schemas.ids import ExecutionId
from streams.chain import CHAIN, NO_HEAD, Head, judge, stamp
from streams.dead_letters import send_dead_letter
from streams.log import Draft, Log, Member, Record
from streams.records import decode_event
from streams.settling import settled_bounds
from streams.topics import COMMANDS, EVENTS

logger = logging.getLogger(__name__)

BATCH_COMMANDS = 500  # decided before an append: enough to fill a batch, few enough to answer quickly
BATCH_BYTES = 768 * 1024  # a batch goes out when it is this large; twice that stays under the topic's 2 MiB
IDLE_S = 0.5  # how long a read waits; then the owner looks whether somebody else wrote
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
RESTORE_RECORDS = 2_000  # read at a time while restoring
CHECKPOINT_EVENTS = 5_000  # an image is due so often: it takes 10 ms, and so many are folded in a quarter of a second
CHECKPOINT_S = 600.0  # or so often, if anything was read: far below what `ai.commands` is kept
LAST_CHECKPOINT_EVENTS = 1_000  # at shutdown, fewer are not worth an image


class PoisonError(Exception):
    """A command broke `evolve` or `awaiting`: the state is dropped, and it is decided as `internal`."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


@dataclass(slots=True)
class Batch:
    """What one read led to: records to append, and the streams' heads before them."""

    drafts: list[Draft] = field(default_factory=list)
    size: int = 0
    before: dict[bytes, Head] = field(default_factory=dict)
    touched: dict[ExecutionId, tuple[bytes, tuple[Effect, ...]]] = field(default_factory=dict)
    agents: dict[bytes, None] = field(default_factory=dict)  # those whose schedules may have changed


@dataclass(slots=True)
class Counters:
    """What a partition did since its process started."""

    commands: int = 0
    events: int = 0
    ignored: int = 0
    dead_letters: int = 0
    restores: int = 0


class Partition:
    """Owns one partition of `ai.commands` and `ai.events` for as long as the group lets it."""

    def __init__(self, number: int, process: Process, member: Member) -> None:
        """Own nothing yet: `run` restores."""
        self.number = number
        self.counters = Counters()
        self.streams: dict[bytes, Stream] = {}
        self._log: Log = process.log
        self._member = member
        self._effects = Effects(process, number, self._may_begin)
        self._schedules = Schedules(process, number, self._may_begin)
        self._held = asyncio.Event()
        self._returned = False
        self._next_command = 0
        self._events_end = 0
        self._goal = 0
        self._caught_up = False
        self._poison: set[int] = set()
        self._checkpoints = Checkpoints(process.log, number)
        self._log_ids: LogIds | None = None
        self._imaged_s = 0.0
        self._known_to = 0
        self._stopping = False

    # --- the group --------------------------------------------------------------------------------------------------

    def assigned(self) -> None:
        """The group gave the partition to this process: look at the log's end before going on."""
        self._returned = True
        self._held.set()

    def revoked(self) -> None:
        """The group took the partition: read no more, but keep the state, since it often comes back at once."""
        self._held.clear()

    def _is_held(self) -> bool:
        return self._held.is_set() and self._member.holds(self.number)

    def _may_begin(self) -> bool:
        """Whether an effect may begin: the partition is held, and what came while it was elsewhere is decided.

        What waited for the partition to return may have been done by another owner meanwhile: its result is then
        among those commands.
        """
        return self._caught_up and not self._returned and self._is_held()

    def stop(self) -> None:
        """End after the present round, with an image of the state."""
        self._stopping = True
        self._held.set()

    def _goes_on(self) -> bool:
        return not self._stopping

    def drop(self) -> None:
        """Forget the state and cancel the effects."""
        self._effects.drop()
        self._schedules.drop()
        self._checkpoints.drop()
        self.streams = {}

    @property
    def caught_up(self) -> bool:
        """Whether every command that stood in the log at assignment is decided."""
        return self._caught_up

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Own the partition until stopped; whatever fails, the state is dropped and restored from the log.

        Raises:
            LogReplacedError, LogTruncatedError: the log is not the one that was read: a person must look.
        """
        retry_s = FIRST_RETRY_S
        try:
            while self._goes_on():
                try:
                    await self._held.wait()
                    await self._restore()
                    retry_s = FIRST_RETRY_S
                    while self._goes_on():
                        await self._round()
                    await self._checkpoint_at_the_end()
                except PoisonError as poison:
                    self._poison.add(poison.offset)
                except (AppendError, RivalError, UnavailableError) as error:
                    logger.warning("partition %d restores from the log: %s", self.number, error)
                    await asyncio.sleep(retry_s)
                    retry_s = min(retry_s * 2, LAST_RETRY_S)
                self.drop()
        finally:
            self.drop()

    async def _restore(self) -> None:
        self._caught_up = self._returned = False
        self.counters.restores += 1
        ids = await read_log_ids(self._log, self.number)
        check_same_log(self._log_ids, ids, self.number)
        self._log_ids = ids
        image = await self._checkpoints.newest()
        end = image.end if image is not None else None
        events = await settled_bounds(self._log, EVENTS, self.number, end.events_offset if end else 0)
        commands = await settled_bounds(self._log, COMMANDS, self.number, end.commands_offset if end else 0)
        if image is not None:
            check_image(image.end, ids, events, commands, self.number)
        self.streams = image.streams if image is not None else {}
        self._events_end = image.end.events_offset if image is not None else 0
        self._next_command = image.end.commands_offset if image is not None else commands.start
        self._imaged_s = asyncio.get_running_loop().time()
        begun = self._events_end
        await self._read(events.end, self._fold)
        check_causes(self.streams.values(), commands, self.number)
        self._known_to = 1 + max((stream.cause for stream in self.streams.values()), default=-1)
        self._goal = commands.end
        self._member.seek(self.number, self._next_command)
        logger.info(
            "partition %d restored %d streams: an image at offset %d, then %d events; %d commands to look at",
            *(self.number, len(self.streams), begun, self._events_end - begun, self._goal - self._next_command),
        )

    def _checkpoint_if_due(self) -> None:
        """Take an image after many events, or after a while: commands are not kept for ever behind the last one."""
        if self._checkpoints.busy or not self.streams or self._next_command < self._known_to:
            return  # before it has passed by what was decided already, the next owner would have to do so again
        last, now_s = self._checkpoints.last, asyncio.get_running_loop().time()
        aged = now_s - self._imaged_s >= CHECKPOINT_S and (last is None or self._next_command > last.commands_offset)
        if aged or self._behind_image() >= CHECKPOINT_EVENTS:
            self._checkpoints.begin(self.streams, self._end())
            self._imaged_s = now_s

    async def _checkpoint_at_the_end(self) -> None:
        """Leave an image, unless the state is only on its way, or another process's by now."""
        if self._caught_up and self._member.holds(self.number):
            await self._checkpoints.settle()
            if self._behind_image() >= LAST_CHECKPOINT_EVENTS:
                await self._checkpoints.finish(self.streams, self._end())

    def _behind_image(self) -> int:
        """How many events the newest image lacks."""
        last = self._checkpoints.last
        return self._events_end - (last.events_offset if last is not None else 0)

    def _end(self) -> End:
        events, commands = self._log_ids or (None, None)
        return end_at(
            events_offset=self._events_end,
            events_log_id=events,
            commands_offset=self._next_command,
            commands_log_id=commands,
        )

    async def _round(self) -> None:
        await self._held.wait()
        if self._returned:
            self._returned = self._caught_up = False  # before anything is awaited: no effect may begin meanwhile
            check_same_log(self._log_ids, await read_log_ids(self._log, self.number), self.number)
            self._goal = (await self._log.bounds(COMMANDS, self.number)).end
            self._member.seek(self.number, self._next_command)
            await self._look_for_rivals()
        records: Sequence[Record] = ()
        if self._next_command < self._goal or self._caught_up:
            records = await self._member.poll(self.number, max_records=BATCH_COMMANDS, timeout_s=IDLE_S)
        if not records:
            await self._look_for_rivals()
        await self._handle(records)
        self._pass_gap()
        self._checkpoint_if_due()
        if not self._caught_up and self._next_command >= self._goal:
            self._caught_up = True
            self._start_all()

    def _pass_gap(self) -> None:
        """Go behind offsets that hold no command: everything that was read is handled by now."""
        reached = self._member.position(self.number)
        if reached is not None and not self._returned:
            self._next_command = max(self._next_command, reached)

    def _start_all(self) -> None:
        known: set[ExecutionId] = set()
        for stream in self.streams.values():
            known |= stream.runs.keys()
            self._schedules.reconcile(stream.agent)
            for run in stream.runs.values():
                self._effects.reconcile(stream.agent, run.id, run, awaiting(run))
        for run_id in self._effects.runs():  # what ended before all was caught up
            if run_id not in known:
                self._effects.forget(run_id)

    async def _handle(self, records: Sequence[Record]) -> None:
        # All are decoded before the first is decided: the same code over and over is twice as fast as by turns.
        found = [self._asked(record) for record in records]
        position = 0
        while position < len(records):
            batch = Batch()
            while position < len(records) and batch.size < BATCH_BYTES:
                record, asked_ = records[position], found[position]
                position += 1
                if isinstance(asked_, DecodeError):
                    self.counters.dead_letters += 1
                    await send_dead_letter(self._log, record, str(asked_))
                elif asked_ is not None:
                    self._decide(*asked_, record.key or b"", batch)
                self._next_command = record.offset + 1
            await self._append(batch)
            self._start(batch)

    def _asked(self, record: Record) -> tuple[Stream, CommandEnvelope] | DecodeError | None:
        try:
            return asked(self.streams, record)
        except DecodeError as error:
            return error

    # --- decide -----------------------------------------------------------------------------------------------------

    def _decide(self, stream: Stream, envelope: CommandEnvelope, key: bytes, batch: Batch) -> None:
        if envelope.offset <= stream.cause:
            return  # a rival decided it, and was followed since it was decoded
        self.counters.commands += 1
        decision = self._decision(stream, envelope)
        if decision.events:
            self._commit(stream, key, envelope, decision, batch)

    def _decision(self, stream: Stream, envelope: CommandEnvelope) -> Decision:
        if envelope.offset not in self._poison:
            for _ in range(2):  # once more in place: what failed by chance need not cost a restore
                try:
                    return decision_of(stream, envelope)
                except Exception:
                    logger.exception("command %d of partition %d can't be decided", envelope.offset, self.number)
        return decision_of(stream, envelope, internal=True)

    def _commit(self, stream: Stream, key: bytes, envelope: CommandEnvelope, decision: Decision, batch: Batch) -> None:
        batch.before.setdefault(key, stream.head)
        try:
            apply(stream, envelope, decision)
            run_ids = dict.fromkeys(run_of(event) for event in decision.events)
            for run_id in filter(None, run_ids):  # in the order of the events: nothing here depends on a hash
                self._touch(key, stream, run_id, batch)
            if may_change_schedules(decision.events):
                batch.agents[key] = None
        except Exception as error:
            logger.exception("command %d of partition %d can't be applied", envelope.offset, self.number)
            if envelope.offset in self._poison:
                raise
            raise PoisonError(envelope.offset) from error
        batch.drafts += decision.drafts
        batch.size += decision.size
        self.counters.events += len(decision.events)

    def _touch(self, key: bytes, stream: Stream, run_id: ExecutionId, batch: Batch) -> None:
        run = stream.runs.get(run_id)
        batch.touched[run_id] = (key, awaiting(run) if run is not None else ())

    # --- append -----------------------------------------------------------------------------------------------------

    async def _append(self, batch: Batch) -> None:
        if not batch.drafts:
            return
        try:
            base = await self._log.append(EVENTS, self.number, batch.drafts)
        except RecordTooLargeError as error:
            raise AppendError(str(error)) from error
        if base < self._events_end:  # the restore says whether it is another log
            raise RivalError(f"the log of partition {self.number} ended before what was read")
        if base != self._events_end:
            own = {(draft.key or b"", *(stamp(draft.headers) or (0, b""))) for draft in batch.drafts}
            heads = {key: stream.head for key, stream in self.streams.items()} | batch.before
            await self._follow(base, heads, own, batch)
        self._events_end = base + len(batch.drafts)

    def _start(self, batch: Batch) -> None:
        if not self._caught_up:
            return
        for run_id, (key, wanted) in batch.touched.items():
            stream = self.streams[key]
            self._effects.reconcile(stream.agent, run_id, stream.runs.get(run_id), wanted)
        for key in batch.agents:
            self._schedules.reconcile(self.streams[key].agent)

    # --- what others wrote ------------------------------------------------------------------------------------------

    async def _look_for_rivals(self) -> None:
        end = (await settled_bounds(self._log, EVENTS, self.number, self._events_end)).end
        if end < self._events_end:
            raise RivalError(f"the log of partition {self.number} ends before what was read")
        if end > self._events_end:
            batch = Batch()
            await self._follow(end, {key: stream.head for key, stream in self.streams.items()}, set(), batch)
            self._events_end = end
            self._start(batch)

    async def _follow(
        self, end: int, heads: dict[bytes, Head], own: set[tuple[bytes, int, bytes]], batch: Batch
    ) -> None:
        """Read what stands before `end` and was not ours, judged by the `heads` from before our own batch.

        A record equal to one of ours is fine; one that goes on from where our own state stands, and is of a
        command that we have not come to, is followed.

        Raises:
            RivalError: something counts that contradicts our own decisions.
        """

        def look(record: Record) -> None:
            if record.key is None:
                return
            verdict, head = judge(heads.get(record.key, NO_HEAD), record)
            if verdict != "counts":
                self.counters.ignored += 1
                return
            heads[record.key] = head
            if (record.key, head.sequence, head.chain) in own:
                return
            stream = self.streams.get(record.key)
            mine = stream.head if stream is not None else NO_HEAD
            if judge(mine, record)[0] != "counts" or decode_event(record).causation_offset < self._next_command:
                raise RivalError(f"a rival wrote {record.header(CHAIN)!r} at offset {record.offset}")
            self._fold(record)
            event = decode_event(record).event
            run_id = run_of(event)
            if run_id is not None:
                self._touch(record.key, self.streams[record.key], run_id, batch)
            if may_change_schedules((event,)):
                batch.agents[record.key] = None

        await self._read(end, look)

    def _fold(self, record: Record) -> None:
        """Evolve what counts."""
        if record.key is not None and not fold(self.streams, record):
            self.counters.ignored += 1

    async def _read(self, end: int, each: Callable[[Record], None]) -> None:
        """Give every record of `ai.events` from `_events_end` to before `end` to `each`."""
        if self._events_end >= end:
            return
        async with self._log.reader(EVENTS, {self.number: self._events_end}) as reader:
            while self._events_end < end and self._goes_on():
                for record in await reader.poll(max_records=RESTORE_RECORDS):
                    if record.offset < end:
                        each(record)
                        self._events_end = record.offset + 1
                self._events_end = max(self._events_end, min(end, reader.position(self.number)))  # behind gaps
                await asyncio.sleep(0)  # a long restore must not starve heartbeats
