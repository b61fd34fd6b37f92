"""The network between processes and the broker: it delays, refuses and forgets.

A request lands at the broker whatever becomes of its sender meanwhile, perhaps long after the sender gave it up; an
answer may be lost; what was sent once may land twice. Every append that lands is acknowledged by its very offset, or
not at all.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from schemas.errors import AppendError, RecordTooLargeError, UnavailableError
from streams.log import Draft
from streams.memory_log import MemoryLog
from streams.topics import COMMANDS
from tests.simulation.loop import OUTSIDE, Host, VirtualLoop

ANSWER_S = 2.0  # how long a sender waits for its acknowledgement
LATEST_S = 30.0  # how late a late write lands, at most


@dataclass
class Weather:
    """How bad the network is now: probabilities of each misfortune, a request."""

    refused: float = 0.0
    unanswered: float = 0.0
    late: float = 0.0
    doubled: float = 0.0
    slow: float = 0.0
    unavailable: float = 0.0


Landed = Callable[[Host, str, int, int, Sequence[Draft]], None]  # by whom, topic, partition, base offset, what


@dataclass
class Network:
    """What lies between the processes and the broker. `landed` is told of every write that stands in the log."""

    loop: VirtualLoop
    broker: MemoryLog
    rng: random.Random
    landed: Landed
    weather: Weather = field(default_factory=Weather)
    cut_off: set[Host] = field(default_factory=set)
    under_way: int = 0

    def delay_s(self) -> float:
        """Return how long a packet takes."""
        slow = self.weather.slow and self.rng.random() < self.weather.slow
        return self.rng.uniform(0.05, 1.5) if slow else self.rng.uniform(0.0002, 0.004)

    async def travel(self, host: Host) -> None:
        """Let a packet travel.

        Raises:
            UnavailableError: it got lost.
        """
        await asyncio.sleep(self.delay_s())
        if host in self.cut_off or self.rng.random() < self.weather.unavailable:
            raise UnavailableError("the broker does not answer")

    async def write(self, host: Host, topic: str, partition: int, drafts: Sequence[Draft]) -> int:
        """Let a write travel and return where it landed.

        Raises:
            AppendError: it was refused, or nobody knows what became of it.
            RecordTooLargeError: it is larger than its topic takes.
        """
        roll, weather = self.rng.random(), self.weather
        if host in self.cut_off or roll < weather.refused:
            await asyncio.sleep(self.delay_s())
            raise AppendError("refused: no leader")
        roll -= weather.refused
        lost = roll < weather.unanswered
        late = not lost and roll < weather.unanswered + weather.late
        answer: asyncio.Future[int] = self.loop.create_future()
        self._send(host, topic, partition, tuple(drafts), None if lost else answer, late)
        if topic == COMMANDS and self.rng.random() < weather.doubled:
            self._send(host, topic, partition, tuple(drafts), None, late=True)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            raise AppendError("no answer: only the log can tell whether it landed") from None

    def _send(
        self,
        host: Host,
        topic: str,
        partition: int,
        drafts: tuple[Draft, ...],
        answer: asyncio.Future[int] | None,
        late: bool,
    ) -> None:
        due_s = self.rng.uniform(0.1, LATEST_S) if late else self.delay_s()
        self.under_way += 1
        self.loop.call_later(due_s, self._land, host, topic, partition, drafts, answer, context=OUTSIDE.context())

    def _land(
        self, host: Host, topic: str, partition: int, drafts: tuple[Draft, ...], answer: asyncio.Future[int] | None
    ) -> None:
        self.under_way -= 1
        try:
            base = self.broker._write(self.broker._topic(topic), partition, drafts)
        except (AppendError, RecordTooLargeError) as error:
            if answer is not None and not answer.done():
                answer.set_exception(error)
            return
        self.landed(host, topic, partition, base, drafts)
        if answer is not None:
            self.loop.call_later(self.delay_s(), _answer, answer, base, context=OUTSIDE.context())


def _answer(answer: asyncio.Future[int], base: int) -> None:
    if not answer.done():
        answer.set_result(base)
