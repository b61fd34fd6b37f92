"""When a schedule is due: names, cron, time zones, and the two days a year on which clocks are changed."""

from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.schedules import Schedule, check_cron, parse_schedule
from tests.shared_data import DATA, needs

VECTORS = DATA / "cron_vectors.json"
WRITTEN: dict[str, list[dict[str, Any]]] = (
    orjson.loads(VECTORS.read_bytes()) if VECTORS.exists() else {"vectors": [], "invalid": []}
)
DAY_MS = 86_400_000
needs_vectors = needs("cron_vectors.json")


def ms(text: str, zone: str = "UTC") -> int:
    """Return a time as Unix ms; without an offset it is the wall time of `zone`."""
    time = datetime.fromisoformat(text)
    time = time if time.tzinfo is not None else time.replace(tzinfo=ZoneInfo(zone))
    return round(time.timestamp() * 1000)


def wall(due_ms: int, zone: str = "Europe/Berlin") -> str:
    return datetime.fromtimestamp(due_ms / 1000, UTC).astimezone(ZoneInfo(zone)).isoformat()


@needs_vectors
def test_every_recorded_vector_agrees() -> None:
    assert len(WRITTEN["vectors"]) > 200
    for vector in WRITTEN["vectors"]:
        schedule = Schedule("vector", check_cron(vector["expr"]), vector["tz"] or "UTC")
        start = ms(vector["start"], schedule.zone)
        found = schedule.before(start) if vector["reverse"] else schedule.after(start)
        wanted = [ms(due, schedule.zone) for due in vector["next"]]
        assert list(islice(found, len(wanted))) == wanted, vector


@needs_vectors
def test_every_recorded_vector_agrees_when_it_is_asked_anew_after_each_time() -> None:
    for vector in WRITTEN["vectors"]:
        if vector["reverse"]:
            continue
        schedule = Schedule("vector", check_cron(vector["expr"]), vector["tz"] or "UTC")
        at, found = ms(vector["start"], schedule.zone), []
        for _ in vector["next"]:
            at = schedule.next_after(at) or 0
            found.append(at)
        assert found == [ms(due, schedule.zone) for due in vector["next"]], vector


@needs_vectors
@pytest.mark.parametrize("vector", WRITTEN["invalid"], ids=lambda vector: vector["expr"])
def test_every_recorded_mistake_is_refused_by_its_field(vector: dict[str, Any]) -> None:
    field = vector["error"].removeprefix("Bad ")
    with pytest.raises(ValueError, match="there are five fields" if "number" in field else f"can't be the {field} of"):
        check_cron(vector["expr"])


