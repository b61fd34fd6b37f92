-- Reports that analysts made. The body is what the tool answered, as it stands in the log; a report's id is the id of
-- the call that made it, so a row is written once. Charts are numbers: whoever shows the report draws them.

CREATE TABLE projections.ai_reports (
  site_id      uuid        NOT NULL,
  id           uuid        NOT NULL,
  agent_id     uuid        NOT NULL,
  execution_id uuid        NOT NULL,
  created_at   timestamptz NOT NULL,
  template     text        NOT NULL,
  title        text        NOT NULL,
  period_first date        NOT NULL,
  period_last  date        NOT NULL,
  sha256       text        NOT NULL,   -- of title, Markdown and charts
  body         text        NOT NULL,   -- the whole report, as JSON: bytes that a sha256 names are kept as they are
  PRIMARY KEY (site_id, id)
);
