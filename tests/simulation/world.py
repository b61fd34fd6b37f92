"""One world: a broker, workers that live and die, people and modules, and what goes wrong, all out of one seed."""

import asyncio
import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from processors.runtime.process import Process
from processors.runtime.worker import Worker
from processors.triggers.router import Router
from schemas.ids import AgentId
from streams.log import Draft
from streams.memory_log import MemoryLog
from streams.partitioner import partition_of
from streams.topics import (
    AI_TOPICS,
    CHECKPOINTS,
    COMMANDS,
    DEAD_LETTERS,
    EVENTS,
    MODULE_EVENTS,
    definitions,
    ensure_genesis,
)
from tests.simulation.groups import Coordinator
from tests.simulation.loop import OUTSIDE, Host, VirtualLoop
from tests.simulation.network import Network
from tests.simulation.observer import Observer
from tests.simulation.outside import Contexts, Ledger, Model, Tools
from tests.simulation.scenarios import Scenario
from tests.simulation.sim_log import SimLog

START_MS = 1_769_246_975_000  # 2026-01-24T09:29:35Z: a minute begins while things go wrong
SLOTS = 3


@dataclass(frozen=True, slots=True)
class Published:
    """A record of `module.events`, and how far every partition of `ai.events` reached when it landed."""

    partition: int
    offset: int
    ends: tuple[int, ...]


@dataclass(eq=False)
class Slot:
    """A place for a worker: a machine on which processes come and go."""

    number: int
    starts: int = 0
    host: Host | None = None
    process: Process | None = None
    worker: Worker | None = None
    main: asyncio.Task[None] | None = None
    skew_ms: int = 0


