"""An agent as a person configures it: the fields of the specification's `ai_agents` and `ai_agent_goals`."""

import re
from datetime import datetime
from functools import cached_property
from typing import Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from schemas.agent_rules import DelegationRule, Expression, Glob, ModelName, MonitoringRule, Name, Slug, Text
from schemas.catalogue import RiskLevel
from schemas.conditions import compile_condition
from schemas.errors import ConditionError
from schemas.governance import APPROVER, EnforcedConstraint, Permission, RiskRule, Role
from schemas.message import STORED, Message
from schemas.module_events import SIGNAL_RAISED
from schemas.schedules import check_zone, parse_schedule, schedule_key

AgentType = Literal["assistant", "specialist", "orchestrator", "analyst", "guardian"]
Comparison = Literal["gt", "gte", "lt", "lte", "eq"]
MissedRuns = Literal["skip", "once", "all"]

Aggregate = Literal["sum", "last", "average"]
Period = Literal["hour", "day", "week", "month", "quarter", "year"]

CAPS = (
    "max_tokens_per_run",
    "max_tokens_per_day",
    "max_tokens_per_month",
    "max_cost_micros_per_run",
    "max_cost_micros_per_day",
    "max_cost_micros_per_month",
)

_EVENT_TRIGGER = re.compile(r"event:[A-Za-z0-9_.*-]{1,200}")
_PLAIN_TRIGGERS = ("manual", "webhook")
_EVENT, _SCHEDULE = "event:", "schedule:"


class Goal(Message):
    """What an agent works towards; `priority` 10 matters most.

    A goal with an `event` (a glob of types, of the modules or of the agent's own `ai.*`) is measured: `progress`, CEL
    over the event, says by how much, where `condition` holds. `aggregate` makes the goal's value of these amounts.
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
    condition: Expression | None = None
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
    enforced_constraints: tuple[EnforcedConstraint, ...] = Field(default=(), max_length=50)
    examples: tuple[Example, ...] = Field(default=(), max_length=20)

    triggers: tuple[str, ...] = Field(default=("manual",), max_length=100)
    trigger_conditions: dict[str, str] = Field(default_factory=dict)
    timezone: str = Field(default="UTC", max_length=64)
    missed_runs: MissedRuns = "once"
    max_missed_runs: int = Field(default=10, ge=1, le=100)
    allow_self_trigger: bool = False
    max_causation_depth: int = Field(default=3, ge=1, le=16)

    is_public: bool = False
    llm_provider: str = Field(default="openai", max_length=50)
    llm_model: str = Field(default="gpt-4o", max_length=200)
    temperature: float = Field(default=0.7, ge=0, le=2, allow_inf_nan=False)
    max_tokens: int = Field(default=4096, ge=1, le=1_000_000)
    fallback_models: tuple[ModelName, ...] = Field(default=(), max_length=8)

    max_steps_per_run: int = Field(default=10, ge=1, le=100)
    max_tool_calls_per_step: int = Field(default=3, ge=1, le=32)
    timeout_seconds: int = Field(default=120, ge=1, le=86_400)
    max_runs_per_hour: int = Field(default=60, ge=1, le=10_000_000)
    max_runs_per_day: int = Field(default=500, ge=1, le=100_000_000)
    max_concurrent_runs: int = Field(default=20, ge=1, le=100_000)
    max_tokens_per_run: int | None = Field(default=None, ge=1)
    max_tokens_per_day: int | None = Field(default=None, ge=1)
    max_tokens_per_month: int | None = Field(default=None, ge=1)
    max_cost_micros_per_run: int | None = Field(default=None, ge=1)
    max_cost_micros_per_day: int | None = Field(default=None, ge=1)
    max_cost_micros_per_month: int | None = Field(default=None, ge=1)

    allowed_tools: tuple[Glob, ...] = Field(default=(), max_length=200)
    denied_tools: tuple[Glob, ...] = Field(default=(), max_length=200)
    permissions: tuple[Permission, ...] | None = Field(default=None, max_length=100)

    risk_rules: tuple[RiskRule, ...] = Field(default=(), max_length=100)
    approval_threshold: RiskLevel = "high"
    approval_timeout_seconds: int = Field(default=86_400, ge=60, le=30 * 86_400)
    approver_role: Role = APPROVER
    on_denial: Literal["cancel", "tell"] = "cancel"
    on_expiry: Literal["cancel", "deny", "escalate"] = "cancel"
    escalate_to: Role | None = None

    managed_agents: tuple[Slug, ...] = Field(default=(), max_length=100)
    max_delegations_per_run: int = Field(default=8, ge=1, le=100)
    delegation_rules: tuple[DelegationRule, ...] = Field(default=(), max_length=50)
    report_templates: tuple[Slug, ...] = Field(default=(), max_length=50)
    monitoring_rules: tuple[MonitoringRule, ...] = Field(default=(), max_length=50)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str, info: ValidationInfo) -> str:
        return zone if info.context is STORED else check_zone(zone)

    @field_validator("triggers")
    @classmethod
    def _known_triggers(cls, triggers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for trigger in triggers:
            if trigger in _PLAIN_TRIGGERS or _EVENT_TRIGGER.fullmatch(trigger):
                continue
            if not trigger.startswith(_SCHEDULE):
                raise ValueError(
                    f"{trigger[:80]!r} is not a trigger; write 'event:crm.contact.created', 'event:contact.*', "
                    "'schedule:hourly', 'webhook' or 'manual'"
                )
            if info.context is not STORED:
                parse_schedule(trigger.removeprefix(_SCHEDULE))
        return triggers

    @field_validator("trigger_conditions")
    @classmethod
    def _checked_conditions(cls, conditions: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if info.context is STORED or "triggers" not in info.data:
            return conditions  # or what is wrong with triggers is said already
        able = [t for t in info.data["triggers"] if t.startswith(_EVENT) or t == "webhook"]
        for trigger, text in conditions.items():
            if trigger not in able:
                raise ValueError(
                    f"{trigger[:80]!r} is no trigger of this agent that brings an event to check; there are "
                    f"{', '.join(map(repr, able)) or 'none'}, to be written as they stand in triggers"
                )
            try:
                compile_condition(text)
            except ConditionError as error:
                raise ValueError(f"{trigger!r}: {error}") from None
        return conditions

    @cached_property
    def is_capped(self) -> bool:
        """Whether there is a cap on what its runs may spend."""
        return any(getattr(self, name) is not None for name in CAPS)

    @property
    def event_patterns(self) -> tuple[str, ...]:
        """The globs of event types that wake this agent; its rules' signals do without being named."""
        signals = (SIGNAL_RAISED,) if self.monitoring_rules else ()
        return (*(t.removeprefix(_EVENT) for t in self.triggers if t.startswith(_EVENT)), *signals)

    @property
    def schedule_keys(self) -> tuple[str, ...]:
        """The schedules that wake this agent, by name and time zone, such as `daily_9am @ Europe/Berlin`."""
        texts = (t.removeprefix(_SCHEDULE) for t in self.triggers if t.startswith(_SCHEDULE))
        return tuple(dict.fromkeys(schedule_key(text, self.timezone) for text in texts))
