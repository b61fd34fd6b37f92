"""What can be asked of an agent's stream. Imperative; the answer is events, or `ai.command.rejected`.

Whatever is not deterministic enters here: a model's reply, a tool's result, a person's word, the tools and
prices in force. Time is the record's append time.
"""

from typing import ClassVar, Literal

from pydantic import Field

from schemas.agent_rules import Name
from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue
from schemas.chat import FinishReason, ToolCall, Usage
from schemas.delegation import Outcome
from schemas.governance import Requester, Role, SiteGrants
from schemas.ids import ApprovalId, CallId, ExecutionId
from schemas.message import Json, JsonObject, Message
from schemas.module_events import EventType, Reference, Trigger

LATEST_MS = 253_402_300_799_999  # the end of the year 9999: no calendar goes further
ERROR_CHARS = 2_000  # an error's text in the log is cut here: enough to understand it, too short to smuggle a body
CANCELLED_AT_ONCE = 100  # runs that one command cancels: the events of one command have a limit
AMOUNT_LIMIT = 1e15  # what one event may do for a goal: sums stay exact to some decimals


class Command(Message):
    """A request to a stream; `wire` is its name in `ce_type`, which never changes."""

    wire: ClassVar[str]


class CreateAgent(Command):
    """Create the agent, or create it anew after it was deleted."""

    wire = "ai.agent.create"
    config: AgentConfig


class UpdateAgent(Command):
    """Replace the configuration; `expected_version` refuses an update of what somebody else changed meanwhile.

    `rolled_back_to` says that the configuration is that of an earlier version, `reason` why the change is made.
    """

    wire = "ai.agent.update"
    config: AgentConfig
    expected_version: int | None = None
    rolled_back_to: int | None = Field(default=None, ge=1)
    reason: str = Field(default="", max_length=ERROR_CHARS)


class ActivateAgent(Command):
    """Let triggers start runs."""

    wire = "ai.agent.activate"


class DeactivateAgent(Command):
    """Start no more runs. What runs may finish, or with `cancel_runs` is cancelled, CANCELLED_AT_ONCE at a time."""

    wire = "ai.agent.deactivate"
    cancel_runs: bool = False


class DeleteAgent(Command):
    """Remove the agent and cancel what runs; its history stays.

    Where more runs than one decision may cancel, it is deactivated, and removed when that was asked again for the last.
    """

    wire = "ai.agent.delete"


class RecordGoalProgress(Command):
    """What an event did for a goal: `amount` is what the goal's expression gave for it. (`source`, `id`) names it."""

    wire = "ai.goal.record_progress"
    goal: Name
    amount: float = Field(allow_inf_nan=False, ge=-AMOUNT_LIMIT, le=AMOUNT_LIMIT)
    source: Reference
    id: Reference
    event_type: EventType
    time_ms: int = Field(ge=0)


class StartExecution(Command):
    """Start a run, if the agent admits the trigger; a trigger seen before changes nothing.

    `requester` is for whom it works, as the edge found; without one, it is the site's own automation. A person who asks
    works for themselves, whatever is said here of somebody else.
    """

    wire = "ai.execution.start"
    trigger: Trigger
    requester: Requester | None = None


class AdvanceSchedule(Command):
    """A timer's word on one schedule: which time is due, and when it comes next; judged by the time of this record.

    It holds for a stream that stands at `after_ms`, and brings it to `until_ms`. `due_ms` is to start a run, if any
    is; `missed` times before it start none. The times come with the command, since a time zone's rules are no part of
    the log. `next_due_ms` is None if the schedule never comes again. Times are in Unix ms.
    """

    wire = "ai.agent.advance_schedule"
    schedule: str = Field(max_length=300)
    after_ms: int
    until_ms: int
    due_ms: int | None = None
    missed: int = Field(default=0, ge=0, le=1_000_000_000)
    next_due_ms: int | None = Field(default=None, le=LATEST_MS)


class CancelDelegation(Command):
    """Undo the start that `trigger` asked for: the run that delegated has ended. It holds also if it comes first."""

    wire = "ai.delegation.cancel"
    trigger: Trigger
    reason: str = Field(default="", max_length=ERROR_CHARS)


class ReportDelegation(Command):
    """An owner's word that a run's end was told to the run that it worked for."""

    wire = "ai.delegation.report"
    execution_id: ExecutionId


class CancelExecution(Command):
    """End a run at a person's wish."""

    wire = "ai.execution.cancel"
    execution_id: ExecutionId
    reason: str = Field(default="", max_length=ERROR_CHARS)


class TimeOutExecution(Command):
    """A timer's word that a run's time is over; judged by the time of this record."""

    wire = "ai.execution.time_out"
    execution_id: ExecutionId


class RecalledMemory(Message):
    """A memory as it was found for a run. `score` is its similarity from 0 to 1."""

    id: str
    kind: str
    content: str
    score: float


class RecordContext(Command):
    """What a run knows when it begins. The catalogue's body comes only if the stream does not know its sha256."""

    wire = "ai.context.record"
    execution_id: ExecutionId
    memories: tuple[RecalledMemory, ...] = ()
    entity: Json = None
    catalogue_sha256: str
    catalogue: Catalogue | None = None
    site: SiteGrants | None = None


