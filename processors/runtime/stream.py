"""One stream: an agent and its runs, decided and folded together, in one order.

`decide` is pure: the same stream, command and time give the same events on every owner and every replay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from processors.agents import decider as agents
from processors.agents.schedules import accepts, due_trigger
from processors.agents.state import DAY_MS, Agent
from processors.executions import budgets, delegation, spending
from processors.executions import decider as executions
from processors.executions.delegation import refused_id
from processors.executions.endings import cancelled, failed
from processors.executions.metering import metered
from processors.executions.state import Run
from processors.runtime.ledger import fingerprint
from schemas.commands import (
    CANCELLED_AT_ONCE,
    ActivateAgent,
    AdvanceSchedule,
    CancelDelegation,
    CreateAgent,
    DeactivateAgent,
    DeleteAgent,
    RecordAttempt,
    RecordGoalProgress,
    RecordModelFailure,
    RecordThought,
    StartExecution,
    UpdateAgent,
)
from schemas.envelope import DECISION_LIMIT_BYTES, CommandEnvelope, is_person
from schemas.events import (
    AgentDeleted,
    Event,
    ExecutionStarted,
    RunEvent,
    TriggerSkipped,
)
from schemas.ids import AgentId, ExecutionId, SiteId
from schemas.module_events import Trigger
from streams.chain import NO_HEAD, Head

# As a tuple: a union is made anew each time that it is asked for.
_REPLIES = (RecordThought, RecordModelFailure, RecordAttempt)

CANCELLED_BYTES = DECISION_LIMIT_BYTES - 96 * 1024  # of runs that one command cancels; the rest is for what follows
EVENT_AROUND_BYTES = 900  # of an event's record, at most, besides its payload and what may be long in its headers

REPLY_KEPT_MS = DAY_MS  # a reply's id is remembered so long: no sender repeats a command for longer


@dataclass(slots=True)
class Stream:
    """The state of one stream. `head` is its last record that counted, `cause` the offset of that one's command.

    `runs` holds the live ones, and ended ones with a call in doubt.
    """

    agent: Agent
    head: Head = NO_HEAD
    at_ms: int = 0
    cause: int = -1
    runs: dict[ExecutionId, Run] = field(default_factory=dict)

    @classmethod
    def empty(cls, agent_id: AgentId, site_id: SiteId) -> "Stream":
        """Return the stream of an agent of whom nothing is said yet."""
        return cls(Agent(agent_id, site_id))

    @property
    def known(self) -> bool:
        """Whether the agent was ever created."""
        return self.agent.version > 0

    def live_runs(self) -> int:
        """Return how many runs have no terminal event yet."""
        return sum(not run.ended for run in self.runs.values())

    def under_way(self) -> int:
        """Return how many runs are live, or, where even more would not be too many, at least so many.

        Asked at every trigger: to count thousands of runs each time takes longer than all the rest.
        """
        kept = len(self.runs)
        return kept if self.known and kept < self.agent.config.max_concurrent_runs else self.live_runs()


def decide(stream: Stream, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
    """Return the new facts. A person's command always gives one, if only a rejection: somebody waits for it."""
    events = _decide(stream, envelope, at_ms)
    run_id: ExecutionId = getattr(envelope.command, "execution_id", ExecutionId(""))
    if budgets.concern(stream.agent, stream.runs.get(run_id)):
        events = budgets.budgeted(stream.agent, stream.runs, events, at_ms)
    if not events and is_person(envelope.actor):
        return [agents.rejected(envelope.command, "nothing_to_do", "that was done before, or can't be done now")]
    return events


