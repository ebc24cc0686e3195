-- One row, updated first by every transaction that writes here: it gives the ids, and it makes
-- writers wait for one another in one place, so that no two can wait for each other.
CREATE TABLE writing_ids (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    workflow BIGINT NOT NULL,
    visit BIGINT NOT NULL,
    approval BIGINT NOT NULL,
    gate BIGINT NOT NULL,
    pass BIGINT NOT NULL,
    metric BIGINT NOT NULL,
    report BIGINT NOT NULL
);
INSERT INTO writing_ids (one, workflow, visit, approval, gate, pass, metric, report)
VALUES (1, 0, 0, 0, 0, 0, 0, 0);

CREATE TABLE writing_workflows (
    id BIGINT NOT NULL PRIMARY KEY,
    series_id BIGINT NOT NULL,
    series_title TEXT,
    author_id BIGINT NOT NULL,
    concept TEXT NOT NULL,
    total_books BIGINT NOT NULL CHECK (total_books >= 1),
    time_zone TEXT NOT NULL,
    phase BIGINT NOT NULL CHECK (phase BETWEEN -1 AND 12),
    status TEXT NOT NULL CHECK (status IN (
        'in_progress', 'waiting_approval', 'waiting_quality_gate', 'completed', 'failed'
    )),
    active BOOLEAN NOT NULL,
    book BIGINT NOT NULL CHECK (book >= 1),
    chapter BIGINT,
    visit_id BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    -- Grows with what concerns every book, such as the gate of the whole series.
    evidence BIGINT NOT NULL,
    -- The first figure that the pace is made of.
    first_metric_at BIGINT,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    completed_at BIGINT
);
CREATE INDEX writing_workflows_active ON writing_workflows (active, id);
CREATE INDEX writing_workflows_author ON writing_workflows (author_id, active, id);

CREATE TABLE writing_visits (
    id BIGINT NOT NULL PRIMARY KEY,
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    phase BIGINT NOT NULL CHECK (phase BETWEEN -1 AND 12),
    book BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('started', 'completed', 'failed', 'skipped')),
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    input TEXT,
    summary TEXT,
    artifacts TEXT NOT NULL,
    output TEXT,
    score BIGINT
);
CREATE INDEX writing_visits_workflow ON writing_visits (workflow_id, id);
CREATE INDEX writing_visits_phase ON writing_visits (workflow_id, phase, id);

CREATE TABLE writing_approvals (
    id BIGINT NOT NULL PRIMARY KEY,
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    visit_id BIGINT NOT NULL,
    phase BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('series_plan', 'book_completion', 'chapter_plan')),
    -- 0: none.
    book BIGINT NOT NULL,
    chapter BIGINT NOT NULL,
    artifacts TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN (
        'pending', 'approved', 'rejected', 'revision_requested'
    )),
    requested_at BIGINT NOT NULL,
    decided_at BIGINT,
    decided_by TEXT,
    feedback TEXT
);
CREATE UNIQUE INDEX writing_approvals_open ON writing_approvals (workflow_id, kind, book, chapter)
    WHERE status = 'pending';
CREATE INDEX writing_approvals_workflow ON writing_approvals (workflow_id, id);
CREATE INDEX writing_approvals_kind ON writing_approvals (workflow_id, kind, id);

CREATE TABLE writing_gates (
    id BIGINT NOT NULL PRIMARY KEY,
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    visit_id BIGINT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('npe_series', 'npe_scene', 'commercial')),
    score BIGINT NOT NULL,
    passed BOOLEAN NOT NULL,
    violations TEXT NOT NULL,
    -- 0: none.
    book BIGINT NOT NULL,
    chapter BIGINT NOT NULL,
    scene BIGINT NOT NULL,
    executed_at BIGINT NOT NULL
);
CREATE INDEX writing_gates_kind ON writing_gates (workflow_id, kind, id);
CREATE INDEX writing_gates_workflow ON writing_gates (workflow_id, id);
CREATE INDEX writing_gates_latest ON writing_gates (visit_id, kind, id);
CREATE INDEX writing_gates_visit ON writing_gates (visit_id, kind, book, chapter, scene, id);

-- What each scene's first and latest gate said; scene (0, 0, 0) collects gates without one.
CREATE TABLE writing_scenes (
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    book BIGINT NOT NULL,
    chapter BIGINT NOT NULL,
    scene BIGINT NOT NULL,
    first_passed BOOLEAN NOT NULL,
    first_at BIGINT NOT NULL,
    latest_passed BOOLEAN NOT NULL,
    gates BIGINT NOT NULL,
    gates_passed BIGINT NOT NULL,
    PRIMARY KEY (workflow_id, book, chapter, scene)
);

