//! The composition root: everything is put together here, started in order and ended in order.
//!
//! Life: claim the state folder → log → database → automation → writing → runs → content and step
//! workflows → socket → HTTP → ready. A first SIGTERM or SIGINT is soft: nothing new is accepted,
//! streams end with a result, open calls are answered, and the program ends; runs live on under
//! their monitors, and the next daemon finds them. A second one ends it at once, which loses nothing
//! either. SIGHUP is ignored: settings are read at the start.

mod budgets;
mod exposure;
mod host;
mod listen;
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

use crate::audit::{Audit, AuditDeps};
use crate::auth::{Access, AccessDeps};
use crate::automation;
use crate::changes::Changes;
use crate::clock::SystemClock;
use crate::config::{Config, Loaded};
use crate::db::Db;
use crate::ids::OsRng;
use crate::limits::{AUDIT_KEEP_COUNT, BEAT_LIMIT_MS};
use crate::lock::InstanceLock;
use crate::mcp::{Gate, McpDeps};
use crate::metrics::Metrics;
use crate::outside::{Outside, OutsideDeps};
use crate::runs::{Runs, RunsDeps};
use crate::steps::{Library, LibraryDeps, Steps, StepsDeps};
use crate::telemetry::{self, TelemetryConfig};
use crate::traces::{self, TracesDeps};
use crate::web::{HealthDeps, Observed};
use crate::writing::{Writing, WritingDeps};

use budgets::KeyBudgets;
pub use exposure::{Misconfigured, problem as exposure_problem};
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
        let config = Arc::new(loaded.config.clone());
        let state_dir = &config.paths.state_dir;
        // Before the database is made: one that is there already says that this is no first start.
        let host = host::name(state_dir, &OsRng).context("cannot tell which runs are ours")?;
        status("opening the database");
        let metrics = Metrics::default();
        let db = Db::open(&config.paths.database_url).await?.measured(metrics.statements());
        db.migrate(&SystemClock).await?;
        let access = open_access(&config, &db).await?;
        exposure::check(&config, &access).await?;
        let automation = automation::materialise(state_dir)?;
        status("looking at the runs of before");
        let stop = CancellationToken::new();
        let changes = Changes::new();
        let writing = Writing::open(WritingDeps {
            db: db.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            changes: changes.clone(),
            config: config.writing.clone(),
        });
        let (runs, supervisor) = Runs::start(RunsDeps {
            own_budgets: Arc::new(KeyBudgets(access.clone())),
            config: config.clone(),
            db: db.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            changes: changes.clone(),
            exe: options.exe.clone(),
            host: host.clone(),
            automation: automation.clone(),
            base_env: child_env(env, state_dir),
            metrics: metrics.clone(),
            shutdown: stop.clone(),
        })
        .await?;
        if let Some(root) = &options.repository {
            match add_repository(&runs, root).await {
                Err(error) if !options.repository_named => {
                    told(&format!("not serving the current folder: {error:#}"));
                }
                other => other?,
            }
        }
        let (audit, recorder) = open_audit(&config, &db, &host).await?;
        status("reading the content of step workflows");
        let (steps, sweeper) =
            open_steps(&config, &db, &changes, host.clone(), &automation, &stop).await?;
        let observed = observed(&config, &db, &runs, &metrics, &stop);
        let asked = observed.clone();
        let teller = tell_traces(&config, &runs, &host, &metrics, &stop);
        let (routes, outside) = open_outside(&config, &db, &runs, &audit, host, &stop).await?;
        let deps = McpDeps {
            runs: runs.clone(),
            steps,
            writing,
            access,
            trigger_tools_enabled: config.tools.triggers,
            toolsets: config.tools.toolsets.clone(),
            tool_names: config.tool_names,
            version: env!("CARGO_PKG_VERSION"),
            metrics,
            health: Arc::new(move || {
                let asked = asked.clone();
                Box::pin(async move { asked.report().await })
            }),
            clock: Arc::new(SystemClock),
            gate: Gate::new(audit.clone(), config.rates.clone()),
        };
        let parts = listen::Parts { deps, observed, outside: routes.router() };
        let endpoints = listen::Endpoints::open(loaded, parts, &stop).await?;
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

