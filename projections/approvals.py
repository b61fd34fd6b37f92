"""Approvals: asked for, then answered or expired."""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Uuid, statement


@dataclass(slots=True)
class ApprovalDelta:
    """What a batch knows of one approval; None means unchanged."""

    site_id: Uuid
    id: Uuid
    execution_id: Uuid
    agent_id: Uuid
    call_id: Uuid
    created_at: datetime  # of the first event; it stands once the row is there
    status: str
    step_number: int | None = None
    action_type: str | None = None
    action_description: str | None = None
    risk_level: str | None = None
    risk_explanation: str | None = None
    call_sha256: str | None = None
    expires_at: datetime | None = None
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution_note: str | None = None
    role: str | None = None
    escalated_at: datetime | None = None
    arguments: str | None = None
    edited_by: str | None = None
    replaces: Uuid | None = None
    replaced_by: Uuid | None = None


APPROVALS = statement(
    ApprovalDelta,
    """
MERGE INTO projections.ai_agent_approvals AS a
USING :rows ON a.site_id = d.site_id AND a.id = d.id
WHEN MATCHED THEN UPDATE SET
  status = d.status,
  step_number = coalesce(d.step_number, a.step_number),
  action_type = coalesce(d.action_type, a.action_type),
  action_description = coalesce(d.action_description, a.action_description),
  risk_level = coalesce(d.risk_level, a.risk_level),
  risk_explanation = coalesce(d.risk_explanation, a.risk_explanation),
  call_sha256 = coalesce(d.call_sha256, a.call_sha256),
  expires_at = coalesce(d.expires_at, a.expires_at),
  resolved_at = coalesce(d.resolved_at, a.resolved_at),
  resolved_by = coalesce(d.resolved_by, a.resolved_by),
  resolution_note = coalesce(d.resolution_note, a.resolution_note),
  role = coalesce(d.role, a.role),
  escalated_at = coalesce(d.escalated_at, a.escalated_at),
  arguments = coalesce(d.arguments::jsonb, a.arguments),
  edited_by = coalesce(d.edited_by, a.edited_by),
  replaces = coalesce(d.replaces, a.replaces),
  replaced_by = coalesce(d.replaced_by, a.replaced_by)
WHEN NOT MATCHED THEN INSERT (
  site_id, id, execution_id, agent_id, call_id, created_at, status, step_number, action_type, action_description,
  risk_level, risk_explanation, call_sha256, expires_at, resolved_at, resolved_by, resolution_note,
  role, escalated_at, arguments, edited_by, replaces, replaced_by
) VALUES (
  d.site_id, d.id, d.execution_id, d.agent_id, d.call_id, d.created_at, d.status, d.step_number, d.action_type,
  d.action_description, d.risk_level, d.risk_explanation, d.call_sha256, d.expires_at, d.resolved_at,
  d.resolved_by, d.resolution_note, d.role, d.escalated_at, d.arguments::jsonb, d.edited_by, d.replaces, d.replaced_by
)
""",
)
