-- Tools and prices that a stream's runs refer to by sha256.

CREATE TABLE projections.ai_agent_catalogues (
  site_id     uuid        NOT NULL,
  agent_id    uuid        NOT NULL,
  sha256      text        NOT NULL,
  recorded_at timestamptz NOT NULL,
  catalogue   jsonb       NOT NULL,
  PRIMARY KEY (site_id, agent_id, sha256)
);
