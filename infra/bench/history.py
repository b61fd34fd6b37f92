"""A long history, made in this process by the very deciders, and appended to both topics in large batches."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.bench.stubs import MODEL, PRICE, PROVIDER, TEXT, TOOL, agent_config
from processors.runtime.decision import apply, decision_of
from processors.runtime.stream import Stream
from schemas.catalogue import Catalogue
from schemas.chat import ToolCall, Usage
from schemas.commands import (
    ActivateAgent,
    AnyCommand,
    CreateAgent,
    RecordContext,
    RecordThought,
    RecordToolResult,
    StartExecution,
    UpdateAgent,
)
from schemas.envelope import CommandEnvelope
from schemas.errors import RivalError
from schemas.events import Event, ExecutionStarted, StepThought
from schemas.ids import AgentId, CallId, CommandId, ExecutionId, SiteId, agent_id_of, random_id, timed_id
from schemas.module_events import Trigger
from streams.log import Draft, Log
from streams.partitioner import partition_of
from streams.records import Asked, encode_command
from streams.sizes import record_bytes
from streams.topics import COMMANDS, EVENTS

SOURCE = "/bench"
ACTOR = "system:bench"
FLUSH_BYTES = 1024 * 1024  # of drafts: one batch, far below what a topic takes
STEPS = 4  # of a whole run: three with a tool call, then the answer

RISKY = TOOL.model_copy(update={"name": "stub_pay", "risk": "critical", "is_dangerous": True})
CATALOGUE = Catalogue(tools=(TOOL, RISKY), prices=(PRICE,))


@dataclass(slots=True)
class History:
    """One partition's streams, and what is to be appended. Offsets are the next to write; `at_ms` goes on by itself."""

    log: Log
    number: int
    at_ms: int
    step_ms: float
    commands_end: int
    events_end: int
    streams: dict[AgentId, Stream] = field(default_factory=dict)
    events: int = 0
    _asked: list[Draft] = field(default_factory=list)
    _said: list[Draft] = field(default_factory=list)
    _size: int = 0
    _passed_ms: float = 0.0

    def create(self, site_id: SiteId, slug: str) -> AgentId:
        """Create an active agent that asks before it pays."""
        agent_id = agent_id_of(site_id, slug)
        self.streams[agent_id] = Stream.empty(agent_id, site_id)
        self.say(agent_id, CreateAgent(config=agent_config(slug)))
        self.say(agent_id, ActivateAgent())
        return agent_id

    def say(self, agent_id: AgentId, command: AnyCommand) -> Sequence[Event]:
        """Decide a command at once, as an owner would; what stands in the log afterwards is the same."""
        stream = self.streams[agent_id]
        self._passed_ms += self.step_ms
        at_ms = self.at_ms + int(self._passed_ms)
        id_ = CommandId(timed_id(at_ms, "bench", self.number, self.commands_end))
        site_id, correlation_id = stream.agent.site_id, f"bench-{self.commands_end}"
        asked = Asked(id_, site_id, agent_id, ACTOR, correlation_id, command, source=SOURCE)
        envelope = CommandEnvelope(
            id_, site_id, agent_id, ACTOR, correlation_id, None, self.commands_end, at_ms, command
        )
        decision = decision_of(stream, envelope)
        apply(stream, envelope, decision)
        self._asked.append(encode_command(asked))
        self._said += decision.drafts
        self._size += decision.size + record_bytes(self._asked[-1])
        self.commands_end += 1
        self.events_end += len(decision.drafts)
        self.events += len(decision.drafts)
        return decision.events

    def run(self, agent_id: AgentId, steps: int = STEPS, *, pays: bool = False) -> None:
        """Begin a run and go through so many steps of it; `pays`: it then waits for a person's word."""
        now_ms = self.at_ms + int(self._passed_ms)
        trigger = Trigger(type="manual", source=SOURCE, id=random_id(), time_ms=now_ms)
        (started,) = self.say(agent_id, StartExecution(trigger=trigger))
        assert isinstance(started, ExecutionStarted)  # noqa: S101 - nothing holds these agents back
        run_id = started.execution_id
        sha256 = CATALOGUE.sha256
        body = None if sha256 in self.streams[agent_id].agent.catalogues else CATALOGUE
        self.say(agent_id, RecordContext(execution_id=run_id, catalogue_sha256=sha256, catalogue=body))
        for step in range(1, steps + 1):
            last = step == STEPS
            tool = "" if last else RISKY.name if pays and step == steps else TOOL.name
            for call_id in self._think(agent_id, run_id, step, tool):
                if tool == TOOL.name:
                    output = {"query": TEXT[:80], "text": TEXT[:400], "count": 3}
                    self.say(agent_id, RecordToolResult(execution_id=run_id, call_id=call_id, output=output))

    def _think(self, agent_id: AgentId, run_id: ExecutionId, step: int, tool: str) -> list[CallId]:
        calls = (ToolCall(id=f"c{step}", name=tool, arguments={"query": TEXT[:80]}),) if tool else ()
        thought = RecordThought(
            execution_id=run_id,
            step=step,
            reply_id=random_id(),
            provider=PROVIDER,
            model=MODEL,
            text=TEXT[:480],
            tool_calls=calls,
            finish_reason="tool_calls" if calls else "stop",
            usage=Usage(input_tokens=1_000, output_tokens=120),
            latency_ms=900,
        )
        said = self.say(agent_id, thought)
        return [call.call_id for event in said if isinstance(event, StepThought) for call in event.calls]

    async def flush(self, *, all_of_it: bool = False) -> None:
        """Append what was said, if it is much.

        Raises:
            RivalError: somebody else writes to this partition.
        """
        if self._size < FLUSH_BYTES and not all_of_it:
            return
        for topic, drafts, end in ((EVENTS, self._said, self.events_end), (COMMANDS, self._asked, self.commands_end)):
            if drafts and await self.log.append(topic, self.number, drafts) + len(drafts) != end:
                raise RivalError(f"somebody else writes to {topic!r} partition {self.number}")
        self._said, self._asked, self._size = [], [], 0


async def open_histories(log: Log, site_id: SiteId, agents: int, events: int, span_ms: int) -> list[History]:
    """Return a history for each partition, with its share of the agents; `events` of them will span `span_ms`."""
    count = await log.partitions(EVENTS)
    now_ms = time.time_ns() // 1_000_000
    histories = []
    for number in range(count):
        commands_end, events_end = [(await log.bounds(topic, number)).end for topic in (COMMANDS, EVENTS)]
        step_ms = span_ms / max(1, events // count * 9 // 17)  # a whole run has 9 commands and 17 events
        histories.append(History(log, number, now_ms - span_ms, step_ms, commands_end, events_end))
    for place in range(agents):
        slug = f"bench-{place}"
        histories[partition_of(agent_id_of(site_id, slug).encode(), count)].create(site_id, slug)
    for history in histories:
        while len(history.streams) < 2:  # one to work, one to ask
            place += 1
            if partition_of(agent_id_of(site_id, f"bench-{place}").encode(), count) == history.number:
                history.create(site_id, f"bench-{place}")
    return histories


def probe(history: History) -> Draft:
    """Return a command that is decided at once and leads to nothing else; what follows is not in the history."""
    agent_id = next(reversed(history.streams))
    stream = history.streams[agent_id]
    config = stream.agent.config.model_copy(update={"description": random_id()})
    asked = Asked(
        CommandId(random_id()), stream.agent.site_id, agent_id, "user:bench", "probe", UpdateAgent(config=config)
    )
    return encode_command(asked)
