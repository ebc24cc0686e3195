//! What every part of the shell shares: configuration, database, clock, projects, hints.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error::RunsError;
use super::git::Git;
use super::known::Known;
use super::launch;
use super::project::Project;
use super::run::RetryPolicy;
use super::sql;
use super::worktree::Worktrees;
use crate::auth::Scope;
use crate::changes::{Changed, Changes};
use crate::clock::{Clock, Millis};
use crate::config::{Config, ProjectConfig};
use crate::db::{Db, DbError};
use crate::ids::{ProjectName, Rng, RunId};
use crate::metrics::Metrics;

/// What the slice is built from.
pub struct RunsDeps {
    /// Configuration.
    pub config: Arc<Config>,
    /// Database, migrated.
    pub db: Db,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub rng: Arc<dyn Rng>,
    /// The road upward.
    pub changes: Changes,
    /// The program to start monitors with.
    pub exe: PathBuf,
    /// Name of this machine: only its own runs are touched.
    pub host: String,
    /// What keys say of their own budgets.
    pub own_budgets: Arc<dyn OwnBudgets>,
    /// Folder with the automation that the daemon carries (it holds `adws/`).
    pub automation: PathBuf,
    /// The daemon's own environment.
    pub base_env: BTreeMap<String, String>,
    /// Where ends, durations and costs are counted.
    pub metrics: Metrics,
    /// Cancelled when the daemon stops; runs live on under their monitors.
    pub shutdown: CancellationToken,
}

/// Budgets that keys carry themselves; whoever keeps the keys answers.
pub trait OwnBudgets: Send + Sync {
    /// What the caller of that name may spend in a day, in cents, where it says so itself instead of
    /// the configuration; 0 is no limit.
    ///
    /// # Errors
    /// The database's.
    fn day_cents<'a>(
        &'a self,
        user_id: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Option<i64>, DbError>> + Send + 'a>>;
}

/// No key has a budget of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOwnBudgets;

