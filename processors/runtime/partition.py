"""The loop of one partition: restore, catch up, read, decide, append, effects. One recovery path for everything.

No effect starts before the events that ask for it are acknowledged and known to count.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from processors.runtime.awaiting import Effect, awaiting
from processors.runtime.decision import Decision, apply, decision_of
from processors.runtime.effects import Effects, Process
from processors.runtime.stream import Stream, evolve
from schemas.commands import CreateAgent
from schemas.envelope import EVENT_LIMIT_BYTES, CommandEnvelope
from schemas.errors import AppendError, DecodeError, RecordTooLargeError, RivalError, UnavailableError
from schemas.events import Event
from schemas.ids import ExecutionId, SiteId, parse_agent_id
from streams.chain import CHAIN, NO_HEAD, Head, judge, stamp
from streams.dead_letters import send_dead_letter
from streams.log import Draft, Log, Member, Record
from streams.records import decode_command, decode_event
from streams.topics import COMMANDS, EVENTS, is_genesis

logger = logging.getLogger(__name__)

BATCH_COMMANDS = 500  # decided before an append: enough to fill a batch, few enough to answer quickly
BATCH_BYTES = 768 * 1024  # a batch goes out when it is this large; twice that stays under the topic's 2 MiB
IDLE_S = 0.5  # how long a read waits; then the owner looks whether somebody else wrote
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
RESTORE_RECORDS = 2_000  # read at a time while restoring
COMMAND_HEADERS_LIMIT_BYTES = 16 * 1024  # every event of a command repeats the most of them


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
        self._effects = Effects(process, number, self._is_held)
        self._held = asyncio.Event()
        self._returned = False
        self._next_command = 0
        self._events_end = 0
        self._goal = 0
        self._caught_up = False
        self._poison: set[int] = set()

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

    def drop(self) -> None:
        """Forget the state and cancel the effects."""
        self._effects.drop()
        self.streams = {}

    @property
    def caught_up(self) -> bool:
        """Whether every command that stood in the log at assignment is decided."""
        return self._caught_up

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Own the partition until cancelled; whatever fails, the state is dropped and restored from the log.

        Raises:
            LogReplacedError, LogTruncatedError: the log is not the one that was read: a person must look.
        """
        retry_s = FIRST_RETRY_S
        try:
            while True:
                try:
                    await self._held.wait()
                    await self._restore()
                    retry_s = FIRST_RETRY_S
                    while True:
                        await self._round()
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
        self.streams = {}
        end = (await self._log.bounds(EVENTS, self.number)).end
        self._events_end = 0
        await self._read(end, self._fold)
        commands = await self._log.bounds(COMMANDS, self.number)
        self._next_command, self._goal = commands.start, commands.end
        self._member.seek(self.number, self._next_command)
        logger.info("partition %d restored %d events of %d streams", self.number, end, len(self.streams))

    async def _round(self) -> None:
        await self._held.wait()
        if self._returned:
            self._returned = False
            self._goal = (await self._log.bounds(COMMANDS, self.number)).end
            self._caught_up = False
            self._member.seek(self.number, self._next_command)
            await self._look_for_rivals()
        records: Sequence[Record] = ()
        if self._next_command < self._goal or self._caught_up:
            records = await self._member.poll(self.number, max_records=BATCH_COMMANDS, timeout_s=IDLE_S)
        if not records:
            await self._look_for_rivals()
        await self._handle(records)
        if not self._caught_up and self._next_command >= self._goal:
            self._caught_up = True
            self._start_all()

    def _start_all(self) -> None:
        known: set[ExecutionId] = set()
        for stream in self.streams.values():
            known |= stream.runs.keys()
            for run in stream.runs.values():
                self._effects.reconcile(stream.agent, run.id, run, awaiting(run))
        for run_id in self._effects.runs():  # what ended before all was caught up
            if run_id not in known:
                self._effects.forget(run_id)

    async def _handle(self, records: Sequence[Record]) -> None:
        position = 0
        while position < len(records):
            batch = Batch()
            while position < len(records) and batch.size < BATCH_BYTES:
                record = records[position]
                position += 1
                try:
                    self._decide(record, batch)
                except DecodeError as error:
                    self.counters.dead_letters += 1
                    await send_dead_letter(self._log, record, str(error))
                self._next_command = record.offset + 1
            await self._append(batch)
            self._start(batch)

    # --- decide -----------------------------------------------------------------------------------------------------

    def _decide(self, record: Record, batch: Batch) -> None:
        if is_genesis(record):
            return
        envelope = _decode(record)
        key = record.key or b""
        stream = self.streams.get(key)
        if stream is None:
            if not isinstance(envelope.command, CreateAgent):
                raise DecodeError(f"there is no agent {envelope.agent_id!r}")
            stream = self.streams[key] = Stream.empty(envelope.agent_id, envelope.site_id)
        if stream.agent.site_id != envelope.site_id:
            raise DecodeError(f"the agent {envelope.agent_id!r} is not one of the site {envelope.site_id!r}")
        if record.offset <= stream.cause:
            return
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
            for event in decision.events:
                self._touch(key, stream, event, batch)
        except Exception as error:
            logger.exception("command %d of partition %d can't be applied", envelope.offset, self.number)
            if envelope.offset in self._poison:
                raise
            raise PoisonError(envelope.offset) from error
        batch.drafts += decision.drafts
        batch.size += decision.size
        self.counters.events += len(decision.events)

    def _touch(self, key: bytes, stream: Stream, event: Event, batch: Batch) -> None:
        run_id: ExecutionId | None = getattr(event, "execution_id", None)
        if run_id is not None:
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

    # --- what others wrote ------------------------------------------------------------------------------------------

    async def _look_for_rivals(self) -> None:
        end = (await self._log.bounds(EVENTS, self.number)).end
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
            self._touch(record.key, self.streams[record.key], decode_event(record).event, batch)

        await self._read(end, look)

    def _fold(self, record: Record) -> None:
        """Evolve what counts."""
        if record.key is None:
            return
        stream = self.streams.get(record.key)
        verdict, head = judge(stream.head if stream is not None else NO_HEAD, record)
        if verdict != "counts":
            self.counters.ignored += 1
            return
        envelope = decode_event(record)
        if stream is None:
            agent_id = parse_agent_id(record.key.decode())
            stream = self.streams[record.key] = Stream.empty(agent_id, SiteId(envelope.site_id))
        evolve(stream, envelope.event, envelope.at_ms, envelope.correlation_id)
        stream.head, stream.cause = head, envelope.causation_offset

    async def _read(self, end: int, each: Callable[[Record], None]) -> None:
        """Give every record of `ai.events` from `_events_end` to before `end` to `each`."""
        if self._events_end >= end:
            return
        async with self._log.reader(EVENTS, {self.number: self._events_end}) as reader:
            while self._events_end < end:
                for record in await reader.poll(max_records=RESTORE_RECORDS):
                    if record.offset < end:
                        each(record)
                        self._events_end = record.offset + 1
                await asyncio.sleep(0)  # a long restore must not starve heartbeats


def _decode(record: Record) -> CommandEnvelope:
    size = len(record.value or b"")
    if size > EVENT_LIMIT_BYTES:
        raise DecodeError(f"a command may have {EVENT_LIMIT_BYTES} bytes, this one has {size}")
    headers = sum(len(name) + len(content) for name, content in record.headers)
    if headers > COMMAND_HEADERS_LIMIT_BYTES:
        raise DecodeError(f"a command's headers may have {COMMAND_HEADERS_LIMIT_BYTES} bytes, these have {headers}")
    return decode_command(record)
