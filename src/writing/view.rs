//! What the writing slice answers: plain data, ready to be serialised.
//!
//! Field names are the specification's (`spec/writing.md` §1). Times are RFC 3339 UTC with
//! milliseconds, figures are JSON numbers exact to the hundredth, and what is undefined is `null`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::metric::{Hundredths, MetricKind};
pub use super::pass::PassStatus;
pub use super::phase::{
    ApprovalStatus, ApprovalType, Decision, GateType, PhaseStatus, VisitStatus,
};
pub use super::qa::{Blocker, Categories, Category, CategoryStatus, QaStatus, Severity, Warning};
pub use super::request::*;
pub use super::view_figures::*;

macro_rules! answers {
    ($($(#[$meta:meta])* pub struct $name:ident { $($body:tt)* })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        pub struct $name { $($body)* }
    )+};
}
pub(super) use answers;

answers! {
    /// Answer of `create_workflow`.
    pub struct WorkflowCreated {
        /// Its id.
        pub workflow_id: i64,
        /// −1.
        pub current_phase: i64,
        /// `in_progress`.
        pub phase_status: PhaseStatus,
    }

    /// Answer of `get_workflow_state`.
    pub struct WorkflowState {
        /// The workflow.
        pub workflow_id: i64,
        /// Its series.
        pub series_id: i64,
        /// Title of the series.
        pub series_title: Option<String>,
        /// Its author.
        pub user_id: i64,
        /// What the series is about.
        pub concept: String,
        /// The phase, −1 to 12.
        pub current_phase: i64,
        /// Its name.
        pub phase_name: String,
        /// Where it stands.
        pub phase_status: PhaseStatus,
        /// The book, from 1.
        pub current_book: i64,
        /// The chapter that was worked on last, of that book.
        pub current_chapter: Option<i64>,
        /// Books of the series.
        pub total_books: i64,
        /// What is missing to complete the current phase, in words.
        pub unmet: Vec<String>,
        /// The zone in which its days are counted.
        pub time_zone: String,
        /// What was kept with it.
        pub metadata: Object,
        /// Grows with every change.
        pub revision: i64,
        /// When it was made.
        pub created_at: String,
        /// When it changed last.
        pub updated_at: String,
        /// When the series was finished.
        pub completed_at: Option<String>,
    }

    /// A workflow in a list.
    pub struct WorkflowItem {
        /// The workflow.
        pub workflow_id: i64,
        /// Its series.
        pub series_id: i64,
        /// Title of the series.
        pub series_title: Option<String>,
        /// Its author.
        pub user_id: i64,
        /// The phase.
        pub current_phase: i64,
        /// Its name.
        pub phase_name: String,
        /// Where it stands.
        pub phase_status: PhaseStatus,
        /// The book.
        pub current_book: i64,
        /// Books of the series.
        pub total_books: i64,
        /// When it changed last.
        pub updated_at: String,
    }

    /// Answer of `list_active_workflows`: neither finished nor failed, newest first.
    pub struct WorkflowList {
        /// The workflows.
        pub workflows: Vec<WorkflowItem>,
        /// How many there are in all.
        pub total: i64,
        /// `before_id` of the next page; absent on the last one.
        pub next_before_id: Option<i64>,
    }

    /// Answer of `advance_to_phase`, `retry_failed_phase` and `skip_phase`.
    pub struct PhaseMoved {
        /// True.
        pub success: bool,
        /// The phase it is in now.
        pub current_phase: i64,
        /// Where it stands.
        pub phase_status: PhaseStatus,
        /// What happened.
        pub message: String,
    }

    /// Answer of `complete_current_phase`.
    pub struct PhaseCompleted {
        /// The phase that was completed.
        pub completed_phase: i64,
        /// The one it is in now; null when the series is finished.
        pub next_phase: Option<i64>,
        /// Where it stands.
        pub phase_status: PhaseStatus,
        /// How long the phase took.
        pub duration_minutes: Hundredths,
    }

    /// What `execute_phase` says.
    pub struct ExecutionOutput {
        /// What happened.
        pub message: String,
        /// The input, as it was stored.
        pub input_echo: Object,
    }

    /// Answer of `execute_phase`.
    pub struct PhaseExecuted {
        /// The phase.
        pub phase_number: i64,
        /// Where it stands: never `completed`, which complete_current_phase alone makes it.
        pub status: PhaseStatus,
        /// What happened.
        pub output: ExecutionOutput,
    }

    /// One visit of a phase.
    pub struct Visit {
        /// Its id; grows with time.
        pub visit_id: i64,
        /// The phase.
        pub phase_number: i64,
        /// Its name.
        pub phase_name: String,
        /// The book that was current.
        pub book_number: i64,
        /// How it ended, or `started`.
        pub status: VisitStatus,
        /// When it began.
        pub started_at: String,
        /// When it ended.
        pub completed_at: Option<String>,
        /// How long it took.
        pub duration_minutes: Option<Hundredths>,
        /// What was said at its end.
        pub output_summary: Option<String>,
        /// What it made.
        pub artifacts: Vec<String>,
        /// Score of its last gate.
        pub validation_score: Option<Hundredths>,
    }

    /// Answer of `get_phase_history`, oldest first.
    pub struct PhaseHistory {
        /// The workflow.
        pub workflow_id: i64,
        /// When it was made.
        pub created_at: String,
        /// The visits.
        pub phases: Vec<Visit>,
        /// Visits in all.
        pub total: i64,
        /// Hours of all ended visits, 2 decimals.
        pub total_duration_hours: f64,
    }

    /// Answer of `record_quality_gate`.
    pub struct GateRecorded {
        /// Its id.
        pub gate_id: i64,
        /// Whether it passed.
        pub passed: bool,
        /// `proceed` or `return_to_phase_N`.
        pub next_action: String,
        /// Where the workflow stands now.
        pub phase_status: PhaseStatus,
    }

    /// A recorded gate.
    pub struct Gate {
        /// Its id.
        pub gate_id: i64,
        /// Which.
        pub gate_type: GateType,
        /// The phase that asks for it.
        pub phase_number: i64,
        /// Its score.
        pub score: Hundredths,
        /// Whether it passed.
        pub passed: bool,
        /// What it found.
        pub violations: Vec<Violation>,
        /// The scene's book.
        pub book_number: Option<i64>,
        /// The scene's chapter.
        pub chapter_number: Option<i64>,
        /// The scene.
        pub scene_number: Option<i64>,
        /// When it was recorded.
        pub executed_at: String,
    }

    /// Recorded gates, newest first.
    pub struct GateList {
        /// The workflow.
        pub workflow_id: i64,
        /// The gates.
        pub gates: Vec<Gate>,
        /// How many there are in all.
        pub total: i64,
    }

    /// Answer of `check_gate_status`: the gates of the newest visit of the phase.
    pub struct GateStatus {
        /// Whether the phase has a gate.
        pub has_gate: bool,
        /// Which.
        pub gate_type: Option<GateType>,
        /// Whether it is passed; false where none was recorded, null where there is no gate.
        pub passed: Option<bool>,
        /// Score of the latest one.
        pub score: Option<Hundredths>,
        /// What the latest one found.
        pub violations: Vec<Violation>,
        /// Gates recorded in the visit.
        pub recorded: i64,
    }

    /// Answer of `request_approval`.
    pub struct ApprovalRequested {
        /// Its id.
        pub approval_id: i64,
        /// `pending`.
        pub status: ApprovalStatus,
        /// When.
        pub requested_at: String,
    }

    /// Answer of `submit_approval`.
    pub struct ApprovalDecided {
        /// Its id.
        pub approval_id: i64,
        /// What was decided.
        pub status: ApprovalStatus,
        /// When it was approved; null unless it was.
        pub approved_at: Option<String>,
        /// When it was decided.
        pub decided_at: String,
        /// `advance_to_phase_8`, `advance_next_phase`, `revise` or `retry_failed_phase`.
        pub next_action: String,
        /// Where the workflow stands now.
        pub phase_status: PhaseStatus,
    }

    /// An approval.
    pub struct Approval {
        /// Its id.
        pub approval_id: i64,
        /// Of what.
        pub approval_type: ApprovalType,
        /// Where it stands.
        pub status: ApprovalStatus,
        /// The phase in which it was asked for.
        pub phase_number: i64,
        /// The book.
        pub book_number: Option<i64>,
        /// The chapter.
        pub chapter_number: Option<i64>,
        /// When it was asked for.
        pub requested_at: String,
        /// When it was decided.
        pub decided_at: Option<String>,
        /// Who decided.
        pub decided_by: Option<String>,
        /// Why.
        pub feedback: Option<String>,
        /// What is to be looked at.
        pub artifacts: Vec<String>,
    }

    /// Answer of `get_pending_approvals` (oldest first) and of the history (newest first).
    pub struct ApprovalList {
        /// The workflow.
        pub workflow_id: i64,
        /// The approvals.
        pub approvals: Vec<Approval>,
    }

    /// Answer of `start_book_iteration`.
    pub struct BookStarted {
        /// The book.
        pub book_number: i64,
        /// True.
        pub iteration_started: bool,
        /// 9.
        pub current_phase: i64,
    }

    /// Answer of `complete_book_iteration`.
    pub struct BookCompleted {
        /// The book.
        pub book_number: i64,
        /// When.
        pub completed_at: String,
        /// The approval that was asked for.
        pub approval_id: i64,
        /// The book after it; null after the last one.
        pub next_book: Option<i64>,
    }

    /// Answer of `get_series_progress`.
    pub struct SeriesProgress {
        /// Books of the series.
        pub total_books: i64,
        /// Books whose completion is approved.
        pub books_completed: i64,
        /// The current book.
        pub current_book: i64,
        /// The current phase.
        pub current_phase: i64,
        /// 0 to 100.
        pub percent_complete: i64,
    }

    /// Answer of `start_revision_pass`.
    pub struct PassStarted {
        /// Its id.
        pub pass_id: i64,
        /// When.
        pub started_at: String,
        /// Which run of this pass it is, from 1.
        pub run_count: i64,
        /// What happened.
        pub message: String,
    }

    /// Answer of `complete_revision_pass`.
    pub struct PassCompleted {
        /// Its id.
        pub pass_id: i64,
        /// How long it took.
        pub duration_minutes: Hundredths,
        /// When.
        pub completed_at: String,
        /// The QA report that pass 6 stands for: the newest one of the book.
        pub report_id: Option<i64>,
        /// What happened.
        pub message: String,
    }

    /// Answer of `skip_revision_pass`.
    pub struct PassSkipped {
        /// Its id.
        pub pass_id: i64,
        /// `skipped`.
        pub status: PassStatus,
        /// What happened.
        pub message: String,
    }

    /// A revision pass as it stands.
    pub struct Pass {
        /// Its number, 1 to 6.
        pub pass_number: i64,
        /// Its name.
        pub pass_name: String,
        /// Where it stands.
        pub status: PassStatus,
        /// Its id; null before it was begun or skipped.
        pub pass_id: Option<i64>,
        /// How often it was begun.
        pub run_count: i64,
        /// When the present run began.
        pub started_at: Option<String>,
        /// When it ended.
        pub completed_at: Option<String>,
        /// How long it took.
        pub duration_minutes: Option<Hundredths>,
        /// What was found.
        pub findings_summary: Option<String>,
        /// Whether the text was changed.
        pub edits_made: Option<bool>,
        /// Whether the author agreed.
        pub user_approved: Option<bool>,
        /// Why it was skipped.
        pub skip_reason: Option<String>,
        /// Runs before the present one, oldest first.
        pub earlier_runs: Vec<PassRun>,
    }

    /// An earlier run of a pass.
    pub struct PassRun {
        /// Which run, from 1.
        pub run: i64,
        /// How it ended.
        pub status: PassStatus,
        /// When it began.
        pub started_at: Option<String>,
        /// When it ended.
        pub completed_at: Option<String>,
        /// How long it took.
        pub duration_minutes: Option<Hundredths>,
        /// What was found.
        pub findings_summary: Option<String>,
        /// Whether the text was changed.
        pub edits_made: Option<bool>,
        /// Whether the author agreed.
        pub user_approved: Option<bool>,
    }

    /// Answer of `get_revision_status`.
    pub struct RevisionStatus {
        /// The workflow.
        pub workflow_id: i64,
        /// The book.
        pub book_number: i64,
        /// Passes that are complete.
        pub passes_completed: i64,
        /// Passes that were skipped.
        pub passes_skipped: i64,
        /// 6.
        pub total_passes: i64,
        /// Completed of all, in per cent, 1 decimal.
        pub progress_percentage: f64,
        /// All six.
        pub passes: Vec<Pass>,
        /// Whether passes 1 to 5 are each complete or skipped.
        pub ready_for_qa: bool,
    }

    /// Answer of `run_qa_checklist`; a stored report.
    pub struct QaReport {
        /// Its id.
        pub report_id: i64,
        /// The workflow.
        pub workflow_id: i64,
        /// Title of the book; `Book N` where none is known.
        pub book_title: String,
        /// The book.
        pub book_number: i64,
        /// When it was made.
        pub date: String,
        /// The verdict.
        pub status: QaStatus,
        /// The five categories.
        pub categories: Categories,
        /// What is in the way.
        pub blockers: Vec<Blocker>,
        /// How many.
        pub blocker_count: i64,
        /// What is not in the way, yet not right.
        pub warnings: Vec<Warning>,
        /// What to do, in the order in which to do it.
        pub recommendations: Vec<String>,
        /// Hours until it is ready, 1 decimal.
        pub estimated_time_to_ready_hours: f64,
    }

    /// Answer of `get_qa_report`.
    pub struct QaReports {
        /// The workflow.
        pub workflow_id: i64,
        /// The book.
        pub book_number: i64,
        /// Newest first.
        pub reports: Vec<QaReport>,
        /// How many there are in all.
        pub total: i64,
        /// Whether the newest one speaks of the book as it is now.
        pub current: bool,
        /// When the book was marked ready; null unless it is, and unchanged since.
        pub ready_at: Option<String>,
    }

    /// Answer of `mark_ready_to_publish`.
    pub struct MarkedReady {
        /// The workflow.
        pub workflow_id: i64,
        /// The book.
        pub book_number: i64,
        /// `READY_TO_PUBLISH`.
        pub status: QaStatus,
        /// The report that says so.
        pub report_id: i64,
        /// When it was marked.
        pub ready_at: String,
        /// What happened.
        pub message: String,
    }

    /// Answer of `update_book_record`.
    pub struct BookRecord {
        /// The workflow.
        pub workflow_id: i64,
        /// The book.
        pub book_number: i64,
        /// Its title.
        pub title: Option<String>,
        /// Its blurb.
        pub blurb: Option<String>,
        /// Words of the blurb.
        pub blurb_words: i64,
        /// Its keywords.
        pub keywords: Vec<String>,
        /// Its categories.
        pub categories: Vec<String>,
        /// Its cover.
        pub cover_status: CoverStatus,
        /// Whether it goes to Kindle Unlimited.
        pub ku: bool,
        /// Words it shall have.
        pub target_word_count: Option<i64>,
        /// When its completion was approved.
        pub approved_at: Option<String>,
        /// When it was marked ready, unless it changed since.
        pub ready_at: Option<String>,
        /// When the book changed last.
        pub changed_at: Option<String>,
    }
}
