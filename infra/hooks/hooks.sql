-- Webhooks, their sealed secrets, and which deliveries were taken. Only Postgres holds this: back it up.
CREATE SCHEMA IF NOT EXISTS hooks;

CREATE TABLE IF NOT EXISTS hooks.hooks (
    site_id    uuid NOT NULL,
    id         uuid NOT NULL PRIMARY KEY,
    agent_id   uuid NOT NULL,
    agent_slug text NOT NULL,
    name       text NOT NULL,
    scheme     text NOT NULL CHECK (scheme IN ('standard', 'github')),
    is_enabled boolean NOT NULL DEFAULT true,
    per_minute integer NOT NULL CHECK (per_minute BETWEEN 1 AND 60000),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (site_id, id)
);

-- A secret opens only for its own site and hook (AES-GCM's associated data), with the master key `key_id`.
CREATE TABLE IF NOT EXISTS hooks.secrets (
    site_id    uuid NOT NULL,
    hook_id    uuid NOT NULL,
    id         uuid NOT NULL PRIMARY KEY,
    key_id     text NOT NULL,
    nonce      bytea NOT NULL,
    ciphertext bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    FOREIGN KEY (site_id, hook_id) REFERENCES hooks.hooks (site_id, id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS secrets_of_hook ON hooks.secrets (hook_id, created_at);

-- When the hook's bucket will be empty again, for all processes that serve it: a generic cell rate algorithm.
CREATE TABLE IF NOT EXISTS hooks.meters (
    hook_id  uuid NOT NULL PRIMARY KEY REFERENCES hooks.hooks (id) ON DELETE CASCADE,
    empty_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Deliveries by their sender's id. `time_ms` is the first one's time: a delivery sent again asks for the same run.
CREATE TABLE IF NOT EXISTS hooks.deliveries (
    hook_id     uuid NOT NULL REFERENCES hooks.hooks (id) ON DELETE CASCADE,
    delivery_id text COLLATE "C" NOT NULL,
    body_sha256 bytea NOT NULL,
    time_ms     bigint NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    taken_at    timestamptz,
    PRIMARY KEY (hook_id, delivery_id)
);
CREATE INDEX IF NOT EXISTS deliveries_received ON hooks.deliveries (received_at);
