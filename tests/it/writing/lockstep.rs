//! Random sequences of all tools on both engines at once: the same answers, and what must always
//! hold of the figures.

use std::collections::BTreeMap;

use adwd::args;
use adwd::writing::*;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{World, begin, parsed, world};

/// The tools, those that go on and those that record several times.
const TOOLS: &[&str] = &[
    "record",
    "record",
    "record",
    "record",
    "record",
    "record",
    "complete",
    "complete",
    "complete",
    "complete",
    "gate",
    "gate",
    "gate",
    "scene",
    "scene",
    "advance",
    "execute",
    "retry",
    "skip",
    "request",
    "submit",
    "submit",
    "start_book",
    "complete_book",
    "start_pass",
    "start_pass",
    "complete_pass",
    "complete_pass",
    "skip_pass",
    "qa",
    "mark",
    "book",
    "daily",
    "wait",
    "wait",
    "metrics",
    "range",
    "velocity",
    "days",
    "history",
    "analytics",
    "state",
    "progress",
    "revision",
    "reports",
    "pending",
    "check_gate",
    "list",
];
const COUNTERS: &[&str] =
    &["words_written", "writing_time_minutes", "chapters_completed", "coffees"];
const GAUGES: &[&str] = &["cliffhanger_rating", "knowledge_conflicts", "npe_score"];
const DECISIONS: &[&str] = &["approved", "approved", "rejected", "revision_requested"];
const APPROVALS: &[&str] = &["series_plan", "chapter_plan", "book_completion"];

#[derive(Clone, Debug)]
struct Step {
    tool: &'static str,
    workflow: i64,
    number: i64,
    book: i64,
    hundredths: i64,
    kind: &'static str,
    gauge: &'static str,
    decision: &'static str,
    approval: &'static str,
    flag: bool,
    key: Option<u8>,
    ms: i64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let words =
        (select(TOOLS), select(COUNTERS), select(GAUGES), select(DECISIONS), select(APPROVALS));
    let numbers = (
        1..=2_i64,
        -1..=12_i64,
        0..=3_i64,
        0..=100_000_i64,
        any::<bool>(),
        prop::option::weighted(0.3, 0_u8..4),
        prop_oneof![0..2_000_i64, 0..3_000_000_i64, 0..4_000_000_000_i64],
    );
    let step = (words, numbers).prop_map(|(words, numbers)| {
        let (tool, kind, gauge, decision, approval) = words;
        let (workflow, number, book, hundredths, flag, key, ms) = numbers;
        Step {
            tool,
            workflow,
            number,
            book,
            hundredths,
            kind,
            gauge,
            decision,
            approval,
            flag,
            key,
            ms,
        }
    });
    prop::collection::vec(step, 20..90)
}

impl Step {
    fn value(&self) -> f64 {
        self.hundredths as f64 / 100.0
    }

    fn metric(&self) -> Value {
        let gauge = self.number % 4 == 0;
        let mut context = json!({});
        if self.book > 0 {
            context["book_number"] = json!(self.book);
        }
        if gauge || self.flag {
            context["chapter_number"] = json!(1 + self.number.abs() % 3);
        }
        let correction = !gauge && self.number == 7;
        let value = match (gauge, correction) {
            (true, _) => (self.hundredths % 1_001) as f64 / 100.0,
            (false, true) => -self.value(),
            (false, false) => self.value(),
        };
        let mut asked = json!({
            "workflow_id": self.workflow, "metric_value": value, "context": context,
            "metric_type": if gauge { self.gauge } else { self.kind },
        });
        if correction {
            asked["correction"] = json!(true);
        }
        if let Some(key) = self.key {
            asked["idempotency_key"] = json!(format!("k{key}"));
        }
        if self.number > 9 {
            let at = begin().plus_ms(self.ms - 4_000_000_000);
            asked["recorded_at"] = json!(at.rfc3339());
        }
        asked
    }

