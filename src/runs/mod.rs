//! Runs: an issue number becomes a reviewed branch and pull request.
//!
//! This is the slice's handle. Everything above talks to [`Runs`] and to the plain data of
//! [`view`]; nothing above knows the database, the processes or the files behind them.

mod account;
mod attend;
mod base;
pub mod budget;
pub mod cgroup;
mod ctx;
pub mod detach;
mod driver;
pub mod error;
mod external;
mod facts;
mod figures;
pub mod git;
mod janitor;
mod known;
pub mod launch;
mod lives;
pub mod marker;
pub mod monitor;
mod observe;
pub mod orphans;
pub mod outcome;
mod preflight;
pub mod process;
pub mod procfs;
pub mod profile;
pub mod project;
pub mod project_file;
mod query;
pub mod records;
mod repository;
pub mod run;
pub mod spend;
pub mod sql;
pub mod sql_figures;
mod sql_keys;
pub mod sql_lives;
pub mod sql_queue;
mod sql_rows;
mod sql_scope;
pub mod sql_spending;
pub mod state_file;
mod steer;
pub mod supervisor;
pub mod tail;
mod trigger;
mod usage;
pub mod view;
mod view_usage;
pub mod worktree;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::auth::Scope;
use crate::changes::{Changed, Subscription};
use crate::config::ProjectConfig;
use crate::ids::ProjectName;
use crate::limits;
use crate::watch::{Mode, Watcher};
use ctx::Ctx;
pub use ctx::{NoOwnBudgets, OwnBudgets, RunsDeps};
pub use error::RunsError;
pub use figures::{Served, WatcherFacts};
pub use lives::{Life, LifeAttempt};
use project::Project;
pub use view::*;

/// Handle to the runs slice; cheap to clone. It answers for a [`Scope`]: runs and projects outside
/// are as if they did not exist, in every answer, count and error.
#[derive(Clone)]
pub struct Runs {
    ctx: Arc<Ctx>,
    open: Arc<AtomicBool>,
    scope: Scope,
}

impl Runs {
    /// Loads the projects, mends what a crash left in their repositories, starts the supervisor.
    ///
    /// # Errors
    /// [`RunsError::Db`].
    pub async fn start(deps: RunsDeps) -> Result<(Runs, JoinHandle<()>), RunsError> {
        let hints = Watcher::start(Mode::Auto);
        let ctx = Arc::new(Ctx::new(deps, hints));
        ctx.load_projects().await?;
        account::carry_over(&ctx).await?;
        for project in ctx.projects() {
            let trees = ctx.worktrees(&project);
            let limit = Duration::from_millis(limits::GIT_REPAIR_MS);
            let problem = match tokio::time::timeout(limit, trees.repair()).await {
                Ok(Ok(())) => continue,
                Ok(Err(e)) => e.to_string(),
                // Somebody holds the lock or the disk is slow; whoever makes a worktree mends too.
                Err(_) => format!("not done within {} s", limit.as_secs()),
            };
            let name = &project.name;
            tracing::warn!(project = name, "worktrees could not be looked through: {problem}");
        }
        let task = tokio::spawn(supervisor::supervise(Arc::clone(&ctx)));
        Ok((Runs { ctx, open: Arc::new(AtomicBool::new(true)), scope: Scope::All }, task))
    }

    /// The handle of somebody for whom this alone exists.
    #[must_use]
    pub fn within(&self, scope: &Scope) -> Runs {
        Runs { scope: scope.clone(), ..self.clone() }
    }

    /// Whether a run exists for this handle.
    ///
    /// # Errors
    /// The database's.
    pub async fn knows(&self, adw_id: &str) -> Result<bool, RunsError> {
        Ok(sql::run_within(self.ctx.db(), &self.scope, adw_id).await?.is_some())
    }

