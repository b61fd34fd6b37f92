"""`dramac reports`: on a Postgres with two sites' reports."""

import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from infra.cli.common import NOT_FOUND, USAGE
from projections.projector import Projector
from schemas.ids import SiteId
from schemas.reports import Report
from tests.databases import database_url
from tests.infra.cli_runs import dramac
from tests.infra.report_places import gateway, give_a_past, make, opened_database
from tests.projections.histories import OTHER_SITE, SITE, Stream
from tests.projections.journal import Journal, new_journal
from tests.projections.test_reports import reporting

Settings = dict[str, str]


@pytest_asyncio.fixture(scope="module")
async def settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """The settings of SITE, which has reports of two templates; the other site has one."""
    async with opened_database(postgres_url) as (pool, name):
        journal = await new_journal(Journal())
        for site, templates in (
            (SITE, ("weekly_performance", "quarterly_forecast")),
            (OTHER_SITE, ("monthly_trends",)),
        ):
            await give_a_past(pool, SiteId(site), days=14)
            stream = Stream(site).created()
            for template in templates:
                run = reporting(stream, template)
                made = await make(gateway(pool), SiteId(site), template)
                # The call's id is the loop's to choose; here it is the history's.
                run.tool_completed({**made, "report_id": run.call_id()}, "generate_report")
            await journal.tell(stream)
        await Projector(journal, pool).catch_up()
        yield {
            "DRAMAC_POSTGRES": database_url(postgres_url, name),
            "DRAMAC_KAFKA": "127.0.0.1:1",
            "DRAMAC_DATA_DIR": str(tmp_path_factory.mktemp("data")),
            "DRAMAC_SITE": SITE,
        }


def ids(settings: Settings, *options: str) -> list[str]:
    return [row["id"] for row in dramac(settings, "reports", "list", "--json", *options).json]


def test_reports_are_listed_the_newest_first_and_only_the_sites_own(settings: Settings) -> None:
    rows = dramac(settings, "reports", "list", "--json").json
    assert [row["template"] for row in rows] == ["quarterly_forecast", "weekly_performance"]
    assert rows[0]["agent_slug"] == "greeter"
    told = dramac(settings, "reports", "list").out
    assert all(row["id"] in told and row["title"] in told for row in rows)
    assert ids(settings, "--template", "weekly_performance") == [rows[1]["id"]]
    assert ids(settings, "--limit", "1", "--agent", "greeter") == [rows[0]["id"]]
    (theirs,) = ids({**settings, "DRAMAC_SITE": OTHER_SITE})
    assert dramac(settings, "reports", "show", theirs).code == NOT_FOUND
    nobody = {**settings, "DRAMAC_SITE": "33333333-3333-8333-8333-333333333333"}
    assert "no reports yet" in dramac(nobody, "reports", "list").out


def test_a_report_is_shown_with_its_charts(settings: Settings) -> None:
    (report,) = ids(settings, "--template", "weekly_performance")
    shown = dramac(settings, "reports", "show", report)
    assert shown.code == 0
    for words in ("Weekly performance, 2026-01-19 to 2026-01-25", "New contacts by day", "█", report):
        assert words in shown.out
    assert "chart:" not in shown.out
    told = dramac(settings, "reports", "show", report, "--json").json
    assert Report.model_validate(told["report"]).is_whole()
    assert told["sha256"] == told["report"]["sha256"]


def test_a_report_is_written_to_files(settings: Settings, tmp_path: Path) -> None:
    (report,) = ids(settings, "--template", "quarterly_forecast")
    file = tmp_path / "forecast.md"
    wrote = dramac(settings, "reports", "show", report, "--output", str(file), "--json").json
    assert wrote["files"] == [str(file), str(tmp_path / "forecast-contacts.svg"), str(tmp_path / "forecast-runs.svg")]
    assert "![New contacts, and what to expect](forecast-contacts.svg)" in file.read_text()
    assert ET.fromstring((tmp_path / "forecast-runs.svg").read_text()).tag.endswith("svg")
    assert dramac(settings, "reports", "show", report, "--output", str(file), "--inline").code == 0
    inline = file.read_text()
    assert inline.count("data:image/svg+xml;base64,") == 2
    assert dramac(settings, "reports", "show", report, "--markdown").out == inline


def test_what_can_not_be_shown_is_said_in_one_line(settings: Settings, tmp_path: Path) -> None:
    (report,) = ids(settings, "--template", "weekly_performance")
    missing = dramac(settings, "reports", "show", "0" * 8)
    assert missing.code == NOT_FOUND
    assert missing.says_in_one_line("there is no report '00000000'")
    assert dramac(settings, "reports", "show", "no such").says_in_one_line("not the id of a report", "reports list")
    unwritable = dramac(settings, "reports", "show", report, "--output", str(tmp_path / "no" / "folder.md"))
    assert unwritable.code == USAGE
    assert unwritable.says_in_one_line("folder.md", "can't be written")


def test_templates_are_listed_and_checked(settings: Settings, tmp_path: Path) -> None:
    names = [one["name"] for one in dramac(settings, "reports", "templates", "--json").json]
    assert names == ["anomaly_detection", "monthly_trends", "quarterly_forecast", "weekly_performance"]
    own = {**settings, "DRAMAC_REPORT_TEMPLATES": str(tmp_path)}
    head = "---\ntitle: T\ndescription: Our own\nperiod: {unit: day, count: 3}\n---\n"
    (tmp_path / "ours.md").write_text(f"{head}{{{{tokens.total}}}}\n")
    assert "Our own" in dramac(own, "reports", "templates").out
    (tmp_path / "ours.md").write_text(f"{head}{{{{tokens.totals}}}}\n")
    wrong = dramac(own, "reports", "templates")
    assert wrong.code == USAGE
    assert wrong.says_in_one_line("report template 'ours'", "{{tokens.totals}}", "there are total")
    gone = dramac({**settings, "DRAMAC_REPORT_TEMPLATES": str(tmp_path / "no")}, "reports", "templates")
    assert gone.says_in_one_line("DRAMAC_REPORT_TEMPLATES", "no folder")
