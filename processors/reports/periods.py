"""Spans of UTC days, and the buckets into which a report sums them up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

Unit = Literal["day", "week", "month"]

DAY = timedelta(days=1)
MAX_DAYS = 1_120  # of a report: three years, each month taken for a long one
MAX_BUCKETS = 400  # of a chart that one can still read


@dataclass(frozen=True, slots=True)
class Period:
    """Days from `first` to `last`, both included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.last - self.first).days + 1

    @property
    def text(self) -> str:
        """The period as a title says it."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


def last_full(unit: Unit, count: int, today: date) -> Period:
    """Return the last `count` whole units that ended before `today`; weeks begin on Mondays."""
    end = start_of(unit, today)
    return Period(step(unit, end, -count), end - DAY)


def before(period: Period, unit: Unit) -> Period:
    """Return the period of the same length before this one, in days, or in months where buckets are months."""
    if unit == "month":
        months = len(buckets(period, unit))
        return Period(step(unit, period.first, -months), period.first - DAY)
    return Period(period.first - timedelta(days=period.days), period.first - DAY)


def buckets(period: Period, unit: Unit) -> tuple[date, ...]:
    """Return the first days of the period's buckets."""
    found, at = [], period.first
    while at <= period.last:
        found.append(at)
        at = step(unit, at, 1)
    return tuple(found)


def following(starts: Sequence[date], unit: Unit, count: int) -> tuple[date, ...]:
    """Return the first days of the `count` buckets after the last of `starts`."""
    return tuple(step(unit, starts[-1], ahead) for ahead in range(1, count + 1))


def is_whole(period: Period, unit: Unit) -> bool:
    """Whether the period begins and ends with a bucket."""
    after = period.last + DAY
    return start_of(unit, period.first) == period.first and start_of(unit, after) == after


def sums(by_day: Mapping[date, int], period: Period, unit: Unit) -> tuple[int, ...]:
    """Return what the days of each bucket add up to; a day that is missing counts as 0."""
    starts = buckets(period, unit)
    totals = dict.fromkeys(starts, 0)
    for day, value in by_day.items():
        if period.first <= day <= period.last:
            totals[start_of(unit, day)] += value
    return tuple(totals[start] for start in starts)


def label(start: date, unit: Unit) -> str:
    """Return how a bucket is named: its first day, or its month."""
    return f"{start:%Y-%m}" if unit == "month" else start.isoformat()


def start_of(unit: Unit, day: date) -> date:
    """Return the first day of the unit that `day` is in."""
    match unit:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)


def step(unit: Unit, start: date, count: int) -> date:
    """Return the first day of the unit that begins `count` units after `start`."""
    match unit:
        case "day":
            return start + timedelta(days=count)
        case "week":
            return start + timedelta(weeks=count)
        case "month":
            months = start.year * 12 + start.month - 1 + count
            return date(months // 12, months % 12 + 1, 1)