    /// From now on nothing new is accepted; what runs goes on.
    pub fn stop_accepting(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// Grows with every round of the supervisor; a watchdog looks whether it still does.
    #[must_use]
    pub fn beats(&self) -> u64 {
        self.ctx.beats.load(Ordering::Relaxed)
    }

    /// Accepts a run: validated, stored as queued, then answered at the first of worktree known,
    /// early failure, or the trigger timeout.
    ///
    /// # Errors
    /// [`RunsError`]; after an error nothing was stored.
    pub async fn trigger(
        &self,
        caller: &Caller,
        request: TriggerRequest,
    ) -> Result<Triggered, RunsError> {
        self.accepting()?;
        trigger::trigger(&self.ctx, &self.scope, caller, request).await.map(Into::into)
    }

    /// Accepts a run like [`Runs::trigger`], and answers once it is stored, whatever becomes of it.
    ///
    /// # Errors
    /// [`RunsError`]; after an error nothing was stored.
    pub async fn enqueue(
        &self,
        caller: &Caller,
        request: TriggerRequest,
    ) -> Result<Triggered, RunsError> {
        self.accepting()?;
        trigger::enqueue(&self.ctx, &self.scope, caller, request).await.map(Into::into)
    }

    /// The same for somebody who goes on with the run itself.
    ///
    /// # Errors
    /// As [`Runs::enqueue`].
    pub async fn enqueued(
        &self,
        caller: &Caller,
        request: TriggerRequest,
    ) -> Result<RunView, RunsError> {
        self.accepting()?;
        Ok(trigger::enqueue(&self.ctx, &self.scope, caller, request).await?.run)
    }

    /// The served projects that are this repository of a forge, `host/owner/name`.
    pub async fn projects_of_repository(&self, repository: &str) -> Vec<ProjectOfRepository> {
        repository::projects_of(&self.ctx, repository).await
    }

    /// One phase of an issue: a new run for the first phase, or the newest run of the issue (or
    /// the one named) for the others.
    ///
    /// # Errors
    /// [`RunsError`]; after an error nothing was stored.
    pub async fn trigger_phase(
        &self,
        caller: &Caller,
        phase: &str,
        request: TriggerRequest,
    ) -> Result<Triggered, RunsError> {
        self.accepting()?;
        trigger::trigger_phase(&self.ctx, &self.scope, caller, phase, request).await.map(Into::into)
    }

    /// Everything known about a run.
    ///
    /// # Errors
    /// [`RunsError::UnknownRun`], or the database's.
    pub async fn get(&self, adw_id: &str) -> Result<RunView, RunsError> {
        self.timed("get_adw_state", query::get(&self.ctx, &self.scope, adw_id)).await
    }

    /// A page of runs, newest first.
    ///
    /// # Errors
    /// [`RunsError::Invalid`] for a bad limit or cursor, or the database's.
    pub async fn list(&self, filter: &ListFilter) -> Result<RunPage, RunsError> {
        let filter = ListFilter { scope: self.scope.clone(), ..filter.clone() };
        self.timed("list_adw_workflows", query::list(&self.ctx, &filter)).await
    }

    /// A page of a phase's log.
    ///
    /// # Errors
    /// [`RunsError::UnknownRun`], [`RunsError::UnknownPhase`], [`RunsError::Invalid`].
    pub async fn logs(&self, adw_id: &str, query: &LogQuery) -> Result<LogPage, RunsError> {
        self.timed("get_adw_logs", query::logs(&self.ctx, &self.scope, adw_id, query)).await
    }

    /// A page of what was spent, as far as whoever asks may see it.
    ///
    /// # Errors
    /// [`RunsError::Invalid`] for a bad limit, cursor or user, or the database's.
    pub async fn usage(&self, request: &UsageRequest) -> Result<UsagePage, RunsError> {
        self.timed("get_usage", usage::usage(&self.ctx, request)).await
    }

    /// Asks for the end of a run's whole process tree; answers the run as it is after the request
    /// was stored. Cancelling an ended run is not an error: it answers the run unchanged.
    ///
    /// # Errors
    /// [`RunsError::UnknownRun`]; [`RunsError::WrongState`] for a run of somebody else.
    pub async fn cancel(&self, caller: &Caller, adw_id: &str) -> Result<RunView, RunsError> {
        steer::cancel(&self.ctx, &self.scope, caller, adw_id).await
    }

    /// Goes on from the failed phase (or `from_phase`) with the same id and worktree.
    ///
    /// # Errors
    /// [`RunsError::WrongState`] where it is active or nothing is left to do;
    /// [`RunsError::Conflict`] where another run of the issue is active.
    pub async fn resume(
        &self,
        caller: &Caller,
        adw_id: &str,
        from_phase: Option<&str>,
    ) -> Result<RunView, RunsError> {
        self.accepting()?;
        steer::resume(&self.ctx, &self.scope, caller, adw_id, from_phase).await
    }

    /// Waits until the run has ended or `timeout` passed, whichever is first; answers the run as
    /// it then is. `progress` is told after each change, and at the latest every
    /// `limits::WAIT_HEARTBEAT_MS`.
    ///
    /// # Errors
    /// [`RunsError::UnknownRun`], or the database's.
    pub async fn wait(
        &self,
        adw_id: &str,
        timeout: Duration,
        progress: &mut (dyn FnMut(&RunView) + Send),
    ) -> Result<RunView, RunsError> {
        query::wait(&self.ctx, &self.scope, adw_id, timeout, progress).await
    }

    /// The served projects, and after them those that are to be served and cannot be, with why.
    ///
    /// # Errors
    /// The database's.
    pub async fn projects(&self) -> Result<Vec<ProjectView>, RunsError> {
        let mut views = vec![];
        for project in self.ctx.projects_within(&self.scope) {
            // One whose file broke meanwhile is shown as it was; a trigger says what is wrong.
            let now = self.ctx.project_for_work(&self.scope, Some(&project.name));
            let now = now.unwrap_or(project);
            views.push(query::project_view(&self.ctx, &now).await?);
        }
        self.ctx.try_unserved();
        for unserved in self.ctx.unserved_within(&self.scope) {
            views.push(query::unserved_view(&self.ctx, &unserved).await?);
        }
        Ok(views)
    }

    /// Serves one more repository; the second value is whether it is new.
    ///
    /// # Errors
    /// [`RunsError::BadProject`] where the folder cannot be served; [`RunsError::Invalid`] for the
    /// name.
    pub async fn add_project(
        &self,
        path: &str,
        name: Option<&str>,
    ) -> Result<(ProjectView, bool), RunsError> {
        let given = Path::new(path);
        let bad = |problem: String| RunsError::BadProject { path: path.to_owned(), problem };
        if !given.is_absolute() {
            return Err(bad("the path must be absolute".into()));
        }
        let env = launch::base_env(&self.ctx.deps.base_env, &self.ctx.config().env_allow);
        let root = git::toplevel(given, &env).await.map_err(|e| bad(e.to_string()))?;
        if let Some(served) = self.ctx.projects().iter().find(|p| project::is_same(&p.root, &root))
        {
            return Ok((query::project_view(&self.ctx, served).await?, false));
        }
        let host = &self.ctx.deps.host;
        let stored = sql::projects(self.ctx.db(), host).await?;
        let known = stored.iter().find(|(_, path)| project::is_same(Path::new(path), &root));
        // One that could not be served when the daemon started is in the configuration, or stored
        // already: it comes back as what it was.
        let tables = &self.ctx.config().projects;
        let configured = tables.iter().find(|table| project::is_same(&table.path, &root));
        let (table, source) = match (configured, known) {
            (Some(table), _) => (table.clone(), "config"),
            (None, Some((before, _))) if name.is_none_or(|asked| asked == before) => {
                let before = before.parse().map_err(|_| bad("its stored name is bad".into()))?;
                (ProjectConfig::new(before, root.clone()), "command")
            }
            _ => {
                let name = self.free_name(&root, name, &stored)?;
                (ProjectConfig::new(name, root.clone()), "command")
            }
        };
        let name = table.name.clone();
        let automation = &self.ctx.deps.automation;
        let project = Project::resolve(self.ctx.config(), &table, source, automation)?;
        if source == "command" && known.is_none_or(|(before, _)| before != name.as_str()) {
            if let Some((before, _)) = known {
                sql::delete_project(self.ctx.db(), before, host).await?;
            }
            let path = root.to_string_lossy();
            sql::insert_project(self.ctx.db(), name.as_str(), host, &path, self.ctx.now()).await?;
        }
        tracing::info!(project = %name, path = %root.display(), "project added: {}", project.profile_reason);
        let project = self.ctx.put_project(project);
        if let Err(e) = self.ctx.worktrees(&project).repair().await {
            tracing::warn!(project = %name, "worktrees could not be looked through: {e}");
        }
        self.ctx.deps.changes.send(Changed::Project(name));
        self.ctx.wake.notify_one();
        Ok((query::project_view(&self.ctx, &project).await?, true))
    }

    /// The name asked for, or one made of the folder's that is free.
    ///
    /// The name of a stored project that cannot be served now is taken: runs of it are stored too.
    fn free_name(
        &self,
        root: &Path,
        asked: Option<&str>,
        stored: &[(String, String)],
    ) -> Result<ProjectName, RunsError> {
        let owner = |name: &str| {
            let served = self.ctx.project(name).map(|p| p.root.display().to_string());
            let unserved = || stored.iter().find(|(n, _)| n == name).map(|(_, path)| path.clone());
            let configured = || {
                let mut tables = self.ctx.config().projects.iter();
                tables.find(|t| t.name.as_ref() == name).map(|t| t.path.display().to_string())
            };
            served.or_else(unserved).or_else(configured)
        };
        let invalid = |given: &str, expected: String| RunsError::Invalid {
            field: "name",
            given: given.to_owned(),
            expected,
        };
        if let Some(asked) = asked {
            let name =
                asked.parse::<ProjectName>().map_err(|e| invalid(asked, e.expected.to_owned()))?;
            return match owner(asked) {
                Some(taken) => Err(invalid(asked, format!("a free name: {asked} is {taken}"))),
                None => Ok(name),
            };
        }
        let folder = root.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let plain: String = folder
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .collect();
        let plain = plain.trim_start_matches(['.', '_', '-']);
        let stem: String =
            if plain.is_empty() { "project".into() } else { plain.chars().take(56).collect() };
        (1..1000)
            .map(|n| if n == 1 { stem.clone() } else { format!("{stem}-{n}") })
            .find(|name| owner(name).is_none())
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| invalid(&stem, "a name given with `name`".into()))
    }

