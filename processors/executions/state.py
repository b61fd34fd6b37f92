"""A run as its stream knows it."""

from dataclasses import dataclass, field
from typing import Literal

from processors.agents.state import GoalProgress
from schemas.catalogue import Catalogue, ToolDefinition
from schemas.chat import ChatMessage
from schemas.commands import RecalledMemory
from schemas.delegation import Budget, RuleFound
from schemas.events import ActionStatus, RunLimits, RunTotals
from schemas.governance import APPROVER, Requester
from schemas.ids import AgentId, ApprovalId, CallId, ExecutionId, SiteId
from schemas.message import Json, JsonObject
from schemas.module_events import Trigger

Status = Literal["assembling", "thinking", "acting", "completed", "failed", "cancelled", "timed_out"]
CallStatus = Literal["planned", "approval", "requested", "started", "completed", "failed", "denied", "in_doubt"]

ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled", "timed_out"})
SETTLED: frozenset[CallStatus] = frozenset({"completed", "failed", "denied"})
WAITS_FOR_A_PERSON: frozenset[CallStatus] = frozenset({"approval", "in_doubt"})


@dataclass(slots=True)
class Call:
    """A tool call. `outcome` is what the model is told of it, as JSON text, once it is settled.

    `child` is the agent that a delegation is for, `share` what its run may spend. `edited_by` are the people who
    changed its arguments. `due_ms` is until when a call waits.
    """

    id: CallId
    model_call_id: str
    tool: str
    arguments: JsonObject
    step: int
    status: CallStatus = "planned"
    idempotent: bool = True
    sha256: str = ""
    runner: str | None = None
    approval_id: ApprovalId | None = None
    expires_at_ms: int = 0
    role: str = APPROVER
    escalated: bool = False
    edited_by: tuple[str, ...] = ()
    outcome: str = ""
    child: AgentId | None = None
    delegated_at_ms: int = 0
    share: Budget | None = None
    due_ms: int | None = None

    @property
    def delegated(self) -> bool:
        """Whether another agent's run is under way for it."""
        return self.child is not None and self.status == "requested"

    @property
    def ended_as(self) -> ActionStatus:
        """How the call ended, if its run ends now: a begun one without a result is in doubt."""
        match self.status:
            case "completed" | "failed" | "denied" | "in_doubt":
                return self.status
            case "started":
                return "in_doubt"
            case "planned" | "approval" | "requested":
                return "open"


@dataclass(slots=True)
class Run:
    """The state of one run. `decide` only reads it; `evolve` assigns to it in place (see processors.agents.state).

    `transcript` is the prompt without its `opening`, which follows from the agent's version and the context, as
    `tools` do; `lines` is all of the prompt so far, encoded once. The deadline moves while a person is awaited:
    `paused_at_ms` is since when. `goals` is how far the agent's goals were when the run began, `rules` which of its
    rules of delegation were found to hold. `outcome`, `refused` and `reported` are of a run that works for another one;
    `requester` is the person for whom it works, if any. `reserved` counts its reservations: a question that has one
    may be asked. `assumed_tokens` and `assumed_cost_micros` are what replies are taken to have cost whose provider did
    not say. The provider counted `known_tokens` for the first `known_lines` of the prompt.
    """

    id: ExecutionId
    agent_id: AgentId
    site_id: SiteId
    agent_version: int
    trigger: Trigger
    limits: RunLimits
    correlation_id: str
    started_at_ms: int
    deadline_ms: int
    status: Status = "assembling"
    step: int = 0
    final: bool = False
    paused_at_ms: int | None = None
    catalogue_sha256: str = ""
    catalogue: Catalogue = field(default_factory=Catalogue)
    memories: tuple[RecalledMemory, ...] = ()
    rules: tuple[RuleFound, ...] = ()
    entity: Json = None
    opening: tuple[ChatMessage, ...] = ()
    tools: tuple[ToolDefinition, ...] = ()
    transcript: list[ChatMessage] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    calls: dict[CallId, Call] = field(default_factory=dict)
    llm_calls: int = 0
    tool_calls: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    cost_micros: int = 0
    goals: dict[str, GoalProgress] = field(default_factory=dict)
    delegations: int = 0
    delegated_runs: int = 0
    delegated_tokens_input: int = 0
    delegated_tokens_output: int = 0
    delegated_cost_micros: int = 0
    outcome: str = ""
    refused: bool = False
    reported: bool = False
    requester: Requester | None = None
    reserved: int = 0
    waits: bool = False
    assumed_tokens: int = 0
    assumed_cost_micros: int = 0
    known_tokens: int = 0
    known_lines: int = 0

    def say(self, message: ChatMessage) -> None:
        """Add a message to the transcript."""
        self.transcript.append(message)
        self.lines.append(message.encode())

    def end(self, status: Status, outcome: str) -> None:
        """Assign how the run ended; its outcome is kept where it must be told."""
        self.status = status
        if self.trigger.delegator is not None:
            self.outcome = outcome

    @property
    def ended(self) -> bool:
        """Whether the run has its terminal event."""
        return self.status in ENDED

    @property
    def unsettled(self) -> bool:
        """Whether an ended run waits on: for a late result, for the end of a run that it began, or to tell its own."""
        if self.trigger.delegator is not None and not self.reported:
            return True
        return any(call.status == "in_doubt" or call.delegated for call in self.calls.values())

    def open_calls(self) -> list[Call]:
        """Return the calls of the present step that are not settled."""
        return [call for call in self.calls.values() if call.step == self.step and call.status not in SETTLED]

    def totals(self) -> RunTotals:
        """Return what the run used so far."""
        return RunTotals(
            steps=self.step,
            llm_calls=self.llm_calls,
            tool_calls=self.tool_calls,
            tokens_input=self.tokens_input,
            tokens_output=self.tokens_output,
            cost_micros=self.cost_micros,
            delegated_runs=self.delegated_runs,
            delegated_cost_micros=self.delegated_cost_micros,
        )
