"""Which agents listen to what: folded from `ai.events` itself, so that no agent activated before an event misses it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from processors.agents.goals import measured
from processors.signals.rulebook import Rulebook
from processors.triggers.conditions import facts_of, patterns_of
from processors.triggers.matching import Candidate, Index, wakes
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
    triggers: tuple[str, ...]
    conditions: dict[str, str]
    allow_self_trigger: bool = False
    ever_active: bool = False
    activated_ms: int = 0
    goals: tuple[Goal, ...] = ()


@dataclass(slots=True)
class Directory:
    """The listeners of every site, up to `positions` (partition: next offset of `ai.events`)."""

    positions: dict[int, int]
    listeners: dict[SiteId, dict[AgentId, Listener]] = field(default_factory=dict)
    heads: dict[int, Heads] = field(default_factory=dict)
    rules: Rulebook = field(default_factory=Rulebook)
    unmet: int = 0  # how often an agent was not woken because its condition was not met
    _indexes: dict[SiteId, Index] = field(default_factory=dict)

    @classmethod
    def empty(cls, partitions: int) -> "Directory":
        """Return a directory that has read nothing yet."""
        return cls({partition: 0 for partition in range(partitions)})

    def guardian(self, site_id: SiteId, trigger: Trigger) -> list[AgentId]:
        """Return the agent of a site that a signal is for, which is the only one that it wakes."""
        listener = self.listeners.get(site_id, {}).get(AgentId(trigger.subject or ""))
        return [listener.agent_id] if listener is not None and listener.ever_active else []

    def candidates(self, site_id: SiteId, event_type: str) -> tuple[Candidate, ...]:
        """Return the agents of a site that an event of this type wakes, if their conditions are met."""
        index = self._indexes.get(site_id)
        if index is None:
            listeners = self.listeners.get(site_id, {}).values()
            active = [listener for listener in listeners if listener.ever_active]
            index = Index.of({each.agent_id: patterns_of(each.triggers, each.conditions) for each in active})
            if listeners:  # anybody may name any site
                self._indexes[site_id] = index
        return index.candidates(event_type)

    def listening(self, site_id: SiteId, trigger: Trigger) -> list[AgentId]:
        """Return the agents of a site that an event wakes: by its type, and their conditions."""
        woken, facts = [], None
        for agent_id, conditions in self.candidates(site_id, trigger.event_type or ""):
            if conditions:
                facts = facts or facts_of(trigger)
                if not any(condition.holds(facts) for condition in conditions):
                    self.unmet += 1
                    continue
            woken.append(agent_id)
        return woken

    def measuring(self, site_id: SiteId) -> list[Listener]:
        """Return the agents of a site that have a goal which events move: active or not, the world goes on."""
        return [listener for listener in self.listeners.get(site_id, {}).values() if listener.goals]

    def measuring_own(self, site_id: SiteId, agent_id: str, event_type: str) -> list[Listener]:
        """Return the agent itself, if what it did moves a goal of its own."""
        listener = self.listeners.get(site_id, {}).get(AgentId(agent_id))
        fits = listener is not None and any(wakes(goal.event or "", event_type) for goal in listener.goals)
        return [listener] if listener is not None and fits else []

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
        self._indexes.pop(envelope.site_id, None)
        site = self.listeners.setdefault(envelope.site_id, {})
        match envelope.event:
            case AgentCreated(config=config):
                site[envelope.agent_id] = Listener(
                    envelope.agent_id,
                    config.triggers,
                    config.trigger_conditions,
                    config.allow_self_trigger,
                    goals=measured(config.goals),
                )
            case AgentUpdated(changes=changes):
                if (listener := site.get(envelope.agent_id)) is not None:
                    listener.triggers = tuple(changes.get("triggers", listener.triggers))
                    listener.conditions = changes.get("trigger_conditions", listener.conditions)
                    listener.allow_self_trigger = changes.get("allow_self_trigger", listener.allow_self_trigger)
                    if "goals" in changes:
                        listener.goals = measured(_GOALS.validate_python(changes["goals"]))
            case AgentActivated():
                if (listener := site.get(envelope.agent_id)) is not None:
                    listener.ever_active, listener.activated_ms = True, envelope.at_ms
            case AgentDeleted():
                site.pop(envelope.agent_id, None)


async def ends_of(log: Log) -> dict[int, int]:
    """Return the offset at which each partition of `ai.events` ends now."""
    return {p: (await log.bounds(EVENTS, p)).end for p in range(await log.partitions(EVENTS))}
