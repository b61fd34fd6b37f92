import asyncio
from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest

from projections import projector as module
from projections.checkpoints import Checkpoint, advance, create_checkpoints, load_checkpoints, wait_for
from projections.db import Pool
from projections.fold import HANDLERS
from projections.projector import Projector
from projections.rebuild import rebuild
from schemas.chat import TOKENS_LIMIT, Usage
from schemas.errors import CheckpointMovedError, DecodeError, UnavailableError
from schemas.events import EVENTS as EVENT_TYPES
from schemas.events import StepThought
from streams.log import Draft
from streams.partitioner import partition_of
from streams.topics import EVENTS
from tests.projections.dumps import dump
from tests.projections.histories import OTHER_SITE, Stream, interleaved, usual_run, varied_run
from tests.projections.journal import PARTITIONS, Journal

RUNS = "SELECT count(*) FROM projections.ai_agent_executions"


def partition(stream: Stream) -> int:
    return partition_of(stream.agent_id.encode(), PARTITIONS)


async def next_offset(pool: Pool, of: int) -> int:
    sql = "SELECT next_offset FROM projections.projection_checkpoints WHERE partition = $1"
    return int(await pool.fetchval(sql, of))


def test_every_event_has_a_handler() -> None:
    assert {wire.decode() for wire in HANDLERS} == set(EVENT_TYPES)


async def test_what_is_there_is_applied_up_to_the_end(pool: Pool, journal: Journal) -> None:
    await journal.tell(usual_run(Stream().created(), "t1"), usual_run(Stream(OTHER_SITE).created(), "t1"))
    projector = Projector(journal, pool)
    await projector.catch_up()
    assert await pool.fetchval(RUNS) == 2
    assert (projector.applied, projector.ignored, projector.lag) == (38, 0, 0)
    for of in range(PARTITIONS):
        assert await next_offset(pool, of) == (await journal.bounds(EVENTS, of)).end


