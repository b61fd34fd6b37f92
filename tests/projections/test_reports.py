"""Reports become rows, and only what is whole does."""

from datetime import date

import pytest

from projections.db import Pool
from projections.projector import Projector
from projections.queries.reports import get_report, list_reports
from projections.rebuild import rebuild
from schemas.errors import NotFoundError
from schemas.ids import SiteId
from schemas.message import Json, JsonObject
from schemas.reports import GENERATE_REPORT, Chart, ChartSeries, body_sha256
from tests.projections.dumps import dump
from tests.projections.histories import OTHER_SITE, SITE, Run, Stream
from tests.projections.journal import Journal

CHART = Chart(
    name="runs",
    title="Runs",
    kind="bar",
    x_label="Day (UTC)",
    y_label="Runs a day",
    labels=("2026-01-19", "2026-01-20"),
    series=(ChartSeries(name="Runs", values=(4, 12.0)),),
)


def output(report_id: str, title: str = "Weekly", changes: JsonObject | None = None) -> JsonObject:
    markdown = f"# {title}\n\n![Runs](chart:runs) Ünïcode\n"
    return {
        "report_id": report_id,
        "template": "weekly_performance",
        "template_sha256": "t",
        "title": title,
        "first": "2026-01-19",
        "last": "2026-01-25",
        "as_of": "2026-01-26 06:00:00 UTC",
        "sha256": body_sha256(title, markdown, (CHART,)),
        "markdown": markdown,
        "charts": [CHART.model_dump(mode="json")],
        **(changes or {}),
    }


def reporting(stream: Stream, name: str = "t1") -> Run:
    return stream.started(name).assembled().thought("", GENERATE_REPORT).requested(GENERATE_REPORT)


def reported(stream: Stream, name: str = "t1", title: str = "Weekly", changes: JsonObject | None = None) -> str:
    run = reporting(stream, name)
    report_id = run.call_id()
    run.tool_completed(output(report_id, title, changes), GENERATE_REPORT)
    return report_id


async def project(pool: Pool, journal: Journal, *streams: Stream) -> None:
    await journal.tell(*streams)
    await Projector(journal, pool).catch_up()


async def test_a_report_is_listed_and_read_back_whole(pool: Pool, journal: Journal) -> None:
    stream = Stream().created()
    report_id = reported(stream)
    await project(pool, journal, stream)
    (row,) = await list_reports(pool, SITE)
    assert (row.id, row.title, row.template, row.agent_slug) == (report_id, "Weekly", "weekly_performance", "greeter")
    assert (row.period_first, row.period_last) == (date(2026, 1, 19), date(2026, 1, 25))
    stored = await get_report(pool, SITE, report_id[:20])
    assert stored.summary == row
    assert stored.report.is_whole()
    assert stored.report.model_dump(mode="json") == output(report_id)


async def test_reports_are_paged_and_filtered_and_each_site_sees_its_own(pool: Pool, journal: Journal) -> None:
    one, two, theirs = Stream(slug="one").created(), Stream(slug="two").created(), Stream(OTHER_SITE).created()
    two.at_ms = one.at_ms
    titles = {reported(one, f"t{n}", f"T{n}"): f"T{n}" for n in range(3)}
    titles[reported(two, "u", "U", {"template": "monthly_trends"})] = "U"
    foreign = reported(theirs, "v", "V")
    await project(pool, journal, one, two, theirs)
    ids = [row.id for row in await list_reports(pool, SITE)]
    assert ids == sorted(titles, reverse=True)
    first = await list_reports(pool, SITE, limit=2)
    rest = await list_reports(pool, SITE, before=first[-1].id)
    assert [row.id for row in (*first, *rest)] == ids
    assert [row.title for row in await list_reports(pool, SITE, template="monthly_trends")] == ["U"]
    assert {row.title for row in await list_reports(pool, SITE, agent_id=one.agent_id)} == {"T0", "T1", "T2"}
    for site in (SITE, SiteId("33333333-3333-8333-8333-333333333333")):
        with pytest.raises(NotFoundError, match="no report"):
            await get_report(pool, site, foreign)
    with pytest.raises(NotFoundError, match="not the id of a report"):
        await get_report(pool, SITE, "x'; --")


@pytest.mark.parametrize(
    "changes",
    [
        {"markdown": "# Another body"},
        {"title": "Another title"},
        {"sha256": "0" * 64},
        {"charts": []},
        {"report_id": "00000000-0000-8000-8000-000000000000"},
        {"first": "yesterday"},
        {"more": 1},
        {"cut": True},
    ],
)
async def test_what_is_no_whole_report_of_its_call_is_no_row(pool: Pool, journal: Journal, changes: JsonObject) -> None:
    stream = Stream().created()
    reported(stream, "t1", changes=changes)
    good = reported(stream, "t2")
    others: tuple[Json, ...] = (None, "text", [], {})
    for number, told in enumerate(others):
        reporting(stream, f"u{number}").tool_completed(told, GENERATE_REPORT)
    other = reporting(stream, "v")
    other.tool_completed(output(other.call_id()), "data_query")  # only the tool of reports makes them
    await project(pool, journal, stream)
    assert [row.id for row in await list_reports(pool, SITE)] == [good]


async def test_the_rows_follow_from_the_log(pool: Pool, journal: Journal) -> None:
    streams = [Stream(slug=slug).created() for slug in "ab"]
    for stream in streams:
        reported(stream)
    await project(pool, journal, *streams)
    rows = (await dump(pool))["ai_reports"]
    assert len(rows) == 2
    await rebuild(pool)
    await project(pool, journal)
    assert (await dump(pool))["ai_reports"] == rows
