CREATE TABLE projects (
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (host, name)
);
CREATE UNIQUE INDEX projects_path ON projects (host, path);

CREATE TABLE runs (
    adw_id TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    project TEXT NOT NULL,
    issue_number TEXT NOT NULL,
    host TEXT NOT NULL,
    origin TEXT NOT NULL,
    profile TEXT NOT NULL,
    status TEXT NOT NULL,
    active BOOLEAN NOT NULL,
    stop_requested BOOLEAN NOT NULL,
    revision BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    phases TEXT NOT NULL,
    todo TEXT NOT NULL,
    floors TEXT NOT NULL,
    digest TEXT NOT NULL,
    model TEXT,
    skip_cleanup BOOLEAN NOT NULL,
    triggered_by TEXT NOT NULL,
    transport TEXT NOT NULL,
    request_id TEXT,
    user_id TEXT,
    created_at BIGINT NOT NULL,
    queued_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    retry_at BIGINT,
    issue_title TEXT,
    issue_class TEXT,
    branch TEXT,
    base_branch TEXT,
    base_commit TEXT,
    worktree_path TEXT,
    worktree TEXT,
    plan_file TEXT,
    pr_url TEXT,
    failure TEXT,
    run_usage TEXT,
    cost_usd DOUBLE PRECISION,
    state TEXT,
    state_at BIGINT,
    state_problem TEXT
);
CREATE UNIQUE INDEX runs_seq ON runs (seq);
CREATE UNIQUE INDEX runs_one_active_per_issue ON runs (project, issue_number) WHERE active;
CREATE INDEX runs_active ON runs (host, active);
CREATE INDEX runs_project ON runs (project, seq);

CREATE TABLE attempts (
    adw_id TEXT NOT NULL,
    phase TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    status TEXT NOT NULL,
    dir TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    exit_code BIGINT,
    exit_signal BIGINT,
    failure TEXT,
    head_commit TEXT,
    PRIMARY KEY (adw_id, phase, attempt),
    FOREIGN KEY (adw_id) REFERENCES runs (adw_id)
);

CREATE TABLE request_keys (
    request_key TEXT NOT NULL PRIMARY KEY,
    tool TEXT NOT NULL,
    digest TEXT NOT NULL,
    adw_id TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
