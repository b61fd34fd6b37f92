"""What passes between a run that delegates and the run that it delegates to: each is in its own agent's stream."""

from typing import Literal

from pydantic import Field

from schemas.ids import AgentId, CallId, ExecutionId
from schemas.message import Message

DELEGATE = "delegate"  # the name of the tool

OutcomeStatus = Literal["completed", "failed", "cancelled", "timed_out", "refused"]


class RuleFound(Message):
    """What became of a rule of delegation when a run began: it holds, or nobody can say whether it does.

    `rule` is its place in the `delegation_rules` of the run's version of its agent, from 0.
    """

    rule: int = Field(ge=0)
    verdict: Literal["holds", "unknown"]


class Budget(Message):
    """What a run may spend at most, together with those that it delegates to; None is as much as it likes."""

    tokens: int | None = Field(default=None, ge=0)
    cost_micros: int | None = Field(default=None, ge=0)


class Delegator(Message):
    """The tool call of another agent's run that a run answers."""

    agent_id: AgentId
    execution_id: ExecutionId
    call_id: CallId


class Outcome(Message):
    """How a delegated run ended, and what it used together with the runs that it delegated to itself.

    `execution_id` is None where it never began. Money is in micro-units.
    """

    agent_id: AgentId
    execution_id: ExecutionId | None
    status: OutcomeStatus
    runs: int = Field(ge=0)
    tokens_input: int = Field(ge=0)
    tokens_output: int = Field(ge=0)
    cost_micros: int = Field(ge=0)
