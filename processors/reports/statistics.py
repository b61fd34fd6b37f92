"""The statistics of reports: simple, exact and the same everywhere. Values are counts, one a bucket, oldest first.

Arithmetic is in fractions, so nothing depends on the order of additions; only square roots are floats.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

# Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993): the factor makes the median absolute deviation of a
# normal distribution its standard deviation, and 3.5 is their limit.
MAD_FACTOR = Fraction(6745, 10_000)
ANOMALY_SCORE = 3.5
# Where more than half of the values are equal, the median absolute deviation is 0, and the mean absolute deviation from
# the median stands in, with its own factor for a normal distribution: sqrt(pi / 2).
MEAN_FACTOR = Fraction(1_253_314, 1_000_000)
BAND = 2  # standard errors on either side of a forecast: about 95 in 100, were the errors normal

MIN_TREND = 3  # values: two always lie on a line
MIN_ANOMALIES = 5  # values: with fewer there is no telling what is usual


@dataclass(frozen=True, slots=True)
class Trend:
    """The least-squares line `intercept + slope * x` for x = 0, 1, ...; `error` is the residual standard error."""

    slope: Fraction
    intercept: Fraction
    error: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected in a bucket to come, and the range around it. Counts are never below 0."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A value that stands out; `score` is its distance from the median in robust standard deviations, with its sign."""

    index: int
    value: int
    score: float


def linear_trend(values: Sequence[int]) -> Trend:
    """Return the least-squares line through `values`.

    Raises:
        ValueError: there are fewer than MIN_TREND.
    """
    n = len(values)
    if n < MIN_TREND:
        raise ValueError(f"a trend needs at least {MIN_TREND} values, not {n}")
    mean_x, mean_y = Fraction(n - 1, 2), Fraction(sum(values), n)
    slope = sum((x - mean_x) * y for x, y in enumerate(values)) / _spread_of_x(n)
    intercept = mean_y - slope * mean_x
    residuals = sum((y - intercept - slope * x) ** 2 for x, y in enumerate(values))
    return Trend(slope, intercept, math.sqrt(residuals / (n - 2)))


def forecast_linear(values: Sequence[int], horizon: int) -> tuple[Forecast, ...]:
    """Return what the line through `values` says of the next `horizon` buckets.

    The range is BAND standard errors of a new observation: s * sqrt(1 + 1/n + (x - mean x)^2 / sum of squares of x).

    Raises:
        ValueError: there are fewer than MIN_TREND values.
    """
    trend, n = linear_trend(values), len(values)
    found = []
    for x in range(n, n + horizon):
        leverage = 1 + Fraction(1, n) + (x - Fraction(n - 1, 2)) ** 2 / _spread_of_x(n)
        found.append(_forecast(trend.intercept + trend.slope * x, BAND * trend.error * math.sqrt(leverage)))
    return tuple(found)


def forecast_seasonal(values: Sequence[int], season: int, horizon: int) -> tuple[Forecast, ...]:
    """Return the seasonal-naive forecast: each bucket to come is as the same one of the last season.

    The range is BAND times the root mean square of y[t] - y[t - season], times sqrt(seasons ahead).

    Raises:
        ValueError: there is not a bucket to compare with: `values` must be longer than a season.
    """
    if len(values) <= season:
        raise ValueError(f"a seasonal forecast needs more than {season} values, not {len(values)}")
    steps = [now - before for before, now in zip(values, values[season:], strict=False)]
    error = math.sqrt(Fraction(sum(step * step for step in steps), len(steps)))
    last = values[-season:]
    return tuple(
        _forecast(Fraction(last[ahead % season]), BAND * error * math.sqrt(ahead // season + 1))
        for ahead in range(horizon)
    )


def anomalies(values: Sequence[int], limit: float = ANOMALY_SCORE) -> tuple[Anomaly, ...]:
    """Return the values whose modified z-score is beyond `limit`: 0.6745 * (value - median) / MAD.

    None where there are fewer than MIN_ANOMALIES values, or where all are equal.
    """
    if len(values) < MIN_ANOMALIES:
        return ()
    middle = median(values)
    distances = [abs(value - middle) for value in values]
    unit = median(distances) / MAD_FACTOR or Fraction(sum(distances), len(distances)) * MEAN_FACTOR
    if not unit:
        return ()
    scores = (Fraction(value - middle) / unit for value in values)
    return tuple(
        Anomaly(index, values[index], float(round(score, 2)))
        for index, score in enumerate(scores)
        if abs(score) > limit
    )


def median(values: Iterable[int | Fraction]) -> Fraction:
    """Return the middle value, or the mean of the two middle ones.

    Raises:
        ValueError: there are none.
    """
    ordered = sorted(Fraction(value) for value in values)
    if not ordered:
        raise ValueError("there is no median of nothing")
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2


def change_percent(now: int, before: int) -> Fraction | None:
    """Return by how many percent `now` differs from `before`; None where there was nothing before."""
    return Fraction(100 * (now - before), before) if before else None


def _spread_of_x(n: int) -> Fraction:
    """Return the sum of squares of x - mean x for x = 0 .. n - 1."""
    return Fraction(n * (n * n - 1), 12)


def _forecast(value: Fraction, margin: float) -> Forecast:
    middle = float(value)
    return Forecast(*(round(max(0.0, number), 1) for number in (middle, middle - margin, middle + margin)))
