"""A broker that comes back names an end that it soon corrects."""

import pytest

from streams import settling
from streams.log import Bounds
from streams.memory_log import MemoryLog
from streams.settling import settled_bounds


class Waking(MemoryLog):
    """A log whose partition seems to grow back."""

    def __init__(self, *ends: int) -> None:
        super().__init__()
        self.ends = list(ends)

    async def bounds(self, topic: str, partition: int) -> Bounds:
        return Bounds(0, self.ends.pop(0) if len(self.ends) > 1 else self.ends[0])


async def test_an_end_that_comes_back_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "PATIENCE_S", 30.0)
    monkeypatch.setattr(settling, "LOOK_S", 0.0)
    assert await settled_bounds(Waking(3, 3, 7), "t", 0, 7) == Bounds(0, 7)


async def test_an_end_that_stays_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "PATIENCE_S", 0.05)
    monkeypatch.setattr(settling, "LOOK_S", 0.0)
    assert await settled_bounds(Waking(3), "t", 0, 7) == Bounds(0, 3)


async def test_an_end_that_is_far_enough_is_asked_for_once() -> None:
    log = Waking(7, 9)
    assert await settled_bounds(log, "t", 0, 7) == Bounds(0, 7)
    assert log.ends == [9]
