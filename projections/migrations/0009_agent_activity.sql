-- What befell an agent outside its runs: how it was changed and by whom, the triggers that started nothing,
-- the commands that were refused. Written once.

CREATE TABLE projections.ai_agent_activity (
  site_id        uuid        NOT NULL,
  agent_id       uuid        NOT NULL,
  sequence       bigint      NOT NULL,
  at             timestamptz NOT NULL,
  kind           text        NOT NULL CHECK (kind IN
    ('created', 'updated', 'activated', 'deactivated', 'deleted', 'trigger_skipped', 'command_rejected')),
  reason         text,
  message        text,
  execution_id   text,
  actor          text        NOT NULL,
  causation_id   text        NOT NULL,
  correlation_id text        NOT NULL,
  details        jsonb       NOT NULL,   -- the event's own fields
  PRIMARY KEY (site_id, agent_id, sequence)
);
