"""The goals of an agent, and how far they are."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from projections.db import Pool
from projections.queries.reading import Where, fetch, make
from schemas.ids import AgentId, SiteId

SELECT = """
SELECT name, description, priority, success_metric, target_value, comparison, is_recurring, deadline, event, period,
  current_value, is_achieved, achieved_at, is_missed, event_count, period_start, updated_at
FROM projections.ai_agent_goals
"""


@dataclass(frozen=True, slots=True)
class AgentGoal:
    """A goal. `current_value` is None where nothing was measured, or nothing in the present period."""

    name: str
    description: str
    priority: int
    success_metric: str | None
    target_value: Decimal | None
    comparison: str
    is_recurring: bool
    deadline: datetime | None
    event: str | None
    period: str | None
    current_value: Decimal | None
    is_achieved: bool
    achieved_at: datetime | None
    is_missed: bool
    event_count: int | None
    period_start: datetime | None
    updated_at: datetime | None


async def list_goals(pool: Pool, site_id: SiteId | None, agent_id: AgentId) -> tuple[AgentGoal, ...]:
    """Return the goals of an agent, the most important first."""
    where = Where()
    where.given("site_id = ?", site_id)
    where.add("agent_id = ?", agent_id)
    rows = await fetch(pool, where.sql(SELECT, "ORDER BY priority DESC, position"), *where.values)
    return tuple(make(AgentGoal, row) for row in rows)