CREATE TABLE writing_passes (
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    book BIGINT NOT NULL CHECK (book >= 1),
    pass BIGINT NOT NULL CHECK (pass BETWEEN 1 AND 6),
    id BIGINT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'in_progress', 'complete', 'skipped')),
    run_count BIGINT NOT NULL,
    runs_completed BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    duration BIGINT,
    findings TEXT,
    edits_made BOOLEAN,
    user_approved BOOLEAN,
    reason TEXT,
    report_id BIGINT,
    PRIMARY KEY (workflow_id, book, pass),
    CHECK (
        (pass = 1 AND name = 'structural') OR (pass = 2 AND name = 'continuity')
        OR (pass = 3 AND name = 'dialogue') OR (pass = 4 AND name = 'emotional')
        OR (pass = 5 AND name = 'line_edit') OR (pass = 6 AND name = 'final_qa')
    )
);

-- Ended runs that a later one has replaced.
CREATE TABLE writing_pass_runs (
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    book BIGINT NOT NULL,
    pass BIGINT NOT NULL,
    run BIGINT NOT NULL,
    status TEXT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    duration BIGINT,
    findings TEXT,
    edits_made BOOLEAN,
    user_approved BOOLEAN,
    PRIMARY KEY (workflow_id, book, pass, run)
);

-- Figures are hundredths.
CREATE TABLE writing_metrics (
    id BIGINT NOT NULL PRIMARY KEY,
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    metric_type TEXT NOT NULL,
    value BIGINT NOT NULL,
    phase BIGINT,
    book BIGINT CHECK (book >= 1),
    chapter BIGINT CHECK (chapter >= 1),
    recorded_at BIGINT NOT NULL,
    idempotency_key TEXT,
    digest TEXT,
    metadata TEXT
);
CREATE INDEX writing_metrics_time ON writing_metrics (workflow_id, recorded_at, id);
CREATE UNIQUE INDEX writing_metrics_key ON writing_metrics (workflow_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- Running sums, so that no read grows with history: of everything (level 0) and of slices of time
-- of 30 days (1), a day (2), two hours (3) and a quarter of an hour (4), each beginning at a
-- multiple of its length since 1970 (start, epoch ms). Book 0 is "none", phase -2 is "not by phase".
CREATE TABLE writing_sums (
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    level BIGINT NOT NULL,
    start BIGINT NOT NULL,
    metric_type TEXT NOT NULL,
    book BIGINT NOT NULL,
    phase BIGINT NOT NULL,
    total BIGINT NOT NULL,
    n BIGINT NOT NULL,
    PRIMARY KEY (workflow_id, level, start, metric_type, book, phase)
);

-- The latest value of each gauge; book 0 and chapter 0 are "none".
CREATE TABLE writing_gauges (
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    book BIGINT NOT NULL,
    metric_type TEXT NOT NULL,
    chapter BIGINT NOT NULL,
    value BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    PRIMARY KEY (workflow_id, book, metric_type, chapter)
);

CREATE TABLE writing_daily (
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    day TEXT NOT NULL,
    author_id BIGINT NOT NULL,
    words BIGINT NOT NULL,
    chapters BIGINT NOT NULL,
    scenes BIGINT NOT NULL,
    minutes BIGINT NOT NULL,
    phases BIGINT NOT NULL,
    PRIMARY KEY (workflow_id, day)
);
CREATE INDEX writing_daily_author ON writing_daily (author_id, day, workflow_id);

CREATE TABLE writing_phases (
    phase BIGINT NOT NULL PRIMARY KEY,
    successful BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    sum_duration_ms BIGINT NOT NULL,
    timed BIGINT NOT NULL,
    sum_quality BIGINT NOT NULL,
    scored BIGINT NOT NULL,
    last_at BIGINT
);

CREATE TABLE writing_books (
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    book BIGINT NOT NULL CHECK (book >= 1),
    title TEXT,
    blurb TEXT,
    keywords TEXT NOT NULL,
    categories TEXT NOT NULL,
    cover TEXT NOT NULL,
    ku BOOLEAN NOT NULL,
    target_words BIGINT,
    -- Grows with every change of what a QA report looks at.
    revision BIGINT NOT NULL,
    changed_at BIGINT,
    approved_at BIGINT,
    ready_at BIGINT,
    ready_revision BIGINT,
    ready_evidence BIGINT,
    PRIMARY KEY (workflow_id, book)
);

CREATE TABLE writing_reports (
    id BIGINT NOT NULL PRIMARY KEY,
    workflow_id BIGINT NOT NULL REFERENCES writing_workflows (id),
    book BIGINT NOT NULL,
    ready BOOLEAN NOT NULL,
    -- What the book and the series were when it was made; -1: not made by this program.
    revision BIGINT NOT NULL,
    evidence BIGINT NOT NULL,
    report TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX writing_reports_book ON writing_reports (workflow_id, book, id);

-- What was imported from where, so that an import can be repeated.
CREATE TABLE writing_imports (
    source TEXT NOT NULL,
    source_table TEXT NOT NULL,
    source_id BIGINT NOT NULL,
    our_id BIGINT NOT NULL,
    PRIMARY KEY (source, source_table, source_id)
);
