"""An operator stops a worker: in good order, soon, and without losing anything."""

import asyncio
import re
import signal
import subprocess
import time
from collections import Counter

import pytest

from processors.runtime.partition import LAST_CHECKPOINT_EVENTS
from schemas.events import ExecutionCompleted, StepObserved, StepThought
from schemas.ids import SiteId
from streams.client import ModuleEventPublisher
from streams.topics import CHECKPOINTS, EVENTS
from tests.acceptance.system import System, config, new_site, stop, until

RUNS = 70  # of one agent, and nearly twenty events each: for a thousand in a partition an image is left
SOON_S = 10.0


async def _publish(system: System, site_id: SiteId, runs: int) -> None:
    async with ModuleEventPublisher(system.log) as publisher:
        for number in range(runs):
            await publisher.publish(
                type="load.wanted", site_id=site_id, source="/load", id=str(number), subject=f"no {number}", data={}
            )


async def _end(system: System, partition: int) -> int:
    return (await system.log.bounds(EVENTS, partition)).end


async def _images(system: System) -> int:
    records = await system.records(CHECKPOINTS)
    return sum(r.key is not None and r.key.startswith(b"end/") and r.value is not None for r in records)


async def _signalled(worker: "subprocess.Popen[bytes]", number: signal.Signals) -> float:
    """Send a signal; return for how many seconds the worker then went on."""
    begun_s = time.monotonic()
    worker.send_signal(number)
    await asyncio.to_thread(worker.wait, SOON_S + 5)
    return time.monotonic() - begun_s


@pytest.mark.slow
async def test_a_loaded_worker_stops_soon_leaves_an_image_and_loses_nothing(system: System) -> None:
    site_id, worker = new_site(), system.start_worker()
    fields = {"max_concurrent_runs": 1_000, "max_runs_per_hour": 10_000, "max_runs_per_day": 10_000}
    agent_id = await system.agent(site_id, config("load", "event:load.*", model="slow", **fields))
    ends = [await _end(system, partition) for partition in range(4)]
    await _publish(system, site_id, RUNS)

    async def is_in_the_middle() -> bool:
        now = [await _end(system, partition) for partition in range(4)]
        return sum(now) - sum(ends) > LAST_CHECKPOINT_EVENTS

    await until(is_in_the_middle, "much that is under way")
    before = await _images(system)
    took_s = await _signalled(worker, signal.SIGTERM)
    assert worker.returncode == 0
    assert took_s < SOON_S
    assert await _images(system) > before

    second = system.start_worker()

    async def all_completed() -> bool:
        history = await system.history(agent_id)
        return sum(isinstance(e.event, ExecutionCompleted) for e in history) == RUNS

    await until(all_completed, "the rest of the runs")
    await stop(second)
    history = await system.history(agent_id)
    for kind in (StepThought, StepObserved):
        steps = Counter((e.subject, e.event.step) for e in history if isinstance(e.event, kind))
        assert set(steps.values()) == {1}
    said = (system.home / f"worker-{len(system.workers) - 1}.log").read_text()
    behind = [int(count) for count in re.findall(r"an image at offset \d+, then (\d+) events", said)]
    assert len(behind) == 4
    assert max(behind) < LAST_CHECKPOINT_EVENTS
