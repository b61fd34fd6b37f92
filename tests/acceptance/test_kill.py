"""`kill -9` of the worker in mid-run."""

from collections import Counter

import pytest

from schemas.events import ExecutionCompleted, StepObserved, StepThought, ToolCompleted
from schemas.ids import AgentId
from streams.client import ModuleEventPublisher
from streams.topics import COMMANDS
from tests.acceptance.system import System, config, kill, new_site, until

RUNS = 5


async def _told_results(system: System, agent_id: AgentId) -> Counter[bytes]:
    """How often the result of each call stands in `ai.commands`."""
    return Counter(
        _call_of(record.value or b"")
        for record in await system.records(COMMANDS)
        if record.key == agent_id.encode() and record.header("ce_type") == b"ai.tool.record_result"
    )


def _call_of(value: bytes) -> bytes:
    return value.split(b'"call_id":"', 1)[1][:36]


async def _thoughts(system: System, agent_id: AgentId, step: int) -> int:
    history = await system.history(agent_id)
    return sum(isinstance(e.event, StepThought) and e.event.step == step for e in history)


@pytest.mark.parametrize("step", [1, *(pytest.param(step, marks=pytest.mark.slow) for step in (2, 3))])
async def test_a_killed_workers_runs_complete_without_doing_anything_twice(system: System, step: int) -> None:
    site_id = new_site()
    worker = system.start_worker()
    agent_id = await system.agent(site_id, config("slow", "event:slow.*", model="slow"))
    async with ModuleEventPublisher(system.log) as publisher:
        for number in range(RUNS):
            await publisher.publish(
                type="slow.wanted", site_id=site_id, source="/slow", id=str(number), subject=f"no {number}", data={}
            )

    async def is_in_the_middle() -> bool:
        return await _thoughts(system, agent_id, step) >= 1

    await until(is_in_the_middle, f"a thought of step {step}")
    await kill(worker)
    told_before = await _told_results(system, agent_id)

    async with system.working():

        async def all_completed() -> bool:
            history = await system.history(agent_id)
            return sum(isinstance(e.event, ExecutionCompleted) for e in history) == RUNS

        await until(all_completed, f"{RUNS} runs completed after the restart")
    history = await system.history(agent_id)
    for kind in (StepThought, StepObserved):
        steps = Counter((e.subject, e.event.step) for e in history if isinstance(e.event, kind))
        assert set(steps.values()) == {1}, f"a step was recorded twice: {kind.wire}"
    completed = Counter(e.event.call_id for e in history if isinstance(e.event, ToolCompleted))
    assert set(completed.values()) == {1}
    told_after = await _told_results(system, agent_id)
    assert {call: told_after[call] for call in told_before} == dict(told_before), "a tool was called again"
    tasks = await system.pool.fetchval("SELECT count(*) FROM sandbox.tasks WHERE site_id = $1", site_id)
    assert tasks == 2 * RUNS, "the sandbox's tasks were made once for each call"
