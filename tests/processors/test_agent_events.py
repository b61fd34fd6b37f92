"""What agents did as triggers: each event once, to those who ask for it, and never in a circle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from processors.runtime.worker import Worker
from processors.triggers.agent_events import AgentEventRouter
from schemas.agents import Goal
from schemas.events import ExecutionStarted, GoalProgressed, TriggerSkipped
from schemas.ids import AgentId, SiteId, agent_id_of
from schemas.module_events import TRIGGER_KEPT_MS
from streams.log import Draft
from streams.memory_log import MemoryLog
from streams.records import decode_event
from streams.topics import COMMANDS, EVENTS
from tests.processors.asks import activate, create, start
from tests.processors.fakes import counting, history, new_log, process, tell, until
from tests.processors.samples import OTHER_SITE, SITE, config

PARTITIONS = 4
GROUP = f"dramac-router-{EVENTS}"


@asynccontextmanager
async def house(log: MemoryLog, *, worker: bool = True) -> AsyncIterator[AgentEventRouter]:
    router = AgentEventRouter(log, log._clock)
    parts = [router.run(), *([Worker(process(log)).run()] if worker else [])]
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        yield router
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in ended), ended


async def have(log: MemoryLog, slug: str, *triggers: str, site: SiteId = SITE, **changes: Any) -> AgentId:
    agent_id = agent_id_of(site, slug)
    made = create(config(slug=slug, triggers=("manual", *triggers), **changes))
    await tell(log, made, activate(), agent=agent_id, site=site)
    await until(lambda: "agent.activated" in history(log, agent_id).lines)
    return agent_id


def runs(log: MemoryLog, agent_id: AgentId) -> list[ExecutionStarted]:
    return [run for run in history(log, agent_id).all(ExecutionStarted) if run.trigger_type == "event"]


async def quiet(log: MemoryLog) -> None:
    """Wait until every event was looked at, and nothing followed that was not."""
    group = log.group(EVENTS, GROUP)

    async def ends() -> dict[int, int]:
        return {p: (await log.bounds(EVENTS, p)).end for p in range(PARTITIONS)}

    async with asyncio.timeout(20):
        while True:
            before = await ends()
            commands = [(await log.bounds(COMMANDS, p)).end for p in range(PARTITIONS)]
            await until(lambda ends=before: all(group.committed.get(p, 0) >= end for p, end in ends.items() if end > 1))  # type: ignore[misc]
            await asyncio.sleep(0.05)  # a command that was sent is decided by then, or seen below
            if before == await ends() and commands == [(await log.bounds(COMMANDS, p)).end for p in range(PARTITIONS)]:
                return


async def test_an_agents_end_wakes_who_listens_for_it_once_with_all_that_it_says() -> None:
    log = await new_log(PARTITIONS)
    async with house(log):
        worker = await have(log, "worker")
        checker = await have(log, "checker", "event:ai.execution.completed")
        stranger = await have(log, "stranger", "event:ai.execution.*", site=OTHER_SITE)
        broad = await have(log, "broad", "event:*", "event:execution.*")
        await tell(log, start("t1"), agent=worker)
        await until(lambda: runs(log, checker))
        await quiet(log)
        (run,) = runs(log, checker)
        assert (run.trigger.event_type, run.trigger.caused_by) == ("ai.execution.completed", worker)
        assert run.trigger.source == f"/sites/{SITE}/agents/{worker}"
        assert (run.trigger.depth, run.trigger.data["result"]) == (1, "Done.")
        assert runs(log, stranger) == runs(log, broad) == []


async def test_a_condition_picks_events_of_agents_too() -> None:
    log = await new_log(PARTITIONS)
    async with house(log) as router:
        worker = await have(log, "worker")
        told = {"event:ai.execution.started": "data.trigger.id == 't2'"}
        picky = await have(log, "picky", "event:ai.execution.started", trigger_conditions=told)
        await tell(log, start("t1"), start("t2"), agent=worker)
        await until(lambda: runs(log, picky))
        await quiet(log)
        assert [run.trigger.data["trigger"]["id"] for run in runs(log, picky)] == ["t2"]
        assert router.unmet >= 1


async def test_what_an_agent_does_moves_its_own_goals_once_and_nobody_else_s() -> None:
    log = await new_log(PARTITIONS)
    goals = (
        Goal(name="Runs", event="ai.execution.completed"),
        Goal(name="Tokens", event="ai.execution.*", condition="data.tokens_used > 0", progress="data.tokens_used"),
        Goal(name="All", event="*"),
    )
    async with house(log):
        measured, other = await have(log, "measured", goals=goals), await have(log, "other", goals=goals)
        await tell(log, start("t1"), agent=measured)
        await until(lambda: len(history(log, measured).all(GoalProgressed)) == 2)
        await quiet(log)
    async with house(log):  # another router looks again
        await tell(log, start("t2"), agent=measured)
        await until(lambda: len(history(log, measured).all(GoalProgressed)) == 4)
        await quiet(log)
    said = {event.goal: event.value for event in history(log, measured).all(GoalProgressed)}
    assert said == {"Runs": 2, "Tokens": 22}
    assert history(log, other).all(GoalProgressed) == []


async def test_nobody_is_woken_by_itself() -> None:
    log = await new_log(PARTITIONS)
    async with house(log) as router:
        modest = await have(log, "modest", "event:ai.*")
        await tell(log, start("t1"), agent=modest)
        await until(lambda: "execution.completed" in history(log, modest).lines)
        await quiet(log)
        assert (runs(log, modest), router.routed) == ([], 0)


async def test_an_agent_that_may_wake_itself_does_not_do_so_for_ever() -> None:
    log = await new_log(PARTITIONS)
    async with house(log):
        eager = await have(log, "eager", "event:ai.execution.completed", allow_self_trigger=True)
        await tell(log, start("t1"), agent=eager)
        await until(lambda: history(log, eager).all(TriggerSkipped))
        await quiet(log)
        assert [run.trigger.depth for run in runs(log, eager)] == [1, 2, 3]  # as deep as it may
        assert [skip.reason for skip in history(log, eager).all(TriggerSkipped)] == ["loop"]


async def test_two_agents_that_wake_each_other_come_to_an_end() -> None:
    log = await new_log(PARTITIONS)
    async with house(log):
        one = await have(log, "one", "event:ai.execution.completed", max_runs_per_hour=1_000)
        two = await have(log, "two", "event:ai.execution.completed", max_runs_per_hour=1_000)
        await tell(log, start("t1"), agent=one)
        await until(lambda: [*history(log, one).all(TriggerSkipped), *history(log, two).all(TriggerSkipped)])
        await quiet(log)
        assert [run.trigger.depth for run in runs(log, two)] == [1, 3]
        assert [run.trigger.depth for run in runs(log, one)] == [2]


async def test_refusals_wake_nobody() -> None:
    """Two agents that heard of each other's refusals, and refuse that, would never come to an end."""
    log = await new_log(PARTITIONS)
    async with house(log) as router:
        one = await have(log, "one", "event:ai.*", max_runs_per_hour=1)
        two = await have(log, "two", "event:ai.*", max_runs_per_hour=1)
        await tell(log, start("t1"), start("t2"), agent=one)
        await until(lambda: history(log, two).all(TriggerSkipped))
        await quiet(log)
        both = (history(log, one), history(log, two))
        answers = sum(len(told.all(ExecutionStarted)) + len(told.all(TriggerSkipped)) for told in both)
        assert answers == router.routed + 2, "the two that were told by hand, and what the router told"


