"""Records that could not be read, kept as raw bytes with the reason, so that they can be looked at and sent again.

A dead letter has the original's key and value. The original's headers follow under `dl_h_` and their own names, so
that none is taken for one of ours; `original` takes that off again and gives the exact record back. Readers drop
repeats by `dl_id`.

A record may be larger than any letter: what its producer compressed, or what has very many headers. Of such a one the
beginning of its value is kept, and `dl_cut` says so; the record itself stays where it stood, for as long as its topic
keeps it.
"""

import time
from dataclasses import dataclass

from schemas.errors import DecodeError, RecordTooLargeError
from streams.log import Draft, Headers, Log, Position, Record
from streams.rfc3339 import format_time, parse_time
from streams.topics import DEAD_LETTERS

ERROR_CHARS = 2_000
PREFIX = "dl_h_"
CUT_VALUE_BYTES = 256 * 1024  # of a value that is too large to be kept
CUT_KEY_BYTES = 1024

MAX_PARTITION = 2**31 - 1  # as Kafka counts them
MAX_OFFSET = 2**63 - 1


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be read: what it was, where it stood, and why. `at_ms` is when that was found out.

    `cut` says that it was too large to be kept whole, and how large: key and value are its beginning, without headers.
    """

    id: str
    error: str
    topic: str
    partition: int
    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    cut: str | None = None

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


def cut_letter(record: Record, error: str, *, at_ms: int) -> Draft:
    """Return the dead letter of a record that is too large for one."""
    key, value = record.key or b"", record.value or b""
    said = f"{len(key)} bytes of key, {len(value)} of value, {len(record.headers)} headers"
    begins = record._replace(
        key=None if record.key is None else key[:CUT_KEY_BYTES],
        value=None if record.value is None else value[:CUT_VALUE_BYTES],
        headers=(),
    )
    draft = dead_letter(begins, error, at_ms=at_ms)
    return draft._replace(headers=(*draft.headers, ("dl_cut", said.encode())))


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
            partition=_number(ours["dl_partition"], MAX_PARTITION),
            offset=_number(ours["dl_offset"], MAX_OFFSET),
            at_ms=parse_time(ours["dl_at"]),
            key=record.key,
            value=record.value,
            headers=tuple((n.removeprefix(PREFIX), c) for n, c in record.headers if n.startswith(PREFIX)),
            cut=ours.get("dl_cut"),
        )
    except (KeyError, ValueError) as error:
        raise DecodeError(f"no dead letter: {error!r}") from None


def _number(text: str, most: int) -> int:
    if not 0 <= (number := int(text)) <= most:
        raise ValueError(f"{text:.40} is not a number from 0 to {most}")
    return number


async def send_dead_letter(log: Log, record: Record, error: str) -> Position:
    """Put a record that could not be read into `ai.dead-letters`.

    Raises:
        AppendError: refused, or the outcome is unknown: call again; readers drop repeats.
    """
    at_ms = time.time_ns() // 1_000_000
    try:
        return await log.send(DEAD_LETTERS, dead_letter(record, error, at_ms=at_ms))
    except RecordTooLargeError:
        return await log.send(DEAD_LETTERS, cut_letter(record, error, at_ms=at_ms))
