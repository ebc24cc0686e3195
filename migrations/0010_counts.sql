-- What counting the runs of a filter reads. Without it every row is read, its state file included:
-- 4 ms instead of 0.2 for 10,000 runs.
CREATE INDEX runs_count ON runs (status, project, issue_number, created_at, adw_id);
