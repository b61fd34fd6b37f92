"""Filling a template: from a period, its data and what a model wrote to the report's Markdown and charts. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from processors.reports import markdown
from processors.reports.figures import Cost, Data, Figures, figures_of, rounded, whole
from processors.reports.metrics import METRICS
from processors.reports.periods import Period, label
from processors.reports.template import PLACEHOLDER, ChartRule, TableRule, Template
from schemas.catalogue import MICROS
from schemas.reports import CHART_SCHEME, Chart, ChartSeries

EMPTY = "_Nothing to show._"


@dataclass(frozen=True, slots=True)
class Composed:
    """A report's body."""

    title: str
    markdown: str
    charts: tuple[Chart, ...]


def compose(template: Template, period: Period, data: Data, texts: Mapping[str, str], as_of: str) -> Composed:
    """Return the report. `texts` is the Markdown of the narrative; `as_of` is when the data were read.

    Raises:
        KeyError: the data lack a metric, or `texts` a field, that the template needs.
    """
    figures = figures_of(template, period, data)
    general = {
        "period": period.text,
        "period.first": str(period.first),
        "period.last": str(period.last),
        "period.days": whole(period.days),
        "as_of": as_of,
        "bucket": template.bucket,
    }
    title = _filled(template.title, general)
    charts = {name: _chart(name, rule, template, figures) for name, rule in template.charts.items()}
    values = {**general, "title": markdown.escape_within(title)}
    values |= {f"narrative.{name}": texts[name] for name in template.narrative}
    values |= {f"table.{name}": _table(rule, figures, data) for name, rule in template.tables.items()}
    values |= {
        f"chart.{name}": f"![{markdown.escape_within(chart.title)}]({CHART_SCHEME}{name})"
        for name, chart in charts.items()
    }
    for metric, found in figures.items():
        values |= {f"{metric}.{figure}": found.say(figure) for figure in _figures_in(template, metric)}
    body = _filled(template.body, values)
    return Composed(title, f"# {values['title']}\n\n{body}\n", tuple(charts.values()))


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Fill every placeholder once: what fills one is never looked at again."""
    return PLACEHOLDER.sub(lambda hole: values[hole[1]], text)


def _figures_in(template: Template, metric: str) -> set[str]:
    names = (name.partition(".") for name in PLACEHOLDER.findall(template.body))
    return {figure for head, _, figure in names if head == metric}


# --- tables ---------------------------------------------------------------------------------------------------------


def _table(rule: TableRule, figures: Mapping[str, Figures], data: Data) -> str:
    head, rows = _content(rule, {name: figures[name] for name in rule.metrics}, data)
    return markdown.table(head, rows) if rows else EMPTY


def _content(rule: TableRule, figures: Mapping[str, Figures], data: Data) -> tuple[list[str], list[list[str]]]:
    titles = [METRICS[name].title for name in figures]
    first = next(iter(figures.values()), None)
    unit = first.unit if first else "day"
    match rule.kind:
        case "totals":
            head = ["What", "Total", "Before", "Change", f"Mean a {unit}", f"Highest {unit}"]
            shown = ("total", "previous", "change", "mean", "highest")
            return head, [[METRICS[name].title, *(f.say(one) for one in shown)] for name, f in figures.items()]
        case "series":
            starts = first.starts if first else ()
            columns = [found.values for found in figures.values()]
            rows = [[label(at, unit), *(whole(c[i]) for c in columns)] for i, at in enumerate(starts)]
            return [unit.capitalize(), *titles], rows
        case "forecast":
            head = ["What", unit.capitalize(), "Expected", "From", "To"]
            return head, [
                [METRICS[name].title, when, *(rounded(number) for number in (f.value, f.low, f.high))]
                for name, found in figures.items()
                for when, f in zip(found.to_come(), found.expected, strict=True)
            ]
        case "anomalies":
            return ["What", unit.capitalize(), "Count", "Score"], [
                [METRICS[name].title, found.name_of(odd.index), whole(odd.value), rounded(odd.score, sign=True)]
                for name, found in figures.items()
                for odd in found.odd
            ]
        case "costs":
            return ["Model", "Calls", "Cost"], [
                [f"{c.provider} {c.model}", whole(c.calls), _money(c)] for c in data.costs
            ]


def _money(cost: Cost) -> str:
    places = 2 if cost.micros >= MICROS else 4  # a cheap model's week is less than a cent
    return f"{rounded(Fraction(cost.micros, MICROS), places=places)} {cost.currency}"


# --- charts ---------------------------------------------------------------------------------------------------------


def _chart(name: str, rule: ChartRule, template: Template, figures: Mapping[str, Figures]) -> Chart:
    wanted = {metric: figures[metric] for metric in rule.metrics}
    first = next(iter(wanted.values()))
    labels = [label(start, first.unit) for start in first.starts]
    series = []
    for metric, found in wanted.items():
        marked = tuple(odd.index for odd in found.odd) if "anomalies" in rule.show else ()
        series.append(ChartSeries(name=METRICS[metric].title, values=found.values, marked=marked))
    if "forecast" in rule.show:
        expected = {metric: found for metric, found in wanted.items() if found.expected}
        labels += first.to_come()
        for metric, found in expected.items():
            series.append(
                ChartSeries(
                    name=f"{METRICS[metric].title}, expected",
                    role="forecast",
                    start=len(found.values),
                    values=tuple(f.value for f in found.expected),
                    low=tuple(f.low for f in found.expected),
                    high=tuple(f.high for f in found.expected),
                )
            )
    unit = METRICS[rule.metrics[0]].unit
    return Chart(
        name=name,
        title=rule.title,
        kind=rule.kind,
        x_label=f"{template.bucket.capitalize()} (UTC)" if template.bucket != "week" else "Week from (UTC)",
        y_label=f"{unit.capitalize()} a {template.bucket}",
        labels=tuple(labels),
        series=tuple(series),
    )
