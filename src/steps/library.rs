//! The content that workflows are made of: read from folders, kept in the database, read again when
//! it changes.
//!
//! Folders → files → checked → one transaction. A hint of the file system and the periodic look are
//! the same sync; it writes only what is another than what is stored. What a running execution uses
//! is a [`Snapshot`] of its own, so nothing here ever reaches into one.

pub mod plan;
pub mod scan;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::content_sql::{self as sql, ContentRow};
use super::error::StepsError;
use super::template::{Agent, Kind, Problem, Rule, Snapshot, Workflow, validate};
use crate::changes::{Changed, Changes};
use crate::clock::Clock;
use crate::db::Db;
use crate::limits;
use crate::watch::{Mode, Watcher};
pub use plan::SyncReport;

/// The agent that a snapshot holds even if no phase names it: it speaks for the whole.
pub const SUPERVISOR: &str = "supervisor";

/// What the library works with.
pub struct LibraryDeps {
    /// The database, migrated.
    pub db: Db,
    /// Time of day.
    pub clock: Arc<dyn Clock>,
    /// Hears of content that changed.
    pub changes: Changes,
    /// This machine's name: daemons on several hosts may share the database, not the folders.
    pub host: String,
    /// The content folders, the built-in one first: of one name, the later counts.
    pub folders: Vec<PathBuf>,
    /// Ends the watching.
    pub shutdown: CancellationToken,
}

/// A workflow as it is listed: also one that cannot be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkflowListing {
    /// Its name.
    pub name: String,
    /// Whether its file as it is on disk is in order.
    pub valid: bool,
    /// Whether it can be started: by its last good version, where the file is not in order.
    pub startable: bool,
    /// What is wrong with it, and remarks; paths are below the content folder.
    pub problems: Vec<Problem>,
    /// Its content folder.
    pub folder: String,
    /// Its last good version; `None` where there never was one.
    pub workflow: Option<Workflow>,
}

/// What `adwd content check` says of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Agents that can be used.
    pub agents: usize,
    /// Rules that can be used.
    pub rules: usize,
    /// Workflows that can be started.
    pub workflows: usize,
    /// What is wrong, by file and line; paths are below the folder.
    pub problems: Vec<Problem>,
}

impl Checked {
    /// Whether nothing in it is unusable.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.problems.iter().all(|problem| !problem.fatal)
    }
}

/// Reads a folder as the daemon would, on top of the content that the program carries. Blocks;
/// changes nothing.
#[must_use]
pub fn check(folder: &Path) -> Checked {
    let found = scan::scan(folder);
    let name = found.folder.clone();
    let plan = plan::plan(vec![scan::embedded(), found], &[]);
    let count = |kind: Kind| {
        let own = |row: &&ContentRow| row.kind == kind && row.folder == name && row.valid;
        plan.rows.iter().filter(own).count()
    };
    let of_folder = |(index, problem): (usize, Problem)| (index == 1).then_some(problem);
    let (agents, rules, workflows) = (count(Kind::Agent), count(Kind::Rule), count(Kind::Workflow));
    let mut problems: Vec<Problem> = plan.problems.into_iter().filter_map(of_folder).collect();
    problems.sort_by(|a, b| (&a.path, a.line, !a.fatal).cmp(&(&b.path, b.line, !b.fatal)));
    Checked { agents, rules, workflows, problems }
}

/// Handle to the library; cheap to clone.
#[derive(Clone)]
pub struct Library(Arc<Inner>);

struct Inner {
    deps: LibraryDeps,
    /// One sync at a time.
    syncing: tokio::sync::Mutex<()>,
    report: Mutex<SyncReport>,
}

impl Library {
    /// Syncs once, then goes on watching until the shutdown.
    ///
    /// # Errors
    /// [`StepsError::Db`]. What is wrong with the content is in [`Library::report`].
    pub async fn open(deps: LibraryDeps) -> Result<Library, StepsError> {
        let inner =
            Inner { deps, syncing: tokio::sync::Mutex::default(), report: Mutex::default() };
        let library = Library(Arc::new(inner));
        library.sync().await?;
        tokio::spawn(library.clone().follow());
        Ok(library)
    }

