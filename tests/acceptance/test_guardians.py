"""Guardians on the real thing: a signal for too many events of a key within a window, one run for a signal."""

import asyncio
import time
from collections.abc import Sequence

import orjson

from schemas.events import ExecutionCompleted, ExecutionStarted
from schemas.ids import AgentId, SiteId
from schemas.message import JsonObject
from schemas.module_events import SIGNAL_RAISED
from streams.client import ModuleEventPublisher
from streams.log import Draft
from streams.topics import MODULE_EVENTS, OBSERVATIONS
from tests.acceptance.system import System, config, kill, new_site, stop, until

MINUTE_MS = 60_000
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


async def observed(system: System) -> int:
    return len(await system.records(OBSERVATIONS))


async def runs(system: System, agent_id: AgentId) -> int:
    return sum(isinstance(e.event, ExecutionStarted) for e in await system.history(agent_id))


async def completed(system: System, agent_id: AgentId, count: int) -> None:
    async def all_completed() -> bool:
        return sum(isinstance(e.event, ExecutionCompleted) for e in await system.history(agent_id)) >= count

    await until(all_completed, f"{count} runs of the guardian completed")


async def test_six_failed_logins_within_five_minutes_are_one_signal_and_one_run(system: System) -> None:
    site_id, other = new_site(), new_site()
    worker = system.start_worker(f"{CORE},{COUNTER}")
    agent_id, bystander = await guardian(system, site_id), await guardian(system, site_id, "bystander")
    del bystander
    now_ms = time.time_ns() // 1_000_000
    begun = now_ms - 60 * MINUTE_MS
    # Five of one user in an hour, five of another site: too few of each.
    await fail_logins(system, site_id, "slow", [begun + n * 12 * MINUTE_MS for n in range(5)])
    await fail_logins(system, other, "mallory", [begun + n for n in range(5)])
    # Six within five minutes, in no order, across every border that a clock has; and each of them twice.
    times = [begun + offset for offset in (299_999, 0, 120_000, 60_000, 180_000, 240_000)]
    for _ in range(2):
        await fail_logins(system, site_id, "mallory", times)
    await completed(system, agent_id, 1)
    (raised,) = [data for _, data in await signals(system, site_id) if data["agent_id"] == agent_id]
    assert (raised["rule"], raised["key"], raised["count"]) == ("multiple_failed_logins", "mallory", 6)
    assert await runs(system, agent_id) == 1
    assert await signals(system, other) == []
    await stop(worker)
