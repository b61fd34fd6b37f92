import math
import statistics
from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.reports.periods import Period, Unit, before, buckets, following, is_whole, last_full, step, sums
from processors.reports.statistics import (
    anomalies,
    change_percent,
    forecast_linear,
    forecast_seasonal,
    linear_trend,
    median,
)

counts = st.lists(st.integers(0, 100_000), min_size=5, max_size=40)
days = st.dates(date(2000, 1, 1), date(2100, 1, 1))


# --- against the standard library, and against the textbook ---------------------------------------------------------


@given(counts)
def test_the_trend_is_the_standard_librarys(values: list[int]) -> None:
    line = statistics.linear_regression(range(len(values)), values)
    trend = linear_trend(values)
    assert float(trend.slope) == pytest.approx(line.slope, abs=1e-6)
    assert float(trend.intercept) == pytest.approx(line.intercept, abs=1e-6)
    residuals = [y - line.intercept - line.slope * x for x, y in enumerate(values)]
    assert trend.error == pytest.approx(math.sqrt(sum(r * r for r in residuals) / (len(values) - 2)), abs=1e-4)


@given(counts)
def test_the_median_is_the_standard_librarys(values: list[int]) -> None:
    assert median(values) == Fraction(statistics.median(map(Fraction, values)))


def test_a_line_goes_on_as_it_went_without_any_doubt() -> None:
    found = forecast_linear([10, 12, 14, 16], 3)
    assert [(f.value, f.low, f.high) for f in found] == [(18, 18, 18), (20, 20, 20), (22, 22, 22)]


def test_the_range_of_a_forecast_is_that_of_a_worked_example() -> None:
    # By hand, for y = 1, 3, 2, 5, 4: slope 0.8, intercept 1.4, sum of squared residuals 3.6, so s = sqrt(1.2).
    (found,) = forecast_linear([1, 3, 2, 5, 4], 1)
    margin = 2 * math.sqrt(1.2) * math.sqrt(1 + 1 / 5 + 3**2 / 10)
    assert (found.value, found.low, found.high) == (5.4, round(5.4 - margin, 1), round(5.4 + margin, 1))


def test_counts_to_come_are_never_below_zero() -> None:
    assert [(f.value, f.low) for f in forecast_linear([9, 5, 2, 1], 3)] == [(0, 0), (0, 0), (0, 0)]


def test_a_seasonal_forecast_repeats_the_last_season_and_doubts_more_the_further_it_looks() -> None:
    found = forecast_seasonal([1, 10, 100, 3, 12, 104], 3, 4)
    assert [f.value for f in found] == [3, 12, 104, 3]
    error = 2 * math.sqrt((2**2 + 2**2 + 4**2) / 3)
    assert [round(f.high - f.value, 1) for f in found] == [round(error, 1)] * 3 + [round(error * math.sqrt(2), 1)]


def test_what_stands_out_is_what_iglewicz_and_hoaglin_say() -> None:
    values = [10, 12, 11, 13, 9, 60, 11, 12, 0]
    middle = statistics.median(values)
    mad = statistics.median([abs(v - middle) for v in values])
    scores = [0.6745 * (v - middle) / mad for v in values]
    assert [(a.index, a.score) for a in anomalies(values)] == [
        (index, round(score, 2)) for index, score in enumerate(scores) if abs(score) > 3.5
    ]
    assert [a.index for a in anomalies(values)] == [5, 8]


def test_where_most_values_are_equal_the_mean_deviation_stands_in() -> None:
    values = [0] * 20 + [7]
    (found,) = anomalies(values)
    assert found.score == round(7 / (7 / 21 * 1.253314), 2)
    assert anomalies([5] * 20) == ()
    assert anomalies([1, 1, 1, 99]) == ()  # too few to know what is usual


@given(counts)
def test_the_order_of_values_does_not_change_which_stand_out(values: list[int]) -> None:
    assert sorted(a.value for a in anomalies(values)) == [a.value for a in anomalies(sorted(values))]


def test_too_little_to_go_on_is_an_error_and_no_guess() -> None:
    for fails in (
        lambda: linear_trend([1, 2]),
        lambda: forecast_seasonal([1, 2, 3], 3, 1),
        lambda: median([]),
    ):
        with pytest.raises(ValueError, match=r"needs|no median"):
            fails()


def test_a_change_from_nothing_is_no_number() -> None:
    assert change_percent(3, 0) is None
    assert change_percent(3, 4) == -25


# --- periods --------------------------------------------------------------------------------------------------------


@given(days, st.sampled_from(("day", "week", "month")), st.integers(1, 30))
def test_the_last_whole_units_end_before_today_and_are_whole(today: date, unit: Unit, count: int) -> None:
    period = last_full(unit, count, today)
    assert period.last < today
    assert step(unit, period.last + timedelta(days=1), 1) > today
    assert is_whole(period, unit)
    assert len(buckets(period, unit)) == count
    assert following(buckets(period, unit), unit, 1) == (period.last + timedelta(days=1),)
    earlier = before(period, unit)
    assert earlier.last + timedelta(days=1) == period.first
    assert len(buckets(earlier, unit)) == count


def test_on_a_monday_the_last_week_is_the_one_that_ended_the_day_before() -> None:
    assert last_full("week", 1, date(2026, 1, 26)) == Period(date(2026, 1, 19), date(2026, 1, 25))
    assert last_full("month", 2, date(2026, 3, 31)) == Period(date(2026, 1, 1), date(2026, 2, 28))
    assert not is_whole(Period(date(2026, 1, 2), date(2026, 1, 31)), "month")


@given(st.dictionaries(st.dates(date(2025, 12, 1), date(2026, 4, 1)), st.integers(0, 99)))
def test_buckets_add_up_to_what_the_days_of_the_period_do(by_day: dict[date, int]) -> None:
    period = Period(date(2026, 1, 1), date(2026, 2, 28))
    inside = sum(value for day, value in by_day.items() if period.first <= day <= period.last)
    assert sum(sums(by_day, period, "month")) == sum(sums(by_day, period, "day")) == inside
    january = sum(v for d, v in by_day.items() if (d.year, d.month) == (2026, 1))
    assert sums(by_day, period, "month")[0] == january
