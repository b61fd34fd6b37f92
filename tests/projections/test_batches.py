"""The rows follow from the log alone: not from batches, restarts or the order of partitions."""

from collections.abc import Mapping, Sequence
from random import Random

import pytest

from projections import projector as module
from projections.db import Pool
from projections.projector import Projector
from projections.rebuild import rebuild
from streams.log import Record
from streams.memory_consumers import MemoryReader
from tests.projections.dumps import dump
from tests.projections.histories import OTHER_SITE, SITE, Stream, interleaved, usual_run, varied_run
from tests.projections.journal import Journal, new_journal

GOAL = {"name": "Win", "event": "crm.deal.won"}
OTHER_GOAL = {"name": "Keep", "event": "crm.deal.*"}


class SplitReader(MemoryReader):
    """Gives as many records as chance will have."""

    def __init__(self, journal: "SplitJournal", topic: str, positions: Mapping[int, int]) -> None:
        order = sorted(positions, key=lambda _: journal.random.random())
        super().__init__(journal, topic, {partition: positions[partition] for partition in order})
        self._random = journal.random

    async def poll(self, *, max_records: int = 500, timeout_s: float = 0.5) -> Sequence[Record]:
        return await super().poll(max_records=self._random.choice((1, 2, 3, 11, 40)), timeout_s=timeout_s)


class SplitJournal(Journal):
    """A log whose readers read in pieces, and partitions in any order."""

    random = Random(0)

    def reader(self, topic: str, positions: Mapping[int, int], *, linger_s: float = 0.0) -> MemoryReader:
        return SplitReader(self, topic, positions)


async def history(journal: Journal) -> int:
    """Tell a history with all that can happen; return how many records count."""
    random = Random(7)
    streams = [Stream(site, slug).created() for site in (SITE, OTHER_SITE) for slug in ("a0", "a1", "a2")]
    for number in range(3):
        for stream in streams:
            varied_run(stream, f"t{number}", random)
    for stream in streams:
        stream.scheduled(None, 1).scheduled(2, 3, missed=4)
        stream.changed(2, goals=[GOAL, OTHER_GOAL]).progressed("Win", 1.5).progressed("Keep", 2.5)
        stream.changed(3, goals=[OTHER_GOAL]).progressed("Keep", 3.5).changed(4, goals=[GOAL, OTHER_GOAL])
        stream.progressed("Win", 7).changed(2, name="Two", domain=None)
        stream.changed(3, name="Three", llm_model="m3").deleted()
        stream.created().changed(2, domain="support", goals=[GOAL]).progressed("Win", 0.5)
    usual_run(streams[0], "t\u0000", {"text": "a\u0000b"})
    rivals = [stream.drafts[-5:] for stream in streams]
    await journal.write(interleaved(streams, random))
    for copy in rivals:
        await journal.write(copy)
    return sum(len(stream.said) for stream in streams)


@pytest.fixture
async def split() -> SplitJournal:
    return await new_journal(SplitJournal())


async def test_wherever_batches_end_the_rows_are_the_same(pool: Pool, split: SplitJournal) -> None:
    count = await history(split)
    split.random = Random(0)
    await Projector(split, pool).catch_up()
    expected = await dump(pool)
    assert len(expected["ai_agent_executions"]) == 19
    assert len(expected["ai_agent_goal_progress"]) == 6
    for seed in range(1, 8):
        await rebuild(pool)
        split.random = Random(seed)
        projector = Projector(split, pool)
        await projector.catch_up()
        assert projector.applied == count
        assert await dump(pool) == expected, f"seed {seed}"


@pytest.mark.parametrize("size", [1, 5, 10_000])
async def test_every_batch_size_gives_the_same_rows(
    pool: Pool, journal: Journal, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [varied_run(Stream(slug=f"a{i}").created(), "t1", Random(i)) for i in range(4)]
    await journal.write(interleaved(streams, Random(1)))
    await Projector(journal, pool).catch_up()
    expected = await dump(pool)
    await rebuild(pool)
    monkeypatch.setattr(module, "BATCH_RECORDS", size)
    await Projector(journal, pool).catch_up()
    assert await dump(pool) == expected


async def test_dropping_the_schema_and_projecting_again_gives_identical_rows(pool: Pool, journal: Journal) -> None:
    await history(journal)
    await Projector(journal, pool).catch_up()
    before = await dump(pool)
    await pool.execute("DROP SCHEMA projections CASCADE")
    await Projector(journal, pool).catch_up()
    assert await dump(pool) == before
    assert before["migrations"]


async def test_projecting_while_it_is_written_gives_the_same_rows(pool: Pool, journal: Journal) -> None:
    stream = Stream().created()
    for number in range(4):
        varied_run(stream, f"t{number}", Random(number))
        await journal.tell(stream)
        await Projector(journal, pool).catch_up()
    piecewise = await dump(pool)
    await rebuild(pool)
    await Projector(journal, pool).catch_up()
    assert await dump(pool) == piecewise
