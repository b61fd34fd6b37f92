"""Charts as SVG: written by hand, small, legible on light and on dark, and the same bytes for the same numbers."""

import html
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.reports import Chart, ChartSeries, Number

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 76, 64  # margins, for titles and what the axes say
Y_TICKS = 5  # at most, besides 0
X_LABELS = 8  # at most: more would run into each other
LEGEND_CHAR_PX = 7.0  # of a character of the legend, roughly

# A reader's system says whether it is dark; the picture brings its own ground, so it is legible on any page. Viewers
# that know no media queries show the light one; none needs CSS variables.
LIGHT = {
    "ground": "#ffffff",
    "ink": "#1b1f24",
    "soft": "#57606a",
    "grid": "#d8dee4",
    "axis": "#8c959f",
    "mark": "#9a6700",
}
DARK = {
    "ground": "#161b22",
    "ink": "#f0f3f6",
    "soft": "#b1bac4",
    "grid": "#30363d",
    "axis": "#6e7681",
    "mark": "#e3b341",
}
# Told apart also by those who see no red or green.
LIGHT_LINES = ("#0b6bcb", "#c2410c", "#117a4d", "#7c3aed")
DARK_LINES = ("#6cb6ff", "#ffa657", "#56d364", "#d2a8ff")
COLOURS = len(LIGHT_LINES)
SHAPES = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:13px}"
    ".t{font-size:17px;font-weight:600}.v{font-size:12px}.l{fill:none;stroke-width:2.5;stroke-linejoin:round}"
    ".b{opacity:.16}.d{stroke-dasharray:6 5}.m{fill:none;stroke-width:2.5}"
)


def _colour_rules(shades: dict[str, str], lines: tuple[str, ...]) -> str:
    rules = (
        ".g{{fill:{ground}}}.t,.v{{fill:{ink}}}.a{{fill:{soft}}}.r{{stroke:{grid}}}.x{{stroke:{axis}}}.m{{stroke:{mark}}}"
    ).format(**shades)
    return rules + "".join(f".s{n} .f,.s{n} .b{{fill:{c}}}.s{n} .l{{stroke:{c}}}" for n, c in enumerate(lines))


STYLE = (
    f"{SHAPES}{_colour_rules(LIGHT, LIGHT_LINES)}@media(prefers-color-scheme:dark){{{_colour_rules(DARK, DARK_LINES)}}}"
)

