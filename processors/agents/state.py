"""An agent as its stream knows it: configuration, activity, what it admitted, what it handled."""

from collections import deque
from dataclasses import dataclass, field

from processors.runtime.ledger import HOUR_MS, Ledger
from schemas.agents import AgentConfig
from schemas.catalogue import Catalogue
from schemas.governance import SiteGrants
from schemas.ids import AgentId, ExecutionId, SiteId

DAY_MS = 24 * HOUR_MS
CATALOGUES_KEPT = 8  # newest catalogues a stream knows besides those that a live run refers to


@dataclass(frozen=True, slots=True)
class GoalProgress:
    """How far a goal is: what `schemas.events.GoalProgressed` said of it last."""

    value: float = 0.0
    total: float = 0.0
    count: int = 0
    achieved_at_ms: int | None = None
    period_start_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule as it was followed up to `after_ms`, and when it comes next (Unix ms).

    Not yet `known` is what was not looked up; known and None is what never comes again.
    """

    after_ms: int
    next_due_ms: int | None = None
    known: bool = False


@dataclass(frozen=True, slots=True)
class Spent:
    """What replies cost in a day or month of the calendar (UTC), from `start_ms` to before `end_ms`."""

    start_ms: int = 0
    end_ms: int = 0
    tokens: int = 0
    cost_micros: int = 0


@dataclass(frozen=True, slots=True)
class Hold:
    """What a question may cost at most, until it is known; `until_ms` where its run ended before."""

    tokens: int
    cost_micros: int
    until_ms: int | None = None


@dataclass(slots=True)
class Agent:
    """The state of one agent. `decide` only reads it; `evolve` assigns to it in place.

    In place, since a copy of it for each event costs more than the decision. `configs` has the current version
    and those to which live runs are pinned. `hour` and `day` hold the start times (Unix ms) that quotas count.
    `goals` has how far those of the configuration are that were ever moved, by name.
    `schedules` has those in force, by key; none while the agent is not active.
    `spent_day` and `spent_month` are what all its runs spent, `held` what questions under way may cost, and `queued`
    are the runs whose question waits for room in the budget, the longest waiting first.
    """

    id: AgentId
    site_id: SiteId
    exists: bool = False
    active: bool = False
    version: int = 0
    configs: dict[int, AgentConfig] = field(default_factory=dict)
    catalogues: dict[str, Catalogue] = field(default_factory=dict)
    triggers: Ledger = field(default_factory=Ledger)
    replies: Ledger = field(default_factory=Ledger)
    hour: deque[int] = field(default_factory=deque)
    day: deque[int] = field(default_factory=deque)
    goals: dict[str, GoalProgress] = field(default_factory=dict)
    schedules: dict[str, Planned] = field(default_factory=dict)
    site: SiteGrants | None = None
    tool_calls: dict[str, deque[int]] = field(default_factory=dict)
    spent_day: Spent = Spent()
    spent_month: Spent = Spent()
    held: dict[ExecutionId, Hold] = field(default_factory=dict)
    queued: list[ExecutionId] = field(default_factory=list)

    @property
    def config(self) -> AgentConfig:
        """The configuration in force; ask only where the agent has existed."""
        return self.configs[self.version]

    @property
    def catalogue(self) -> Catalogue:
        """The newest catalogue of tools and prices; an empty one before the first."""
        return next(reversed(self.catalogues.values()), Catalogue())
