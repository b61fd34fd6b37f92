-- Runs that work for other runs: a tree by (site_id, parent_execution_id).
ALTER TABLE projections.ai_agent_executions
  ADD COLUMN parent_agent_id       uuid,
  ADD COLUMN parent_execution_id   uuid,
  ADD COLUMN parent_call_id        uuid,
  ADD COLUMN delegated_runs        int    NOT NULL DEFAULT 0,
  ADD COLUMN delegated_cost_micros bigint NOT NULL DEFAULT 0;

CREATE INDEX ai_agent_executions_parent ON projections.ai_agent_executions (site_id, parent_execution_id)
  WHERE parent_execution_id IS NOT NULL;
