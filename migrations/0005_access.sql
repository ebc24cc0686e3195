-- Keys of callers over HTTP. Of a secret only a keyed hash is stored.
CREATE TABLE access_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    tier TEXT NOT NULL CHECK (tier IN ('free', 'solo', 'team', 'enterprise', 'admin')),
    -- A JSON list of names; NULL: all projects, and what belongs to none.
    projects TEXT,
    -- Tenths of a call; NULL: what its tier may.
    hourly_tenths BIGINT CHECK (hourly_tenths > 0),
    day_budget_usd DOUBLE PRECISION CHECK (day_budget_usd >= 0),
    secret_hash TEXT NOT NULL,
    -- The secret before the last rotation, good until then.
    old_hash TEXT,
    old_until BIGINT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    rotated_at BIGINT,
    revoked_at BIGINT,
    revoked_by TEXT,
    last_used_at BIGINT
);
CREATE INDEX access_keys_by_age ON access_keys (created_at, id);

-- What secrets are hashed with, where daemons share a database; with SQLite it is in a file beside.
CREATE TABLE access_pepper (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    pepper TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Addresses that showed bad credentials.
CREATE TABLE access_failures (
    address TEXT NOT NULL PRIMARY KEY,
    -- In the window that began then.
    failures BIGINT NOT NULL,
    window_at BIGINT NOT NULL,
    -- How many times it was shut out, one after the other, and until when it is.
    blocks BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
CREATE INDEX access_failures_by_age ON access_failures (seen_at);
