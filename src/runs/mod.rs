//! Runs: an issue number becomes a reviewed branch and pull request.
//!
//! This is the slice's handle. Everything above talks to [`Runs`] and to the plain data of
//! [`view`]; nothing above knows the database, the processes or the files behind them.

pub mod error;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use crate::changes::Subscription;
pub use error::RunsError;
pub use view::*;

/// Handle to the runs slice; cheap to clone.
#[derive(Clone)]
pub struct Runs {
    inner: Arc<()>,
}

impl Runs {
    /// Accepts a run: validated, stored as queued, then answered at the first of worktree known,
    /// early failure, or the trigger timeout.
    pub async fn trigger(&self, caller: &Caller, request: TriggerRequest) -> Result<Triggered, RunsError> {
        todo!()
    }

    /// One phase of an issue: a new run for `plan`, or the newest run of the issue (or the one
    /// named) for the others.
    pub async fn trigger_phase(&self, caller: &Caller, phase: &str, request: TriggerRequest) -> Result<Triggered, RunsError> {
        todo!()
    }

    /// Everything known about a run.
    pub async fn get(&self, adw_id: &str) -> Result<RunView, RunsError> {
        todo!()
    }

    /// A page of runs, newest first.
    pub async fn list(&self, filter: &ListFilter) -> Result<RunPage, RunsError> {
        todo!()
    }

    /// A page of a phase's log.
    pub async fn logs(&self, adw_id: &str, query: &LogQuery) -> Result<LogPage, RunsError> {
        todo!()
    }

    /// Asks for the end of a run's whole process tree; answers the run as it is after the request
    /// was stored. Cancelling an ended run is not an error: it answers the run unchanged.
    pub async fn cancel(&self, caller: &Caller, adw_id: &str) -> Result<RunView, RunsError> {
        todo!()
    }

    /// Goes on from the failed phase (or `from_phase`) with the same id and worktree.
    pub async fn resume(&self, caller: &Caller, adw_id: &str, from_phase: Option<&str>) -> Result<RunView, RunsError> {
        todo!()
    }

    /// Waits until the run has ended or `timeout` passed, whichever is first; answers the run as
    /// it then is. `progress` is told after each change, and at the latest every
    /// `limits::WAIT_HEARTBEAT_MS`.
    pub async fn wait(&self, adw_id: &str, timeout: Duration, progress: &mut (dyn FnMut(&RunView) + Send)) -> Result<RunView, RunsError> {
        todo!()
    }

    /// The served projects.
    pub async fn projects(&self) -> Result<Vec<ProjectView>, RunsError> {
        todo!()
    }

    /// Serves one more repository; the second value is whether it is new.
    pub async fn add_project(&self, path: &str, name: Option<&str>) -> Result<(ProjectView, bool), RunsError> {
        todo!()
    }

    /// Stops serving a project that was added by command; refused while it has active runs.
    pub async fn remove_project(&self, name: &str) -> Result<(), RunsError> {
        todo!()
    }

    /// Ids that begin with `prefix`, newest first, at most `limit`; for completion.
    pub async fn complete_ids(&self, prefix: &str, limit: usize) -> Result<Vec<String>, RunsError> {
        todo!()
    }

    /// Names of the phases of any served project's profile; for completion.
    #[must_use]
    pub fn phase_names(&self) -> Vec<String> {
        todo!()
    }

    /// Stream of changes: a hint that a run is worth reading again, never data.
    #[must_use]
    pub fn changes(&self) -> Subscription {
        todo!()
    }
}
