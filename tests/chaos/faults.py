"""What is done to a running system: each fault injects, and leaves the healing to its caller.

A fault publishes events of its own, so that there is work at stake, and returns how often it struck.
"""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg

from infra.dev.ports import LOOPBACK
from schemas.envelope import EventEnvelope
from schemas.events import ExecutionStarted
from tests.acceptance.system import until
from tests.chaos.bed import Bed
from tests.chaos.points import POINTS
from tests.chaos.proxy import PRODUCE, Fate, Proxy
from tests.chaos.rig import Rig, Worker

EVENTS_A_CYCLE = 3
POINT_S = 8.0  # a worker that does not come to its point is killed where it is
POLL_S = 0.02
BACKENDS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND ($1 OR query LIKE 'COMMIT%')
"""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One worker, and where it is to die."""

    point: str
    turn: int

    @classmethod
    def draw(cls, point: str, rng: random.Random) -> "Cycle":
        """A turn of `point` at random."""
        return cls(point, rng.randint(POINTS[point].least, POINTS[point].often))

    def __str__(self) -> str:
        return f"{self.point}:{self.turn}"


@dataclass(slots=True)
class Armed:
    """A worker that is going to die."""

    cycle: Cycle
    worker: Worker
    deadline: float


async def kills(
    rig: Rig,
    bed: Bed,
    cycles: Sequence[Cycle],
    *,
    abreast: int,
    done: Callable[[Cycle, bool], None],
    point_s: float = POINT_S,
) -> None:
    """Let one worker after the other die at its point, `abreast` of them at a time; tell of each that has died."""
    left, armed = list(reversed(cycles)), list[Armed]()
    while left or armed:
        while left and len(armed) < abreast:
            await bed.publish(rig.system.log, EVENTS_A_CYCLE)
            cycle = left.pop()
            armed.append(Armed(cycle, rig.start_worker(str(cycle)), time.monotonic() + point_s))
        await asyncio.sleep(POLL_S)
        for one in list(armed):
            code = one.worker.poll()
            if code is None and time.monotonic() < one.deadline:
                continue
            await rig.end(one.worker)
            armed.remove(one)
            done(one.cycle, code == -signal.SIGKILL)


async def zombie(rig: Rig, bed: Bed, rng: random.Random) -> int:
    """Stop a worker for longer than its session; another takes over; then the first goes on as if nothing had been."""
    rig.keep(1)
    await bed.publish(rig.system.log, 6)
    await _progress(rig, bed, 3)
    (sleeper,) = rig.alive
    await asyncio.sleep(rng.uniform(0, 0.3))  # anywhere in its work
    sleeper.send_signal(signal.SIGSTOP)
    rig.start_worker()
    await bed.publish(rig.system.log, 6)
    await _progress(rig, bed, 6)
    sleeper.send_signal(signal.SIGCONT)
    await bed.publish(rig.system.log, 6)
    await _progress(rig, bed, 6)
    return 1


async def storm(rig: Rig, bed: Bed, rng: random.Random) -> int:
    """Let the group move all the time: workers come, and go in good order or by SIGKILL."""
    strikes = 0
    rig.keep(2)
    for _ in range(6):
        await bed.publish(rig.system.log, 4)
        rig.keep(3)
        await asyncio.sleep(rng.uniform(0.5, 2.0))
        victim = rng.choice(rig.alive)
        if rng.random() < 0.5:
            victim.terminate()
        else:
            victim.kill()
        strikes += 1
    return strikes


async def broker(rig: Rig, bed: Bed, rng: random.Random) -> int:
    """`kill -9` of Kafka, and a start on the same data, while workers work and modules publish."""
    rig.keep(2)
    await bed.publish(rig.system.log, 6)
    await asyncio.sleep(rng.uniform(0.2, 1.0))
    publishing = asyncio.create_task(bed.publish(rig.system.log, 6))
    await rig.kafka.kill()
    await asyncio.sleep(rng.uniform(0, 1.5))
    await rig.kafka.start()
    await publishing
    rig.keep(2)
    return 1


