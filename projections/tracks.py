"""Where a projector stands in each partition, and whether the log is still the one in which it stood there."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from projections.checkpoints import create_checkpoints, load_checkpoints
from projections.db import Pool
from projections.stream_heads import load_heads
from schemas.errors import LogReplacedError, LogTruncatedError
from streams.chain import Heads
from streams.log import Bounds, Log
from streams.settling import settled_bounds
from streams.topics import EVENTS, log_id

AT_ONCE = 8  # record 0 is read by a reader of its own: not 32 connections at a time


@dataclass(slots=True)
class Track:
    """A partition being projected: the next offset to fold, the heads of its streams there, the log's end."""

    partition: int
    next_offset: int
    log_id: str | None
    heads: Heads
    end: int


async def open_tracks(log: Log, pool: Pool, partitions: Iterable[int]) -> dict[int, Track]:
    """Return where each partition stands by what is stored, the log having been checked.

    Raises:
        LogReplacedError: the log is not the one that was projected.
        LogTruncatedError: it no longer has the records that come next.
        NotFoundError: there is no topic, or no genesis record.
        UnavailableError: the log does not answer.
    """
    found = await _look(log, partitions)
    async with pool.acquire() as db:
        await create_checkpoints(db, {partition: name for partition, (_, name) in found.items()})
        # One snapshot: heads must be those of the checkpoint's offset.
        async with db.transaction(isolation="repeatable_read", readonly=True):
            checkpoints = await load_checkpoints(db, found)
            heads = await load_heads(db, sorted(found))
    tracks = {
        partition: Track(partition, c.next_offset, c.log_id, Heads(heads[partition]), found[partition][0].end)
        for partition, c in checkpoints.items()
    }
    await _settle(log, tracks, found)
    _compare(tracks, found)
    return tracks


async def check_tracks(log: Log, tracks: Mapping[int, Track]) -> None:
    """Look again whether the log is the same, and note its ends. Raises as `open_tracks` does."""
    found = await _look(log, tracks)
    await _settle(log, tracks, found)
    _compare(tracks, found)
    for partition, (bounds, _) in found.items():
        tracks[partition].end = bounds.end


async def _look(log: Log, partitions: Iterable[int]) -> dict[int, tuple[Bounds, str | None]]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def look(partition: int) -> tuple[int, tuple[Bounds, str | None]]:
        async with turns:
            name = await log_id(log, EVENTS, partition)
            return partition, (await log.bounds(EVENTS, partition), name)

    return dict(await asyncio.gather(*map(look, partitions)))


async def _settle(log: Log, tracks: Mapping[int, Track], found: dict[int, tuple[Bounds, str | None]]) -> None:
    """Ask again where a partition of the same log seems to have lost its tail: its broker may only just be back."""
    short = [
        p for p, (bounds, name) in found.items() if name == tracks[p].log_id and bounds.end < tracks[p].next_offset
    ]
    settled = await asyncio.gather(*(settled_bounds(log, EVENTS, p, tracks[p].next_offset) for p in short))
    for partition, bounds in zip(short, settled, strict=True):
        found[partition] = bounds, found[partition][1]
        tracks[partition].end = bounds.end


def _compare(tracks: Mapping[int, Track], found: Mapping[int, tuple[Bounds, str | None]]) -> None:
    for partition, track in tracks.items():
        bounds, name = found[partition]
        where = f"{EVENTS!r} partition {partition}"
        if name != track.log_id:
            raise LogReplacedError(
                f"{where} is log {name!r}, the tables were made from log {track.log_id!r}: the topic was deleted and "
                "created anew. Restore it, or run `dramac projections rebuild` to make the tables of this one"
            )
        if bounds.end < track.next_offset:
            raise LogReplacedError(
                f"{where} ends at offset {bounds.end}, but was applied up to {track.next_offset}: its tail was lost. "
                "Restore it, or run `dramac projections rebuild` to make the tables of what is left"
            )
        if bounds.start > track.next_offset:
            raise LogTruncatedError(
                f"{where} begins at offset {bounds.start}, the next to apply is {track.next_offset}: records were "
                "deleted that the tables do not have. Restore the topic from a backup; it is to be kept for ever"
            )
