//! A small world of its own for whole-program tests: one short folder with a home, repositories,
//! remotes, and the real `adwd` binary in it.
//!
//! Nothing of the caller's environment comes in but the search path, the locale and certificates.
//! When a world is dropped, every process that was started in it is ended and the folder removed.
//! Where the test process itself is killed, a watchdog shell does the same.

// Not every test file needs everything.
#![allow(dead_code)]
// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

pub mod agent;
pub mod daemon;
mod ground;
pub mod procs;
pub mod repo;
pub mod snapshot;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use agent::Agent;
pub use daemon::Daemon;
pub use ground::uv;
pub use repo::Repo;

use crate::mcp_support::{self, Client};
use crate::support::postgres;

/// The program under test.
pub const ADWD: &str = env!("CARGO_BIN_EXE_adwd");
/// How long something that takes a moment may take on a slow, busy machine, in seconds.
pub const SOON: u64 = 30;
/// How long a whole run may take.
pub const RUN: u64 = 120;

/// Which database the daemon uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// The world.
pub struct World {
    /// Its folder, `/tmp/adwe-X/wN`.
    pub root: PathBuf,
    env: Mutex<BTreeMap<String, String>>,
    settings: Mutex<BTreeMap<String, String>>,
    projects: Mutex<String>,
    launcher: Mutex<Vec<String>>,
}

/// How a command of the shell ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Standard output as one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// Insists on the exit code.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

impl World {
    /// A world whose daemon uses SQLite.
    pub async fn new() -> World {
        World::on(Engine::Sqlite).await.expect("SQLite is always there")
    }

