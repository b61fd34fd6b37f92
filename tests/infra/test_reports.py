"""Reports and data tools on a real Postgres: what they say is compared with SQL of the tests' own."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
import pytest_asyncio

from infra.reports import sources
from infra.reports.gateway import ReportGateway
from infra.reports.sources import SQL
from processors.reports.metrics import METRICS
from processors.tools.call import call_tool
from processors.tools.port import ToolError
from projections.db import Pool
from schemas.errors import UnavailableError
from schemas.ids import SiteId, random_id
from schemas.message import Json, JsonObject
from schemas.reports import Report
from tests.infra.report_places import (
    NARRATIVE,
    NOW,
    TEMPLATES,
    gateway,
    give_a_past,
    make,
    opened_database,
    request,
    use,
)

SITE = SiteId(random_id())
OTHER_SITE = SiteId(random_id())
WEEK = ("2026-01-19", "2026-01-25")
WEEKLY: JsonObject = {"template": "weekly_performance", "narrative": NARRATIVE["weekly_performance"]}

# Said in another way than the sources say it: by text of days.
COUNTED = {
    "New contacts": "SELECT count(*) FROM sandbox.contacts WHERE {site} AND {created}",
    "Notes on contacts": "SELECT count(*) FROM sandbox.notes WHERE {site} AND {created}",
    "New tasks": "SELECT count(*) FROM sandbox.tasks WHERE {site} AND {created}",
    "Emails drafted": "SELECT count(*) FILTER (WHERE status = 'draft') FROM sandbox.emails WHERE {site} AND {created}",
    "Emails sent": "SELECT count(*) FILTER (WHERE status = 'sent') FROM sandbox.emails WHERE {site} AND {created}",
    "Agent runs completed": "SELECT count(*) FROM projections.ai_agent_executions "
    "WHERE {site} AND status = 'completed' AND {completed}",
    "Agent runs failed or timed out": "SELECT count(*) FROM projections.ai_agent_executions "
    "WHERE {site} AND status IN ('failed', 'timed_out') AND {completed}",
}
ON = "to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD') BETWEEN '{first}' AND '{last}'"


@pytest_asyncio.fixture(scope="module")
async def pool(postgres_url: str) -> AsyncIterator[Pool]:
    async with opened_database(postgres_url) as (opened, _):
        await give_a_past(opened, SITE)
        await give_a_past(opened, OTHER_SITE, days=10, most=2)
        yield opened


@pytest.fixture
def door(pool: Pool) -> ReportGateway:
    return gateway(pool)


async def counted(pool: Pool, what: str, first: str, last: str, site: SiteId = SITE) -> int:
    created, completed = (ON.format(column=c, first=first, last=last) for c in ("created_at", "completed_at"))
    sql = COUNTED[what].format(site=f"site_id = '{site}'", created=created, completed=completed)
    value: int = await pool.fetchval(sql)
    return value


def rows_of(markdown: str, head: str) -> dict[str, list[str]]:
    """The rows of the table whose head begins so, by their first cell."""
    table = markdown[markdown.index(f"| {head} |") :].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[1:] for row in cells[2:]}


# --- numbers --------------------------------------------------------------------------------------------------------


async def test_the_numbers_of_a_week_are_those_of_independent_sql(pool: Pool, door: ReportGateway) -> None:
    report = await make(door, SITE)
    assert report["title"] == f"Weekly performance, {WEEK[0]} to {WEEK[1]}"
    rows = rows_of(report["markdown"], "What")
    assert rows.keys() == COUNTED.keys()
    for what, cells in rows.items():
        now, before = await counted(pool, what, *WEEK), await counted(pool, what, "2026-01-12", "2026-01-18")
        assert [int(cells[0]), int(cells[1])] == [now, before], what
        assert now > 0
        assert cells[2] == f"{100 * (now - before) / before:+.1f} %".replace("+0.0", "0.0"), what
    for currency in ("EUR", "USD"):  # never added up
        assert f"| openai gpt-4o | 35 | 8.64 {currency} |" in report["markdown"]
    assert "5,110 tokens were used" in report["markdown"]  # 7 days of 730


async def test_the_charts_have_the_numbers_of_each_day(pool: Pool, door: ReportGateway) -> None:
    report = Report.model_validate(await make(door, SITE))
    chart = next(chart for chart in report.charts if chart.name == "contacts")
    by_day = [await counted(pool, "New contacts", day, day) for day in chart.labels]
    assert list(chart.series[0].values) == by_day
    assert (chart.labels[0], chart.labels[-1]) == WEEK


async def test_a_forecast_is_drawn_from_the_months_that_independent_sql_counts(pool: Pool, door: ReportGateway) -> None:
    report = Report.model_validate(await make(door, SITE, "quarterly_forecast"))
    chart = next(chart for chart in report.charts if chart.name == "contacts")
    actual, expected = chart.series
    assert [actual.values[-1], actual.values[-2]] == [
        await counted(pool, "New contacts", "2025-12-01", "2025-12-31"),
        await counted(pool, "New contacts", "2025-11-01", "2025-11-30"),
    ]
    assert sum(actual.values) == sum(actual.values[-2:])  # 70 days before the end of January begin in November
    assert chart.labels[expected.start :] == ("2026-01", "2026-02", "2026-03")


async def test_a_day_that_stands_out_is_found(pool: Pool, door: ReportGateway) -> None:
    site = SiteId(random_id())
    await give_a_past(pool, site, days=40, most=3)
    odd = datetime(2026, 1, 14, 12, tzinfo=UTC)
    for _ in range(60):
        insert = "INSERT INTO sandbox.tasks (site_id, id, title, priority, created_by, created_at)"
        await pool.execute(f"{insert} VALUES ($1, $2, 'x', 'low', 'u', $3)", site, random_id(), odd)
    report = await make(door, site, "anomaly_detection")
    rows = rows_of(report["markdown"], "What")
    assert list(rows) == ["New tasks"]
    assert rows["New tasks"][:2] == [
        "2026-01-14",
        str(await counted(pool, "New tasks", "2026-01-14", "2026-01-14", site)),
    ]


async def test_a_site_without_data_gets_a_report_of_zeros(door: ReportGateway) -> None:
    for template in TEMPLATES:
        report = Report.model_validate(await make(door, SiteId(random_id()), template))
        assert report.is_whole()
        assert {value for chart in report.charts for one in chart.series for value in one.values} == {0}


async def test_another_sites_data_are_in_no_number(pool: Pool, door: ReportGateway) -> None:
    await give_a_past(pool, third := SiteId(random_id()), days=20)
    before = await make(door, third)
    await give_a_past(pool, SiteId(random_id()), days=20)
    after = await make(door, third)
    assert {**before, "report_id": ""} == {**after, "report_id": ""}
    ours, theirs = await make(door, SITE), await make(door, OTHER_SITE)
    for what, cells in rows_of(theirs["markdown"], "What").items():
        assert int(cells[0]) == await counted(pool, what, *WEEK, OTHER_SITE)
    assert ours["sha256"] != theirs["sha256"]


def test_every_metric_has_its_statement_and_every_one_is_bound_to_a_site() -> None:
    assert SQL.keys() == METRICS.keys()
    assert all("site_id = $1" in sql for sql in (*SQL.values(), sources.COSTS))


# --- once -----------------------------------------------------------------------------------------------------------


async def test_a_repeated_call_gives_the_same_report_whatever_the_data_say_by_then(pool: Pool) -> None:
    site, call_id = SiteId(random_id()), random_id()
    await give_a_past(pool, site, days=9)
    given = dict(WEEKLY)
    first = await use(gateway(pool), request(site, "generate_report", call_id, **given))
    assert first["report_id"] == call_id
    await pool.execute("DELETE FROM sandbox.tasks WHERE site_id = $1", site)
    later = gateway(pool, NOW.replace(month=6))
    assert await use(later, request(site, "generate_report", call_id, **given)) == first
    with pytest.raises(ToolError, match="used for another report"):
        await use(later, request(site, "generate_report", call_id, **{**given, "template": "monthly_trends"}))
    anew = await use(gateway(pool), request(site, "generate_report", **given))
    assert anew["sha256"] != first["sha256"]


async def test_calls_at_the_same_time_get_one_report(pool: Pool) -> None:
    site, call_id = SiteId(random_id()), random_id()
    given = dict(WEEKLY)
    # Each door has a clock of its own, so that each would say another moment.
    doors = [gateway(pool, NOW.replace(second=n)) for n in range(6)]
    made = await asyncio.gather(*(use(one, request(site, "generate_report", call_id, **given)) for one in doors))
    assert all(one == made[0] for one in made)
    assert await pool.fetchval("SELECT count(*) FROM reports.calls WHERE site_id = $1", site) == 1


async def test_the_same_key_of_two_sites_are_two_reports(pool: Pool, door: ReportGateway) -> None:
    call_id, given = random_id(), dict(WEEKLY)
    ours = await use(door, request(SITE, "generate_report", call_id, **given))
    theirs = await use(door, request(OTHER_SITE, "generate_report", call_id, **given))
    assert ours["sha256"] != theirs["sha256"]


async def test_answers_are_forgotten_once_nobody_can_ask_again(pool: Pool, door: ReportGateway) -> None:
    site = SiteId(random_id())
    await make(door, site)
    await pool.execute("UPDATE reports.calls SET made_at = now() - interval '46 days' WHERE site_id = $1", site)
    await make(door, SITE)
    assert await pool.fetchval("SELECT count(*) FROM reports.calls WHERE site_id = $1", site) == 0


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "first", "last", "words"),
    [
        ("weekly_performance", "2026-01-20", "2026-01-27", "ends after today"),
        ("weekly_performance", "2026-01-20", "2026-01-19", "from 1 to"),
        ("weekly_performance", "2020-01-01", "2026-01-01", "from 1 to"),
        ("weekly_performance", "2024-01-01", "2026-01-01", "at most 400 days"),
        ("monthly_trends", "2025-11-02", "2025-12-31", "counts by month"),
    ],
)
async def test_a_period_that_can_not_be_is_refused(
    door: ReportGateway, template: str, first: str, last: str, words: str
) -> None:
    with pytest.raises(ToolError, match=words):
        await make(door, SITE, template, period={"first": first, "last": last})


async def test_a_period_may_be_asked_for(door: ReportGateway) -> None:
    report = await make(door, SITE, "monthly_trends", period={"first": "2025-12-01", "last": "2025-12-31"})
    assert (report["first"], report["last"]) == ("2025-12-01", "2025-12-31")
    assert "New contacts | n/a |" in report["markdown"]  # one month has no trend
    today = await make(door, SITE, period={"first": "2026-01-26", "last": "2026-01-26"})
    assert today["title"] == "Weekly performance, 2026-01-26"


async def test_a_narrative_that_does_not_fit_is_told_to_the_model(door: ReportGateway) -> None:
    asked = request(SITE, "generate_report", template="weekly_performance", narrative={"summary": "x"})

    async def answer(_: object) -> Json:
        return await use(door, asked)

    result = await call_tool(answer, asked)
    assert result.error is not None
    assert "insights is missing" in result.error
    assert "What the numbers tell" in result.error


async def test_a_hostile_narrative_is_text_in_the_report(door: ReportGateway) -> None:
    hostile = "# Fine\n\n[pay](https://evil.example.com) <script>x</script> {{tokens.total}} ![x](chart:contacts)"
    narrative = {"summary": hostile, "insights": [hostile], "recommendations": ["| a |", "![x](chart:runs)"]}
    report = await make(door, SITE, narrative=narrative)
    assert len(re.findall(r"(?<!\\)!\[", report["markdown"])) == 2  # the template's own charts
    assert len(re.findall(r"(?m)^# ", report["markdown"])) == 1
    assert "<script" not in report["markdown"].replace("\\<script", "")
    assert "\\{\\{tokens.total\\}\\}" in report["markdown"]


async def test_a_report_that_would_not_fit_the_log_is_refused(
    door: ReportGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.reports.gateway.OUTPUT_LIMIT_BYTES", 1_000)
    with pytest.raises(ToolError, match="over 1000: write less"):
        await make(door, SITE)


async def test_what_takes_too_long_is_given_up(
    pool: Pool, door: ReportGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "STATEMENT_TIMEOUT_MS", 50)
    monkeypatch.setitem(SQL, "tokens", SQL["tokens"].replace("WHERE", "WHERE pg_sleep(5) IS NOT NULL AND"))
    with pytest.raises(ToolError, match="took too long"):
        await make(door, SITE)


async def test_reading_can_write_nothing(pool: Pool) -> None:
    with pytest.raises(UnavailableError, match="read-only transaction"):
        async with sources.reading(pool) as db:
            await db.execute("DELETE FROM sandbox.tasks")


async def test_a_database_that_is_gone_is_unavailable(postgres_url: str) -> None:
    closed = await asyncpg.create_pool(postgres_url, min_size=0, max_size=1)
    await closed.close()
    with pytest.raises(UnavailableError, match="Postgres"):
        await make(gateway(closed), SITE)


async def test_two_processes_can_open_the_store_at_once(pool: Pool) -> None:
    await pool.execute("DROP SCHEMA reports CASCADE")
    await asyncio.gather(*(gateway(pool).open() for _ in range(4)))
