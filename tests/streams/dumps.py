"""Logs in memory with real records, and their dumps, for the tests of `dump` and `verify`."""

from dataclasses import dataclass, field

from schemas.events import AgentActivated
from schemas.ids import AgentId, CommandId, SiteId, agent_id_of, event_id_of
from streams.chain import NO_HEAD, Head
from streams.dump import dump_log
from streams.log import Draft
from streams.memory_log import MemoryLog
from streams.partitioner import partition_of
from streams.records import Said, encode_event
from streams.topics import AI_TOPICS, EVENTS, ensure_genesis

SITE = SiteId("5d9c3f0a-6a0e-4f43-9c0e-2b1d6a7f1c11")
PARTITIONS = 3


def agent(number: int) -> AgentId:
    return agent_id_of(SITE, f"agent-{number}")


def drafts(agent_id: AgentId, count: int, *, head: Head = NO_HEAD, name: str = "Jörg") -> tuple[list[Draft], Head]:
    """Return the next `count` records of a stream; another `name` makes them a rival's."""
    made = []
    for _ in range(count):
        at_ms = 1_769_247_000_000 + head.sequence
        command = CommandId(f"00000000-0000-8000-8000-{head.sequence:012x}")
        event = AgentActivated(id=agent_id, name=name)
        event_id = event_id_of(at_ms, command, head.sequence, 0)
        said = Said(event_id, SITE, agent_id, at_ms, command, head.sequence, "c", "user:ann", None, event)
        draft, head = encode_event(said, head)
        made.append(draft)
    return made, head


@dataclass
class Place:
    """A log in memory with the topic of events."""

    log: MemoryLog = field(default_factory=lambda: MemoryLog(clock=lambda: 1_769_247_000_000))
    heads: dict[AgentId, Head] = field(default_factory=dict)

    async def open(self) -> "Place":
        self.log.create([topic for topic in AI_TOPICS if topic.name == EVENTS], PARTITIONS)
        await ensure_genesis(self.log, EVENTS)
        return self

    async def put(self, agent_id: AgentId, records: list[Draft]) -> None:
        await self.log.append(EVENTS, partition_of(agent_id.encode(), PARTITIONS), records)

    async def say(self, agent_id: AgentId, count: int) -> None:
        """Let a stream go on."""
        made, self.heads[agent_id] = drafts(agent_id, count, head=self.heads.get(agent_id, NO_HEAD))
        await self.put(agent_id, made)

    async def rival(self, agent_id: AgentId, count: int, *, after: int = 0) -> None:
        """Let a paused owner write what it decided from an earlier head: a copy, then its own."""
        copied, head = drafts(agent_id, after)
        own, _ = drafts(agent_id, count, head=head, name="Rival")
        await self.put(agent_id, copied[-1:] + own)

    async def dump(self) -> bytes:
        return b"".join([chunk async for chunk in dump_log(self.log)])


async def busy_place() -> Place:
    """Five streams in three partitions, with a rival's copies, forks, and records ahead."""
    place = await Place().open()
    for number in range(5):
        await place.say(agent(number), 3 + number)
    await place.rival(agent(1), 2, after=2)
    for number in (3, 0, 1):
        await place.say(agent(number), 2)
    ahead, _ = drafts(agent(2), 1, head=Head(40, b"\x01" * 32), name="Zombie")
    await place.put(agent(2), ahead)
    await place.say(agent(2), 2)
    return place
