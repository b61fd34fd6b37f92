-- Steps: what the model was told (observe) and what it answered (think). Such rows are written once. What was
-- done (act) stands in the tool calls; the view puts all of it under one name, without storing a call twice.

CREATE TABLE projections.ai_agent_steps (
  site_id       uuid        NOT NULL,
  execution_id  uuid        NOT NULL,
  sequence      bigint      NOT NULL,    -- of the event, in its agent's stream
  step_number   int         NOT NULL,
  step_type     text        NOT NULL CHECK (step_type IN ('observe', 'think', 'reflect')),
  at            timestamptz NOT NULL,
  duration_ms   bigint,
  input_text    text,
  reasoning     text,
  output_text   text,
  error         text,
  provider      text,
  model         text,
  finish_reason text,
  tokens_input  bigint,
  tokens_output bigint,
  tokens_cached bigint,
  cost_micros   bigint,
  currency      text,
  prompt_sha256 text,
  PRIMARY KEY (site_id, execution_id, sequence)
);

CREATE VIEW projections.ai_agent_execution_steps WITH (security_invoker = true) AS
SELECT
  site_id, execution_id, step_number, step_type, sequence AS position,
  input_text, reasoning, output_text, error, NULL::uuid AS tool_call_id,
  NULL::text AS tool_name, NULL::jsonb AS tool_input, NULL::jsonb AS tool_output,
  at - coalesce(duration_ms, 0) * interval '1 millisecond' AS started_at, at AS completed_at, duration_ms,
  coalesce(tokens_input, 0) + coalesce(tokens_output, 0) AS tokens_used, cost_micros, model
FROM projections.ai_agent_steps
UNION ALL
SELECT
  site_id, execution_id, step_number, 'act', position,
  NULL, NULL, NULL, error, id,
  tool_name, input, output,
  requested_at, completed_at, duration_ms,
  0, 0, NULL
FROM projections.ai_agent_tool_calls;
