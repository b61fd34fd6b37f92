"""Dead letters, sent again: the exact record goes back to where it stood, and `ai.dead-letters` remembers it.

The memory is a record of the letter's key without a value, with the headers `dl_redriven` (the letter's id), `dl_to`
(topic/partition/offset of the new record), `dl_by` and `dl_at`. It is written after the record was sent: who is
interrupted in between sends the record once more, which every reader of commands and module events must bear anyway.
"""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from schemas.errors import DecodeError, NotFoundError, RefusedError, UnavailableError
from streams.dead_letters import DeadLetter, parse
from streams.log import Draft, Log, Position, Record
from streams.replay import read_span
from streams.rfc3339 import format_time, parse_time
from streams.topics import DEAD_LETTERS, is_genesis

REDRIVEN = "dl_redriven"


@dataclass(frozen=True, slots=True)
class Redriven:
    """When a letter's record was sent again, by whom, and where it stands now (topic/partition/offset)."""

    at_ms: int
    by: str
    to: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, and its redriving if there was one. `partition`, `offset`: where the letter itself stands."""

    letter: DeadLetter
    partition: int
    offset: int
    redriven: Redriven | None


async def read_letters(log: Log) -> Sequence[Letter]:
    """Return all dead letters, each id once, in the order of their time; what is none is passed over.

    Raises:
        NotFoundError: there is no topic.
        UnavailableError: a record that is there can't be read.
    """
    found: dict[str, tuple[DeadLetter, Record]] = {}
    redriven: dict[str, Redriven] = {}
    async for record in _records(log):
        if (note := _note_of(record)) is not None:
            redriven.setdefault(*note)
        elif (letter := _letter_of(record)) is not None:
            found.setdefault(letter.id, (letter, record))
    letters = [Letter(letter, r.partition, r.offset, redriven.get(id_)) for id_, (letter, r) in found.items()]
    return sorted(letters, key=lambda one: (one.letter.at_ms, one.partition, one.offset))


async def find_letter(log: Log, letter_id: str) -> Letter:
    """Return the dead letter of that id.

    Raises:
        NotFoundError: there is none; it may have been deleted after 30 days.
    """
    for one in await read_letters(log):
        if one.letter.id == letter_id:
            return one
    raise NotFoundError(f"there is no dead letter {letter_id!r}: `dramac dlq list` shows those there are")


async def redrive(log: Log, one: Letter, by: str) -> Position:
    """Send a letter's record again, to its own topic and partition, and remember it.

    Raises:
        RefusedError: that was done before; if it failed again, there is a newer letter, which can be redriven. Or the
            record was too large to be kept whole.
        AppendError: refused, or the outcome is unknown: call again.
        NotFoundError: its topic is gone.
    """
    letter = one.letter
    if (done := one.redriven) is not None:
        said = f"{letter.id!r} was redriven at {format_time(done.at_ms)} by {done.by!r}: it is now {done.to}"
        raise RefusedError(f"{said}; if it failed again, redrive its newer letter", reason="redriven")
    if letter.cut is not None:
        said = f"{letter.id!r} has only the beginning of its record ({letter.cut}), which was too large for a letter"
        raise RefusedError(f"{said}: read the whole from its own topic, and send it from there", reason="cut")
    place = await log.send(letter.topic, letter.original(), partition=letter.partition)
    note = {
        REDRIVEN: letter.id,
        "dl_to": f"{letter.topic}/{place.partition}/{place.offset}",
        "dl_by": by,
        "dl_at": format_time(time.time_ns() // 1_000_000),
    }
    draft = Draft(letter.key, None, tuple((name, text.encode()) for name, text in note.items()))
    await log.send(DEAD_LETTERS, draft, partition=one.partition)
    return place


async def _records(log: Log) -> AsyncIterator[Record]:
    try:
        for partition in range(await log.partitions(DEAD_LETTERS)):
            async for records in read_span(log, DEAD_LETTERS, partition, await log.bounds(DEAD_LETTERS, partition)):
                for record in records:
                    if not is_genesis(record):
                        yield record
    except TimeoutError as error:
        raise UnavailableError(f"{error}: try again") from error


def _note_of(record: Record) -> tuple[str, Redriven] | None:
    headers = dict(record.headers)
    if REDRIVEN not in headers:
        return None
    try:
        told = {name: raw.decode() for name, raw in record.headers}
        return told[REDRIVEN], Redriven(parse_time(told["dl_at"]), told["dl_by"], told["dl_to"])
    except (KeyError, ValueError):
        return None


def _letter_of(record: Record) -> DeadLetter | None:
    try:
        return parse(record)
    except DecodeError:
        return None
