"""What must hold between the tables and the log: rows = fold(log), checkpoints, sums of usage.

All is read in one transaction, as of its beginning. The rows that are due are made anew from the log into temporary
tables of the same form, by the projector's own fold, up to the very offsets of the checkpoints; then
the tables are compared, row by row. Nothing is written but those temporary tables, which end with the transaction.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, cast

import asyncpg

from projections.batch import Batch
from projections.checkpoints import Checkpoint, load_checkpoints
from projections.db import SCHEMA, Db, Pool
from projections.facts import Fact, read_fact
from projections.fold import apply
from projections.stream_heads import load_heads
from schemas.errors import DecodeError, UnavailableError
from streams.audit import TOLD_VIOLATIONS, Finding
from streams.chain import Head, Heads
from streams.log import Bounds, Log
from streams.replay import read_span
from streams.topics import EVENTS, log_id
from streams.verify import stream_name

logger = logging.getLogger(__name__)

SCRATCH = "pg_temp"
# Tables of the schema that do not follow from the fold; heads are compared with the checkpoints.
NOT_ROWS = ["migrations", "projection_checkpoints", "stream_heads"]
TABLES = """
SELECT c.relname AS name, array_agg(a.attname::text ORDER BY array_position(i.indkey::int2[], a.attnum)) AS key
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND c.relname <> ALL($2::text[])
GROUP BY c.relname ORDER BY c.relname
"""
DIFFERING = """
SELECT {key} AS key, to_jsonb(l)::text AS live, to_jsonb(s)::text AS due
FROM {schema}.{table} l FULL JOIN {scratch}.{table} s USING ({columns})
WHERE to_jsonb(l) IS DISTINCT FROM to_jsonb(s)
LIMIT {limit}
"""
MODEL_USAGE = """
SELECT site_id::text, date, agent_id::text, provider, model, currency, price_version,
  llm_calls, tokens_input, tokens_output, tokens_cached, cost_micros
FROM projections.ai_usage_models_daily
"""
METERED = (b"ai.step.thought", b"ai.step.model_failed", b"ai.step.attempt_failed", b"ai.usage.metered")

UsageKey = tuple[str, date, str, str, str, str, str]
Sums = tuple[int, int, int, int, int]  # replies, tokens in, out, cached, micro-units of the currency


@dataclass(slots=True)
class TableAudit:
    """What was found of I4, I5 and I6 in the tables."""

    rows: Finding = field(default_factory=lambda: Finding("I4", "fold(log) = live state = rows"))
    checkpoints: Finding = field(default_factory=lambda: Finding("I5", "checkpoint = last applied offset"))
    usage: Finding = field(default_factory=lambda: Finding("I6", "every reply is metered once"))
    sums: dict[UsageKey, Sums] = field(default_factory=dict)


async def audit_tables(log: Log, pool: Pool) -> list[Finding]:
    """Compare the tables with the log.

    Raises:
        UnavailableError: Postgres does not answer, or has no tables yet.
        TimeoutError: a record that is there can't be read.
    """
    audit = TableAudit()
    count = await log.partitions(EVENTS)
    try:
        async with pool.acquire() as db, db.transaction(isolation="repeatable_read"):
            checkpoints = await load_checkpoints(db, range(count))
            heads = await load_heads(db, list(range(count)))
            tables = {row["name"]: row["key"] for row in await db.fetch(TABLES, SCHEMA, NOT_ROWS)}
            for table in (*tables, "stream_heads"):
                await db.execute(f"CREATE TEMP TABLE {table} (LIKE {SCHEMA}.{table} INCLUDING ALL) ON COMMIT DROP")
            for partition in range(count):
                checkpoint = checkpoints.get(partition)
                await _project(audit, log, db, partition, checkpoint, heads[partition])
            for table, key in tables.items():
                await _compare(audit.rows, db, table, key)
            await _compare_usage(audit, db)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise UnavailableError(
            f"Postgres has not all read models ({error}): start a projector, it makes them"
        ) from error
    return [audit.rows, audit.checkpoints, audit.usage]


class _Scratch:
    """A connection by which a batch is written into the temporary tables instead of the real ones."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def execute(self, sql: str, *values: Any) -> str:
        return await self._db.execute(sql.replace(f"{SCHEMA}.", f"{SCRATCH}."), *values)


