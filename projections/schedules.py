"""The schedules of agents: how far each was followed, and when it comes next."""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Uuid, statement


@dataclass(slots=True)
class ScheduleDelta:
    """What a batch changes in one schedule. Counts are added; `last_due_at` None means unchanged."""

    site_id: Uuid
    agent_id: Uuid
    schedule: str
    followed_until: datetime
    updated_at: datetime
    next_due_at: datetime | None = None
    last_due_at: datetime | None = None
    due_count: int = 0
    missed_count: int = 0


SCHEDULES = statement(
    ScheduleDelta,
    """
INSERT INTO projections.ai_agent_schedules AS s (
  site_id, agent_id, schedule, followed_until, next_due_at, last_due_at, due_count, missed_count, updated_at
)
SELECT site_id, agent_id, schedule, followed_until, next_due_at, last_due_at, due_count, missed_count, updated_at
FROM :rows
ON CONFLICT (site_id, agent_id, schedule) DO UPDATE SET
  followed_until = excluded.followed_until,
  next_due_at = excluded.next_due_at,
  last_due_at = coalesce(excluded.last_due_at, s.last_due_at),
  due_count = s.due_count + excluded.due_count,
  missed_count = s.missed_count + excluded.missed_count,
  updated_at = excluded.updated_at
""",
)
