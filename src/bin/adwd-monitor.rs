//! The `adwd-monitor` binary: the monitor of a phase (`runs/monitor.rs`), and nothing else.
//!
//! `adwd` can be the monitor too, and is where this program is not beside it. A program of a twentieth
//! of the size begins sooner, and has less to itself in memory, of which each live run has one.

use std::process::ExitCode;

fn main() -> ExitCode {
    adwd::runs::monitor::from_words(std::env::args_os().skip(1)).unwrap_or_else(|| {
        adwd::runs::monitor::tell_version();
        ExitCode::SUCCESS
    })
}
