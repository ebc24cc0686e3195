//! Every statement that the hot tools run uses an index, on both engines.
//!
//! The statements are not listed here: the tools are called, what the database layer says it runs
//! is listened to, and each text is explained. So a new statement cannot be forgotten.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use adwd::writing::*;
use sqlx::{Connection, Row};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::{World, ask, world};

/// Collects the statements that the database layer runs.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<BTreeSet<String>>>);

struct Sql<'a>(&'a Listener);

impl Visit for Sql<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "sql" {
            self.0.0.lock().unwrap().insert(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl<S: tracing::Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut Sql(self));
    }
}

/// Calls every tool whose time is promised, and those beside them.
async fn call_the_hot_tools(w: &World) {
    let id = w.create().await;
    let book = || BookRef { workflow_id: id, book_number: 1 };
    w.plan(id).await;
    w.evidence(id, 1).await;
    let keyed = ask! {
        "workflow_id": id, "metric_type": "words_written", "metric_value": 5,
        "idempotency_key": "k", "context": { "book_number": 1, "chapter_number": 1 },
    };
    w.writing.record_production_metric(keyed).await.unwrap();
    let correction = ask! {
        "workflow_id": id, "metric_type": "words_written", "metric_value": -5, "correction": true,
        "context": { "book_number": 1 },
    };
    w.writing.record_production_metric(correction).await.unwrap();
    w.metrics(id).await;
    let range = ask! {
        "workflow_id": id, "date_range": { "start": "2025-11-01T00:00:01Z", "end": "2026-01-05" },
    };
    w.writing.get_workflow_metrics(range).await.unwrap();
    for window in ["day", "week", "all"] {
        let asked = ask! { "workflow_id": id, "time_window": window };
        w.writing.get_workflow_velocity(asked).await.unwrap();
    }
    w.days(id).await;
    w.writing.get_daily_writing_stats(ask! { "author_id": 1 }).await.unwrap();
    w.qa(id, 1).await;
    w.writing.get_qa_report(ask! { "workflow_id": id, "book_number": 1 }).await.unwrap();
    w.mark(id, 1).await.unwrap();
    w.writing.get_revision_status(book()).await.unwrap();
    w.writing.book_record(book()).await.unwrap();
    for json in [serde_json::json!({}), serde_json::json!({ "user_id": 1 })] {
        w.writing.list_active_workflows(super::parsed(json)).await.unwrap();
    }
    for json in [
        serde_json::json!({ "workflow_id": id }),
        serde_json::json!({ "workflow_id": id, "phase_number": 4 }),
    ] {
        w.writing.get_phase_history(super::parsed(json)).await.unwrap();
    }
    w.write_book(id, 1).await;
    w.request(id, "chapter_plan").await;
    w.writing.get_pending_approvals(WorkflowRef { workflow_id: id }).await.unwrap();
    w.writing.approvals(id).await.unwrap();
    w.writing.gates(id, None).await.unwrap();
    w.writing.gates(id, Some(GateType::NpeScene)).await.unwrap();
    let asked = ask! { "workflow_id": id, "phase_number": 10 };
    w.writing.check_gate_status(asked).await.unwrap();
    w.writing.complete_ids("1", 5).await.unwrap();
}

/// The statements that name a table of the slice.
async fn statements(w: &World) -> BTreeSet<String> {
    let listener = Listener::default();
    let subscriber = tracing_subscriber::registry().with(listener.clone());
    let guard = tracing::subscriber::set_default(subscriber);
    call_the_hot_tools(w).await;
    drop(guard);
    let heard = std::mem::take(&mut *listener.0.lock().unwrap());
    heard.into_iter().filter(|sql| sql.contains("writing_")).collect()
}

/// Tables that do not grow, which may be read whole: one row, and one for each phase.
const SMALL: [&str; 2] = ["writing_ids", "writing_phases"];

fn reads_whole<'p>(plan: &'p str, scan: &str) -> Option<&'p str> {
    plan.lines().find(|line| {
        line.contains(scan) && line.contains("writing_") && !SMALL.iter().any(|t| line.contains(t))
    })
}

// One thread, because the listener is the thread's own.
#[tokio::test]
async fn every_hot_statement_uses_an_index_on_sqlite() {
    let w = world(crate::db::sqlite().await).await;
    let url = w._scratch.url.clone();
    let heard = statements(&w).await;
    assert!(heard.len() > 50, "{}", heard.len());
    let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for sql in heard {
        let text = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
        let rows = sqlx::raw_sql(text).fetch_all(&mut connection).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get::<String, _>("detail")).collect();
        let plan = plan.join("\n");
        // Aliases hide the table's name: `g` and `l` are gates.
        let plan = plan.replace("SCAN g", "SCAN writing_gates").replace("SCAN l", "SCAN writing_");
        assert_eq!(reads_whole(&plan, "SCAN"), None, "{sql}\n{plan}");
        assert!(!plan.contains("USE TEMP B-TREE FOR ORDER BY"), "{sql}\n{plan}");
        if sql.contains("FROM writing_metrics") && sql.contains("recorded_at >=") {
            assert!(plan.contains("workflow_id=? AND recorded_at>?"), "{sql}\n{plan}");
        }
    }
}

#[tokio::test]
async fn every_hot_statement_uses_an_index_on_postgres() {
    let Some(scratch) = crate::db::postgres().await else { return };
    let w = world(scratch).await;
    let url = w._scratch.url.clone();
    let heard = statements(&w).await;
    assert!(heard.len() > 50, "{}", heard.len());
    let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
    // The tables are tiny here, and a scan would be cheapest: only what has no index at all is
    // scanned with this. The generic plan is the one that knows no values.
    let set = "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan;";
    sqlx::raw_sql(set).execute(&mut connection).await.unwrap();
    for sql in heard {
        let prepare = sqlx::AssertSqlSafe(format!("PREPARE q AS {sql}"));
        sqlx::raw_sql(prepare).execute(&mut connection).await.unwrap();
        let parameters = (1..).take_while(|n| sql.contains(&format!("${n}"))).count();
        let nulls = vec!["NULL"; parameters].join(", ");
        let explain = match parameters {
            0 => "EXPLAIN EXECUTE q".to_owned(),
            _ => format!("EXPLAIN EXECUTE q({nulls})"),
        };
        let rows =
            sqlx::raw_sql(sqlx::AssertSqlSafe(explain)).fetch_all(&mut connection).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get::<String, _>(0)).collect();
        let plan = plan.join("\n");
        assert_eq!(reads_whole(&plan, "Seq Scan"), None, "{sql}\n{plan}");
        if sql.contains("FROM writing_metrics") && sql.contains("recorded_at >=") {
            assert!(plan.contains("(recorded_at >= "), "{sql}\n{plan}");
        }
        sqlx::raw_sql("DEALLOCATE q").execute(&mut connection).await.unwrap();
    }
}
