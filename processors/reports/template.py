"""Templates of reports: Markdown with a head that says what its placeholders are.

    ---
    title: Weekly performance, {{period}}
    description: What the last week was like.
    period: {unit: week, count: 1}          # the default: the last whole week
    bucket: day
    narrative:
      summary: {about: What mattered most, in two sentences.}
    tables:
      totals: {kind: totals, metrics: [contacts_created, tasks_created]}
    charts:
      activity: {title: New contacts, kind: bar, metrics: [contacts_created]}
    ---
    {{narrative.summary}}

    {{contacts_created.total}} new contacts ({{contacts_created.change}}).

    {{chart.activity}}

    {{table.totals}}

A model writes what stands under `narrative`, and nothing else; every other placeholder is filled from data.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from processors.reports.metrics import METRICS
from processors.reports.periods import MAX_BUCKETS, MAX_DAYS, Unit
from processors.reports.statistics import ANOMALY_SCORE
from schemas.errors import ConfigurationError
from schemas.message import Message
from schemas.reports import TemplateName

PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
GENERAL = ("title", "period", "period.first", "period.last", "period.days", "as_of", "bucket")
FIGURES = ("total", "mean", "highest", "highest_on", "previous", "change", "trend", "forecast", "anomalies")
TEMPLATE_BYTES = 64 * 1024

Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\r\n]*$")]
Metrics = Annotated[tuple[str, ...], Field(min_length=1, max_length=4)]  # as many as there are colours


class Span(Message):
    """The last `count` whole units before today."""

    unit: Unit
    count: int = Field(ge=1, le=400)


class NarrativeField(Message):
    """A text that the model writes, or a list of them; `about` tells it what is wanted."""

    about: Line
    kind: Literal["text", "list"] = "text"
    required: bool = True
    max_chars: int = Field(default=2_000, ge=1, le=4_000)
    max_items: int = Field(default=10, ge=1, le=20)


class ForecastRule(Message):
    """How what is to come is estimated: see `processors.reports.statistics`."""

    method: Literal["linear_trend", "seasonal_naive"] = "linear_trend"
    horizon: int = Field(ge=1, le=60)
    season: int = Field(default=1, ge=1, le=60)


def _known(metrics: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := sorted(set(metrics) - set(METRICS)):
        raise ValueError(f"there is no metric {unknown[0]!r}: there are {', '.join(METRICS)}")
    return metrics


class TableRule(Message):
    """A table: totals, values by bucket, forecasts or anomalies of metrics, or what models cost."""

    kind: Literal["totals", "series", "forecast", "anomalies", "costs"]
    metrics: tuple[str, ...] = Field(default=(), max_length=20)

    _metrics = field_validator("metrics")(_known)

    @model_validator(mode="after")
    def _has_metrics(self) -> "TableRule":
        if (self.kind == "costs") == bool(self.metrics):
            raise ValueError("a table of costs has no metrics" if self.metrics else "a table needs metrics")
        return self


class ChartRule(Message):
    """A chart of metrics with one unit; `show` adds what is forecast, or marks what stands out."""

    title: Line
    kind: Literal["line", "bar"] = "line"
    metrics: Metrics
    show: tuple[Literal["forecast", "anomalies"], ...] = ()

    _metrics = field_validator("metrics")(_known)

    @model_validator(mode="after")
    def _one_unit(self) -> "ChartRule":
        units = sorted({METRICS[name].unit for name in self.metrics})
        if len(units) > 1:
            raise ValueError(f"a chart has one axis, and these metrics count {' and '.join(units)}: make two charts")
        return self


class Template(Message):
    """A template, checked: everything that is declared is used, and every placeholder can be filled."""

    name: TemplateName
    title: Line
    description: Line
    period: Span
    bucket: Unit = "day"
    forecast: ForecastRule | None = None
    anomaly_score: float = Field(default=ANOMALY_SCORE, gt=0, le=100, allow_inf_nan=False)
    narrative: dict[TemplateName, NarrativeField] = Field(default_factory=dict, max_length=10)
    tables: dict[TemplateName, TableRule] = Field(default_factory=dict, max_length=10)
    charts: dict[TemplateName, ChartRule] = Field(default_factory=dict, max_length=10)
    body: str = Field(min_length=1)
    sha256: str

    @model_validator(mode="after")
    def _complete(self) -> "Template":
        used = set(placeholders(self.body))
        declared = set(self.declared())
        faults = [f"{{{{{name}}}}} {_why(name)}" for name in sorted(used) if not self._can_fill(name)]
        faults += [f"{name} is declared and has no {{{{{name}}}}} in the body" for name in sorted(declared - used)]
        faults += [
            f"the title may only have placeholders of the period, not {{{{{name}}}}}"
            for name in placeholders(self.title)
            if not name.startswith("period")
        ]
        if self.bucket != "day" and self.bucket != self.period.unit:
            faults.append(f"a period of {self.period.unit}s has no whole {self.bucket}s: make the two the same")
        days = self.period.count * {"day": 1, "week": 7, "month": 31}[self.period.unit]
        if days > MAX_DAYS or (self.bucket == "day" and days > MAX_BUCKETS):
            faults.append(
                f"the period is too long: at most {MAX_DAYS} days, and {MAX_BUCKETS} where they are counted by day"
            )
        shows_forecast = any("forecast" in chart.show for chart in self.charts.values())
        if self.forecast is None and (shows_forecast or any(t.kind == "forecast" for t in self.tables.values())):
            faults.append("a chart or table shows a forecast: say how it is made under `forecast`")
        if faults:
            raise ValueError("; ".join(faults[:5]))
        return self

    def declared(self) -> Iterator[str]:
        """Yield the placeholders that the head declares."""
        for kind, names in (("narrative", self.narrative), ("table", self.tables), ("chart", self.charts)):
            yield from (f"{kind}.{name}" for name in names)

    def metrics(self) -> tuple[str, ...]:
        """Return the names of all metrics that the report needs."""
        wanted = {metric for table in self.tables.values() for metric in table.metrics}
        wanted |= {metric for chart in self.charts.values() for metric in chart.metrics}
        wanted |= {head for head, dot, _ in (p.partition(".") for p in placeholders(self.body)) if head in METRICS}
        return tuple(name for name in METRICS if name in wanted)

    def _can_fill(self, name: str) -> bool:
        head, _, figure = name.partition(".")
        if head in METRICS:
            return figure in FIGURES and (figure != "forecast" or self.forecast is not None)
        return name in GENERAL or name in set(self.declared())


def placeholders(text: str) -> list[str]:
    """Return the names within double braces."""
    return PLACEHOLDER.findall(text)


def parse_template(name: str, text: str) -> Template:
    """Return the template that `text` is.

    Raises:
        ConfigurationError: it is none; the message names the template, the field and what it may be.
    """
    head, body = _divided(name, text)
    try:
        fields: Any = yaml.safe_load(head)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"report template {name!r}: its head is not YAML: {_line(error)}") from None
    if not isinstance(fields, dict):
        raise ConfigurationError(f"report template {name!r}: its head is a mapping, such as `title: Weekly report`")
    if reserved := sorted({"name", "body", "sha256"} & set(fields)):
        raise ConfigurationError(f"report template {name!r}: {reserved[0]} is not for the head: leave it out")
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    try:
        return Template.model_validate({**fields, "name": name, "body": body.strip(), "sha256": sha256})
    except ValidationError as error:
        faults = [_fault(dict(fault)) for fault in error.errors(include_url=False, include_input=False)]
        raise ConfigurationError(f"report template {name!r}: {'; '.join(faults[:5])}") from None


def _divided(name: str, text: str) -> tuple[str, str]:
    pieces = re.split(r"(?m)^---[ \t]*$", text.replace("\r\n", "\n"), maxsplit=2)
    if len(pieces) != 3 or pieces[0].strip():
        raise ConfigurationError(f"report template {name!r}: it begins with a head between two lines of `---`")
    if len(text.encode()) > TEMPLATE_BYTES:
        raise ConfigurationError(f"report template {name!r}: it may have {TEMPLATE_BYTES} bytes")
    return pieces[1], pieces[2]


def _fault(fault: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        return f"there is no field {where!r}"
    told = str(fault["msg"]).removeprefix("Value error, ")
    return f"{where}: {told}" if where else told


def _why(name: str) -> str:
    head, _, figure = name.partition(".")
    if head in METRICS and figure == "forecast":
        return "needs a rule under `forecast`"
    if head in METRICS:
        return f"is no figure of a metric: there are {', '.join(FIGURES)}"
    if head in ("narrative", "table", "chart"):
        return "is not declared in the head"
    return f"is not known: there are {', '.join(GENERAL)}, narrative.*, table.*, chart.* and the figures of metrics"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
