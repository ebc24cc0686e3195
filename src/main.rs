//! The `adwd` binary.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    adwd::telemetry::tell_panics();
    let mut words = std::env::args_os().skip(1);
    // Before anything else: the monitor of a phase must not pay for, or fail on, what it needs not.
    if words.next().is_some_and(|word| word == adwd::runs::records::MONITOR_COMMAND) {
        let code = words.next().map_or(2, |dir| adwd::runs::monitor::monitor_main(Path::new(&dir)));
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    ExitCode::from(adwd::cli::main())
}