/// Keys and tokens. Settings that would let strangers in keep the daemon from starting.
async fn open_access(config: &Config, db: &Db) -> anyhow::Result<Access> {
    for found in config.access.contradictions() {
        if found.fatal {
            return Err(Misconfigured(format!("{}; {}", found.problem, found.mend)).into());
        }
        tracing::warn!(mend = %found.mend, "{}", found.problem);
    }
    let deps = AccessDeps {
        db: db.clone(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(OsRng),
        state_dir: config.paths.state_dir.clone(),
        config: config.access.clone(),
    };
    Access::open(deps).await.context("cannot open the keys of callers")
}

/// The record of calls; what an earlier daemon left open in it is interrupted.
async fn open_audit(
    config: &Config,
    db: &Db,
    host: &str,
) -> anyhow::Result<(Audit, JoinHandle<()>)> {
    let (audit, writer) = Audit::start(AuditDeps {
        db: db.clone(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(OsRng),
        host: host.to_owned(),
        keep_ms: config.rates.audit_keep_ms,
        keep_count: AUDIT_KEEP_COUNT,
    })
    .await?;
    Ok((audit, tokio::spawn(writer.run())))
}

/// Step workflows: the content that the program carries and the user's folders, and the engine.
/// Content that is not in order keeps nothing from starting; the log and `adwd doctor` name it.
async fn open_steps(
    config: &Config,
    db: &Db,
    changes: &Changes,
    host: String,
    automation: &Path,
    stop: &CancellationToken,
) -> anyhow::Result<(Steps, JoinHandle<()>)> {
    let own = config.contents.iter().map(|content| content.path.clone());
    let library = Library::open(LibraryDeps {
        db: db.clone(),
        clock: Arc::new(SystemClock),
        changes: changes.clone(),
        host,
        folders: std::iter::once(automation.join("content")).chain(own).collect(),
        shutdown: stop.clone(),
    })
    .await?;
    let opened = Steps::open(StepsDeps {
        db: db.clone(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(OsRng),
        changes: changes.clone(),
        library,
        config: config.steps.clone(),
        state_dir: config.paths.state_dir.clone(),
        shutdown: stop.clone(),
    })
    .await?;
    Ok(opened)
}

/// Tells a collector of ended runs, where one is configured. What is wrong with that is no reason
/// not to start.
fn tell_traces(
    config: &Config,
    runs: &Runs,
    host: &str,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Option<JoinHandle<()>> {
    let deps = TracesDeps {
        runs: runs.clone(),
        otlp: config.observe.otlp.clone(),
        host: host.to_owned(),
        metrics: metrics.clone(),
        shutdown: stop.clone(),
    };
    traces::start(deps).unwrap_or_else(|error| {
        tracing::error!("traces of runs are not told to the collector: {error}");
        None
    })
}

/// Who is asked how the daemon is.
fn observed(
    config: &Config,
    db: &Db,
    runs: &Runs,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Observed {
    let deps = HealthDeps {
        runs: runs.clone(),
        engine: db.engine().name(),
        state_dir: config.paths.state_dir.clone(),
        uv_path: config.uv.path.clone(),
        python: config.uv.python.clone(),
        env: runs.base_env(),
        clock: Arc::new(SystemClock),
    };
    Observed::new(deps, metrics.clone(), stop.clone())
}

/// What starts runs from outside, and who is told of their end.
async fn open_outside(
    config: &Config,
    db: &Db,
    runs: &Runs,
    audit: &Audit,
    host: String,
    stop: &CancellationToken,
) -> anyhow::Result<(Outside, JoinHandle<()>)> {
    let opened = Outside::start(OutsideDeps {
        config: config.outside.clone(),
        db: db.clone(),
        runs: runs.clone(),
        audit: audit.clone(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(OsRng),
        host,
        version: env!("CARGO_PKG_VERSION"),
        shutdown: stop.clone(),
    });
    opened.await.context("cannot listen to the outside")
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

async fn add_repository(runs: &Runs, root: &Path) -> anyhow::Result<()> {
    let path = root.display().to_string();
    let (project, added) = runs.add_project(&path, None).await?;
    if added {
        tracing::info!(project = %project.name, %path, profile = %project.profile, "a repository is served now");
        told(&format!(
            "serving {path} as project {:?} (profile {}: {})",
            project.name, project.profile, project.profile_reason
        ));
    }
    Ok(())
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
