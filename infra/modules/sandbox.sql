-- A small copy of the platform's modules, for development, the demo and tests. Everything belongs to a site.
CREATE SCHEMA IF NOT EXISTS sandbox;

CREATE TABLE IF NOT EXISTS sandbox.contacts (
    site_id       uuid NOT NULL,
    id            uuid NOT NULL,
    email         text NOT NULL,
    first_name    text,
    last_name     text,
    company       text,
    phone         text,
    status        text NOT NULL DEFAULT 'lead' CHECK (status IN ('active', 'inactive', 'lead', 'customer')),
    tags          text[] NOT NULL DEFAULT '{}',
    custom_fields jsonb NOT NULL DEFAULT '{}',
    created_by    text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, id)
);
CREATE UNIQUE INDEX IF NOT EXISTS contacts_email ON sandbox.contacts (site_id, lower(email));

CREATE TABLE IF NOT EXISTS sandbox.notes (
    site_id    uuid NOT NULL,
    id         uuid NOT NULL,
    contact_id uuid NOT NULL,
    type       text NOT NULL CHECK (type IN ('note', 'call', 'meeting', 'email')),
    content    text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, id),
    -- A note can't point at another site's contact.
    FOREIGN KEY (site_id, contact_id) REFERENCES sandbox.contacts (site_id, id)
);
CREATE INDEX IF NOT EXISTS notes_of_contact ON sandbox.notes (site_id, contact_id, created_at);

CREATE TABLE IF NOT EXISTS sandbox.tasks (
    site_id     uuid NOT NULL,
    id          uuid NOT NULL,
    title       text NOT NULL,
    description text NOT NULL DEFAULT '',
    due_date    timestamptz,
    priority    text NOT NULL CHECK (priority IN ('low', 'medium', 'high')),
    assigned_to text,
    status      text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'done')),
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, id)
);

-- Drafts, and what would have been sent: nothing leaves the sandbox.
CREATE TABLE IF NOT EXISTS sandbox.emails (
    site_id     uuid NOT NULL,
    id          uuid NOT NULL,
    status      text NOT NULL CHECK (status IN ('draft', 'sent')),
    recipients  text[] NOT NULL,
    subject     text NOT NULL,
    body        text NOT NULL,
    template_id text,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, id)
);

CREATE TABLE IF NOT EXISTS sandbox.calendar_events (
    site_id     uuid NOT NULL,
    id          uuid NOT NULL,
    title       text NOT NULL,
    description text NOT NULL DEFAULT '',
    start_time  timestamptz NOT NULL,
    end_time    timestamptz NOT NULL CHECK (end_time > start_time),
    attendees   text[] NOT NULL,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, id)
);

-- One row a call that changed something: a second call with its key gets the first one's result.
CREATE TABLE IF NOT EXISTS sandbox.applied_calls (
    site_id    uuid NOT NULL,
    key        text NOT NULL,
    asked      text NOT NULL,  -- sha256 of action and arguments: a key can't be used for something else
    result     jsonb,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, key)
);

-- Module events that follow from changes, written with them; published later, perhaps more than once, under one id.
CREATE TABLE IF NOT EXISTS sandbox.outbox (
    position     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id     uuid NOT NULL UNIQUE,
    site_id      uuid NOT NULL,
    type         text NOT NULL,
    source       text NOT NULL,
    subject      text NOT NULL,
    data         jsonb NOT NULL,
    extensions   jsonb NOT NULL,
    occurred_at  timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
CREATE INDEX IF NOT EXISTS outbox_left ON sandbox.outbox (position) WHERE published_at IS NULL;

-- The last that is made: where it is there, all is (see infra/modules/sandbox.py).
CREATE INDEX IF NOT EXISTS calendar_of_site ON sandbox.calendar_events (site_id, start_time);
