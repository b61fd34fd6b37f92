"""One site with agents at work, what was published for them, and the person who settles what is in doubt."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from infra.asking import ask
from schemas.commands import ResolveDoubt
from schemas.envelope import EventEnvelope
from schemas.errors import AppendError, DramacError
from schemas.events import (
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    ExecutionTimedOut,
    ToolCompleted,
    ToolFailed,
    ToolInDoubt,
)
from schemas.ids import AgentId, CallId, SiteId
from streams.client import ModuleEventPublisher
from streams.log import Log
from tests.acceptance.system import System, config, new_site

SOURCE = "/chaos"
AGENTS = 3
PERSON_S = 5.0
UNLIMITED = {
    "timeout_seconds": 1_800,
    "max_runs_per_hour": 1_000_000,
    "max_runs_per_day": 1_000_000,
    "max_concurrent_runs": 10_000,
}

TERMINAL = (ExecutionCompleted, ExecutionFailed, ExecutionCancelled, ExecutionTimedOut)


@dataclass(slots=True)
class Bed:
    """Agents `busy-*` listen to `chaos.<slug>`; `echo` listens to the tasks that they make.

    `published` has the ids of all events that the log acknowledged, by the agent that each is for.
    """

    site_id: SiteId
    busy: dict[str, AgentId]
    echo: AgentId
    published: dict[AgentId, list[str]] = field(default_factory=dict)
    _resolved: set[CallId] = field(default_factory=set)
    _count: int = 0

    async def publish(self, log: Log, count: int) -> None:
        """Publish `count` events, one after the other agent; each again, with its id, until it is acknowledged."""
        async with ModuleEventPublisher(log) as publisher:
            for _ in range(count):
                self._count += 1
                slug = f"busy-{self._count % len(self.busy)}"
                event_id = f"{self.site_id[:8]}-{self._count}"
                while True:
                    try:
                        await publisher.publish(
                            type=f"chaos.{slug}",
                            site_id=self.site_id,
                            source=SOURCE,
                            id=event_id,
                            subject=event_id,
                            data={},
                        )
                        break
                    except AppendError:
                        await asyncio.sleep(0.2)
                self.published.setdefault(self.busy[slug], []).append(event_id)

    async def settle_doubts(self, log: Log, events: list[EventEnvelope]) -> None:
        """As a person: say of each call in doubt that it was done, once."""
        doubts: dict[CallId, EventEnvelope] = {}
        for envelope in events:
            if isinstance(envelope.event, ToolInDoubt):
                doubts[envelope.event.call_id] = envelope
            elif isinstance(envelope.event, ToolCompleted | ToolFailed):
                doubts.pop(envelope.event.call_id, None)
        for call_id, envelope in doubts.items():
            event = envelope.event
            if envelope.site_id != self.site_id or call_id in self._resolved or not isinstance(event, ToolInDoubt):
                continue
            said = ResolveDoubt(execution_id=event.execution_id, call_id=call_id, outcome="completed", output="seen")
            with contextlib.suppress(DramacError):  # settled meanwhile, or nobody answers: the next look shows it
                await ask(
                    log,
                    site_id=self.site_id,
                    agent_id=envelope.agent_id,
                    user="person",
                    command=said,
                    timeout_s=PERSON_S,
                )
                self._resolved.add(call_id)

    def unfinished(self, events: list[EventEnvelope], tasks: set[str]) -> str | None:
        """What is still to come, in words; None once all is done. `tasks` are the ids of what `echo` was told."""
        started: dict[AgentId, set[str]] = {}
        open_runs: set[str] = set()
        for envelope in events:
            event = envelope.event
            if envelope.site_id != self.site_id:
                continue
            if isinstance(event, ExecutionStarted):
                started.setdefault(envelope.agent_id, set()).add(event.trigger.id)
                open_runs.add(event.execution_id)
            elif isinstance(event, TERMINAL):
                open_runs.discard(event.execution_id)
        awaited = {agent_id: set(ids) for agent_id, ids in self.published.items()} | {self.echo: tasks}
        missing = sum(len(ids - started.get(agent_id, set())) for agent_id, ids in awaited.items())
        if missing or open_runs:
            return f"{missing} runs not started, {len(open_runs)} not ended (such as {sorted(open_runs)[:3]})"
        return None


async def make_bed(system: System, model: str) -> Bed:
    """Make a site with its agents, the busy ones with this script; a worker must be at work."""
    site_id = new_site()
    busy = {}
    for number in range(AGENTS):
        slug = f"busy-{number}"
        busy[slug] = await system.agent(
            site_id, config(slug, f"event:chaos.{slug}", model=model, allowed_tools=("*",), **UNLIMITED)
        )
    echo = await system.agent(site_id, config("echo", "event:task.created", model="echo", **UNLIMITED))
    return Bed(site_id, busy, echo)