    /// The answer as text; a refusal as its code and its words.
    async fn on(&self, w: &World) -> String {
        let (id, book) = (self.workflow, self.book);
        let t = &w.writing;
        let the = json!({ "workflow_id": id });
        let of_book = json!({ "workflow_id": id, "book_number": book });
        let of_phase = json!({ "workflow_id": id, "phase_number": self.number });
        let of_pass = json!({ "workflow_id": id, "book_number": book, "pass_number": self.number });
        macro_rules! call {
            ($tool:ident, $json:expr) => {
                shown(t.$tool(parsed($json)).await)
            };
        }
        match self.tool {
            "record" => call!(record_production_metric, self.metric()),
            "complete" => shown(w.complete(id).await),
            "gate" | "scene" => call!(record_quality_gate, self.gate()),
            "advance" => {
                call!(advance_to_phase, json!({ "workflow_id": id, "target_phase": self.number }))
            }
            "execute" => {
                let mut asked = of_phase;
                asked["input"] = json!({ "n": self.number });
                call!(execute_phase, asked)
            }
            "retry" => call!(retry_failed_phase, of_phase),
            "skip" => {
                let mut asked = of_phase;
                asked["reason"] = json!("because");
                call!(skip_phase, asked)
            }
            "start_book" => call!(start_book_iteration, of_book),
            "complete_book" => call!(complete_book_iteration, of_book),
            "start_pass" => shown(w.start_pass(id, book, self.number).await),
            "complete_pass" => call!(complete_revision_pass, of_pass),
            "skip_pass" => {
                let mut asked = of_pass;
                asked["reason"] = json!("because");
                call!(skip_revision_pass, asked)
            }
            "qa" => call!(run_qa_checklist, of_book),
            "mark" => call!(mark_ready_to_publish, of_book),
            "revision" => call!(get_revision_status, of_book),
            "reports" => call!(get_qa_report, of_book),
            "metrics" => call!(get_workflow_metrics, the),
            "days" => call!(get_daily_writing_stats, the),
            "history" => call!(get_phase_history, the),
            "analytics" => call!(get_phase_analytics, json!({})),
            "state" => call!(get_workflow_state, the),
            "progress" => call!(get_series_progress, the),
            "pending" => call!(get_pending_approvals, the),
            "check_gate" => call!(check_gate_status, of_phase),
            "list" => call!(list_active_workflows, json!({})),
            _ => self.further(w).await,
        }
    }

    async fn further(&self, w: &World) -> String {
        let (id, t) = (self.workflow, &w.writing);
        match self.tool {
            "request" => {
                let mut asked = json!({
                    "workflow_id": id, "approval_type": self.approval, "artifacts": ["a"],
                });
                if self.flag && self.book > 0 {
                    asked["book_number"] = json!(self.book);
                }
                shown(t.request_approval(parsed(asked)).await)
            }
            "submit" => {
                let pending = t.get_pending_approvals(WorkflowRef { workflow_id: id }).await;
                let open = pending.unwrap().approvals.first().map(|a| a.approval_id);
                let approval = if self.flag { open.unwrap_or(self.number) } else { self.number };
                let asked = json!({ "approval_id": approval, "decision": self.decision });
                shown(t.submit_approval(parsed(asked)).await)
            }
            "book" => {
                let asked = json!({
                    "workflow_id": id, "book_number": self.book,
                    "title": if self.flag { "A title" } else { "it's %_ é 🦀" },
                    "keywords": ["a", "B", "b"], "target_word_count": self.hundredths,
                });
                shown(t.update_book_record(parsed(asked)).await)
            }
            "daily" => {
                let asked = json!({
                    "workflow_id": id, "date": "2026-01-03",
                    "updates": { "words_written": self.value() },
                });
                shown(t.update_daily_stats(parsed(asked)).await)
            }
            "range" => {
                let from = begin().plus_ms(self.ms - 4_000_000_000);
                let to = from.plus_ms(self.hundredths * 20_000);
                let range = json!({ "start": from.rfc3339(), "end": to.rfc3339() });
                let asked = json!({ "workflow_id": id, "date_range": range });
                shown(t.get_workflow_metrics(parsed(asked)).await)
            }
            "velocity" => {
                let window = ["day", "week", "all"][usize::try_from(self.book % 3).unwrap()];
                let asked = json!({ "workflow_id": id, "time_window": window });
                shown(t.get_workflow_velocity(parsed(asked)).await)
            }
            "wait" => {
                w.later(self.ms);
                String::new()
            }
            other => unreachable!("{other}"),
        }
    }

