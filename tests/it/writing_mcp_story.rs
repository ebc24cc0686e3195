//! A series of five books, from the first idea to the last book in the shop, through the tools
//! alone.

use serde_json::{Value, json};

use crate::mcp_support::*;
use crate::writing_mcp_support::*;

const BOOKS: i64 = 5;
const CHAPTERS: i64 = 4;
/// Words of each chapter; with a part of a hundred, which must not get lost.
const CHAPTER_WORDS: f64 = 20_000.25;
const CHAPTER_MINUTES: f64 = 1_000.5;

/// The series and whoever works on it.
struct Series {
    desk: Desk,
    id: i64,
}

impl Series {
    async fn ask(&self, tool: &str, more: Value) -> Value {
        let mut arguments = json!({ "workflow_id": self.id });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.desk.ask(tool, arguments).await
    }

    async fn refused(&self, tool: &str, more: Value) -> Value {
        let mut arguments = json!({ "workflow_id": self.id });
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.desk.refuse(tool, arguments).await
    }

    async fn phase(&self) -> (i64, String) {
        let state = self.ask("get_workflow_state", json!({})).await;
        let status = state["phase_status"].as_str().unwrap().to_owned();
        (state["current_phase"].as_i64().unwrap(), status)
    }

    async fn complete(&self) -> Value {
        self.desk.complete(self.id).await
    }

    async fn gate(&self, gate: &str, score: f64, passed: bool) -> Value {
        let violations = if passed {
            json!([])
        } else {
            json!([{ "category": "arc", "severity": "HIGH", "message": "the middle sags",
                "suggestion": "raise the stakes" }])
        };
        self.ask(
            "record_quality_gate",
            json!({ "gate_type": gate, "score": score, "passed": passed, "violations": violations }),
        )
        .await
    }

    async fn decide(&self, approval_id: &Value, decision: &str) -> Value {
        self.desk
            .ask(
                "submit_approval",
                json!({ "approval_id": approval_id, "decision": decision, "feedback": "as said",
                    "decided_by": "the author" }),
            )
            .await
    }

    /// Phases −1 to 8: an idea becomes an approved plan, not at the first try.
    async fn plan(&self) {
        assert_eq!(self.phase().await, (-1, "in_progress".to_owned()));
        for phase in 0..=3 {
            assert_eq!(self.complete().await, json!(phase));
        }
        self.ask("execute_phase", json!({ "phase_number": 3, "input": { "acts": 4 } })).await;
        assert_eq!(self.complete().await, json!(4));
        // The structure is measured, and is not sound yet.
        let unmet = self.refused("complete_current_phase", json!({ "output": { "summary": "?" } }));
        assert_eq!(unmet.await["code"], "quality_gate_required");
        let gate = self.gate("npe_series", 79.99, false).await;
        assert_eq!(
            (&gate["passed"], &gate["next_action"]),
            (&json!(false), &json!("return_to_phase_3"))
        );
        self.ask("advance_to_phase", json!({ "target_phase": 3 })).await;
        assert_eq!(self.complete().await, json!(4));
        assert_eq!(self.gate("npe_series", 86.5, true).await["next_action"], "proceed");
        assert_eq!(self.complete().await, json!(5));
        assert_eq!(self.gate("commercial", 7.5, true).await["next_action"], "proceed");
        assert_eq!(self.complete().await, json!(6));
        assert_eq!(self.complete().await, json!(7));
        self.approve_the_plan().await;
        assert_eq!(self.complete().await, json!(8));
        assert_eq!(self.complete().await, json!(9));
    }

    async fn approve_the_plan(&self) {
        let unmet = self.refused("complete_current_phase", json!({ "output": { "summary": "?" } }));
        assert_eq!(unmet.await["code"], "prerequisites_unmet");
        let asked =
            json!({ "approval_type": "series_plan", "artifacts": ["plan.md", "outline.md"] });
        let first = self.ask("request_approval", asked.clone()).await;
        assert_eq!(self.phase().await.1, "waiting_approval");
        assert_eq!(
            self.refused("request_approval", asked.clone()).await["code"],
            "approval_pending"
        );
        let open = self.ask("get_pending_approvals", json!({})).await;
        assert_eq!(open["approvals"][0]["approval_id"], first["approval_id"]);
        let sent_back = self.decide(&first["approval_id"], "revision_requested").await;
        assert_eq!(
            (&sent_back["next_action"], &sent_back["approved_at"]),
            (&json!("revise"), &Value::Null)
        );
        let second = self.ask("request_approval", asked).await;
        let approved = self.decide(&second["approval_id"], "approved").await;
        assert_eq!(approved["next_action"], "advance_to_phase_8");
        assert!(approved["approved_at"].is_string());
        let again = json!({ "approval_id": second["approval_id"], "decision": "rejected" });
        assert_eq!(self.desk.code("submit_approval", again).await, "already_decided");
    }

