"""The loop that the simulation runs on: virtual time, drawn order, and processes that die without a word."""

import asyncio
import random

import pytest

from tests.simulation.loop import Host, StuckError, VirtualLoop


def new_loop(seed: int = 0) -> VirtualLoop:
    return VirtualLoop(random.Random(seed))  # type: ignore[abstract]  # it has no sockets, signals or threads


async def steps(said: list[str], name: str) -> None:
    """Say something, a second apart, and at the end, if there is one."""
    try:
        for number in range(3):
            said.append(f"{name}{number}")
            await asyncio.sleep(1)
    finally:
        said.append(f"{name} ends")


def test_an_hour_takes_no_time() -> None:
    loop = new_loop()
    loop.run(asyncio.sleep(3_600))
    assert loop.time() == pytest.approx(3_600, abs=0.01)
    assert loop.steps < 10


def test_the_seed_draws_the_order() -> None:
    def order(seed: int) -> list[str]:
        said: list[str] = []

        async def main() -> None:
            await asyncio.gather(*(steps(said, name) for name in "abcdef"))

        new_loop(seed).run(main())
        return said

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) == 5
    assert all(sorted(order(seed)) == sorted(order(0)) for seed in range(5))


def test_a_killed_process_does_nothing_more_not_even_at_its_end() -> None:
    loop, host, said = new_loop(), Host("a"), list[str]()

    async def main() -> None:
        loop.spawn(host, steps(said, "a"))
        await asyncio.sleep(1.5)
        loop.kill(host)
        await asyncio.sleep(10)

    loop.run(main())
    assert said == ["a0", "a1"]
    loop.dispose()


def test_a_frozen_process_goes_on_where_it_was() -> None:
    loop, host, said = new_loop(), Host("a"), list[str]()

    async def main() -> None:
        task = loop.spawn(host, steps(said, "a"))
        await asyncio.sleep(0.5)
        loop.freeze(host)
        await asyncio.sleep(60)
        assert said == ["a0"]
        loop.thaw(host)
        await task

    loop.run(main())
    assert said == ["a0", "a1", "a2", "a ends"]
    assert 62 < loop.time() < 63


def test_what_a_process_starts_belongs_to_it() -> None:
    loop, host, said = new_loop(), Host("a"), list[str]()

    async def parent() -> None:
        await asyncio.gather(steps(said, "b"), steps(said, "c"))

    async def main() -> None:
        loop.spawn(host, parent())
        await asyncio.sleep(0.5)
        loop.kill(host)
        await asyncio.sleep(10)

    loop.run(main())
    assert sorted(said) == ["b0", "c0"]
    loop.dispose()


def test_a_fuse_counts_the_steps_of_its_process_alone() -> None:
    loop, host, said = new_loop(), Host("a"), list[str]()

    async def main() -> None:
        loop.spawn(host, steps(said, "a"))
        other = loop.spawn(Host("b"), steps(said, "b"))
        host.fuse, host.blow = 1, lambda: loop.kill(host)
        await other

    loop.run(main())
    assert [line for line in said if line.startswith("a")] == ["a0"]
    assert said[-1] == "b ends"
    loop.dispose()


def test_waiting_for_what_never_comes_is_an_error() -> None:
    loop = new_loop()

    async def main() -> None:
        await loop.create_future()

    with pytest.raises(StuckError):
        loop.run(main())
    loop.dispose()
