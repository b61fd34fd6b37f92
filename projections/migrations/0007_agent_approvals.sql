-- Risky calls and a person's word on them. The call's arguments stand in ai_agent_tool_calls.

CREATE TABLE projections.ai_agent_approvals (
  site_id            uuid        NOT NULL,
  id                 uuid        NOT NULL,
  execution_id       uuid        NOT NULL,
  agent_id           uuid        NOT NULL,
  call_id            uuid        NOT NULL,
  step_number        int,
  action_type        text,
  action_description text,
  risk_level         text CHECK (risk_level IN ('low', 'medium', 'high', 'critical')),
  risk_explanation   text,
  call_sha256        text,
  status             text        NOT NULL CHECK (status IN ('pending', 'approved', 'denied', 'expired')),
  created_at         timestamptz NOT NULL,
  expires_at         timestamptz,
  resolved_at        timestamptz,
  resolved_by        text,
  resolution_note    text,
  PRIMARY KEY (site_id, id)
) WITH (fillfactor = 80);

CREATE INDEX ai_agent_approvals_pending ON projections.ai_agent_approvals (site_id, id) WHERE status = 'pending';
CREATE INDEX ai_agent_approvals_execution ON projections.ai_agent_approvals (site_id, execution_id);
