"""Counting what is delivered: whatever is repeated or left out on the way, the signals are those of the log."""

import os

from hypothesis import given
from hypothesis import strategies as st

from processors.signals.counter import Counter
from processors.signals.counting import Counting
from streams.log import Draft, Record
from streams.memory_log import MemoryLog
from streams.topics import DEAD_LETTERS, MODULE_EVENTS, OBSERVATIONS, is_genesis
from tests.processors.fakes import new_log
from tests.processors.test_counting import seen

PARTITIONS = 2
EVENTS = 30


async def observed(poison: int = 0) -> MemoryLog:
    """Return a log with observations that raise signals, in both partitions."""
    log = await new_log(PARTITIONS)
    for number in range(EVENTS):
        told = seen(f"user-{number % 5}", number)
        await log.send(OBSERVATIONS, Draft(told.series.encode(), told.encode()))
    for _ in range(poison):
        await log.send(OBSERVATIONS, Draft(b"k", os.urandom(20)), partition=0)
    return log


def raised(log: MemoryLog) -> list[bytes]:
    return sorted(record.value or b"" for record in log.records(MODULE_EVENTS))


async def expected() -> list[bytes]:
    log = await observed()
    counting = Counting({}, PARTITIONS)
    signals = [counting.take(record) for record in log.records(OBSERVATIONS)]
    return sorted(signal.value or b"" for signal in signals if signal is not None)


@given(st.lists(st.integers(0, EVENTS - 1), max_size=60))
async def test_what_is_delivered_twice_or_not_at_all_changes_nothing(delivered: list[int]) -> None:
    log = await observed()
    records: list[Record] = list(log.records(OBSERVATIONS))
    last = {record.partition: record for record in records}
    counter = Counter(log, Counting({}, PARTITIONS), MODULE_EVENTS)
    for number in delivered:
        await counter.take(records[number])
    for record in last.values():
        await counter.take(record)
    assert raised(log) == await expected() != []


async def test_a_new_process_goes_on_behind_what_the_table_has() -> None:
    log, table = await observed(), dict[bytes, bytes]()
    records = list(log.records(OBSERVATIONS))
    for record in records[:17]:
        await Counter(log, Counting(table, PARTITIONS), MODULE_EVENTS).take(record)
    counter = Counter(log, Counting(table, PARTITIONS), MODULE_EVENTS)
    ahead = [[record.offset for record in records[17:] if record.partition == p] for p in range(PARTITIONS)]
    assert [await counter.first_uncounted(p) for p in range(PARTITIONS)] == [min(a, default=None) for a in ahead]
    for record in records:
        await counter.take(record)
    assert raised(log) == await expected()
    assert [await counter.first_uncounted(partition) for partition in range(PARTITIONS)] == [None] * PARTITIONS


async def test_poison_that_was_left_out_goes_to_the_dead_letters_once() -> None:
    log = await observed(poison=3)
    counter = Counter(log, Counting({}, PARTITIONS), MODULE_EVENTS)
    last = log.records(OBSERVATIONS, 0)[-1]
    for record in (last, last):
        await counter.take(record)
    assert sum(not is_genesis(record) for record in log.records(DEAD_LETTERS)) == 3
