"""The numbers of a report, from counts by day: what every placeholder of a metric says."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

from processors.reports.periods import Period, Unit, before, buckets, following, label, sums
from processors.reports.statistics import (
    Anomaly,
    Forecast,
    anomalies,
    change_percent,
    forecast_linear,
    forecast_seasonal,
    linear_trend,
)
from processors.reports.template import Template

NOTHING = "n/a"  # a figure that the data can't give: nothing to compare with, or too few values
SHOWN_ANOMALIES = 10  # in a sentence


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model cost in the period, in micro-units of `currency`."""

    provider: str
    model: str
    currency: str
    calls: int
    micros: int


@dataclass(frozen=True, slots=True)
class Data:
    """Counts by metric and UTC day, of the period and of the one before it; days without any may be missing."""

    by_day: Mapping[str, Mapping[date, int]]
    costs: tuple[Cost, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """A metric in the period: `values` by bucket, whose first days are `starts`."""

    unit: Unit
    starts: tuple[date, ...]
    values: tuple[int, ...]
    previous: int
    expected: tuple[Forecast, ...]
    odd: tuple[Anomaly, ...]

    @property
    def total(self) -> int:
        """What the buckets add up to."""
        return sum(self.values)

    def say(self, figure: str) -> str:
        """Return one of `template.FIGURES` as text."""
        match figure:
            case "total":
                return whole(self.total)
            case "mean":
                return rounded(Fraction(self.total, len(self.values)))
            case "highest":
                return whole(max(self.values))
            case "highest_on":
                return self.name_of(self.values.index(max(self.values))) if self.total else NOTHING
            case "previous":
                return whole(self.previous)
            case "change":
                return percent(change_percent(self.total, self.previous))
            case "trend":
                return self._trend()
            case "forecast":
                return rounded(sum(Fraction(str(f.value)) for f in self.expected)) if self.expected else NOTHING
            case "anomalies":
                return self._anomalies()
            case _:
                raise ValueError(f"there is no figure {figure!r}")

    def name_of(self, index: int) -> str:
        """Return how a bucket is named."""
        return label(self.starts[index], self.unit)

    def to_come(self) -> tuple[str, ...]:
        """Return how the buckets of the forecast are named."""
        return tuple(label(start, self.unit) for start in following(self.starts, self.unit, len(self.expected)))

    def _trend(self) -> str:
        try:
            return f"{rounded(linear_trend(self.values).slope, sign=True)} a {self.unit}"
        except ValueError:
            return NOTHING

    def _anomalies(self) -> str:
        shown = [f"{self.name_of(odd.index)} ({whole(odd.value)})" for odd in self.odd[:SHOWN_ANOMALIES]]
        more = len(self.odd) - len(shown)
        return (", ".join(shown) + (f" and {more} more" if more else "")) or "none"


def figures_of(template: Template, period: Period, data: Data) -> dict[str, Figures]:
    """Return the figures of every metric that the template needs.

    Raises:
        KeyError: the data lack one of its metrics.
    """
    return {name: _figures(template, period, data.by_day[name]) for name in template.metrics()}


def _figures(template: Template, period: Period, by_day: Mapping[date, int]) -> Figures:
    unit = template.bucket
    values = sums(by_day, period, unit)
    return Figures(
        unit,
        buckets(period, unit),
        values,
        sum(sums(by_day, before(period, unit), unit)),
        _expected(template, values),
        anomalies(values, template.anomaly_score),
    )


def _expected(template: Template, values: tuple[int, ...]) -> tuple[Forecast, ...]:
    rule = template.forecast
    if rule is None:
        return ()
    try:
        if rule.method == "seasonal_naive":
            return forecast_seasonal(values, rule.season, rule.horizon)
        return forecast_linear(values, rule.horizon)
    except ValueError:  # too few values
        return ()


# --- numbers as people read them ------------------------------------------------------------------------------------


def whole(value: int) -> str:
    """Return a whole number, in groups of three digits."""
    return f"{value:,}"


def rounded(value: Fraction | int | float, *, sign: bool = False, places: int = 1) -> str:
    """Return a number with that many decimals, ties to even; zero has no sign."""
    exact = Fraction(str(value)) if isinstance(value, float) else Fraction(value)
    unit = Decimal(1).scaleb(-places)
    scaled = (Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(unit, ROUND_HALF_EVEN)
    return f"{scaled or abs(scaled):{'+' if sign and scaled else ''},}"


def percent(value: Fraction | None) -> str:
    """Return a change such as `+12.5 %`."""
    return NOTHING if value is None else f"{rounded(value, sign=True)} %"
