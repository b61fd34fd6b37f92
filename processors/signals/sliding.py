"""How many events of a key lie within one window, wherever in time that window begins: exactly, in any order.

A window is half open: [from, from + length). Once it holds as many events as the rule's threshold, it is raised: all of
its events, also those still to come, belong to that one signal. Windows of two signals never overlap; where a late
event would raise one that overlaps the next, that one grows backwards instead.

Time is the events' own, in Unix ms. An event counts exactly as long as it is less than one window behind the newest of
its key; what is later than that is left out. So nothing older than two windows is kept: at most 2 x threshold events.
"""

from bisect import bisect_left, insort
from typing import Literal, NamedTuple

Verdict = Literal["counted", "raised", "covered", "repeated", "late"]


class Seen(NamedTuple):
    """An event that counts: its own time, and a number made from its (source, id)."""

    time_ms: int
    mark: int


class Span(NamedTuple):
    """The window of a signal, from and to before."""

    from_ms: int
    until_ms: int


class Sliding(NamedTuple):
    """What is kept of a key: the events that belong to no signal yet, in order of time, and the signals' windows."""

    events: tuple[Seen, ...] = ()
    raised: tuple[Span, ...] = ()
    newest_ms: int = 0


def count(kept: Sliding, seen: Seen, threshold: int, window_ms: int) -> tuple[Sliding, Verdict, Span | None]:
    """Count one event; return what is kept then, what became of the event, and the window that it raised."""
    if seen.time_ms <= kept.newest_ms - window_ms:
        return kept, "late", None
    if any(span.from_ms <= seen.time_ms < span.until_ms for span in kept.raised):
        return _keep(kept, kept.events, kept.raised, seen, window_ms), "covered", None
    if any(event.mark == seen.mark for event in kept.events):
        return kept, "repeated", None
    events = list(kept.events)
    insort(events, seen)
    first = _first_of_full_window(events, events.index(seen), threshold, window_ms)
    if first is None:
        return _keep(kept, tuple(events), kept.raised, seen, window_ms), "counted", None
    return _raise(kept, events, Span(first, first + window_ms), seen, window_ms)


def _first_of_full_window(events: list[Seen], at: int, threshold: int, window_ms: int) -> int | None:
    """Return the time of the first event of the earliest full window that the event at `at` is part of."""
    for first in range(max(0, at - threshold + 1), at + 1):
        last = first + threshold - 1
        if last >= len(events):
            return None
        if events[last].time_ms - events[first].time_ms < window_ms:
            return events[first].time_ms
    return None


def _raise(
    kept: Sliding, events: list[Seen], span: Span, seen: Seen, window_ms: int
) -> tuple[Sliding, Verdict, Span | None]:
    # A signal's window is at least as long as the one found here, so none lies between the events of this one.
    following = next((other for other in kept.raised if span.from_ms < other.from_ms < span.until_ms), None)
    covering = span if following is None else Span(span.from_ms, following.until_ms)
    raised = sorted((*(other for other in kept.raised if other is not following), covering))
    left = events[: bisect_left(events, Seen(covering.from_ms, 0))]
    left += [event for event in events if event.time_ms >= covering.until_ms]
    then = _keep(kept, tuple(left), tuple(raised), seen, window_ms)
    return (then, "raised", span) if following is None else (then, "covered", None)


def _keep(kept: Sliding, events: tuple[Seen, ...], raised: tuple[Span, ...], seen: Seen, window_ms: int) -> Sliding:
    newest_ms = max(kept.newest_ms, seen.time_ms)
    horizon_ms = newest_ms - 2 * window_ms  # of an event that still counts, no partner lies at or before this
    if events and events[0].time_ms <= horizon_ms:
        events = tuple(event for event in events if event.time_ms > horizon_ms)
    if raised and raised[0].until_ms <= newest_ms - window_ms:
        raised = tuple(span for span in raised if span.until_ms > newest_ms - window_ms)
    return Sliding(events, raised, newest_ms)
