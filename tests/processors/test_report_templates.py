import html as entities
import json
import re
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from infra.reports.library import SHIPPED, load_templates
from processors.reports.compose import Composed, compose
from processors.reports.figures import Cost, Data, rounded
from processors.reports.markdown import bullets, escape_text, escape_within, table
from processors.reports.metrics import METRICS
from processors.reports.narrative import written
from processors.reports.periods import Period, before, last_full
from processors.reports.template import FIGURES, PLACEHOLDER, Template, parse_template
from processors.tools.builtin.reports import limited_to, report_tool
from processors.tools.port import ToolError
from processors.tools.validation import validator_for
from schemas.errors import ConfigurationError
from schemas.message import Json, JsonObject
from schemas.reports import Report, body_sha256

DATA = Path(__file__).parents[3] / "shared" / "data"
TODAY = date(2026, 1, 26)
AS_OF = "2026-01-26 06:00:00 UTC"
HEAD = "title: T {{period}}\ndescription: D\nperiod: {unit: week, count: 1}\n"
SHIPPED_NAMES = ["anomaly_detection", "monthly_trends", "quarterly_forecast", "weekly_performance"]


ByDay = dict[str, dict[date, int]]


def template(head: str = "", body: str = "{{contacts_created.total}}") -> Template:
    return parse_template("probe", f"---\n{HEAD}{head}\n---\n{body}\n")


def narrative_for(made: Template, text: str = "Fine.") -> JsonObject:
    return {name: text if field.kind == "text" else [text, text] for name, field in made.narrative.items()}


def filled(made: Template, narrative: JsonObject | None = None, by_metric: ByDay | None = None) -> Composed:
    period = last_full(made.period.unit, made.period.count, TODAY)
    data = Data(
        {name: (by_metric or {}).get(name, {}) for name in METRICS}, (Cost("openai", "a|b", "USD", 2, 1_500_000),)
    )
    return compose(made, period, data, written(made, narrative_for(made) if narrative is None else narrative), AS_OF)


# --- the templates that are shipped ---------------------------------------------------------------------------------


def test_the_four_reports_of_an_analyst_are_shipped() -> None:
    assert list(load_templates()) == SHIPPED_NAMES


@pytest.mark.parametrize("name", SHIPPED_NAMES)
@pytest.mark.parametrize("busy", [True, False])
def test_every_placeholder_is_filled(name: str, busy: bool) -> None:
    made = load_templates()[name]
    period = last_full(made.period.unit, made.period.count, TODAY)
    first = before(period, made.bucket).first
    days = {first + timedelta(days=n): n % 5 for n in range((period.last - first).days + 1)} if busy else {}
    composed = filled(made, by_metric=dict.fromkeys(METRICS, days))
    assert PLACEHOLDER.findall(composed.markdown + composed.title) == []
    assert composed.markdown.startswith(f"# {composed.title}\n")
    assert set(re.findall(r"\(chart:(\w+)\)", composed.markdown)) == {chart.name for chart in composed.charts}
    for chart in composed.charts:
        assert chart.title
        assert chart.x_label.endswith("(UTC)")
        assert chart.y_label == f"{METRICS[made.charts[chart.name].metrics[0]].unit.capitalize()} a {made.bucket}"
        assert all(one.start + len(one.values) <= len(chart.labels) for one in chart.series)


# --- figures --------------------------------------------------------------------------------------------------------


def test_figures_say_what_the_days_of_the_period_say() -> None:
    body = "\n".join(f"{figure}={{{{contacts_created.{figure}}}}}" for figure in FIGURES)
    made = template("forecast: {method: linear_trend, horizon: 2}\n", body)
    monday = date(2026, 1, 19)
    values = [2, 4, 6, 8, 10, 12, 1_014]
    days = {monday + timedelta(days=n): value for n, value in enumerate(values)}
    told = filled(
        made, by_metric={"contacts_created": {**days, monday - timedelta(days=1): 100, monday + timedelta(days=7): 999}}
    )
    lines = dict(line.split("=") for line in told.markdown.splitlines() if "=" in line)
    assert lines == {
        "total": "1,056",
        "mean": "150.9",
        "highest": "1,014",
        "highest_on": "2026-01-25",
        "previous": "100",
        "change": "+956.0 %",
        "trend": "+109.1 a day",
        "forecast": "1,284.0",
        "anomalies": "2026-01-25 (1,014)",
    }


def test_the_template_of_the_documentation_is_one_and_all_metrics_are_named_there() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reports.md").read_text()
    shown = re.search(r"```\n(---\n.*?)```", text, re.DOTALL)
    assert shown is not None
    assert parse_template("leads", shown[1]).metrics() == ("contacts_created", "tasks_created")
    assert all(f"`{name}`" in text for name in METRICS)


def test_what_the_data_can_not_tell_is_said_to_be_unknown() -> None:
    made = template("", "{{contacts_created.change}}, {{contacts_created.highest_on}}, {{contacts_created.anomalies}}")
    assert "n/a, n/a, none" in filled(made).markdown


