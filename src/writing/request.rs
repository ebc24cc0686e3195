//! What the writing slice is asked: one struct per tool, with the tool's own field names.
//!
//! Every request refuses fields that it does not know. Ids are integers; moments are RFC 3339.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::metric::Hundredths;
use super::phase::{ApprovalType, Decision, GateType};
use super::word::words;

/// An open JSON object.
pub type Object = Map<String, Value>;

macro_rules! requests {
    ($($(#[$meta:meta])* pub struct $name:ident { $($body:tt)* })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($body)* }
    )+};
}

requests! {
    /// `get_workflow_state`, `get_pending_approvals`, `get_series_progress`.
    pub struct WorkflowRef {
        /// The workflow.
        pub workflow_id: i64,
    }

    /// `complete_book_iteration`, `start_book_iteration`, `get_revision_status`,
    /// `run_qa_checklist`, `mark_ready_to_publish`.
    pub struct BookRef {
        /// The workflow.
        pub workflow_id: i64,
        /// The book, from 1.
        pub book_number: i64,
    }

    /// `check_gate_status`, `retry_failed_phase`.
    pub struct PhaseRef {
        /// The workflow.
        pub workflow_id: i64,
        /// The phase, −1 to 12.
        pub phase_number: i64,
    }

    /// `create_workflow`.
    pub struct CreateWorkflow {
        /// The series, an id of the caller's.
        pub series_id: i64,
        /// The author, an id of the caller's.
        pub user_id: i64,
        /// What the series is about.
        pub concept: String,
        /// Its title.
        #[serde(default)]
        pub series_title: Option<String>,
        /// Books of the series, 1 to 100; 5 unless given.
        #[serde(default)]
        pub total_books: Option<i64>,
        /// The zone in which its days are counted, as in `Europe/Berlin`; the daemon's setting
        /// unless given.
        #[serde(default)]
        pub time_zone: Option<String>,
        /// Anything to keep with it.
        #[serde(default)]
        pub metadata: Option<Object>,
    }

    /// `list_active_workflows`.
    pub struct ListWorkflows {
        /// Only of this author.
        #[serde(default)]
        pub user_id: Option<i64>,
        /// At most so many, 1 to 200; 50 unless given.
        #[serde(default)]
        pub limit: Option<i64>,
        /// Only those with a smaller id: the last one of the page before.
        #[serde(default)]
        pub before_id: Option<i64>,
    }

    /// `advance_to_phase`.
    pub struct AdvanceToPhase {
        /// The workflow.
        pub workflow_id: i64,
        /// The phase to be in, 0 to 12.
        pub target_phase: i64,
    }

    /// What a phase left.
    pub struct PhaseOutput {
        /// What was done.
        pub summary: String,
        /// Names of what was made.
        #[serde(default)]
        pub artifacts: Vec<String>,
        /// Anything else to keep.
        #[serde(default)]
        pub metadata: Option<Object>,
    }

    /// `complete_current_phase`.
    pub struct CompletePhase {
        /// The workflow.
        pub workflow_id: i64,
        /// What the phase left.
        pub output: PhaseOutput,
    }

    /// `execute_phase`.
    pub struct ExecutePhase {
        /// The workflow.
        pub workflow_id: i64,
        /// The phase to work on, −1 to 12.
        pub phase_number: i64,
        /// What it is given.
        pub input: Object,
    }

    /// `skip_phase`.
    pub struct SkipPhase {
        /// The workflow.
        pub workflow_id: i64,
        /// The current phase.
        pub phase_number: i64,
        /// Why.
        pub reason: String,
    }

    /// `get_phase_history`.
    pub struct HistoryQuery {
        /// The workflow.
        pub workflow_id: i64,
        /// Only of this phase.
        #[serde(default)]
        pub phase_number: Option<i64>,
        /// At most so many, the newest, 1 to 500; 100 unless given.
        #[serde(default)]
        pub limit: Option<i64>,
    }

    /// Something that a gate found.
    pub struct Violation {
        /// What it is about.
        #[serde(default)]
        pub category: Option<String>,
        /// How bad it is.
        #[serde(default)]
        pub severity: Option<String>,
        /// What is wrong.
        pub message: String,
        /// What would be right.
        #[serde(default)]
        pub suggestion: Option<String>,
    }

    /// `record_quality_gate`.
    pub struct RecordGate {
        /// The workflow.
        pub workflow_id: i64,
        /// Which gate.
        pub gate_type: GateType,
        /// Its score: 0 to 100, commercial 0 to 10.
        pub score: Hundredths,
        /// Whether it passed; must agree with the threshold.
        pub passed: bool,
        /// What it found.
        #[serde(default)]
        pub violations: Vec<Violation>,
        /// The scene's book.
        #[serde(default)]
        pub book_number: Option<i64>,
        /// The scene's chapter.
        #[serde(default)]
        pub chapter_number: Option<i64>,
        /// The scene.
        #[serde(default)]
        pub scene_number: Option<i64>,
    }

    /// `request_approval`.
    pub struct RequestApproval {
        /// The workflow.
        pub workflow_id: i64,
        /// Of what.
        pub approval_type: ApprovalType,
        /// What is to be looked at.
        pub artifacts: Vec<String>,
        /// The book; the current one unless given. Not for series_plan.
        #[serde(default)]
        pub book_number: Option<i64>,
        /// The chapter, for chapter_plan.
        #[serde(default)]
        pub chapter_number: Option<i64>,
    }

    /// `submit_approval`.
    pub struct SubmitApproval {
        /// The approval.
        pub approval_id: i64,
        /// What was decided.
        pub decision: Decision,
        /// Why.
        #[serde(default)]
        pub feedback: Option<String>,
        /// Who decided.
        #[serde(default)]
        pub decided_by: Option<String>,
    }

    /// `start_revision_pass`.
    pub struct StartPass {
        /// The workflow.
        pub workflow_id: i64,
        /// The book, from 1.
        pub book_number: i64,
        /// The pass, 1 to 6.
        pub pass_number: i64,
        /// Its name, which must belong to the number.
        pub pass_name: String,
    }

    /// `complete_revision_pass`.
    pub struct CompletePass {
        /// The workflow.
        pub workflow_id: i64,
        /// The book, from 1.
        pub book_number: i64,
        /// The pass, 1 to 6.
        pub pass_number: i64,
        /// What was found.
        #[serde(default)]
        pub findings_summary: Option<String>,
        /// Whether the text was changed.
        #[serde(default)]
        pub edits_made: Option<bool>,
        /// Whether the author agreed.
        #[serde(default)]
        pub user_approved: Option<bool>,
    }

    /// `skip_revision_pass`.
    pub struct SkipPass {
        /// The workflow.
        pub workflow_id: i64,
        /// The book, from 1.
        pub book_number: i64,
        /// The pass, 1 to 5.
        pub pass_number: i64,
        /// Why.
        pub reason: String,
    }

    /// `get_qa_report`.
    pub struct ReportQuery {
        /// The workflow.
        pub workflow_id: i64,
        /// The book, from 1.
        pub book_number: i64,
        /// At most so many, newest first, 1 to 50; 1 unless given.
        #[serde(default)]
        pub limit: Option<i64>,
    }

    /// `update_book_record`. What is absent stays as it is.
    pub struct UpdateBook {
        /// The workflow.
        pub workflow_id: i64,
        /// The book, from 1.
        pub book_number: i64,
        /// Its title.
        #[serde(default)]
        pub title: Option<String>,
        /// Its blurb; 150 to 300 words are asked for.
        #[serde(default)]
        pub blurb: Option<String>,
        /// Its keywords; 7 are asked for.
        #[serde(default)]
        pub keywords: Option<Vec<String>>,
        /// Its categories; 2 are asked for.
        #[serde(default)]
        pub categories: Option<Vec<String>>,
        /// Its cover.
        #[serde(default)]
        pub cover_status: Option<CoverStatus>,
        /// Whether it goes to Kindle Unlimited; yes unless set.
        #[serde(default)]
        pub ku: Option<bool>,
        /// Words it shall have.
        #[serde(default)]
        pub target_word_count: Option<i64>,
    }

    /// Where a metric belongs.
    #[derive(Default)]
    pub struct MetricContext {
        /// The phase, −1 to 12.
        #[serde(default)]
        pub phase_number: Option<i64>,
        /// The book, from 1.
        #[serde(default)]
        pub book_number: Option<i64>,
        /// The chapter, from 1.
        #[serde(default)]
        pub chapter_number: Option<i64>,
        /// Anything to keep with it.
        #[serde(default)]
        pub metadata: Option<Object>,
    }

    /// `record_production_metric`.
    pub struct RecordMetric {
        /// The workflow.
        pub workflow_id: i64,
        /// What is recorded.
        pub metric_type: String,
        /// How much; kept to the hundredth.
        pub metric_value: Hundredths,
        /// Where it belongs.
        #[serde(default)]
        pub context: Option<MetricContext>,
        /// The same key with the same arguments is recorded once, and answered alike.
        #[serde(default)]
        pub idempotency_key: Option<String>,
        /// Declares that a negative value takes back what was recorded.
        #[serde(default)]
        pub correction: bool,
        /// When it happened, RFC 3339, not in the future; now unless given.
        #[serde(default)]
        pub recorded_at: Option<String>,
    }

    /// A range of days or moments; both ends count, each may be absent. A day is one of the
    /// workflow's zone, and all of it counts.
    #[derive(Default)]
    pub struct DateRange {
        /// The first day, `YYYY-MM-DD`, or moment, RFC 3339.
        #[serde(default)]
        pub start: Option<String>,
        /// The last one.
        #[serde(default)]
        pub end: Option<String>,
    }

    /// `get_workflow_metrics`.
    pub struct MetricsQuery {
        /// The workflow.
        pub workflow_id: i64,
        /// Only these types.
        #[serde(default)]
        pub metric_types: Option<Vec<String>>,
        /// Only what was recorded then.
        #[serde(default)]
        pub date_range: Option<DateRange>,
    }

    /// `get_workflow_velocity`.
    pub struct VelocityQuery {
        /// The workflow.
        pub workflow_id: i64,
        /// Which window; all unless given.
        #[serde(default)]
        pub time_window: Option<TimeWindow>,
    }

    /// `get_daily_writing_stats`: at least one of the two ids; with both, both must fit.
    #[derive(Default)]
    pub struct DailyQuery {
        /// The workflow.
        #[serde(default)]
        pub workflow_id: Option<i64>,
        /// The author.
        #[serde(default)]
        pub author_id: Option<i64>,
        /// Only these days.
        #[serde(default)]
        pub date_range: Option<DateRange>,
    }

    /// `get_phase_analytics`.
    #[derive(Default)]
    pub struct AnalyticsQuery {
        /// Only of this phase, −1 to 12.
        #[serde(default)]
        pub phase_number: Option<i64>,
    }

    /// What is added to a day by hand.
    #[derive(Default)]
    pub struct DailyUpdates {
        /// Words more.
        #[serde(default)]
        pub words_written: Option<Hundredths>,
        /// Chapters more.
        #[serde(default)]
        pub chapters_completed: Option<Hundredths>,
        /// Scenes more.
        #[serde(default)]
        pub scenes_written: Option<Hundredths>,
        /// Minutes more.
        #[serde(default)]
        pub writing_time_minutes: Option<Hundredths>,
        /// Phases more.
        #[serde(default)]
        pub phases_completed: Option<Hundredths>,
    }

    /// `update_daily_stats`: adds to the day's row; metrics and totals stay as they are.
    pub struct UpdateDaily {
        /// The workflow.
        pub workflow_id: i64,
        /// The day, `YYYY-MM-DD`.
        pub date: String,
        /// What is added.
        pub updates: DailyUpdates,
    }
}

words! {
    /// What velocity is measured over.
    pub enum TimeWindow {
        /// The last 24 hours.
        Day = "day",
        /// The last 7 × 24 hours.
        Week = "week",
        /// Everything.
        All = "all",
    }

    /// Where a cover stands.
    pub enum CoverStatus {
        /// There is none.
        Missing = "MISSING",
        /// It is being made.
        InProgress = "IN_PROGRESS",
        /// It is there.
        Complete = "COMPLETE",
    }
}
