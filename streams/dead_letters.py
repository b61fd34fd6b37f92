"""Records that could not be read, kept as raw bytes with the reason, so that they can be looked at and sent again.

A dead letter has the original's key and value. The original's headers follow under `dl_h_` and their own names, so
that none is taken for one of ours; `original` takes that off again and gives the exact record back. Readers drop
repeats by `dl_id`.
"""

import time
from dataclasses import dataclass

from schemas.errors import DecodeError
from streams.log import Draft, Headers, Log, Position, Record
from streams.rfc3339 import format_time, parse_time
from streams.topics import DEAD_LETTERS

ERROR_CHARS = 2_000
PREFIX = "dl_h_"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be read: what it was, where it stood, and why. `at_ms` is when that was found out."""

    id: str
    error: str
    topic: str
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def original(self) -> Draft:
        """Return the record as it was, to be sent again."""
        return Draft(self.key, self.value, self.headers)


def dead_letter(record: Record, error: str, *, at_ms: int) -> Draft:
    """Return the dead letter of a record; its key is the record's, so that letters of one key stay in order."""
    where = f"{record.topic}/{record.partition}/{record.offset}"
    ours = {
        "dl_id": where,
        "dl_error": error[:ERROR_CHARS],
        "dl_topic": record.topic,
        "dl_partition": str(record.partition),
        "dl_offset": str(record.offset),
        "dl_at": format_time(at_ms),
    }
    headers = [(name, text.encode("utf-8", "backslashreplace")) for name, text in ours.items()]
    headers += [(PREFIX + name, content) for name, content in record.headers]
    return Draft(record.key, record.value, tuple(headers))


def parse(record: Record) -> DeadLetter:
    """Return the dead letter that stands in a record of `ai.dead-letters`.

    Raises:
        DecodeError: it is none.
    """
    ours: dict[str, str] = {}
    for name, content in record.headers:
        if name.startswith("dl_") and not name.startswith(PREFIX):
            ours[name] = content.decode("utf-8", "backslashreplace")
    try:
        return DeadLetter(
            id=ours["dl_id"],
            error=ours["dl_error"],
            topic=ours["dl_topic"],
            partition=int(ours["dl_partition"]),
            offset=int(ours["dl_offset"]),
            at_ms=parse_time(ours["dl_at"]),
            key=record.key,
            value=record.value,
            headers=tuple((n.removeprefix(PREFIX), c) for n, c in record.headers if n.startswith(PREFIX)),
        )
    except (KeyError, ValueError) as error:
        raise DecodeError(f"no dead letter: {error!r}") from None


async def send_dead_letter(log: Log, record: Record, error: str) -> Position:
    """Put a record that could not be read into `ai.dead-letters`.

    Raises:
        AppendError: refused, or the outcome is unknown: call again; readers drop repeats.
    """
    return await log.send(DEAD_LETTERS, dead_letter(record, error, at_ms=time.time_ns() // 1_000_000))
