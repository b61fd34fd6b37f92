"""Applies `ai.events` to the tables: each record that counts once, rows and checkpoint in one transaction.

Whatever fails, there is one way back: what is in memory is dropped, checkpoints and heads are read again, and reading
goes on there. So a commit whose outcome nobody knows needs no case of its own (the stored checkpoint says whether
it landed), and two projectors at once are safe: who finds a checkpoint moved has written nothing, and starts over.

A record that counts is never passed over. One that this release can't read, of a newer release's type say, stops its
partition just before it; the others go on. So projectors are upgraded before workers; a later release goes
on where this one stopped.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from projections.batch import Batch
from projections.checkpoints import advance
from projections.db import TRANSIENT, UNSTORABLE, Pool
from projections.facts import read_fact
from projections.fold import apply
from projections.migrate import migrate
from projections.stream_heads import HeadRow
from projections.tracks import Track, check_tracks, open_tracks
from schemas.errors import CheckpointMovedError, DecodeError, DramacError, UnavailableError
from streams.log import Log, Reader, Record
from streams.topics import EVENTS

logger = logging.getLogger(__name__)

BATCH_RECORDS = 4_000  # larger batches gain little and hold rows' locks and memory for longer
SLICE_RECORDS = 200  # the fold lets the writer's next statement out this often (some 5 ms)
POLL_S = 0.5
# Tables may be so far behind: a run that changes several times within it is written once. With 64 runs at a time that
# takes two thirds off what Postgres has to do, and two fifths off the projector (measured).
LINGER_S = 0.1
GAP_S = 5.0  # `catch_up` takes offsets for a gap at the log's end when nothing has come for so long
CHECK_S = 60.0  # how often a running projector looks whether the log is still the same
RIVAL_PAUSE_S = 0.5  # who lost a checkpoint leaves the field to the winner for a moment
BACKOFF_S = (0.1, 5.0)


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a partition stands still, and why."""

    offset: int
    error: DramacError


@dataclass(slots=True)
class Work:
    """What some records come to. `moves` has, by partition, the offsets (from, to) of its checkpoint."""

    batch: Batch = field(default_factory=Batch)
    moves: dict[int, tuple[int, int]] = field(default_factory=dict)
    touched: set[tuple[int, bytes]] = field(default_factory=set)
    records: int = 0
    applied: int = 0
    ignored: int = 0


class _StoppedError(Exception):
    """A record can't be applied: its partition stops before it."""

    def __init__(self, partition: int, stop: Stop) -> None:
        super().__init__(partition, stop)
        self.partition = partition
        self.stop = stop


class _UnstorableError(Exception):
    """Postgres does not take a batch: one of its records is to blame."""


