"""Guardians on the real thing: a signal for too many events of a key within a window, one run for a signal."""

import subprocess
import time
from collections.abc import Sequence
from functools import partial

import orjson
import pytest

from schemas.events import ExecutionCompleted, ExecutionStarted
from schemas.ids import AgentId, SiteId
from schemas.message import JsonObject
from schemas.module_events import SIGNAL_RAISED
from streams.client import ModuleEventPublisher
from streams.topics import GUARDIANS, MODULE_EVENTS, WINDOWS
from tests.acceptance.system import System, config, kill, new_site, stop, until

MINUTE_MS = 60_000
CHANGELOG = f"{GUARDIANS}-{WINDOWS}-changelog"
FAILED = "auth.login.failed"
CORE, COUNTER = "decider,router,projector", "guardian"
RULE = {"name": "multiple_failed_logins", "event": "auth.login.*", "threshold": 6, "window": "5m", "key": "data.user"}


async def guardian(system: System, site_id: SiteId, slug: str = "guard") -> AgentId:
    return await system.agent(
        site_id, config(slug, "manual", agent_type="guardian", monitoring_rules=[RULE], allowed_tools=())
    )


async def fail_logins(system: System, site_id: SiteId, user: str, times_ms: Sequence[int], first: int = 0) -> None:
    """Publish a failed login for each time; their ids count from `first`."""
    async with ModuleEventPublisher(system.log) as publisher:
        for number, time_ms in enumerate(times_ms, first):
            await publisher.publish(
                type=FAILED, site_id=site_id, source="/auth", id=f"{user}-{number}", time=time_ms, data={"user": user}
            )


async def signals(system: System, site_id: SiteId) -> list[tuple[str, JsonObject]]:
    """Return id and data of each signal of a site, with repeats of one id as one."""
    found: dict[str, JsonObject] = {}
    for record in await system.records(MODULE_EVENTS):
        if record.header("ce_type") == SIGNAL_RAISED.encode() and record.header("ce_siteid") == site_id.encode():
            found[(record.header("ce_id") or b"").decode()] = orjson.loads(record.value or b"")
    return list(found.items())


async def length(system: System, topic: str) -> int:
    return sum([(await system.log.bounds(topic, p)).end for p in range(await system.log.partitions(topic))])


async def grows(system: System, topic: str, beyond: int) -> bool:
    return await length(system, topic) > beyond


async def says(system: System, worker: "subprocess.Popen[bytes]", word: str) -> bool:
    return word in (system.home / f"worker-{system.workers.index(worker)}.log").read_text()


async def runs(system: System, agent_id: AgentId) -> int:
    return sum(isinstance(e.event, ExecutionStarted) for e in await system.history(agent_id))


async def completed(system: System, agent_id: AgentId, count: int) -> None:
    async def all_completed() -> bool:
        return sum(isinstance(e.event, ExecutionCompleted) for e in await system.history(agent_id)) >= count

    await until(all_completed, f"{count} runs of the guardian completed")


async def test_six_failed_logins_within_five_minutes_are_one_signal_and_one_run(system: System) -> None:
    site_id, other = new_site(), new_site()
    worker = system.start_worker(f"{CORE},{COUNTER}")
    agent_id = await guardian(system, site_id)
    bystander = await system.agent(site_id, config("bystander", "event:guardian.*"))
    await guardian(system, other)
    begun = time.time_ns() // 1_000_000 - 60 * MINUTE_MS
    # Five of one user in an hour, five of another site's: too few of each.
    await fail_logins(system, site_id, "slow", [begun + n * 12 * MINUTE_MS for n in range(5)])
    await fail_logins(system, other, "mallory", [begun + n for n in range(5)])
    # Six within five minutes, in no order, across every border that a clock has; and each of them twice.
    times = [begun + offset for offset in (299_999, 0, 120_000, 60_000, 180_000, 240_000)]
    for _ in range(2):
        await fail_logins(system, site_id, "mallory", times)
    await completed(system, agent_id, 1)
    # The last is counted after all others of its partition; it shows that none of them raised anything.
    await fail_logins(system, site_id, "mallory", [begun + 30 * MINUTE_MS + n for n in range(6)], first=10)
    await completed(system, agent_id, 2)
    raised = [data for _, data in await signals(system, site_id)]
    assert [(r["rule"], r["key"], r["count"]) for r in raised] == [("multiple_failed_logins", "mallory", 6)] * 2
    assert await runs(system, agent_id) == 2
    assert await runs(system, bystander) == 0, "a signal wakes the guardian whose rule it is of"
    assert await signals(system, other) == []
    await stop(worker)


@pytest.mark.slow
async def test_a_counter_that_is_killed_again_and_again_counts_as_if_it_had_not_been(system: System) -> None:
    site_id, users, five = new_site(), 20, 5
    core, counter = system.start_worker(CORE), system.start_worker(COUNTER)
    agent_id = await guardian(system, site_id)
    begun = time.time_ns() // 1_000_000 - 60 * MINUTE_MS
    for round_ in range(6):
        counted = await length(system, CHANGELOG)
        for user in range(users):
            await fail_logins(system, site_id, f"user-{user}", [begun + round_ * 30_000], first=round_)
            if user < five:  # these are never one too many within five minutes
                await fail_logins(system, site_id, f"five-{user}", [begun + round_ * 61_000], first=round_)
        if round_ % 2:
            await until(partial(grows, system, CHANGELOG, counted), "something is counted")
            await kill(counter)
            counter = system.start_worker(COUNTER)
    await completed(system, agent_id, users)
    for user in range(five):  # a seventh, on the others' heels: with it there are six of the last seven
        await fail_logins(system, site_id, f"five-{user}", [begun + 6 * 61_000 - 59_000], first=6)
    await completed(system, agent_id, users + five)
    keys = sorted(data["key"] for _, data in await signals(system, site_id))
    assert keys == sorted([f"user-{n}" for n in range(users)] + [f"five-{n}" for n in range(five)])
    assert await runs(system, agent_id) == users + five
    await stop(counter)
    await stop(core)


@pytest.mark.slow
async def test_counters_that_come_and_go_count_as_one(system: System) -> None:
    site_id, users = new_site(), 12
    core, first = system.start_worker(CORE), system.start_worker(COUNTER)
    agent_id = await guardian(system, site_id)
    begun = time.time_ns() // 1_000_000 - 60 * MINUTE_MS

    async def round_of(number: int) -> None:
        for user in range(users):
            await fail_logins(system, site_id, f"user-{user}", [begun + number * 30_000], first=number)

    await round_of(0)
    await round_of(1)
    second = system.start_worker(COUNTER)
    await until(lambda: says(system, second, "counting"), "the second is there")
    await round_of(2)
    await round_of(3)
    await stop(first)
    await round_of(4)
    third = system.start_worker(COUNTER)
    await round_of(5)
    await completed(system, agent_id, users)
    assert sorted(data["key"] for _, data in await signals(system, site_id)) == sorted(
        f"user-{user}" for user in range(users)
    )
    assert await runs(system, agent_id) == users
    for worker in (second, third, core):
        await stop(worker)
