//! The demo's world: its folder, its repository, its daemon, its client.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value, json};

use super::{Plan, Watcher, is_free, sample};
use crate::client::{Client, ClientError};
use crate::ids::{OsRng, Rng as _};
use crate::limits::SOCKET_PATH_MAX_BYTES;
use crate::runs::detach::{Detached, spawn_detached};
use crate::runs::{RunPage, RunView, Triggered};
use crate::{daemon, tool};

const GIT_LIMIT_MS: u64 = 30_000;
const START_LIMIT_MS: u64 = 30_000;
const POLL_MS: u64 = 50;
/// How often a run is looked at: often enough to see a build that takes seconds.
const LOOK_MS: u64 = 100;
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long a cancelled run may take to end its processes.
const CANCEL_LIMIT: Duration = Duration::from_secs(40);

/// Everything of one demo.
pub struct Stage {
    /// The folder of it all.
    pub root: PathBuf,
    runtime: PathBuf,
    exe: PathBuf,
    env: BTreeMap<String, String>,
    git: PathBuf,
    daemon: RefCell<Option<Detached>>,
}

impl Stage {
    /// Makes the folder, the repository with its bare remote, and the configuration.
    pub async fn set(plan: &Plan, uv: &Path) -> anyhow::Result<Stage> {
        let root = make_root(plan.dir.as_deref())?;
        let env = hermetic(&plan.env, &root);
        let git =
            tool::find("git", &env).context("git is not on PATH; install git 2.39 or newer")?;
        // A deep --dir leaves no room for a socket's path.
        let inside = root.join("run");
        let fits = inside.join("adwd.sock").as_os_str().len() <= SOCKET_PATH_MAX_BYTES;
        let runtime =
            if fits { inside } else { PathBuf::from(format!("/tmp/adwd-demo-{}", random())) };
        let stage =
            Stage { root, runtime, exe: plan.exe.clone(), env, git, daemon: RefCell::new(None) };
        if let Err(error) = stage.fill(uv).await {
            let _ = std::fs::remove_dir_all(&stage.root);
            return Err(error);
        }
        Ok(stage)
    }

    async fn fill(&self, uv: &Path) -> anyhow::Result<()> {
        let write = |path: &Path, text: &str| {
            std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        // The user's own git settings (hooks, signing) have no part in this.
        write(
            &self.root.join("gitconfig"),
            "[user]\n\tname = adwd demo\n\temail = demo@localhost\n[init]\n\tdefaultBranch = main\n",
        )?;
        write(&self.config_file(), &self.config(uv))?;
        let repository = self.repository();
        std::fs::create_dir_all(&repository).context("cannot make the sample repository")?;
        sample::write(&repository)?;
        let remote = self.remote().display().to_string();
        let steps: [(&Path, &[&str]); 6] = [
            (&self.root, &["init", "--quiet", "--bare", &remote]),
            (&repository, &["init", "--quiet"]),
            (&repository, &["add", "--all"]),
            (
                &repository,
                &["commit", "--quiet", "--message", "A shopping list that adds up, nearly"],
            ),
            (&repository, &["remote", "add", "origin", &remote]),
            (&repository, &["push", "--quiet", "--set-upstream", "origin", "main"]),
        ];
        for (folder, args) in steps {
            self.git(folder, args).await?;
        }
        Ok(())
    }

    fn config(&self, uv: &Path) -> String {
        let text = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        format!(
            "# The demo's own configuration: nothing outside {root} is used.\n\
             state_dir = {state}\nruntime_dir = {runtime}\nlogs.level = \"info,adwd=debug\"\n\n\
             [http]\nbind = \"127.0.0.1:0\"\n\n[uv]\npath = {uv}\n\n\
             [[project]]\nname = \"tally\"\npath = {repository}\n",
            root = self.root.display(),
            state = text(&self.state_dir()),
            runtime = text(&self.runtime),
            uv = text(uv),
            repository = text(&self.repository()),
        )
    }

    /// The sample repository.
    pub fn repository(&self) -> PathBuf {
        self.root.join("tally")
    }

    /// Its bare remote.
    pub fn remote(&self) -> PathBuf {
        self.root.join("tally.git")
    }

    /// The daemon's state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The daemon's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.root.join("adwd.toml")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.runtime.join("adwd.sock")
    }

