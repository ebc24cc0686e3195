//! The composition root: everything is put together here, started in order and ended in order.
//!
//! Life: claim the state folder → log → database → who may call → automation → runs → record of calls
//! → content and step workflows → the outside → socket → HTTP → ready. A first SIGTERM or SIGINT is
//! soft: nothing new is accepted, streams end with a result, open calls are answered, and the program
//! ends; runs live on under their monitors, and the next daemon finds them. A second one ends it at
//! once, which loses nothing either. SIGHUP is ignored: settings are read at the start.

mod budgets;
mod exposure;
mod ground;
mod host;
mod listen;
mod secrets;
mod signals;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use sd_notify::NotifyState;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::clock::SystemClock;
use crate::config::Loaded;
use crate::db::Db;
use crate::limits::BEAT_LIMIT_MS;
use crate::lock::InstanceLock;
use crate::mcp::{Gate, McpDeps};
use crate::runs::Runs;
use crate::telemetry::{self, TelemetryConfig};

pub use exposure::{Misconfigured, problem as exposure_problem};
use ground::Ground;
pub use host::recorded as recorded_host;
pub use listen::{recorded_http, recorded_socket};

/// What is still under way gets this long after the endpoints have ended, then it is cut off.
const DRAIN_LIMIT_MS: u64 = 5_000;
/// How often the supervisor's beat is looked at where no watchdog asks for more.
const WATCH_PERIOD_MS: u64 = 15_000;

/// What `serve` was told beside the settings.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Log to standard error as well.
    pub foreground: bool,
    /// Started in the background by another command.
    pub detached: bool,
    /// Repository to serve, beside the configured ones.
    pub repository: Option<PathBuf>,
    /// Whether it was named: one that we only happen to stand in must not keep us from starting.
    pub repository_named: bool,
    /// This program, for the monitors.
    pub exe: PathBuf,
}

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked: everything was drained.
    Softly,
    /// A second signal came: nothing was waited for.
    Hard,
}

/// Runs the daemon until a signal ends it. Everything that fails before it is ready is an error
/// that names the file, the address or the setting.
pub async fn serve(
    loaded: Loaded,
    env: BTreeMap<String, String>,
    options: Options,
) -> anyhow::Result<Ended> {
    let paths = &loaded.config.paths;
    private_folder(&paths.state_dir)
        .with_context(|| format!("cannot use {}", paths.state_dir.display()))?;
    let pid = u32::try_from(nix::unistd::getpid().as_raw()).unwrap_or_default();
    // Before the first byte is written: a second daemon leaves no trace.
    let _instance = InstanceLock::acquire(&paths.state_dir, pid)?;
    let _log = telemetry::init(&TelemetryConfig {
        log_dir: Some(paths.log_dir.clone()),
        level: loaded.config.logs.level.clone(),
        keep_days: loaded.config.logs.keep_days,
        stderr: options.foreground || (!options.detached && io::stderr().is_terminal()),
        env: env.clone(),
    })?;
    secrets::guard(&loaded.config);
    let state_dir = paths.state_dir.display();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid, %state_dir, "starting");
    if options.detached {
        // All settings are absolute by now; a daemon must not hold somebody's folder busy.
        let _ = std::env::set_current_dir("/");
    }
    let mut signals = signals::Signals::listen().context("cannot listen for signals")?;
    let mut daemon = Daemon::assemble(&loaded, env, &options).await?;
    daemon.announce(&options);
    let ended = daemon.until_signal(&mut signals).await;
    tracing::info!("stopping; runs live on under their monitors");
    let _ = sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    let how = tokio::select! {
        () = daemon.drain(&paths.state_dir) => Ended::Softly,
        name = signals.next() => {
            tracing::warn!(signal = name, "second signal: ending at once");
            Ended::Hard
        }
    };
    tracing::info!("stopped");
    ended.map(|()| how)
}

/// The parts of a running daemon.
struct Daemon {
    db: Db,
    runs: Runs,
    supervisor: JoinHandle<()>,
    sweeper: JoinHandle<()>,
    audit: Audit,
    recorder: JoinHandle<()>,
    teller: Option<JoinHandle<()>>,
    outside: JoinHandle<()>,
    endpoints: listen::Endpoints,
    stop: CancellationToken,
}