    /// A world on that database; `None` (said loudly) where there is no such.
    pub async fn on(engine: Engine) -> Option<World> {
        let database = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => {
                // The first call starts a server: not on the runtime's thread.
                Some(tokio::task::spawn_blocking(postgres::fresh_database).await.unwrap()?)
            }
        };
        let root = ground::new_root();
        let uv = ground::uv().await;
        let world = World {
            env: Mutex::new(ground::environment(&root, &uv)),
            settings: Mutex::default(),
            projects: Mutex::default(),
            launcher: Mutex::default(),
            root,
        };
        for folder in ["home", "state", "config/adwd", "run"] {
            let path = world.root.join(folder);
            fs::DirBuilder::new().mode(0o700).recursive(true).create(path).unwrap();
        }
        world.write(
            "gitconfig",
            "[user]\n\tname = A Tester\n\temail = tester@example.org\n[init]\n\tdefaultBranch = main\n\
             [protocol \"file\"]\n\tallow = always\n",
        );
        if let Some(url) = database {
            world.set("database_url", &quoted(&url));
        }
        world.set("http.bind", "\"127.0.0.1:0\"");
        world.set("http.trust_loopback", "true");
        world.set("logs.level", "\"info,adwd=debug\"");
        world.set("retry.base_delay_s", "0");
        world.set("stop.int_grace_s", "2");
        world.set("stop.term_grace_s", "1");
        Some(world)
    }

    /// A path in the world.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The home folder; scripts see it as `$HOME`.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// The daemon's state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.path("state/adwd")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.path("run/adwd/adwd.sock")
    }

    /// The daemon's database.
    pub fn database_url(&self) -> String {
        let set = self.settings.lock().unwrap().get("database_url").cloned();
        set.map_or_else(
            || format!("sqlite:{}", self.state_dir().join("adwd.db").display()),
            |toml| serde_json::from_str(&toml).unwrap(),
        )
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.path("config/adwd/config.toml")
    }

    /// The environment of everything that is started here.
    pub fn env(&self) -> BTreeMap<String, String> {
        self.env.lock().unwrap().clone()
    }

    /// Changes the environment of what is started from now on; `None` takes a variable out.
    pub fn set_env(&self, name: &str, value: Option<&str>) {
        let mut env = self.env.lock().unwrap();
        match value {
            Some(value) => env.insert(name.to_owned(), value.to_owned()),
            None => env.remove(name),
        };
    }

    /// Daemons started from now on are started by this program, with these words of its own before
    /// theirs; it has to become the daemon (`exec`).
    pub fn launch_by(&self, words: Vec<String>) {
        *self.launcher.lock().unwrap() = words;
    }

    /// The words that start a daemon.
    pub fn serve_words(&self) -> Vec<String> {
        let mut words = self.launcher.lock().unwrap().clone();
        words.extend([ADWD, "serve"].map(str::to_owned));
        words
    }

    /// Sets one setting, by its dotted name, to a TOML value; for daemons started from now on.
    pub fn set(&self, key: &str, toml: &str) {
        self.settings.lock().unwrap().insert(key.to_owned(), toml.to_owned());
        self.write_config();
    }

    /// Adds the repository as a `[[project]]`; `extra` is further lines of its table.
    pub fn serve(&self, repo: &Repo, extra: &str) {
        let mut projects = self.projects.lock().unwrap();
        let (name, path) = (quoted(&repo.name), quoted(&repo.root.display().to_string()));
        let mut table = format!("[[project]]\nname = {name}\npath = {path}\n{extra}\n");
        if !extra.contains("check_command") {
            table.push_str("check_command = \"sh check\"\n");
        }
        projects.push_str(&table);
        drop(projects);
        self.write_config();
    }

    /// Takes all `[[project]]` tables out of the configuration.
    pub fn serve_nothing(&self) {
        self.projects.lock().unwrap().clear();
        self.write_config();
    }

    fn write_config(&self) {
        let mut text = String::new();
        for (key, value) in self.settings.lock().unwrap().iter() {
            writeln!(text, "{key} = {value}").unwrap();
        }
        text.push_str(&self.projects.lock().unwrap());
        fs::write(self.config_file(), text).unwrap();
    }

    /// Writes a file of the world.
    pub fn write(&self, relative: &str, text: &str) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a program of the world.
    pub fn program(&self, relative: &str, text: &str) -> PathBuf {
        let path = self.write(relative, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Runs `adwd` with these words, in the world's root, which is in no repository.
    pub async fn cli(&self, args: &[&str]) -> Ran {
        self.cli_in(&self.root.clone(), args).await
    }

    /// Runs `adwd` with these words in that folder.
    pub async fn cli_in(&self, folder: &Path, args: &[&str]) -> Ran {
        self.run_in(folder, ADWD, args).await
    }

    /// Runs a program to its end.
    pub async fn run_in(&self, folder: &Path, program: &str, args: &[&str]) -> Ran {
        let mut command = self.command(folder, program);
        command.args(args).stdin(Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(Duration::from_secs(RUN), command.output()).await;
        let output = ended
            .unwrap_or_else(|_| panic!("{program} {args:?} did not end within {RUN} s"))
            .unwrap_or_else(|e| panic!("{program} cannot be started: {e}"));
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A program in that folder, with the environment of this world.
    pub fn command(&self, folder: &Path, program: &str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        command.current_dir(folder).env_clear().envs(self.env());
        command
    }

    /// Starts a daemon and waits until it answers.
    pub async fn daemon(&self) -> Daemon<'_> {
        let mut daemon = Daemon::of(self);
        daemon.start().await;
        daemon
    }

    /// A daemon, not started yet, whose command comes after these words.
    pub fn daemon_under(&self, words: &[&str]) -> Daemon<'_> {
        Daemon::under(self, words)
    }

    /// The living processes of this world but its daemons: monitors, phases, agents, strays.
    pub fn processes(&self) -> Vec<procs::Proc> {
        let all = procs::of(&self.root).into_iter();
        all.filter(|p| !p.is_daemon() && !p.is_manager()).collect()
    }

    /// Waits until no process of this world but its daemons lives.
    pub async fn quiet(&self) {
        eventually("no process of the world is left", SOON, async || {
            let left = self.processes();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
        })
        .await;
    }

    /// What the daemons said, on standard error and in their log: for a failed test.
    pub fn last_words(&self) -> String {
        let mut words = String::new();
        let logs = fs::read_dir(self.state_dir().join("logs")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = logs.map(|entry| entry.path()).collect();
        files.retain(|path| !path.is_symlink());
        files.push(self.state_dir().join("daemon.out"));
        files.extend((1..=9).map(|n| self.path(&format!("daemon-{n}.err"))));
        files.retain(|path| path.exists());
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(60);
            let _ = writeln!(words, "== {}\n{}", file.display(), lines[from..].join("\n"));
        }
        words
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the world was {}\n{}", self.root.display(), self.last_words());
        }
        procs::end_all(&self.root);
        if std::thread::panicking() && std::env::var_os("ADWD_TEST_KEEP").is_some() {
            eprintln!("kept");
            return;
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// A TOML (and JSON) string.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Looks again and again until something holds, and answers what it gave. It polls a level, not an
/// edge: what held for a moment only may be missed. The only place in the tests that sleeps.
pub async fn eventually<T>(
    what: &str,
    bound_s: u64,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let until = Instant::now() + Duration::from_secs(bound_s);
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() > until => {
                panic!("not within {bound_s} s: {what}; at last: {seen}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(25)).await,
        }
    }
}

/// Everything known about a run.
pub async fn state(client: &Client, id: &str) -> Value {
    mcp_support::ok(client, "get_adw_state", serde_json::json!({ "adw_id": id })).await
}

/// Waits until a run has that status; where it ends otherwise, the panic says how.
pub async fn wait_status(client: &Client, id: &str, status: &str) -> Value {
    eventually(&format!("run {id} is {status}"), RUN, async || {
        let run = state(client, id).await;
        let now = run["status"].as_str().unwrap_or_default().to_owned();
        if now == status {
            return Ok(run);
        }
        assert!(!is_end(&now), "run {id} should become {status} and ended as {run:#}");
        Err(format!("{run:#}"))
    })
    .await
}

/// Waits until a run has ended, however.
pub async fn wait_ended(client: &Client, id: &str) -> Value {
    eventually(&format!("run {id} ended"), RUN, async || {
        let run = state(client, id).await;
        if is_end(run["status"].as_str().unwrap_or_default()) {
            Ok(run)
        } else {
            Err(run.to_string())
        }
    })
    .await
}

/// Waits until an ended run's worktree is gone: that comes just after the end.
pub async fn wait_removed(client: &Client, id: &str) -> Value {
    eventually(&format!("the worktree of run {id} is removed"), SOON, async || {
        let run = state(client, id).await;
        if run["worktree"] == "removed" { Ok(run) } else { Err(run.to_string()) }
    })
    .await
}

/// Whether a status is the end of a run.
pub fn is_end(status: &str) -> bool {
    !matches!(status, "queued" | "starting" | "running" | "stopping")
}

/// Declares a test for each database from one `async fn(World)`.
#[macro_export]
macro_rules! in_worlds_on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::world::World::new().await).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let engine = $crate::world::Engine::Postgres;
                if let Some(world) = $crate::world::World::on(engine).await {
                    super::$name(world).await;
                }
            })+
        }
    };
}
