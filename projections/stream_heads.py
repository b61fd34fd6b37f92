"""The heads of the streams, as they stand with the rows: what a projector that starts in mid-topic must know."""

from collections.abc import Sequence
from dataclasses import dataclass

from projections.db import Db, Pool, Uuid, statement
from streams.chain import Head

LOAD = """
SELECT partition, agent_id::text AS agent_id, sequence, chain
FROM projections.stream_heads
WHERE partition = ANY($1::int[])
"""


@dataclass(slots=True)
class HeadRow:
    """The last record of a stream that counted."""

    partition: int
    agent_id: Uuid
    sequence: int
    chain: bytes


STREAM_HEADS = statement(
    HeadRow,
    """
INSERT INTO projections.stream_heads AS h (partition, agent_id, sequence, chain)
SELECT partition, agent_id, sequence, chain
FROM :rows
ON CONFLICT (partition, agent_id) DO UPDATE SET sequence = excluded.sequence, chain = excluded.chain
""",
)


async def load_heads(db: Db, partitions: Sequence[int]) -> dict[int, dict[bytes, Head]]:
    """Return the heads of the streams of each partition, by the records' keys."""
    heads: dict[int, dict[bytes, Head]] = {partition: {} for partition in partitions}
    for row in await db.fetch(LOAD, partitions):
        heads[row["partition"]][row["agent_id"].encode()] = Head(row["sequence"], row["chain"])
    return heads


async def anchors(db: Db | Pool) -> dict[str, tuple[int, bytes]]:
    """Return the sequence and chain at which each stream stood when it was last projected, by agent id.

    A log that lost its tail, or a whole stream, no longer reaches them.
    """
    rows = await db.fetch("SELECT agent_id::text AS agent_id, sequence, chain FROM projections.stream_heads")
    return {row["agent_id"]: (row["sequence"], row["chain"]) for row in rows}
