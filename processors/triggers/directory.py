"""Which agents listen to what: folded from `ai.events` itself, so that no agent activated before an event misses it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from processors.agents.goals import measured
from processors.signals.rulebook import Rulebook
from processors.tools.globs import matches
from schemas.agents import Goal
from schemas.events import AgentActivated, AgentCreated, AgentDeactivated, AgentDeleted, AgentUpdated
from schemas.ids import AgentId, SiteId
from schemas.module_events import Trigger
from streams.chain import Heads
from streams.log import Log, Reader, Record
from streams.records import decode_event
from streams.topics import EVENTS

logger = logging.getLogger(__name__)

READ_RECORDS = 5_000

_GOALS = TypeAdapter(tuple[Goal, ...])

_RELEVANT = frozenset(
    e.wire.encode() for e in (AgentCreated, AgentUpdated, AgentActivated, AgentDeactivated, AgentDeleted)
)


@dataclass(slots=True)
class Listener:
    """An agent that exists. Once activated it is always told: its own stream says whether it is active now."""

    agent_id: AgentId
    patterns: tuple[str, ...]
    ever_active: bool = False
    goals: tuple[Goal, ...] = ()


@dataclass(slots=True)
class Directory:
    """The listeners of every site, up to `positions` (partition: next offset of `ai.events`)."""

    positions: dict[int, int]
    listeners: dict[SiteId, dict[AgentId, Listener]] = field(default_factory=dict)
    heads: dict[int, Heads] = field(default_factory=dict)
    rules: Rulebook = field(default_factory=Rulebook)

    @classmethod
    def empty(cls, partitions: int) -> "Directory":
        """Return a directory that has read nothing yet."""
        return cls({partition: 0 for partition in range(partitions)})

    def guardian(self, site_id: SiteId, trigger: Trigger) -> list[AgentId]:
        """Return the agent of a site that a signal is for, which is the only one that it wakes."""
        listener = self.listeners.get(site_id, {}).get(AgentId(trigger.subject or ""))
        return [listener.agent_id] if listener is not None and listener.ever_active else []

    def listening(self, site_id: SiteId, event_type: str) -> list[AgentId]:
        """Return the agents of a site that an event of this type wakes."""
        return [
            listener.agent_id
            for listener in self.listeners.get(site_id, {}).values()
            if listener.ever_active and any(matches(pattern, event_type) for pattern in listener.patterns)
        ]

    def measuring(self, site_id: SiteId) -> list[Listener]:
        """Return the agents of a site that have a goal which events move: active or not, the world goes on."""
        return [listener for listener in self.listeners.get(site_id, {}).values() if listener.goals]

    async def read_to(self, reader: Reader, ends: Mapping[int, int]) -> None:
        """Read on until every partition has reached its offset in `ends`."""
        while any(self.positions[partition] < end for partition, end in ends.items()):
            for record in await reader.poll(max_records=READ_RECORDS):
                self._apply(record)
            for partition in ends:  # behind gaps too
                self.positions[partition] = max(self.positions[partition], reader.position(partition))

    def _apply(self, record: Record) -> None:
        self.positions[record.partition] = record.offset + 1
        counts = self.heads.setdefault(record.partition, Heads()).admit(record)
        if not counts or record.header("ce_type") not in _RELEVANT:
            return
        envelope = decode_event(record)
        self.rules.apply(envelope)
        site = self.listeners.setdefault(envelope.site_id, {})
        match envelope.event:
            case AgentCreated(config=config):
                site[envelope.agent_id] = Listener(
                    envelope.agent_id, config.event_patterns, goals=measured(config.goals)
                )
            case AgentUpdated(changes=changes):
                if "goals" in changes and envelope.agent_id in site:
                    site[envelope.agent_id].goals = measured(_GOALS.validate_python(changes["goals"]))
                if "triggers" in changes and envelope.agent_id in site:
                    triggers: list[str] = changes["triggers"]
                    site[envelope.agent_id].patterns = tuple(
                        trigger.removeprefix("event:") for trigger in triggers if trigger.startswith("event:")
                    )
            case AgentActivated():
                if envelope.agent_id in site:
                    site[envelope.agent_id].ever_active = True
            case AgentDeleted():
                site.pop(envelope.agent_id, None)


async def ends_of(log: Log) -> dict[int, int]:
    """Return the offset at which each partition of `ai.events` ends now."""
    return {p: (await log.bounds(EVENTS, p)).end for p in range(await log.partitions(EVENTS))}