    /// Stops serving a project that was added by command; refused while it has active runs.
    ///
    /// # Errors
    /// [`RunsError::UnknownProject`], [`RunsError::WrongState`].
    pub async fn remove_project(&self, name: &str) -> Result<(), RunsError> {
        let stored = sql::projects(self.ctx.db(), &self.ctx.deps.host).await?;
        let served = match self.ctx.wanted_project(&self.scope, Some(name)) {
            Ok(project) => Some(project),
            // One that cannot be served any more (its folder is gone) must still be forgettable.
            Err(_) if stored.iter().any(|(n, _)| n == name) => None,
            Err(error) => return Err(error),
        };
        let refuse =
            |message: String| Err(RunsError::WrongState { adw_id: String::new(), message });
        if served.is_some_and(|project| project.source == "config") {
            return refuse(format!(
                "project {name:?} stands in the configuration file; take its [[project]] table out there"
            ));
        }
        let active = sql::active_of_project(self.ctx.db(), &self.ctx.deps.host, name).await?;
        if active > 0 {
            return refuse(format!(
                "project {name:?} has {active} active run(s); cancel them or wait for their end first"
            ));
        }
        sql::delete_project(self.ctx.db(), name, &self.ctx.deps.host).await?;
        self.ctx.drop_project(name);
        self.ctx.deps.changes.send(Changed::Queue);
        Ok(())
    }

