//! The rows that the statements of [`super::sql`] read, and what they are given to store.

use std::collections::BTreeMap;

use super::run::{AttemptFacts, RunFacts};
use super::view::{Failure, RunStatus};
use crate::clock::Millis;

crate::row! {
    /// A row of `runs`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in RunView")]
    pub struct RunRow {
        pub adw_id: String,
        pub seq: i64,
        pub project: String,
        pub issue_number: String,
        pub host: String,
        pub origin: String,
        pub profile: String,
        pub status: String,
        pub active: bool,
        pub stop_requested: bool,
        pub revision: i64,
        pub priority: i64,
        pub phases: String,
        pub todo: String,
        pub floors: String,
        pub digest: String,
        pub model: Option<String>,
        pub skip_cleanup: bool,
        pub triggered_by: String,
        pub transport: String,
        pub request_id: Option<String>,
        pub user_id: Option<String>,
        pub created_at: i64,
        pub queued_at: i64,
        pub started_at: Option<i64>,
        pub ended_at: Option<i64>,
        pub retry_at: Option<i64>,
        pub issue_title: Option<String>,
        pub issue_class: Option<String>,
        pub branch: Option<String>,
        pub base_branch: Option<String>,
        pub base_commit: Option<String>,
        pub worktree_path: Option<String>,
        pub worktree: Option<String>,
        pub plan_file: Option<String>,
        pub pr_url: Option<String>,
        pub failure: Option<String>,
        pub run_usage: Option<String>,
        pub cost_usd: Option<f64>,
        pub state: Option<String>,
        pub state_at: Option<i64>,
        pub state_problem: Option<String>,
        pub budget_stop: Option<String>,
    }
}

impl RunRow {
    /// The status; a word that this program does not know reads as lost.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        RunStatus::parse(&self.status).unwrap_or(RunStatus::Lost)
    }

    /// All phases the run was ever asked for.
    #[must_use]
    pub fn phases(&self) -> Vec<String> {
        serde_json::from_str(&self.phases).unwrap_or_default()
    }

    /// Phases of the present life.
    #[must_use]
    pub fn todo(&self) -> Vec<String> {
        serde_json::from_str(&self.todo).unwrap_or_default()
    }

    /// The failure.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.as_deref().and_then(|f| serde_json::from_str(f).ok())
    }

    /// The failure with which it ends because a budget is used up.
    #[must_use]
    pub fn budget_stop(&self) -> Option<Failure> {
        self.budget_stop.as_deref().and_then(|f| serde_json::from_str(f).ok())
    }

    /// The facts of the state machine.
    #[must_use]
    pub fn facts(&self, attempts: &[AttemptRow]) -> RunFacts {
        RunFacts {
            status: self.status(),
            todo: self.todo(),
            floors: serde_json::from_str::<BTreeMap<String, i64>>(&self.floors).unwrap_or_default(),
            attempts: attempts.iter().map(AttemptRow::facts).collect(),
            stop_requested: self.stop_requested,
            budget_stop: self.budget_stop(),
        }
    }
}

crate::row! {
    /// A row of `attempts`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in AttemptView")]
    pub struct AttemptRow {
        pub adw_id: String,
        pub phase: String,
        pub attempt: i64,
        pub status: String,
        pub dir: String,
        pub started_at: i64,
        pub ended_at: Option<i64>,
        pub exit_code: Option<i64>,
        pub exit_signal: Option<i64>,
        pub failure: Option<String>,
        pub head_commit: Option<String>,
    }
}

impl AttemptRow {
    /// The status; a word that this program does not know reads as lost.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        RunStatus::parse(&self.status).unwrap_or(RunStatus::Lost)
    }

    /// The failure.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure.as_deref().and_then(|f| serde_json::from_str(f).ok())
    }

    fn facts(&self) -> AttemptFacts {
        AttemptFacts {
            phase: self.phase.clone(),
            attempt: self.attempt,
            status: self.status(),
            failure: self.failure(),
            ended_at: self.ended_at.map(Millis),
        }
    }
}

/// What preparing a run found out.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// The worktree, where the daemon made one.
    pub worktree_path: Option<String>,
    /// The base branch.
    pub base_branch: Option<String>,
    /// The base commit.
    pub base_commit: Option<String>,
}

/// The end of an attempt, as it is stored.
#[derive(Clone, Debug)]
pub struct AttemptEnd {
    /// A terminal status.
    pub status: RunStatus,
    /// Exit code.
    pub exit_code: Option<i64>,
    /// Signal.
    pub exit_signal: Option<i64>,
    /// Failure.
    pub failure: Option<Failure>,
    /// Commit of the branch.
    pub head_commit: Option<String>,
}

/// Facts of a run that its state file, markers or layout tell. Absent ones leave what is stored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Title of the issue.
    pub issue_title: Option<String>,
    /// Class of the issue.
    pub issue_class: Option<String>,
    /// Branch.
    pub branch: Option<String>,
    /// Worktree.
    pub worktree_path: Option<String>,
    /// Plan file.
    pub plan_file: Option<String>,
    /// Pull request.
    pub pr_url: Option<String>,
    /// Usage, as JSON: per phase and `total`.
    pub usage: Option<String>,
    /// Cost in total, US dollars.
    pub cost_usd: Option<f64>,
    /// The state file's object.
    pub state: Option<String>,
    /// When it was read.
    pub state_at: Option<Millis>,
    /// What is wrong with the file now; `Some("")` clears.
    pub state_problem: Option<String>,
}

/// What a resume stores.
#[derive(Clone, Debug)]
pub struct Requeue {
    /// All phases ever asked for.
    pub phases: String,
    /// Phases of the new life.
    pub todo: String,
    /// Floors of the new life.
    pub floors: String,
    /// Model, where a new one is asked for.
    pub model: Option<String>,
}