def _decide(stream: Stream, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
    agent, command = stream.agent, envelope.command
    if envelope.site_id != agent.site_id:
        return [agents.rejected(command, "not_found", "there is no such agent at your site")]
    match command:
        case AdvanceSchedule() | RecordGoalProgress():
            return agents.decide(agent, command, stream.under_way(), at_ms, envelope.actor)
        case DeactivateAgent(cancel_runs=True) if agent.exists:
            return _deactivate_and_cancel(stream, command, envelope, at_ms)
        case DeleteAgent() if agent.exists:
            return _delete(stream, command, envelope, at_ms)
        case StartExecution() | CreateAgent() | UpdateAgent() | ActivateAgent() | DeactivateAgent() | DeleteAgent():
            if not agent.exists and not isinstance(command, CreateAgent | StartExecution):
                return [agents.rejected(command, "deleted", "the agent was deleted: create it again")]
            return agents.decide(agent, command, stream.under_way(), at_ms, envelope.actor)
    if isinstance(command, CancelDelegation):
        return _cancel_delegation(stream, command, envelope.actor, at_ms)
    if isinstance(command, _REPLIES) and _was_handled(agent, command, at_ms):
        return []
    found = stream.runs.get(command.execution_id)
    if found is not None:
        return executions.decide(agent, found, command, envelope.actor, at_ms)
    if isinstance(command, _REPLIES) and command.usage is not None:
        return [metered(agent.catalogue, command, "late")]
    if is_person(envelope.actor):
        return [agents.rejected(command, "not_found", "there is no such live run", command.execution_id)]
    return []


def _delete(stream: Stream, command: DeleteAgent, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
    """Cancel what runs, the newest first, and delete; asked again, if not all that runs could be cancelled at once."""
    live = [run for run in reversed(stream.runs.values()) if not run.ended]
    events, count = _cancel_some(live, "the agent was deleted", envelope, at_ms)
    if count == len(live):
        return [*events, *agents.decide(stream.agent, command, 0, at_ms, envelope.actor)]
    if stream.agent.active:
        stop = DeactivateAgent(cancel_runs=True)
        events += agents.decide(stream.agent, stop, 0, at_ms, envelope.actor)
    return events


def _deactivate_and_cancel(
    stream: Stream, command: DeactivateAgent, envelope: CommandEnvelope, at_ms: int
) -> list[Event]:
    """Cancel what runs, some at a time: asked again, also of an agent that is not active, it cancels the next."""
    live = [run for run in stream.runs.values() if not run.ended][:CANCELLED_AT_ONCE]
    events, _ = _cancel_some(live, "the agent was deactivated", envelope, at_ms)
    if stream.agent.active or not live:
        events += agents.decide(stream.agent, command, 0, at_ms, envelope.actor)
    return events


def _cancel_some(runs: Sequence[Run], reason: str, envelope: CommandEnvelope, at_ms: int) -> tuple[list[Event], int]:
    """Cancel as many of `runs` as fit into one decision, at least one; return the events, and how many it are.

    The end of a run lists its calls, so it may be a hundred times as large as another's.
    """
    events: list[Event] = []
    around = EVENT_AROUND_BYTES + len(envelope.actor) + len(envelope.traceparent or "") + len(envelope.id)
    left = CANCELLED_BYTES
    for count, run in enumerate(runs):
        ends = cancelled(run, reason, envelope.actor, at_ms)
        left -= sum(len(event.encode()) + around + len(run.correlation_id) for event in ends)
        if left < 0 and count:
            return events, count
        events += ends
    return events, len(runs)


def _cancel_delegation(stream: Stream, command: CancelDelegation, actor: str, at_ms: int) -> list[Event]:
    """Cancel the run that a trigger started; one that comes later finds its trigger handled."""
    trigger = command.trigger
    if not stream.agent.triggers.remembers(fingerprint(trigger.source, trigger.id), at_ms):
        return [agents.skipped(trigger, "cancelled", command.reason)]
    run = _live_run_of(stream, trigger)
    return [] if run is None else cancelled(run, command.reason, actor, at_ms)


def _live_run_of(stream: Stream, trigger: Trigger) -> Run | None:
    named = (trigger.source, trigger.id)
    live = (run for run in stream.runs.values() if not run.ended)
    return next((run for run in live if (run.trigger.source, run.trigger.id) == named), None)


def _was_handled(agent: Agent, reply: RecordThought | RecordModelFailure | RecordAttempt, at_ms: int) -> bool:
    return agent.replies.remembers(fingerprint(reply.reply_id), at_ms)


def decide_internal(stream: Stream, envelope: CommandEnvelope, at_ms: int) -> list[Event]:
    """Return what stands in the log for a command on which `decide`, `evolve` or `awaiting` failed.

    It takes no other path through the deciders, so that nothing can stop the partition.
    """
    command = envelope.command
    said = "this release could not decide the command: see the worker's log"
    if isinstance(command, StartExecution):
        if not stream.agent.triggers.remembers(fingerprint(command.trigger.source, command.trigger.id), at_ms):
            return [agents.skipped(command.trigger, "internal", said)]
        return [agents.rejected(command, "internal", said)] if is_person(envelope.actor) else []
    if isinstance(command, CancelDelegation):
        return _stopped(stream, command, said, at_ms)
    if isinstance(command, AdvanceSchedule) and accepts(stream.agent, command, at_ms):
        return _past(command, said)
    execution_id: ExecutionId | None = getattr(command, "execution_id", None)
    events: list[Event] = [agents.rejected(command, "internal", said, execution_id)]
    if isinstance(command, _REPLIES):
        unpaid = command.usage is not None and not _was_handled(stream.agent, command, at_ms)
        events += [metered(stream.agent.catalogue, command, "internal")] if unpaid else []
    run = stream.runs.get(execution_id) if execution_id is not None else None
    if run is not None and not run.ended:
        events += failed(run, "internal", said, at_ms)
    return events if run is None else events + delegation.settled(run, command, said)


def _stopped(stream: Stream, command: CancelDelegation, said: str, at_ms: int) -> list[Event]:
    """Return what stops a delegated run whose cancellation could not be decided: nobody waits for it any more."""
    trigger = command.trigger
    if not stream.agent.triggers.remembers(fingerprint(trigger.source, trigger.id), at_ms):
        return [agents.skipped(trigger, "internal", said)]
    run = _live_run_of(stream, trigger)
    events: list[Event] = [agents.rejected(command, "internal", said)]
    return events if run is None else events + failed(run, "internal", said, at_ms)


def _past(command: AdvanceSchedule, said: str) -> list[Event]:
    """Return what brings a schedule past a time that could not be decided: it must not ring for it for ever."""
    if command.due_ms is None:
        return [agents.advanced(command, None, command.missed), agents.rejected(command, "internal", said)]
    due = due_trigger(command, command.due_ms)
    return [agents.advanced(command, command.due_ms, command.missed), agents.skipped(due, "internal", said)]


def evolve(stream: Stream, event: Event, at_ms: int, correlation_id: str) -> None:
    """Assign what `event` says to `stream`; its place in the chain is the caller's to assign."""
    agent = stream.agent
    stream.at_ms = at_ms
    if isinstance(event, spending.PAID):
        if (paying := stream.runs.get(event.execution_id)) is not None:
            spending.assume(paying, event, spending.hold_of(agent, paying.id, at_ms))
        spending.evolve_paid(agent, event, at_ms)
        agent.replies.remember(fingerprint(event.reply_id), at_ms + REPLY_KEPT_MS, at_ms)
    if isinstance(event, ExecutionStarted):
        agents.evolve(agent, event, at_ms)
        run = stream.runs[event.execution_id] = executions.begin(event, agent.site_id, correlation_id, at_ms)
        if agent.goals:
            run.goals = dict(agent.goals)
        return
    if not isinstance(event, RunEvent):
        agents.evolve(agent, event, at_ms)
        if isinstance(event, TriggerSkipped) and event.delegator is not None:
            refused = executions.refuse(agent, event, event.delegator, correlation_id, at_ms)
            stream.runs[refused.id] = refused
        if not isinstance(event, AgentDeleted):
            _forget_unused(stream)
        return
    spending.evolve_agent(agent, event, at_ms)
    found = stream.runs.get(event.execution_id)
    if found is None:
        return
    executions.evolve(agent, found, event, at_ms)
    if found.ended and not found.unsettled:
        del stream.runs[event.execution_id]


def run_of(event: Event) -> ExecutionId | None:
    """Return the run that `event` changes; a refused delegation is kept as one until it was told."""
    if isinstance(event, TriggerSkipped):
        return None if event.delegator is None else refused_id(event.delegator)
    run_id: ExecutionId | None = getattr(event, "execution_id", None)
    return run_id


def _forget_unused(stream: Stream) -> None:
    runs = stream.runs.values()
    agents.forget_unused(stream.agent, {run.agent_version for run in runs}, {run.catalogue_sha256 for run in runs})
