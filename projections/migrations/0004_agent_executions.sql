-- Runs. A terminal status is final (`outcome`); before it, a run waits while an approval of its own is pending.
-- An id begins with the time of its start (UUIDv8), so the primary key also is the order of time.
--
-- Tables of runs have no foreign keys: the projector is their only writer, a stream's order brings parents first,
-- and a bad event must not stop a partition. Checking them cost a third of Postgres' time when measured.
-- The composite keys keep sites apart: every join is over (site_id, id).

CREATE TABLE projections.ai_agent_executions (
  site_id            uuid        NOT NULL,
  id                 uuid        NOT NULL,
  agent_id           uuid        NOT NULL,
  agent_version      int,
  trigger_type       text CHECK (trigger_type IN ('event', 'schedule', 'webhook', 'manual', 'delegation')),
  trigger_event_type text,
  trigger_source     text,
  trigger_id         text,
  trigger_subject    text,
  trigger_depth      int,
  trigger_data       jsonb,
  limits             jsonb,
  initial_context    jsonb,
  catalogue_sha256   text,
  outcome            text CHECK (outcome IN ('completed', 'failed', 'cancelled', 'timed_out')),
  pending_approvals  int         NOT NULL,
  current_step       int         NOT NULL,
  result             text,
  error_reason       text,
  error              text,
  ended_by           text,               -- who cancelled it
  actions_taken      jsonb,
  llm_calls          int         NOT NULL,
  tool_calls         int         NOT NULL,
  tokens_input       bigint      NOT NULL,
  tokens_output      bigint      NOT NULL,
  tokens_cached      bigint      NOT NULL,
  cost_micros        bigint      NOT NULL,
  currency           text,
  started_at         timestamptz NOT NULL,
  completed_at       timestamptz,
  duration_ms        bigint,
  updated_at         timestamptz NOT NULL,
  last_sequence      bigint      NOT NULL,
  correlation_id     text        NOT NULL,
  tokens_total       bigint GENERATED ALWAYS AS (tokens_input + tokens_output) STORED,
  status             text   GENERATED ALWAYS AS (
    CASE WHEN outcome IS NOT NULL THEN outcome
         WHEN pending_approvals > 0 THEN 'waiting_approval'
         ELSE 'running' END) STORED,
  PRIMARY KEY (site_id, id)
) WITH (fillfactor = 70);

CREATE INDEX ai_agent_executions_agent ON projections.ai_agent_executions (site_id, agent_id, id);
-- For operators, who look across sites, and for ids that a person shortened.
CREATE INDEX ai_agent_executions_id ON projections.ai_agent_executions (id);
-- Most runs complete; whoever asks for another status finds them here.
CREATE INDEX ai_agent_executions_live ON projections.ai_agent_executions (site_id, id) WHERE status <> 'completed';
