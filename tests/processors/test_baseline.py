"""A key against its own average."""

from hypothesis import given
from hypothesis import strategies as st

from processors.signals.baseline import GAP, HISTORY, MARKS, MIN_HISTORY, Average, Excess, Usual, Verdict, count

WINDOW_MS = 1_000
DEVIATION = 3.0


def day(kept: Usual, number: int, events: int) -> tuple[Usual, list[Excess]]:
    """Have so many events in a window."""
    found = []
    for event in range(events):
        kept, _, excess = count(
            kept, number * WINDOW_MS + event % WINDOW_MS, number * 10_000 + event, DEVIATION, WINDOW_MS
        )
        found += [excess] if excess else []
    return kept, found


def usual(windows: int, events: int) -> Usual:
    kept = Usual()
    for number in range(windows):
        kept, found = day(kept, number, events)
        assert not found
    return kept


def test_what_is_far_beyond_the_usual_is_raised_once_in_its_window() -> None:
    kept, found = day(usual(20, 10), 20, 60)
    assert [(e.from_ms, e.until_ms, e.usual) for e in found] == [(20_000, 21_000, 10.0)]
    assert found[0].events == int(found[0].limit) + 1 == 20
    assert day(kept, 21, 60)[1], "and again in the next"


def test_a_little_more_than_always_is_not_raised() -> None:
    assert day(usual(20, 10), 20, 15)[1] == []


def test_without_enough_history_nothing_is_raised() -> None:
    assert day(usual(MIN_HISTORY, 1), MIN_HISTORY, 500)[1] == [], "the last is open still"
    assert day(usual(MIN_HISTORY + 1, 1), MIN_HISTORY + 1, 500)[1] != []


def test_an_attack_does_not_become_usual() -> None:
    kept = usual(HISTORY, 10)
    for number in range(HISTORY, HISTORY + 10):
        kept, found = day(kept, number, 1_000)
        assert found, f"window {number}"


def test_what_grows_slowly_becomes_usual() -> None:
    kept = Usual()
    for number in range(200):
        kept, found = day(kept, number, 10 + number // 2)
        assert found == []


def test_quiet_windows_count_too() -> None:
    kept = usual(20, 10)
    kept, _ = day(kept, 20 + HISTORY, 1)
    assert kept.average.mean < 10 / 2


def test_a_key_that_was_away_for_long_begins_anew() -> None:
    kept, found = day(usual(20, 10), 21 + GAP, 500)
    assert found == []
    assert kept.average == Average()


@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 200)), max_size=300))
def test_windows_in_any_order_of_two_give_the_average_of_the_plain_counts(events: list[tuple[int, int]]) -> None:
    """Without repeats and lateness, which are judged apart, closing is a plain mean of what each window had."""
    kept, counts, verdicts = Usual(), dict[int, int](), set[Verdict]()
    for time_ms, mark in events:
        before = kept
        kept, verdict, _ = count(kept, time_ms, mark, 1e9, WINDOW_MS)
        verdicts.add(verdict)
        if verdict in ("repeated", "late"):
            assert kept == before
            continue
        counts[time_ms // WINDOW_MS] = counts.get(time_ms // WINDOW_MS, 0) + 1
        assert len(kept.bins) <= 2
        assert len(kept.marks) <= MARKS
    if not kept.bins:
        return
    newest = max(counts)
    first = min(counts)
    closed = [counts.get(number, 0) for number in range(first, newest - 1)]
    if len(closed) <= HISTORY and closed:
        assert abs(kept.average.mean - sum(closed) / len(closed)) < 1e-6
    assert {b.number: b.events for b in kept.bins if b.events} == {n: c for n, c in counts.items() if n >= newest - 1}
    assert "raised" not in verdicts
