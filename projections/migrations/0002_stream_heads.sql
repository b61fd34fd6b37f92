-- The last record of each stream that counted: what a reader that starts in mid-topic must know, and the
-- anchor by which a lost tail or a lost stream is seen.

CREATE TABLE projections.stream_heads (
  partition int    NOT NULL,
  agent_id  uuid   NOT NULL,
  sequence  bigint NOT NULL CHECK (sequence > 0),
  chain     bytea  NOT NULL CHECK (octet_length(chain) = 32),
  PRIMARY KEY (partition, agent_id)
) WITH (fillfactor = 50);
