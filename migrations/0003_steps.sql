-- What an execution runs by, once for each content: executions of the same content share it.
CREATE TABLE execution_snapshots (
    hash TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE executions (
    execution_id TEXT NOT NULL PRIMARY KEY,
    workflow_name TEXT NOT NULL,
    snapshot_hash TEXT NOT NULL,
    project TEXT,
    state TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    state_reason TEXT,
    waiting_step TEXT,
    max_parallel BIGINT NOT NULL,
    pause_on_blockers BOOLEAN NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    updated_at BIGINT NOT NULL,
    completed_at BIGINT,
    active_at BIGINT NOT NULL,
    stall_level BIGINT NOT NULL,
    paused_at BIGINT,
    paused_ms BIGINT NOT NULL,
    hints TEXT,
    synthesis TEXT,
    FOREIGN KEY (snapshot_hash) REFERENCES execution_snapshots (hash)
);
CREATE INDEX executions_recent ON executions (created_at);
CREATE INDEX executions_active ON executions (created_at) WHERE active;
CREATE INDEX executions_idle_since ON executions (active_at) WHERE active;
CREATE INDEX executions_project ON executions (project, created_at);

-- Small: it is read at every submission. What a step submitted stands in the next table.
CREATE TABLE execution_steps (
    execution_id TEXT NOT NULL,
    step_name TEXT NOT NULL,
    ordinal BIGINT NOT NULL,
    agent_name TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    approved BOOLEAN NOT NULL,
    nonce TEXT,
    kid TEXT,
    issued_at BIGINT,
    started_at BIGINT,
    completed_at BIGINT,
    output_digest TEXT,
    focus TEXT,
    contract TEXT,
    PRIMARY KEY (execution_id, step_name),
    FOREIGN KEY (execution_id) REFERENCES executions (execution_id)
);

-- The output without the contents of its artifacts, and the answer that the submitter got.
CREATE TABLE execution_outputs (
    execution_id TEXT NOT NULL,
    step_name TEXT NOT NULL,
    summary TEXT NOT NULL,
    confidence DOUBLE PRECISION,
    blockers TEXT NOT NULL,
    output TEXT NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (execution_id, step_name),
    FOREIGN KEY (execution_id, step_name) REFERENCES execution_steps (execution_id, step_name)
);

CREATE TABLE execution_artifacts (
    id BIGINT NOT NULL PRIMARY KEY,
    artifact_id TEXT NOT NULL,
    execution_id TEXT NOT NULL,
    step_name TEXT,
    agent_name TEXT,
    artifact_type TEXT NOT NULL,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    description TEXT,
    content_type TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    is_final BOOLEAN NOT NULL,
    metadata TEXT,
    created_at BIGINT NOT NULL,
    FOREIGN KEY (execution_id) REFERENCES executions (execution_id)
);
CREATE UNIQUE INDEX execution_artifacts_uuid ON execution_artifacts (artifact_id);
CREATE INDEX execution_artifacts_execution ON execution_artifacts (execution_id, id);
CREATE INDEX execution_artifacts_type ON execution_artifacts (artifact_type, id);
CREATE INDEX execution_artifacts_final ON execution_artifacts (id) WHERE is_final;

-- Apart, so that finalising an execution does not write its contents again.
CREATE TABLE artifact_contents (
    artifact_id TEXT NOT NULL PRIMARY KEY,
    content TEXT NOT NULL
);

CREATE TABLE step_events (
    id BIGINT NOT NULL PRIMARY KEY,
    event_type TEXT NOT NULL,
    execution_id TEXT,
    step_name TEXT,
    agent_name TEXT,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX step_events_execution ON step_events (execution_id, id);
CREATE INDEX step_events_type ON step_events (event_type, id);

CREATE TABLE rate_buckets (
    scope TEXT NOT NULL,
    scope_key TEXT NOT NULL,
    tokens DOUBLE PRECISION NOT NULL,
    last_refill BIGINT NOT NULL,
    PRIMARY KEY (scope, scope_key)
);
CREATE INDEX rate_buckets_age ON rate_buckets (last_refill);

-- The keys that sign tokens, where several hosts share a PostgreSQL server; with SQLite they are in
-- a file beside it.
CREATE TABLE token_keys (
    generation BIGINT NOT NULL PRIMARY KEY,
    kid TEXT NOT NULL,
    secret TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
