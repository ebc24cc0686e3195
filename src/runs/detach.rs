//! Starting a program that outlives its starter: how the command line starts the daemon.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// A started program.
#[derive(Clone, Debug)]
pub struct Detached {
    /// Its process id; it names the program only while [`Detached::ended`] says `None`.
    pub pid: i32,
    ended: Arc<Mutex<Option<i32>>>,
}

impl Detached {
    /// How it ended, if it has: its exit code, or minus the signal that ended it.
    #[must_use]
    pub fn ended(&self) -> Option<i32> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts `exe` with `args` and `env` as its whole environment: in the caller's folder, without
/// an input, its output appended to `log`. It lives on when the caller ends; while the caller lives a thread
/// collects it, so that no zombie is left.
///
/// It stays in the caller's process group: a group of its own would make it a leader, and a leader
/// cannot call `setsid`, which the daemon does first thing when told that it is detached.
pub fn spawn_detached(
    exe: &Path,
    args: &[String],
    env: &BTreeMap<String, String>,
    log: &Path,
) -> io::Result<Detached> {
    let open = || OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    // The one place beside `process` and `monitor` that starts a program; see the module's text.
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(exe);
    command.args(args).env_clear().envs(env);
    command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let ended = Arc::new(Mutex::new(None));
    let told = ended.clone();
    std::thread::Builder::new().name("adwd-reap".into()).spawn(move || {
        let code = match child.wait() {
            Ok(status) => status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)),
            Err(_) => 0,
        };
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(code);
    })?;
    Ok(Detached { pid, ended })
}
