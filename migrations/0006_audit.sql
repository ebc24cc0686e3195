-- Calls, and how much each caller asked in its hour.

-- One row a call of a tool: written before it is answered, updated after.
CREATE TABLE mcp_invocations (
    -- Begins with the moment in ms, in twelve hexadecimal digits, so that the order of ids is time.
    id TEXT NOT NULL PRIMARY KEY,
    adw_id TEXT,
    tool_name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    tier TEXT NOT NULL,
    -- The arguments as JSON, secrets masked, long text cut.
    params TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    completed_at BIGINT,
    status TEXT NOT NULL CHECK (status IN ('open', 'ok', 'error', 'refused', 'interrupted')),
    duration_ms BIGINT,
    error_code TEXT,
    transport TEXT NOT NULL,
    request_id TEXT,
    -- The daemon that took it.
    host TEXT NOT NULL
);
-- What a daemon that starts looks for: its own calls that were never closed.
CREATE INDEX mcp_invocations_open ON mcp_invocations (host) WHERE status = 'open';
CREATE INDEX mcp_invocations_run ON mcp_invocations (adw_id) WHERE adw_id IS NOT NULL;

-- One row a caller, so one window a caller.
CREATE TABLE quotas (
    user_id TEXT NOT NULL PRIMARY KEY,
    window_start BIGINT NOT NULL,
    -- Tenths of a call.
    used_tenths BIGINT NOT NULL,
    -- Calls of this window that were refused.
    refused BIGINT NOT NULL
);
CREATE INDEX quotas_by_age ON quotas (window_start);