def test_numbers_are_rounded_to_even_and_zero_has_no_sign() -> None:
    assert [rounded(0.25), rounded(0.35), rounded(-0.04), rounded(1234567.89)] == ["0.2", "0.4", "0.0", "1,234,567.9"]
    assert [rounded(0, sign=True), rounded(3, sign=True), rounded(-3, sign=True)] == ["0.0", "+3.0", "-3.0"]


# --- templates that are wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "body", "words"),
    [
        ("", "{{contacts.total}}", "{{contacts.total}} is not known"),
        ("", "{{contacts_created.median}}", "no figure of a metric: there are total"),
        ("", "{{narrative.summary}}", "not declared in the head"),
        ("", "{{contacts_created.forecast}}", "needs a rule under `forecast`"),
        ("narrative: {summary: {about: A.}}", "x", "narrative.summary is declared and has no"),
        (
            "tables: {t: {kind: totals, metrics: [sales]}}",
            "{{table.t}}",
            "tables.t.metrics: there is no metric 'sales'",
        ),
        ("tables: {t: {kind: totals}}", "{{table.t}}", "a table needs metrics"),
        ("charts: {c: {title: C, metrics: [runs_failed, tokens]}}", "{{chart.c}}", "runs and tokens: make two charts"),
        ("charts: {c: {title: C, metrics: [tokens], show: [forecast]}}", "{{chart.c}}", "under `forecast`"),
        ("bucket: month", "x", "a period of weeks has no whole months"),
        ("bucket: day\nforecast: {horizon: 61}", "x", "forecast.horizon"),
        ("colour: red", "x", "there is no field 'colour'"),
        ("name: other", "x", "name is not for the head"),
        ("narrative: {Bad-Name: {about: A.}}", "x", "narrative.Bad-Name"),
        ("period: [", "x", "not YAML"),
        ("", "", "body"),
    ],
)
def test_a_wrong_template_is_refused_with_what_is_wrong(head: str, body: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        template(head, body)
    assert str(refused.value).startswith("report template 'probe': ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "no head", "---\ntitle: x\n", "--- \n- a\n---\nbody", "x\n---\n---\n"])
def test_what_has_no_head_is_no_template(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"its head|begins with a head"):
        parse_template("probe", text)


def test_a_folder_of_ones_own_stands_in_for_what_is_shipped(tmp_path: Path) -> None:
    (tmp_path / "weekly_performance.md").write_text(f"---\n{HEAD}---\nOurs: {{{{tokens.total}}}}\n")
    (tmp_path / "extra.md").write_text(f"---\n{HEAD}---\nx\n")
    found = load_templates(tmp_path)
    assert list(found) == sorted([*SHIPPED_NAMES, "extra"])
    assert found["weekly_performance"].body == "Ours: {{tokens.total}}"
    assert found["weekly_performance"].sha256 != load_templates()["weekly_performance"].sha256
    (tmp_path / "extra.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="can't be read"):
        load_templates(tmp_path)
    with pytest.raises(ConfigurationError, match="no folder"):
        load_templates(tmp_path / "missing")
    assert SHIPPED.is_dir()


# --- what a model writes --------------------------------------------------------------------------------------------


def test_a_narrative_that_does_not_fit_is_refused_with_all_that_is_wrong() -> None:
    made = load_templates()["weekly_performance"]
    with pytest.raises(ToolError) as refused:
        written(made, {"summary": ["a"], "insights": "b", "revenue": "1,000,000"})
    for words in (
        "no field 'revenue'",
        "summary must be a text",
        "insights must be a list",
        "recommendations is missing",
    ):
        assert words in str(refused.value)
    for narrative in ({"summary": " \n"}, {"summary": "x" * 2_001}):
        with pytest.raises(ToolError, match=r"must say something|at most 2000"):
            written(made, {**narrative_for(made), **narrative})


def test_an_optional_field_may_be_left_out() -> None:
    made = load_templates()["monthly_trends"]
    assert written(made, {"summary": "a", "insights": ["b"]})["recommendations"] == ""


HOSTILE = (
    "# Heading",
    "[click](https://evil.example.com) ![x](https://evil.example.com/p.png) <https://evil.example.com>",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "- item\n* item\n+ item\n1. item\n2) item\n> quote\n---\n===\n```\ncode\n```\n    indented",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "&lt;b&gt; &amp; &#x202e; ~~gone~~ **bold** __bold__ `code` $x$",
    "{{contacts_created.total}} {{narrative.summary}} {{as_of}}",
    "[ref]: https://evil.example.com\n\n[ref]",
    "line\\\nbreak  \nhere\u202e\u2066\x1b[31m\x00",
)


def html_of(markdown: str) -> str:
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def shown(html: str) -> str:
    return " ".join(entities.unescape(re.sub(r"</?(?:p|li|ul)>", " ", html)).split())


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str) -> None:
    rendered = html_of(escape_text(text))
    assert set(re.findall(r"</?(\w+)", rendered)) <= {"p"}
    assert shown(rendered) == " ".join(re.sub("[\u202e\u2066\x1b\x00]", "", text).split())
    assert set(re.findall(r"</?(\w+)", html_of(bullets([text])))) <= {"ul", "li"}
    cells = html_of(table(["a", "b"], [[text, "1"]]))
    assert set(re.findall(r"</?(\w+)", cells)) <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert cells.count("<tr>") == 2


@given(st.text(max_size=200))
def test_any_text_stays_text(text: str) -> None:
    assert set(re.findall(r"</?(\w+)", html_of(escape_text(text)))) <= {"p"}
    assert set(re.findall(r"</?(\w+)", html_of(bullets([text])))) <= {"ul", "li"}
    assert "\n" not in escape_within(text)


def test_links_without_marks_are_broken_up() -> None:
    assert escape_text("see https://evil.example.com or www.evil.example.com") == (
        "see https\\://evil.example.com or www\\.evil.example.com"
    )


def test_naughty_strings_stay_text() -> None:
    file = DATA / "naughty_strings.json"
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    for text in json.loads(file.read_text()):
        assert set(re.findall(r"</?(\w+)", html_of(escape_text(str(text))))) <= {"p"}


def test_a_model_can_not_fill_a_number() -> None:
    made = template("narrative: {summary: {about: A.}}\n", "{{narrative.summary}}\n\n{{contacts_created.total}}")
    told = filled(
        made,
        {"summary": "{{contacts_created.total}} is 1,000,000"},
        by_metric={"contacts_created": {date(2026, 1, 20): 7}},
    )
    assert "\\{\\{contacts\\_created.total\\}\\} is 1,000,000\n\n7\n" in told.markdown
    with pytest.raises(ToolError, match="no field 'contacts_created'"):
        written(made, {"summary": "x", "contacts_created": "1"})


# --- the tool, and the report it gives ------------------------------------------------------------------------------


def test_the_tool_tells_a_model_what_to_write_and_takes_nothing_else() -> None:
    tool = report_tool(load_templates())
    check = validator_for(tool)
    good: Json = {"template": "weekly_performance", "narrative": {"summary": "x", "insights": ["y"]}}
    assert check(good) is None
    assert check({**good, "period": {"first": "2026-01-19", "last": "2026-01-25"}}) is None
    for wrong in (
        {"template": "sales"},
        {"period": {"first": "yesterday", "last": "2026-01-25"}},
        {"narrative": {"summary": 5}},
        {"figures": {"contacts_created.total": 9}},
        {"narrative": {"summary": "x" * 4_001}},
    ):
        assert check({**good, **wrong}) is not None, wrong
    assert "What mattered most this week" in json.dumps(tool.parameters)


def test_an_agent_can_be_limited_to_some_templates() -> None:
    limited = limited_to(report_tool(load_templates()), ["monthly_trends", "unknown"])
    assert limited is not None
    check = validator_for(limited)
    assert check({"template": "monthly_trends", "narrative": {}}) is None
    assert check({"template": "weekly_performance", "narrative": {}}) is not None
    assert limited_to(limited, ["weekly_performance"]) is None


def test_a_report_whose_body_was_changed_is_not_whole() -> None:
    made = load_templates()["weekly_performance"]
    told = filled(made)
    period = Period(date(2026, 1, 19), date(2026, 1, 25))
    sha256 = body_sha256(told.title, told.markdown, told.charts)
    report = Report(
        report_id="r",
        template=made.name,
        template_sha256=made.sha256,
        title=told.title,
        first=period.first,
        last=period.last,
        as_of=AS_OF,
        sha256=sha256,
        markdown=told.markdown,
        charts=told.charts,
    )
    assert report.is_whole()
    assert Report.model_validate_json(report.encode()).is_whole()
    assert not report.model_copy(update={"markdown": told.markdown.replace("0", "9", 1)}).is_whole()


def test_a_report_of_an_earlier_release_is_still_whole() -> None:
    """Frozen: the rows of old reports must come of the log again, whatever later releases add."""
    stored = {
        "report_id": "019bef56-c3cc-8158-bdda-8b66c375a859",
        "template": "weekly_performance",
        "template_sha256": "t",
        "title": "Weekly",
        "first": "2026-01-19",
        "last": "2026-01-25",
        "as_of": "2026-01-26 06:00:00 UTC",
        "sha256": "834ee212163b8af65f33187ca985b7f6a8a83b518bf91c8c834ce0dd95548b97",
        "markdown": "# Weekly\n\n![Runs](chart:runs) Ünïcode\n",
        "charts": [
            {
                "name": "runs",
                "title": "Runs",
                "kind": "bar",
                "x_label": "Day (UTC)",
                "y_label": "Runs a day",
                "labels": ["2026-01-19", "2026-01-20"],
                "series": [
                    {
                        "name": "Runs",
                        "role": "actual",
                        "start": 0,
                        "values": [4, 12.0],
                        "low": [],
                        "high": [],
                        "marked": [1],
                    }
                ],
            }
        ],
    }
    assert Report.model_validate(stored).is_whole()
