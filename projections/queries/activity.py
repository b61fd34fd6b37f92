"""What befell agents outside their runs: changes, skipped triggers, refused commands."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from projections.db import Pool
from projections.queries.reading import Where, fetch, make, page
from schemas.ids import AgentId, SiteId
from schemas.message import JsonObject

ActivityKind = Literal[
    "created", "updated", "activated", "deactivated", "deleted", "trigger_skipped", "command_rejected"
]

SELECT = """
SELECT site_id::text, agent_id::text, sequence, at, kind, reason, message, execution_id, actor, causation_id,
  correlation_id, details::text
FROM projections.ai_agent_activity
"""


@dataclass(frozen=True, slots=True)
class Activity:
    """One such event; `details` are its own fields, `causation_id` is the command that led to it."""

    site_id: SiteId
    agent_id: AgentId
    sequence: int
    at: datetime
    kind: ActivityKind
    reason: str | None
    message: str | None
    execution_id: str | None
    actor: str
    causation_id: str
    correlation_id: str
    details: JsonObject


async def list_activity(
    pool: Pool,
    site_id: SiteId | None,
    agent_id: AgentId,
    *,
    kind: ActivityKind | None = None,
    limit: int = 50,
    before: int | None = None,
) -> tuple[Activity, ...]:
    """Return an agent's activity, the newest first; `before` is the sequence of the last one of the page before."""
    where = Where()
    where.given("site_id = ?", site_id)
    where.add("agent_id = ?", agent_id)
    where.given("kind = ?", kind)
    where.given("sequence < ?", before)
    rows = await fetch(pool, where.sql(SELECT, f"ORDER BY sequence DESC LIMIT {page(limit)}"), *where.values)
    return tuple(make(Activity, row, json=("details",)) for row in rows)
