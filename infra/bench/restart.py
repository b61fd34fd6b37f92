"""How long a worker needs until it decides again: with an image, without one, and when another one was killed.

`python -m infra.bench.restart` makes a million events and 1,000 open runs first, which takes minutes.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import orjson
import uvloop
from rich.console import Console

from infra.bench.history import STEPS, History, open_histories, probe
from infra.bench.load import open_load
from infra.dev.kafka import KafkaServer
from infra.dev.progress import Progress, terminal_progress
from infra.tuning import tune_collector
from schemas.errors import UnavailableError
from schemas.ids import SiteId, random_id
from schemas.message import JsonObject
from streams.kafka import KafkaLog
from streams.kafka_topics import create_topics
from streams.topics import CHECKPOINTS, COMMANDS, EVENTS

PARTITIONS = 4
AGENTS = 40
SPAN_MS = 7 * 86_400_000  # the history's length; triggers are remembered for longer
PATIENCE_S = 900.0  # a restore without an image takes a minute for a million events
LOAD_S = 5.0  # of load before a worker is killed
STOP_S = 15.0

_STAMP = rb"^(\S+ \S+),(\d+) .*: "
_HOLDS = re.compile(_STAMP + rb"holds partitions \[(.*)\]", re.MULTILINE)
_RESTORED = re.compile(_STAMP + rb"partition (\d+) restored .* then (\d+) events", re.MULTILINE)
_IMAGED = re.compile(_STAMP + rb"partition (\d+) has an image", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Start:
    """A start of a worker, in seconds since its process began, for the last of its partitions.

    `assigned_s`: the group gave it the partitions; `restored_s`: their state stood; `decided_s`: commands that had
    waited were decided. `again_s` is from assigned to decided. `events`: those behind the images.
    """

    assigned_s: float
    restored_s: float
    decided_s: float
    again_s: float
    events: int


@dataclass(frozen=True, slots=True)
class Restarts:
    """What was measured. `image_bytes`: what one image of every partition takes in `ai.checkpoints`, uncompressed.

    `failover_s`: from a kill to the next event, for each partition that was lost.
    """

    events: int
    open_runs: int
    image_bytes: int
    without_image: Start
    with_image: Start
    failover_s: Mapping[int, float]

    def as_json(self) -> JsonObject:
        """Return the figures as JSON."""
        return asdict(self)


@dataclass(slots=True)
class Running:
    """A worker's process, and the file with what it says."""

    process: "subprocess.Popen[bytes]"
    said: Path

    def says(self, pattern: re.Pattern[bytes]) -> list[tuple[bytes, ...]]:
        """Return what it said of a kind so far: date and time, ms, and the rest."""
        return pattern.findall(self.said.read_bytes())

    async def until(self, pattern: re.Pattern[bytes], count: int) -> None:
        """Wait until it said something of a kind so often.

        Raises:
            UnavailableError: it ended, or did not say it in time.
        """
        deadline = time.monotonic() + PATIENCE_S
        while len(self.says(pattern)) < count:
            if self.process.poll() is not None or time.monotonic() > deadline:
                last = self.said.read_bytes()[-500:].decode(errors="replace")
                raise UnavailableError(f"a worker did not do what was waited for; its last words: {last}")
            await asyncio.sleep(0.1)


async def measure_restarts(*, events: int, runs: int, tail: int, load: int, progress: Progress) -> Restarts:
    """Make a history with open runs, and restart workers on it.

    Args:
        events: How many stand before the image.
        runs: How many runs are left open; they wait for a person.
        tail: How many events a partition are written behind the image.
        load: How many runs are kept going while a worker is killed.
        progress: Told what happens.
    """
    async with _log() as (log, home):
        histories = await open_histories(log, SiteId(random_id()), AGENTS, events, SPAN_MS)
        await _fill(histories, events, progress)
        await _leave_open(histories, runs)
        progress.step("restart", note="a worker without an image")
        without = await _start(log, home / "without.log", histories, images=True)
        image_bytes = sum([await _size(log, number) for number in range(PARTITIONS)])
        await _fill(histories, sum(history.events for history in histories) + tail * PARTITIONS, progress)
        progress.step("restart", note="a worker with an image")
        restarted = await _start(log, home / "with.log", histories, images=False)
        progress.step("restart", note="two workers, of which one is killed")
        failover = await _failover(log, home, load)
        progress.step("restart", 1, 1, "done")
        return Restarts(sum(history.events for history in histories), runs, image_bytes, without, restarted, failover)


@asynccontextmanager
async def _log() -> AsyncIterator[tuple[KafkaLog, Path]]:
    with tempfile.TemporaryDirectory(prefix="dramac-bench-") as home:
        async with KafkaServer(Path(home) / "kafka") as kafka:
            await create_topics(kafka.address, partitions=PARTITIONS, replication_factor=1)
            async with KafkaLog(kafka.address) as log:
                yield log, Path(home)


async def _fill(histories: Sequence[History], events: int, progress: Progress) -> None:
    """Make whole runs until there are so many events, as many in each partition."""
    share = events // len(histories)
    for history in histories:
        workers = list(history.streams)[:-1]
        while history.events < share:
            for agent_id in workers:
                history.run(agent_id)
                await history.flush()
            made = sum(other.events for other in histories)
            progress.step("history", made, events, f"{made // 100_000 * 100_000:,} of {events:,} events")
        await history.flush(all_of_it=True)


