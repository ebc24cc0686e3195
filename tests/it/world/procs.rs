//! Which processes belong to a world, as `/proc` tells it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proc {
    pub pid: i32,
    /// The session it is in.
    pub session: i32,
    /// Its arguments.
    pub argv: Vec<String>,
    /// Its `ADW_ATTEMPT_DIR` or its mark of an attempt, where it has one.
    pub attempt: Option<PathBuf>,
}

impl Proc {
    /// Whether it is a daemon (not a monitor, a client or a phase).
    pub fn is_daemon(&self) -> bool {
        self.runs_adwd() && self.argv.iter().any(|word| word == "serve")
    }

    /// Whether it is a phase's monitor.
    pub fn is_monitor(&self) -> bool {
        let program = self.argv.first().map_or("", String::as_str);
        (self.runs_adwd() || program.ends_with("/adwd-monitor"))
            && self.argv.get(1).is_some_and(|word| word == "__monitor")
    }

    /// Whether it is a user's service manager, of a machine that a test has booted.
    pub fn is_manager(&self) -> bool {
        let program = self.argv.first().map_or("", String::as_str);
        program == "(sd-pam)" || program.ends_with("/systemd")
    }

    /// The program under test, or the copy of it that a machine's account can run.
    fn runs_adwd(&self) -> bool {
        self.argv.first().is_some_and(|p| p == super::ADWD || p.ends_with("/bin/adwd"))
    }
}

/// Every living process of the world at `root`, daemons included: one whose environment, working
/// folder or arguments name it. A zombie counts as gone.
pub fn of(root: &Path) -> Vec<Proc> {
    let own = std::process::id().cast_signed();
    let mut needle = root.as_os_str().as_encoded_bytes().to_vec();
    needle.push(b'/');
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own).filter_map(|pid| read(pid, root, &needle)).collect()
}

fn read(pid: i32, root: &Path, needle: &[u8]) -> Option<Proc> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let argv = fs::read(folder.join("cmdline")).unwrap_or_default();
    let environ = fs::read(folder.join("environ")).unwrap_or_default();
    let names_it = |bytes: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
    let inside = || fs::read_link(folder.join("cwd")).is_ok_and(|cwd| cwd.starts_with(root));
    if !names_it(&environ) && !names_it(&argv) && !inside() {
        return None;
    }
    let process = adwd::runs::procfs::process(pid)?;
    let words = |bytes: &[u8]| -> Vec<String> {
        let parts = bytes.split(|b| *b == 0).filter(|part| !part.is_empty());
        parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
    };
    let mark = format!("{}=", adwd::runs::records::MARK);
    let attempt = words(&environ).into_iter().find_map(|word| {
        let folder = word.strip_prefix("ADW_ATTEMPT_DIR=").or_else(|| word.strip_prefix(&mark))?;
        Some(PathBuf::from(folder))
    });
    Some(Proc { pid, session: process.session, argv: words(&argv), attempt })
}

/// Ends every process of the world, the daemons first so that nothing new is started.
pub fn end_all(root: &Path) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let mut left = of(root);
        if left.is_empty() || Instant::now() > until {
            return;
        }
        left.sort_by_key(|process| !process.is_daemon());
        for process in left {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
