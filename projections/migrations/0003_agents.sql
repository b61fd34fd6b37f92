-- Agents. `config` is the whole of what a person configured; the columns beside it are read out of it, so
-- there is one truth. Deletion is a status. Figures stand in a table of their own: they change with every
-- run, and would copy the configuration each time.

CREATE TABLE projections.ai_agent_definitions (
  site_id       uuid        NOT NULL,
  id            uuid        NOT NULL,
  config        jsonb       NOT NULL,
  agent_version int         NOT NULL,
  is_active     boolean     NOT NULL,
  created_at    timestamptz NOT NULL,
  created_by    text        NOT NULL,
  updated_at    timestamptz NOT NULL,
  updated_by    text        NOT NULL,
  deleted_at    timestamptz,
  slug          text GENERATED ALWAYS AS (config ->> 'slug') STORED,
  name          text GENERATED ALWAYS AS (config ->> 'name') STORED,
  agent_type    text GENERATED ALWAYS AS (config ->> 'agent_type') STORED,
  domain        text GENERATED ALWAYS AS (config ->> 'domain') STORED,
  PRIMARY KEY (site_id, id)
);

-- Not unique: an agent's id is made from its site and slug, so the key above already is.
CREATE INDEX ai_agent_definitions_slug ON projections.ai_agent_definitions (site_id, slug);

CREATE TABLE projections.ai_agent_stats (
  site_id             uuid   NOT NULL,
  agent_id            uuid   NOT NULL,
  total_runs          bigint NOT NULL,
  successful_runs     bigint NOT NULL,
  failed_runs         bigint NOT NULL,
  cancelled_runs      bigint NOT NULL,
  timed_out_runs      bigint NOT NULL,
  total_tokens_used   bigint NOT NULL,
  total_actions_taken bigint NOT NULL,   -- tool calls that were answered
  response_ms_sum     bigint NOT NULL,   -- over successful runs
  last_run_at         timestamptz,
  last_error          text,
  PRIMARY KEY (site_id, agent_id)
) WITH (fillfactor = 50);

CREATE VIEW projections.ai_agents WITH (security_invoker = true) AS
SELECT
  a.site_id, a.id, a.slug, a.name, a.agent_type, a.domain,
  a.config ->> 'description'   AS description,
  a.config ->> 'llm_provider'  AS llm_provider,
  a.config ->> 'llm_model'     AS llm_model,
  a.config ->  'triggers'      AS triggers,
  a.config, a.agent_version, a.is_active,
  coalesce(s.total_runs, 0)          AS total_runs,
  coalesce(s.successful_runs, 0)     AS successful_runs,
  coalesce(s.failed_runs, 0)         AS failed_runs,
  coalesce(s.cancelled_runs, 0)      AS cancelled_runs,
  coalesce(s.timed_out_runs, 0)      AS timed_out_runs,
  coalesce(s.total_tokens_used, 0)   AS total_tokens_used,
  coalesce(s.total_actions_taken, 0) AS total_actions_taken,
  s.response_ms_sum / nullif(s.successful_runs, 0) AS avg_response_time_ms,
  s.last_run_at, s.last_error,
  a.created_at, a.created_by, a.updated_at, a.updated_by, a.deleted_at
FROM projections.ai_agent_definitions a
LEFT JOIN projections.ai_agent_stats s ON s.site_id = a.site_id AND s.agent_id = a.id;
