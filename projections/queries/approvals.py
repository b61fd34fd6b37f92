"""Approvals, with the arguments of the calls that they are about."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from projections.db import Pool
from projections.queries.reading import Where, fetch, id_range, make, only, page
from schemas.errors import NotFoundError
from schemas.ids import AgentId, ApprovalId, CallId, ExecutionId, SiteId
from schemas.message import JsonObject

ApprovalStatus = Literal["pending", "approved", "denied", "expired"]

# Nobody needs to answer for a run that has ended: what was still pending then has expired.
STATUS = "CASE WHEN a.status = 'pending' AND e.outcome IS NOT NULL THEN 'expired' ELSE a.status END"
SELECT = f"""
SELECT a.site_id::text, a.id::text, a.execution_id::text, a.agent_id::text, d.slug AS agent_slug, a.call_id::text,
  coalesce(a.step_number, 0) AS step_number, coalesce(c.tool_name, a.action_type, '') AS tool_name,
  coalesce(a.arguments, c.input)::text AS arguments, coalesce(a.action_description, '') AS action_description,
  coalesce(a.risk_level, 'critical') AS risk_level, coalesce(a.risk_explanation, '') AS risk_explanation,
  {STATUS} AS status,
  a.created_at, a.expires_at, a.resolved_at, a.resolved_by, a.resolution_note, coalesce(a.role, 'approver') AS role,
  a.escalated_at, a.edited_by, a.replaces::text, a.replaced_by::text, a.call_sha256, e.requested_by
FROM projections.ai_agent_approvals a
LEFT JOIN projections.ai_agent_executions e ON e.site_id = a.site_id AND e.id = a.execution_id
LEFT JOIN projections.ai_agent_tool_calls c ON c.site_id = a.site_id AND c.id = a.call_id
LEFT JOIN projections.ai_agent_definitions d ON d.site_id = a.site_id AND d.id = a.agent_id
"""  # noqa: S608 - nothing in it comes from outside


@dataclass(frozen=True, slots=True)
class Approval:
    """A risky call and a person's word on it. Times are UTC."""

    site_id: SiteId
    id: ApprovalId
    execution_id: ExecutionId
    agent_id: AgentId
    agent_slug: str | None
    call_id: CallId
    step_number: int
    tool_name: str
    arguments: JsonObject | None
    action_description: str
    risk_level: str
    risk_explanation: str
    status: ApprovalStatus
    created_at: datetime
    expires_at: datetime | None
    resolved_at: datetime | None
    resolved_by: str | None
    resolution_note: str | None
    role: str
    escalated_at: datetime | None
    edited_by: str | None
    replaces: ApprovalId | None
    replaced_by: ApprovalId | None
    call_sha256: str | None
    requested_by: str | None


async def pending_approvals(
    pool: Pool, site_id: SiteId | None, *, limit: int = 100, after: ApprovalId | None = None
) -> tuple[Approval, ...]:
    """Return what waits for a person, the oldest first; `after` is the id of the last one of the page before."""
    where = Where()
    where.given("a.site_id = ?", site_id)
    where.given("a.id > ?", after)
    where.add("a.status = 'pending'")
    where.add("e.outcome IS NULL")
    rows = await fetch(pool, where.sql(SELECT, f"ORDER BY a.id LIMIT {page(limit)}"), *where.values)
    return tuple(make(Approval, row, json=("arguments",)) for row in rows)


async def list_approvals(
    pool: Pool, site_id: SiteId, *, status: ApprovalStatus | None = None, limit: int = 100
) -> tuple[Approval, ...]:
    """Return approvals, also those that were answered, the newest first; what is pending is for `pending_approvals`."""
    where = Where()
    where.add("a.site_id = ?", site_id)
    where.given(f"{STATUS} = ?", status)
    rows = await fetch(pool, where.sql(SELECT, f"ORDER BY a.id DESC LIMIT {page(limit)}"), *where.values)
    return tuple(make(Approval, row, json=("arguments",)) for row in rows)


async def approvals_of(pool: Pool, site_id: SiteId, execution_id: ExecutionId) -> tuple[Approval, ...]:
    """Return the approvals of a run, in order."""
    where = Where()
    where.add("a.site_id = ?", site_id)
    where.add("a.execution_id = ?", execution_id)
    rows = await fetch(pool, where.sql(SELECT, "ORDER BY a.id"), *where.values)
    return tuple(make(Approval, row, json=("arguments",)) for row in rows)


async def get_approval(pool: Pool, site_id: SiteId | None, ref: str) -> Approval:
    """Return the approval of that id, or of the only id that begins so.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    if (ids := id_range(ref)) is None:
        raise NotFoundError(f"{ref!r} is no approval's id, nor the beginning of one")
    where = Where()
    where.given("a.site_id = ?", site_id)
    where.add("a.id BETWEEN ?::uuid AND ?::uuid", *ids)
    rows = await fetch(pool, where.sql(SELECT, "LIMIT 2"), *where.values)
    return make(Approval, only(rows, "approval", ref), json=("arguments",))
