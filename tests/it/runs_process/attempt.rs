//! One attempt in a temporary folder, started through the real binary.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use adwd::runs::process::{MonitorLaunch, ScopeSpec, launch_monitor};
use adwd::runs::procfs;
use adwd::runs::records::{ExitRecord, Identity, LaunchSpec, Probe, StartRecord, probe};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest wait for something that must happen; a loaded machine needs some of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at a level until it is there.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the process with this identity lives; a zombie does not.
pub fn lives(id: Identity) -> bool {
    procfs::process(id.pid).is_some_and(|p| p.id == id)
}

pub struct Attempt {
    folder: tempfile::TempDir,
    pub spec: LaunchSpec,
    pub env: BTreeMap<OsString, OsString>,
    pub scope: Option<ScopeSpec>,
}

impl Attempt {
    /// An attempt that will run `script` with `sh`.
    pub fn sh(script: &str) -> Attempt {
        Attempt::argv(&["/bin/sh", "-c", script])
    }

    pub fn argv(argv: &[&str]) -> Attempt {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("attempt")).unwrap();
        let spec = LaunchSpec {
            argv: argv.iter().map(|a| (*a).to_owned()).collect(),
            cwd: folder.path().to_path_buf(),
            wall_ms: 120_000,
            int_grace_ms: 10_000,
            term_grace_ms: 10_000,
            log_cap_bytes: 1 << 20,
        };
        let names = ["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "HOME"];
        let env =
            names.iter().filter_map(|n| Some((OsString::from(n), std::env::var_os(n)?))).collect();
        Attempt { folder, spec, env, scope: None }
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("attempt")
    }

    /// Working folder of the phase, where it can leave signs.
    pub fn cwd(&self) -> &Path {
        self.folder.path()
    }

    pub fn launch(&self) -> MonitorLaunch {
        self.spec.write(&self.dir()).unwrap();
        MonitorLaunch {
            exe: PathBuf::from(env!("CARGO_BIN_EXE_adwd")),
            attempt_dir: self.dir(),
            env: self.env.clone(),
            scope: self.scope.clone(),
        }
    }

    pub async fn start(&self) {
        launch_monitor(&self.launch()).await.unwrap();
    }

    pub fn probe(&self) -> Probe {
        probe(&self.dir()).unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir().join("execution.log")).unwrap_or_default()
    }

    /// Waits for a file that the phase leaves, and what is in it.
    pub fn sign(&self, name: &str) -> String {
        let path = self.cwd().join(name);
        until(name, || std::fs::read_to_string(&path).ok().filter(|t| t.ends_with('\n')))
    }

    /// Waits for a pid that the phase tells, and takes its identity.
    pub fn process(&self, name: &str) -> Identity {
        let pid = self.sign(name).trim().parse().unwrap();
        procfs::process(pid).expect("the process lives").id
    }

    pub async fn end(&self) -> ExitRecord {
        let dir = self.dir();
        let wait = move || {
            until("exit.json", || match probe(&dir).unwrap() {
                Probe::Ended(exit) => Some(exit),
                Probe::Vanished(_) => panic!("the attempt vanished"),
                _ => None,
            })
        };
        tokio::task::spawn_blocking(wait).await.unwrap()
    }

    /// `start.json` with the child in it.
    pub fn started(&self) -> StartRecord {
        until("start.json", || match self.probe() {
            Probe::Live { start: Some(start), .. } if start.child.is_some() => Some(start),
            _ => None,
        })
    }

    /// `kill -9` of the monitor, waited for.
    pub fn kill_monitor(&self) -> StartRecord {
        let start = self.started();
        kill(Pid::from_raw(start.monitor.pid), Signal::SIGKILL).unwrap();
        until("death of the monitor", || (!lives(start.monitor)).then_some(()));
        start
    }
}
