//! Signals, as events.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Number of SIGXFSZ on Linux, which tokio has no name for.
const SIGXFSZ: i32 = 25;

/// The signals that end the daemon, and those that must not.
pub struct Signals {
    term: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Never read: with a handler a full quota is an error of `write` instead of our end.
    _file_size: Signal,
}

impl Signals {
    /// Listens from now on; before it a signal has its usual effect.
    pub fn listen() -> io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// Waits for the next signal that asks for the end. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.term.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    tracing::info!("SIGHUP ignored: settings are read at the start; restart to change them");
                }
            }
        }
    }
}
