-- What was used, by UTC day and agent. Counts of everything, and money by model, currency and version of the price:
-- a call keeps the price of its day, and amounts of two currencies are never added. Keys name the agent, so rows
-- of two partitions never meet.

CREATE TABLE projections.ai_usage_daily (
  site_id         uuid   NOT NULL,
  date            date   NOT NULL,
  agent_id        uuid   NOT NULL,
  agent_runs      bigint NOT NULL,
  llm_calls       bigint NOT NULL,       -- replies that were metered, whatever became of their runs
  unsettled_calls bigint NOT NULL,       -- model calls given up without a word on what they cost
  tool_calls      bigint NOT NULL,
  approvals       bigint NOT NULL,
  tokens_input    bigint NOT NULL,
  tokens_output   bigint NOT NULL,
  tokens_cached   bigint NOT NULL,       -- part of tokens_input
  PRIMARY KEY (site_id, date, agent_id)
) WITH (fillfactor = 50);

CREATE TABLE projections.ai_usage_models_daily (
  site_id       uuid   NOT NULL,
  date          date   NOT NULL,
  agent_id      uuid   NOT NULL,
  provider      text   NOT NULL,
  model         text   NOT NULL,
  currency      text   NOT NULL,
  price_version text   NOT NULL,         -- '' where no price was known: metered, not yet paid
  llm_calls     bigint NOT NULL,
  tokens_input  bigint NOT NULL,
  tokens_output bigint NOT NULL,
  tokens_cached bigint NOT NULL,
  cost_micros   bigint NOT NULL,
  PRIMARY KEY (site_id, date, agent_id, provider, model, currency, price_version)
) WITH (fillfactor = 50);

CREATE VIEW projections.ai_usage_tracking WITH (security_invoker = true) AS
SELECT
  site_id,
  date_trunc('month', date::timestamp)::date AS period_start,
  (date_trunc('month', date::timestamp) + interval '1 month - 1 day')::date AS period_end,
  sum(agent_runs)::bigint    AS total_agent_runs,
  sum(llm_calls)::bigint     AS total_llm_calls,
  sum(tool_calls)::bigint    AS total_tool_calls,
  sum(approvals)::bigint     AS total_approvals,
  sum(tokens_input)::bigint  AS total_tokens_input,
  sum(tokens_output)::bigint AS total_tokens_output,
  sum(tokens_cached)::bigint AS total_tokens_cached
FROM projections.ai_usage_daily
GROUP BY site_id, date_trunc('month', date::timestamp);