    /// Ids that begin with `prefix`, newest first, at most `limit`; for completion.
    ///
    /// # Errors
    /// The database's.
    pub async fn complete_ids(&self, prefix: &str, limit: usize) -> Result<Vec<String>, RunsError> {
        let filter = ListFilter {
            adw_id_prefix: Some(prefix.to_owned()),
            scope: self.scope.clone(),
            ..ListFilter::default()
        };
        let limit = i64::try_from(limit).unwrap_or(100);
        let (rows, _) = sql::list(self.ctx.db(), &filter, None, limit).await?;
        Ok(rows.into_iter().map(|r| r.adw_id).collect())
    }

    /// Names of the phases of any served project's profile; for completion.
    #[must_use]
    pub fn phase_names(&self) -> Vec<String> {
        let mut names: Vec<String> = vec![];
        for project in self.ctx.projects_within(&self.scope) {
            for name in project.profile.phase_names() {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// The environment of what is started for no project in particular.
    #[must_use]
    pub fn base_env(&self) -> std::collections::BTreeMap<String, String> {
        launch::base_env(&self.ctx.deps.base_env, &self.ctx.config().env_allow)
    }

    /// Stream of changes: a hint that a run is worth reading again, never data.
    #[must_use]
    pub fn changes(&self) -> Subscription {
        self.ctx.deps.changes.subscribe()
    }

    fn accepting(&self) -> Result<(), RunsError> {
        if self.open.load(Ordering::Relaxed) && !self.ctx.deps.shutdown.is_cancelled() {
            Ok(())
        } else {
            Err(RunsError::Stopping)
        }
    }

    /// Bounds a read by `ADW_MCP_STATE_TIMEOUT`.
    async fn timed<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, RunsError>>,
    ) -> Result<T, RunsError> {
        let limit_ms = self.ctx.config().state_timeout_ms;
        match tokio::time::timeout(Duration::from_millis(limit_ms), call).await {
            Ok(answer) => answer,
            Err(_) => Err(RunsError::TimedOut { operation, limit_ms }),
        }
    }
}
