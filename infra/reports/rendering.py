"""A report for its readers: Markdown with pictures in it or beside it, and blocks of text for a terminal."""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.text import Text

from infra.reports.svg import svg
from processors.reports.markdown import without_controls
from schemas.reports import CHART_SCHEME, Chart, ChartSeries, Number, Report

BLOCKS = " ▁▂▃▄▅▆▇█"
ROWS = 6  # of a chart in a terminal
WIDEST = 36  # columns that still stand apart by a gap, beside a margin, in 80 characters
COLUMN, SPACE = 8, 72  # characters of a column and the gap beside it, at most, and of all of them
MOST = 66  # columns in 80 characters
_PLACE = re.compile(rf"!\[([^\n]*)\]\({CHART_SCHEME}([a-z0-9_]+)\)")


def with_pictures_inside(report: Report) -> str:
    """Return one Markdown document; its charts are data URIs."""

    def data_uri(chart: Chart) -> str:
        return "data:image/svg+xml;base64," + base64.b64encode(svg(chart).encode()).decode()

    return _placed(report, data_uri)


def with_pictures_beside(report: Report, stem: str) -> tuple[str, Mapping[str, str]]:
    """Return the Markdown, and the SVG files by name that belong beside it; the names begin with `stem`."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)  # a space or a bracket would end the link
    files = {chart.name: f"{stem}-{chart.name}.svg" for chart in report.charts}
    text = _placed(report, lambda chart: files[chart.name])
    return text, {files[chart.name]: svg(chart) for chart in report.charts}


def write_report(report: Report, path: Path, *, inside: bool = False) -> list[Path]:
    """Write the report as Markdown, its charts inside or beside it; return the files.

    Raises:
        OSError: a file can't be written.
    """
    if inside:
        text, pictures = with_pictures_inside(report), {}
    else:
        text, beside = with_pictures_beside(report, path.stem)
        pictures = dict(beside)
    path.write_text(text, encoding="utf-8")
    written = [path]
    for name, picture in pictures.items():
        file = path.with_name(name)
        file.write_text(picture, encoding="utf-8")
        written.append(file)
    return written


def print_report(console: Console, report: Report) -> None:
    """Print the report for a person at a terminal."""
    charts = {chart.name: chart for chart in report.charts}
    pieces = _PLACE.split(without_controls(report.markdown))  # text, title, name, text, title, name, ..., text
    console.print(Markdown(pieces[0]))
    for name, following in zip(pieces[2::3], pieces[3::3], strict=True):
        if name in charts:
            console.print()
            for line in columns(charts[name]):
                console.print(line)
            console.print()
        console.print(Markdown(following))


def columns(chart: Chart) -> Iterator[RenderableType]:
    """Yield the lines of a chart out of block characters: one row of columns a series."""
    chart = _condensed(chart)
    highest = max(0, *(value for one in chart.series for value in one.values))
    yield Text(without_controls(chart.title), style="bold")
    slots = len(chart.labels)
    wide, gap = (max(1, min(COLUMN, SPACE // slots) - 1), " ") if slots <= WIDEST else (1, "")
    margin = max(len(f"{highest:,}"), 1)
    colours = ("cyan", "magenta", "green", "yellow")
    for number, one in enumerate(chart.series):
        name = without_controls(one.name)
        named = name if one.role == "actual" else f"{name} (a forecast)"
        yield Text(f"{named}: {chart.y_label.lower()}", style="dim")
        yield from _rows(one, slots, highest, (wide, gap), margin, colours[number % len(colours)])
    first, last = chart.labels[0], chart.labels[-1]
    space = slots * (wide + len(gap)) - len(gap) - len(first) - len(last)
    between = " " * space if space > 0 else " … "
    yield Text(f"{' ' * margin} {without_controls(first)}{between}{without_controls(last)}", style="dim")


def _rows(
    one: ChartSeries, slots: int, highest: Number, column: tuple[int, str], margin: int, colour: str
) -> Iterator[RenderableType]:
    steps = len(BLOCKS) - 1
    # What is there is seen: any count above 0 has at least the lowest block.
    heights = [max(round(value / highest * ROWS * steps), 1) if value else 0 for value in one.values]
    for row in range(ROWS - 1, -1, -1):
        edge = f"{highest:,}" if row == ROWS - 1 and highest else ("0" if row == 0 else "")
        line = Text(f"{edge:>{margin}} ", style="dim")
        for slot in range(slots):
            place = slot - one.start
            filled = min(max(heights[place] - row * steps, 0), steps) if 0 <= place < len(heights) else 0
            style = "bold yellow" if place in one.marked else (f"{colour} dim" if one.role == "forecast" else colour)
            line.append(BLOCKS[filled] * column[0] + column[1], style=style)
        yield line


def _condensed(chart: Chart) -> Chart:
    """Let neighbours share a column where there are too many for a terminal: it shows the highest of them."""
    share = -(-len(chart.labels) // MOST)
    if share == 1:
        return chart
    return chart.model_copy(
        update={
            "title": f"{chart.title} (a column is the highest of {share})",
            "labels": chart.labels[::share],
            "series": tuple(_shared(one, share) for one in chart.series),
        }
    )


def _shared(one: ChartSeries, share: int) -> ChartSeries:
    first = one.start // share
    columns: dict[int, Number] = {}
    for index, value in enumerate(one.values, one.start):
        columns[index // share - first] = max(value, columns.get(index // share - first, 0))
    marked = tuple(sorted({(one.start + place) // share - first for place in one.marked}))
    return one.model_copy(update={"start": first, "values": tuple(columns.values()), "marked": marked})


def _placed(report: Report, address: Callable[[Chart], str]) -> str:
    charts = {chart.name: chart for chart in report.charts}

    def place(found: re.Match[str]) -> str:
        chart = charts.get(found[2])
        return found[0] if chart is None else f"![{found[1]}]({address(chart)})"

    return _PLACE.sub(place, report.markdown)
