"""What is stored of a series, a rule's and a key's, and what an observation makes of it: pure, byte for byte.

A value is one line of JSON and then the events' (time, mark) as little-endian 64-bit numbers. It holds the place of the
last observation counted, so that one that is delivered again, after a crash, adds nothing but raises again what it
had raised: the same signal, under the same id.
"""

import struct
from typing import Literal, NamedTuple

import orjson

from processors.signals import baseline, sliding
from processors.signals.baseline import Average, Bin, Excess, Usual
from processors.signals.observations import Observation
from processors.signals.sliding import Seen, Sliding, Span

AHEAD_MS = 60_000  # clocks differ; an event later than that from now is counted as one of now
LAYOUT = 1

Verdict = Literal["counted", "raised", "covered", "repeated", "late", "redelivered"]


class Raised(NamedTuple):
    """A window that became a signal; times in Unix ms. `usual` and `limit` are set by a rule with a baseline."""

    from_ms: int
    until_ms: int
    time_ms: int
    events: int
    usual: float | None = None
    limit: float | None = None


class Place(NamedTuple):
    """Where an observation stands in its partition, and when the broker put it there."""

    offset: int
    at_ms: int


class Series(NamedTuple):
    """All that is kept of a series; `last_raised` belongs to the observation at `last`."""

    rule: str
    kept_ms: int
    last: Place
    last_raised: Raised | None
    sliding: Sliding
    usual: Usual


class Outcome(NamedTuple):
    """What to store (None: nothing new), what to tell, and why."""

    stored: bytes | None
    raised: Raised | None
    verdict: Verdict


def observe(before: bytes | None, seen: Observation, place: Place) -> Outcome:
    """Count one observation.

    Raises:
        ValueError: what is stored can't be read.
    """
    series = decode(before) if before else None
    # In a log that was created anew offsets begin again, but time does not.
    if series is not None and place.offset <= series.last.offset and place.at_ms <= series.last.at_ms:
        return Outcome(None, series.last_raised if place == series.last else None, "redelivered")
    kept = series or Series("", 0, place, None, Sliding(), Usual())
    time_ms = seen.time_ms if seen.time_ms <= place.at_ms + AHEAD_MS else place.at_ms
    verdict: Verdict
    usual, window = kept.usual, kept.sliding
    if seen.deviation is None:
        window, verdict, span = sliding.count(window, Seen(time_ms, seen.mark), seen.threshold, seen.window_ms)
        raised = _of_span(span, time_ms, seen.threshold)
    else:
        usual, verdict, excess = baseline.count(
            usual, time_ms, seen.mark, seen.deviation, seen.window_ms, seen.threshold
        )
        raised = _of_excess(excess, time_ms)
    if verdict in ("repeated", "late"):
        return Outcome(None, None, verdict)
    stored = encode(Series(rule_name(seen), kept_ms(seen), place, raised, window, usual))
    return Outcome(stored, raised, verdict)


def rule_name(seen: Observation) -> str:
    """Return the name under which the series of a rule are bounded."""
    return f"{seen.agent_id}/{seen.rule}"


def kept_ms(seen: Observation) -> int:
    """Return for how long a series that hears nothing more still matters."""
    return (2 if seen.deviation is None else baseline.GAP) * seen.window_ms


def _of_span(span: Span | None, time_ms: int, threshold: int) -> Raised | None:
    return None if span is None else Raised(span.from_ms, span.until_ms, time_ms, threshold)


def _of_excess(found: Excess | None, time_ms: int) -> Raised | None:
    if found is None:
        return None
    return Raised(found.from_ms, found.until_ms, time_ms, found.events, round(found.usual, 3), round(found.limit, 3))


def encode(series: Series) -> bytes:
    """Return a series as it is stored."""
    events = series.sliding.events
    head = {
        "v": LAYOUT,
        "rule": series.rule,
        "kept_ms": series.kept_ms,
        "last": series.last,
        "last_raised": series.last_raised,
        "raised": series.sliding.raised,
        "newest_ms": series.sliding.newest_ms,
        "average": series.usual.average,
        "bins": series.usual.bins,
        "marks": len(series.usual.marks),
    }
    numbers = [number for event in events for number in event] + list(series.usual.marks)
    return orjson.dumps(_plain(head)) + b"\n" + struct.pack(f"<{len(numbers)}q", *numbers)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return {name: _plain(part) for name, part in value.items()} if isinstance(value, dict) else value


def decode(stored: bytes) -> Series:
    """Return a series from what is stored.

    Raises:
        ValueError: it can't be read.
    """
    line, _, rest = stored.partition(b"\n")
    try:
        head = orjson.loads(line)
        if head["v"] != LAYOUT:
            raise ValueError(f"a series of layout {head['v']!r} is not this release's {LAYOUT}")
        numbers = struct.unpack(f"<{len(rest) // 8}q", rest)
        of_events = len(numbers) - head["marks"]
        events = tuple(Seen(*numbers[at : at + 2]) for at in range(0, of_events, 2))
        raised = head["last_raised"]
        return Series(
            rule=head["rule"],
            kept_ms=head["kept_ms"],
            last=Place(*head["last"]),
            last_raised=None if raised is None else Raised(*raised),
            sliding=Sliding(events, tuple(Span(*span) for span in head["raised"]), head["newest_ms"]),
            usual=Usual(Average(*head["average"]), tuple(Bin(*bin_) for bin_ in head["bins"]), numbers[of_events:]),
        )
    except (struct.error, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"a stored series can't be read: {error!r}") from None
