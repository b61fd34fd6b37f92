-- Model providers that sites have of their own, with their sealed keys. Only Postgres holds this: back it up.
-- The platform's own are in the settings, where no site's user gets at them.
CREATE SCHEMA IF NOT EXISTS providers;

-- A key opens only for its own site, provider, API and address (AES-GCM's associated data), with the master key `key_id`.
CREATE TABLE IF NOT EXISTS providers.providers (
    site_id             uuid NOT NULL,
    name                text COLLATE "C" NOT NULL,
    api                 text NOT NULL,
    url                 text,
    tools               boolean NOT NULL DEFAULT true,
    requests_per_minute integer CHECK (requests_per_minute > 0),
    tokens_per_minute   integer CHECK (tokens_per_minute > 0),
    key_id              text,
    nonce               bytea,
    ciphertext          bytea,
    updated_by          text NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (site_id, name),
    CHECK ((key_id IS NULL) = (ciphertext IS NULL) AND (key_id IS NULL) = (nonce IS NULL))
);
CREATE INDEX IF NOT EXISTS providers_by_key ON providers.providers (key_id);
