-- The schedules of agents, as their streams followed them last. A row stands for good: a schedule is in force while its
-- agent is active and has it among its triggers.

CREATE TABLE projections.ai_agent_schedules (
  site_id        uuid        NOT NULL,
  agent_id       uuid        NOT NULL,
  schedule       text        NOT NULL,   -- with its time zone: 'daily_9am @ Europe/Berlin'
  followed_until timestamptz NOT NULL,
  next_due_at    timestamptz,            -- null: it never comes again
  last_due_at    timestamptz,            -- null: it was not due yet
  due_count      bigint      NOT NULL,   -- times that started a run, or were refused one
  missed_count   bigint      NOT NULL,   -- times that passed while nobody followed it
  updated_at     timestamptz NOT NULL,
  PRIMARY KEY (site_id, agent_id, schedule)
);
