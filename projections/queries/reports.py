"""Reports: lists, and one with its body."""

from dataclasses import dataclass
from datetime import date, datetime

import orjson

from projections.db import Pool
from projections.queries.reading import Where, fetch, id_range, make, only, page
from schemas.errors import NotFoundError
from schemas.ids import AgentId, ExecutionId, SiteId
from schemas.reports import Report

SUMMARY = """
SELECT r.site_id::text, r.id::text, r.agent_id::text, d.slug AS agent_slug, r.execution_id::text, r.created_at,
  r.template, r.title, r.period_first, r.period_last, r.sha256
"""
FROM = """
FROM projections.ai_reports r
LEFT JOIN projections.ai_agent_definitions d ON d.site_id = r.site_id AND d.id = r.agent_id
"""


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """A report as a list shows it. The period's days are of UTC, both included."""

    site_id: SiteId
    id: str
    agent_id: AgentId
    agent_slug: str | None
    execution_id: ExecutionId
    created_at: datetime
    template: str
    title: str
    period_first: date
    period_last: date
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report with its body."""

    summary: ReportSummary
    report: Report


async def list_reports(
    pool: Pool,
    site_id: SiteId | None,
    *,
    agent_id: AgentId | None = None,
    template: str | None = None,
    limit: int = 50,
    before: str | None = None,
) -> tuple[ReportSummary, ...]:
    """Return reports, the newest first; `before` is the id of the last one of the page before."""
    where = Where()
    where.given("r.site_id = ?", site_id)
    where.given("r.agent_id = ?", agent_id)
    where.given("r.template = ?", template)
    where.given("r.id < ?::uuid", before)
    rows = await fetch(pool, where.sql(SUMMARY + FROM, f"ORDER BY r.id DESC LIMIT {page(limit)}"), *where.values)
    return tuple(make(ReportSummary, row) for row in rows)


async def get_report(pool: Pool, site_id: SiteId | None, ref: str) -> StoredReport:
    """Return the report whose id is `ref` or begins with it.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    span = id_range(ref)
    if span is None:
        raise NotFoundError(f"{ref!r} is not the id of a report, nor the beginning of one: see `dramac reports list`")
    where = Where()
    where.given("r.site_id = ?", site_id)
    where.add("r.id BETWEEN ?::uuid AND ?::uuid", *span)
    rows = await fetch(pool, where.sql(f"{SUMMARY}, r.body{FROM}", "LIMIT 2"), *where.values)
    values = dict(only(rows, "report", ref))
    report = Report.model_validate(orjson.loads(values.pop("body")))
    return StoredReport(make(ReportSummary, values), report)
