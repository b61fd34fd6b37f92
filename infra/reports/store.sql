-- Answers of report calls by their idempotency key: a call that is made again gets the same report, whatever the data
-- say by then. The reports themselves are in the log; a row here may go once nobody makes the call again.
CREATE SCHEMA IF NOT EXISTS reports;

CREATE TABLE IF NOT EXISTS reports.calls (
    site_id uuid        NOT NULL,
    key     uuid        NOT NULL,
    asked   text        NOT NULL,  -- sha256 of the arguments: a key can't be used for something else
    result  text        NOT NULL,  -- JSON, byte for byte
    made_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, key)
);
CREATE INDEX IF NOT EXISTS calls_made_at ON reports.calls (made_at);
