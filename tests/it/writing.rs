//! Writing workflows through the slice's handle, on both engines.

mod cut;
mod defects_figures;
mod defects_phases;
mod defects_quality;
mod explain;
mod export;
mod import;
mod lockstep;
mod rules;
mod seed;
mod story;
mod together;

use std::sync::Arc;

use adwd::changes::Changes;
use adwd::clock::{Millis, TestClock};
use adwd::config::WritingConfig;
use adwd::db::Db;
use adwd::ids::TestRng;
use adwd::writing::*;

use crate::db::Scratch;

/// The moment at which tests begin: a Monday in January 2026, noon in UTC.
const BEGIN: &str = "2026-01-05T12:00:00Z";
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// The slice on a database of its own, with a clock that stands until it is moved.
struct World {
    writing: Writing,
    clock: Arc<TestClock>,
    changes: Changes,
    db: Db,
    _scratch: Scratch,
}

fn begin() -> Millis {
    Millis::parse_rfc3339(BEGIN).unwrap()
}

async fn world(scratch: Scratch) -> World {
    world_with(scratch, WritingConfig::default()).await
}

async fn world_with(scratch: Scratch, config: WritingConfig) -> World {
    let clock = Arc::new(TestClock::new(begin()));
    scratch.db.migrate(&*clock).await.expect("migrates");
    let changes = Changes::new();
    let deps = WritingDeps {
        db: scratch.db.clone(),
        clock: clock.clone(),
        rng: Arc::new(TestRng::new(1)),
        changes: changes.clone(),
        config,
    };
    World {
        writing: Writing::open(deps),
        clock,
        changes,
        db: scratch.db.clone(),
        _scratch: scratch,
    }
}

/// A request from the JSON that a tool is called with, as the wire makes it.
fn parsed<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

macro_rules! ask {
    ($($json:tt)*) => { $crate::writing::parsed(serde_json::json!({ $($json)* })) };
}
use ask;

impl World {
    fn later(&self, ms: i64) {
        use adwd::clock::Clock;
        self.clock.set(self.clock.now().plus_ms(ms));
    }

    async fn create(&self) -> i64 {
        let asked =
            ask! { "series_id": 7, "user_id": 1, "concept": "Five books about a lighthouse" };
        self.writing.create_workflow(asked).await.unwrap().workflow_id
    }

    async fn state(&self, id: i64) -> WorkflowState {
        self.writing.get_workflow_state(WorkflowRef { workflow_id: id }).await.unwrap()
    }

    async fn phase(&self, id: i64) -> (i64, PhaseStatus) {
        let state = self.state(id).await;
        (state.current_phase, state.phase_status)
    }

    async fn complete(&self, id: i64) -> Result<PhaseCompleted, WritingError> {
        let asked =
            ask! { "workflow_id": id, "output": { "summary": "done", "artifacts": ["a.md"] } };
        self.writing.complete_current_phase(asked).await
    }

    async fn gate(&self, id: i64, kind: &str, score: f64, passed: bool) -> GateRecorded {
        let asked = ask! { "workflow_id": id, "gate_type": kind, "score": score, "passed": passed };
        self.writing.record_quality_gate(asked).await.unwrap()
    }

    async fn scene(&self, id: i64, (book, chapter, scene): (i64, i64, i64), passed: bool) {
        let asked = ask! {
            "workflow_id": id, "gate_type": "npe_scene", "score": 90, "passed": passed,
            "book_number": book, "chapter_number": chapter, "scene_number": scene,
        };
        self.writing.record_quality_gate(asked).await.unwrap();
    }

    async fn request(&self, id: i64, kind: &str) -> i64 {
        let asked = ask! { "workflow_id": id, "approval_type": kind, "artifacts": ["plan.md"] };
        self.writing.request_approval(asked).await.unwrap().approval_id
    }

    async fn decide(&self, approval: i64, decision: &str) -> ApprovalDecided {
        let asked = ask! { "approval_id": approval, "decision": decision };
        self.writing.submit_approval(asked).await.unwrap()
    }

    async fn metric(&self, id: i64, kind: &str, value: f64) -> MetricRecorded {
        let asked = ask! { "workflow_id": id, "metric_type": kind, "metric_value": value };
        self.writing.record_production_metric(asked).await.unwrap()
    }

    async fn book_metric(&self, id: i64, book: i64, kind: &str, value: f64) -> MetricRecorded {
        let asked = ask! {
            "workflow_id": id, "metric_type": kind, "metric_value": value,
            "context": { "book_number": book },
        };
        self.writing.record_production_metric(asked).await.unwrap()
    }

    async fn metrics(&self, id: i64) -> WorkflowMetrics {
        self.writing.get_workflow_metrics(ask! { "workflow_id": id }).await.unwrap()
    }

