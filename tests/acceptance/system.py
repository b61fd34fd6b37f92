"""The whole system on real servers: workers are processes of their own, which can be killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.agent_files import activate_agent, apply_agent
from infra.asking import until_visible
from infra.dev.stack import Endpoints
from projections.db import Pool
from schemas.agents import AgentConfig
from schemas.envelope import EventEnvelope
from schemas.ids import AgentId, SiteId, parse_site_id, random_id
from streams.chain import Heads
from streams.kafka import KafkaLog
from streams.log import Record
from streams.records import decode_event
from streams.topics import EVENTS, is_genesis

WAIT_S = 90.0  # that something happens at all: machines may be slow
SCRIPTS = Path(__file__).parent / "scripts"
ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class System:
    """Where the servers are, a log and a pool to look with, and the workers started here."""

    endpoints: Endpoints
    log: KafkaLog
    pool: Pool
    home: Path
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "DRAMAC_KAFKA": self.endpoints.kafka,
            "DRAMAC_POSTGRES": self.endpoints.postgres,
            "DRAMAC_PARTITIONS": "4",
            "DRAMAC_REPLICATION_FACTOR": "1",
            "DRAMAC_SCRIPTS": f'["{SCRIPTS}"]',
            "DRAMAC_LOG_LEVEL": "info",
        }

    def start_worker(
        self,
        roles: str = "decider,router,projector",
        program: Sequence[str] = ("infra.cli", "worker"),
        **settings: str,
    ) -> "subprocess.Popen[bytes]":
        """Start a worker process, with `settings` in its environment, and return it; it needs a second or two to work.

        `program` is the module that is run as a worker, with its arguments.
        """
        with (self.home / f"worker-{len(self.workers)}.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", *program, "--roles", roles],
                cwd=ROOT,
                env={**self.environment, **settings},
                stdout=log,
                stderr=log,
            )
        self.workers.append(worker)
        return worker

    @asynccontextmanager
    async def working(self, **settings: str) -> AsyncIterator["subprocess.Popen[bytes]"]:
        """Have a worker for the length of the block, with `settings` in its environment."""
        worker = self.start_worker(**settings)
        try:
            yield worker
        finally:
            await stop(worker)

    async def cli(self, *arguments: str, stdin: bytes = b"", **settings: str) -> "subprocess.CompletedProcess[bytes]":
        """Run `dramac` with `arguments`, and with `settings` in its environment."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "infra.cli", *arguments],
            cwd=ROOT,
            env={**self.environment, **settings},
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )

    async def agent(self, site_id: SiteId, config: AgentConfig) -> AgentId:
        """Have an active agent, visible in the tables."""
        agent_id, _ = await apply_agent(self.log, site_id, "tester", config)
        await activate_agent(self.log, site_id, "tester", agent_id)
        await until_visible(self.log, self.pool, agent_id)
        return agent_id

    async def records(self, topic: str = EVENTS) -> list[Record]:
        """Return every record of a topic, partition by partition."""
        found: list[Record] = []
        for partition in range(await self.log.partitions(topic)):
            bounds = await self.log.bounds(topic, partition)
            position = bounds.start
            async with self.log.reader(topic, {partition: position}) as reader:
                while position < bounds.end:
                    for record in await reader.poll(max_records=5_000):
                        position = record.offset + 1
                        found.append(record)
        return found

    async def history(self, *agent_ids: AgentId) -> list[EventEnvelope]:
        """Return the events of agents' streams that count, each in its order."""
        heads = Heads()
        keys = {agent_id.encode() for agent_id in agent_ids}
        mine = [record for record in await self.records() if record.key in keys and not is_genesis(record)]
        return [decode_event(record) for record in mine if heads.admit(record)]


def config(slug: str, *triggers: str, model: str = "finish", **fields: object) -> AgentConfig:
    """Return an agent on the scripted model."""
    given = {
        "slug": slug,
        "name": slug,
        "agent_type": "assistant",
        "system_prompt": "Look at it.",
        "triggers": triggers or ("manual",),
        "llm_provider": "scripted",
        "llm_model": model,
        "allowed_tools": ("crm_*", "task_*"),
        **fields,
    }
    return AgentConfig.model_validate(given)


def new_site() -> SiteId:
    """Return a site of a test's own."""
    return parse_site_id(random_id())


async def until(condition: Callable[[], Awaitable[bool]], what: str, timeout_s: float = WAIT_S) -> None:
    """Wait until `condition` holds."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():  # noqa: ASYNC110 - what is awaited lies in other processes
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s:.0f} s: {what}") from None


async def stop(worker: "subprocess.Popen[bytes]") -> None:
    """Stop a worker as an operator would."""
    if worker.poll() is None:
        worker.send_signal(signal.SIGTERM)
    await asyncio.to_thread(worker.wait, 20)


async def kill(worker: "subprocess.Popen[bytes]") -> None:
    """Kill a worker as a machine that dies would."""
    worker.kill()
    await asyncio.to_thread(worker.wait, 20)
