"""Payloads that real platforms send, published as module events."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.ids import AgentId, SiteId
from streams.client import ModuleEventPublisher
from tests.acceptance.system import System, config, new_site, until

DATA = Path(__file__).parents[3] / "shared" / "data" / "crm_form_booking_webhooks.json"

LISTENERS = {
    "hubspot": ("crm.contact.changed", "event:crm.contact.*"),
    "calcom": ("booking.created", "event:booking.created"),
    "typeform": ("form.submitted", "event:form.*"),
}


def _payloads() -> dict[str, list[Any]]:
    if not DATA.exists():
        pytest.skip(f"no real webhooks at {DATA}")
    told = json.loads(DATA.read_text())
    return {name: value if isinstance(value, list) else [value] for name, value in told.items()}


async def _publish_thrice(system: System, site_id: SiteId, payloads: dict[str, list[Any]]) -> None:
    async with ModuleEventPublisher(system.log) as publisher:
        for _ in range(3):
            for name, bodies in payloads.items():
                for number, body in enumerate(bodies):
                    await publisher.publish(
                        type=LISTENERS[name][0], site_id=site_id, source=f"/{name}", id=f"{name}-{number}", data=body
                    )


async def test_each_payload_starts_the_agent_that_listens_for_it_once(system: System) -> None:
    payloads = _payloads()
    site_id = new_site()
    async with system.working():
        agents: dict[str, AgentId] = {
            name: await system.agent(site_id, config(name, LISTENERS[name][1])) for name in payloads
        }
        await _publish_thrice(system, site_id, payloads)
        expected = sum(len(bodies) for bodies in payloads.values())

        async def all_completed() -> bool:
            return await _runs(system, site_id, "completed") >= expected

        await until(all_completed, f"{expected} runs completed")
        # A fourth time, with something behind it that shows when all of it was routed.
        await _publish_thrice(system, site_id, payloads)
        async with ModuleEventPublisher(system.log) as publisher:
            await publisher.publish(type="form.submitted", site_id=site_id, source="/last", id="last", data={})

        async def last_completed() -> bool:
            return await _runs(system, site_id, "completed") >= expected + 1

        await until(last_completed, "the last run completed")
    for name, agent_id in agents.items():
        started = [e for e in await system.history(agent_id) if e.type == "ai.execution.started"]
        due = len(payloads[name]) + (name == "typeform")
        assert len(started) == due
        assert len({e.event.trigger.id for e in started}) == due  # type: ignore[attr-defined]


async def _runs(system: System, site_id: SiteId, status: str) -> int:
    query = "SELECT count(*) FROM projections.ai_agent_executions WHERE site_id = $1 AND status = $2"
    count: int = await system.pool.fetchval(query, site_id, status)
    return count
