//! What the runs slice answers: plain data, ready to be serialised.
//!
//! These types are the contract between the runs slice and everything above it (MCP tools, the
//! command line, dashboards). Times are RFC 3339 UTC with milliseconds, durations carry their unit
//! in the field's name, and an absent fact is an absent field, never a guess.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use super::view_usage::{BudgetView, Usage, UsageBy, UsageLine, UsagePage, UsageRequest};
use crate::auth::Scope;

/// Where a run stands. The wire also knows `pending`: the answer to a trigger.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Accepted and stored; waits for a free place.
    Queued,
    /// Left the queue: preflight, environment, worktree.
    Starting,
    /// A phase runs, or the next one is about to.
    Running,
    /// A stop was asked for; the process tree is being ended.
    Stopping,
    /// Every asked-for phase ended completed.
    Completed,
    /// A phase failed and no retry is left or can help.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// A wall-clock or silence limit ended it.
    TimedOut,
    /// The issue is out of scope; nothing was left behind.
    Skipped,
    /// Its processes vanished without a trace of how they ended.
    Lost,
}

impl RunStatus {
    /// All statuses, in the order of a life.
    pub const ALL: [RunStatus; 10] = [
        RunStatus::Queued,
        RunStatus::Starting,
        RunStatus::Running,
        RunStatus::Stopping,
        RunStatus::Completed,
        RunStatus::Failed,
        RunStatus::Cancelled,
        RunStatus::TimedOut,
        RunStatus::Skipped,
        RunStatus::Lost,
    ];

    /// The word used in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Queued => "queued",
            RunStatus::Starting => "starting",
            RunStatus::Running => "running",
            RunStatus::Stopping => "stopping",
            RunStatus::Completed => "completed",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
            RunStatus::TimedOut => "timed_out",
            RunStatus::Skipped => "skipped",
            RunStatus::Lost => "lost",
        }
    }

    /// Parses the word; `pending` is understood as [`RunStatus::Queued`].
    #[must_use]
    pub fn parse(word: &str) -> Option<RunStatus> {
        if word == "pending" {
            return Some(RunStatus::Queued);
        }
        RunStatus::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Whether the run has ended; nothing but a resume moves it again.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(
            self,
            RunStatus::Queued | RunStatus::Starting | RunStatus::Running | RunStatus::Stopping
        )
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something failed, in one word that programs can branch on (`spec/adw.md` §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// A condition that must hold before a run starts does not.
    Preflight,
    /// uv or Python could not be made ready.
    Environment,
    /// The coding agent failed, timed out, or gave nothing usable.
    Agent,
    /// The forge could not be reached or refused.
    Forge,
    /// A git operation failed.
    Git,
    /// The work is not what it must be: check command, review, post-conditions, bad state.
    Validation,
    /// A wall-clock or silence limit passed.
    Timeout,
    /// Somebody cancelled it.
    Cancelled,
    /// The processes vanished without a recorded end.
    Lost,
    /// A defect of the daemon or of the scripts.
    Internal,
    /// What may be spent is spent.
    Budget,
}

impl FailureClass {
    /// All classes.
    pub const ALL: [FailureClass; 11] = [
        FailureClass::Preflight,
        FailureClass::Environment,
        FailureClass::Agent,
        FailureClass::Forge,
        FailureClass::Git,
        FailureClass::Validation,
        FailureClass::Timeout,
        FailureClass::Cancelled,
        FailureClass::Lost,
        FailureClass::Internal,
        FailureClass::Budget,
    ];

    /// The word used in the database and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FailureClass::Preflight => "preflight",
            FailureClass::Environment => "environment",
            FailureClass::Agent => "agent",
            FailureClass::Forge => "forge",
            FailureClass::Git => "git",
            FailureClass::Validation => "validation",
            FailureClass::Timeout => "timeout",
            FailureClass::Cancelled => "cancelled",
            FailureClass::Lost => "lost",
            FailureClass::Internal => "internal",
            FailureClass::Budget => "budget",
        }
    }

    /// Parses the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<FailureClass> {
        FailureClass::ALL.into_iter().find(|c| c.as_str() == word)
    }
}

