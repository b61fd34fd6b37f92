"""Rows and checkpoint that part company are found out: each mutant breaks what one transaction keeps together."""

from collections.abc import Callable

import pytest

from projections import projector as module
from projections.batch import Batch
from projections.db import Db, Pool
from projections.projector import Projector
from projections.rebuild import rebuild
from schemas.errors import DecodeError
from streams.topics import EVENTS
from tests.projections.dumps import dump
from tests.projections.histories import OTHER_SITE, Stream, usual_run
from tests.projections.journal import PARTITIONS, Journal

CHECKPOINTS = "SELECT partition, next_offset FROM projections.projection_checkpoints"

Mutate = Callable[[pytest.MonkeyPatch], None]


async def _stays(_db: Db, _moves: object) -> None:
    """Move no checkpoint."""


async def _writes_nothing(_batch: Batch, _db: Db) -> None:
    """Write no row."""


def rows_without_checkpoint(mutant: pytest.MonkeyPatch) -> None:
    mutant.setattr(module, "advance", _stays)


def checkpoint_without_rows(mutant: pytest.MonkeyPatch) -> None:
    mutant.setattr(Batch, "write", _writes_nothing)


def rows_without_checkpoint_and_heads(mutant: pytest.MonkeyPatch) -> None:
    """The heads beside the rows would keep what comes again from being applied again."""
    write = Batch.write

    async def without_heads(batch: Batch, db: Db) -> None:
        batch.heads.clear()
        await write(batch, db)

    mutant.setattr(module, "advance", _stays)
    mutant.setattr(Batch, "write", without_heads)


async def wrong_after_a_restart(pool: Pool, journal: Journal, mutate: Mutate | None) -> list[str]:
    """What is wrong once a projector was there, perhaps a mutant, and another one after it."""
    await journal.tell(usual_run(Stream().created(), "t1"), usual_run(Stream(OTHER_SITE).created(), "t1"))
    with pytest.MonkeyPatch.context() as mutant:
        if mutate is not None:
            mutate(mutant)
        await Projector(journal, pool).catch_up()
        reached = {row["partition"]: row["next_offset"] for row in await pool.fetch(CHECKPOINTS)}
    ends = {partition: (await journal.bounds(EVENTS, partition)).end for partition in range(PARTITIONS)}
    wrong = ["checkpoints"] if reached != ends else []
    try:
        await Projector(journal, pool).catch_up()
    except DecodeError:  # what is applied a second time collides with the rows that are only ever added
        wrong.append("collision")
    there = await dump(pool)
    await rebuild(pool)
    await Projector(journal, pool).catch_up()
    rebuilt = await dump(pool)
    return wrong + [name for name in sorted(there) if there[name] != rebuilt[name]]


async def test_without_a_mutant_nothing_is_wrong(pool: Pool, journal: Journal) -> None:
    assert await wrong_after_a_restart(pool, journal, None) == []


@pytest.mark.parametrize(
    ("mutate", "found"),
    [
        (rows_without_checkpoint, "checkpoints"),
        (checkpoint_without_rows, "ai_agent_executions"),
        (rows_without_checkpoint_and_heads, "collision"),
    ],
)
async def test_a_projector_that_parts_rows_and_checkpoint_is_found_out(
    pool: Pool, journal: Journal, mutate: Mutate, found: str
) -> None:
    assert found in await wrong_after_a_restart(pool, journal, mutate)
