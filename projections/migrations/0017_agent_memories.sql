-- What agents kept for their later runs, found again by words and subject. A memory's id is that of the call that kept it.

CREATE TABLE projections.ai_agent_memories (
  site_id      uuid        NOT NULL,
  id           uuid        NOT NULL,
  agent_id     uuid        NOT NULL,
  execution_id uuid        NOT NULL,
  created_at   timestamptz NOT NULL,
  memory_type  text        NOT NULL,
  subject      text,
  content      text        NOT NULL,
  PRIMARY KEY (site_id, id)
);
CREATE INDEX ai_agent_memories_of_agent ON projections.ai_agent_memories (site_id, agent_id, created_at);
