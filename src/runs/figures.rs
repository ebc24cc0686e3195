//! How the slice is doing, for whoever watches the daemon: figures and facts, no runs.

use std::path::PathBuf;
use std::time::Duration;

use super::{Runs, RunsError, preflight, sql_figures};
use crate::metrics::RunFigures;

/// A served project, as far as a look at the machine needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its name.
    pub name: String,
    /// Root of its repository.
    pub root: PathBuf,
    /// Programs that its runs need, beside git and uv: agents above all.
    pub programs: Vec<String>,
    /// Its forge: `local` or `github`.
    pub forge: String,
}

/// How changes of files are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatcherFacts {
    /// `inotify`, `poll` or `none`.
    pub means: &'static str,
    /// How often everything was to be looked at.
    pub rescans: u64,
    /// How often because events were lost.
    pub overflows: u64,
}

impl Runs {
    /// What the database says of the runs of this host.
    ///
    /// # Errors
    /// The database's.
    pub async fn figures(&self) -> Result<RunFigures, RunsError> {
        let (db, host) = (self.ctx.db(), &self.ctx.deps.host);
        let active = sql_figures::active(db, host).await?;
        let attempts = sql_figures::attempts(db, host).await?;
        let queued = active.iter().find(|(status, ..)| status == "queued");
        Ok(RunFigures {
            queued: queued.map_or(0, |(_, count, _)| *count),
            oldest_wait_s: queued
                .map_or(0.0, |(.., since)| sql_figures::waited_s(*since, self.ctx.now())),
            active: active.into_iter().map(|(status, count, _)| (status, count)).collect(),
            attempts,
        })
    }

    /// Since the supervisor's last round.
    #[must_use]
    pub fn beat_age(&self) -> Duration {
        self.ctx.beat_age()
    }

    /// How changes of files are noticed.
    #[must_use]
    pub fn watcher(&self) -> WatcherFacts {
        let (rescans, overflows) = self.ctx.hints.rescans();
        WatcherFacts { means: self.ctx.hints.means(), rescans, overflows }
    }

    /// The served projects.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        let projects = self.ctx.projects();
        let served = projects.iter().map(|project| {
            let env = self.ctx.base_env(project);
            let programs = preflight::programs(project, &env);
            Served {
                name: project.name.clone(),
                root: project.root.clone(),
                programs: programs.into_iter().map(|(_, program)| program).collect(),
                forge: project.forge(),
            }
        });
        served.collect()
    }

    /// Projects that are to be served and cannot be, with why.
    #[must_use]
    pub fn unserved(&self) -> Vec<(String, String)> {
        let unserved = self.ctx.unserved();
        unserved.into_iter().map(|u| (u.table.name.to_string(), u.problem)).collect()
    }

    /// How many runs may wait in the queue.
    #[must_use]
    pub fn queue_max(&self) -> u32 {
        self.ctx.config().limits.queue_max
    }
}
