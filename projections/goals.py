"""How far the measured goals of agents are."""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Uuid, statement


@dataclass(slots=True)
class GoalRow:
    """The last progress of a goal in a batch: it replaces what stands there. Numbers are text, cast to numeric."""

    site_id: Uuid
    agent_id: Uuid
    goal: str
    value: str
    total: str
    event_count: int
    achieved_at: datetime | None
    period_start: datetime | None
    period_end: datetime | None
    event_source: str
    event_id: str
    updated_at: datetime


@dataclass(slots=True)
class KeptGoals:
    """The goals of an agent that were in its configuration all through a batch; `names` is a JSON list."""

    site_id: Uuid
    agent_id: Uuid
    names: str


GOALS_DROPPED = statement(
    KeptGoals,
    """
DELETE FROM projections.ai_agent_goal_progress AS g USING :rows
WHERE g.site_id = d.site_id AND g.agent_id = d.agent_id AND NOT d.names::jsonb ? g.goal
""",
)

GOALS = statement(
    GoalRow,
    """
INSERT INTO projections.ai_agent_goal_progress AS g (
  site_id, agent_id, goal, value, total, event_count, achieved_at, period_start, period_end, event_source, event_id,
  updated_at
)
SELECT
  site_id, agent_id, goal, value::numeric, total::numeric, event_count, achieved_at, period_start, period_end,
  event_source, event_id, updated_at
FROM :rows
ON CONFLICT (site_id, agent_id, goal) DO UPDATE SET
  value = excluded.value,
  total = excluded.total,
  event_count = excluded.event_count,
  achieved_at = excluded.achieved_at,
  period_start = excluded.period_start,
  period_end = excluded.period_end,
  event_source = excluded.event_source,
  event_id = excluded.event_id,
  updated_at = excluded.updated_at
""",
)
