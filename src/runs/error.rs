//! What can go wrong when the runs slice is asked for something.

use crate::db::DbError;

/// A refused or failed request. Every variant says what was wrong, where, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// An argument is not of its form.
    #[error("{field}: got {given:?}; expected {expected}")]
    Invalid {
        /// Name of the argument.
        field: &'static str,
        /// What came, clipped.
        given: String,
        /// What would be right.
        expected: String,
    },
    /// No run has this id.
    #[error("no run {adw_id:?} is known; list_adw_workflows (or `adwd list`) shows those that are")]
    UnknownRun {
        /// The id asked for.
        adw_id: String,
    },
    /// No project has this name.
    #[error("no project {name:?} is served; known: {known}")]
    UnknownProject {
        /// The name asked for.
        name: String,
        /// Names that are served.
        known: String,
    },
    /// A project must be named.
    #[error("several projects are served; name one of them as `project`: {known}")]
    ProjectNeeded {
        /// Names that are served.
        known: String,
    },
    /// No project is served at all.
    #[error("no project is served; add one with `adwd project add PATH` or a [[project]] table")]
    NoProject,
    /// The folder cannot be a project.
    #[error("{path} cannot be served as a project: {problem}")]
    BadProject {
        /// The folder.
        path: String,
        /// Why not, and what would be right.
        problem: String,
    },
    /// The profile has no such phase.
    #[error("profile {profile:?} of project {project:?} has no phase {phase:?}; it has {has}")]
    UnknownPhase {
        /// Phase asked for.
        phase: String,
        /// Profile.
        profile: String,
        /// Project.
        project: String,
        /// Phases it has.
        has: String,
    },
    /// The issue has an active run with other arguments, or the id is taken.
    #[error("{message}")]
    Conflict {
        /// The run in the way.
        adw_id: String,
        /// What clashes and what to do.
        message: String,
    },
    /// The queue is full.
    #[error(
        "the queue holds {waiting} runs and takes no more than {max}; try again when some have started, or raise limits.queue_max"
    )]
    QueueFull {
        /// Runs waiting.
        waiting: i64,
        /// The bound.
        max: i64,
    },
    /// Nothing is left to pay for it.
    #[error("{message}; nothing was recorded")]
    Budget {
        /// Which budget, its limit, what was spent.
        message: String,
        /// When it begins anew, and whom to ask.
        remedy: String,
    },
    /// The run is not in a state where this can be done.
    #[error("{message}")]
    WrongState {
        /// The run.
        adw_id: String,
        /// What state it is in and what could be done instead.
        message: String,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping and takes no new work; nothing was recorded")]
    Stopping,
    /// The answer did not come within its bound.
    #[error("{operation} did not answer within {limit_ms} ms; nothing was changed by this call")]
    TimedOut {
        /// What was asked.
        operation: &'static str,
        /// The bound in milliseconds.
        limit_ms: u64,
    },
    /// A file could not be read or written.
    #[error("{operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl RunsError {
    /// Stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            RunsError::Invalid { .. } => "invalid_argument",
            RunsError::UnknownRun { .. } => "unknown_run",
            RunsError::UnknownProject { .. } => "unknown_project",
            RunsError::ProjectNeeded { .. } => "project_needed",
            RunsError::NoProject => "no_project",
            RunsError::BadProject { .. } => "bad_project",
            RunsError::UnknownPhase { .. } => "unknown_phase",
            RunsError::Conflict { .. } => "conflict",
            RunsError::QueueFull { .. } => "queue_full",
            RunsError::Budget { .. } => "budget",
            RunsError::WrongState { .. } => "wrong_state",
            RunsError::Stopping => "stopping",
            RunsError::TimedOut { .. } => "timed_out",
            RunsError::Io { .. } => "io",
            RunsError::Db(_) => "database",
        }
    }

    /// Whether the caller can mend it by asking differently or later.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        !matches!(self, RunsError::Io { .. } | RunsError::Db(_))
    }
}
