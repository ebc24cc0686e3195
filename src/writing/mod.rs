//! Writing: a series of books through its phases, passes, metrics and checklist.
//!
//! This is the slice's handle. Everything above talks to [`Writing`] and to the plain data of
//! [`view`]; nothing above knows the database behind them. Every figure is computed from what was
//! recorded, and every verdict has evidence (`spec/writing.md`).
//!
//! # API
//! Each tool is a method of its own name that takes the request of [`request`] and gives the answer
//! of [`view`]; fields are the tool's. Two tools answer lists, which are wrapped: `approvals` of
//! `get_pending_approvals`, `stats` of `get_daily_writing_stats`, `phases` of
//! `get_phase_analytics`. `get_workflow_state`, `get_pending_approvals` and `get_series_progress`
//! take [`WorkflowRef`]; `start_book_iteration`, `complete_book_iteration`, `get_revision_status`,
//! `run_qa_checklist` and `mark_ready_to_publish` take [`BookRef`]; `check_gate_status` and
//! `retry_failed_phase` take [`PhaseRef`]. For resources there are [`Writing::approvals`],
//! [`Writing::gates`], [`Writing::book_record`], [`Writing::complete_ids`] and the static
//! [`phase::PHASES`]. Changes arrive as [`crate::changes::Changed::Writing`] with the workflow's id
//! in decimal.

pub mod day;
mod desk;
pub mod error;
pub mod export;
pub mod import;
mod ledger;
pub mod metric;
pub mod pass;
pub mod phase;
mod phase_list;
pub mod qa;
pub mod request;
pub mod sql;
pub mod sql_books;
mod sql_export;
pub mod sql_gates;
mod sql_imports;
pub mod sql_metrics;
pub mod sql_rows;
pub mod sums;
pub mod velocity;
pub mod view;
mod view_figures;
mod word;

use std::sync::Arc;

use crate::changes::Changes;
use crate::clock::Clock;
use crate::config::WritingConfig;
use crate::db::Db;
use crate::ids::Rng;
use desk::Desk;
use desk::recorder::Recorder;
pub use error::WritingError;
pub use view::*;

/// What the slice is built from.
pub struct WritingDeps {
    /// Database, migrated.
    pub db: Db,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// The road upward.
    pub changes: Changes,
    /// The `[writing]` settings.
    pub config: WritingConfig,
}

/// Handle to the writing slice; cheap to clone.
#[derive(Clone)]
pub struct Writing {
    desk: Arc<Desk>,
    recorder: Recorder,
}

/// Declares the tools: one method each, of the tool's name.
macro_rules! tools {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $answer:ty = $by:path;)+) => {
        impl Writing {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`WritingError`]; after any but [`WritingError::Unsure`] nothing was stored.
            pub async fn $name(&self, request: $request) -> Result<$answer, WritingError> {
                $by(&self.desk, request).await
            }
        )+}
    };
}

tools! {
    /// A new workflow of a series, before its first phase.
    create_workflow(CreateWorkflow) -> WorkflowCreated = desk::phases::create;
    /// Where a workflow stands.
    get_workflow_state(WorkflowRef) -> WorkflowState = desk::state::state;
    /// Workflows that are neither finished nor failed.
    list_active_workflows(ListWorkflows) -> WorkflowList = desk::state::list;
    /// Moves to a phase: back always, forward to the next one when the current one can be completed.
    advance_to_phase(AdvanceToPhase) -> PhaseMoved = desk::phases::advance;
    /// Completes the current phase and enters the next one.
    complete_current_phase(CompletePhase) -> PhaseCompleted = desk::phases::complete;
    /// Says that work on a phase goes on, and stores what it is given; moves there as
    /// `advance_to_phase` does.
    execute_phase(ExecutePhase) -> PhaseExecuted = desk::phases::execute;
    /// Begins the current phase again after it failed.
    retry_failed_phase(PhaseRef) -> PhaseMoved = desk::phases::retry;
    /// Leaves the current phase without completing it; those with a gate or an approval stay.
    skip_phase(SkipPhase) -> PhaseMoved = desk::phases::skip;
    /// The visits of phases, oldest first.
    get_phase_history(HistoryQuery) -> PhaseHistory = desk::state::history;
    /// Records the result of a gate.
    record_quality_gate(RecordGate) -> GateRecorded = desk::gates::record;
    /// Whether the gate of a phase is passed.
    check_gate_status(PhaseRef) -> GateStatus = desk::gates::check_status;
    /// Asks a person to decide.
    request_approval(RequestApproval) -> ApprovalRequested = desk::approvals::request;
    /// Decides, once.
    submit_approval(SubmitApproval) -> ApprovalDecided = desk::approvals::submit;
    /// What waits for a decision.
    get_pending_approvals(WorkflowRef) -> ApprovalList = desk::approvals::pending;
    /// Begins the next book at phase 9.
    start_book_iteration(BookRef) -> BookStarted = desk::books::start;
    /// Ends the current book and asks for its approval.
    complete_book_iteration(BookRef) -> BookCompleted = desk::books::complete;
    /// How far the series is.
    get_series_progress(WorkflowRef) -> SeriesProgress = desk::state::progress;
    /// Begins a revision pass, perhaps once more.
    start_revision_pass(StartPass) -> PassStarted = desk::passes::start;
    /// Ends a revision pass that is in progress.
    complete_revision_pass(CompletePass) -> PassCompleted = desk::passes::complete;
    /// Leaves a revision pass out.
    skip_revision_pass(SkipPass) -> PassSkipped = desk::passes::skip;
    /// All six passes of a book.
    get_revision_status(BookRef) -> RevisionStatus = desk::passes::status;
    /// Judges a book by what was recorded, and stores the report.
    run_qa_checklist(BookRef) -> QaReport = desk::quality::run;
    /// Stored reports, newest first.
    get_qa_report(ReportQuery) -> QaReports = desk::quality::reports;
    /// Marks a book ready; needs a report that is ready and newer than the book's last change.
    mark_ready_to_publish(BookRef) -> MarkedReady = desk::quality::mark_ready;
    /// Stores what the shop needs to know of a book.
    update_book_record(UpdateBook) -> BookRecord = desk::books::update;
    /// Totals and averages.
    get_workflow_metrics(MetricsQuery) -> WorkflowMetrics = desk::figures::metrics;
    /// Pace, efficiency and projections.
    get_workflow_velocity(VelocityQuery) -> WorkflowVelocity = desk::velocity::velocity;
    /// Days, newest first.
    get_daily_writing_stats(DailyQuery) -> DailyStats = desk::figures::daily;
    /// Phases over all workflows.
    get_phase_analytics(AnalyticsQuery) -> PhaseAnalyticsList = desk::figures::analytics;
    /// Adds to a day by hand.
    update_daily_stats(UpdateDaily) -> DailyUpdated = desk::figures::update_daily;
}

