"""A house in memory: models, tools and context as tests script them, and owners of partition 0."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from processors.executions.context import Context
from processors.executions.state import Run
from processors.models.port import ModelReply, ModelRequest
from processors.runtime.partition import Partition
from processors.runtime.process import Process
from processors.tools.port import ToolRequest, ToolResult
from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue
from schemas.chat import ToolCall, Usage
from schemas.commands import AnyCommand
from schemas.ids import AgentId, CommandId, SiteId, random_id
from streams.chain import Heads
from streams.log import Record
from streams.memory_log import MemoryLog
from streams.records import Asked, decode_event, encode_command
from streams.topics import AI_TOPICS, COMMANDS, EVENTS, MODULE_EVENTS, definitions, ensure_genesis, is_genesis
from tests.processors.samples import AGENT, CATALOGUE, SITE, START_MS, USER
from tests.processors.spec import Ask, Spec

PATIENCE_S = 10.0  # how long a test waits for what must come
Turn = str | tuple[ToolCall, ...]


async def until(predicate: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Wait until `predicate` holds."""
    async with asyncio.timeout(timeout_s):
        while not predicate():  # noqa: ASYNC110 - what tests wait for has no event of its own
            await asyncio.sleep(0.002)


def steps(*turns: Turn) -> Callable[[ModelRequest], Turn]:
    """Return a model's script: what it says at each step, in words or in calls."""
    return lambda request: turns[request.step - 1]


@dataclass
class StubModel:
    """A model that follows a script. While `gate` is not set, it thinks."""

    script: Callable[[ModelRequest], Turn] = field(default_factory=lambda: steps("Done."))
    gate: asyncio.Event | None = None
    requests: list[ModelRequest] = field(default_factory=list)
    cancelled: int = 0

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        turn = self.script(request)
        text, calls = (turn, ()) if isinstance(turn, str) else ("", turn)
        return ModelReply(
            reply_id=random_id(),
            provider=request.provider,
            model=request.model,
            text=text,
            tool_calls=calls,
            finish_reason="tool_calls" if calls else "stop",
            usage=Usage(input_tokens=10, output_tokens=1),
        )


@dataclass
class StubTools:
    """Tools that answer `found`, or what `answers` has for a tool's name. While `gate` is not set, they work."""

    answers: Mapping[str, ToolResult | Exception] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    requests: list[ToolRequest] = field(default_factory=list)
    cancelled: int = 0

    async def call(self, request: ToolRequest) -> ToolResult:
        self.requests.append(request)
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        answer = self.answers.get(request.tool.name, ToolResult(output="found"))
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class StubContext:
    """Tools and prices in force; each of `failures` is raised once first."""

    catalogue: Catalogue = CATALOGUE
    failures: list[Exception] = field(default_factory=list)
    asked: int = 0

    async def assemble(self, run: Run, config: AgentConfig) -> Context:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return Context(self.catalogue)


@dataclass
class Clock:
    """Time from START_MS on, which goes on by itself and can be moved."""

    begun_s: float = field(default_factory=time.monotonic)
    moved_ms: int = 0

    def __call__(self) -> int:
        return START_MS + self.moved_ms + int((time.monotonic() - self.begun_s) * 1000)


async def new_log(partitions: int = 1, clock: Clock | None = None) -> MemoryLog:
    """Return a log with all topics."""
    log = MemoryLog(clock=clock or Clock())
    log.create(definitions([MODULE_EVENTS]), partitions)
    for topic in AI_TOPICS:
        if topic.genesis:
            await ensure_genesis(log, topic.name)
    return log


def process(
    log: MemoryLog,
    model: StubModel | None = None,
    tools: StubTools | None = None,
    context: StubContext | None = None,
    clock: Clock | None = None,
) -> Process:
    """Return what the partitions of one process share; its clock is the log's unless told otherwise."""
    now_ms = clock or log._clock
    return Process(log, model or StubModel(), tools or StubTools(), context or StubContext(), now_ms=now_ms)


class Owner:
    """Owns partition 0 of `log`, as a member of a group of its own unless told otherwise."""

    def __init__(self, process: Process, log: MemoryLog, group: str = "owners") -> None:
        self.process = process
        self.member = log.member(COMMANDS, group, self._rebalanced)
        self.partition = Partition(0, process, self.member)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.member.__aenter__()
        self._task = asyncio.create_task(self.partition.run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self._task is not None
        self._task.cancel()
        results = await asyncio.gather(self._task, return_exceptions=True)
        await self.member.__aexit__(None, None, None)
        assert isinstance(results[0], asyncio.CancelledError), results

    async def _rebalanced(self, revoked: frozenset[int], assigned: frozenset[int]) -> None:
        if 0 in revoked:
            self.partition.revoked()
        if 0 in assigned:
            self.partition.assigned()

    async def done(self, log: MemoryLog) -> None:
        """Wait until every command that stands in the log now is decided."""
        end = (await log.bounds(COMMANDS, 0)).end
        await until(lambda: self.partition.caught_up and self.partition._next_command >= end)

    @property
    def effects(self) -> int:
        """How many effects are under way."""
        return len(self.partition._effects)


async def tell(
    log: MemoryLog,
    *asks: Ask,
    actor: str = USER,
    site: SiteId = SITE,
    agent: AgentId = AGENT,
    traceparent: str | None = None,
) -> list[CommandId]:
    """Send commands; what they name comes from the log as it stands."""
    sent: list[CommandId] = []
    for ask in asks:
        command: AnyCommand = ask(history(log)) if callable(ask) else ask
        sent.append(CommandId(random_id()))
        asked = Asked(sent[-1], site, agent, actor, "correlation-1", command, traceparent=traceparent)
        await log.send(COMMANDS, encode_command(asked))
    return sent


def counting(log: MemoryLog, partition: int = 0) -> Sequence[Record]:
    """Return the records of `ai.events` that count, by the one rule."""
    heads = Heads()
    return [r for r in log.records(EVENTS, partition) if not is_genesis(r) and heads.admit(r)]


def history(log: MemoryLog, agent: AgentId = AGENT) -> Spec:
    """Return the events of an agent as they stand in the log."""
    spec = Spec()
    for partition in range(log.count(EVENTS)):
        for record in counting(log, partition):
            if record.key == agent.encode():
                spec.note(decode_event(record).event)
    return spec


def lines(log: MemoryLog) -> list[str]:
    """Return the agent's events, a line each."""
    return history(log).lines