/// A named failure: what class, what happened, whether trying again can help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The class.
    pub class: FailureClass,
    /// One sentence that names the cause and, where there is one, the remedy.
    pub message: String,
    /// Whether running it again, unchanged, can help.
    pub retryable: bool,
    /// The phase that failed, where one had begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The last lines of the phase's log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
}

/// One attempt of a phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptView {
    /// 1 for the first.
    pub attempt: i64,
    /// `starting running stopping` or one of the ends.
    pub status: RunStatus,
    /// When it was recorded.
    pub started_at: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Exit code of the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_signal: Option<i64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Commit of the branch at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_commit: Option<String>,
    /// Folder that holds its log and exit record.
    pub dir: String,
}

/// One phase of a run with all its attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseView {
    /// Name, as in the profile.
    pub phase: String,
    /// `pending`, or the status of the last attempt.
    pub status: String,
    /// Usage of the phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// Everything known about a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// The run's id.
    pub adw_id: String,
    /// The project it belongs to.
    pub project: String,
    /// The issue, decimal.
    pub issue_number: String,
    /// The issue's title, once a phase has read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue_title: Option<String>,
    /// `/feature`, `/bug`, `/chore`, once classified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue_class: Option<String>,
    /// Where it stands.
    pub status: RunStatus,
    /// `daemon`, or `external` for a run that the daemon did not start.
    pub origin: String,
    /// Who triggered it: `mcp slash_command manual webhook cron cli`.
    pub triggered_by: String,
    /// The host whose daemon runs it.
    pub host: String,
    /// Phase that runs, or is next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_phase: Option<String>,
    /// The asked-for phases.
    pub phases: Vec<PhaseView>,
    /// Place in the queue, 1 is next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<i64>,
    /// Higher leaves the queue earlier.
    pub priority: i64,
    /// Model asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the worktree stays after success.
    pub skip_cleanup: bool,
    /// When it was accepted.
    pub created_at: String,
    /// When it left the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// The next automatic attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The base branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// The commit the worktree was cut from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_commit: Option<String>,
    /// The worktree's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree_path: Option<String>,
    /// `present`, `removed`, or absent before there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<String>,
    /// The plan file, relative to the worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_file: Option<String>,
    /// The pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pr_url: Option<String>,
    /// Sum over the phases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The budgets that hold for it, with what is left; empty where none does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetView>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Why a skipped run was out of scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_reason: Option<String>,
    /// The last good `adw_state.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Value>,
    /// How old that copy is, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_age_ms: Option<i64>,
    /// What is wrong with the file now, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_problem: Option<String>,
    /// Grows with every change of the run.
    pub revision: i64,
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// The run's id.
    pub adw_id: String,
    /// The project.
    pub project: String,
    /// The issue.
    pub issue_number: String,
    /// The issue's title, once read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issue_title: Option<String>,
    /// Where it stands.
    pub status: RunStatus,
    /// `daemon` or `external`.
    pub origin: String,
    /// Phase that runs, or is next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_phase: Option<String>,
    /// Who triggered it.
    pub triggered_by: String,
    /// When it was accepted.
    pub created_at: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pr_url: Option<String>,
    /// Class of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_class: Option<FailureClass>,
    /// Sentence of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_message: Option<String>,
    /// Cost in US dollars so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// A page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunPage {
    /// The runs.
    pub workflows: Vec<RunSummary>,
    /// How many match the filters, over all pages.
    pub total: i64,
    /// Pass it as `cursor` for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What a list may be narrowed to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListFilter {
    /// Beginning of the id.
    pub adw_id_prefix: Option<String>,
    /// One status.
    pub status: Option<RunStatus>,
    /// Only those of which nothing runs yet, queued and starting: what a trigger calls `pending`.
    pub pending: bool,
    /// One project.
    pub project: Option<String>,
    /// One issue.
    pub issue_number: Option<String>,
    /// Accepted at or after, epoch milliseconds.
    pub since_ms: Option<i64>,
    /// 1..=100; 50 where absent.
    pub limit: Option<u32>,
    /// From a page's `next_cursor`.
    pub cursor: Option<String>,
    /// What exists at all for whoever asks. A handle sets its own (`Runs::within`).
    pub scope: Scope,
}

