"""Tool calls: planned in a thought, requested, perhaps started by one runner, ended."""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Uuid, statement


@dataclass(slots=True)
class CallDelta:
    """What a batch knows of one call; None means unchanged. `input` and `output` are JSON text."""

    site_id: Uuid
    id: Uuid
    execution_id: Uuid
    agent_id: Uuid
    planned_at: datetime  # of the first event; it stands once the row is there
    tool_name: str
    status: str
    step_number: int | None = None
    position: int | None = None
    model_call_id: str | None = None
    tool_version: str | None = None
    input: str | None = None
    output: str | None = None
    error_reason: str | None = None
    error: str | None = None
    call_sha256: str | None = None
    idempotency_key: str | None = None
    runner: str | None = None
    full_bytes: int | None = None
    full_sha256: str | None = None
    requested_at: datetime | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None


TOOL_CALLS = statement(
    CallDelta,
    """
MERGE INTO projections.ai_agent_tool_calls AS c
USING :rows ON c.site_id = d.site_id AND c.id = d.id
WHEN MATCHED THEN UPDATE SET
  status = d.status,
  step_number = coalesce(d.step_number, c.step_number),
  position = coalesce(d.position, c.position),
  model_call_id = coalesce(d.model_call_id, c.model_call_id),
  tool_version = coalesce(d.tool_version, c.tool_version),
  input = coalesce(d.input::jsonb, c.input),
  output = coalesce(d.output::jsonb, c.output),
  error_reason = coalesce(d.error_reason, c.error_reason),
  error = coalesce(d.error, c.error),
  call_sha256 = coalesce(d.call_sha256, c.call_sha256),
  idempotency_key = coalesce(d.idempotency_key, c.idempotency_key),
  runner = coalesce(d.runner, c.runner),
  full_bytes = coalesce(d.full_bytes, c.full_bytes),
  full_sha256 = coalesce(d.full_sha256, c.full_sha256),
  requested_at = coalesce(d.requested_at, c.requested_at),
  completed_at = coalesce(d.completed_at, c.completed_at),
  duration_ms = coalesce(d.duration_ms, c.duration_ms)
WHEN NOT MATCHED THEN INSERT (
  site_id, id, execution_id, agent_id, planned_at, tool_name, status, step_number, position, model_call_id,
  tool_version, input, output, error_reason, error, call_sha256, idempotency_key, runner,
  full_bytes, full_sha256, requested_at, completed_at, duration_ms
) VALUES (
  d.site_id, d.id, d.execution_id, d.agent_id, d.planned_at, d.tool_name, d.status, d.step_number, d.position,
  d.model_call_id, d.tool_version, d.input::jsonb, d.output::jsonb, d.error_reason, d.error, d.call_sha256,
  d.idempotency_key, d.runner, d.full_bytes, d.full_sha256, d.requested_at, d.completed_at, d.duration_ms
)
""",
)
