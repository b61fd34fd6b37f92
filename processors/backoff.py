"""How long to wait before another try."""

from collections.abc import Awaitable, Callable

Sleep = Callable[[float], Awaitable[None]]
Random = Callable[[], float]  # from 0 to 1

FIRST_WAIT_S = 0.25  # long enough for a connection to come back, short beside a model's answer
LONGEST_WAIT_S = 10.0


def backoff_s(tries: int, random: Random) -> float:
    """Return the seconds to wait after `tries` (from 1) failed tries: doubling, from half to all of it by chance.

    The chance spreads callers that failed together; the half keeps a wait from being none at all.
    """
    ceiling: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(tries - 1, 16))
    return ceiling * (0.5 + random() / 2)