async def test_a_router_that_dies_and_one_that_comes_back_tell_each_event_once() -> None:
    log = await new_log(PARTITIONS)
    async with house(log):
        worker = await have(log, "worker", max_runs_per_hour=1_000)
        checker = await have(log, "checker", "event:ai.execution.completed", max_runs_per_hour=1_000)
        await tell(log, *(start(f"t{n}") for n in range(20)), agent=worker)
        await until(lambda: len(runs(log, checker)) >= 5)
    async with house(log):
        await tell(log, *(start(f"u{n}") for n in range(20)), agent=worker)
        await until(lambda: len(runs(log, checker)) >= 40)
        await quiet(log)
    ends = [e.id for r in _of(log, worker) if (e := decode_event(r)).type == "ai.execution.completed"]
    assert sorted(run.trigger.id for run in runs(log, checker)) == sorted(ends)
    assert len(ends) == 40


def _of(log: MemoryLog, agent_id: AgentId) -> list[Any]:
    return [r for p in range(PARTITIONS) for r in counting(log, p) if r.key == agent_id.encode()]


async def test_what_does_not_count_wakes_nobody() -> None:
    log = await new_log(PARTITIONS)
    async with house(log) as router:
        worker = await have(log, "worker")
        checker = await have(log, "checker", "event:ai.execution.completed")
        await tell(log, start("t1"), agent=worker)
        await until(lambda: runs(log, checker))
        await quiet(log)
        end = next(r for r in _of(log, worker) if r.header("ce_type") == b"ai.execution.completed")
        forged = tuple((k, b"forged" if k == "ce_id" else v) for k, v in end.headers)
        for headers in (end.headers, forged):
            await log.send(EVENTS, Draft(end.key, end.value, headers), partition=end.partition)
        await quiet(log)
        assert len(runs(log, checker)) == 1
        assert router.routed == 1


async def test_who_is_activated_later_does_not_hear_of_the_past() -> None:
    log = await new_log(PARTITIONS)
    async with house(log):
        worker = await have(log, "worker")
        await tell(log, start("t1"), agent=worker)
        await until(lambda: "execution.completed" in history(log, worker).lines)
        await quiet(log)
        late = await have(log, "late", "event:ai.execution.*")
        await quiet(log)
        assert runs(log, late) == []


async def test_a_router_that_starts_for_the_first_time_leaves_what_is_long_past() -> None:
    log = await new_log(PARTITIONS)
    async with house(log, worker=True) as router:
        checker = await have(log, "checker", "event:ai.execution.completed")
        worker = await have(log, "worker")
        router._now_ms = lambda: log._clock() + TRIGGER_KEPT_MS + 60_000
        await tell(log, start("t1"), agent=worker)
        await until(lambda: "execution.completed" in history(log, worker).lines)
        await quiet(log)
        assert history(log, checker).all(TriggerSkipped) == []
        assert runs(log, checker) == []
