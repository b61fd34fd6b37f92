"""Reports: what the tool `generate_report` answered, a row each, written once."""

from dataclasses import dataclass
from datetime import date, datetime

from pydantic import ValidationError

from projections.db import Uuid, statement
from projections.facts import Fact, uuid_text
from schemas.reports import Report


@dataclass(slots=True)
class ReportRow:
    """One report. `body` is the report as JSON text."""

    site_id: Uuid
    id: Uuid
    agent_id: Uuid
    execution_id: Uuid
    created_at: datetime
    template: str
    title: str
    period_first: date
    period_last: date
    sha256: str
    body: str


REPORTS = statement(
    ReportRow,
    """
INSERT INTO projections.ai_reports (
  site_id, id, agent_id, execution_id, created_at, template, title, period_first, period_last, sha256, body
)
SELECT
  site_id, id, agent_id, execution_id, created_at, template, title, period_first, period_last, sha256, body
FROM :rows
ON CONFLICT (site_id, id) DO NOTHING
""",
)


def report_row(fact: Fact) -> ReportRow | None:
    """Return the row of a report that a call gave; None if what it gave is no whole report of that call.

    A person who settles a call in doubt can put anything there: that is a tool's output, and no report.
    """
    data = fact.data
    try:
        report = Report.model_validate(data["output"])
    except ValidationError:
        return None
    if report.report_id != data["call_id"] or not report.is_whole():
        return None
    return ReportRow(
        fact.site_id,
        uuid_text(data["call_id"]),
        fact.agent_id,
        uuid_text(data["execution_id"]),
        fact.at,
        report.template,
        report.title,
        report.first,
        report.last,
        report.sha256,
        report.encode().decode(),
    )
