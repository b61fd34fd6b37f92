"""Counting with a table: through deliveries that are repeated, processes that die, and more keys than are kept."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.signals.counting import Counting
from processors.signals.observations import Observation, decode
from processors.signals.series import AHEAD_MS, Place, observe
from processors.signals.series import decode as decode_series
from processors.signals.signal import signal_event
from processors.triggers.module_events import read_module_event
from schemas.errors import DecodeError
from schemas.ids import agent_id_of
from schemas.module_events import SIGNAL_RAISED
from streams.log import Draft, Record
from streams.partitioner import partition_of
from streams.topics import MODULE_EVENTS, OBSERVATIONS
from tests.processors.samples import OTHER_SITE, SITE, START_MS

GUARD = agent_id_of(SITE, "guard")
WINDOW_MS = 5_000
THRESHOLD = 3
PARTITIONS = 4


def seen(key: str, mark: int, time_ms: int = START_MS, **fields: object) -> Observation:
    given = {
        "site_id": SITE,
        "agent_id": GUARD,
        "rule": "logins",
        "version": "1",
        "key": key,
        "threshold": THRESHOLD,
        "window_ms": WINDOW_MS,
        "time_ms": time_ms,
        "mark": mark,
        "source": "/auth",
        "id": str(mark),
        "event_type": "auth.login.failed",
        "correlation_id": "c",
        **fields,
    }
    return Observation.model_validate(given)


def records(told: Sequence[Observation], at_ms: int = START_MS) -> list[Record]:
    """Return observations as they stand in their partitions."""
    ends = dict.fromkeys(range(PARTITIONS), 0)
    found = []
    for observation in told:
        key = observation.series.encode()
        partition = partition_of(key, PARTITIONS)
        found.append(Record(OBSERVATIONS, partition, ends[partition], at_ms, key, observation.encode(), ()))
        ends[partition] += 1
    return found


def ids(signals: Sequence[Draft | None]) -> list[str]:
    return [next(value.decode() for name, value in s.headers if name == "ce_id") for s in signals if s is not None]


OBSERVED = st.lists(
    st.builds(
        seen,
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 30),
        st.integers(START_MS, START_MS + 4 * WINDOW_MS),
        deviation=st.sampled_from([None, None, 1.0]),
    ),
    max_size=60,
)


@given(OBSERVED, st.integers(0, 2**32))
def test_signals_are_the_same_whenever_a_process_dies_and_wherever_reading_goes_on(
    told: list[Observation], seed: int
) -> None:
    """What is in the table survives; reading goes on at, or before, the first record that was not acknowledged."""
    log, chance = records(told), random.Random(seed)
    plain = Counting({}, PARTITIONS)
    expected = ids([plain.take(record) for record in log])
    table: dict[bytes, bytes] = {}
    counting, at, acknowledged = Counting(table, PARTITIONS), 0, 0
    published: list[str] = []
    while at < len(log):
        signal = counting.take(log[at])
        if chance.random() < 0.1:  # dies before the signal of this one is out
            at = chance.randint(acknowledged, at)
            counting = Counting(table, PARTITIONS)
            continue
        published += ids([signal])
        at += 1
        if chance.random() < 0.5:
            acknowledged = at
    assert sorted(set(published)) == sorted(expected)
    assert len(expected) == len(set(expected))


@given(OBSERVED)
def test_what_is_stored_is_read_back(told: list[Observation]) -> None:
    table: dict[bytes, bytes] = {}
    counting = Counting(table, PARTITIONS)
    for record in records(told):
        counting.take(record)
    for stored in table.values():
        series = decode_series(stored)
        assert series.kept_ms > 0
        assert all(event.time_ms >= START_MS for event in series.sliding.events)


def test_sites_are_counted_apart() -> None:
    counting = Counting({}, PARTITIONS)
    told = [seen("a", n, site_id=(SITE, OTHER_SITE)[n % 2]) for n in range(2 * THRESHOLD - 2)]
    assert [counting.take(record) for record in records(told)] == [None] * len(told)
    log = records([*told, seen("a", 100)])
    assert counting.take(log[-1]) is not None


def test_a_signal_is_a_module_event_for_its_guardian() -> None:
    outcome = observe(
        None, seen("mallory", 1, threshold=1, depth=2, caused_by="x", severity="high"), Place(0, START_MS)
    )
    assert outcome.raised is not None
    draft = signal_event(seen("mallory", 1, threshold=1, depth=2, caused_by="x", severity="high"), outcome.raised)
    record = Record(MODULE_EVENTS, 0, 0, START_MS, draft.key, draft.value, draft.headers)
    site_id, correlation_id, trigger = read_module_event(record, START_MS)
    assert (site_id, correlation_id, trigger.event_type, trigger.subject) == (SITE, "c", SIGNAL_RAISED, GUARD)
    assert (trigger.depth, trigger.caused_by, trigger.time_ms) == (2, "x", START_MS)
    assert {k: trigger.data[k] for k in ("rule", "severity", "key", "count", "threshold", "window")} == {
        "rule": "logins", "severity": "high", "key": "mallory", "count": 1, "threshold": 1, "window": "5s",
    }  # fmt: skip


def test_an_event_from_the_future_is_counted_as_one_of_now_and_hides_nothing() -> None:
    counting = Counting({}, PARTITIONS)
    far = seen("a", 0, START_MS + 10 * 365 * 86_400_000)
    log = records([far, *(seen("a", n) for n in range(1, THRESHOLD))])
    assert [counting.take(record) is not None for record in log] == [False] * (THRESHOLD - 1) + [True]
    assert observe(None, seen("a", 0, START_MS + AHEAD_MS), Place(0, START_MS)).stored is not None


def test_a_log_that_was_created_anew_is_counted_on() -> None:
    counting = Counting({}, PARTITIONS)
    for record in records([seen("a", n) for n in range(THRESHOLD - 1)]):
        assert counting.take(record) is None
    (again,) = records([seen("a", 50)], at_ms=START_MS + 1)
    assert again.offset == 0
    assert counting.take(again) is not None


def test_of_too_many_keys_the_longest_unheard_of_are_forgotten_and_counted() -> None:
    table: dict[bytes, bytes] = {}
    counting = Counting(table, 1, max_keys=10)
    log = [
        record._replace(partition=0, offset=offset)
        for offset, record in enumerate(records([seen(f"key-{n}", n) for n in range(30)]))
    ]
    for record in log[:25]:
        counting.take(record)
    assert len(table) == 10
    assert counting.evicted == 15
    counting = Counting(table, 1, max_keys=10)  # the next process finds the same order
    for record in log[25:]:
        counting.take(record)
    assert set(table) == {record.key for record in log[20:]}


def test_what_no_longer_matters_is_forgotten() -> None:
    table: dict[bytes, bytes] = {}
    counting = Counting(table, 1)
    (old,) = records([seen("old", 1)])
    counting.take(old)
    later_ms = START_MS + 2 * WINDOW_MS + 1
    (new,) = records([seen("new", 2, later_ms)], at_ms=later_ms)
    counting.take(new._replace(partition=old.partition, offset=1))
    assert set(table) == {new.key}
    assert counting.evicted == 0


def test_a_stored_series_of_another_release_is_counted_anew() -> None:
    (record,) = records([seen("a", 1)])
    assert record.key is not None
    table = {record.key: b'{"v": 0}\n'}
    counting = Counting(table, PARTITIONS)
    assert counting.take(record) is None
    assert decode_series(table[record.key]).sliding.events


def test_what_is_no_observation_is_refused() -> None:
    (record,) = records([seen("a", 1)])
    with pytest.raises(DecodeError):
        Counting({}, PARTITIONS).take(record._replace(value=b"\xff"))
    assert decode(record.key, record.value).key == "a"