async def _project(
    audit: TableAudit, log: Log, db: Db, partition: int, checkpoint: Checkpoint | None, heads: Mapping[bytes, Head]
) -> None:
    held = await log.bounds(EVENTS, partition)
    until = _check_checkpoint(audit.checkpoints, partition, checkpoint, held, await log_id(log, EVENTS, partition))
    folded, scratch = Heads(), cast("Db", _Scratch(db))
    async for records in read_span(log, EVENTS, partition, Bounds(held.start, min(until, held.end))):
        batch = Batch()
        for record in records:
            if record.key is None or not folded.admit(record):
                continue
            try:
                fact = read_fact(record)
                apply(batch, fact)
                _meter(audit.sums, fact)
            except DecodeError as error:
                audit.rows.violated(f"{EVENTS!r} partition {partition}, offset {record.offset} counts, but {error}")
            audit.rows.count({"events": 1})
        await batch.write(scratch)
    _check_heads(audit.checkpoints, partition, until, heads, folded.as_dict())


# --- I5 -------------------------------------------------------------------------------------------------------------


def _check_checkpoint(
    finding: Finding, partition: int, checkpoint: Checkpoint | None, held: Bounds, name: str | None
) -> int:
    """Return the offset up to which the rows should be."""
    where = f"{EVENTS!r} partition {partition}"
    if checkpoint is None:
        if held.end > 1:  # more than the genesis record
            finding.violated(f"{where} has no checkpoint, and {held.end} records")
        return 0
    behind = max(0, held.end - checkpoint.next_offset)
    finding.count({"partitions": 1, "behind": behind})
    if checkpoint.log_id != name:
        finding.violated(f"{where} is log {name!r}, the checkpoint is of log {checkpoint.log_id!r}")
    if checkpoint.next_offset > held.end:
        finding.violated(f"{where} ends at offset {held.end}, the checkpoint is ahead at {checkpoint.next_offset}")
    return checkpoint.next_offset


def _check_heads(
    finding: Finding, partition: int, until: int, stored: Mapping[bytes, Head], due: Mapping[bytes, Head]
) -> None:
    for key in sorted(stored.keys() | due.keys()):
        there, wanted = stored.get(key, Head()), due.get(key, Head())
        if there != wanted:
            finding.violated(
                f"stream {stream_name(key)} (partition {partition}) was applied up to sequence {there.sequence}, but "
                f"stood at {wanted.sequence} before the checkpoint's offset {until}"
            )
    finding.count({"streams": len(due)})


# --- I4 -------------------------------------------------------------------------------------------------------------


async def _compare(finding: Finding, db: Db, table: str, key: list[str]) -> None:
    columns = ", ".join(f'"{column}"' for column in key)
    shown = " || '/' || ".join(f'"{column}"::text' for column in key)
    sql = DIFFERING.format(
        key=shown, schema=SCHEMA, scratch=SCRATCH, table=table, columns=columns, limit=TOLD_VIOLATIONS
    )
    for row in await db.fetch(sql):
        if row["due"] is None:
            why = "is in the table, but does not follow from the log"
        elif row["live"] is None:
            why = "follows from the log, but is not in the table"
        else:
            why = f"is {row['live']:.500}, but should be {row['due']:.500}"
        finding.violated(f"{table} {row['key']}: {why}")
    finding.count({"tables": 1, "rows": await db.fetchval(f"SELECT count(*) FROM {SCHEMA}.{table}")})  # noqa: S608


# --- I6 -------------------------------------------------------------------------------------------------------------


def _meter(sums: dict[UsageKey, Sums], fact: Fact) -> None:
    """Add up a reply, by itself and not by the fold that made the rows."""
    data = fact.data
    if fact.wire not in METERED or data["usage"] is None:
        return
    usage = data["usage"]
    key = (
        fact.site_id,
        fact.at.date(),
        fact.agent_id,
        data["provider"],
        data["model"],
        data["currency"],
        data["price_version"] or "",
    )
    calls, tokens_in, tokens_out, cached, cost = sums.get(key, (0, 0, 0, 0, 0))
    sums[key] = (
        calls + 1,
        tokens_in + usage["input_tokens"],
        tokens_out + usage["output_tokens"],
        cached + usage["cached_tokens"],
        cost + data["cost_micros"],
    )


async def _compare_usage(audit: TableAudit, db: Db) -> None:
    stored: dict[UsageKey, Sums] = {}
    for row in await db.fetch(MODEL_USAGE):
        values = tuple(row.values())
        stored[values[:7]] = values[7:]
    for key in sorted(stored.keys() | audit.sums.keys()):
        there, due = stored.get(key), audit.sums.get(key)
        if there != due:
            audit.usage.violated(f"ai_usage_models_daily {key}: the row says {there}, the log sums up to {due}")
    audit.usage.count({"usage_rows": len(stored)})
