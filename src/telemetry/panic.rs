//! What a panic says. Its message can hold whatever the program held, so it is masked like the log,
//! and the log has it too: a daemon's standard error is often nobody's.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;
use std::panic::PanicHookInfo;

use super::clean_line;

/// Tells every panic of this process on one line of standard error and in the log, with secrets
/// masked, in place of the standard library's words. With `RUST_BACKTRACE` the places follow.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|info| {
        let line = sentence(info);
        tracing::error!("{line}");
        let mut text = clean_line(line.as_bytes());
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            text.push_str(&super::redact(&trace.to_string()));
            text.push('\n');
        }
        // Whoever closed it cannot be told.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }));
}

fn sentence(info: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = info.location().map_or_else(|| "nowhere".to_owned(), ToString::to_string);
    let message = info.payload_as_str().unwrap_or("no message");
    format!("a defect of adwd: thread {name} panicked at {place}: {message}")
}
