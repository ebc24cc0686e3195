//! What the parts of the daemon stand on, and how each is opened on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::budgets::KeyBudgets;
use super::{Misconfigured, Options, child_env, host, status, told};
use crate::audit::{Audit, AuditDeps};
use crate::auth::{Access, AccessDeps};
use crate::automation;
use crate::changes::Changes;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::db::{Db, redact_url};
use crate::ids::OsRng;
use crate::limits::AUDIT_KEEP_COUNT;
use crate::metrics::Metrics;
use crate::outside::{Outside, OutsideDeps};
use crate::runs::process::monitor_program;
use crate::runs::{Runs, RunsDeps};
use crate::steps::{Library, LibraryDeps, Steps, StepsDeps};
use crate::traces::{self, TracesDeps};
use crate::web::{HealthDeps, Observed};
use crate::writing::{Writing, WritingDeps};

/// What every part needs.
pub(super) struct Ground {
    pub(super) config: Arc<Config>,
    pub(super) db: Db,
    pub(super) access: Access,
    pub(super) metrics: Metrics,
    pub(super) changes: Changes,
    pub(super) stop: CancellationToken,
    /// Which runs are ours.
    host: String,
    /// The embedded Python side and content, as files.
    automation: PathBuf,
}

impl Ground {
    /// Opens the database and who may call.
    pub(super) async fn lay(config: &Config) -> anyhow::Result<Ground> {
        let state_dir = &config.paths.state_dir;
        // Before the database is made: one that is there already says that this is no first start.
        let host = host::name(state_dir, &OsRng).context("cannot tell which runs are ours")?;
        status("opening the database");
        let metrics = Metrics::default();
        let db = Db::open(&config.paths.database_url).await?.measured(metrics.statements());
        let place =
            || format!("cannot use the database {}", redact_url(&config.paths.database_url));
        db.migrate(&SystemClock).await.with_context(place)?;
        Ok(Ground {
            access: open_access(config, &db).await?,
            automation: automation::materialise(state_dir)?,
            config: Arc::new(config.clone()),
            db,
            metrics,
            changes: Changes::new(),
            stop: CancellationToken::new(),
            host,
        })
    }

    /// The runs, and the repository that was named.
    pub(super) async fn runs(
        &self,
        env: BTreeMap<String, String>,
        options: &Options,
    ) -> anyhow::Result<(Runs, JoinHandle<()>)> {
        let (runs, supervisor) = Runs::start(RunsDeps {
            own_budgets: Arc::new(KeyBudgets(self.access.clone())),
            config: self.config.clone(),
            db: self.db.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            changes: self.changes.clone(),
            exe: monitor_program(&options.exe).await,
            host: self.host.clone(),
            automation: self.automation.clone(),
            base_env: child_env(env, &self.config.paths.state_dir),
            metrics: self.metrics.clone(),
            shutdown: self.stop.clone(),
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
        Ok((runs, supervisor))
    }

    /// The book series.
    pub(super) fn writing(&self) -> Writing {
        Writing::open(WritingDeps {
            db: self.db.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            changes: self.changes.clone(),
            config: self.config.writing.clone(),
        })
    }

    /// The record of calls; what an earlier daemon left open in it is interrupted.
    pub(super) async fn audit(&self) -> anyhow::Result<(Audit, JoinHandle<()>)> {
        let (audit, writer) = Audit::start(AuditDeps {
            db: self.db.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            host: self.host.clone(),
            keep_ms: self.config.rates.audit_keep_ms,
            keep_count: AUDIT_KEEP_COUNT,
        })
        .await?;
        Ok((audit, tokio::spawn(writer.run())))
    }

    /// Step workflows: the content that the program carries and the user's folders, and the engine.
    /// Content that is not in order keeps nothing from starting; the log and `adwd doctor` name it.
    pub(super) async fn steps(&self) -> anyhow::Result<(Steps, JoinHandle<()>)> {
        let own = self.config.contents.iter().map(|content| content.path.clone());
        let library = Library::open(LibraryDeps {
            db: self.db.clone(),
            clock: Arc::new(SystemClock),
            changes: self.changes.clone(),
            host: self.host.clone(),
            folders: std::iter::once(self.automation.join("content")).chain(own).collect(),
            shutdown: self.stop.clone(),
        })
        .await?;
        let opened = Steps::open(StepsDeps {
            db: self.db.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            changes: self.changes.clone(),
            library,
            config: self.config.steps.clone(),
            state_dir: self.config.paths.state_dir.clone(),
            shutdown: self.stop.clone(),
        })
        .await?;
        Ok(opened)
    }

    /// Tells a collector of ended runs, where one is configured. What is wrong with that is no
    /// reason not to start.
    pub(super) fn traces(&self, runs: &Runs) -> Option<JoinHandle<()>> {
        let deps = TracesDeps {
            runs: runs.clone(),
            otlp: self.config.observe.otlp.clone(),
            host: self.host.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.stop.clone(),
        };
        traces::start(deps).unwrap_or_else(|error| {
            tracing::error!("traces of runs are not told to the collector: {error}");
            None
        })
    }

    /// Who is asked how the daemon is.
    pub(super) fn observed(&self, runs: &Runs) -> Observed {
        let deps = HealthDeps {
            runs: runs.clone(),
            engine: self.db.engine().name(),
            state_dir: self.config.paths.state_dir.clone(),
            uv_path: self.config.uv.path.clone(),
            python: self.config.uv.python.clone(),
            env: runs.base_env(),
            clock: Arc::new(SystemClock),
        };
        Observed::new(deps, self.metrics.clone(), self.stop.clone())
    }

    /// What starts runs from outside, and who is told of their end.
    pub(super) async fn outside(
        &self,
        runs: &Runs,
        audit: &Audit,
    ) -> anyhow::Result<(Outside, JoinHandle<()>)> {
        let opened = Outside::start(OutsideDeps {
            config: self.config.outside.clone(),
            db: self.db.clone(),
            runs: runs.clone(),
            audit: audit.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            host: self.host.clone(),
            version: env!("CARGO_PKG_VERSION"),
            shutdown: self.stop.clone(),
        });
        opened.await.context("cannot listen to the outside")
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