    /// Phases 9 to 11: chapters are planned, scenes measured, prose written.
    async fn write(&self, book: i64) {
        if book > 1 {
            let begun = self.ask("start_book_iteration", json!({ "book_number": book })).await;
            assert_eq!(begun["current_phase"], 9);
        } else {
            let plan = json!({ "approval_type": "chapter_plan", "chapter_number": 1,
                "artifacts": ["chapter-1.md"] });
            let asked = self.ask("request_approval", plan).await;
            self.decide(&asked["approval_id"], "approved").await;
        }
        assert_eq!(self.complete().await, json!(10));
        for chapter in 1..=CHAPTERS {
            let scene = json!({
                "gate_type": "npe_scene", "score": 90, "passed": true, "violations": [],
                "book_number": book, "chapter_number": chapter, "scene_number": 1,
            });
            self.ask("record_quality_gate", scene).await;
        }
        assert_eq!(self.complete().await, json!(11));
        for chapter in 1..=CHAPTERS {
            for (metric, value) in [
                ("words_written", CHAPTER_WORDS),
                ("writing_time_minutes", CHAPTER_MINUTES),
                ("scenes_written", 1.0),
                ("chapters_completed", 1.0),
                ("cliffhanger_rating", 8.5),
            ] {
                let context = json!({ "phase_number": 11, "book_number": book,
                    "chapter_number": chapter, "metadata": { "draft": 1 } });
                // Sent twice, as after a torn connection, and counted once.
                let figure = json!({ "metric_type": metric, "metric_value": value,
                    "context": context, "idempotency_key": format!("{book}/{chapter}/{metric}") });
                let once = self.ask("record_production_metric", figure.clone()).await;
                let twice = self.ask("record_production_metric", figure).await;
                assert_eq!(once["metric_id"], twice["metric_id"]);
            }
        }
    }

    /// Six passes; the dialogue of book 3 is left alone.
    async fn revise(&self, book: i64) {
        for pass in 1..=5 {
            if (book, pass) == (3, 3) {
                let why = json!({ "book_number": 3, "pass_number": 3, "reason": "a silent book" });
                self.ask("skip_revision_pass", why).await;
            } else {
                self.desk.revise(self.id, book, pass).await;
            }
        }
        let status = self.ask("get_revision_status", json!({ "book_number": book })).await;
        assert_eq!(status["ready_for_qa"], true);
        assert_eq!(status["passes"].as_array().unwrap().len(), 6);
    }

    /// What was found and counted, and what the shop needs.
    async fn describe(&self, book: i64) {
        for zero in [
            "setup_payoff_unresolved",
            "emotional_beats_unvalidated",
            "continuity_critical_unresolved",
            "continuity_moderate_unacknowledged",
            "knowledge_conflicts",
            "timeline_conflicts",
        ] {
            self.desk.record(self.id, book, zero, json!(0)).await;
        }
        for (gauge, value) in [
            ("chapters_planned", CHAPTERS),
            ("chapter_outlines_approved", CHAPTERS),
            ("scenes_planned", CHAPTERS),
            ("scenes_with_prose", CHAPTERS),
            ("opening_hook_rating", 9),
            ("inter_book_satisfaction", 8),
            ("inter_book_urgency", 8),
            ("finale_closure", 10),
        ] {
            self.desk.record(self.id, book, gauge, json!(value)).await;
        }
        let record = json!({
            "book_number": book, "title": format!("Crown {book}"), "blurb": "word ".repeat(180),
            "keywords": ["a", "b", "c", "d", "e", "f", "g"], "categories": ["fantasy", "saga"],
            "cover_status": "COMPLETE",
        });
        let kept = self.ask("update_book_record", record).await;
        assert_eq!(kept["blurb_words"], 180);
    }

