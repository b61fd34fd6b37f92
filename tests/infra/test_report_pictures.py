"""What readers of a report see: pictures, files, and a terminal."""

import base64
import io
import re
import xml.etree.ElementTree as ET
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from infra.reports.rendering import print_report, with_pictures_inside, write_report
from infra.reports.svg import HEIGHT, WIDTH, nice_step, svg
from schemas.reports import Chart, ChartSeries, Report, body_sha256

SVG = "{http://www.w3.org/2000/svg}"
MONTHS = tuple(f"2026-{month:02}" for month in range(1, 8))

FORECAST = Chart(
    name="contacts",
    title="New contacts <& what to expect>",
    kind="line",
    x_label="Month (UTC)",
    y_label="Contacts a month",
    labels=MONTHS,
    series=(
        ChartSeries(name="New contacts", values=(3, 8, 5, 30, 9), marked=(3,)),
        ChartSeries(
            name="New contacts, expected",
            role="forecast",
            start=5,
            values=(11.5, 12.0),
            low=(2.0, 1.5),
            high=(21.0, 44.0),
        ),
    ),
)
BARS = Chart(
    name="runs",
    title="Runs",
    kind="bar",
    x_label="Day (UTC)",
    y_label="Runs a day",
    labels=("2026-01-19", "2026-01-20"),
    series=(ChartSeries(name="Runs", values=(4, 0)),),
)


def report(*charts: Chart) -> Report:
    markdown = (
        "# T\n\nBefore.\n\n" + "".join(f"![{chart.title}](chart:{chart.name})\n\n" for chart in charts) + "After.\n"
    )
    return Report(
        report_id="r",
        template="probe",
        template_sha256="",
        title="T",
        first=date(2026, 1, 19),
        last=date(2026, 1, 20),
        as_of="",
        sha256=body_sha256("T", markdown, charts),
        markdown=markdown,
        charts=charts,
    )


def structure(picture: str) -> list[str]:
    """Each element with its class and its text, the style aside."""
    root = ET.fromstring(picture)
    return [
        " ".join(filter(None, (element.tag.removeprefix(SVG), element.get("class"), (element.text or "").strip())))
        for element in root.iter()
        if element.tag != f"{SVG}style"
    ]


def test_a_chart_with_a_forecast_looks_as_it_did() -> None:
    axis = [part for value in (0, 10, 20, 30, 40, 50) for part in (f"line {'r' if value else 'x'}", f"text a {value}")]
    points = [
        f"title {month}: {value}"
        for month, value in zip(MONTHS, ("3", "8", "5", "30", "9", "11.5", "12.0"), strict=True)
    ]
    dots = [part for point in points for part in ("circle f", point)]
    assert structure(svg(FORECAST)) == [
        "svg",
        "title New contacts <& what to expect>",
        "desc 2026-01 to 2026-07. New contacts: 3, 8, 5, 30, 9; New contacts, expected: 11.5, 12.0",
        "rect g",
        "text t New contacts <& what to expect>",
        *("g s0", "line l", "text a New contacts"),
        *("g s0", "line l d", "text a New contacts, expected"),
        *("circle m", "text a Stands out"),
        *axis,
        *(f"text a {month}" for month in MONTHS),
        "text a Month (UTC)",
        "text a Contacts a month",
        *("g s0", "polyline l", *dots[:10]),
        *("g s0", "polygon b", "polyline l d", *dots[10:]),
        *("circle m", "text v 30"),
    ]


def test_bars_stand_on_the_axis_and_are_as_high_as_their_values() -> None:
    root = ET.fromstring(svg(BARS))
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.get("class") == "f"]
    heights = [float(bar.get("height", "")) for bar in bars]
    assert heights[0] > 0
    assert heights[1] == 0
    assert {round(float(bar.get("y", "")) + float(bar.get("height", "")), 1) for bar in bars} == {316.0}
    assert [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "v"] == ["4", "0"]


