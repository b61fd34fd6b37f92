"""What wakes an agent: an event of a module, a schedule, a webhook, a person, or another agent."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.delegation import Budget, Delegator
from schemas.message import Json, Message

TriggerType = Literal["event", "schedule", "webhook", "manual", "delegation"]

EventType = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]

SIGNAL_RAISED = "guardian.signal.raised"  # of a guardian's monitoring rule; its subject names the guardian

DAY_MS = 86_400_000
MODULE_EVENTS_KEPT_MS = 7 * DAY_MS  # retention of the topic `module.events`
TRIGGER_KEPT_MS = MODULE_EVENTS_KEPT_MS + DAY_MS  # a trigger's id is remembered so long after the trigger's own time
TRIGGER_AHEAD_MS = DAY_MS  # a trigger further in the future than this is refused: its clock is wrong


class Trigger(Message):
    """Why a run starts. (`source`, `id`) names it, as CloudEvents says; `time_ms` is the trigger's own time.

    `depth` counts the runs that led to this trigger, `caused_by` names the agent of the last of them, and
    `delegator` the call that waits for this run's end. `budget` is what a delegator leaves to the run.
    """

    type: TriggerType
    source: Reference
    id: Reference
    event_type: EventType | None = None
    time_ms: int = Field(ge=0)
    data: Json = None
    subject: str | None = None
    depth: int = Field(default=0, ge=0)
    caused_by: str | None = None
    delegator: Delegator | None = None
    budget: Budget | None = None
