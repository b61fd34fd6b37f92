"""One contract, two logs: consumer groups."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from schemas.errors import LogTruncatedError
from tests.streams.places import PATIENCE_S, Place, drafts, poll


class Seen:
    """What a member was told, in order."""

    def __init__(self) -> None:
        self.held: frozenset[int] = frozenset()
        self.told: list[tuple[frozenset[int], frozenset[int]]] = []
        self._changed = asyncio.Condition()

    async def __call__(self, revoked: frozenset[int], assigned: frozenset[int]) -> None:
        async with self._changed:
            self.told.append((revoked, assigned))
            self.held = (self.held - revoked) | assigned
            self._changed.notify_all()

    async def until(self, check: Callable[[frozenset[int]], bool]) -> frozenset[int]:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: check(self.held))
            return self.held


async def wait_for(tasks: list[asyncio.Task[frozenset[int]]], count: int) -> None:
    """Wait until that many of the tasks are done."""
    async with asyncio.timeout(PATIENCE_S):
        for done in itertools.islice(asyncio.as_completed(tasks), count):
            await done


ALL = frozenset(range(4))


async def test_a_single_member_holds_every_partition(place: Place) -> None:
    seen = Seen()
    async with place.log.member(place.topic, f"{place.topic}-g", seen) as member:
        await seen.until(lambda held: held == ALL)
        assert all(member.holds(p) for p in ALL)
        assert not member.holds(4)


async def test_a_member_reads_nothing_before_it_seeks_and_then_from_there(place: Place) -> None:
    await place.log.append(place.topic, 1, drafts(5))
    seen = Seen()
    async with place.log.member(place.topic, f"{place.topic}-g", seen) as member:
        await seen.until(lambda held: held == ALL)
        assert list(await member.poll(1, timeout_s=0.2)) == []
        member.seek(1, 2)
        assert [r.offset for r in await poll(member, 1, 3)] == [2, 3, 4]
        member.seek(1, 0)
        assert [r.offset for r in await poll(member, 1, 2)] == [0, 1]


async def test_a_committed_offset_moves_no_position(place: Place) -> None:
    await place.log.append(place.topic, 0, drafts(5))
    for _ in range(2):
        seen = Seen()
        async with place.log.member(place.topic, f"{place.topic}-g", seen) as member:
            await seen.until(lambda held: held == ALL)
            assert list(await member.poll(0, timeout_s=0.2)) == []
            member.seek(0, 0)
            assert len(await poll(member, 0, 5)) == 5
            await member.commit({0: 5, 99: 1})


async def test_a_poll_returns_only_its_own_partition(place: Place) -> None:
    seen = Seen()
    async with place.log.member(place.topic, f"{place.topic}-g", seen) as member:
        await seen.until(lambda held: held == ALL)
        for partition in ALL:
            member.seek(partition, 0)
            await place.log.append(place.topic, partition, drafts(3))
        found = await asyncio.gather(*(poll(member, p, 3) for p in range(4)))
        assert [[r.partition for r in records] for records in found] == [[p] * 3 for p in range(4)]


async def test_a_member_s_position_out_of_the_log_is_an_error(place: Place) -> None:
    await place.log.append(place.topic, 0, drafts(2))
    seen = Seen()
    async with place.log.member(place.topic, f"{place.topic}-g", seen) as member:
        await seen.until(lambda held: held == ALL)
        member.seek(0, 3)
        with pytest.raises(LogTruncatedError, match=r"offset 3 .* 0 to 2"):
            await poll(member, 0, 1)


async def test_two_members_share_and_the_one_that_stays_takes_over(place: Place) -> None:
    group, first, second = f"{place.topic}-g", Seen(), Seen()
    async with place.log.member(place.topic, group, first) as stays:
        await first.until(lambda held: held == ALL)
        async with place.log.member(place.topic, group, second) as leaves:
            taken = await second.until(lambda held: len(held) == 2)
            kept = await first.until(lambda held: len(held) == 2)
            assert taken | kept == ALL
            assert all(leaves.holds(p) and not stays.holds(p) for p in taken)
            lost = next(iter(taken))
            stays.seek(lost, 0)  # too late: nothing happens
            assert list(await stays.poll(lost, timeout_s=0.05)) == []
        await first.until(lambda held: held == ALL)
        await place.log.append(place.topic, lost, drafts(1))
        stays.seek(lost, 0)
        assert len(await poll(stays, lost, 1)) == 1
    assert first.told[1][0] == ALL  # eager: all is revoked, then assigned anew


async def test_a_position_is_lost_when_the_group_moves(place: Place) -> None:
    group, first, second = f"{place.topic}-g", Seen(), Seen()
    for partition in ALL:
        await place.log.append(place.topic, partition, drafts(1))
    async with place.log.member(place.topic, group, first) as member:
        await first.until(lambda held: held == ALL)
        for partition in ALL:
            member.seek(partition, 0)
        async with place.log.member(place.topic, group, second):
            kept = await first.until(lambda held: len(held) == 2)
            await second.until(lambda held: len(held) == 2)
            assert list(await member.poll(next(iter(kept)), timeout_s=0.2)) == []


async def test_more_members_than_partitions_leave_one_with_nothing(place: Place) -> None:
    group, seen = f"{place.topic}-g", [Seen() for _ in range(5)]
    async with AsyncExitStack() as memberships:
        for one in seen:
            await memberships.enter_async_context(place.log.member(place.topic, group, one))
        # At the end four hold one partition each; whoever holds none was told so, or never told anything.
        async with asyncio.TaskGroup() as waiting:
            settled = [waiting.create_task(one.until(lambda held: len(held) == 1)) for one in seen]
            await wait_for(settled, 4)
            assert sorted(len(one.held) for one in seen) == [0, 1, 1, 1, 1]
            for task in settled:
                task.cancel()


async def test_a_listener_s_error_reaches_who_polls(place: Place) -> None:
    told = asyncio.Event()

    async def fails(revoked: frozenset[int], assigned: frozenset[int]) -> None:
        if assigned:
            told.set()
            raise ZeroDivisionError

    async with place.log.member(place.topic, f"{place.topic}-g", fails) as member, asyncio.timeout(PATIENCE_S):
        await told.wait()
        with pytest.raises(ZeroDivisionError):
            await poll(member, 0, 1)


async def test_the_group_is_told_of_commits_and_forgives_those_of_the_lost(place: Place) -> None:
    seen = Seen()
    async with place.log.member(place.topic, f"{place.topic}-g", seen) as member:
        await member.commit({0: 1})  # before anything is held
        await seen.until(lambda held: held == ALL)
        await member.commit({0: 1})
    await member.commit({0: 2})  # after it left
