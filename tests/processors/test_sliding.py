"""Counting within windows: against a count that is plain, slow and keeps everything."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.signals.sliding import Seen, Sliding, Span, Verdict, count

WINDOW_MS = 10
MINUTE_MS = 60_000


@dataclass
class Oracle:
    """Keeps every event for ever, and looks at every window there is."""

    threshold: int
    accepted: list[Seen] = field(default_factory=list)
    windows: list[Span] = field(default_factory=list)
    newest_ms: int = -(10**9)

    def covered(self, time_ms: int) -> bool:
        return any(span.from_ms <= time_ms < span.until_ms for span in self.windows)

    def count(self, seen: Seen) -> Verdict:
        if seen.time_ms <= self.newest_ms - WINDOW_MS:
            return "late"
        if self.covered(seen.time_ms):
            self.newest_ms = max(self.newest_ms, seen.time_ms)
            return "covered"
        free = [event for event in self.accepted if not self.covered(event.time_ms)]
        if any(event.mark == seen.mark for event in free if event.time_ms > self.newest_ms - 2 * WINDOW_MS):
            return "repeated"
        self.newest_ms = max(self.newest_ms, seen.time_ms)
        self.accepted.append(seen)
        free.append(seen)
        for start in sorted(event.time_ms for event in free):
            inside = [event for event in free if start <= event.time_ms < start + WINDOW_MS]
            if seen in inside and len(inside) >= self.threshold:
                return self._raise(start)
        return "counted"

    def _raise(self, start: int) -> Verdict:
        for other in self.windows:
            if start < other.from_ms < start + WINDOW_MS:
                self.windows[self.windows.index(other)] = Span(start, other.until_ms)
                return "covered"
        self.windows.append(Span(start, start + WINDOW_MS))
        return "raised"


# Times near each other, so that windows fill, border on each other and overlap.
EVENTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)).map(lambda pair: Seen(*pair)), max_size=60)


@given(EVENTS, st.integers(1, 6))
def test_every_event_meets_the_fate_that_a_plain_count_gives_it(events: list[Seen], threshold: int) -> None:
    kept, oracle = Sliding(newest_ms=-(10**9)), Oracle(threshold)
    for seen in events:
        kept, verdict, span = count(kept, seen, threshold, WINDOW_MS)
        assert verdict == oracle.count(seen)
        assert (span is not None) == (verdict == "raised")
        if span is not None:
            assert span == oracle.windows[-1]


@given(EVENTS, st.integers(1, 6))
def test_what_is_kept_is_bounded_and_in_order(events: list[Seen], threshold: int) -> None:
    kept = Sliding()
    for seen in events:
        kept, _, _ = count(kept, seen, threshold, WINDOW_MS)
        assert len(kept.events) <= 2 * threshold
        assert len(kept.raised) <= 4
        assert list(kept.events) == sorted(kept.events)
        assert all(a.until_ms <= b.from_ms for a, b in zip(kept.raised, kept.raised[1:], strict=False))


@given(st.lists(st.integers(0, 200), max_size=40, unique=True), st.integers(1, 6), st.randoms(use_true_random=False))
def test_some_signal_is_raised_exactly_if_some_window_is_full_in_whatever_order_events_come(
    times: list[int], threshold: int, random: object
) -> None:
    ordered = sorted(times)
    full = any(ordered[at + threshold - 1] - ordered[at] < WINDOW_MS for at in range(len(ordered) - threshold + 1))
    shuffled = sorted(times, key=lambda time: time + random.random() * (WINDOW_MS - 1))  # type: ignore[attr-defined]
    kept, raised = Sliding(), []
    for time in shuffled:
        kept, verdict, span = count(kept, Seen(time, time), threshold, WINDOW_MS)
        assert verdict != "late", "an event less than a window behind counts"
        raised += [span] if span else []
    assert bool(raised) == full


@given(EVENTS, st.integers(1, 6))
def test_an_event_that_comes_again_at_once_changes_nothing(events: list[Seen], threshold: int) -> None:
    kept = Sliding()
    for seen in events:
        kept, _, _ = count(kept, seen, threshold, WINDOW_MS)
        again, verdict, span = count(kept, seen, threshold, WINDOW_MS)
        assert again == kept
        assert verdict in ("repeated", "covered", "late")
        assert span is None


@pytest.mark.parametrize("shift_ms", [0, 1, 30_000, 299_999])
def test_six_within_five_minutes_are_one_signal_wherever_the_five_minutes_begin(shift_ms: int) -> None:
    kept, raised = Sliding(), 0
    for number in range(6):
        kept, _, span = count(kept, Seen(shift_ms + number * 59_999, number), 6, 5 * MINUTE_MS)
        raised += span is not None
    assert raised == 1


def test_five_in_an_hour_are_none() -> None:
    kept = Sliding()
    for number in range(5):
        kept, verdict, _ = count(kept, Seen(number * 12 * MINUTE_MS, number), 5, 5 * MINUTE_MS)
        assert verdict == "counted"


def test_a_long_attack_is_one_signal_for_each_window() -> None:
    kept, raised = Sliding(), []
    for second in range(3_600):
        kept, _, span = count(kept, Seen(second * 1_000, second), 6, 5 * MINUTE_MS)
        raised += [span] if span else []
    assert len(raised) == 12
    assert [span.from_ms for span in raised] == [n * 5 * MINUTE_MS for n in range(12)]