    /// Reads all folders and brings the database up to date, in one transaction. Where something
    /// changed, [`Changed::Content`] is sent after it.
    ///
    /// # Errors
    /// [`StepsError::Db`]; then nothing was changed.
    pub async fn sync(&self) -> Result<SyncReport, StepsError> {
        let _one = self.0.syncing.lock().await;
        let deps = &self.0.deps;
        let folders = deps.folders.clone();
        let names: Vec<String> =
            folders.iter().map(|folder| folder.to_string_lossy().into_owned()).collect();
        let scans = tokio::task::spawn_blocking(move || {
            folders.iter().map(|folder| scan::scan(folder)).collect::<Vec<_>>()
        })
        .await
        .map_err(|error| StepsError::Io {
            operation: "read the content folders",
            path: names.join(", "),
            source: std::io::Error::other(error),
        })?;
        let stored = sql::all(&deps.db, &deps.host).await?;
        let plan = plan::plan(scans, &stored);
        self.write(&plan).await?;
        let report = SyncReport { problems: plan::told(&plan.problems, &names), ..plan.report };
        let before = self.keep(report.clone());
        if before.problems != report.problems {
            tell(&report.problems);
        }
        if report.changed() {
            deps.changes.send(Changed::Content);
        }
        Ok(report)
    }

    /// Writes what is another than before, if anything is. This daemon alone writes its host's
    /// rows, one sync at a time, so nothing comes between the reading and the writing.
    async fn write(&self, plan: &plan::Plan) -> Result<(), StepsError> {
        if plan.writes.is_empty() && plan.deletes.is_empty() {
            return Ok(());
        }
        let deps = &self.0.deps;
        let now = deps.clock.now();
        let mut tx = deps.db.begin().await?;
        for (kind, name) in &plan.deletes {
            sql::delete(&mut tx, &deps.host, *kind, name).await?;
        }
        for row in &plan.writes {
            sql::put(&mut tx, &deps.host, row, now).await?;
        }
        Ok(tx.commit().await?)
    }

    fn keep(&self, report: SyncReport) -> SyncReport {
        let mut kept = self.0.report.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *kept, report)
    }

    /// What the last sync found.
    #[must_use]
    pub fn report(&self) -> SyncReport {
        self.0.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every workflow by name, also those that cannot be started.
    ///
    /// # Errors
    /// [`StepsError::Db`].
    pub async fn workflows(&self) -> Result<Vec<WorkflowListing>, StepsError> {
        let rows = self.rows().await?;
        let agents = agent_names(&rows);
        let listing = |row: ContentRow| {
            let workflow = row.workflow();
            let startable = workflow.as_ref().is_some_and(|w| validate(w, &agents).is_empty());
            WorkflowListing {
                startable,
                workflow,
                name: row.name,
                valid: row.valid,
                problems: row.problems.0,
                folder: row.folder,
            }
        };
        Ok(rows.into_iter().filter(|row| row.kind == Kind::Workflow).map(listing).collect())
    }

    /// The last good version of a workflow.
    ///
    /// # Errors
    /// [`StepsError::UnknownWorkflow`], [`StepsError::InvalidWorkflow`] where there never was a
    /// good version, [`StepsError::Db`].
    pub async fn workflow(&self, name: &str) -> Result<Workflow, StepsError> {
        let deps = &self.0.deps;
        match sql::one(&deps.db, &deps.host, Kind::Workflow, name).await? {
            Some(row) => row.workflow().ok_or_else(|| invalid(&row.name, &row.problems.0)),
            None => Err(unknown_workflow(name, &self.of_kind(Kind::Workflow).await?)),
        }
    }

    /// The agents by name.
    ///
    /// # Errors
    /// [`StepsError::Db`].
    pub async fn agents(&self) -> Result<Vec<Agent>, StepsError> {
        Ok(self.of_kind(Kind::Agent).await?.iter().filter_map(ContentRow::agent).collect())
    }

    /// An agent.
    ///
    /// # Errors
    /// [`StepsError::UnknownAgent`], [`StepsError::Db`].
    pub async fn agent(&self, name: &str) -> Result<Agent, StepsError> {
        let deps = &self.0.deps;
        let row = sql::one(&deps.db, &deps.host, Kind::Agent, name).await?;
        if let Some(agent) = row.as_ref().and_then(ContentRow::agent) {
            return Ok(agent);
        }
        let known = self.of_kind(Kind::Agent).await?;
        Err(StepsError::UnknownAgent { name: name.to_owned(), known: joined(agent_names(&known)) })
    }

    /// The rules by name.
    ///
    /// # Errors
    /// [`StepsError::Db`].
    pub async fn rules(&self) -> Result<Vec<Rule>, StepsError> {
        Ok(self.of_kind(Kind::Rule).await?.iter().filter_map(ContentRow::rule).collect())
    }

    /// What an execution of this workflow runs by, all of one moment. A workflow whose file is not
    /// in order is given in its last good version.
    ///
    /// # Errors
    /// [`StepsError::UnknownWorkflow`]; [`StepsError::InvalidWorkflow`] where it cannot be started,
    /// an agent that is gone included; [`StepsError::Db`].
    pub async fn snapshot(&self, workflow: &str) -> Result<Snapshot, StepsError> {
        let rows = self.rows().await?;
        let row = rows.iter().find(|row| row.kind == Kind::Workflow && row.name == workflow);
        let row = row.ok_or_else(|| {
            let workflows: Vec<ContentRow> =
                rows.iter().filter(|row| row.kind == Kind::Workflow).cloned().collect();
            unknown_workflow(workflow, &workflows)
        })?;
        let workflow = row.workflow().ok_or_else(|| invalid(&row.name, &row.problems.0))?;
        let problems = validate(&workflow, &agent_names(&rows));
        if !problems.is_empty() {
            return Err(invalid(&row.name, &problems));
        }
        let wanted = |agent: &Agent| {
            agent.name == SUPERVISOR || workflow.phases.iter().any(|p| p.agent == agent.name)
        };
        let agents = rows.iter().filter_map(ContentRow::agent).filter(wanted);
        let agents = agents.map(|agent| (agent.name.clone(), agent)).collect();
        let rules = rows.iter().filter_map(ContentRow::rule).collect();
        Ok(Snapshot { workflow, agents, rules })
    }

    /// Everything, by kind and name (bytewise: engines sort text by rules of their own).
    async fn rows(&self) -> Result<Vec<ContentRow>, StepsError> {
        let deps = &self.0.deps;
        let mut rows = sql::all(&deps.db, &deps.host).await?;
        rows.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(rows)
    }

    async fn of_kind(&self, kind: Kind) -> Result<Vec<ContentRow>, StepsError> {
        let deps = &self.0.deps;
        let mut rows = sql::of_kind(&deps.db, &deps.host, kind).await?;
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rows)
    }

    /// Syncs on hints of the file system and now and then, until the shutdown.
    async fn follow(self) {
        let deps = &self.0.deps;
        let watcher = Watcher::start(Mode::Auto);
        while !deps.shutdown.is_cancelled() {
            // Taken anew each time: a folder may have come, or be another one by the same name.
            let _watched = watcher.watch_present(&deps.folders);
            self.try_sync().await;
            let again = Instant::now() + Duration::from_millis(limits::CONTENT_RESCAN_MS);
            loop {
                tokio::select! {
                    () = deps.shutdown.cancelled() => return,
                    () = sleep_until(again) => break,
                    _ = watcher.next() => gather(&watcher).await,
                }
                self.try_sync().await;
            }
        }
    }

    async fn try_sync(&self) {
        let done = tokio::select! {
            () = self.0.deps.shutdown.cancelled() => return,
            done = self.sync() => done,
        };
        match done {
            Ok(report) if report.changed() => tracing::info!(
                added = report.added,
                updated = report.updated,
                removed = report.removed,
                "content changed"
            ),
            Ok(_) => {}
            Err(error) => tracing::error!("content is not synced, tried again later: {error}"),
        }
    }
}