class RecordThought(Command):
    """A model's reply. `reply_id` names this very reply: it is paid for once, whatever becomes of it."""

    wire = "ai.step.record_thought"
    execution_id: ExecutionId
    step: int = Field(ge=1)
    reply_id: str = Field(min_length=1, max_length=200)
    provider: str
    model: str
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason = "stop"
    usage: Usage = Usage()
    latency_ms: int = Field(default=0, ge=0)


class RecordModelFailure(Command):
    """A model call that was given up; `usage` is what was spent on it all the same."""

    wire = "ai.step.record_model_failure"
    execution_id: ExecutionId
    step: int = Field(ge=1)
    reply_id: str = Field(min_length=1, max_length=200)
    provider: str
    model: str
    reason: str = Field(max_length=100)
    message: str = Field(default="", max_length=ERROR_CHARS)
    usage: Usage | None = None


class RecordAttempt(Command):
    """A question to a model that gave no thought and was followed by another try.

    `usage` is what its provider told; `unsettled`: tokens may have been spent of which nobody told us.
    """

    wire = "ai.step.record_attempt"
    execution_id: ExecutionId
    step: int = Field(ge=1)
    reply_id: str = Field(min_length=1, max_length=200)
    provider: str
    model: str
    reason: str = Field(max_length=100)
    message: str = Field(default="", max_length=ERROR_CHARS)
    usage: Usage | None = None
    unsettled: bool = False


class StartTool(Command):
    """Ask for the right to run, once, a call that can't be repeated. `runner` names one process."""

    wire = "ai.tool.start"
    execution_id: ExecutionId
    call_id: CallId
    runner: str = Field(max_length=100)


class RecordToolResult(Command):
    """What a tool answered. `error` is set exactly where it failed; `delegated` where another agent's run answered."""

    wire = "ai.tool.record_result"
    execution_id: ExecutionId
    call_id: CallId
    output: Json = None
    error: str | None = Field(default=None, max_length=ERROR_CHARS)
    full_bytes: int | None = None  # the output's length, where it was cut
    full_sha256: str | None = None
    duration_ms: int = Field(default=0, ge=0)
    delegated: Outcome | None = None


class DoubtTool(Command):
    """An owner's word that the runner of a started call is gone."""

    wire = "ai.tool.doubt"
    execution_id: ExecutionId
    call_id: CallId
    runner: str = Field(max_length=100)


class ResolveDoubt(Command):
    """A person's word on what became of a call in doubt."""

    wire = "ai.tool.resolve_doubt"
    execution_id: ExecutionId
    call_id: CallId
    outcome: Literal["completed", "failed"]
    output: Json = None
    note: str = Field(default="", max_length=ERROR_CHARS)


class ResolveApproval(Command):
    """A person's word on a risky call. What is executed are the arguments in the log, never any sent here.

    `roles` are the person's, as the edge that authenticated them knows: never what a client says of itself.
    `call_sha256` is of what the person saw. Other `arguments` don't change what was asked: they ask anew, and somebody
    else must agree.
    """

    wire = "ai.approval.resolve"
    execution_id: ExecutionId
    approval_id: ApprovalId
    approved: bool
    note: str = Field(default="", max_length=ERROR_CHARS)
    roles: tuple[Role, ...] = Field(default=(), max_length=100)
    call_sha256: str | None = Field(default=None, max_length=64)
    arguments: JsonObject | None = None


class ExpireApproval(Command):
    """A timer's word that nobody answered in time; judged by the time of this record."""

    wire = "ai.approval.expire"
    execution_id: ExecutionId
    approval_id: ApprovalId


class EndWait(Command):
    """A timer's word that a call has waited long enough; judged by the time of this record."""

    wire = "ai.wait.end"
    execution_id: ExecutionId
    call_id: CallId


AgentCommand = (
    CreateAgent
    | UpdateAgent
    | ActivateAgent
    | DeactivateAgent
    | DeleteAgent
    | RecordGoalProgress
    | StartExecution
    | AdvanceSchedule
    | CancelDelegation
)
RunCommand = (
    CancelExecution
    | ReportDelegation
    | TimeOutExecution
    | RecordContext
    | RecordThought
    | RecordModelFailure
    | RecordAttempt
    | StartTool
    | RecordToolResult
    | DoubtTool
    | ResolveDoubt
    | ResolveApproval
    | ExpireApproval
    | EndWait
)
AnyCommand = AgentCommand | RunCommand

COMMANDS: dict[str, type[AgentCommand] | type[RunCommand]] = {
    command.wire: command
    for command in (
        CreateAgent,
        UpdateAgent,
        ActivateAgent,
        DeactivateAgent,
        DeleteAgent,
        RecordGoalProgress,
        StartExecution,
        AdvanceSchedule,
        CancelDelegation,
        ReportDelegation,
        CancelExecution,
        TimeOutExecution,
        RecordContext,
        RecordThought,
        RecordModelFailure,
        RecordAttempt,
        StartTool,
        RecordToolResult,
        DoubtTool,
        ResolveDoubt,
        ResolveApproval,
        ExpireApproval,
        EndWait,
    )
}