@pytest.mark.parametrize(
    ("name", "cron"),
    [
        ("hourly", "0 * * * *"),
        ("daily", "0 0 * * *"),
        ("daily_9am", "0 9 * * *"),
        ("daily_8am", "0 8 * * *"),
        ("daily_12am", "0 0 * * *"),
        ("daily_noon", "0 12 * * *"),
        ("daily_9_30pm", "30 21 * * *"),
        ("weekdays_7am", "0 7 * * 1-5"),
        ("weekends_10am", "0 10 * * 0,6"),
        ("weekly", "0 0 * * 1"),
        ("weekly_sunday", "0 0 * * 0"),
        ("weekly_monday_6am", "0 6 * * 1"),
        ("monthly", "0 0 1 * *"),
        ("monthly_15th_noon", "0 12 15 * *"),
        ("monthly_last_day_6pm", "0 18 L * *"),
        ("quarterly_6am", "0 6 1 1,4,7,10 *"),
        ("yearly", "0 0 1 1 *"),
        ("every_minute", "* * * * *"),
        ("every_5_minutes", "*/5 * * * *"),
        ("every_6_hours", "0 */6 * * *"),
    ],
)
def test_a_name_is_cron(name: str, cron: str) -> None:
    assert parse_schedule(name).cron == cron


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("daily_25am", "is not a schedule: write 'hourly'"),
        ("daily_0am", "is not a schedule"),
        ("every_7_minutes", "would not be even: minutes may be 1, 2, 3, 4, 5, 6, 10"),
        ("every_24_hours", "would not be even: hours may be"),
        ("", "is not a schedule"),
        ("hourly @ Europe/Berln", "did you mean 'Europe/Berlin'"),
        ("hourly @ ../../etc/passwd", "there is no time zone"),
        ("hourly @", "names no time zone behind '@'"),
        ("0 0 30 2 *", "can't be the day-of-month"),
        ("0 0 * * *\u0661", "can't be the day-of-week"),
        ("* " * 100, "may have 160 characters"),
    ],
)
def test_what_is_no_schedule_says_what_to_write(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_schedule(text)


def test_a_zone_of_its_own_goes_before_the_agents() -> None:
    assert parse_schedule("daily_9am", "Europe/Berlin").key == "daily_9am @ Europe/Berlin"
    assert parse_schedule("daily_9am@America/New_York", "Europe/Berlin").zone == "America/New_York"


def test_what_runs_at_a_fixed_time_runs_once_on_the_days_when_clocks_are_changed() -> None:
    schedule = parse_schedule("daily_2_30am @ Europe/Berlin")
    spring = list(islice(schedule.after(ms("2026-03-28T00:00:00+01:00")), 3))
    assert [wall(due) for due in spring] == [
        "2026-03-28T02:30:00+01:00",
        "2026-03-29T03:00:00+02:00",  # there is no half past two
        "2026-03-30T02:30:00+02:00",
    ]
    autumn = list(islice(schedule.after(ms("2026-10-24T00:00:00+02:00")), 3))
    assert [wall(due) for due in autumn] == [
        "2026-10-24T02:30:00+02:00",
        "2026-10-25T02:30:00+02:00",  # and not an hour later again
        "2026-10-26T02:30:00+01:00",
    ]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "UTC"])
@pytest.mark.parametrize("spec", ["daily_2_30am", "daily_midnight", "daily_1_45am", "15,45 1-3 * * *"])
def test_asking_from_any_minute_on_gives_the_same_times(spec: str, zone: str) -> None:
    """A schedule that is planned anew, at any moment of the year, neither repeats nor leaves out a time."""
    schedule = parse_schedule(spec, zone)
    for month in ("2011-03-10", "2011-03-25", "2011-04-01", "2011-10-01", "2011-10-28", "2011-11-04", "2011-12-28"):
        begin = ms(f"{month}T00:00:00+00:00")  # around the days on which clocks were changed; Apia left out the 30th
        dues = [due for due in islice(schedule.after(begin), 30) if due < begin + 5 * DAY_MS]
        assert dues == sorted(set(dues))
        for due, following in pairwise(dues):
            for asked in (due, due + 1, due + 90_000, following - 3_600_000, following - 1):
                if asked >= due:
                    assert schedule.next_after(asked) == following, (wall(asked, zone), wall(following, zone))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["*/5 * * * *", "0 * * * *", "30 2 * * *", "0 9 * * 1-5", "0 0 L * *", "*/20 1-3 * * SUN"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
    st.integers(ms("2020-01-01T00:00:00+00:00"), ms("2030-01-01T00:00:00+00:00")),
)
def test_the_next_time_is_later_and_due_on_the_wall(cron: str, zone: str, at_ms: int) -> None:
    schedule = parse_schedule(cron, zone)
    due = schedule.next_after(at_ms)
    assert due is not None
    assert due > at_ms
    assert due % 60_000 == 0
    assert schedule.next_after(due - 1) == due


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(max_size=40) | st.text("0123456789*/,-#L @_amp", max_size=30))
def test_any_text_is_a_schedule_or_a_reason(text: str) -> None:
    try:
        schedule = parse_schedule(text)
    except ValueError:
        return
    assert schedule.next_after(0)