impl Writing {
    /// Opens the slice on a migrated database; must be called in a tokio runtime.
    #[must_use]
    pub fn open(deps: WritingDeps) -> Writing {
        let desk = Desk::new(deps);
        Writing { recorder: Recorder::start(Arc::clone(&desk)), desk }
    }

    /// Records a metric, its totals and its day in one transaction, together with others that
    /// arrive at the same time; answers after the commit.
    ///
    /// # Errors
    /// [`WritingError`]; after any but [`WritingError::Unsure`] nothing was stored.
    pub async fn record_production_metric(
        &self,
        request: RecordMetric,
    ) -> Result<MetricRecorded, WritingError> {
        self.recorder.record(request).await
    }

    /// Approvals of a workflow, newest first, decided ones included, at most 200.
    ///
    /// # Errors
    /// [`WritingError::UnknownWorkflow`], or the database's.
    pub async fn approvals(&self, workflow_id: i64) -> Result<ApprovalList, WritingError> {
        desk::approvals::all(&self.desk, workflow_id).await
    }

    /// Gates of a workflow, newest first, of one type or all, at most 200.
    ///
    /// # Errors
    /// [`WritingError::UnknownWorkflow`], or the database's.
    pub async fn gates(
        &self,
        workflow_id: i64,
        gate_type: Option<GateType>,
    ) -> Result<GateList, WritingError> {
        desk::gates::gates(&self.desk, workflow_id, gate_type).await
    }

    /// The record of a book.
    ///
    /// # Errors
    /// [`WritingError::UnknownWorkflow`], [`WritingError::UnknownBook`], or the database's.
    pub async fn book_record(&self, request: BookRef) -> Result<BookRecord, WritingError> {
        desk::books::record(&self.desk, request).await
    }

    /// Imports an installation of the seed's schema from a PostgreSQL database, which is only read.
    /// Can be repeated: what was imported before is left alone. `tell` hears of every row that is
    /// rejected or mended, and of every page that was taken.
    ///
    /// # Errors
    /// [`WritingError::Invalid`] where `from` is no such database, or a database's; what was
    /// imported until then stays.
    pub async fn import(
        &self,
        from: &Db,
        options: &import::ImportOptions,
        tell: import::Teller<'_>,
    ) -> Result<import::ImportReport, WritingError> {
        import::import(&self.desk, from, options, tell).await
    }

    /// Writes what is stored of a workflow, or of all, in `format`; answers the rows written.
    ///
    /// # Errors
    /// [`WritingError::UnknownWorkflow`], [`WritingError::Io`], or the database's.
    pub async fn export(
        &self,
        workflow_id: Option<i64>,
        format: export::Format,
        out: &mut (dyn std::io::Write + Send),
    ) -> Result<u64, WritingError> {
        export::export(&self.desk, workflow_id, format, out).await
    }

    /// Ids of workflows whose decimal digits begin with `prefix`, newest first, at most `limit`;
    /// for completion.
    ///
    /// # Errors
    /// The database's.
    pub async fn complete_ids(&self, prefix: &str, limit: usize) -> Result<Vec<i64>, WritingError> {
        desk::state::complete_ids(&self.desk, prefix, limit).await
    }
}
