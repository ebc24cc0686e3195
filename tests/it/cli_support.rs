//! The real binary in a world of its own: home, state, runtime folder, environment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes this long; a hung program must not hang the suite.
const LIMIT: Duration = Duration::from_secs(60);

/// A place in which the binary touches nothing of the user's.
pub struct World {
    dir: TempDir,
    path: String,
}

impl World {
    pub fn new() -> World {
        // Not $TMPDIR, which may be deep: a socket's path has 107 bytes.
        let dir = tempfile::Builder::new().prefix("adwd-cli-").tempdir_in("/tmp").unwrap();
        let path = std::env::var("PATH").unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        World { dir, path }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn state(&self) -> PathBuf {
        self.dir().join("home/.local/state/adwd")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir().join("run/adwd/adwd.sock")
    }

    /// Puts a folder before all others on the search path.
    pub fn with_path(mut self, folder: &Path) -> World {
        self.path = format!("{}:{}", folder.display(), self.path);
        self
    }

    /// A command in the world's home, without the user's environment.
    #[allow(clippy::disallowed_methods)]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adwd"));
        let run = self.dir().join("run");
        std::fs::create_dir_all(&run).unwrap();
        command.args(args).env_clear().current_dir(self.dir().join("home"));
        command.env("PATH", &self.path).env("HOME", self.dir().join("home"));
        command.env("XDG_RUNTIME_DIR", run).env("ADWD_HTTP_BIND", "127.0.0.1:0");
        for name in ["SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT", "PIP_FIND_LINKS", "HTTPS_PROXY"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn serve(&self, args: &[&str]) -> Daemon {
        let log = std::fs::File::create(self.dir().join("serve.err")).unwrap();
        let mut words = vec!["serve"];
        words.extend(args);
        let child = self.command(&words).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let daemon = Daemon { child };
        let err = self.dir().join("serve.err");
        until("the daemon is ready", || {
            std::fs::read_to_string(&err).unwrap_or_default().contains(" ready: ")
        });
        daemon
    }
}

impl Drop for World {
    /// Ends a daemon that a command started in the background.
    fn drop(&mut self) {
        let pid = adwd::lock::InstanceLock::holder(&self.state());
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// A finished command.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    pub fn of(output: Output) -> Done {
        Done {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn ended(self, code: i32) -> Done {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// A daemon that dies with the test.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Waits for the end; answers the exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        until("the daemon has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A git repository with one commit and a bare remote beside it.
#[allow(clippy::disallowed_methods)]
pub fn repository(root: &Path) {
    std::fs::create_dir_all(root).unwrap();
    std::fs::write(root.join("file"), "text\n").unwrap();
    let remote = root.with_extension("git").display().to_string();
    let steps: [&[&str]; 6] = [
        &["init", "-q", "-b", "main"],
        &["add", "-A"],
        &["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "first"],
        &["init", "-q", "--bare", &remote],
        &["remote", "add", "origin", &remote],
        &["push", "-q", "-u", "origin", "main"],
    ];
    for args in steps {
        let done = Command::new("git").args(args).current_dir(root).output().unwrap();
        assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// The folder of the uv that whole worlds use too.
pub fn uv_folder() -> PathBuf {
    static FOLDER: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(crate::world::uv()).parent().unwrap().to_path_buf()
        })
        .clone()
}
