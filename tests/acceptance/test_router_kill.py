"""`kill -9` of the router, twice, while module events come in: exactly the expected runs start."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from schemas.events import ExecutionStarted, TriggerSkipped
from schemas.ids import AgentId
from streams.client import ModuleEventPublisher
from streams.topics import COMMANDS
from tests.acceptance.system import System, config, kill, new_site, stop, until

SITES = 4
EVENTS = 1_200
CONTACTS = ("crm.contact.created", "contact.imported")
TYPES = (*CONTACTS, "crm.deal.won", "form.submitted")
LIMITS: dict[str, Any] = {"max_runs_per_hour": 100_000, "max_runs_per_day": 100_000, "max_concurrent_runs": 100_000}


@dataclass
class Told:
    """Events to publish, and the runs that must follow from them, worked out without globs and conditions."""

    events: list[dict[str, Any]] = field(default_factory=list)
    wanted: Counter[tuple[AgentId, str]] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)


async def tell(system: System) -> Told:
    told, chance, sites = Told(), random.Random(7), [new_site() for _ in range(SITES)]
    broad = {site: await system.agent(site, config("broad", "event:contact.*", **LIMITS)) for site in sites}
    conditions = {"event:deal.won": "data.score >= 50"}
    picked = config("picky", "event:deal.won", "event:form.submitted", trigger_conditions=conditions, **LIMITS)
    picky = {site: await system.agent(site, picked) for site in sites}
    for number in range(EVENTS):
        site, type_, score = chance.choice(sites), chance.choice(TYPES), chance.randrange(100)
        told.events.append(
            {"type": type_, "site_id": site, "source": "/m", "id": str(number), "data": {"score": score}}
        )
        if type_ in CONTACTS:
            told.wanted[broad[site], str(number)] += 1
        elif type_ == "form.submitted" or score >= 50:
            told.wanted[picky[site], str(number)] += 1
    told.agents = {*broad.values(), *picky.values()}
    return told


async def asked(system: System, told: Told) -> int:
    """How many runs the routers have asked for so far."""
    found = [r for r in await system.records(COMMANDS) if r.header("ce_type") == b"ai.execution.start"]
    return sum((record.key or b"").decode() in told.agents for record in found)


async def publish(system: System, events: list[dict[str, Any]]) -> None:
    async with ModuleEventPublisher(system.log) as publisher:
        for begin in range(0, len(events), 100):
            await asyncio.gather(*(publisher.publish(**event) for event in events[begin : begin + 100]))


async def started(system: System, told: Told) -> Counter[tuple[AgentId, str]]:
    found: Counter[tuple[AgentId, str]] = Counter()
    for envelope in await system.history(*map(AgentId, told.agents)):
        assert not isinstance(envelope.event, TriggerSkipped)
        if isinstance(envelope.event, ExecutionStarted):
            found[envelope.event.agent_id, envelope.event.trigger.id] += 1
    return found


@pytest.mark.slow
async def test_a_router_killed_twice_starts_exactly_the_expected_runs(system: System) -> None:
    worker = system.start_worker("decider,projector")
    told = await tell(system)
    for part in (told.events[:500], told.events[500:1_000]):
        router = system.start_worker("router")
        before = await asked(system, told)
        publishing = asyncio.create_task(publish(system, part))

        async def is_on_the_way(before: int = before) -> bool:
            return await asked(system, told) > before

        await until(is_on_the_way, "the first commands of the router")
        await kill(router)
        await publishing
    last = system.start_worker("router")
    await publish(system, told.events[1_000:] + told.events[:100])  # and some once more

    async def all_started() -> bool:
        return len(await started(system, told)) >= len(told.wanted)

    await until(all_started, f"{len(told.wanted)} runs")
    await stop(last)
    await stop(worker)
    assert await started(system, told) == told.wanted