/// Lets hints pass for a moment, so that a checkout is one sync.
async fn gather(watcher: &Watcher) {
    let until = Instant::now() + Duration::from_millis(limits::CONTENT_DEBOUNCE_MS);
    loop {
        tokio::select! {
            biased;
            () = sleep_until(until) => return,
            _ = watcher.next() => {}
        }
    }
}

fn tell(problems: &[Problem]) {
    for problem in problems.iter().filter(|problem| problem.fatal) {
        tracing::warn!(path = problem.path, line = problem.line, "content: {}", problem.message);
    }
}

fn agent_names(rows: &[ContentRow]) -> BTreeSet<String> {
    let usable = |row: &&ContentRow| row.kind == Kind::Agent && row.json.is_some();
    rows.iter().filter(usable).map(|row| row.name.clone()).collect()
}

fn joined(names: BTreeSet<String>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn unknown_workflow(name: &str, rows: &[ContentRow]) -> StepsError {
    let known = joined(rows.iter().map(|row| row.name.clone()).collect());
    StepsError::UnknownWorkflow { name: name.to_owned(), known }
}

fn invalid(name: &str, problems: &[Problem]) -> StepsError {
    let fatal = problems.iter().filter(|problem| problem.fatal);
    let told = fatal.map(|problem| match (problem.path.as_str(), problem.line) {
        ("", _) => problem.message.clone(),
        (path, None) => format!("{path}: {}", problem.message),
        (path, Some(line)) => format!("{path}:{line}: {}", problem.message),
    });
    StepsError::InvalidWorkflow {
        name: name.to_owned(),
        problems: told.collect::<Vec<_>>().join("; "),
    }
}

#[cfg(test)]
mod tests;
