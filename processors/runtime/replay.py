"""A run as it stood at a point of its stream, folded from the log."""

from dataclasses import dataclass, field

from processors.executions.state import Run
from processors.runtime.awaiting import Effect, awaiting
from processors.runtime.reading import fold
from processors.runtime.stream import Stream
from schemas.envelope import EventEnvelope
from schemas.events import ExecutionStarted
from schemas.ids import AgentId, ExecutionId
from streams.chain import Heads
from streams.log import Record
from streams.records import decode_event


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

    def awaits(self) -> tuple[Effect, ...]:
        """Return what the run waited for at that point."""
        return awaiting(self.run) if self.run is not None else ()
