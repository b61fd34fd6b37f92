"""A circuit breaker: a provider that keeps failing is left alone for a while, then asked once.

Closed, calls pass. After `FAILURES` in a row it opens, and calls are refused for `OPEN_MS`. Then one call may
probe: its success closes the breaker, its failure opens it again. Pure; time comes in.
"""

from dataclasses import dataclass, replace

FAILURES = 5  # in a row: fewer are bad luck, and one call's own tries are three
OPEN_MS = 15_000  # long enough to spare an overloaded provider, short beside a run's time
PROBE_MS = 60_000  # a probe that nobody heard of again is forgotten after this

# What says that a provider is ill. A rate limit is a healthy answer, and so is any refusal of one request.
COUNTED = frozenset({"unavailable", "overloaded", "timeout", "cut_stream"})


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state for one provider; `probed_at_ms` is since when one call tries whether it is well again."""

    failures: int = 0
    opened_at_ms: int | None = None
    probed_at_ms: int | None = None


def admit(breaker: Breaker, now_ms: int) -> tuple[Breaker, bool]:
    """Return whether a call may be made now, and the state if it is."""
    if breaker.opened_at_ms is None:
        return breaker, True
    if now_ms < breaker.opened_at_ms + OPEN_MS:
        return breaker, False
    if breaker.probed_at_ms is not None and now_ms < breaker.probed_at_ms + PROBE_MS:
        return breaker, False
    return replace(breaker, probed_at_ms=now_ms), True


def succeeded() -> Breaker:
    """Return the state after an answer: closed."""
    return Breaker()


def failed(breaker: Breaker, now_ms: int) -> Breaker:
    """Return the state after a failure that counts."""
    failures = breaker.failures + 1
    if breaker.probed_at_ms is not None or (failures >= FAILURES and breaker.opened_at_ms is None):
        return Breaker(failures, opened_at_ms=now_ms)
    return replace(breaker, failures=failures)


def abandoned(breaker: Breaker) -> Breaker:
    """Return the state after a call that says nothing of the provider, such as a cancelled one."""
    return replace(breaker, probed_at_ms=None)


def wait_s(breaker: Breaker, now_ms: int) -> float:
    """Return how long an open breaker refuses yet, in seconds."""
    return 0.0 if breaker.opened_at_ms is None else max(0.0, (breaker.opened_at_ms + OPEN_MS - now_ms) / 1000)
