-- Who was told that an approval waits, by each channel. Not built from the log, so never dropped with it.
CREATE SCHEMA IF NOT EXISTS notify;

-- By a signed webhook.
CREATE TABLE IF NOT EXISTS notify.approvals (
    approval_id uuid        NOT NULL,
    role        text        NOT NULL, -- an escalated approval is told again
    attempts    integer     NOT NULL DEFAULT 1,
    next_at     timestamptz NOT NULL, -- until then somebody is telling it, or it rests after a failure
    told_at     timestamptz,          -- since then nobody has to tell it any more: it was taken, or refused for good
    PRIMARY KEY (approval_id, role)
);
CREATE INDEX IF NOT EXISTS approvals_told ON notify.approvals (told_at);
-- Where the table was made before, it lacks this.
ALTER TABLE notify.approvals ADD COLUMN IF NOT EXISTS refused boolean NOT NULL DEFAULT false;

-- By email, each recipient alone.
CREATE TABLE IF NOT EXISTS notify.emails (
    approval_id uuid        NOT NULL,
    role        text        NOT NULL,
    escalated   boolean     NOT NULL, -- a role that changed meanwhile may be asked twice
    recipient   text        NOT NULL,
    attempts    integer     NOT NULL DEFAULT 1,
    next_at     timestamptz NOT NULL,
    told_at     timestamptz,
    refused     boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (approval_id, role, escalated, recipient)
);

-- The last that is made: where it is there, all is.
CREATE INDEX IF NOT EXISTS emails_told ON notify.emails (told_at);
