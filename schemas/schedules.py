"""When an agent wakes by the clock: `schedule:daily_9am`, `schedule:0 9 * * 1-5 @ Europe/Berlin`.

What stands behind `schedule:` is a name or the five fields of cron, then, if it is not to be the agent's own, `@` and
an IANA time zone. Cron is Debian's, as `cronsim` follows it, daylight saving included: what runs at a fixed time runs
once a day, an hour that does not exist moves it behind the gap; what runs every so many minutes or hours goes by real
time. A zone's rules are data of the machine, not of the log: a time that was worked out enters the log as a command.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

SCHEDULE_CHARS = 160
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PROBE = datetime(2026, 1, 1, tzinfo=UTC)  # any time does: whether a schedule ever comes is asked from here

_FIELDS = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L or LW, in a month that has such a day",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT, with #1 to #5 or L behind it",
}
_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_TIME = r"(?P<time>(?:1[0-2]|[1-9])(?:_[0-5]\d)?(?:am|pm)|noon|midnight)"
_TOLD = "write 'hourly', 'daily_9am', 'weekly_monday_6am', 'every_5_minutes' or five cron fields such as '0 9 * * 1-5'"

# A name without a time means midnight.
_NAMES = tuple(
    (re.compile(pattern), fields)
    for pattern, fields in (
        (r"every_minute", "* * * * *"),
        (r"every_(?P<minutes>[1-9]\d?)_minutes", "*/{minutes} * * * *"),
        (r"hourly|every_hour", "0 * * * *"),
        (r"every_(?P<hours>[1-9]\d?)_hours", "0 */{hours} * * *"),
        (rf"daily(?:_{_TIME})?", "{at} * * *"),
        (rf"weekdays(?:_{_TIME})?", "{at} * * 1-5"),
        (rf"weekends(?:_{_TIME})?", "{at} * * 0,6"),
        (rf"weekly(?:_(?P<day>{'|'.join(_DAYS)}))?(?:_{_TIME})?", "{at} * * {day}"),
        (rf"monthly_last_day(?:_{_TIME})?", "{at} L * *"),
        (rf"monthly(?:_(?P<date>[1-9]|[12]\d|3[01])(?:st|nd|rd|th))?(?:_{_TIME})?", "{at} {date} * *"),
        (rf"quarterly(?:_{_TIME})?", "{at} 1 1,4,7,10 *"),
        (rf"(?:yearly|annually)(?:_{_TIME})?", "{at} 1 1 *"),
    )
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Five cron fields in a time zone. `key` names the schedule: the text as written, and its zone."""

    key: str
    cron: str
    zone: str

    def after(self, after_ms: int) -> Iterator[int]:
        """Yield every time (Unix ms) later than `after_ms` at which it is due, in order; it may be a last one."""
        last_ms = after_ms
        for due_ms in self._walk(after_ms, reverse=False):
            if due_ms > last_ms:  # begun in an hour that comes twice, it may name the first once more
                yield due_ms
                last_ms = due_ms

    def before(self, before_ms: int) -> Iterator[int]:
        """Yield every time (Unix ms) earlier than `before_ms` at which it was due, the newest first."""
        last_ms = before_ms
        for due_ms in self._walk(before_ms, reverse=True):
            if due_ms < last_ms:
                yield due_ms
                last_ms = due_ms

    def next_after(self, after_ms: int) -> int | None:
        """Return the first time later than `after_ms` at which it is due; None if it never is again."""
        return next(self.after(after_ms), None)

    def _walk(self, from_ms: int, *, reverse: bool) -> Iterator[int]:
        with suppress(OverflowError):  # the calendar's end
            start = (_EPOCH + timedelta(milliseconds=from_ms)).astimezone(_zone(self.zone))
            for due in CronSim(self.cron, start, reverse=reverse):  # it ends where nothing comes for fifty years
                yield (due.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)


