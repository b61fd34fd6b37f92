"""Throws the read models away. They follow from the log: the next projector makes the same rows again."""

from projections.db import Pool
from projections.migrate import LEDGER, apply_missing, lock


async def rebuild(pool: Pool) -> None:
    """Drop and recreate the schema, empty; checkpoints go with it, so projecting starts at offset 0.

    Safe while a projector runs: it finds its checkpoint gone and starts anew. Readers see the old rows until then,
    and fewer until it has caught up.
    """
    async with pool.acquire() as db, db.transaction():
        await lock(db)
        await db.execute("DROP SCHEMA IF EXISTS projections CASCADE")
        await db.execute(LEDGER)
        await apply_missing(db)
