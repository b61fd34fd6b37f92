"""How far each partition has been applied. A checkpoint commits together with the rows that follow from it."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from projections.db import TRANSIENT, Db, Pool
from schemas.errors import CheckpointMovedError, UnavailableError
from streams.topics import EVENTS

PROJECTION = "read_models"

CREATE = """
INSERT INTO projections.projection_checkpoints (projection, topic, partition, log_id, next_offset)
SELECT $1, $2, d.partition, d.log_id, 0
FROM unnest($3::int[], $4::text[]) AS d(partition, log_id)
ON CONFLICT DO NOTHING
"""

LOAD = """
SELECT partition, log_id, next_offset
FROM projections.projection_checkpoints
WHERE projection = $1 AND topic = $2 AND partition = ANY($3::int[])
"""

# The rows are locked in order, so two projectors wait for each other and never in a circle. Who waited sees the
# other's offset, and gives way.
#
# Commits need not wait for the disk: rows and checkpoint are lost together, if at all, and applied anew.
ADVANCE = """
WITH held AS (
  SELECT partition, next_offset
  FROM projections.projection_checkpoints
  WHERE projection = $1 AND topic = $2 AND partition = ANY($3::int[])
  ORDER BY partition
  FOR UPDATE
)
UPDATE projections.projection_checkpoints AS c
SET next_offset = d.until
FROM held, unnest($3::int[], $4::bigint[], $5::bigint[]) AS d(partition, since, until)
WHERE c.projection = $1 AND c.topic = $2 AND c.partition = d.partition AND c.next_offset = d.since
  AND held.partition = d.partition AND held.next_offset = d.since
RETURNING c.partition, set_config('synchronous_commit', 'off', true)
"""

_POLL_S = (0.005, 0.1)  # the first and the longest pause between two looks at a checkpoint


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The next offset to apply of one partition, and the id of the log in which that offset was counted."""

    partition: int
    next_offset: int
    log_id: str | None


async def create_checkpoints(db: Db, log_ids: Mapping[int, str | None]) -> None:
    """Put a checkpoint at offset 0 of the given log where a partition has none."""
    partitions = sorted(log_ids)
    await db.execute(CREATE, PROJECTION, EVENTS, partitions, [log_ids[partition] for partition in partitions])


async def load_checkpoints(db: Db, partitions: Iterable[int]) -> dict[int, Checkpoint]:
    """Return the checkpoints of those partitions that have one."""
    rows = await db.fetch(LOAD, PROJECTION, EVENTS, sorted(partitions))
    return {row["partition"]: Checkpoint(row["partition"], row["next_offset"], row["log_id"]) for row in rows}


async def advance(db: Db, moves: Sequence[tuple[int, int, int]]) -> None:
    """Move checkpoints: (partition, from, to). First in the transaction, so that a rival waits and then gives way.

    Raises:
        CheckpointMovedError: one of them is not where it was; the caller rolls back, nothing was written.
    """
    partitions, since, until = zip(*moves, strict=True)
    moved = await db.fetch(ADVANCE, PROJECTION, EVENTS, partitions, since, until)
    if len(moved) != len(moves):
        others = sorted(set(partitions) - {row["partition"] for row in moved})
        raise CheckpointMovedError(f"another projector moved the checkpoint of partitions {others}: read it again")


async def wait_for(pool: Pool, partition: int, offset: int, timeout_s: float = 10.0) -> None:
    """Return once the record at `offset` of a partition of `ai.events` is visible in the tables.

    Raises:
        UnavailableError: it is not, after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    pause_s, longest_s = _POLL_S
    while True:
        try:
            rows = await pool.fetch(LOAD, PROJECTION, EVENTS, [partition])
        except TRANSIENT:
            rows = []  # Postgres is away, or the schema is not there yet: both may pass
        reached = rows[0]["next_offset"] if rows else 0
        if reached > offset:
            return
        if time.monotonic() + pause_s > deadline:
            raise UnavailableError(
                f"record {offset} of {EVENTS!r} partition {partition} is not in the tables after {timeout_s:g} s, "
                f"which reach offset {reached}: is a projector running?"
            )
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, longest_s)