async def _leave_open(histories: Sequence[History], runs: int) -> None:
    """Leave runs that wait for a person, after one to three steps."""
    for number in range(runs):
        history = histories[number % len(histories)]
        workers = list(history.streams)[:-1]
        history.run(workers[number % len(workers)], 1 + number % (STEPS - 1), pays=True)
        await history.flush()
    for history in histories:
        await history.flush(all_of_it=True)


async def _size(log: KafkaLog, number: int) -> int:
    bounds, size = await log.bounds(CHECKPOINTS, number), 0
    position = bounds.start
    async with log.reader(CHECKPOINTS, {number: position}) as reader:
        while position < bounds.end:
            size += sum(len(record.value or b"") for record in await reader.poll())
            position = reader.position(number)
    return size


# --- workers --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _worker(log: KafkaLog, said: Path) -> AsyncIterator[Running]:
    environment = {**os.environ, "DRAMAC_KAFKA": log.bootstrap, "DRAMAC_LOG_LEVEL": "info"}
    with said.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - it takes milliseconds
            [sys.executable, "-m", "infra.bench.worker"], env=environment, stdout=file, stderr=file
        )
    try:
        yield Running(process, said)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, STOP_S)


async def _start(log: KafkaLog, said: Path, histories: Sequence[History], *, images: bool) -> Start:
    """Have a worker decide a command of each partition, which stood there before it began."""
    for history in histories:
        await log.append(COMMANDS, history.number, [probe(history)])
    begun_s = time.time()
    async with _worker(log, said) as worker:
        decided_s = await _next_events(log, {history.number: history.events_end for history in histories})
        await worker.until(_RESTORED, PARTITIONS)
        if images:
            await worker.until(_IMAGED, PARTITIONS)
    for history in histories:  # the worker wrote behind it, but of the asked agent alone
        history.commands_end = (await log.bounds(COMMANDS, history.number)).end
        history.events_end = (await log.bounds(EVENTS, history.number)).end
    restored = worker.says(_RESTORED)
    assigned_s = max(_unix_s(*told[:2]) for told in worker.says(_HOLDS) if told[2])
    return Start(
        assigned_s=round(assigned_s - begun_s, 2),
        restored_s=round(max(_unix_s(*told[:2]) for told in restored) - begun_s, 2),
        decided_s=round(max(decided_s.values()) - begun_s, 2),
        again_s=round(max(decided_s.values()) - assigned_s, 2),
        events=sum(int(told[3]) for told in restored),
    )


async def _next_events(log: KafkaLog, ends: Mapping[int, int]) -> dict[int, float]:
    """Return when the first event behind each of `ends` was appended, in Unix seconds."""
    found: dict[int, float] = {}
    async with asyncio.timeout(PATIENCE_S), log.reader(EVENTS, ends) as reader:
        while len(found) < len(ends):
            for record in await reader.poll():
                found.setdefault(record.partition, record.at_ms / 1000)
    return found


def _unix_s(date: bytes, ms: bytes) -> float:
    """Return when a line was logged: its time is local."""
    return datetime.strptime(date.decode(), "%Y-%m-%d %H:%M:%S").astimezone().timestamp() + int(ms) / 1000


# --- failover -------------------------------------------------------------------------------------------------------


async def _failover(log: KafkaLog, home: Path, concurrency: int) -> dict[int, float]:
    """Kill one of two workers under load; return what its partitions took to go on, in seconds."""
    async with _worker(log, home / "stays.log") as stays, _worker(log, home / "dies.log") as dies:
        for worker in (stays, dies):
            await worker.until(re.compile(_STAMP + rb"holds partitions \[(\d+, \d+)\]", re.MULTILINE), 1)
        load = await open_load(log, AGENTS)
        ends = {number: (await log.bounds(EVENTS, number)).end for number in range(PARTITIONS)}
        async with log.reader(EVENTS, ends) as heard:
            tasks = [asyncio.create_task(load.listen(heard))]
            tasks += [asyncio.create_task(load.slot(number)) for number in range(concurrency)]
            await asyncio.sleep(LOAD_S)
            lost = [int(number) for number in dies.says(_HOLDS)[-1][2].split(b",")]
            dies.process.kill()
            killed_s = time.time()
            ends = {number: (await log.bounds(EVENTS, number)).end for number in lost}
            found = await _next_events(log, ends)
            await _stop(tasks)
    return {number: round(at_s - killed_s, 2) for number, at_s in found.items()}


async def _stop(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, given in (("events", 1_000_000), ("runs", 1_000), ("tail", 12_000), ("load", 32)):
        parser.add_argument(f"--{name}", type=int, default=given)
    wanted = vars(parser.parse_args())
    tune_collector()
    figures = uvloop.run(measure_restarts(**wanted, progress=terminal_progress(Console(stderr=True))))
    sys.stdout.buffer.write(orjson.dumps(figures.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


if __name__ == "__main__":
    main()