    fn gate(&self) -> Value {
        let scene = self.tool == "scene";
        let kind = if scene {
            "npe_scene"
        } else if self.flag {
            "npe_series"
        } else {
            "commercial"
        };
        let score = if self.flag { 85.0 } else { 8.0 };
        let mut gate = json!({
            "workflow_id": self.workflow, "gate_type": kind, "score": score, "passed": true,
        });
        if scene {
            gate["passed"] = json!(self.number > 2);
            if self.book > 0 {
                gate["book_number"] = json!(self.book);
                gate["scene_number"] = json!(1 + self.number.abs());
            }
        }
        gate
    }
}

fn shown<T: serde::Serialize>(answer: Result<T, WritingError>) -> String {
    match answer {
        Ok(answer) => serde_json::to_string(&answer).unwrap(),
        Err(error) => {
            assert!(error.is_callers(), "{error:?}");
            format!("{}: {error}", error.code())
        }
    }
}

/// What was recorded, from the table of metrics itself: type, book, value, time.
type Recorded = Vec<(String, i64, i64, i64)>;

async fn recorded(w: &World, id: i64) -> Recorded {
    let sql = "SELECT metric_type, COALESCE(book, 0), value, recorded_at FROM writing_metrics \
               WHERE workflow_id = $1 ORDER BY id";
    w.db.all(sql, args![id]).await.unwrap()
}

/// Totals are the sums of what was recorded, whatever the order, the retries and the range.
async fn figures_hold(w: &World, answers: &[(Step, String)]) -> Result<(), TestCaseError> {
    for id in 1..=2 {
        let rows = recorded(w, id).await;
        let mut accepted: BTreeMap<i64, i64> = BTreeMap::new();
        for (step, answer) in answers.iter().filter(|(s, _)| s.tool == "record" && s.workflow == id)
        {
            if let Ok(answer) = serde_json::from_str::<MetricRecorded>(answer) {
                let earlier = accepted.insert(answer.metric_id, answer.metric_value.0);
                prop_assert!(earlier.is_none() || step.key.is_some(), "{:?}", step);
            }
        }
        let by_callers = rows.iter().filter(|(name, ..)| COUNTERS.contains(&name.as_str()));
        let counted: i64 = by_callers.map(|(_, _, value, _)| value).sum();
        let of_gauges: i64 = rows
            .iter()
            .filter(|(name, ..)| ["cliffhanger_rating", "knowledge_conflicts"].contains(&&**name))
            .map(|(_, _, value, _)| value)
            .sum();
        let npe = answers_of_npe(w, id).await;
        prop_assert_eq!(accepted.values().sum::<i64>(), counted + of_gauges + npe);
        ranges_hold(w, id, &rows).await?;
    }
    Ok(())
}

/// NPE scores that callers recorded themselves, and not gates.
async fn answers_of_npe(w: &World, id: i64) -> i64 {
    let sql = "SELECT CAST(COALESCE(SUM(value), 0) AS BIGINT) FROM writing_metrics \
               WHERE workflow_id = $1 AND metric_type = 'npe_score' AND phase IS NULL";
    w.db.one::<(i64,)>(sql, args![id]).await.unwrap().0
}

