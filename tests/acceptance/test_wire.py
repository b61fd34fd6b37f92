"""Every event of a run, in order, in a chain that shows any change."""

import json
from pathlib import Path

from streams.client import ModuleEventPublisher
from tests.acceptance.system import System, config, new_site, until

ON_THE_WIRE = [
    "ai.execution.started",
    "ai.context.assembled",
    "ai.step.observed",
    "ai.step.thought",
    "ai.tool.requested",
    "ai.tool.completed",
    "ai.step.observed",
    "ai.step.thought",
    "ai.tool.requested",
    "ai.tool.completed",
    "ai.step.observed",
    "ai.step.thought",
    "ai.tool.requested",
    "ai.tool.completed",
    "ai.step.observed",
    "ai.step.thought",
    "ai.execution.completed",
]


async def test_a_runs_events_stand_in_order_and_a_changed_dump_is_found_out(system: System, tmp_path: Path) -> None:
    site_id = new_site()
    async with system.working():
        agent_id = await system.agent(site_id, config("wire", "event:wire.*", model="slow"))
        async with ModuleEventPublisher(system.log) as publisher:
            await publisher.publish(type="wire.one", site_id=site_id, source="/w", id="1", data={"n": 1})

        async def completed() -> bool:
            return any(e.type == "ai.execution.completed" for e in await system.history(agent_id))

        await until(completed, "the run completed")
    history = await system.history(agent_id)
    run = next(e.subject for e in history if e.type == "ai.execution.started")
    assert [e.type for e in history if e.subject == run] == ON_THE_WIRE
    assert [e.sequence for e in history] == list(range(1, len(history) + 1))

    verified = await system.cli("verify")
    assert (verified.returncode, verified.stderr) == (0, b"")
    assert verified.stdout.startswith(b"verify: OK")
    dump = tmp_path / "dump.jsonl"
    assert (await system.cli("events", "dump", "--output", str(dump))).returncode == 0
    assert (await system.cli("verify", "--dump", str(dump))).returncode == 0

    lines = dump.read_bytes().splitlines(keepends=True)
    third = next(i for i, line in enumerate(lines) if json.loads(line).get("key") == agent_id) + 2
    altered = tmp_path / "altered.jsonl"
    altered.write_bytes(b"".join([*lines[:third], *lines[third + 1 :]]))
    found = await system.cli("verify", "--dump", str(altered), "--json")
    assert found.returncode == 1
    breaks = json.loads(found.stdout)["breaks"]
    assert any(b["stream"] == agent_id and b["sequence"] == 3 for b in breaks)
