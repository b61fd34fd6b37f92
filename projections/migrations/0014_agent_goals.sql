-- How far the measured goals of agents are. What a goal is stands in its agent's configuration: the view reads it
-- there, so there is one truth. A row goes when its goal leaves the configuration, or its agent is created anew.

CREATE TABLE projections.ai_agent_goal_progress (
  site_id      uuid        NOT NULL,
  agent_id     uuid        NOT NULL,
  goal         text        NOT NULL,
  value        numeric     NOT NULL,
  total        numeric     NOT NULL,     -- the sum of what the events of this period gave
  event_count  bigint      NOT NULL,
  achieved_at  timestamptz,
  period_start timestamptz,
  period_end   timestamptz,
  event_source text        NOT NULL,     -- of the last event that moved it
  event_id     text        NOT NULL,
  updated_at   timestamptz NOT NULL,
  PRIMARY KEY (site_id, agent_id, goal)
) WITH (fillfactor = 50);

-- A period that is over counts as one in which nothing happened yet.
CREATE VIEW projections.ai_agent_goals WITH (security_invoker = true) AS
SELECT
  a.site_id, a.id AS agent_id, g.position::int AS position,
  g.value ->> 'name'                                AS name,
  coalesce(g.value ->> 'description', '')           AS description,
  coalesce((g.value ->> 'priority')::int, 5)        AS priority,
  g.value ->> 'metric'                              AS success_metric,
  (g.value ->> 'target')::numeric                   AS target_value,
  coalesce(g.value ->> 'comparison', 'gte')         AS comparison,
  coalesce((g.value ->> 'is_recurring')::bool, true) AS is_recurring,
  d.deadline,
  g.value ->> 'event'                               AS event,
  g.value ->> 'period'                              AS period,
  CASE WHEN NOT o.is_over THEN p.value END          AS current_value,
  coalesce(p.achieved_at IS NOT NULL AND NOT o.is_over, false) AS is_achieved,
  CASE WHEN NOT o.is_over THEN p.achieved_at END    AS achieved_at,
  coalesce(d.deadline < now() AND (p.achieved_at IS NULL OR o.is_over), false) AS is_missed,
  p.event_count, p.period_start, p.period_end, p.updated_at,
  a.created_at, a.deleted_at
FROM projections.ai_agent_definitions a
CROSS JOIN LATERAL jsonb_array_elements(coalesce(a.config -> 'goals', '[]')) WITH ORDINALITY AS g(value, position)
LEFT JOIN projections.ai_agent_goal_progress p
  ON p.site_id = a.site_id AND p.agent_id = a.id AND p.goal = g.value ->> 'name' AND g.value ->> 'event' IS NOT NULL
CROSS JOIN LATERAL (SELECT coalesce(p.period_end <= now(), false) AS is_over) o
CROSS JOIN LATERAL (
  SELECT CASE WHEN g.value ->> 'deadline' ~ '(Z|[+-][0-9]{2}:?[0-9]{2})$' THEN (g.value ->> 'deadline')::timestamptz
    ELSE (g.value ->> 'deadline')::timestamp AT TIME ZONE 'UTC' END AS deadline
) d;