impl Daemon {
    async fn assemble(
        loaded: &Loaded,
        env: BTreeMap<String, String>,
        options: &Options,
    ) -> anyhow::Result<Daemon> {
        let ground = Ground::lay(&loaded.config).await?;
        exposure::check(&ground.config, &ground.access).await?;
        status("looking at the runs of before");
        let (runs, supervisor) = ground.runs(env, options).await?;
        let (audit, recorder) = ground.audit().await?;
        status("reading the content of step workflows");
        let (steps, sweeper) = ground.steps().await?;
        let observed = ground.observed(&runs);
        let teller = ground.traces(&runs);
        let (routes, outside) = ground.outside(&runs, &audit).await?;
        let asked = observed.clone();
        let deps = McpDeps {
            runs: runs.clone(),
            steps,
            writing: ground.writing(),
            access: ground.access.clone(),
            trigger_tools_enabled: ground.config.tools.triggers,
            toolsets: ground.config.tools.toolsets.clone(),
            tool_names: ground.config.tool_names,
            version: env!("CARGO_PKG_VERSION"),
            metrics: ground.metrics.clone(),
            health: Arc::new(move || {
                let asked = asked.clone();
                Box::pin(async move { asked.report().await })
            }),
            clock: Arc::new(SystemClock),
            gate: Gate::new(audit.clone(), ground.config.rates.clone()),
        };
        let parts = listen::Parts { deps, observed, outside: routes.router() };
        let endpoints = listen::Endpoints::open(loaded, parts, &ground.stop).await?;
        let Ground { db, stop, .. } = ground;
        Ok(Daemon {
            db,
            runs,
            supervisor,
            sweeper,
            audit,
            recorder,
            teller,
            outside,
            endpoints,
            stop,
        })
    }

    /// Says where it listens: to the service manager, the log, and whoever started it by hand.
    fn announce(&self, options: &Options) {
        let sentence = self.endpoints.sentence();
        tracing::info!("{sentence}");
        if !options.detached {
            told(&format!("adwd {} ready: {sentence}", env!("CARGO_PKG_VERSION")));
        }
        let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&sentence)]);
    }

    /// Waits for the first signal; meanwhile tells the service manager that the supervisor lives.
    /// An error says that it does not: then the service manager had better start another daemon.
    async fn until_signal(&mut self, signals: &mut signals::Signals) -> anyhow::Result<()> {
        let asked = sd_notify::watchdog_enabled();
        let period = asked.map_or(Duration::from_millis(WATCH_PERIOD_MS), |limit| limit / 3);
        let mut look = tokio::time::interval(period);
        let mut beat = Beat::new(self.runs.beats());
        loop {
            tokio::select! {
                name = signals.next() => {
                    tracing::info!(signal = name, "asked to stop");
                    return Ok(());
                }
                ended = &mut self.supervisor => {
                    let how = ended.err().map_or_else(String::new, |error| format!(": {error}"));
                    bail!("the supervisor of the runs ended by itself{how}");
                }
                ended = &mut self.sweeper => {
                    let how = ended.err().map_or_else(String::new, |error| format!(": {error}"));
                    bail!("the sweeper of step workflows ended by itself{how}");
                }
                ended = &mut self.recorder => {
                    let how = ended.err().map_or_else(String::new, |error| format!(": {error}"));
                    bail!("the record of calls ended by itself{how}");
                }
                _ = look.tick() => {
                    if beat.is_alive(self.runs.beats(), period) {
                        let _ = sd_notify::notify(&[NotifyState::Watchdog]);
                    } else {
                        tracing::error!(limit_ms = BEAT_LIMIT_MS, "the supervisor does not beat");
                    }
                }
            }
        }
    }

    /// Ends everything in order, each part within its bound.
    async fn drain(self, state_dir: &Path) {
        self.runs.stop_accepting();
        self.stop.cancel();
        self.endpoints.close(state_dir).await;
        ended("the schedules and hooks", self.outside).await;
        self.audit.end().await;
        ended("the record of calls", self.recorder).await;
        ended("the supervisor of the runs", self.supervisor).await;
        ended("the sweeper of step workflows", self.sweeper).await;
        if let Some(teller) = self.teller {
            ended("the teller of traces", teller).await;
        }
        self.db.close().await;
    }
}

/// Waits for a task that was asked to end, within its bound.
async fn ended(name: &str, task: JoinHandle<()>) {
    if task.is_finished() {
        return;
    }
    let limit = Duration::from_millis(DRAIN_LIMIT_MS);
    if tokio::time::timeout(limit, task).await.is_err() {
        tracing::warn!(limit_ms = DRAIN_LIMIT_MS, "{name} did not end in time");
    }
}

/// Whether a counter still grows.
struct Beat {
    last: u64,
    silent: Duration,
}

