//! The rows that the slice's statements read and store. Figures are in hundredths, times epoch ms.

use super::phase::PhaseStatus;

crate::row! {
    /// A row of `writing_workflows`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in WorkflowState")]
    pub struct WorkflowRow {
        pub id: i64,
        pub series_id: i64,
        pub series_title: Option<String>,
        pub author_id: i64,
        pub concept: String,
        pub total_books: i64,
        pub time_zone: String,
        pub phase: i64,
        pub status: String,
        pub active: bool,
        pub book: i64,
        pub chapter: Option<i64>,
        pub visit_id: i64,
        pub revision: i64,
        pub evidence: i64,
        pub first_metric_at: Option<i64>,
        pub metadata: String,
        pub created_at: i64,
        pub updated_at: i64,
        pub completed_at: Option<i64>,
    }

    /// A row of `writing_visits`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in Visit")]
    pub struct VisitRow {
        pub id: i64,
        pub workflow_id: i64,
        pub phase: i64,
        pub book: i64,
        pub status: String,
        pub started_at: i64,
        pub ended_at: Option<i64>,
        pub input: Option<String>,
        pub summary: Option<String>,
        pub artifacts: String,
        pub output: Option<String>,
        pub score: Option<i64>,
    }

    /// A row of `writing_books`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in BookRecord")]
    pub struct BookRow {
        pub workflow_id: i64,
        pub book: i64,
        pub title: Option<String>,
        pub blurb: Option<String>,
        pub keywords: String,
        pub categories: String,
        pub cover: String,
        pub ku: bool,
        pub target_words: Option<i64>,
        pub revision: i64,
        pub changed_at: Option<i64>,
        pub approved_at: Option<i64>,
        pub ready_at: Option<i64>,
        pub ready_revision: Option<i64>,
        pub ready_evidence: Option<i64>,
    }

    /// A row of `writing_passes`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in Pass")]
    pub struct PassRow {
        pub workflow_id: i64,
        pub book: i64,
        pub pass: i64,
        pub id: i64,
        pub name: String,
        pub status: String,
        pub run_count: i64,
        pub runs_completed: i64,
        pub started_at: Option<i64>,
        pub ended_at: Option<i64>,
        pub duration: Option<i64>,
        pub findings: Option<String>,
        pub edits_made: Option<bool>,
        pub user_approved: Option<bool>,
        pub reason: Option<String>,
        pub report_id: Option<i64>,
    }

    /// A row of `writing_pass_runs`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in PassRun")]
    pub struct PassRunRow {
        pub pass: i64,
        pub run: i64,
        pub status: String,
        pub started_at: Option<i64>,
        pub ended_at: Option<i64>,
        pub duration: Option<i64>,
        pub findings: Option<String>,
        pub edits_made: Option<bool>,
        pub user_approved: Option<bool>,
    }

    /// A row of `writing_reports`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in QaReport")]
    pub struct ReportRow {
        pub id: i64,
        pub workflow_id: i64,
        pub book: i64,
        pub ready: bool,
        pub revision: i64,
        pub evidence: i64,
        pub report: String,
        pub created_at: i64,
    }

    /// A row of `writing_approvals`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in Approval")]
    pub struct ApprovalRow {
        pub id: i64,
        pub workflow_id: i64,
        pub visit_id: i64,
        pub phase: i64,
        pub kind: String,
        pub book: i64,
        pub chapter: i64,
        pub artifacts: String,
        pub status: String,
        pub requested_at: i64,
        pub decided_at: Option<i64>,
        pub decided_by: Option<String>,
        pub feedback: Option<String>,
    }

    /// A row of `writing_gates`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in Gate")]
    pub struct GateRow {
        pub id: i64,
        pub workflow_id: i64,
        pub visit_id: i64,
        pub kind: String,
        pub score: i64,
        pub passed: bool,
        pub violations: String,
        pub book: i64,
        pub chapter: i64,
        pub scene: i64,
        pub executed_at: i64,
    }

    /// A row of `writing_metrics`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in RecordMetric")]
    pub struct MetricRow {
        pub id: i64,
        pub workflow_id: i64,
        pub metric_type: String,
        pub value: i64,
        pub phase: Option<i64>,
        pub book: Option<i64>,
        pub chapter: Option<i64>,
        pub recorded_at: i64,
        pub idempotency_key: Option<String>,
        pub digest: Option<String>,
        pub metadata: Option<String>,
    }

    /// A sum of one type, book and phase; book 0 is "none", phase −2 is "not by phase".
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described above")]
    pub struct SumRow {
        pub metric_type: String,
        pub book: i64,
        pub phase: i64,
        pub total: i64,
        pub n: i64,
    }

    /// The latest value of a gauge; chapter 0 is "none".
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described above")]
    pub struct GaugeRow {
        pub book: i64,
        pub metric_type: String,
        pub chapter: i64,
        pub value: i64,
    }

    /// A row of `writing_daily`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in DailyStat")]
    pub struct DailyRow {
        pub workflow_id: i64,
        pub day: String,
        pub words: i64,
        pub chapters: i64,
        pub scenes: i64,
        pub minutes: i64,
        pub phases: i64,
    }

    /// A row of `writing_phases`.
    #[derive(Clone, Debug, PartialEq)]
    #[allow(missing_docs, reason = "the columns are described in PhaseAnalytics")]
    pub struct PhaseRow {
        pub phase: i64,
        pub successful: i64,
        pub failed: i64,
        pub sum_duration_ms: i64,
        pub timed: i64,
        pub sum_quality: i64,
        pub scored: i64,
        pub last_at: Option<i64>,
    }
}

impl WorkflowRow {
    /// The status; the schema allows no other words.
    #[must_use]
    pub fn status(&self) -> PhaseStatus {
        PhaseStatus::parse(&self.status).unwrap_or(PhaseStatus::InProgress)
    }

    /// Sets the status, and with it whether the workflow is active.
    pub fn set_status(&mut self, status: PhaseStatus) {
        status.as_str().clone_into(&mut self.status);
        self.active = !matches!(status, PhaseStatus::Completed | PhaseStatus::Failed);
    }
}

impl BookRow {
    /// A book of which nothing is known.
    #[must_use]
    pub fn unknown(workflow_id: i64, book: i64) -> BookRow {
        BookRow {
            workflow_id,
            book,
            title: None,
            blurb: None,
            keywords: "[]".to_owned(),
            categories: "[]".to_owned(),
            cover: "MISSING".to_owned(),
            ku: true,
            target_words: None,
            revision: 0,
            changed_at: None,
            approved_at: None,
            ready_at: None,
            ready_revision: None,
            ready_evidence: None,
        }
    }

    /// When it was marked ready, unless it or its series changed since.
    #[must_use]
    pub fn ready(&self, evidence: i64) -> Option<i64> {
        let same =
            self.ready_revision == Some(self.revision) && self.ready_evidence == Some(evidence);
        self.ready_at.filter(|_| same)
    }
}
