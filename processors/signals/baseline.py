"""Whether a key does more than it usually does: its count in a window of time against its own moving average.

Time, the events' own in Unix ms, is cut into windows of the rule's length. The newest and the one before are open, so
that events may come in any order within a window; with each later one the oldest is closed and enters the average.
The average moves over the last HISTORY windows, empty ones too. A window is raised once, when its count exceeds

    usual + deviation x max(standard deviation, sqrt(usual), 1)

and at least MIN_HISTORY windows were closed before. The root is what chance alone spreads counts by: a key that did
exactly the same every day is not suspicious for one more. A raised window enters the average with its limit, so that
an attack does not become usual.
"""

from math import sqrt
from typing import Literal, NamedTuple

Verdict = Literal["counted", "raised", "covered", "repeated", "late"]

HISTORY = 30  # windows that the average moves over
MIN_HISTORY = 8  # windows before there is a usual at all
GAP = 10 * HISTORY  # after so many empty windows nothing of the average is left: the key begins anew
MARKS = 256  # events by which repeats are told: who publishes again does it soon


class Bin(NamedTuple):
    """An open window: its number (time // length), how many events it has, and whether it was raised."""

    number: int
    events: int
    raised: bool = False


class Average(NamedTuple):
    """What is usual in a window, over `windows` closed ones."""

    windows: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def with_closed(self, count: float) -> "Average":
        """Return the average with one more window; its weight is that of a plain mean until HISTORY are there."""
        windows = min(self.windows + 1, HISTORY)
        weight = 1 / windows
        off = count - self.mean
        return Average(windows, self.mean + weight * off, (1 - weight) * (self.variance + weight * off * off))

    def limit(self, deviation: float) -> float:
        """Return the count above which a window is out of the usual."""
        return self.mean + deviation * max(sqrt(self.variance), sqrt(self.mean), 1.0)


class Usual(NamedTuple):
    """What is kept of a key: its average, the open windows in order, and the marks of its last events."""

    average: Average = Average()
    bins: tuple[Bin, ...] = ()
    marks: tuple[int, ...] = ()


class Excess(NamedTuple):
    """A window that was raised: from and to before, its events so far, what is usual, and what is allowed."""

    from_ms: int
    until_ms: int
    events: int
    usual: float
    limit: float


def count(
    kept: Usual, time_ms: int, mark: int, deviation: float, window_ms: int, at_least: int = 1
) -> tuple[Usual, Verdict, Excess | None]:
    """Count one event; return what is kept then, what became of it, and the window that it raised.

    `at_least`: a window with fewer events is never raised.
    """
    number = time_ms // window_ms
    if kept.bins and number < kept.bins[-1].number - 1:
        return kept, "late", None
    if mark in kept.marks:
        return kept, "repeated", None
    average, bins = _closed(kept, number, deviation)
    at = next((i for i, bin_ in enumerate(bins) if bin_.number == number), None)
    if at is None:
        bins = sorted([*bins, Bin(number, 0)])
        at = next(i for i, bin_ in enumerate(bins) if bin_.number == number)
    counted = bins[at].events + 1
    limit = average.limit(deviation)
    was_raised = bins[at].raised
    exceeds = average.windows >= MIN_HISTORY and counted > limit and counted >= at_least
    bins[at] = Bin(number, counted, was_raised or exceeds)
    then = Usual(average, tuple(bins), (*kept.marks, mark)[-MARKS:])
    if was_raised:
        return then, "covered", None
    if not exceeds:
        return then, "counted", None
    from_ms = number * window_ms
    return then, "raised", Excess(from_ms, from_ms + window_ms, counted, average.mean, limit)


def _closed(kept: Usual, number: int, deviation: float) -> tuple[Average, list[Bin]]:
    """Return the average and the open windows after those before `number` - 1 were closed."""
    average, bins = kept.average, list(kept.bins)
    if not bins or number - 1 <= bins[0].number:
        return average, bins
    if number - bins[-1].number > GAP:
        return Average(), []
    counts = {bin_.number: bin_ for bin_ in bins}
    for closing in range(bins[0].number, number - 1):
        bin_ = counts.get(closing, Bin(closing, 0))
        average = average.with_closed(min(bin_.events, average.limit(deviation)) if bin_.raised else bin_.events)
    return average, [counts.get(still_open, Bin(still_open, 0)) for still_open in (number - 1, number)]
