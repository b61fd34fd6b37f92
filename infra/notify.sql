-- Who was told, by a signed webhook, that an approval waits. Not built from the log, so never dropped with it.
CREATE SCHEMA IF NOT EXISTS notify;

CREATE TABLE IF NOT EXISTS notify.approvals (
    approval_id uuid        NOT NULL,
    role        text        NOT NULL, -- an escalated approval is told again
    attempts    integer     NOT NULL DEFAULT 1,
    next_at     timestamptz NOT NULL, -- until then somebody is telling it, or it rests after a failure
    told_at     timestamptz,
    PRIMARY KEY (approval_id, role)
);
CREATE INDEX IF NOT EXISTS approvals_told ON notify.approvals (told_at);
