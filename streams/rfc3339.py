"""Times as RFC 3339 writes them, as Unix ms."""

import re
from datetime import datetime, timedelta

EARLIEST_MS = -62_135_596_800_000  # the year 1
LATEST_MS = 253_402_300_799_999  # the end of the year 9999

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - offsets are reckoned apart: at the calendar's ends a zone overflows


def format_time(at_ms: int) -> str:
    """Return Unix ms of the years 1 to 9999 as RFC 3339 in UTC: `2026-01-24T09:30:00.123Z`."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds") + "Z"


def parse_time(text: str) -> int:
    """Return an RFC 3339 time as Unix ms; finer fractions are cut off, and a leap second is the next minute's first.

    Raises:
        ValueError: it is none.
    """
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r:.60} is no RFC 3339 time such as 2026-01-24T09:30:00.123Z")
    day, minute, second, fraction, sign, hours, minutes = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{minute}:00") - _EPOCH
    except ValueError:
        raise ValueError(f"{text!r:.60} is no time of the calendar") from None
    if int(second) > 60:
        raise ValueError(f"{text!r:.60} has too many seconds")
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    ms = (moment - offset) // timedelta(milliseconds=1) + int(second) * 1000 + int((fraction or "")[:3].ljust(3, "0"))
    if not EARLIEST_MS <= ms <= LATEST_MS:
        raise ValueError(f"{text!r:.60} is not in the years 1 to 9999")
    return ms