async fn ranges_hold(w: &World, id: i64, rows: &Recorded) -> Result<(), TestCaseError> {
    let times: Vec<i64> = rows.iter().map(|(.., at)| *at).collect();
    let (first, last) = (times.iter().min(), times.iter().max());
    let mut ranges = vec![(0, i64::MAX)];
    if let (Some(first), Some(last)) = (first, last) {
        let middle = times[times.len() / 2];
        ranges.extend([(*first, *last), (first + 1, *last), (middle, *last), (*first, middle)]);
    }
    for (from, to) in ranges.into_iter().filter(|(from, to)| from <= to) {
        let range = json!({
            "start": adwd::clock::Millis(from).rfc3339(), "end": adwd::clock::Millis(to).rfc3339(),
        });
        let asked = json!({ "workflow_id": id, "date_range": range });
        let answer = w.writing.get_workflow_metrics(parsed(asked)).await.unwrap();
        let mut expected: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for (name, _, value, at) in rows {
            if (from..=to).contains(at) {
                let sum = expected.entry(name).or_default();
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
        for found in &answer.by_type {
            let (total, count) = expected.remove(found.metric_type.as_str()).unwrap_or((0, 0));
            prop_assert_eq!(found.count, count, "{} in {}..{}", found.metric_type, from, to);
            prop_assert!(found.total.is_none_or(|found| found.0 == total));
        }
        prop_assert!(expected.is_empty(), "{:?}", expected);
        let books: i64 = rows
            .iter()
            .filter(|(name, book, _, at)| {
                name == "words_written" && *book > 0 && (from..=to).contains(at)
            })
            .map(|(_, _, value, _)| value)
            .sum();
        let told: i64 = answer.by_book.iter().map(|book| book.words_written.unwrap().0).sum();
        prop_assert_eq!(told, books);
    }
    Ok(())
}

async fn wipe(w: &World) {
    for sql in [
        "DELETE FROM writing_reports",
        "DELETE FROM writing_books",
        "DELETE FROM writing_phases",
        "DELETE FROM writing_daily",
        "DELETE FROM writing_gauges",
        "DELETE FROM writing_sums",
        "DELETE FROM writing_metrics",
        "DELETE FROM writing_pass_runs",
        "DELETE FROM writing_passes",
        "DELETE FROM writing_scenes",
        "DELETE FROM writing_gates",
        "DELETE FROM writing_approvals",
        "DELETE FROM writing_visits",
        "DELETE FROM writing_workflows",
        "UPDATE writing_ids SET workflow = 0, visit = 0, approval = 0, gate = 0, pass = 0, \
         metric = 0, report = 0",
    ] {
        w.db.exec(sql, args![]).await.unwrap();
    }
    w.clock.set(begin());
    for zone in ["UTC", "Asia/Kathmandu"] {
        let asked = json!({
            "series_id": 1, "user_id": 1, "concept": "x", "total_books": 2, "time_zone": zone,
        });
        w.writing.create_workflow(parsed(asked)).await.unwrap();
    }
}

async fn both_agree(sqlite: &World, postgres: &World, steps: &[Step]) -> Result<(), TestCaseError> {
    wipe(sqlite).await;
    wipe(postgres).await;
    let mut answers = Vec::new();
    for step in steps {
        let (here, there) = (step.on(sqlite).await, step.on(postgres).await);
        prop_assert_eq!(&here, &there, "SQLite and PostgreSQL answer {:?}", step);
        answers.push((step.clone(), here));
    }
    figures_hold(sqlite, &answers).await?;
    figures_hold(postgres, &answers).await
}

#[test]
fn sqlite_and_postgres_answer_the_same_to_any_sequence_and_totals_are_sums() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let Some(postgres) = runtime.block_on(crate::db::postgres()) else { return };
    let sqlite = runtime.block_on(async { world(crate::db::sqlite().await).await });
    let postgres = runtime.block_on(world(postgres));
    // PROPTEST_CASES asks for more.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    runner
        .run(&steps(), |steps| runtime.block_on(both_agree(&sqlite, &postgres, &steps)))
        .unwrap_or_else(|failed| panic!("{failed}"));
}
