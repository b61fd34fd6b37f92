"""The customer success orchestrator as it is shipped, on real servers, with its worker killed while children work."""

import asyncio
from typing import Any, TypeVar

import pytest

from infra.agent_files import read_agent
from schemas.events import (
    DelegationFinished,
    DelegationStarted,
    Event,
    ExecutionCompleted,
    ExecutionStarted,
)
from schemas.ids import AgentId, ExecutionId, SiteId
from schemas.message import JsonObject
from streams.client import ModuleEventPublisher
from tests.acceptance.system import ROOT, System, kill, new_site, until
from tests.infra.cli_runs import dramac

E = TypeVar("E", bound=Event)

AGENTS = ROOT / "examples" / "agents"
HAPPENED: dict[str, tuple[str, JsonObject]] = {
    "onboarding_specialist": ("customer.subscription.created", {"company": "Stonebridge"}),
    "health_monitor": ("customer.health_score.changed", {"company": "Harbour", "health_score": 40}),
    "support_triage": ("support.ticket.escalated", {"company": "Lindqvist", "ticket_id": "t-77"}),
}


async def _hired(system: System, site_id: SiteId) -> dict[str, AgentId]:
    slugs = (*HAPPENED, "customer_success")
    made = [system.agent(site_id, read_agent(AGENTS / f"{slug}.yaml")) for slug in slugs]
    return dict(zip(slugs, await asyncio.gather(*made), strict=True))


async def _happens(system: System, site_id: SiteId) -> None:
    async with ModuleEventPublisher(system.log) as publisher:
        for number, (type_, data) in enumerate(HAPPENED.values()):
            await publisher.publish(type=type_, site_id=site_id, source="/success", id=str(number), data=data)


async def _all(system: System, agent_id: AgentId, kind: type[E]) -> list[E]:
    return [envelope.event for envelope in await system.history(agent_id) if isinstance(envelope.event, kind)]


@pytest.mark.timeout(180)
@pytest.mark.slow
async def test_each_customer_is_handed_to_the_right_agent_once_though_the_worker_is_killed(system: System) -> None:
    site_id = new_site()
    worker = system.start_worker()
    ids = await _hired(system, site_id)
    await _happens(system, site_id)

    async def all_children_work() -> bool:
        return all([await _all(system, ids[slug], ExecutionStarted) for slug in HAPPENED])

    await until(all_children_work, "every child's run has begun")
    await kill(worker)
    in_flight = [slug for slug in HAPPENED if not await _all(system, ids[slug], ExecutionCompleted)]
    assert in_flight, "no child was under way when the worker was killed"

    async with system.working():

        async def all_told() -> bool:
            count: int = await system.pool.fetchval(
                "SELECT count(*) FROM projections.ai_agent_executions WHERE site_id = $1 AND status = 'completed'",
                site_id,
            )
            return count == 2 * len(HAPPENED)

        await until(all_told, "three runs of the orchestrator and three of children completed")
    boss = ids["customer_success"]
    triggers = {event.execution_id: event.trigger for event in await _all(system, boss, ExecutionStarted)}
    delegated = {event.call_id: event for event in await _all(system, boss, DelegationStarted)}
    finished = await _all(system, boss, DelegationFinished)
    assert len(triggers) == len(delegated) == len(finished) == len(HAPPENED)
    outcomes = {event.call_id: event.outcome for event in finished}
    for slug, (type_, data) in HAPPENED.items():
        (started,) = await _all(system, ids[slug], ExecutionStarted)
        (completed,) = await _all(system, ids[slug], ExecutionCompleted)
        delegator = started.trigger.delegator
        assert delegator is not None
        assert triggers[delegator.execution_id].event_type == type_
        assert delegated[delegator.call_id].agent == slug
        assert outcomes[delegator.call_id].execution_id == started.execution_id
        assert await _tree(system, site_id, delegator.execution_id) == ["customer_success", slug]
        query = "SELECT title FROM sandbox.tasks WHERE site_id = $1 AND title LIKE $2"
        (task,) = await system.pool.fetch(query, site_id, f"%{data['company']}%")
        assert task["title"] in completed.result


async def _tree(system: System, site_id: SiteId, run: ExecutionId) -> list[str]:
    """Return whose runs `dramac executions tree` shows, the root first."""
    settings = {name: value for name, value in system.environment.items() if name.startswith("DRAMAC_")}
    settings |= {"DRAMAC_SITE": site_id}
    shown = await asyncio.to_thread(dramac, settings, "executions", "tree", run, "--json")
    assert shown.code == 0, shown.err
    runs: Any = shown.json
    return [each["agent_slug"] for each in runs]