@dataclass
class World:
    """Everything there is. Attributes from `published` on are what the checks read besides the log."""

    name: str
    scenario: Scenario
    trace: Callable[[str], None] | None = None
    published: list[Published] = field(default_factory=list)
    poison: list[tuple[str, int, int]] = field(default_factory=list)
    started: dict[str, tuple[int, ...]] = field(default_factory=dict)  # a process: ends of ai.commands at its start
    deaths: list[str] = field(default_factory=list)  # processes that ended by themselves
    ledger: Ledger = field(default_factory=Ledger)
    troubled: bool = True
    healing: bool = False

    def __post_init__(self) -> None:
        """Make the broker and the network; nobody works yet."""
        self.rng = random.Random(self.name)
        self.loop = VirtualLoop(  # type: ignore[abstract]  # it has no sockets, signals, threads or processes
            random.Random(f"{self.name}/order")
        )
        self.jump_ms = 0
        self.broker = MemoryLog(clock=self.broker_ms)
        self.broker.create(definitions([MODULE_EVENTS]), self.scenario.partitions)
        self.network = Network(self.loop, self.broker, random.Random(f"{self.name}/network"), self._landed)
        self.network.weather = self.scenario.weather
        self.coordinator = Coordinator(self.loop, self.broker, self.rng)
        self.people_log = SimLog(self.network, self.coordinator, OUTSIDE)
        self.observer = Observer(self.broker)
        self.slots = [Slot(number, skew_ms=self.rng.choice((0, -2_500, 2_500))) for number in range(SLOTS)]
        self.on_landed: Callable[[Host, str], None] | None = None

    # --- time -------------------------------------------------------------------------------------------------------

    def broker_ms(self) -> int:
        """Return the broker's time, which stamps records."""
        return START_MS + int(self.loop.time() * 1000) + self.jump_ms

    def now_ms(self) -> int:
        """Return the true time."""
        return START_MS + int(self.loop.time() * 1000)

    def trouble(self) -> float:
        """Return how badly the other side behaves now."""
        return self.scenario.trouble if self.troubled else 0.0

    # --- the log ----------------------------------------------------------------------------------------------------

    async def found(self) -> None:
        """Write the genesis records."""
        for topic in AI_TOPICS:
            if topic.genesis:
                await ensure_genesis(self.broker, topic.name)

    def ends_of(self, agent_id: AgentId) -> tuple[int, int]:
        """Return how far both topics of an agent's partition reach."""
        partition = partition_of(agent_id.encode(), self.scenario.partitions)
        return self.end(COMMANDS, partition), self.end(EVENTS, partition)

    def end(self, topic: str, partition: int) -> int:
        """Return the next offset of a partition."""
        return self.broker.end(topic, partition)

    def _landed(self, host: Host, topic: str, partition: int, base: int, drafts: Sequence[Draft]) -> None:
        if topic == MODULE_EVENTS:
            ends = tuple(self.end(EVENTS, p) for p in range(self.scenario.partitions))
            self.published.append(Published(partition, base, ends))
        if self.trace is not None:
            self.say(host, f"{topic}/{partition}/{base}: {' | '.join(_told(topic, draft) for draft in drafts)}")
        if self.on_landed is not None:
            self.on_landed(host, topic)

    # --- processes --------------------------------------------------------------------------------------------------

    def start(self, slot: Slot) -> None:
        """Start a process."""
        if slot.host is not None:
            return
        slot.starts += 1
        host = slot.host = Host(f"w{slot.number}.{slot.starts}")
        self.started[host.name] = tuple(self.end(COMMANDS, p) for p in range(self.scenario.partitions))
        log, rng = SimLog(self.network, self.coordinator, host), self.rng

        def clock_ms() -> int:
            return self.now_ms() + slot.skew_ms

        slot.process = Process(
            log=log,
            models=Model(host.name, rng, self.ledger, self.ends_of, self.trouble),
            tools=Tools(host.name, rng, self.ledger, self.ends_of, self.trouble),
            context=Contexts(rng, self.trouble),
            now_ms=clock_ms,
        )
        slot.worker = Worker(slot.process)
        router = Router(log, MODULE_EVENTS, clock_ms)
        slot.main = self.loop.spawn(host, _live(slot.worker, router), name=host.name)
        slot.main.add_done_callback(lambda task: self._ended(slot, host, task), context=OUTSIDE.context())
        self.say(host, f"starts, as {slot.process.runner}")

    def kill(self, slot: Slot) -> None:
        """Let a process die where it is."""
        if slot.host is not None:
            self.say(slot.host, "is killed")
            self.loop.kill(slot.host)
            slot.host = slot.process = slot.worker = slot.main = None

    def stop(self, slot: Slot) -> None:
        """Ask a process to end in order."""
        if slot.main is not None and slot.host is not None:
            self.say(slot.host, "is asked to stop")
            slot.main.cancel()

    def _ended(self, slot: Slot, host: Host, task: asyncio.Task[None]) -> None:
        if slot.host is not host:
            return
        slot.host = slot.process = slot.worker = slot.main = None
        if not task.cancelled():
            self.deaths.append(f"{host.name}: {task.exception()!r}")
        self.say(host, "has ended")

    # --- rest -------------------------------------------------------------------------------------------------------

    def busy(self) -> str | None:
        """Return what is still under way, in words; None at rest."""
        if self.network.under_way:
            return "writes are on their way"
        if any(slot.host is not None and self.ledger.under_way[slot.host.name] for slot in self.slots):
            return "tool calls are under way"
        for group in self.coordinator.groups.values():
            if not group._settled:
                return f"the group of {group.topic} is not settled"
        for partition in range(self.scenario.partitions):
            holders = [s for s in self.slots if s.worker is not None and partition in s.worker.partitions]
            if len(holders) != 1 or holders[0].worker is None:
                return f"partition {partition} is with {len(holders)} processes"
            owner = holders[0].worker.partitions[partition]
            if not owner.caught_up or owner._next_command < self.end(COMMANDS, partition):
                return f"partition {partition} has read commands up to {owner._next_command}"
            if owner._events_end < self.end(EVENTS, partition):
                return f"partition {partition} has read events up to {owner._events_end}"
        for (topic, _), group in self.coordinator.groups.items():
            for partition in range(self.scenario.partitions):
                if topic == MODULE_EVENTS and group.committed.get(partition, 0) < self.end(topic, partition):
                    return f"module events are routed up to {group.committed}"
        return None

    def digest(self) -> str:
        """Return the sha256 of every record of every topic."""
        whole = hashlib.sha256()
        for topic in (MODULE_EVENTS, COMMANDS, EVENTS, CHECKPOINTS, DEAD_LETTERS):
            for record in self.broker.records(topic):
                whole.update(repr(record).encode())
        return whole.hexdigest()

    def facts(self) -> dict[str, int]:
        """Return how much happened."""
        topics = {topic: len(self.broker.records(topic)) for topic in (COMMANDS, EVENTS, CHECKPOINTS, DEAD_LETTERS)}
        return {
            **topics,
            "models": len(self.ledger.models),
            "tools": len(self.ledger.tools),
            "processes": len(self.started),
            "ignored": len(self.broker.records(EVENTS)) - self.scenario.partitions - self._counted(),
            "doubts": self._said("ai.tool.in_doubt"),
            "approvals": self._said("ai.approval.resolved"),
            "steps": self.loop.steps,
        }

    def _said(self, type_: str) -> int:
        return sum(record.header("ce_type") == type_.encode() for record in self.broker.records(EVENTS))

    def _counted(self) -> int:
        return sum(stream.head.sequence for stream in self.observer.look().values())

    def say(self, host: Host, text: str) -> None:
        """Tell the trace."""
        if self.trace is not None:
            self.trace(f"{self.loop.time():10.4f} {host.name:8} {text}")


async def _live(worker: Worker, router: Router) -> None:
    await asyncio.gather(worker.run(), router.run())


def _told(topic: str, draft: Draft) -> str:
    headers = dict(draft.headers)
    name = headers.get("ce_type", b"?").decode("utf-8", "replace").removeprefix("ai.")
    if topic == EVENTS:
        return f"{(draft.key or b'')[:4].decode()}#{headers.get('ce_sequence', b'?').decode()} {name}"
    if topic in (COMMANDS, MODULE_EVENTS):
        return f"{(draft.key or b'')[:4].decode('latin-1')} {name} {(draft.value or b'')[:160].decode('latin-1')}"
    return f"{(draft.key or b'')[:20].decode('latin-1')}"
