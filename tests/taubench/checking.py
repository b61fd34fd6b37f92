"""What a task's run must have left: in the log, and in the shop."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from schemas.agents import AgentConfig
from schemas.commands import ResolveApproval
from schemas.events import (
    ApprovalRequested,
    ApprovalResolved,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    ExecutionTimedOut,
    StepThought,
    ToolCompleted,
    ToolFailed,
    TriggerSkipped,
)
from schemas.ids import AgentId, CallId
from streams.chain import Heads
from streams.log import Record
from streams.records import decode_event
from streams.topics import is_genesis
from tests.acceptance.system import config
from tests.taubench.counter import Counters
from tests.taubench.shop import READS
from tests.taubench.tasks import Action, Task, sha256

APPROVER = "manager"
ENDS = (ExecutionCompleted, ExecutionFailed, ExecutionCancelled, ExecutionTimedOut, TriggerSkipped)


def agent_of(task: Task) -> AgentConfig:
    """The agent that does a task, when its event comes."""
    return config(
        task.slug,
        "manual",
        f"event:{task.event_type}",
        model=task.slug,
        allowed_tools=("*",),
        max_steps_per_run=30,
        timeout_seconds=3_600,
    )


def yes(event: ApprovalRequested) -> ResolveApproval:
    """A person's consent to exactly what was asked for."""
    return ResolveApproval(
        execution_id=event.execution_id,
        approval_id=event.approval_id,
        approved=True,
        roles=(event.role,),
        call_sha256=event.call_sha256,
    )


def open_approvals(events: Iterable[Event]) -> list[ApprovalRequested]:
    """What waits for a person."""
    asked: dict[str, ApprovalRequested] = {}
    for event in events:
        if isinstance(event, ApprovalRequested):
            asked[event.approval_id] = event
        elif isinstance(event, ApprovalResolved):
            asked.pop(event.approval_id, None)
    return list(asked.values())


class Told:
    """The events of every agent that count, as records of `ai.events` come in, each partition in order."""

    def __init__(self) -> None:
        self._heads = Heads()
        self.events: defaultdict[AgentId, list[Event]] = defaultdict(list)

    def note(self, records: Iterable[Record]) -> None:
        for record in records:
            if not is_genesis(record) and self._heads.admit(record):
                envelope = decode_event(record)
                self.events[envelope.agent_id].append(envelope.event)


def is_done(events: Sequence[Event]) -> bool:
    """Whether a run of the agent has ended, well or not."""
    return any(isinstance(event, ENDS) for event in events)


def faults_of(task: Task, events: Sequence[Event], counters: Counters) -> list[str]:
    """Everything in which an agent's run, as its events tell it, differs from the task; nothing if all agrees."""
    started = [event for event in events if isinstance(event, ExecutionStarted)]
    if len(started) != 1 or not any(isinstance(event, ExecutionCompleted) for event in events):
        return [f"{task.slug}: {len(started)} runs were started, and the end was {events[-1].wire if events else None}"]
    planned = [call for event in events if isinstance(event, StepThought) for call in event.calls]
    results: dict[CallId, ToolCompleted | ToolFailed] = {}
    found = []
    for event in events:
        if isinstance(event, ToolCompleted | ToolFailed):
            if event.call_id in results:
                found.append(f"{task.slug}: {event.tool} has two results")
            results[event.call_id] = event
    if [(call.tool, call.arguments) for call in planned] != [(each.tool, each.arguments) for each in task.actions]:
        found.append(f"{task.slug}: other calls were made")
        return found
    for call, action in zip(planned, task.actions, strict=True):
        found += _result_faults(task, action, results.get(call.call_id))
    asked = [event.action_type for event in events if isinstance(event, ApprovalRequested)]
    if asked != [action.tool for action in task.actions if action.tool not in READS]:
        found.append(f"{task.slug}: a person was asked for {asked}")
    writes = [call.call_id for call, action in zip(planned, task.actions, strict=True) if action.writes]
    applied = [counters.applied[call_id] for call_id in writes]
    if applied != [0 if action.is_error else 1 for action in task.actions if action.writes]:
        found.append(f"{task.slug}: what changes something was carried out {applied} times")
    if counters.shop(started[0].execution_id).sha256() != task.final:
        found.append(f"{task.slug}: the shop's data is not what it should be")
    return found


def _result_faults(task: Task, action: Action, result: ToolCompleted | ToolFailed | None) -> list[str]:
    if result is None:
        return [f"{task.slug}: {action.tool} has no result"]
    said = result.error if isinstance(result, ToolFailed) else str(result.output)
    if isinstance(result, ToolFailed) == action.is_error and action.result_sha256 in (None, sha256(said)):
        return []
    return [f"{task.slug}: {action.tool} said something else: {said[:200]!r}"]
