//! The `adwd` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    adwd::telemetry::tell_panics();
    // Before anything else: the monitor of a phase must not pay for, or fail on, what it needs not.
    adwd::runs::monitor::from_words(std::env::args_os().skip(1))
        .unwrap_or_else(|| ExitCode::from(adwd::cli::main()))
}
