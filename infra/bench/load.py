"""A closed loop: so many runs at a time, each started when another has ended."""

import asyncio
import time
from dataclasses import dataclass, field

from infra.bench.stubs import agent_config
from schemas.commands import ActivateAgent, AnyCommand, CreateAgent, StartExecution
from schemas.errors import UnavailableError
from schemas.ids import AgentId, CommandId, SiteId, agent_id_of, random_id
from schemas.module_events import Trigger
from streams.kafka import KafkaLog
from streams.log import Reader, Record
from streams.records import Asked, encode_command
from streams.topics import COMMANDS, EVENTS

START_S = 60.0
ENDED = (b"ai.execution.completed", b"ai.execution.failed", b"ai.agent.trigger_skipped")


@dataclass(slots=True)
class Load:
    """The runs under way, by the correlation id that we gave them; latencies in s, of runs that ended in the window."""

    log: KafkaLog
    site_id: SiteId
    agents: list[AgentId]
    waiting: dict[bytes, "asyncio.Future[None]"] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    completed: int = 0
    event_bytes: int = 0

    async def say(self, agent_id: AgentId, command: AnyCommand, correlation_id: str) -> None:
        """Send a command."""
        asked = Asked(
            CommandId(random_id()), self.site_id, agent_id, "system:bench", correlation_id, command, source="/bench"
        )
        await self.log.send(COMMANDS, encode_command(asked))

    async def slot(self, number: int) -> None:
        """Keep one run going, until cancelled."""
        loop = asyncio.get_running_loop()
        agent_id = self.agents[number % len(self.agents)]
        while True:
            run = random_id()
            done = self.waiting[run.encode()] = loop.create_future()
            begun_s = time.perf_counter()
            trigger = Trigger(type="manual", source="/bench", id=run, time_ms=time.time_ns() // 1_000_000)
            await self.say(agent_id, StartExecution(trigger=trigger), run)
            await done
            self.latencies.append(time.perf_counter() - begun_s)

    async def listen(self, reader: Reader) -> None:
        """Notice what ended, until cancelled."""
        while True:
            for record in await reader.poll(max_records=2_000):
                self._note(record)

    def _note(self, record: Record) -> None:
        self.event_bytes += len(record.value or b"")
        wire = record.header("ce_type")
        if wire not in ENDED:
            return
        self.failed += wire != ENDED[0]
        self.completed += wire == ENDED[0]
        done = self.waiting.pop(record.header("ce_correlationid") or b"", None)
        if done is not None and not done.done():
            done.set_result(None)


async def open_load(log: KafkaLog, agents: int) -> Load:
    """Return a load on `agents` new agents, once a worker has made them.

    Raises:
        UnavailableError: no worker did within a minute.
    """
    site_id = SiteId(random_id())
    load = Load(log, site_id, [agent_id_of(site_id, f"bench-{number}") for number in range(agents)])
    ends = {p: (await log.bounds(EVENTS, p)).end for p in range(await log.partitions(EVENTS))}
    for number, agent_id in enumerate(load.agents):
        await load.say(agent_id, CreateAgent(config=agent_config(f"bench-{number}")), "setup")
        await load.say(agent_id, ActivateAgent(), "setup")
    active = 0
    try:
        async with asyncio.timeout(START_S), log.reader(EVENTS, ends) as reader:
            while active < agents:
                active += sum(r.header("ce_type") == b"ai.agent.activated" for r in await reader.poll())
    except TimeoutError:
        raise UnavailableError("the worker under load did not begin within a minute") from None
    return load