    async fn pass(&self, id: i64, book: i64, number: i64) -> PassCompleted {
        self.start_pass(id, book, number).await.unwrap();
        self.later(30 * MINUTE_MS);
        self.complete_pass(id, book, number).await.unwrap()
    }

    async fn start_pass(&self, id: i64, book: i64, n: i64) -> Result<PassStarted, WritingError> {
        let asked = ask! {
            "workflow_id": id, "book_number": book, "pass_number": n,
            "pass_name": pass::name(n).unwrap_or("none"),
        };
        self.writing.start_revision_pass(asked).await
    }

    async fn complete_pass(
        &self,
        id: i64,
        book: i64,
        n: i64,
    ) -> Result<PassCompleted, WritingError> {
        let asked = ask! {
            "workflow_id": id, "book_number": book, "pass_number": n,
            "findings_summary": "fine", "edits_made": true, "user_approved": true,
        };
        self.writing.complete_revision_pass(asked).await
    }

    /// From the start to phase 9 of book 1, as the rules have it.
    async fn plan(&self, id: i64) {
        for _ in -1..4 {
            self.complete(id).await.unwrap();
        }
        self.gate(id, "npe_series", 85.0, true).await;
        self.complete(id).await.unwrap();
        self.gate(id, "commercial", 7.5, true).await;
        self.complete(id).await.unwrap();
        self.complete(id).await.unwrap();
        let approval = self.request(id, "series_plan").await;
        self.decide(approval, "approved").await;
        self.complete(id).await.unwrap();
        self.complete(id).await.unwrap();
        assert_eq!(self.phase(id).await, (9, PhaseStatus::InProgress));
    }

    /// From phase 9 of a book to its approval.
    async fn write_book(&self, id: i64, book: i64) {
        self.complete(id).await.unwrap();
        self.scene(id, (book, 1, 1), true).await;
        self.complete(id).await.unwrap();
        let asked = BookRef { workflow_id: id, book_number: book };
        let done = self.writing.complete_book_iteration(asked).await.unwrap();
        self.decide(done.approval_id, "approved").await;
    }

    /// Everything that the checklist wants to see of a book.
    async fn evidence(&self, id: i64, book: i64) {
        self.gate(id, "npe_series", 88.0, true).await;
        for chapter in 1..=3 {
            self.scene(id, (book, chapter, 1), true).await;
            let rating = ask! {
                "workflow_id": id, "metric_type": "cliffhanger_rating", "metric_value": 8,
                "context": { "book_number": book, "chapter_number": chapter },
            };
            self.writing.record_production_metric(rating).await.unwrap();
        }
        for (name, value) in [
            ("words_written", 80_000.0),
            ("writing_time_minutes", 2_400.0),
            ("chapters_completed", 3.0),
            ("scenes_written", 3.0),
            ("chapters_planned", 3.0),
            ("chapter_outlines_approved", 3.0),
            ("scenes_planned", 3.0),
            ("scenes_with_prose", 3.0),
            ("setup_payoff_unresolved", 0.0),
            ("emotional_beats_unvalidated", 0.0),
            ("continuity_critical_unresolved", 0.0),
            ("continuity_moderate_unacknowledged", 0.0),
            ("knowledge_conflicts", 0.0),
            ("timeline_conflicts", 0.0),
            ("opening_hook_rating", 8.5),
            ("inter_book_satisfaction", 8.0),
            ("inter_book_urgency", 8.0),
            ("finale_closure", 9.5),
        ] {
            self.book_metric(id, book, name, value).await;
        }
        for number in 1..=5 {
            self.pass(id, book, number).await;
        }
        self.record(id, book).await;
    }

    /// What the shop wants to know of a book.
    async fn record(&self, id: i64, book: i64) -> BookRecord {
        let asked = ask! {
            "workflow_id": id, "book_number": book, "title": format!("Lighthouse {book}"),
            "blurb": "word ".repeat(200), "keywords": ["a", "b", "c", "d", "e", "f", "g"],
            "categories": ["sea", "storm"], "cover_status": "COMPLETE",
        };
        self.writing.update_book_record(asked).await.unwrap()
    }

    async fn qa(&self, id: i64, book: i64) -> QaReport {
        let asked = BookRef { workflow_id: id, book_number: book };
        self.writing.run_qa_checklist(asked).await.unwrap()
    }

    async fn mark(&self, id: i64, book: i64) -> Result<MarkedReady, WritingError> {
        let asked = BookRef { workflow_id: id, book_number: book };
        self.writing.mark_ready_to_publish(asked).await
    }

    async fn days(&self, id: i64) -> Vec<DailyStat> {
        let asked = ask! { "workflow_id": id };
        self.writing.get_daily_writing_stats(asked).await.unwrap().stats
    }
}

/// The code of a refusal.
fn code<T: std::fmt::Debug>(answer: Result<T, WritingError>) -> &'static str {
    answer.expect_err("it is refused").code()
}