_NO_XML = re.compile("[^\\t\\n\\r\\u0020-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def svg(chart: Chart) -> str:
    """Return the chart as an SVG document."""
    return "\n".join(("".join(_head(chart)), *_body(chart), "</svg>", ""))


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where a value of the data stands in the picture."""

    slots: int
    top: float  # the highest value of the axis

    @property
    def slot(self) -> float:
        return (WIDTH - LEFT - RIGHT) / self.slots

    def x(self, index: float) -> float:
        return LEFT + (index + 0.5) * self.slot

    def y(self, value: Number) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.top


def _head(chart: Chart) -> Iterator[str]:
    told = "; ".join(f"{one.name}: {', '.join(f'{value:,}' for value in one.values)}" for one in chart.series)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
    yield 'role="img" aria-labelledby="title desc">'
    yield f'<title id="title">{_text(chart.title)}</title>'
    yield f'<desc id="desc">{_text(f"{chart.labels[0]} to {chart.labels[-1]}. {told}")}</desc>'
    yield f"<style>{STYLE}</style>"


def _body(chart: Chart) -> Iterator[str]:
    values = [value for one in chart.series for value in (*one.values, *one.high)]
    unit = nice_step(max((0, *values)))
    top = unit * max(1, math.ceil(max((0, *values)) / unit))
    scale = _Scale(len(chart.labels), top)
    yield f'<rect class="g" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
    yield f'<text class="t" x="{LEFT}" y="30">{_text(chart.title)}</text>'
    yield from _legend(chart)
    yield from _axes(chart, scale, unit)
    colours = _colours(chart)
    for number, one in enumerate(chart.series):
        yield f'<g class="s{colours[number]}">'
        is_bar = chart.kind == "bar" and one.role == "actual"
        yield from _bars(chart, scale, number) if is_bar else _line(chart, one, scale)
        yield "</g>"
    for number, one in enumerate(chart.series):
        yield from _marks(chart, one, scale, number)


def nice_step(highest: Number) -> int:
    """Return the distance of an axis' lines: 1, 2 or 5 times a power of ten, and whole, since counts are."""
    rough = max(highest / Y_TICKS, 1)
    power = int(10 ** math.floor(math.log10(rough)))
    step: int = next(step for step in (1, 2, 5, 10) if step * power >= rough)
    return step * power


def _axes(chart: Chart, scale: _Scale, unit: Number) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for line in range(round(scale.top / unit) + 1):
        y = scale.y(line * unit)
        kind = "r" if line else "x"
        yield f'<line class="{kind}" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>'
        yield f'<text class="a" x="{LEFT - 8}" y="{y + 4.5:.1f}" text-anchor="end">{line * unit:,}</text>'
    every = math.ceil(len(chart.labels) / X_LABELS)
    for index in range(0, len(chart.labels), every):
        x, label = scale.x(index), _text(chart.labels[index])
        yield f'<text class="a" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{label}</text>'
    middle = (LEFT + right) / 2
    yield f'<text class="a" x="{middle:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{_text(chart.x_label)}</text>'
    at = (TOP + bottom) / 2
    turned = f'transform="rotate(-90 20 {at:.1f})"'
    yield f'<text class="a" x="20" y="{at:.1f}" text-anchor="middle" {turned}>{_text(chart.y_label)}</text>'


def _colours(chart: Chart) -> list[int]:
    """Give a forecast the colour of what it goes on from."""
    actual = [one.name for one in chart.series if one.role == "actual"]
    found = []
    for one in chart.series:
        begins = next((n for n, name in enumerate(actual) if one.name.startswith(f"{name},")), 0)
        found.append((actual.index(one.name) if one.role == "actual" else begins) % COLOURS)
    return found


def _legend(chart: Chart) -> Iterator[str]:
    x, colours = float(LEFT), _colours(chart)
    names = [(one.name, colours[n], one.role == "forecast") for n, one in enumerate(chart.series)]
    for name, colour, dashed in names:
        dash = " d" if dashed else ""
        yield f'<g class="s{colour}"><line class="l{dash}" x1="{x:.0f}" y1="52" x2="{x + 22:.0f}" y2="52"/></g>'
        yield f'<text class="a" x="{x + 28:.0f}" y="56.5">{_text(name)}</text>'
        x += 28 + len(name) * LEGEND_CHAR_PX + 22
    if any(one.marked for one in chart.series):
        yield f'<circle class="m" cx="{x + 6:.0f}" cy="52" r="5.5"/>'
        yield f'<text class="a" x="{x + 18:.0f}" y="56.5">Stands out</text>'


def _bars(chart: Chart, scale: _Scale, number: int) -> Iterator[str]:
    one = chart.series[number]
    beside = sum(other.role == "actual" for other in chart.series)
    width = scale.slot * 0.72 / beside
    for index, value in enumerate(one.values, one.start):
        x = scale.x(index) - width * beside / 2 + width * number
        y = scale.y(value)
        height = HEIGHT - BOTTOM - y
        yield f'<rect class="f" x="{x:.1f}" y="{y:.1f}" width="{max(width - 1, 1):.1f}" height="{height:.1f}" rx="2">'
        yield f"<title>{_text(chart.labels[index])}: {value:,}</title></rect>"
        if beside == 1 and len(chart.labels) <= 2 * X_LABELS:
            yield f'<text class="v" x="{scale.x(index):.1f}" y="{y - 5:.1f}" text-anchor="middle">{value:,}</text>'


def _line(chart: Chart, one: ChartSeries, scale: _Scale) -> Iterator[str]:
    points = [(scale.x(index), scale.y(value)) for index, value in enumerate(one.values, one.start)]
    if one.low and one.high:
        upper = [(scale.x(index), scale.y(value)) for index, value in enumerate(one.high, one.start)]
        lower = [(scale.x(index), scale.y(value)) for index, value in enumerate(one.low, one.start)]
        yield f'<polygon class="b" points="{_points(upper + lower[::-1])}"/>'
    if one.role == "forecast":
        before = next(
            (other for other in chart.series if other.role == "actual" and len(other.values) == one.start), None
        )
        joined = [(scale.x(one.start - 1), scale.y(before.values[-1]))] if before else []
        yield f'<polyline class="l d" points="{_points(joined + points)}"/>'
    else:
        yield f'<polyline class="l" points="{_points(points)}"/>'
    radius = 3 if len(one.values) <= 60 else 1.5
    for (x, y), (index, value) in zip(points, enumerate(one.values, one.start), strict=True):
        yield f'<circle class="f" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
        yield f"<title>{_text(chart.labels[index])}: {value:,}</title></circle>"


def _marks(chart: Chart, one: ChartSeries, scale: _Scale, number: int) -> Iterator[str]:
    for place in one.marked:
        x, y = scale.x(one.start + place), scale.y(one.values[place])
        yield f'<circle class="m" cx="{x:.1f}" cy="{y:.1f}" r="7"/>'
        above = y - 12 if y > TOP + 8 else y + 22
        yield f'<text class="v" x="{x:.1f}" y="{above:.1f}" text-anchor="middle">{one.values[place]:,}</text>'


def _points(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _text(text: str) -> str:
    return html.escape(_NO_XML.sub("", text))