/// A page of a phase's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogPage {
    /// The run.
    pub adw_id: String,
    /// The phase.
    pub phase: String,
    /// The attempt.
    pub attempt: i64,
    /// Whole lines, long ones cut, control characters made harmless.
    pub lines: Vec<String>,
    /// Pass it as `after` for what follows; present also at the end, so that a follower can go on.
    pub next: String,
    /// Whether more is there now.
    pub more: bool,
    /// Whether the attempt has ended, so that nothing more will come once `more` is false.
    pub ended: bool,
}

/// Which part of which log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogQuery {
    /// The phase; the current or last one where absent.
    pub phase: Option<String>,
    /// A cursor from a page; the beginning where absent.
    pub after: Option<String>,
    /// Lines, 1..=1000; 200 where absent.
    pub limit: Option<u32>,
    /// Start with the last `limit` lines instead of the first (only without `after`).
    pub tail: bool,
}

/// A request to run an issue, or one phase of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TriggerRequest {
    /// Issue, as given; validated by the slice.
    pub issue_number: String,
    /// Project; the only one served where absent.
    pub project: Option<String>,
    /// Id wanted; made where absent.
    pub adw_id: Option<String>,
    /// Model for the agents.
    pub model: Option<String>,
    /// Keep the worktree after success.
    pub skip_cleanup: bool,
    /// Phases, in order; the profile's default sequence where absent.
    pub phases: Option<Vec<String>>,
    /// −100..=100, 0 where absent.
    pub priority: Option<i64>,
    /// A retried request with the same key gets the first answer.
    pub idempotency_key: Option<String>,
}

/// Who asks, and by which road.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Stable name of the principal, such as `uid:1000`.
    pub user_id: String,
    /// How much it is trusted with, such as `team`.
    pub tier: String,
    /// `mcp slash_command manual webhook cron cli`.
    pub triggered_by: String,
    /// `unix`, `http`, `cli`, `clock`.
    pub transport: String,
    /// Id of the request, for correlation.
    pub request_id: Option<String>,
}

/// The answer to a trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Triggered {
    /// The run.
    pub adw_id: String,
    /// `pending`, or what became of it before the answer.
    pub status: String,
    /// The project.
    pub project: String,
    /// The issue.
    pub issue_number: String,
    /// The phases it will run.
    pub phases: Vec<String>,
    /// True where an active run of the issue answered instead of a new one.
    pub already_running: bool,
    /// The worktree, where known by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree_path: Option<String>,
    /// Place in the queue, 1 is next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_position: Option<i64>,
    /// An early failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A served project that is a certain repository of a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectOfRepository {
    /// Its name.
    pub name: String,
    /// Whether it takes its issues from files, so that numbers of the forge mean nothing to it.
    pub issues_in_files: bool,
}

/// A served project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectView {
    /// Name.
    pub name: String,
    /// Root of the repository.
    pub path: String,
    /// Profile in use.
    pub profile: String,
    /// What the detection found and why.
    pub profile_reason: String,
    /// Base branch, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_branch: Option<String>,
    /// Remote.
    pub remote: String,
    /// Agent.
    pub agent: String,
    /// Forge.
    pub forge: String,
    /// `config`, `command` (added at run time).
    pub source: String,
    /// Runs that have not ended.
    pub active_runs: i64,
    /// Why it cannot be served just now; absent where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
