"""A report: what the tool `generate_report` answers, and so what the log keeps of it.

The body is Markdown with the numbers of its charts beside it: pictures are drawn from those when somebody looks.
"""

import hashlib
from datetime import date
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, StringConstraints

from schemas.message import Message

GENERATE_REPORT = "generate_report"  # the tool's name; what it answers is a report wherever it stands in the log

CHART_SCHEME = "chart:"  # in the Markdown, `![title](chart:name)` stands where the chart of that name belongs

TemplateName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Number = int | float
Numbers = Annotated[tuple[Number, ...], Field(max_length=1_000)]


class ChartSeries(Message):
    """One line or row of bars. `start` is the label of the first value; a forecast has the limits of its range."""

    name: str
    role: Literal["actual", "forecast"] = "actual"
    start: int = Field(default=0, ge=0)
    values: Numbers
    low: Numbers = ()
    high: Numbers = ()
    marked: tuple[int, ...] = ()  # positions in `values` that stand out


class Chart(Message):
    """The numbers of a chart and what its axes say."""

    name: TemplateName
    title: str
    kind: Literal["line", "bar"]
    x_label: str
    y_label: str
    labels: Annotated[tuple[str, ...], Field(min_length=1, max_length=1_000)]
    series: Annotated[tuple[ChartSeries, ...], Field(min_length=1, max_length=8)]


class Report(Message):
    """A report as it is stored. `sha256` names its body: title, Markdown and charts. Days are of UTC."""

    report_id: str
    template: TemplateName
    template_sha256: str
    title: str
    first: date
    last: date
    as_of: str
    sha256: str
    markdown: str
    charts: tuple[Chart, ...] = ()

    def is_whole(self) -> bool:
        """Whether the body is the one that `sha256` names."""
        return self.sha256 == body_sha256(self.title, self.markdown, self.charts)


def body_sha256(title: str, markdown: str, charts: tuple[Chart, ...]) -> str:
    """Return the sha256 of a report's body.

    What has its default is left out, so that a report keeps its name when later releases know more fields.
    """
    body: dict[str, Any] = {
        "title": title,
        "markdown": markdown,
        "charts": [chart.model_dump(mode="json", exclude_defaults=True) for chart in charts],
    }
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
