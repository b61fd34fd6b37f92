"""Requests and tokens a minute, on a clock that moves only where somebody waits."""

import asyncio

from processors.models.pacing import Pace


class Time:
    """A clock; who sleeps moves it, once everybody else has come to rest."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now_s += seconds


async def through(pace: Pace, time: Time, *sizes: int) -> list[float]:
    """Return when each of these questions is let through, in seconds from now; all come at once."""
    begun_s, found = time.now_s, []

    async def one(tokens: int) -> None:
        await pace.enter(tokens)
        found.append(round(time.now_s - begun_s, 3))

    await asyncio.gather(*(one(tokens) for tokens in sizes))
    return found


async def test_a_minutes_requests_go_at_once_and_the_others_at_the_pace() -> None:
    time = Time()
    pace = Pace(3, None, now_s=time, sleep=time.sleep)
    assert await through(pace, time, 1, 1, 1, 1, 1) == [0, 0, 0, 20, 40]


async def test_tokens_are_counted_too() -> None:
    time = Time()
    pace = Pace(None, 600, now_s=time, sleep=time.sleep)
    assert await through(pace, time, 400, 200, 100, 50) == [0, 0, 10, 15]


async def test_the_scarcer_of_both_holds() -> None:
    time = Time()
    pace = Pace(60, 600, now_s=time, sleep=time.sleep)
    assert await through(pace, time, 600, 10) == [0, 1]


async def test_what_was_not_used_lets_others_through_sooner() -> None:
    time = Time()
    pace = Pace(None, 600, now_s=time, sleep=time.sleep)
    await pace.enter(600)
    pace.settle(600, 100)
    assert await through(pace, time, 500, 10) == [0, 1]


async def test_what_was_used_more_has_to_be_waited_for() -> None:
    time = Time()
    pace = Pace(None, 600, now_s=time, sleep=time.sleep)
    await pace.enter(100)
    pace.settle(100, 700)
    assert await through(pace, time, 10) == [11]


async def test_a_question_larger_than_a_minutes_tokens_is_let_through_when_all_are_there() -> None:
    time = Time()
    pace = Pace(None, 600, now_s=time, sleep=time.sleep)
    assert await through(pace, time, 1_200, 1) == [0, 60.1]


async def test_small_questions_do_not_pass_a_large_one() -> None:
    time = Time()
    pace = Pace(None, 600, now_s=time, sleep=time.sleep)
    assert await through(pace, time, 600, 600, 1) == [0, 60, 60.1]


async def test_who_gives_up_waiting_lets_the_next_one_through() -> None:
    time, gate = Time(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        await gate.wait()
        time.now_s += seconds

    pace = Pace(1, None, now_s=time, sleep=sleep)
    await pace.enter(1)
    first, second = asyncio.create_task(pace.enter(1)), asyncio.create_task(pace.enter(1))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    gate.set()
    await second
    assert time.now_s == 160


async def test_without_limits_nobody_waits() -> None:
    time = Time()
    assert await through(Pace(None, None, now_s=time, sleep=time.sleep), time, 10**9, 10**9) == [0, 0]
