"""Agents: what a person configured, and the figures of their runs."""

from dataclasses import dataclass
from datetime import datetime

from projections.db import Uuid, statement


@dataclass(slots=True)
class AgentDelta:
    """What a batch changes in one agent. `config` replaces, then `changes` replace single fields of it.

    None means unchanged. `deleted` says whether `deleted_at` is set or cleared.
    """

    site_id: Uuid
    id: Uuid
    created_at: datetime  # of the first event; it and `created_by` stand once the row is there
    created_by: str
    updated_at: datetime
    updated_by: str
    config: str | None = None
    changes: str | None = None
    agent_version: int | None = None
    is_active: bool | None = None
    deleted: bool | None = None
    deleted_at: datetime | None = None


AGENTS = statement(
    AgentDelta,
    """
MERGE INTO projections.ai_agent_definitions AS a
USING :rows ON a.site_id = d.site_id AND a.id = d.id
WHEN MATCHED THEN UPDATE SET
  config = coalesce(d.config::jsonb, a.config) || coalesce(d.changes::jsonb, '{}'),
  agent_version = coalesce(d.agent_version, a.agent_version),
  is_active = coalesce(d.is_active, a.is_active),
  updated_at = d.updated_at,
  updated_by = d.updated_by,
  deleted_at = CASE WHEN d.deleted IS NULL THEN a.deleted_at ELSE d.deleted_at END
WHEN NOT MATCHED THEN INSERT (
  site_id, id, config, agent_version, is_active, created_at, created_by, updated_at, updated_by, deleted_at
) VALUES (
  d.site_id, d.id, coalesce(d.config::jsonb, '{}') || coalesce(d.changes::jsonb, '{}'), coalesce(d.agent_version, 0),
  coalesce(d.is_active, false), d.created_at, d.created_by, d.updated_at, d.updated_by, d.deleted_at
)
""",
)


@dataclass(slots=True)
class StatsDelta:
    """What a batch adds to the figures of one agent."""

    site_id: Uuid
    agent_id: Uuid
    total_runs: int = 0
    successful_runs: int = 0
    failed_runs: int = 0
    cancelled_runs: int = 0
    timed_out_runs: int = 0
    total_tokens_used: int = 0
    total_actions_taken: int = 0
    response_ms_sum: int = 0
    last_run_at: datetime | None = None
    last_error: str | None = None


STATS = statement(
    StatsDelta,
    """
INSERT INTO projections.ai_agent_stats AS s (
  site_id, agent_id, total_runs, successful_runs, failed_runs, cancelled_runs, timed_out_runs, total_tokens_used,
  total_actions_taken, response_ms_sum, last_run_at, last_error
)
SELECT
  site_id, agent_id, total_runs, successful_runs, failed_runs, cancelled_runs, timed_out_runs, total_tokens_used,
  total_actions_taken, response_ms_sum, last_run_at, last_error
FROM :rows
ON CONFLICT (site_id, agent_id) DO UPDATE SET
  total_runs = s.total_runs + excluded.total_runs,
  successful_runs = s.successful_runs + excluded.successful_runs,
  failed_runs = s.failed_runs + excluded.failed_runs,
  cancelled_runs = s.cancelled_runs + excluded.cancelled_runs,
  timed_out_runs = s.timed_out_runs + excluded.timed_out_runs,
  total_tokens_used = s.total_tokens_used + excluded.total_tokens_used,
  total_actions_taken = s.total_actions_taken + excluded.total_actions_taken,
  response_ms_sum = s.response_ms_sum + excluded.response_ms_sum,
  last_run_at = coalesce(excluded.last_run_at, s.last_run_at),
  last_error = coalesce(excluded.last_error, s.last_error)
""",
)
