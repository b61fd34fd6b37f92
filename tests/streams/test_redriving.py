import pytest

from schemas.errors import AppendError, NotFoundError, RefusedError
from streams.dead_letters import parse, send_dead_letter
from streams.log import Draft, Record
from streams.memory_log import MemoryLog, Outcome
from streams.redriving import find_letter, read_letters, redrive
from streams.topics import COMMANDS, DEAD_LETTERS, MIB, definitions, ensure_genesis

POISON = Record(COMMANDS, 1, 7, 0, b"key", b"\x00\xff", (("ce_id", b"\xfe"), ("dl_id", b"mine")))


async def log_with(*records: Record) -> MemoryLog:
    """Return a log whose dead letters are of these records."""
    log = MemoryLog()
    log.create(definitions(["module.events"]), 3)
    await ensure_genesis(log, DEAD_LETTERS)
    for record in records:
        await send_dead_letter(log, record, f"no {record.offset}")
    return log


async def test_the_exact_record_goes_back_to_its_partition_and_that_is_remembered() -> None:
    log = await log_with(POISON)
    one = await find_letter(log, "ai.commands/1/7")
    assert one.redriven is None
    place = await redrive(log, one, "user:ann")
    (sent,) = log.records(COMMANDS)
    assert (sent.partition, sent.key, sent.value, sent.headers) == (1, POISON.key, POISON.value, POISON.headers)
    assert (place.partition, place.offset) == (sent.partition, sent.offset)
    again = await find_letter(log, "ai.commands/1/7")
    assert again.redriven is not None
    assert (again.redriven.by, again.redriven.to) == ("user:ann", "ai.commands/1/0")
    assert again.letter == one.letter


async def test_what_was_redriven_is_refused() -> None:
    log = await log_with(POISON)
    await redrive(log, await find_letter(log, "ai.commands/1/7"), "user:ann")
    with pytest.raises(RefusedError, match=r"by 'user:ann': it is now ai\.commands/1/0"):
        await redrive(log, await find_letter(log, "ai.commands/1/7"), "user:bob")
    assert len(log.records(COMMANDS)) == 1


async def test_what_failed_again_is_a_letter_of_its_own() -> None:
    log = await log_with(POISON)
    await redrive(log, await find_letter(log, "ai.commands/1/7"), "user:ann")
    (sent,) = log.records(COMMANDS)
    await send_dead_letter(log, sent, "again")
    assert [(one.letter.id, one.redriven is None) for one in await read_letters(log)] == [
        ("ai.commands/1/7", False),
        ("ai.commands/1/0", True),
    ]


async def test_a_repeated_letter_is_told_once_and_what_is_none_not_at_all() -> None:
    log = await log_with(POISON, POISON, POISON._replace(offset=8))
    await log.send(DEAD_LETTERS, Draft(b"x", b"no letter", ()))
    await log.send(DEAD_LETTERS, Draft(b"x", None, (("dl_redriven", b"\xff"),)))
    assert [one.letter.offset for one in await read_letters(log)] == [7, 8]


async def test_a_record_that_was_sent_but_not_remembered_is_sent_again() -> None:
    log = await log_with(POISON)

    def forgets(topic: str, partition: int, drafts: object) -> Outcome:
        return "refused" if topic == DEAD_LETTERS else "ok"

    log.on_write = forgets
    with pytest.raises(AppendError):
        await redrive(log, await find_letter(log, "ai.commands/1/7"), "user:ann")
    log.on_write = None
    await redrive(log, await find_letter(log, "ai.commands/1/7"), "user:ann")
    assert len(log.records(COMMANDS)) == 2


async def test_a_letter_that_is_not_there() -> None:
    with pytest.raises(NotFoundError, match="dlq list"):
        await find_letter(await log_with(), "ai.commands/0/1")


async def test_a_note_is_no_dead_letter_to_who_only_knows_those() -> None:
    log = await log_with(POISON)
    await redrive(log, await find_letter(log, "ai.commands/1/7"), "user:ann")
    letters = [record for record in log.records(DEAD_LETTERS) if record.header("dl_id") is not None]
    assert [parse(record).id for record in letters] == ["ai.commands/1/7"]


async def test_a_letter_that_was_cut_is_not_redriven() -> None:
    log = await log_with(POISON._replace(value=b"x" * 5 * MIB))
    with pytest.raises(RefusedError, match="only the beginning of its record"):
        await redrive(log, await find_letter(log, "ai.commands/1/7"), "user:ann")
    assert log.records(COMMANDS) == []
