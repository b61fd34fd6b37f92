-- Tool calls, from the model's wish (pending) to how they ended. The arguments stand only here.

CREATE TABLE projections.ai_agent_tool_calls (
  site_id         uuid        NOT NULL,
  id              uuid        NOT NULL,
  execution_id    uuid        NOT NULL,
  agent_id        uuid        NOT NULL,
  step_number     int,
  position        int,                   -- within its step, from 0
  model_call_id   text,
  tool_name       text        NOT NULL,
  tool_version    text,
  status          text        NOT NULL
    CHECK (status IN ('pending', 'running', 'completed', 'failed', 'denied', 'in_doubt')),
  input           jsonb,
  output          jsonb,
  error_reason    text,
  error           text,
  call_sha256     text,
  idempotency_key text,
  runner          text,
  full_bytes      bigint,                -- of an output that was cut
  full_sha256     text,
  planned_at      timestamptz NOT NULL,
  requested_at    timestamptz,
  completed_at    timestamptz,
  duration_ms     bigint,
  PRIMARY KEY (site_id, id)
) WITH (fillfactor = 80);

CREATE INDEX ai_agent_tool_calls_execution ON projections.ai_agent_tool_calls (site_id, execution_id);
