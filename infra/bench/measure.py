"""Starting the system under load, and reading what it used."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import asyncpg
import psutil

from infra.bench.load import Load, open_load
from infra.dev.progress import Progress
from infra.dev.stack import Stack
from schemas.message import JsonObject
from streams.kafka import KafkaLog
from streams.kafka_topics import create_topics
from streams.topics import EVENTS

PARTITIONS = 4
WARM_UP_S = 4.0
STOP_S = 15.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. Latencies in ms; CPU in ms a run, by whom; bytes of event payloads a run.

    `projected_per_s`: completed runs that reached the tables in the window, a second; None without a projector.
    `bare`: the records only took their way, see `infra.bench.bare`.
    """

    concurrency: int
    bare: bool
    projections: bool
    seconds: float
    runs: int
    failed: int
    runs_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_ms: Mapping[str, float]
    bytes_a_run: int
    projected_per_s: float | None

    def as_json(self) -> JsonObject:
        """Return the figures as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class UnderLoad:
    """The system that is measured: its log, its processes' pids, and its database if there is a projector."""

    log: KafkaLog
    pids: Mapping[str, Sequence[int]]
    database: str | None
    bare: bool


@asynccontextmanager
async def system_under_load(
    projections: bool, workers: int, progress: Progress, *, bare: bool = False
) -> AsyncIterator["UnderLoad"]:
    """Run servers, workers and, if wanted, a projector in a directory that is thrown away.

    With `bare`, one process in place of the workers passes records on, and decides nothing.
    """
    with tempfile.TemporaryDirectory(prefix="dramac-bench-") as home:
        stack = Stack(Path(home), progress=progress)
        endpoints = await stack.start()
        children: list[subprocess.Popen[bytes]] = []
        try:
            await create_topics(endpoints.kafka, partitions=PARTITIONS, replication_factor=1)
            given = {"DRAMAC_KAFKA": endpoints.kafka, "DRAMAC_POSTGRES": endpoints.postgres}
            environment = {**os.environ, **given}
            program = "infra.bench.bare" if bare else "infra.bench.worker"
            children += [_spawn([sys.executable, "-m", program], environment) for _ in range(1 if bare else workers)]
            pids = {"worker": [child.pid for child in children]}
            if projections:
                command = [sys.executable, "-m", "infra.cli", "worker", "--roles", "projector"]
                children.append(_spawn(command, environment))
                pids["projector"] = [children[-1].pid]
            for name, server in (("broker", stack.kafka), ("database", stack.postgres)):
                if server is not None and server.process is not None:
                    pids[name] = [server.process.identity.pid]
            async with KafkaLog(endpoints.kafka) as log:
                yield UnderLoad(log, pids, endpoints.postgres if projections else None, bare)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                await asyncio.to_thread(child.wait, STOP_S)
            await stack.stop()


async def measure(system: UnderLoad, *, concurrency: int, seconds: float, agents: int) -> Figures:
    """Keep `concurrency` runs going, warm up, and return what the following `seconds` brought."""
    load = await open_load(system.log, agents)
    ends = {p: (await system.log.bounds(EVENTS, p)).end for p in range(PARTITIONS)}
    async with system.log.reader(EVENTS, ends) as reader:
        tasks = [asyncio.create_task(load.listen(reader))]
        tasks += [asyncio.create_task(load.slot(number)) for number in range(concurrency)]
        await asyncio.sleep(WARM_UP_S)
        figures = await _window(load, system, concurrency, seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return figures


async def _window(load: Load, system: UnderLoad, concurrency: int, seconds: float) -> Figures:
    pids, projected = system.pids, await _projected(system)
    load.latencies.clear()
    completed, failed, size = load.completed, load.failed, load.event_bytes
    before, own, begun = (
        {name: cpu_s(*family) for name, family in pids.items()},
        time.process_time(),
        time.perf_counter(),
    )
    await asyncio.sleep(seconds)
    took = time.perf_counter() - begun
    if projected is not None:
        projected = (await _projected(system) or 0) - projected
    runs = load.completed - completed
    cpu = {name: cpu_s(*family) - before[name] for name, family in pids.items()} | {"client": time.process_time() - own}
    ordered = sorted(load.latencies) or [0.0]

    def quantile(q: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1000, 1)

    return Figures(
        concurrency=concurrency,
        bare=system.bare,
        projections=system.database is not None,
        seconds=round(took, 2),
        runs=runs,
        failed=load.failed - failed,
        runs_per_s=round(runs / took, 1),
        p50_ms=quantile(0.50),
        p95_ms=quantile(0.95),
        p99_ms=quantile(0.99),
        cpu_ms={name: round(spent / max(runs, 1) * 1000, 3) for name, spent in cpu.items()},
        bytes_a_run=(load.event_bytes - size) // max(runs, 1),
        projected_per_s=None if projected is None else round(projected / took, 1),
    )


async def _projected(system: UnderLoad) -> int | None:
    """Return how many completed runs stand in the tables."""
    if system.database is None:
        return None
    db = await asyncpg.connect(system.database)
    try:
        count: int = await db.fetchval(
            "SELECT coalesce(sum(successful_runs), 0)::bigint FROM projections.ai_agent_stats"
        )
    finally:
        await db.close()
    return count


def cpu_s(*pids: int) -> float:
    """Return the CPU seconds that processes and their children have used."""
    total = 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
        except psutil.Error:
            continue
        for member in family:
            try:
                times = member.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
    return total


def _spawn(command: list[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603