class Projector:
    """Keeps the tables up to date with the log.

    Attributes:
        applied: Records applied, those that count.
        ignored: Records that did not count.
        stopped: Partitions that stand still before a record that can't be applied.
    """

    def __init__(self, log: Log, pool: Pool, *, partitions: Collection[int] | None = None) -> None:
        """Project `partitions` of `ai.events`, all of them by default."""
        self.applied = 0
        self.ignored = 0
        self.stopped: dict[int, Stop] = {}
        self._log = log
        self._pool = pool
        self._partitions = partitions
        self._tracks: dict[int, Track] = {}
        self._limit = BATCH_RECORDS

    @property
    def lag(self) -> int:
        """Records not yet read, as of the last look at the log's ends."""
        return sum(max(0, track.end - track.next_offset) for track in self._tracks.values())

    async def run(self) -> None:
        """Apply what is there and what comes, until cancelled.

        Raises:
            ConfigurationError: the schema is not this release's.
            LogReplacedError, LogTruncatedError: the tables can't be continued from this log; the message says more.
            NotFoundError: there is no topic.
        """
        await self._supervise(follow=True)

    async def catch_up(self) -> None:
        """Apply what is there now, and return. Raises as `run` does.

        Raises:
            DecodeError: a partition stopped before a record that can't be applied; the others are up to date.
        """
        await self._supervise(follow=False)
        for stop in self.stopped.values():
            raise stop.error

    async def _supervise(self, *, follow: bool) -> None:
        targets: dict[int, int] | None = None if follow else {}
        pause_s, longest_s = BACKOFF_S
        while True:
            seen = self.applied + self.ignored
            try:
                return await self._session(targets)
            except CheckpointMovedError as error:
                logger.info("%s", error)
                await asyncio.sleep(RIVAL_PAUSE_S)
            except _StoppedError as error:
                self.stopped[error.partition] = error.stop
                logger.error("%s", error.stop.error)  # noqa: TRY400 - a sentence for a person, not a trace
            except _UnstorableError:
                logger.warning("a batch can't be stored: looking for its record with %s at a time", self._limit)
            except (UnavailableError, *TRANSIENT) as error:
                if self._pool.is_closing():
                    raise
                if self.applied + self.ignored > seen:
                    pause_s = BACKOFF_S[0]
                why = str(error).partition("\n")[0] or repr(error)
                logger.warning("projecting pauses for %.1f s: %s", pause_s, why)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, longest_s)

    async def _session(self, targets: dict[int, int] | None) -> None:
        """Read on from what is stored; without `targets` for ever, else up to these offsets (all ends, if empty)."""
        await migrate(self._pool)
        partitions = self._partitions
        if partitions is None:
            partitions = range(await self._log.partitions(EVENTS))
        self._tracks = tracks = await open_tracks(self._log, self._pool, partitions)
        if targets is not None:
            for track in tracks.values():
                targets.setdefault(track.partition, track.end)
            if self._reached(tracks, targets):
                return
        linger_s = LINGER_S if targets is None else 0.0
        positions = {p: track.next_offset for p, track in tracks.items()}
        async with self._log.reader(EVENTS, positions, linger_s=linger_s) as reader:
            await self._pump(reader, tracks, targets)

    async def _pump(self, reader: Reader, tracks: Mapping[int, Track], targets: Mapping[int, int] | None) -> None:
        """Fold what comes while the batch before is being written."""
        writing: asyncio.Task[None] | None = None
        checked = arrived = time.monotonic()
        try:
            while targets is None or not self._reached(tracks, targets):
                records = await reader.poll(max_records=self._limit, timeout_s=POLL_S)
                work = await self._fold(records, tracks)
                if writing is not None:
                    await writing
                    writing = None
                now = time.monotonic()
                if work.records:
                    writing, arrived = asyncio.create_task(self._write(work)), now
                elif targets is not None and now - arrived > GAP_S:
                    logger.warning("nothing more comes from %r before its end: taken for a gap", EVENTS)
                    break
                if now - checked > CHECK_S:
                    await check_tracks(self._log, tracks)
                    checked = time.monotonic()
            if writing is not None:
                await writing
        finally:
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    def _reached(self, tracks: Mapping[int, Track], targets: Mapping[int, int]) -> bool:
        return all(
            track.next_offset >= targets[partition] or self._stands(partition, track.next_offset)
            for partition, track in tracks.items()
        )

    def _stands(self, partition: int, offset: int) -> bool:
        return partition in self.stopped and offset >= self.stopped[partition].offset

    async def _fold(self, records: Sequence[Record], tracks: Mapping[int, Track]) -> Work:
        work = Work()
        for index, record in enumerate(records, 1):
            track = tracks[record.partition]
            if self._stands(record.partition, record.offset):
                track.next_offset = self.stopped[record.partition].offset
            else:
                self._take(work, track, record)
            if index % SLICE_RECORDS == 0:
                await asyncio.sleep(0)
        for partition, key in work.touched:
            head = tracks[partition].heads.get(key)
            work.batch.heads.append(HeadRow(partition, key.decode("ascii"), head.sequence, head.chain))
        return work

    def _take(self, work: Work, track: Track, record: Record) -> None:
        since, _ = work.moves.get(track.partition, (track.next_offset, 0))
        if record.key is not None:  # a genesis record has none
            if track.heads.admit(record):
                try:
                    apply(work.batch, read_fact(record))
                except DecodeError as error:
                    raise _stop(record, str(error)) from error
                work.touched.add((track.partition, record.key))
                work.applied += 1
            else:
                work.ignored += 1
        work.records += 1
        work.moves[track.partition] = (since, record.offset + 1)
        track.next_offset = record.offset + 1

    async def _write(self, work: Work) -> None:
        try:
            async with self._pool.acquire() as db, db.transaction():
                await advance(db, [(partition, *move) for partition, move in sorted(work.moves.items())])
                await work.batch.write(db)
        except UNSTORABLE as error:
            if work.records == 1:
                ((partition, (_, until)),) = work.moves.items()
                raise _stop_at(partition, until - 1, str(error)) from error
            self._limit = max(1, work.records // 2)
            raise _UnstorableError from error
        self._limit = min(BATCH_RECORDS, self._limit * 2)
        self.applied += work.applied
        self.ignored += work.ignored


def _stop(record: Record, why: str) -> _StoppedError:
    return _stop_at(record.partition, record.offset, why)


def _stop_at(partition: int, offset: int, why: str) -> _StoppedError:
    text = (
        f"projecting {EVENTS!r} partition {partition} stops before offset {offset}: {why}. It counts, so it is not "
        "passed over; start a release that can read it, and it goes on there"
    )
    return _StoppedError(partition, Stop(offset, DecodeError(text)))
