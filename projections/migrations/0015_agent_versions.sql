-- The versions of agents: what was created, and what each update changed. Written down already, as activity.

CREATE INDEX ai_agent_activity_versions ON projections.ai_agent_activity (site_id, agent_id, sequence)
  WHERE kind IN ('created', 'updated');

CREATE VIEW projections.ai_agent_versions WITH (security_invoker = true) AS
SELECT
  site_id, agent_id, (details ->> 'agent_version')::int AS version, sequence, at, kind, actor AS changed_by,
  details -> 'config' AS config, details -> 'changes' AS changes,
  (details ->> 'rolled_back_to')::int AS rolled_back_to, coalesce(details ->> 'reason', '') AS reason
FROM projections.ai_agent_activity
WHERE kind IN ('created', 'updated');
