-- What came from outside and who was told.

-- Webhook deliveries. `status` and `answer` are NULL until the first handling has ended: one that was
-- cut is handled again. The digest is that of the signed body, because the id is not signed.
CREATE TABLE webhook_deliveries (
    host TEXT NOT NULL,
    delivery TEXT NOT NULL,
    event TEXT NOT NULL,
    digest TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    status BIGINT,
    answer TEXT,
    PRIMARY KEY (host, delivery)
);
CREATE UNIQUE INDEX webhook_deliveries_digest ON webhook_deliveries (host, digest);
CREATE INDEX webhook_deliveries_received ON webhook_deliveries (received_at);

-- How far each schedule is: everything up to `handled_at` was started, or missed for good. `spec` is
-- the expression and the zone that this holds for.
CREATE TABLE schedules (
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    handled_at BIGINT NOT NULL,
    fired_at BIGINT,
    fired TEXT,
    PRIMARY KEY (host, name)
);

-- Hooks, and since when: what ended before is not told.
CREATE TABLE hooks (
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    since_at BIGINT NOT NULL,
    PRIMARY KEY (host, name)
);

-- Who was told of which end of a run. `state` is pending, delivered, dead, or unwanted (the hook does
-- not ask for such ends). The body is stored, so that every attempt sends the same.
CREATE TABLE hook_notices (
    id TEXT NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    hook TEXT NOT NULL,
    adw_id TEXT NOT NULL,
    run_ended_at BIGINT NOT NULL,
    event TEXT NOT NULL,
    state TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    last_status BIGINT,
    last_error TEXT
);
CREATE UNIQUE INDEX hook_notices_end ON hook_notices (host, hook, adw_id, run_ended_at);
CREATE INDEX hook_notices_due ON hook_notices (host, hook, state, next_at);
CREATE INDEX hook_notices_created ON hook_notices (created_at);
CREATE INDEX runs_ended ON runs (host, ended_at);
