"""Replays and audits of a system that has worked, and a person who settles a call in doubt."""

import asyncio
import contextlib
import json
import time

import pytest

from infra.models.scripted import PROVIDER, ScriptedModel
from processors.models.call import ModelPorts
from processors.runtime.process import Process
from processors.runtime.worker import Worker
from schemas.catalogue import Catalogue
from schemas.commands import StartExecution
from schemas.ids import AgentId, CommandId, SiteId, random_id
from schemas.module_events import Trigger
from streams.client import ModuleEventPublisher
from streams.records import Asked, encode_command
from streams.topics import COMMANDS
from tests.acceptance.system import SCRIPTS, System, config, new_site, until
from tests.processors.fakes import StubContext, StubTools
from tests.processors.samples import tool

RUNS = 20


async def has(system: System, agent_id: AgentId, type_: str, count: int = 1) -> bool:
    return sum(envelope.type == type_ for envelope in await system.history(agent_id)) >= count


@pytest.mark.slow
async def test_what_a_system_did_is_decided_again_and_audited(system: System) -> None:
    site_id = new_site()
    async with system.working():
        agent_id = await system.agent(site_id, config("busy", "event:busy.*", model="slow", max_concurrent_runs=RUNS))
        async with ModuleEventPublisher(system.log) as publisher:
            for number in [*range(RUNS), *range(3)]:
                await publisher.publish(type="busy.on", site_id=site_id, source="/b", id=str(number), data={})
        await until(lambda: has(system, agent_id, "ai.execution.completed", RUNS), f"{RUNS} runs completed")

    everything = await system.cli("replay", "--strict", "--all", "--json")
    told = json.loads(everything.stdout)
    assert (everything.returncode, told["differences"]) == (0, [])
    assert told["identical_runs"] == told["runs"] >= RUNS

    history = await system.history(agent_id)
    run_id = history[-1].subject
    asked = next(e for e in history if e.type == "ai.tool.requested" and e.subject == run_id)
    shown = json.loads(
        (await system.cli("replay", run_id, "--at", str(asked.sequence), "--json", DRAMAC_SITE=site_id)).stdout
    )
    assert (shown["status"], [call["status"] for call in shown["calls"]]) == ("acting", ["requested"])

    audited = await system.cli("audit", "check")
    lines = audited.stdout.decode().splitlines()
    assert audited.returncode == 0, audited.stdout.decode()
    assert [line[:4] for line in lines] == [f"✓ I{number}" for number in range(1, 9)]

    await system.pool.execute("UPDATE projections.ai_usage_models_daily SET cost_micros = cost_micros + 1")
    try:
        wrong = await system.cli("audit", "check", "--json")
        found = {one["id"] for one in json.loads(wrong.stdout)["invariants"] if not one["ok"]}
        assert (wrong.returncode, found) == (1, {"I4", "I6"})
    finally:
        await system.pool.execute("UPDATE projections.ai_usage_models_daily SET cost_micros = cost_micros - 1")


async def begin_a_charge(system: System, site_id: SiteId, agent_id: AgentId) -> None:
    """Have a run begin a call that can't be repeated, in a worker that dies before it ends."""
    catalogue = Catalogue(tools=(tool("crm_charge", idempotent=False),))
    models = ModelPorts({PROVIDER: ScriptedModel.from_yaml(SCRIPTS)})
    tools = StubTools(gate=asyncio.Event())
    process = Process(system.log, models, tools, StubContext(catalogue))
    worker = asyncio.create_task(Worker(process).run())
    trigger = Trigger(
        type="event", source="/c", id="1", event_type="charge.it", time_ms=time.time_ns() // 1_000_000, data={}
    )
    asked = Asked(CommandId(random_id()), site_id, agent_id, "module:/c", "c", StartExecution(trigger=trigger))
    await system.log.send(COMMANDS, encode_command(asked))
    await until(lambda: has(system, agent_id, "ai.tool.started"), "the call was begun")
    for task in (worker, *process.begun.values()):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert len(tools.requests) <= 1


@pytest.mark.slow
async def test_a_person_settles_a_call_in_doubt(system: System) -> None:
    site_id = new_site()
    async with system.working():
        agent_id = await system.agent(site_id, config("charger", "event:charge.*", model="charges"))
    await begin_a_charge(system, site_id, agent_id)

    async with system.working():
        await until(lambda: has(system, agent_id, "ai.tool.in_doubt"), "the call is in doubt")
        doubted = next(e for e in await system.history(agent_id) if e.type == "ai.tool.in_doubt")
        call_id = doubted.event.call_id  # type: ignore[attr-defined]
        settle = ("executions", "resolve-doubt", doubted.subject)
        unknown = await system.cli(*settle, "ffff", "--failed", DRAMAC_SITE=site_id)
        assert (unknown.returncode, call_id in unknown.stderr.decode()) == (4, True)
        answer = ("--completed", "--output", '{"paid": true}')
        said = await system.cli(*settle, call_id[:13], *answer, DRAMAC_SITE=site_id)
        assert (said.returncode, said.stderr) == (0, b"")
        await until(lambda: has(system, agent_id, "ai.tool.completed"), "the call is settled")
        await until(lambda: has(system, agent_id, "ai.execution.completed"), "the run went on to its end")
        again = await system.cli(*settle, call_id, "--failed", DRAMAC_SITE=site_id)
        assert (again.returncode, again.stderr.count(b"\n")) == (5, 1)
    replayed = await system.cli("replay", "--strict", doubted.subject, DRAMAC_SITE=site_id)
    assert replayed.stdout.startswith(b"replay: 1 run byte-identical")