    /// The daemon's process id.
    pub fn pid(&self) -> i32 {
        self.daemon.borrow().as_ref().map_or(0, |daemon| daemon.pid)
    }

    /// Starts the daemon and waits until it answers.
    pub async fn start(&self) -> anyhow::Result<()> {
        let config = self.config_file().display().to_string();
        let args = ["--config", &config, "serve", "--detached"].map(String::from);
        let log = self.root.join("daemon.out");
        let started = spawn_detached(&self.exe, &args, &self.env, &log)
            .with_context(|| format!("cannot start {}", self.exe.display()))?;
        self.daemon.replace(Some(started.clone()));
        for _ in 0..START_LIMIT_MS / POLL_MS {
            tokio::time::sleep(Duration::from_millis(POLL_MS)).await;
            match self.connect().await {
                Ok(_) => return Ok(()),
                Err(ClientError::Absent { .. }) => {}
                Err(other) => return Err(other.into()),
            }
            if let Some(code) = started.ended() {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("the daemon ended at once (exit code {code}): {}", said.trim());
            }
        }
        bail!("the daemon did not answer within {START_LIMIT_MS} ms; see {}", log.display())
    }

    async fn connect(&self) -> Result<Client, ClientError> {
        Client::connect(&self.socket()).await
    }

    /// Triggers a run over MCP; answers its id.
    pub async fn trigger(&self, issue: &str) -> anyhow::Result<String> {
        let client = self.connect().await?;
        let mut arguments = Map::new();
        arguments.insert("issue_number".into(), json!(issue));
        let triggered: Triggered = client.call("trigger_adw_workflow", arguments).await?;
        Ok(triggered.adw_id)
    }

    /// Watches a run until it has ended.
    pub async fn until_ended(
        &self,
        adw_id: &str,
        watch: &mut Watcher<'_>,
    ) -> anyhow::Result<RunView> {
        self.until(adw_id, watch, |_| false).await
    }

