"""Requests and tokens a minute of one provider and site: a bucket that fills steadily, and a queue before it.

Soft: it is of one process, and forgotten with it; a provider's own limits are the hard ones. Fair: who asks first is
let through first, and a large question is not passed by small ones.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from processors.backoff import Sleep

MINUTE_S = 60.0
ROUNDING = 1e-6  # of sums of fractions: waiting for less would not move a clock


class _Bucket:
    """Holds up to a minute's amount, and fills by it each minute. What was taken in excess is paid back by waiting."""

    def __init__(self, per_minute: int | None, now_s: float) -> None:
        self._per_minute = per_minute
        self._level = float(per_minute or 0)
        self._at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """Return how long until `amount` is there; of more than a minute's, until the bucket is full."""
        if self._per_minute is None:
            return 0.0
        per_s = self._per_minute / MINUTE_S
        self._level = min(float(self._per_minute), self._level + (now_s - self._at_s) * per_s)
        self._at_s = now_s
        missing = min(amount, self._per_minute) - self._level
        return missing / per_s if missing > ROUNDING else 0.0

    def take(self, amount: float) -> None:
        """Take an amount; a negative one gives back what was not used."""
        if self._per_minute is not None:
            self._level = min(float(self._per_minute), self._level - amount)


class Pace:
    """Lets questions through at the pace of a provider; None is as fast as they come."""

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        *,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._now_s, self._sleep = now_s, sleep
        self._requests = _Bucket(requests_per_minute, now_s())
        self._tokens = _Bucket(tokens_per_minute, now_s())
        self._queue: deque[asyncio.Future[None]] = deque()

    async def enter(self, tokens: int) -> None:
        """Wait for one request and `tokens`, behind everybody who came before."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(mine)
        try:
            if self._queue[0] is not mine:
                await mine
            while (wait_s := self._wait_s(tokens)) > 0:
                await self._sleep(wait_s)
            self._requests.take(1)
            self._tokens.take(tokens)
        finally:
            self._queue.remove(mine)
            if self._queue and not self._queue[0].done():
                self._queue[0].set_result(None)

    def settle(self, reserved: int, used: int) -> None:
        """Give back what a question did not use, or take what it used more."""
        self._tokens.take(used - reserved)

    def _wait_s(self, tokens: int) -> float:
        now_s = self._now_s()
        return max(self._requests.wait_s(1, now_s), self._tokens.wait_s(tokens, now_s))
