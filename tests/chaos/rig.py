"""Servers that can be killed, workers that can be killed, and what is known of both."""

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from infra.dev.kafka import KafkaServer
from infra.dev.ports import LOOPBACK, choose_ports
from infra.dev.postgres import PostgresServer
from infra.dev.stack import Endpoints
from projections.db import Pool
from projections.migrate import migrate
from schemas.errors import UnavailableError
from streams.kafka import KafkaLog
from streams.kafka_topics import create_topics
from tests.acceptance.system import System, kill
from tests.chaos import invariants
from tests.chaos.bed import Bed, make_bed
from tests.chaos.notes import read_notes
from tests.chaos.tape import Tape

PARTITIONS = 4
SESSION_S = 1.0  # the least that the embedded broker allows: a killed worker's partitions move after it
IMAGE_EVENTS = 40  # a run has about 20: images are written while workers live for a second
QUIET_S = 60.0  # from the last fault to the last run's end
LOOK_S = 0.25
SCRIPTS = Path(__file__).parent / "scripts"
PROXIED = "PROXIED"  # the broker's second listener: whoever enters there is sent through a proxy

Worker = subprocess.Popen[bytes]


@dataclass(slots=True)
class Rig:
    """A system under attack. `doors` are the ports of the broker's second listener and of the proxy before it."""

    home: Path
    kafka: KafkaServer
    postgres: PostgresServer
    system: System
    tape: Tape
    spare: Pool
    doors: tuple[int, int]
    alive: list[Worker] = field(default_factory=list)

    @property
    def notes(self) -> Path:
        return self.home / "notes"

    def start_worker(self, kill_at: str | None = None, *, roles: str | None = None, **settings: str) -> Worker:
        """Start a worker that notes what it does, and dies at `kill_at` (a point and its turn) if that is given."""
        notes = self.notes / f"{len(self.system.workers):04}.jsonl"
        program = ["tests.chaos.worker", "--notes", str(notes), "--session-s", str(SESSION_S)]
        program += ["--image-events", str(IMAGE_EVENTS)]
        program += ["--kill", kill_at] if kill_at is not None else []
        settings = {"DRAMAC_SCRIPTS": f'["{SCRIPTS}"]', "DRAMAC_LOG_LEVEL": "warning", **settings}
        worker = self.system.start_worker(roles or "decider,router,projector", program, **settings)
        self.alive.append(worker)
        return worker

    async def end(self, worker: Worker) -> None:
        """Kill a worker, if it is alive."""
        if worker in self.alive:
            self.alive.remove(worker)
        if worker.poll() is None:
            worker.send_signal(signal.SIGCONT)
            await kill(worker)

    async def end_all(self) -> None:
        """Kill every worker."""
        for worker in list(self.alive):
            await self.end(worker)

    def keep(self, count: int, **settings: str) -> list[Worker]:
        """Have `count` workers: start what is missing, as a supervisor would; return those that had ended."""
        ended = [worker for worker in self.alive if worker.poll() is not None]
        self.alive = [worker for worker in self.alive if worker not in ended]
        while len(self.alive) < count:
            self.start_worker(**settings)
        return ended

    async def make_bed(self, model: str = "chaos") -> Bed:
        """Have a site of its own for what follows; a worker is at work from here on."""
        self.keep(1)
        return await make_bed(self.system, model)

    async def until_quiet(self, bed: Bed, timeout_s: float = QUIET_S) -> None:
        """Have a worker, settle what is in doubt, and wait until every run has ended and the tables show it.

        Raises:
            AssertionError: it does not come to rest; the message says what is left.
        """
        deadline = time.monotonic() + timeout_s
        left: str | None = "nothing was seen yet"
        while left is not None:
            if time.monotonic() > deadline:
                raise AssertionError(f"not quiet after {timeout_s:.0f} s: {left}")
            self.keep(1)
            with contextlib.suppress(UnavailableError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                left = await self._left(bed)
            await asyncio.sleep(LOOK_S)

    async def _left(self, bed: Bed) -> str | None:
        await self.tape.read_on()
        tasks = await invariants.told_tasks(self.system.pool, bed)
        if (left := bed.unfinished(self.tape.events, tasks)) is not None:
            await bed.settle_doubts(self.system.log, self.tape.events)
            return left
        lag = await invariants.lag(self.system.pool, self.tape)
        return f"records that are not in the tables, by partition: {lag}" if lag else None

    async def violations(self, bed: Bed, *, from_the_beginning: bool = True) -> list[str]:
        """Everything that does not hold; the system must be quiet.

        The rows are compared with those that a second database gets from the log, `from_the_beginning` or going on
        from the last time.
        """
        pool, log, tape = self.system.pool, self.system.log, self.tape
        await self.end_all()
        await tape.read_on()
        tasks = await invariants.told_tasks(pool, bed)
        found = [
            *invariants.runs(bed, tape.events, tasks),
            *invariants.steps(tape.events),
            *invariants.repeats(tape, read_notes(self.notes)),
            *invariants.metering(tape),
            *await invariants.usage(pool, tape.events),
            *await invariants.sandbox(pool, bed, tape.events),
            *await invariants.chains(log, pool),
            *await invariants.rows(log, pool, self.spare, anew=from_the_beginning),
        ]
        found += [f"a record changed after it was read: {place}" for place in await tape.changed_records()]
        found += [f"a record went to the dead letters: {record.headers}" for record in tape.dead_letters]
        return found


@asynccontextmanager
async def open_rig(home: Path) -> AsyncIterator[Rig]:
    """Start servers of one's own, with topics and tables, and kill what is left at the end."""
    home.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs yet
    (home / "notes").mkdir()
    async with AsyncExitStack() as stack:
        kafka, doors = _kafka(home)
        postgres = PostgresServer(home / "postgres")
        await asyncio.gather(stack.enter_async_context(kafka), stack.enter_async_context(postgres))
        await create_topics(
            kafka.address, partitions=PARTITIONS, replication_factor=1, module_topics=("module.events",)
        )
        log = await stack.enter_async_context(KafkaLog(kafka.address, write_timeout_s=5))
        pool = await stack.enter_async_context(asyncpg.create_pool(postgres.address, min_size=1))
        await pool.execute("CREATE DATABASE spare")
        spare = await stack.enter_async_context(asyncpg.create_pool(_beside(postgres.address, "spare"), min_size=1))
        await migrate(pool)
        system = System(Endpoints(kafka.address, postgres.address), log, pool, home)
        rig = Rig(home, kafka, postgres, system, Tape(log), spare, doors)
        stack.push_async_callback(rig.end_all)
        yield rig


def _beside(url: str, database: str) -> str:
    """The address of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def _kafka(home: Path) -> tuple[KafkaServer, tuple[int, int]]:
    """A broker with a second listener, whose clients are told to come by way of a proxy."""
    plain, controller, inner, proxy = choose_ports(home / "doors.json", 4)
    properties = {
        "listeners": f"PLAINTEXT://{LOOPBACK}:{plain},{PROXIED}://{LOOPBACK}:{inner},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{plain},{PROXIED}://{LOOPBACK}:{proxy}",
        "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,{PROXIED}:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
    }
    return KafkaServer(home / "kafka", port=plain, properties=properties), (inner, proxy)