    /// Watches a run until `enough` says so, or it has ended.
    pub async fn until(
        &self,
        adw_id: &str,
        watch: &mut Watcher<'_>,
        enough: impl Fn(&RunView) -> bool,
    ) -> anyhow::Result<RunView> {
        let client = self.connect().await?;
        loop {
            let run: RunView = client.call("get_adw_state", about(adw_id)).await?;
            watch(&run);
            if run.status.is_terminal() || enough(&run) {
                return Ok(run);
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    /// Kills the daemon as no daemon can prevent; answers the pid it had.
    pub fn kill(&self) -> anyhow::Result<i32> {
        let daemon = self.daemon.borrow().clone().filter(|d| d.ended().is_none());
        let daemon = daemon.context("the daemon is gone already")?;
        kill(Pid::from_raw(daemon.pid), Signal::SIGKILL).context("cannot kill the daemon")?;
        Ok(daemon.pid)
    }

    /// Ends what still runs: first the runs, through the daemon, then the daemon.
    pub async fn strike(&self) -> anyhow::Result<()> {
        if self.daemon.borrow().is_none() {
            return Ok(());
        }
        // Killed in the middle of the story: only a daemon can end what runs on under monitors.
        if matches!(self.connect().await, Err(ClientError::Absent { .. })) {
            self.start().await?;
        }
        let ended = tokio::time::timeout(CANCEL_LIMIT, self.end_runs()).await;
        daemon::stop(&self.state_dir(), STOP_LIMIT).await?;
        if !self.runtime.starts_with(&self.root) {
            let _ = std::fs::remove_dir_all(&self.runtime);
        }
        ended.context("the runs did not end in time")?
    }

    async fn end_runs(&self) -> anyhow::Result<()> {
        let client = self.connect().await?;
        loop {
            let page: RunPage = client.call("list_adw_workflows", Map::new()).await?;
            let open: Vec<_> =
                page.workflows.iter().filter(|run| !run.status.is_terminal()).collect();
            if open.is_empty() {
                return Ok(());
            }
            for run in open {
                client.call_value("cancel_adw_workflow", about(&run.adw_id)).await?;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    /// The file behind a pull request's address.
    pub fn pull_request_file(&self, url: &str) -> PathBuf {
        let path = url.strip_prefix("file://").unwrap_or(url);
        self.repository().join(unquoted(path))
    }

    /// The change of a branch, as the remote has it.
    pub async fn diff(&self, branch: &str) -> anyhow::Result<String> {
        let range = format!("main...{branch}");
        self.git(&self.remote(), &["diff", "--no-color", &range, "--", "tally.sh", "tests"]).await
    }

    async fn git(&self, folder: &Path, args: &[&str]) -> anyhow::Result<String> {
        let done = tool::run(&self.git, args, folder, &self.env, GIT_LIMIT_MS)
            .await
            .map_err(|error| anyhow!("git {}: {error}", args.join(" ")))?;
        if done.code != Some(0) {
            bail!("git {}: {}", args.join(" "), done.stderr);
        }
        Ok(done.stdout)
    }
}

fn about(adw_id: &str) -> Map<String, Value> {
    let mut arguments = Map::new();
    arguments.insert("adw_id".into(), json!(adw_id));
    arguments
}

fn make_root(wanted: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = match wanted {
        Some(dir) if is_free(dir) => dir.to_path_buf(),
        Some(dir) => bail!("{} is there and not empty", dir.display()),
        None => std::env::temp_dir().join(format!("adwd-demo-{}", random())),
    };
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
    }
    daemon::private_folder(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // Git answers with resolved paths; ours must compare equal.
    dir.canonicalize().with_context(|| format!("cannot resolve {}", dir.display()))
}

fn random() -> String {
    let mut bytes = [0_u8; 3];
    OsRng.fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The user's environment without what would reach outside: settings of adwd, of ADW, of git.
fn hermetic(env: &BTreeMap<String, String>, root: &Path) -> BTreeMap<String, String> {
    let mut own: BTreeMap<String, String> = env
        .iter()
        .filter(|(name, _)| {
            !["ADWD_", "ADW_", "GIT_"].iter().any(|prefix| name.starts_with(prefix))
        })
        .filter(|(name, _)| {
            !matches!(
                name.as_str(),
                "VIRTUAL_ENV" | "PYTHONPATH" | "NOTIFY_SOCKET" | "WATCHDOG_USEC"
            )
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    own.insert("GIT_CONFIG_GLOBAL".into(), root.join("gitconfig").display().to_string());
    own.insert("GIT_CONFIG_NOSYSTEM".into(), "1".into());
    own
}

/// Undoes the percent signs of an address.
fn unquoted(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail
            .get(..2)
            .and_then(|two| std::str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back() {
        assert_eq!(unquoted("/tmp/a%20b/%C3%BC.md"), "/tmp/a b/ü.md");
        assert_eq!(unquoted("/100%"), "/100%");
        assert_eq!(unquoted("%zz"), "%zz");
    }

    #[test]
    fn settings_from_outside_do_not_reach_the_stage() {
        let env = ["ADWD_SOCKET", "ADW_AGENT", "GIT_DIR", "PATH"]
            .map(|n| (n.to_owned(), "x".to_owned()))
            .into();
        let own = hermetic(&env, Path::new("/r"));
        let names: Vec<&str> = own.keys().map(String::as_str).collect();
        assert_eq!(names, ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "PATH"]);
    }
}
