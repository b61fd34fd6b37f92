"""A run as it stood at a point of its stream, folded from the log."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from processors.executions.prompt import messages_of, prompt_sha256
from processors.executions.state import Run
from processors.runtime.awaiting import Effect, awaiting
from processors.runtime.reading import fold
from processors.runtime.stream import Stream
from schemas.agents import AgentConfig
from schemas.catalogue import ToolDefinition
from schemas.chat import ChatMessage
from schemas.envelope import EventEnvelope
from schemas.errors import NotFoundError
from schemas.events import ExecutionStarted, StepObserved
from schemas.ids import AgentId, ExecutionId
from streams.chain import Heads
from streams.log import Record
from streams.records import decode_event


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one step, made again from the log; `recorded_sha256` is what `ai.step.observed` says of it."""

    step: int
    messages: tuple[ChatMessage, ...]
    tools: tuple[ToolDefinition, ...]
    recorded_sha256: str

    @property
    def sha256(self) -> str:
        """The sha256 of what was made."""
        return prompt_sha256(self.messages, self.tools)

    @property
    def is_the_recorded_one(self) -> bool:
        """Whether it is, byte for byte, what was asked."""
        return self.sha256 == self.recorded_sha256


@dataclass(slots=True)
class RunReplay:
    """Folds an agent's stream up to a sequence, or to its end, and keeps hold of one run.

    Attributes:
        run: Its state at that point, also where the stream has forgotten it; None before it began.
        timeline: The run's events up to there.
        begins: The sequence at which the run begins; None if no record says so.
        ends: The sequence of the stream's last record that counts, in all.
    """

    agent_id: AgentId
    execution_id: ExecutionId
    until: int | None = None
    run: Run | None = None
    timeline: list[EventEnvelope] = field(default_factory=list)
    begins: int | None = None
    ends: int = 0
    _streams: dict[bytes, Stream] = field(default_factory=dict)
    _heads: Heads = field(default_factory=Heads)

    @property
    def sequence(self) -> int:
        """How far the stream was folded."""
        stream = self._streams.get(self.agent_id.encode())
        return stream.head.sequence if stream is not None else 0

    def add(self, record: Record) -> None:
        """Take the next record of the stream's partition.

        Raises:
            DecodeError: it counts, but this release can't read it.
        """
        if record.key != self.agent_id.encode() or not self._heads.admit(record):
            return
        self.ends += 1
        mine = record.header("ce_subject") == self.execution_id.encode()
        if mine and self.begins is None and record.header("ce_type") == ExecutionStarted.wire.encode():
            self.begins = self.ends
        if self.until is not None and self.ends > self.until:
            return
        fold(self._streams, record)
        if mine:
            self.timeline.append(decode_event(record))
        if self.begins == self.ends:  # held on to from here: the stream forgets it at its end
            self.run = self._streams[record.key].runs.get(self.execution_id)

    def config(self) -> AgentConfig:
        """Return the configuration that the run is pinned to; ask while the run lives.

        Raises:
            NotFoundError: nothing of the run is folded yet.
        """
        stream = self._streams.get(self.agent_id.encode())
        if stream is None or self.run is None:
            raise NotFoundError(f"the run {self.execution_id!r} has not begun at this point")
        return stream.agent.configs[self.run.agent_version]

    def awaits(self) -> tuple[Effect, ...]:
        """Return what the run waited for at that point."""
        return awaiting(self.run) if self.run is not None else ()


def prompt_of(records: Sequence[Record], agent_id: AgentId, execution_id: ExecutionId, step: int) -> Prompt:
    """Return the prompt of a run's step, from the records of its stream's partition.

    Raises:
        NotFoundError: there is no such run, or it did not come to that step.
        DecodeError: a record counts, but this release can't read it.
    """
    whole = RunReplay(agent_id, execution_id)
    for record in records:
        whole.add(record)
    asked = {e.event.step: e for e in whole.timeline if isinstance(e.event, StepObserved)}
    if step not in asked:
        known = f"its steps are 1 to {max(asked)}" if asked else "it asked nothing"
        raise NotFoundError(f"the run {execution_id!r} has no step {step}: {known}")
    then = RunReplay(agent_id, execution_id, asked[step].sequence)
    for record in records:
        then.add(record)
    observed = asked[step].event
    if then.run is None or not isinstance(observed, StepObserved):
        raise NotFoundError(f"the run {execution_id!r} is nowhere in the log")
    tools = () if then.run.final else then.run.tools
    return Prompt(step, messages_of(then.config(), then.run), tools, observed.prompt_sha256)
