import asyncio
from collections.abc import Mapping, Sequence

import pytest

from projections import projector as module
from projections.db import Pool
from projections.projector import Projector
from projections.tracks import Track
from schemas.errors import LogReplacedError, LogTruncatedError, NotFoundError
from streams import settling
from streams.log import Record
from streams.memory_log import MemoryLog
from streams.topics import AI_TOPICS, EVENTS, ensure_genesis
from tests.projections.dumps import dump
from tests.projections.histories import Stream, usual_run
from tests.projections.journal import PARTITIONS, Journal


async def test_a_truncated_log_is_refused(pool: Pool, journal: Journal) -> None:
    await journal.tell(usual_run(Stream(slug="a0").created(), "t1"))
    for partition in range(PARTITIONS):
        journal.truncate(EVENTS, partition, (await journal.bounds(EVENTS, partition)).end)
    with pytest.raises(LogTruncatedError, match="restore"):
        await Projector(journal, pool).catch_up()
    assert await pool.fetchval("SELECT count(*) FROM projections.ai_agent_executions") == 0


async def test_a_topic_that_was_made_anew_is_refused(pool: Pool, journal: Journal) -> None:
    await journal.tell(usual_run(Stream().created(), "t1"))
    await Projector(journal, pool).catch_up()
    before = await dump(pool)
    journal.delete(EVENTS)
    journal.create(AI_TOPICS, PARTITIONS)
    await ensure_genesis(journal, EVENTS)
    await journal.tell(usual_run(Stream(slug="other").created(), "t1"))
    with pytest.raises(LogReplacedError, match=r"deleted and created anew.*dramac projections rebuild"):
        await Projector(journal, pool).catch_up()
    assert await dump(pool) == before


async def test_nobody_waits_for_the_tail_of_another_log(
    pool: Pool, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "PATIENCE_S", 3_600.0)
    await journal.tell(usual_run(Stream().created(), "t1"))
    await Projector(journal, pool).catch_up()
    journal.delete(EVENTS)
    journal.create(AI_TOPICS, PARTITIONS)
    await ensure_genesis(journal, EVENTS)  # each partition ends before what was applied of it
    with pytest.raises(LogReplacedError, match="created anew"):
        async with asyncio.timeout(30):
            await Projector(journal, pool).catch_up()


async def test_a_log_that_lost_its_tail_is_refused(pool: Pool, journal: Journal) -> None:
    await Projector(journal, pool).catch_up()
    await pool.execute("UPDATE projections.projection_checkpoints SET next_offset = 9 WHERE partition = 1")
    with pytest.raises(LogReplacedError, match="partition 1 ends at offset 1, but was applied up to 9"):
        await Projector(journal, pool).catch_up()


async def test_a_running_projector_looks_again(pool: Pool, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK_S", 0.0)
    monkeypatch.setattr(module, "POLL_S", 0.01)
    await Projector(journal, pool).catch_up()
    projector = Projector(journal, pool)
    real = Projector._fold

    async def replace_the_log(self: Projector, records: Sequence[Record], tracks: Mapping[int, Track]) -> module.Work:
        journal.delete(EVENTS)
        journal.create(AI_TOPICS, PARTITIONS)
        await ensure_genesis(journal, EVENTS)
        return await real(self, records, tracks)

    monkeypatch.setattr(Projector, "_fold", replace_the_log)
    with pytest.raises(LogReplacedError, match="created anew"):
        await projector.run()


async def test_a_log_without_topics_is_refused(pool: Pool) -> None:
    with pytest.raises(NotFoundError, match="dramac topics create"):
        await Projector(MemoryLog(), pool).run()
