-- How far each partition of the log has been applied. It commits together with the rows that follow from it.

CREATE TABLE projections.projection_checkpoints (
  projection  text   NOT NULL,
  topic       text   NOT NULL,
  partition   int    NOT NULL,
  log_id      text,             -- of the partition's genesis record: another one means another log
  next_offset bigint NOT NULL CHECK (next_offset >= 0),
  PRIMARY KEY (projection, topic, partition)
) WITH (fillfactor = 10);       -- updated by every transaction: the new version stays on its page
