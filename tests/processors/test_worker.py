"""A process's share of the partitions: dealt by the group, handed over without losing or doubling anything."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from processors.runtime import worker as workers
from processors.runtime.worker import GROUP, Worker
from schemas.errors import LogTruncatedError
from schemas.ids import AgentId, agent_id_of
from streams.memory_log import MemoryLog
from streams.topics import COMMANDS, EVENTS
from tests.processors.asks import activate, call, create, start
from tests.processors.fakes import StubModel, history, new_log, process, steps, tell, until
from tests.processors.samples import SITE, config

PARTITIONS = 4
SLUGS = [f"agent-{number}" for number in range(12)]
AGENTS = {agent_id_of(SITE, slug): slug for slug in SLUGS}


@asynccontextmanager
async def working(log: MemoryLog, model: StubModel | None = None) -> AsyncIterator[Worker]:
    """Run a worker for a while."""
    worker = Worker(process(log, model))
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), ended


def held(worker: Worker) -> set[int]:
    """Return the partitions that a worker has and reads."""
    return {number for number, partition in worker.partitions.items() if partition._is_held()}


async def start_all(log: MemoryLog, trigger: str, *, made: bool = False) -> None:
    for agent, slug in AGENTS.items():
        if not made:
            await tell(log, create(config(slug=slug)), activate(), agent=agent)
        await tell(log, start(trigger), agent=agent)


def completed(log: MemoryLog) -> Counter[AgentId]:
    return Counter({agent: history(log, agent).lines.count("execution.completed") for agent in AGENTS})


async def test_one_worker_serves_every_partition() -> None:
    log = await new_log(PARTITIONS)
    async with working(log) as worker:
        await start_all(log, "t1")
        await until(lambda: set(completed(log).values()) == {1})
        assert held(worker) == set(range(PARTITIONS))
    assert len({record.partition for record in log.records(EVENTS) if record.key is not None}) > 1


async def test_two_workers_share_the_partitions() -> None:
    log = await new_log(PARTITIONS)
    async with working(log) as one, working(log) as two:
        await until(lambda: held(one) | held(two) == set(range(PARTITIONS)) and len(held(one)) == 2)
        assert held(one) & held(two) == set()
        await start_all(log, "t1")
        await until(lambda: set(completed(log).values()) == {1})


async def test_what_one_leaves_the_other_takes_over() -> None:
    log, gate = await new_log(PARTITIONS), asyncio.Event()
    script = steps((call("a"),), "Done.")
    slow, quick = StubModel(script, gate=gate), StubModel(script)
    async with working(log, quick) as stays:
        async with working(log, slow) as leaves:
            await until(lambda: held(stays) and held(leaves))
            await start_all(log, "t1")
            await until(lambda: slow.requests and sum(completed(log).values()) == len(AGENTS) - len(slow.requests))
        await until(lambda: set(completed(log).values()) == {1})
        assert held(stays) == set(range(PARTITIONS))
    for agent in AGENTS:
        assert max(Counter(history(log, agent).lines).values()) == 1


async def test_a_worker_that_joins_takes_its_share_of_what_is_under_way() -> None:
    log = await new_log(PARTITIONS)
    async with working(log, StubModel(steps((call("a"),), "Done."))) as first:
        await start_all(log, "t1")
        async with working(log, StubModel(steps((call("a"),), "Done."))) as second:
            await start_all(log, "t2", made=True)
            await until(lambda: set(completed(log).values()) == {2})
            await until(lambda: len(held(first)) == len(held(second)) == 2)


async def test_a_partition_that_left_is_dropped_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "KEPT_S", 0.01)
    log = await new_log(PARTITIONS)
    async with working(log) as first:
        await until(lambda: len(held(first)) == PARTITIONS)
        async with working(log) as second:
            await until(lambda: len(held(second)) == 2)
            await until(lambda: set(first.partitions) == held(first))
            assert len(first.partitions) == 2
        await until(lambda: len(held(first)) == PARTITIONS)


async def test_a_rebalance_that_gives_back_what_it_took_restores_nothing() -> None:
    log = await new_log(1)
    async with working(log) as worker:
        await start_all_of_one(log)
        member = log.group(COMMANDS, GROUP).members[0]
        for _ in range(3):
            await member.revoke()
            await member.assign(frozenset({0}))
        agent = next(iter(AGENTS))
        await tell(log, start("again"), agent=agent)
        await until(lambda: completed(log)[agent] == 2)
        assert worker.partitions[0].counters.restores == 1


async def start_all_of_one(log: MemoryLog) -> None:
    agent, slug = next(iter(AGENTS.items()))
    await tell(log, create(config(slug=slug)), activate(), start("first"), agent=agent)
    await until(lambda: completed(log)[agent] == 1)


async def test_a_log_that_is_not_the_one_that_was_read_ends_the_worker() -> None:
    log = await new_log(1)
    worker = Worker(process(log))
    task = asyncio.create_task(worker.run())
    await until(lambda: held(worker))
    await start_all_of_one(log)
    end = (await log.bounds(COMMANDS, 0)).end
    log.truncate(COMMANDS, 0, end)
    log.group(COMMANDS, GROUP).members[0].seek(0, 0)
    with pytest.raises(LogTruncatedError):
        await asyncio.wait_for(task, 5)
