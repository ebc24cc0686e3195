//! The integration tests: one binary, because each one links the whole program again.

mod cli_daemon;
mod cli_settings;
mod cli_support;
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
mod support;
mod world;
