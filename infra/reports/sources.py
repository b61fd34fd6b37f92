"""Where a report's numbers come from: one statement a metric, for one site, read-only, by UTC day.

All figures of a report are read in one transaction, as of one moment. Site and days are bound, never spliced.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import TypeAlias

import asyncpg

from infra.modules.sandbox_actions import Db
from processors.reports.figures import Cost, Data
from processors.reports.periods import Period
from processors.tools.port import ToolError
from projections.db import TRANSIENT
from schemas.errors import UnavailableError
from schemas.ids import SiteId

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

STATEMENT_TIMEOUT_MS = 8_000  # of one statement: a report of years of a busy site takes a fraction of it

_MADE = """
SELECT (created_at AT TIME ZONE 'UTC')::date AS day, count(*)::bigint AS value FROM sandbox.{table}
WHERE site_id = $1 AND created_at >= $2 AND created_at < $3 {more} GROUP BY 1
"""
_ENDED = """
SELECT (completed_at AT TIME ZONE 'UTC')::date AS day, count(*)::bigint AS value FROM projections.ai_agent_executions
WHERE site_id = $1 AND completed_at >= $2 AND completed_at < $3 AND outcome = ANY('{outcomes}'::text[]) GROUP BY 1
"""
_USED = """
SELECT date AS day, sum({column})::bigint AS value FROM projections.ai_usage_daily
WHERE site_id = $1 AND date >= ($2::timestamptz AT TIME ZONE 'UTC')::date
  AND date < ($3::timestamptz AT TIME ZONE 'UTC')::date
GROUP BY 1
"""
SQL: dict[str, str] = {
    "contacts_created": _MADE.format(table="contacts", more=""),
    "notes_added": _MADE.format(table="notes", more=""),
    "tasks_created": _MADE.format(table="tasks", more=""),
    "emails_drafted": _MADE.format(table="emails", more="AND status = 'draft'"),
    "emails_sent": _MADE.format(table="emails", more="AND status = 'sent'"),
    "runs_started": _USED.format(column="agent_runs"),
    "runs_completed": _ENDED.format(outcomes="{completed}"),
    "runs_failed": _ENDED.format(outcomes="{failed,timed_out}"),
    "model_calls": _USED.format(column="llm_calls"),
    "tool_calls": _USED.format(column="tool_calls"),
    "approvals": _USED.format(column="approvals"),
    "tokens": _USED.format(column="tokens_input + tokens_output"),
}
COSTS = """
SELECT provider, model, currency, sum(llm_calls)::bigint AS calls, sum(cost_micros)::bigint AS micros
FROM projections.ai_usage_models_daily WHERE site_id = $1 AND date BETWEEN $2 AND $3
GROUP BY provider, model, currency ORDER BY currency, sum(cost_micros) DESC, provider, model LIMIT 50
"""


@asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Db]:
    """Yield a connection that sees one moment, can write nothing, and gives up on what takes too long.

    Raises:
        ToolError: a statement took too long, or there are no such data on this system.
        UnavailableError: Postgres does not answer.
    """
    try:
        async with pool.acquire() as db, db.transaction(isolation="repeatable_read", readonly=True):
            await db.execute(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}")
            yield db
    except asyncpg.QueryCanceledError as error:
        raise ToolError("Reading the data took too long: ask for fewer days, or for less.") from error
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise ToolError("This system does not have these data.") from error
    except TRANSIENT as error:
        raise UnavailableError(f"Postgres can't be read for data ({str(error) or repr(error)})") from error


async def read_data(pool: Pool, site_id: SiteId, metrics: Iterable[str], first: date, period: Period) -> Data:
    """Return the counts of each metric from `first` to the period's end, and what models cost in the period.

    Raises:
        ToolError, UnavailableError: see `reading`.
    """
    start, end = midnight(first), midnight(period.last + timedelta(days=1))
    by_day: dict[str, dict[date, int]] = {}
    async with reading(pool) as db:
        for metric in metrics:
            rows = await db.fetch(SQL[metric], site_id, start, end)
            by_day[metric] = {row["day"]: row["value"] for row in rows}
        costs = await db.fetch(COSTS, site_id, period.first, period.last)
    return Data(by_day, tuple(Cost(**dict(row)) for row in costs))


def midnight(day: date) -> datetime:
    """Return the first moment of a UTC day."""
    return datetime.combine(day, time(), UTC)
