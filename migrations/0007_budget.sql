-- What was spent: one row for each attempt and day, in the zone that held when it was written. The
-- sum over a run's rows is what its agents said; of a call that goes on, what was seen of it.
-- Attempt 0 is what was spent before there was this table, or by a run that the daemon only watches.
CREATE TABLE spending (
    adw_id TEXT NOT NULL,
    phase TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    day TEXT NOT NULL,
    project TEXT NOT NULL,
    user_id TEXT NOT NULL,
    agent_calls BIGINT NOT NULL,
    cut_calls BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_creation_tokens BIGINT NOT NULL,
    usd_micro BIGINT NOT NULL,
    estimated_micro BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (adw_id, phase, attempt, day),
    FOREIGN KEY (adw_id) REFERENCES runs (adw_id)
);
CREATE INDEX spending_day ON spending (day, project);
CREATE INDEX spending_user ON spending (user_id, day);

-- The failure (JSON) with which a run ends that was stopped because a budget is used up. Stored
-- before anything is signalled.
ALTER TABLE runs ADD COLUMN budget_stop TEXT;