@lru_cache(maxsize=4_096)  # the agents of many sites have the same few
def parse_schedule(text: str, zone: str = "UTC") -> Schedule:
    """Return the schedule that `text` names, in `zone` unless it says otherwise.

    Raises:
        ValueError: it is none, its zone is unknown, or it never comes; the message says what to write.
    """
    if len(text) > SCHEDULE_CHARS:
        raise ValueError(f"a schedule may have {SCHEDULE_CHARS} characters, this one has {len(text)}")
    spec, zone = _split(text, zone)
    if not zone:
        raise ValueError(f"{text!r} names no time zone behind '@': write it like 'daily_9am @ Europe/Berlin'")
    check_zone(zone)
    cron = check_cron(spec) if " " in spec else _named(spec)
    return Schedule(schedule_key(text, zone), cron, zone)


def schedule_key(text: str, zone: str = "UTC") -> str:
    """Return the name of a schedule, with its time zone; whether it is one is not asked."""
    return " @ ".join(_split(text, zone))


def _split(text: str, zone: str) -> tuple[str, str]:
    spec, at, own = text.rpartition("@")
    return " ".join((spec if at else text).split()), own.strip() if at else zone


def check_cron(cron: str) -> str:
    """Return an expression of five cron fields, each divided by a space from the next.

    Raises:
        ValueError: it is none, or names a day that never comes.
    """
    fields = cron.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"{cron!r} is no cron expression: there are five fields, minute, hour, day-of-month, month and "
            "day-of-week, such as '0 9 * * 1-5'"
        )
    for name, value in zip(_FIELDS, fields, strict=True):
        if not value.isascii():  # some letters have capitals in ASCII, some digits none
            raise _bad(name, value, cron)
    try:
        next(CronSim(" ".join(fields), _PROBE))
    except CronSimError as error:
        name = str(error).removeprefix("Bad ")
        raise _bad(name, dict(zip(_FIELDS, fields, strict=True)).get(name, cron), cron) from None
    except StopIteration:
        raise ValueError(f"{cron!r} never comes within fifty years: choose other days") from None
    return " ".join(fields)


def _bad(field: str, value: str, cron: str) -> ValueError:
    return ValueError(f"{value!r} can't be the {field} of {cron!r}: write {_FIELDS.get(field, 'another')}, or *")


def check_zone(name: str) -> str:
    """Return the name of an IANA time zone.

    Raises:
        ValueError: there is no such zone.
    """
    if name not in _zones():
        near = get_close_matches(name, _zones(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "write an IANA name such as 'Europe/Berlin' or 'UTC'"
        raise ValueError(f"there is no time zone {name[:80]!r}: {hint}")
    return name


def _named(spec: str) -> str:
    for pattern, fields in _NAMES:
        if (match := pattern.fullmatch(spec)) is None:
            continue
        said = match.groupdict()
        _check_step(spec, said.get("minutes"), 60, "minutes")
        _check_step(spec, said.get("hours"), 24, "hours")
        day = str(_DAYS.index(said.get("day") or "monday"))
        date = said.get("date") or "1"
        return fields.format(**(said | {"at": _at(said.get("time") or "midnight"), "day": day, "date": date}))
    raise ValueError(f"{spec[:80]!r} is not a schedule: {_TOLD}")


def _check_step(spec: str, step: str | None, whole: int, unit: str) -> None:
    if step is not None and (whole % int(step) or int(step) == whole):
        good = ", ".join(str(n) for n in range(1, whole) if whole % n == 0)
        raise ValueError(f"{spec!r} would not be even: {unit} may be {good}")


def _at(time: str) -> str:
    """Return the minute and the hour of `9am`, `12_30pm`, `noon`."""
    if time in ("noon", "midnight"):
        return "0 12" if time == "noon" else "0 0"
    hour, _, minute = time[:-2].partition("_")
    return f"{int(minute or 0)} {int(hour) % 12 + (12 if time.endswith('pm') else 0)}"


@lru_cache(maxsize=1)  # a few hundred files are looked at
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)
