"""Runs: what a batch of events changes in them.

A delta holds what is new: sums add up, other values replace (None means unchanged and never "cleared"), so that
the row does not depend on where a batch ends.
"""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Uuid, statement


@dataclass(slots=True)
class RunDelta:
    """What a batch knows of one run. JSON is text."""

    site_id: Uuid
    id: Uuid
    agent_id: Uuid
    started_at: datetime  # of the first event; it stands once the row is there
    correlation_id: str
    updated_at: datetime
    last_sequence: int
    agent_version: int | None = None
    trigger_type: str | None = None
    trigger_event_type: str | None = None
    trigger_source: str | None = None
    trigger_id: str | None = None
    trigger_subject: str | None = None
    trigger_depth: int | None = None
    trigger_data: str | None = None
    parent_agent_id: Uuid | None = None
    parent_execution_id: Uuid | None = None
    parent_call_id: Uuid | None = None
    limits: str | None = None
    initial_context: str | None = None
    catalogue_sha256: str | None = None
    outcome: str | None = None
    pending_approvals: int = 0
    current_step: int = 0
    result: str | None = None
    error_reason: str | None = None
    error: str | None = None
    ended_by: str | None = None
    actions_taken: str | None = None
    llm_calls: int = 0
    tool_calls: int = 0
    tokens_input: int = 0
    tokens_output: int = 0
    tokens_cached: int = 0
    cost_micros: int = 0
    currency: str | None = None
    completed_at: datetime | None = None
    duration_ms: int | None = None
    delegated_runs: int = 0
    delegated_cost_micros: int = 0
    requested_by: str | None = None


EXECUTIONS = statement(
    RunDelta,
    """
MERGE INTO projections.ai_agent_executions AS e
USING :rows ON e.site_id = d.site_id AND e.id = d.id
WHEN MATCHED THEN UPDATE SET
  updated_at = d.updated_at,
  last_sequence = d.last_sequence,
  agent_version = coalesce(d.agent_version, e.agent_version),
  trigger_type = coalesce(d.trigger_type, e.trigger_type),
  trigger_event_type = coalesce(d.trigger_event_type, e.trigger_event_type),
  trigger_source = coalesce(d.trigger_source, e.trigger_source),
  trigger_id = coalesce(d.trigger_id, e.trigger_id),
  trigger_subject = coalesce(d.trigger_subject, e.trigger_subject),
  trigger_depth = coalesce(d.trigger_depth, e.trigger_depth),
  trigger_data = coalesce(d.trigger_data::jsonb, e.trigger_data),
  parent_agent_id = coalesce(d.parent_agent_id, e.parent_agent_id),
  parent_execution_id = coalesce(d.parent_execution_id, e.parent_execution_id),
  parent_call_id = coalesce(d.parent_call_id, e.parent_call_id),
  limits = coalesce(d.limits::jsonb, e.limits),
  initial_context = coalesce(d.initial_context::jsonb, e.initial_context),
  catalogue_sha256 = coalesce(d.catalogue_sha256, e.catalogue_sha256),
  outcome = coalesce(d.outcome, e.outcome),
  pending_approvals = e.pending_approvals + d.pending_approvals,
  current_step = greatest(e.current_step, d.current_step),
  result = coalesce(d.result, e.result),
  error_reason = coalesce(d.error_reason, e.error_reason),
  error = coalesce(d.error, e.error),
  ended_by = coalesce(d.ended_by, e.ended_by),
  actions_taken = coalesce(d.actions_taken::jsonb, e.actions_taken),
  llm_calls = e.llm_calls + d.llm_calls,
  tool_calls = e.tool_calls + d.tool_calls,
  tokens_input = e.tokens_input + d.tokens_input,
  tokens_output = e.tokens_output + d.tokens_output,
  tokens_cached = e.tokens_cached + d.tokens_cached,
  cost_micros = e.cost_micros + d.cost_micros,
  currency = coalesce(d.currency, e.currency),
  completed_at = coalesce(d.completed_at, e.completed_at),
  duration_ms = coalesce(d.duration_ms, e.duration_ms),
  delegated_runs = e.delegated_runs + d.delegated_runs,
  delegated_cost_micros = e.delegated_cost_micros + d.delegated_cost_micros,
  requested_by = coalesce(d.requested_by, e.requested_by)
WHEN NOT MATCHED THEN INSERT (
  site_id, id, agent_id, started_at, correlation_id, updated_at, last_sequence, agent_version,
  trigger_type, trigger_event_type, trigger_source, trigger_id, trigger_subject, trigger_depth, trigger_data,
  limits, initial_context, catalogue_sha256, outcome, pending_approvals, current_step,
  result, error_reason, error, ended_by, actions_taken,
  llm_calls, tool_calls, tokens_input, tokens_output, tokens_cached, cost_micros, currency, completed_at, duration_ms,
  parent_agent_id, parent_execution_id, parent_call_id, delegated_runs, delegated_cost_micros, requested_by
) VALUES (
  d.site_id, d.id, d.agent_id, d.started_at, d.correlation_id, d.updated_at, d.last_sequence, d.agent_version,
  d.trigger_type, d.trigger_event_type, d.trigger_source, d.trigger_id, d.trigger_subject, d.trigger_depth,
  d.trigger_data::jsonb, d.limits::jsonb, d.initial_context::jsonb, d.catalogue_sha256,
  d.outcome, d.pending_approvals, d.current_step,
  d.result, d.error_reason, d.error, d.ended_by, d.actions_taken::jsonb,
  d.llm_calls, d.tool_calls, d.tokens_input, d.tokens_output, d.tokens_cached, d.cost_micros, d.currency,
  d.completed_at, d.duration_ms,
  d.parent_agent_id, d.parent_execution_id, d.parent_call_id, d.delegated_runs, d.delegated_cost_micros, d.requested_by
)
""",
)