    /// Nobody marks a book ready that was not looked at; then it is looked at and marked.
    async fn publish(&self, book: i64) {
        let of = || json!({ "book_number": book });
        assert_eq!(self.refused("mark_ready_to_publish", of()).await["code"], "not_ready");
        let report = self.ask("run_qa_checklist", of()).await;
        assert_eq!(report["status"], "READY_TO_PUBLISH", "{report:#}");
        assert_eq!((&report["blockers"], &report["blocker_count"]), (&json!([]), &json!(0)));
        assert_eq!(report["book_title"], format!("Crown {book}"));
        self.desk.revise(self.id, book, 6).await;
        let marked = self.ask("mark_ready_to_publish", of()).await;
        let again = self.ask("mark_ready_to_publish", of()).await;
        assert_eq!(marked["ready_at"], again["ready_at"], "twice is as good as once");
        let handed_in = self.ask("complete_book_iteration", of()).await;
        let next = if book < BOOKS { json!(book + 1) } else { Value::Null };
        assert_eq!(handed_in["next_book"], next);
        assert_eq!(self.phase().await, (12, "waiting_approval".to_owned()));
        self.decide(&handed_in["approval_id"], "approved").await;
        let progress = self.ask("get_series_progress", json!({})).await;
        assert_eq!(progress["books_completed"], json!(book));
        assert_eq!(progress["percent_complete"], json!(book * 20));
    }

    /// What was recorded is what is told, to the hundredth.
    async fn figures(&self) {
        let told = self.ask("get_workflow_metrics", json!({})).await;
        let chapters = (BOOKS * CHAPTERS) as f64;
        let total = |name: &str| told["metrics"][name].as_f64().unwrap();
        assert_eq!(total("total_words_written"), chapters * CHAPTER_WORDS);
        assert_eq!(total("total_writing_time_minutes"), chapters * CHAPTER_MINUTES);
        assert_eq!(told["metrics"]["books_completed"], json!(BOOKS));
        assert_eq!(told["by_book"].as_array().unwrap().len() as i64, BOOKS);
        assert_eq!(told["by_book"][2]["words_written"].as_f64(), Some(4.0 * CHAPTER_WORDS));
        let pace = self.ask("get_workflow_velocity", json!({ "time_window": "all" })).await;
        let an_hour = (chapters * CHAPTER_WORDS / (chapters * CHAPTER_MINUTES / 60.0)).round();
        assert_eq!(pace["velocity"]["words_per_hour"].as_f64(), Some(an_hour));
        assert_eq!(pace["projections"]["books_remaining"], 0);
        assert_eq!(pace["efficiency"]["npe_pass_rate"].as_f64(), Some(100.0));
        let days = self.ask("get_daily_writing_stats", json!({ "author_id": 1 })).await;
        let words: f64 = days["stats"]
            .as_array()
            .unwrap()
            .iter()
            .map(|day| day["words_written"].as_f64().unwrap())
            .sum();
        assert_eq!(words, chapters * CHAPTER_WORDS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_of_five_books_from_the_first_idea_to_the_last_book_in_the_shop() {
    let world = World::new().await;
    let desk = Desk::at(&world, (Road::Unix, Era::Modern)).await;
    let begun = json!({ "series_id": 3, "user_id": 1, "concept": "An heir who does not want it",
        "series_title": "The Iron Crown", "total_books": BOOKS });
    let id = desk.ask("create_workflow", begun).await["workflow_id"].as_i64().unwrap();
    let series = Series { desk, id };
    series.plan().await;
    for book in 1..=BOOKS {
        series.write(book).await;
        series.revise(book).await;
        series.describe(book).await;
        series.publish(book).await;
    }
    series.figures().await;
    // The last phase ends, and with it the series.
    assert_eq!(series.complete().await, Value::Null);
    assert_eq!(series.phase().await, (12, "completed".to_owned()));
    let open = series.desk.ask("list_active_workflows", json!({})).await;
    assert_eq!(open["total"], 0);
    let history = series.ask("get_phase_history", json!({ "limit": 500 })).await;
    let visits = history["phases"].as_array().unwrap();
    assert!(visits.iter().all(|visit| visit["status"] != "started"), "every visit has ended");
    assert_eq!(visits.iter().filter(|visit| visit["phase_number"] == 4).count(), 2);
}