async def test_applied_twice_changes_nothing(pool: Pool, journal: Journal) -> None:
    await journal.tell(usual_run(Stream().created(), "t1"))
    await Projector(journal, pool).catch_up()
    once = await dump(pool)
    again = Projector(journal, pool)
    await again.catch_up()
    assert again.applied == 0
    assert await dump(pool) == once


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        asyncpg.DiskFullError("could not extend file: No space left on device"),
        asyncpg.PostgresIOError("could not read block 7: Input/output error"),
        asyncpg.InternalServerError("could not open relation with OID 4711"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_may_pass_by_itself_is_waited_for(
    pool: Pool, journal: Journal, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fails(*_: object) -> None:
        monkeypatch.setattr(module, "advance", advance)
        raise error

    monkeypatch.setattr(module, "advance", fails)
    await journal.tell(usual_run(Stream().created(), "t1"))
    await Projector(journal, pool).catch_up()
    assert await pool.fetchval(RUNS) == 1


async def test_what_a_provider_says_it_used_does_not_stop_a_partition(pool: Pool, journal: Journal) -> None:
    """A site's own model endpoint may answer what no table's integers hold."""
    endless = Usage.model_validate_json(b'{"input_tokens": %d, "output_tokens": %d}' % (10**30, 2**63 - 1))
    stream = usual_run(Stream().created(), "t1")
    thought = next(event for event in stream.said if isinstance(event, StepThought))
    await journal.tell(stream.say(thought.model_copy(update={"usage": endless, "reply_id": "endless"})))
    projector = Projector(journal, pool)
    await projector.catch_up()
    assert projector.stopped == {}
    told = "SELECT least(tokens_input, tokens_output) FROM projections.ai_agent_executions"
    assert await pool.fetchval(told) >= TOKENS_LIMIT


async def test_a_rivals_copy_is_ignored(pool: Pool, journal: Journal) -> None:
    stream = usual_run(Stream().created(), "t1")
    records = list(stream.drafts)
    await journal.write(records[:9])
    await journal.write(records[5:])  # the rival began a little earlier
    projector = Projector(journal, pool)
    await projector.catch_up()
    assert (projector.applied, projector.ignored) == (len(records), 4)
    assert await pool.fetchval("SELECT llm_calls FROM projections.ai_agent_executions") == 4


async def test_a_rivals_different_decision_is_ignored(pool: Pool, journal: Journal) -> None:
    ours, theirs = Stream().created(), Stream().created()
    ours.started("t1")
    theirs.started("other")
    await journal.write([*ours.drafts, *theirs.drafts[2:]])
    await Projector(journal, pool).catch_up()
    assert await pool.fetchval("SELECT array_agg(trigger_id) FROM projections.ai_agent_executions") == ["t1"]


async def test_two_projectors_at_once_apply_each_record_once(
    pool: Pool, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [Stream(slug=f"a{i}").created() for i in range(6)]
    for stream in streams:
        varied_run(usual_run(stream, "t1"), "t2", Random(stream.slug))
    await journal.write(interleaved(streams, Random(1)))
    await Projector(journal, pool).catch_up()
    alone = await dump(pool)

    await rebuild(pool)
    monkeypatch.setattr(module, "BATCH_RECORDS", 20)
    monkeypatch.setattr(module, "RIVAL_PAUSE_S", 0.001)
    pair = Projector(journal, pool), Projector(journal, pool)
    await asyncio.gather(*(projector.catch_up() for projector in pair))
    assert await dump(pool) == alone
    assert sum(projector.applied for projector in pair) == sum(len(stream.said) for stream in streams)


async def test_a_checkpoint_that_was_moved_writes_nothing(pool: Pool, journal: Journal) -> None:
    await journal.tell(Stream().created())
    await Projector(journal, pool).catch_up()
    before = await dump(pool)
    here = await next_offset(pool, 0)
    with pytest.raises(CheckpointMovedError, match=r"partitions \[1\]"):
        async with pool.acquire() as db, db.transaction():
            await advance(db, [(0, here, here + 5), (1, 1_000, 1_001)])
    assert await dump(pool) == before


async def test_a_rival_that_waited_for_the_row_gives_way(pool: Pool, journal: Journal) -> None:
    await Projector(journal, pool).catch_up()
    async with pool.acquire() as first, pool.acquire() as second:
        winner, loser = first.transaction(), second.transaction()
        await winner.start()
        await loser.start()
        await advance(first, [(0, 1, 5)])
        waiting = asyncio.create_task(advance(second, [(0, 1, 7)]))
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        await winner.commit()
        with pytest.raises(CheckpointMovedError):
            await waiting
        await loser.rollback()
    assert await next_offset(pool, 0) == 5


class Lossy(asyncpg.Connection):
    """Loses its connection in COMMIT, as planned: after or before the server has carried it out."""

    plan: list[str] = []  # noqa: RUF012 - shared by all connections of a test

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        fate = self.plan.pop(0) if query == "COMMIT;" and self.plan else "fine"
        if fate == "fine":
            return await super().execute(query, *args, timeout=timeout)
        if fate == "landed":
            await super().execute(query)
        self.terminate()
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


@pytest.fixture
async def lossy(database: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=4, connection_class=Lossy) as pool:
        yield pool


@pytest.mark.parametrize(("outcome", "applied"), [("landed", 0), ("lost", 19)])
async def test_a_commit_without_an_answer_is_settled_by_the_checkpoint(
    pool: Pool, lossy: Pool, journal: Journal, outcome: str, applied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", (0.001, 0.01))
    await journal.tell(usual_run(Stream().created(), "t1"))
    await Projector(journal, pool).catch_up()
    expected = await dump(pool)

    await rebuild(pool)
    Lossy.plan = ["fine", outcome]  # the first commit ends the look at the checkpoints, the second is the batch
    projector = Projector(journal, lossy)
    await projector.catch_up()
    assert Lossy.plan == []
    assert await dump(pool) == expected
    assert projector.applied == applied  # that is what it knows to have applied


async def test_a_projector_follows_and_a_caller_can_wait(pool: Pool, journal: Journal) -> None:
    stream = Stream().created()
    running = asyncio.create_task(Projector(journal, pool).run())
    try:
        await journal.tell(stream)
        await wait_for(pool, partition(stream), 2)
        await journal.tell(usual_run(stream, "t1"))
        end = (await journal.bounds(EVENTS, partition(stream))).end
        await wait_for(pool, partition(stream), end - 1)
        assert await pool.fetchval("SELECT status FROM projections.ai_agent_executions") == "completed"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_waiting_for_what_never_comes_says_so(pool: Pool, journal: Journal) -> None:
    await Projector(journal, pool).catch_up()
    with pytest.raises(UnavailableError, match=r"record 7 .* is not in the tables .* reach offset 1"):
        await wait_for(pool, 0, 7, timeout_s=0.01)


async def test_a_schema_dropped_under_a_running_projector_is_built_anew(pool: Pool, journal: Journal) -> None:
    stream = usual_run(Stream().created(), "t1")
    running = asyncio.create_task(Projector(journal, pool).run())
    try:
        await journal.tell(stream)
        await wait_for(pool, partition(stream), len(stream.said))
        await pool.execute("DROP SCHEMA projections CASCADE")
        await journal.tell(stream.started("t2").stream)
        await wait_for(pool, partition(stream), len(stream.said))
        assert await pool.fetchval(RUNS) == 2
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_gap_of_offsets_at_the_end_does_not_keep_catch_up_waiting(
    pool: Pool, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    monkeypatch.setattr(module, "GAP_S", 0.02)
    await journal.tell(Stream().created())
    journal.skip(EVENTS, 0, 3)
    await Projector(journal, pool).catch_up()
    assert await pool.fetchval("SELECT count(*) FROM projections.ai_agents") == 1


@pytest.mark.parametrize(
    ("wire", "value", "version", "why"),
    [
        ("ai.agent.cloned", b"{}", 1, "is no event of this release"),
        ("ai.agent.activated", b"{}", 2, "upgrade first"),
        ("ai.execution.started", b"{}", 1, "has a wrong payload"),
        ("ai.execution.started", b"[]", 1, "not a JSON object"),
        ("ai.execution.started", b"{", 1, "can't be read"),
        ("ai.step.observed", b'{"execution_id": "one", "step": 1}', 1, "is not a UUID"),
    ],
)
async def test_what_counts_and_cannot_be_read_stops_its_partition_and_no_other(
    pool: Pool, journal: Journal, wire: str, value: bytes, version: int, why: str
) -> None:
    good, bad = Stream(slug="a0").created(), Stream(slug="a1").created()
    assert partition(good) != partition(bad)
    bad.say_raw(wire, value, version)
    usual_run(bad, "after")
    await journal.tell(bad, usual_run(good, "t1"))
    projector = Projector(journal, pool)
    with pytest.raises(DecodeError, match=f"partition {partition(bad)} stops before offset 3: .*{why}"):
        await projector.catch_up()
    assert await next_offset(pool, partition(bad)) == 3
    assert await pool.fetchval("SELECT array_agg(trigger_id) FROM projections.ai_agent_executions") == ["t1"]
    assert projector.stopped[partition(bad)].offset == 3


async def test_a_value_that_postgres_refuses_is_found_and_stops_its_partition(pool: Pool, journal: Journal) -> None:
    good, bad = Stream(slug="a0").created(), Stream(slug="a1").created()
    run = bad.started("t1")
    bad.say_raw("ai.execution.timed_out", _ended(run.id, duration_ms=10**30))
    usual_run(bad, "after")
    await journal.write(interleaved([bad, usual_run(good, "t1")], Random(3)))
    projector = Projector(journal, pool)
    with pytest.raises(DecodeError, match=f"partition {partition(bad)} stops before offset 4"):
        await projector.catch_up()
    assert await next_offset(pool, partition(bad)) == 4
    assert await next_offset(pool, partition(good)) == (await journal.bounds(EVENTS, partition(good))).end


def _ended(execution_id: str, duration_ms: int) -> bytes:
    return b'{"execution_id": "%b", "actions_taken": [], "timeout_seconds": 1, "duration_ms": %d}' % (
        execution_id.encode(),
        duration_ms,
    )


async def test_foreign_keys_that_are_no_agents_never_count_silently(pool: Pool, journal: Journal) -> None:
    await journal.append(EVENTS, 0, [Draft(b"someone", b"{}", (("ce_type", b"ai.agent.created"),))])
    projector = Projector(journal, pool)
    await projector.catch_up()
    assert (projector.applied, projector.ignored) == (0, 1)


async def test_heads_are_stored_with_the_rows(pool: Pool, journal: Journal) -> None:
    stream = usual_run(Stream().created(), "t1")
    await journal.tell(stream)
    await Projector(journal, pool).catch_up()
    row = await pool.fetchrow("SELECT partition, agent_id::text, sequence, chain FROM projections.stream_heads")
    assert row is not None
    assert tuple(row) == (partition(stream), stream.agent_id, stream.head.sequence, stream.head.chain)


async def test_a_checkpoint_begins_at_0_of_the_log_that_was_found_and_keeps_its_name(pool: Pool) -> None:
    async with pool.acquire() as db:
        for name in ("log a", "log b"):
            await create_checkpoints(db, {0: name})
            assert await load_checkpoints(db, [0, 1]) == {0: Checkpoint(0, 0, "log a")}