impl OwnBudgets for NoOwnBudgets {
    fn day_cents<'a>(
        &'a self,
        _user_id: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Option<i64>, DbError>> + Send + 'a>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

const JANITOR_AGAIN: Duration = Duration::from_millis(crate::limits::JANITOR_AGAIN_MS);

/// The shared context.
pub(crate) struct Ctx {
    pub deps: RunsDeps,
    projects: Mutex<BTreeMap<String, Arc<Project>>>,
    /// Projects that are to be served and cannot be just now.
    unserved: Mutex<BTreeMap<String, Unserved>>,
    /// Wakes the supervisor; a hint without data.
    pub wake: Notify,
    /// Something may be left to sweep that a moment ago was not there.
    pub sweep: Notify,
    /// Wakes the driver of a run.
    drivers: Mutex<BTreeMap<String, Arc<Notify>>>,
    /// Beats of the supervisor, for the watchdog.
    pub beats: std::sync::atomic::AtomicU64,
    /// When it beat last.
    beat_at: Mutex<Instant>,
    pub hints: crate::watch::Watcher,
    /// Scripts whose environment was made ready, with the digest of their text; programs whose
    /// version is good, with that of their file's size and time.
    warm: Mutex<BTreeMap<PathBuf, u64>>,
    /// What uv and git answered before.
    pub known: Known,
    /// Ended runs whose worktree could not be removed, and when that was tried.
    put_off: Mutex<BTreeMap<String, Instant>>,
}

/// A project that is configured, or was added, and cannot be served as things are.
#[derive(Clone, Debug)]
pub(crate) struct Unserved {
    pub table: ProjectConfig,
    pub source: &'static str,
    pub problem: String,
}

fn digest_of(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Ctx {
    pub fn new(deps: RunsDeps, hints: crate::watch::Watcher) -> Ctx {
        Ctx {
            deps,
            projects: Mutex::new(BTreeMap::new()),
            unserved: Mutex::new(BTreeMap::new()),
            wake: Notify::new(),
            sweep: Notify::new(),
            drivers: Mutex::new(BTreeMap::new()),
            beats: std::sync::atomic::AtomicU64::new(0),
            beat_at: Mutex::new(Instant::now()),
            hints,
            warm: Mutex::new(BTreeMap::new()),
            known: Known::default(),
            put_off: Mutex::new(BTreeMap::new()),
        }
    }

    /// The supervisor begins another round.
    pub fn beat(&self) {
        self.beats.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        *self.beat_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Since the supervisor's last round.
    pub fn beat_age(&self) -> Duration {
        self.beat_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Whether the environment of a script must still be made ready.
    pub fn warm_needed(&self, script: &Path, text: &str) -> bool {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner).get(script)
            != Some(&digest_of(text))
    }

    pub fn warmed(&self, script: &Path, text: &str) {
        self.warm
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(script.to_path_buf(), digest_of(text));
    }

    /// Leaves the worktree of an ended run alone for a while: why it stays seldom changes soon.
    pub fn put_off(&self, adw_id: &str) {
        let mut all = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, at| at.elapsed() < JANITOR_AGAIN);
        all.insert(adw_id.to_owned(), Instant::now());
    }

    /// Looks again at the next round: the run went on, and why its worktree stayed may be over.
    pub fn put_on(&self, adw_id: &str) {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner).remove(adw_id);
    }

    pub fn is_put_off(&self, adw_id: &str) -> bool {
        let all = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(adw_id).is_some_and(|at| at.elapsed() < JANITOR_AGAIN)
    }

    pub fn now(&self) -> Millis {
        self.deps.clock.now()
    }

    /// The wall clock, as the file system stamps files with it.
    pub fn file_time(&self) -> SystemTime {
        let ms = u64::try_from(self.now().0).unwrap_or(0);
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    pub fn db(&self) -> &Db {
        &self.deps.db
    }

    pub fn config(&self) -> &Config {
        &self.deps.config
    }

    pub fn retry(&self) -> RetryPolicy {
        let r = &self.config().retry;
        RetryPolicy {
            max_attempts: i64::from(r.max_attempts),
            base_delay_ms: i64::try_from(r.base_delay_ms).unwrap_or(i64::MAX),
            max_delay_ms: i64::try_from(r.max_delay_ms).unwrap_or(i64::MAX),
        }
    }

    /// Name of the deployment environment in the log tree (`ADW_ENV`).
    pub fn environment(&self) -> String {
        let given = self.deps.base_env.get("ADW_ENV").map_or("local", String::as_str);
        if given.is_empty() || given.contains(['/', '\0']) || given.starts_with('.') {
            "local".into()
        } else {
            given.into()
        }
    }

    /// Environment of everything that is started for a project, before phase particulars.
    pub fn base_env(&self, project: &Project) -> BTreeMap<String, String> {
        let mut extra = self.config().env_allow.clone();
        extra.extend(project.config.env_allow.iter().cloned());
        let mut env = launch::base_env(&self.deps.base_env, &extra);
        if let Some(python) = &self.config().uv.python {
            env.insert("UV_PYTHON".into(), python.to_string());
        }
        env
    }

    /// Git in the main checkout of a project.
    pub fn git(&self, project: &Project) -> Git {
        Git::new(&project.root, self.base_env(project))
    }

    /// Worktrees of a project.
    pub fn worktrees(&self, project: &Project) -> Worktrees {
        Worktrees::new(self.git(project), project.trees_dir())
    }

    /// The project of that name.
    pub fn project(&self, name: &str) -> Option<Arc<Project>> {
        self.lock_projects().get(name).cloned()
    }

    /// All projects, by name.
    pub fn projects(&self) -> Vec<Arc<Project>> {
        self.lock_projects().values().cloned().collect()
    }

    /// The projects that exist for a scope, by name.
    pub fn projects_within(&self, scope: &Scope) -> Vec<Arc<Project>> {
        let mut all = self.projects();
        all.retain(|project| scope.holds(&project.name));
        all
    }

    pub fn put_project(&self, project: Project) -> Arc<Project> {
        let project = Arc::new(project);
        self.lock_unserved().remove(&project.name);
        self.lock_projects().insert(project.name.clone(), Arc::clone(&project));
        project
    }

    pub fn drop_project(&self, name: &str) {
        self.lock_projects().remove(name);
        self.lock_unserved().remove(name);
    }

    /// Projects that cannot be served just now, by name.
    pub fn unserved(&self) -> Vec<Unserved> {
        self.lock_unserved().values().cloned().collect()
    }

    /// The same that exist for a scope.
    pub fn unserved_within(&self, scope: &Scope) -> Vec<Unserved> {
        let mut all = self.unserved();
        all.retain(|unserved| scope.holds(unserved.table.name.as_str()));
        all
    }

    fn lock_unserved(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Unserved>> {
        self.unserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries again what could not be served: a disk may be back, a file mended. Runs of such a
    /// project rest meanwhile; answers whether some can go on.
    pub fn try_unserved(&self) -> bool {
        let all = self.unserved();
        let back = all.into_iter().filter(|u| self.serve(&u.table, u.source)).count();
        if back > 0 {
            self.wake.notify_one();
        }
        back > 0
    }

    /// Serves a project, or notes why that cannot be.
    fn serve(&self, table: &ProjectConfig, source: &'static str) -> bool {
        match Project::resolve(self.config(), table, source, &self.deps.automation) {
            Ok(project) => {
                tracing::info!(
                    project = project.name,
                    "project served: {}",
                    project.profile_reason
                );
                self.put_project(project);
                true
            }
            Err(e) => {
                let problem = match e {
                    RunsError::BadProject { problem, .. } => problem,
                    other => other.to_string(),
                };
                let entry = Unserved { table: table.clone(), source, problem: problem.clone() };
                self.sweep.notify_one();
                let before = self.lock_unserved().insert(table.name.to_string(), entry);
                if before.is_none_or(|b| b.problem != problem) {
                    let path = table.path.display();
                    tracing::error!(project = %table.name, %path, "cannot be served: {problem}");
                }
                false
            }
        }
    }

    fn lock_projects(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Project>>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The project that a request means. What is outside its scope is as if it were not served.
    pub fn wanted_project(
        &self,
        scope: &Scope,
        name: Option<&str>,
    ) -> Result<Arc<Project>, RunsError> {
        self.try_unserved();
        let (all, unserved) = (self.projects_within(scope), self.unserved_within(scope));
        let known = || all.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        let bad = |u: &Unserved| RunsError::BadProject {
            path: u.table.path.display().to_string(),
            problem: u.problem.clone(),
        };
        if let Some(found) = name.and_then(|n| unserved.iter().find(|u| u.table.name.as_str() == n))
        {
            return Err(bad(found));
        }
        match (name, all.as_slice()) {
            (None, []) if !unserved.is_empty() => Err(bad(&unserved[0])),
            (_, []) => Err(RunsError::NoProject),
            (Some(name), _) => self
                .project(name)
                .filter(|project| scope.holds(&project.name))
                .ok_or_else(|| RunsError::UnknownProject { name: name.to_owned(), known: known() }),
            (None, [only]) => Ok(Arc::clone(only)),
            (None, _) => Err(RunsError::ProjectNeeded { known: known() }),
        }
    }

    /// The project that a request for work means, with its `.adw.toml` as it is now: whoever edits
    /// that file need not know that a daemon runs.
    pub fn project_for_work(
        &self,
        scope: &Scope,
        name: Option<&str>,
    ) -> Result<Arc<Project>, RunsError> {
        let project = self.wanted_project(scope, name)?;
        Ok(match project.reread()? {
            Some(changed) => self.put_project(changed),
            None => project,
        })
    }

    /// Loads the configured projects and those added by command. One that cannot be used is left
    /// out and said, so that the others are served.
    pub async fn load_projects(&self) -> Result<(), RunsError> {
        for table in &self.config().projects {
            self.serve(table, "config");
        }
        for (name, path) in sql::projects(self.db(), &self.deps.host).await? {
            let Ok(parsed) = name.parse::<ProjectName>() else { continue };
            // What the configuration says of a name or a folder stands, also where it cannot be
            // used: served without its settings, a project would be worked on in another way.
            let tables = &self.config().projects;
            let is_set = |t: &ProjectConfig| {
                t.name == parsed || super::project::is_same(&t.path, Path::new(&path))
            };
            if self.project(&name).is_some() || tables.iter().any(is_set) {
                continue;
            }
            let table = ProjectConfig::new(parsed, PathBuf::from(&path));
            self.serve(&table, "command");
        }
        Ok(())
    }

    /// Tells everybody above that a run is worth reading again, and wakes its driver.
    pub fn run_changed(&self, adw_id: &str) {
        self.tell_changed(adw_id);
        self.poke(adw_id);
    }

    /// The same for the run's own driver: what it changed is no reason for it to look again.
    pub fn tell_changed(&self, adw_id: &str) {
        if let Ok(id) = adw_id.parse::<RunId>() {
            self.deps.changes.send(Changed::Run(id));
        }
    }

    /// Wakes the driver of a run, if it has one.
    pub fn poke(&self, adw_id: &str) {
        let drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = drivers.get(adw_id) {
            notify.notify_one();
        }
    }

    /// Wakes every driver.
    pub fn poke_all(&self) {
        let drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        drivers.values().for_each(|n| n.notify_one());
    }

    /// The wake-up call of a run's driver.
    pub fn notify_of(&self, adw_id: &str) -> Arc<Notify> {
        let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(drivers.entry(adw_id.to_owned()).or_default())
    }

    pub fn forget_driver(&self, adw_id: &str) {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner).remove(adw_id);
    }

    /// The run that a path of a state or log tree belongs to: the component below `agents/`, or
    /// the third below the log root.
    pub fn run_of_path(&self, path: &Path) -> Option<String> {
        self.projects().iter().find_map(|p| {
            let component = |root: &Path, n: usize| {
                path.strip_prefix(root)
                    .ok()?
                    .components()
                    .nth(n)
                    .map(|c| c.as_os_str().to_string_lossy().into_owned())
            };
            component(&p.agents_dir(), 0).or_else(|| component(&p.log_root(), 2))
        })
    }
}
