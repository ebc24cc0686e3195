-- What a resume overwrites in `runs`: a row for each life that was followed by another one.
CREATE TABLE run_lives (
    adw_id TEXT NOT NULL,
    queued_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    status TEXT NOT NULL,
    todo TEXT NOT NULL,
    floors TEXT NOT NULL,
    failure TEXT,
    run_usage TEXT,
    PRIMARY KEY (adw_id, queued_at),
    FOREIGN KEY (adw_id) REFERENCES runs (adw_id)
);
CREATE INDEX run_lives_ended ON run_lives (ended_at);

-- Lives that a collector of traces was told of, or refused.
CREATE TABLE run_traces (
    adw_id TEXT NOT NULL,
    queued_at BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    told_at BIGINT NOT NULL,
    PRIMARY KEY (adw_id, queued_at)
);
CREATE INDEX run_traces_told ON run_traces (told_at);