@pytest.mark.parametrize("kind", ["line", "bar"])
@pytest.mark.parametrize("count", [1, 2, 28, 400])
@pytest.mark.parametrize("highest", [0, 1, 999, 10**12])
def test_every_chart_is_well_formed_and_stays_within_its_picture(kind: str, count: int, highest: int) -> None:
    values = tuple(highest * (n % 3 + 1) // 3 for n in range(count))
    series = tuple(ChartSeries(name=f'"\x00]]>{n}', values=values, marked=(0,)) for n in range(3))
    chart = BARS.model_copy(update={"kind": kind, "labels": tuple(map(str, range(count))), "series": series})
    root = ET.fromstring(svg(chart))
    assert root.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    for element in root.iter():
        for name, limit in (("x", WIDTH), ("cx", WIDTH), ("y", HEIGHT), ("cy", HEIGHT)):
            assert -0.1 <= float(element.get(name, 0)) <= limit
        for point in element.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    assert "nan" not in svg(chart)


def test_both_grounds_have_all_colours_and_enough_contrast() -> None:
    style = re.search(r"<style>(.*)</style>", svg(FORECAST))
    assert style is not None
    light, _, dark = style[1].partition("@media(prefers-color-scheme:dark)")
    for rules in (light, dark):
        ground = re.search(r"\.g{fill:(#\w{6})}", rules)
        assert ground is not None
        inks = re.findall(r"(?:\.v|\.a|\.m){(?:fill|stroke):(#\w{6})}|\.s\d \.l{stroke:(#\w{6})}", rules)
        assert len(inks) == 7
        for pair in inks:
            assert contrast(ground[1], "".join(pair)) >= 4.5, pair  # WCAG 2 AA, for text


def contrast(one: str, two: str) -> float:
    """The ratio of WCAG 2."""

    def luminance(colour: str) -> float:
        channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("highest", "step"), [(0, 1), (3, 1), (6, 2), (26, 10), (100, 20), (999, 200), (10**6, 200_000)]
)
def test_the_axis_has_round_numbers(highest: int, step: int) -> None:
    assert nice_step(highest) == step


def test_a_report_is_written_with_its_pictures_beside_it(tmp_path: Path) -> None:
    files = write_report(report(FORECAST, BARS), tmp_path / "my report.md")
    assert [file.name for file in files] == ["my report.md", "my-report-contacts.svg", "my-report-runs.svg"]
    assert "(my-report-contacts.svg)" in files[0].read_text()
    assert "chart:" not in files[0].read_text()
    assert ET.fromstring(files[1].read_text()).tag == f"{SVG}svg"


def test_a_report_can_have_its_pictures_inside(tmp_path: Path) -> None:
    (file,) = write_report(report(BARS), tmp_path / "r.md", inside=True)
    found = re.search(r"\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", file.read_text())
    assert found is not None
    assert base64.b64decode(found[1]).decode() == svg(BARS)
    assert with_pictures_inside(report()) == report().markdown


def test_a_terminal_shows_columns_with_both_ends_named() -> None:
    console = Console(file=(told := io.StringIO()), width=80)
    print_report(console, report(BARS, FORECAST).model_copy(update={"title": "\x1b[31m"}))
    lines = [line.rstrip() for line in told.getvalue().splitlines()]
    assert "Runs: runs a day" in lines
    first = lines.index("Runs: runs a day") + 1
    assert lines[first : first + 6] == ["4 ███████", "  ███████", "  ███████", "  ███████", "  ███████", "0 ███████"]
    assert lines[first + 6].split(" … ") == ["  2026-01-19", "2026-01-20"]
    assert "New contacts, expected (a forecast): contacts a month" in lines
    assert lines.index("Before.") < first < lines.index("After.")


def test_a_terminal_is_not_steered_by_a_report() -> None:
    hostile = report().model_copy(update={"markdown": "a\x1b]0;owned\x07b\x1b[2J\u202ec"})
    print_report(Console(file=(told := io.StringIO()), width=80), hostile)
    assert not set("\x1b\x07\u202e") & set(told.getvalue())


def test_a_long_chart_is_condensed_for_a_terminal() -> None:
    values = tuple(7 if n == 200 else 1 for n in range(400))
    series = (ChartSeries(name="Runs", values=values, marked=(200,)),)
    long = BARS.model_copy(update={"labels": tuple(f"day {n}" for n in range(400)), "series": series})
    console = Console(file=(told := io.StringIO()), width=80)
    print_report(console, report(long))
    lines = told.getvalue().splitlines()
    assert "Runs (a column is the highest of 7)" in [line.rstrip() for line in lines]
    top = next(line for line in lines if line.startswith("7 "))
    assert top.count("█") == 1
    assert top.index("█") == 2 + 200 // 7
    assert max(map(len, lines)) <= 80
