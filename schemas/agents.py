"""An agent as a person configures it: the fields of the specification's `ai_agents` and `ai_agent_goals`."""

import re
from datetime import datetime
from typing import Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from schemas.agent_rules import DelegationRule, Expression, Glob, MonitoringRule, Name, Slug, Text
from schemas.message import JsonObject, Message
from schemas.module_events import SIGNAL_RAISED

AgentType = Literal["assistant", "specialist", "orchestrator", "analyst", "guardian"]
Comparison = Literal["gt", "gte", "lt", "lte", "eq"]

Aggregate = Literal["sum", "last", "average"]
Period = Literal["hour", "day", "week", "month", "quarter", "year"]

_EVENT_TRIGGER = re.compile(r"event:[A-Za-z0-9_.*-]{1,200}")
_SCHEDULE_TRIGGER = re.compile(r"schedule:\S.{0,120}")
_PLAIN_TRIGGERS = ("manual", "webhook")


class Goal(Message):
    """What an agent works towards; `priority` 10 matters most.

    A goal with an `event` (a glob of types, of the modules or of the agent's own `ai.*`) is measured: `progress`, CEL
    over the event, says by how much; null moves nothing. `aggregate` makes the goal's value of these amounts.
    `period` (UTC) begins it anew; without one, a value goes on for ever.
    """

    name: Name
    description: Text = ""
    priority: int = Field(default=5, ge=1, le=10)
    metric: str | None = None
    target: float | None = Field(default=None, allow_inf_nan=False)
    comparison: Comparison = "gte"
    is_recurring: bool = True
    deadline: datetime | None = None
    event: Glob | None = None
    progress: Expression = "1"
    aggregate: Aggregate = "sum"
    period: Period | None = None


class Example(Message):
    """A few-shot example: what came in, and what a good answer is."""

    input: Text
    output: Text


class AgentConfig(Message):
    """One version of an agent, whole: an update replaces it. Money is in micro-units, time in seconds."""

    slug: Slug
    name: Name
    description: Text = ""
    avatar_url: str | None = Field(default=None, max_length=2_000)
    personality: Text = ""
    agent_type: AgentType = Field(validation_alias=AliasChoices("agent_type", "type"))
    domain: str | None = Field(default=None, max_length=100)
    capabilities: tuple[str, ...] = ()

    system_prompt: Text
    goals: tuple[Goal, ...] = Field(default=(), max_length=50)
    constraints: tuple[Text, ...] = Field(default=(), max_length=50)
    examples: tuple[Example, ...] = Field(default=(), max_length=20)

    triggers: tuple[str, ...] = Field(default=("manual",), max_length=100)
    trigger_conditions: JsonObject = Field(default_factory=dict)
    allow_self_trigger: bool = False
    max_causation_depth: int = Field(default=3, ge=1, le=16)

    is_public: bool = False
    llm_provider: str = Field(default="openai", max_length=50)
    llm_model: str = Field(default="gpt-4o", max_length=200)
    temperature: float = Field(default=0.7, ge=0, le=2, allow_inf_nan=False)
    max_tokens: int = Field(default=4096, ge=1, le=1_000_000)

    max_steps_per_run: int = Field(default=10, ge=1, le=100)
    max_tool_calls_per_step: int = Field(default=3, ge=1, le=32)
    timeout_seconds: int = Field(default=120, ge=1, le=86_400)
    max_runs_per_hour: int = Field(default=60, ge=1, le=10_000_000)
    max_runs_per_day: int = Field(default=500, ge=1, le=100_000_000)
    max_concurrent_runs: int = Field(default=20, ge=1, le=100_000)

    allowed_tools: tuple[Glob, ...] = Field(default=(), max_length=200)
    denied_tools: tuple[Glob, ...] = Field(default=(), max_length=200)

    managed_agents: tuple[Slug, ...] = Field(default=(), max_length=50)
    delegation_rules: tuple[DelegationRule, ...] = Field(default=(), max_length=50)
    report_templates: tuple[Slug, ...] = Field(default=(), max_length=50)
    monitoring_rules: tuple[MonitoringRule, ...] = Field(default=(), max_length=50)

    @field_validator("triggers")
    @classmethod
    def _known_triggers(cls, triggers: tuple[str, ...]) -> tuple[str, ...]:
        for trigger in triggers:
            if trigger in _PLAIN_TRIGGERS or _EVENT_TRIGGER.fullmatch(trigger) or _SCHEDULE_TRIGGER.fullmatch(trigger):
                continue
            raise ValueError(
                f"{trigger[:80]!r} is not a trigger; write 'event:crm.contact.created', 'event:contact.*', "
                "'schedule:hourly', 'webhook' or 'manual'"
            )
        return triggers

    @model_validator(mode="after")
    def _conditions_are_not_ignored(self) -> "AgentConfig":
        if self.trigger_conditions:
            raise ValueError("trigger_conditions are not evaluated yet: leave them out, or every event would match")
        return self

    @property
    def event_patterns(self) -> tuple[str, ...]:
        """The globs of event types that wake this agent; its rules' signals do without being named."""
        signals = (SIGNAL_RAISED,) if self.monitoring_rules else ()
        return (*(t.removeprefix("event:") for t in self.triggers if t.startswith("event:")), *signals)

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules that wake this agent, as they were written."""
        return tuple(t.removeprefix("schedule:") for t in self.triggers if t.startswith("schedule:"))
