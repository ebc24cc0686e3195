//! The integration tests: one binary, because each one links the whole program again.

mod cli_content;
mod cli_daemon;
mod cli_settings;
mod cli_support;
mod crash_daemon;
mod crash_limits;
mod crash_processes;
mod crash_random;
mod crash_resume;
mod crash_state;
mod crash_support;
mod crash_worktrees;
mod db;
mod e2e_external;
mod e2e_github;
mod e2e_looking;
mod e2e_many;
mod e2e_preflight;
mod e2e_refusals;
mod e2e_stdio;
mod e2e_steer;
mod e2e_transports;
mod foreign;
mod mcp_http;
mod mcp_support;
mod mcp_tools;
mod mcp_unix;
mod python;
mod runs_git;
mod runs_process;
mod runs_sql;
mod steps_content;
mod steps_control;
// It cuts connections with `db::fault`, which release builds do not have.
#[cfg(debug_assertions)]
mod steps_crash;
mod steps_flow;
mod steps_limits;
mod steps_shipped;
mod steps_support;
mod steps_tokens;
mod support;
mod world;
