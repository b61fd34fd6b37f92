"""The tables are audited against the log: whatever differs is found, by table and key."""

from random import Random

import pytest
import pytest_asyncio

from projections.audit import audit_tables
from projections.db import Pool
from projections.projector import Projector
from projections.rebuild import rebuild
from schemas.errors import UnavailableError
from streams.audit import Finding
from streams.topics import EVENTS
from tests.projections.dumps import dump
from tests.projections.histories import OTHER_SITE, Stream, interleaved, usual_run, varied_run
from tests.projections.journal import Journal


async def audited(journal: Journal, pool: Pool) -> dict[str, Finding]:
    return {finding.id: finding for finding in await audit_tables(journal, pool)}


def violated(found: dict[str, Finding]) -> set[str]:
    return {id_ for id_, finding in found.items() if not finding.ok}


@pytest_asyncio.fixture
async def streams(pool: Pool, journal: Journal) -> list[Stream]:
    """Streams whose rows are in the tables."""
    told = [Stream(slug=f"a{n}").created() for n in range(4)] + [Stream(OTHER_SITE).created()]
    for stream in told:
        varied_run(usual_run(stream, "t1"), "t2", Random(stream.slug))
    records = list(interleaved(told, Random(1)))
    await journal.write(records)
    await journal.write(records[-3:])  # a rival's copies
    for stream in told:
        stream.drafts.clear()
    await Projector(journal, pool).catch_up()
    return told


async def test_tables_that_follow_from_the_log_are_in_order(
    pool: Pool, journal: Journal, streams: list[Stream]
) -> None:
    before = await dump(pool)
    found = await audited(journal, pool)
    assert violated(found) == set()
    assert found["I5"].counts == {"partitions": 3, "behind": 0, "streams": len(streams)}
    assert found["I4"].counts["events"] == sum(len(stream.said) for stream in streams)
    assert found["I4"].counts["rows"] > 50
    assert found["I6"].counts["usage_rows"] > 0
    assert await dump(pool) == before
    assert await pool.fetchval("SELECT count(*) FROM pg_class WHERE relpersistence = 't'") == 0


async def test_a_projector_that_is_behind_is_in_order(pool: Pool, journal: Journal, streams: list[Stream]) -> None:
    usual_run(streams[0], "t3")
    await journal.tell(streams[0])
    found = await audited(journal, pool)
    assert violated(found) == set()
    assert found["I5"].counts["behind"] > 10


async def test_empty_tables_of_an_empty_log_are_in_order(pool: Pool, journal: Journal) -> None:
    assert violated(await audited(journal, pool)) == set()


PLANTED = {
    "a changed status": (
        "UPDATE projections.ai_agent_executions SET outcome = 'failed' WHERE outcome = 'completed'",
        {"I4"},
        "ai_agent_executions",
    ),
    "a lost row": ("DELETE FROM projections.ai_agent_tool_calls", {"I4"}, "is not in the table"),
    "a row too many": (
        "INSERT INTO projections.ai_agent_catalogues VALUES "
        "(gen_random_uuid(), gen_random_uuid(), 'x', now(), '{}'::jsonb)",
        {"I4"},
        "does not follow from the log",
    ),
    "a micro-unit too much": (
        "UPDATE projections.ai_usage_models_daily SET cost_micros = cost_micros + 1",
        {"I4", "I6"},
        "the log sums up to",
    ),
    "a checkpoint that is too far": (
        "UPDATE projections.projection_checkpoints SET next_offset = next_offset + 1",
        {"I5"},
        "is ahead at",
    ),
    "a checkpoint that is not far enough": (
        "UPDATE projections.projection_checkpoints SET next_offset = 2",
        {"I4", "I5", "I6"},
        "before the checkpoint's offset 2",
    ),
    "a checkpoint of another log": (
        "UPDATE projections.projection_checkpoints SET log_id = 'x'",
        {"I5"},
        "the checkpoint is of log 'x'",
    ),
    "no checkpoint": (
        "DELETE FROM projections.projection_checkpoints",
        {"I4", "I5", "I6"},
        "has no checkpoint",
    ),
    "another head": (
        "UPDATE projections.stream_heads SET sequence = sequence - 1",
        {"I5"},
        "was applied up to sequence",
    ),
}


@pytest.mark.parametrize(("sql", "wrong", "said"), PLANTED.values(), ids=PLANTED.keys())
async def test_what_was_changed_in_the_tables_is_found(
    pool: Pool, journal: Journal, streams: list[Stream], sql: str, wrong: set[str], said: str
) -> None:
    await pool.execute(sql)
    found = await audited(journal, pool)
    assert violated(found) == wrong
    assert any(said in why for finding in found.values() for why in finding.violations)


async def test_a_record_that_counts_and_can_t_be_read_is_found(
    pool: Pool, journal: Journal, streams: list[Stream]
) -> None:
    streams[0].say_raw("ai.tomorrow", b"{}")
    await journal.tell(streams[0])
    await pool.execute("UPDATE projections.projection_checkpoints SET next_offset = next_offset + 1")
    assert any("ai.tomorrow" in why for why in (await audited(journal, pool))["I4"].violations)


async def test_without_tables_there_is_nothing_to_audit(pool: Pool, journal: Journal) -> None:
    await pool.execute("DROP SCHEMA projections CASCADE")
    try:
        with pytest.raises(UnavailableError, match="start a projector"):
            await audit_tables(journal, pool)
    finally:
        await rebuild(pool)
    assert journal.count(EVENTS) == 3
