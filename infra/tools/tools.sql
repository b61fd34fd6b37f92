-- Tools that sites registered, with their sealed secrets. Only Postgres holds this: back it up.
CREATE SCHEMA IF NOT EXISTS tools;

-- Every version stays, so that a run uses the one that it began with; none of a removed tool is used any more.
CREATE TABLE IF NOT EXISTS tools.http_tools (
    site_id    uuid NOT NULL,
    name       text NOT NULL,
    version    integer NOT NULL CHECK (version > 0),
    told       jsonb NOT NULL,
    key_id     text,
    nonce      bytea,
    ciphertext bytea,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz,
    removed_by text,
    PRIMARY KEY (site_id, name, version),
    CHECK ((key_id IS NULL) = (nonce IS NULL) AND (key_id IS NULL) = (ciphertext IS NULL))
);

CREATE TABLE IF NOT EXISTS tools.mcp_servers (
    site_id    uuid NOT NULL,
    name       text NOT NULL,
    url        text,  -- none: the server of that name in the settings
    header     text,  -- in which the secret stands
    key_id     text,
    nonce      bytea,
    ciphertext bytea,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, name),
    CHECK ((key_id IS NULL) = (nonce IS NULL) AND (key_id IS NULL) = (ciphertext IS NULL))
);

-- What a person approved of a server, frozen: `sha256` is over what the server said of the tool then.
CREATE TABLE IF NOT EXISTS tools.mcp_tools (
    site_id     uuid NOT NULL,
    server      text NOT NULL,
    tool        text NOT NULL,
    sha256      text NOT NULL,
    told        jsonb NOT NULL,
    definition  jsonb NOT NULL,
    approved_by text NOT NULL,
    approved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, server, tool),
    FOREIGN KEY (site_id, server) REFERENCES tools.mcp_servers (site_id, name) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS mcp_tools_of_site ON tools.mcp_tools (site_id);