impl Beat {
    fn new(now: u64) -> Beat {
        Beat { last: now, silent: Duration::ZERO }
    }

    /// `passed`: the time since the last look.
    fn is_alive(&mut self, now: u64, passed: Duration) -> bool {
        self.silent = if now == self.last { self.silent + passed } else { Duration::ZERO };
        self.last = now;
        self.silent < Duration::from_millis(BEAT_LIMIT_MS)
    }
}

fn told(text: &str) {
    use io::Write as _;
    // A daemon whose standard error is gone goes on.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn status(text: &str) {
    tracing::debug!("{text}");
    let _ = sd_notify::notify(&[NotifyState::Status(text)]);
}

/// Makes `folder` (mode 0700) if it is not there; refuses one that others own or may write.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    let refused = |why: String| io::Error::new(io::ErrorKind::PermissionDenied, why);
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // In /tmp somebody else may have been there first; a link would lead us anywhere.
    let meta = std::fs::metadata(folder)?;
    if !meta.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no folder"));
    }
    let uid = nix::unistd::geteuid().as_raw();
    if meta.uid() != uid {
        return Err(refused(format!("it belongs to uid {}, and we are uid {uid}", meta.uid())));
    }
    if meta.mode() & 0o022 != 0 {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// The environment for children: uv needs a cache it can write, which a service without a home
/// folder has only in the state folder.
pub fn child_env(mut env: BTreeMap<String, String>, state_dir: &Path) -> BTreeMap<String, String> {
    let named = env.contains_key("UV_CACHE_DIR") || env.contains_key("UV_NO_CACHE");
    if !named && !uv_cache_is_writable(&env) {
        let cache = state_dir.join("uv-cache");
        tracing::info!(cache = %cache.display(), "the home folder cannot be written: uv gets a cache of its own");
        env.insert("UV_CACHE_DIR".into(), cache.display().to_string());
    }
    env
}

fn uv_cache_is_writable(env: &BTreeMap<String, String>) -> bool {
    let set = |name: &str| env.get(name).filter(|value| value.starts_with('/')).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let Some(base) = base else { return false };
    let cache = base.join("uv");
    if std::fs::create_dir_all(&cache).is_err() {
        return false;
    }
    // access(2) does not know about read-only mounts of a sandbox in every kernel: try it.
    let probe = cache.join(format!(".adwd-{}", nix::unistd::getpid()));
    let written = std::fs::write(&probe, b"").is_ok();
    let _ = std::fs::remove_file(probe);
    written
}

/// Ends the daemon that runs on `state_dir` and waits until the folder is free. `None`: none runs.
pub async fn stop(state_dir: &Path, limit: Duration) -> anyhow::Result<Option<u32>> {
    let Some(pid) = InstanceLock::holder(state_dir) else { return Ok(None) };
    let raw =
        i32::try_from(pid).map_err(|_| anyhow!("the lock file names the impossible pid {pid}"))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(raw), nix::sys::signal::Signal::SIGTERM)
        .with_context(|| format!("cannot signal the daemon (pid {pid})"))?;
    let until = tokio::time::Instant::now() + limit;
    while InstanceLock::holder(state_dir) == Some(pid) {
        if tokio::time::Instant::now() >= until {
            bail!(
                "the daemon (pid {pid}) was told to stop and still runs after {} s; `kill -9 {pid}` loses nothing",
                limit.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(Some(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_stopped_beating_is_not_alive() {
        let mut beat = Beat::new(1);
        assert!(beat.is_alive(1, Duration::from_secs(20)));
        assert!(beat.is_alive(1, Duration::from_secs(20)));
        assert!(!beat.is_alive(1, Duration::from_secs(20)));
        assert!(beat.is_alive(2, Duration::from_secs(20)));
    }

    #[test]
    fn uv_gets_a_cache_of_its_own_only_where_home_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let home = |path: &Path| BTreeMap::from([("HOME".to_owned(), path.display().to_string())]);
        assert!(!child_env(home(dir.path()), dir.path()).contains_key("UV_CACHE_DIR"));
        let env = child_env(home(Path::new("/proc/nowhere")), dir.path());
        assert!(env["UV_CACHE_DIR"].starts_with(&dir.path().display().to_string()));
        assert!(child_env(BTreeMap::new(), dir.path()).contains_key("UV_CACHE_DIR"));
    }

    #[test]
    fn a_private_folder_is_made_or_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        private_folder(&folder).unwrap();
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        private_folder(&folder).unwrap();
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(private_folder(&dir.path().join("file")).is_err());
    }
}