async def database(rig: Rig, bed: Bed, rng: random.Random) -> int:
    """`kill -9` of Postgres with its backends, and a start on the same data."""
    rig.keep(2)
    await bed.publish(rig.system.log, 8)
    await asyncio.sleep(rng.uniform(0.2, 1.0))
    await rig.postgres.kill()
    await bed.publish(rig.system.log, 4)
    await asyncio.sleep(rng.uniform(0, 1.0))
    await rig.postgres.start()
    rig.keep(2)
    return 1


async def backends(rig: Rig, bed: Bed, rng: random.Random) -> int:
    """End connections to Postgres on the server's side: those that commit at the moment, now and then all."""
    rig.keep(1)
    strikes = 0
    await bed.publish(rig.system.log, 12)
    connection = await asyncpg.connect(rig.postgres.address)
    try:
        ends = time.monotonic() + 3.0
        while time.monotonic() < ends:
            strikes += len(await connection.fetch(BACKENDS, rng.random() < 0.01))
            await asyncio.sleep(0)
    finally:
        await connection.close()
    return strikes


async def commits(rig: Rig, bed: Bed, rng: random.Random) -> int:
    """Lose COMMITs on their way to Postgres, and the answers to others: nobody knows the outcome."""
    parts = urlsplit(rig.postgres.address)
    await rig.end_all()

    def rule(_kind: int) -> Fate:
        return rng.choice(("lose reply", "lose request")) if rng.random() < 0.2 else "pass"

    async with Proxy(0, parts.port or 0, "postgres") as proxy:
        at = parts._replace(netloc=f"{parts.username}:{parts.password}@{LOOPBACK}:{proxy.port}").geturl()
        rig.keep(1, DRAMAC_POSTGRES=at)
        await bed.publish(rig.system.log, 3)
        await _progress(rig, bed, 3)
        proxy.rule = rule
        for _ in range(10):
            rig.keep(1, DRAMAC_POSTGRES=at)
            await bed.publish(rig.system.log, 2)
            await asyncio.sleep(0.3)
        await rig.end_all()
        return proxy.hits


async def link(rig: Rig, bed: Bed, rng: random.Random) -> int:
    """Between a worker and Kafka: lose answers to what was written, delay others, and break connections."""
    inner, door = rig.doors
    await rig.end_all()

    def rule(kind: int) -> Fate:
        if kind != PRODUCE or rng.random() > 0.15:
            return "pass"
        return rng.choice(("lose reply", "lose reply", "lose request", rng.uniform(0.05, 1.5)))

    async with Proxy(door, inner, "kafka") as proxy:
        at = f"{LOOPBACK}:{door}"
        rig.keep(1, DRAMAC_KAFKA=at)
        await bed.publish(rig.system.log, 3)
        await _progress(rig, bed, 3)
        proxy.rule = rule
        for _ in range(12):
            rig.keep(1, DRAMAC_KAFKA=at)
            await bed.publish(rig.system.log, 2)
            await asyncio.sleep(0.4)
            if rng.random() < 0.3:
                proxy.cut()
        strikes = proxy.hits
        await rig.end_all()
        return strikes


FAULTS: dict[str, Callable[[Rig, Bed, random.Random], Awaitable[int]]] = {
    "zombie worker": zombie,
    "rebalance storm": storm,
    "Kafka killed": broker,
    "Postgres killed": database,
    "backends terminated": backends,
    "COMMIT or its answer lost": commits,
    "Kafka's answers lost or late": link,
}


async def _progress(rig: Rig, bed: Bed, count: int) -> None:
    """Wait until `count` more runs of the site have started."""

    async def started() -> int:
        await rig.tape.read_on()
        return sum(_is_start(envelope, bed) for envelope in rig.tape.events)

    wanted = await started() + count

    async def is_reached() -> bool:
        rig.keep(len(rig.alive) or 1)
        return await started() >= wanted

    await until(is_reached, f"{count} runs started")


def _is_start(envelope: EventEnvelope, bed: Bed) -> bool:
    return envelope.site_id == bed.site_id and isinstance(envelope.event, ExecutionStarted)
