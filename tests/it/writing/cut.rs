//! What a crash leaves: each tool is one transaction, so whatever statement the connection is cut
//! at, everything stored is as before, and the same call then succeeds.
//!
//! Recording metrics runs in a task of its own and is cut in the unit tests of `desk/recorder`.
#![cfg(debug_assertions)]

use std::future::Future;

use adwd::db::{Db, fault};
use adwd::writing::export::Format;
use adwd::writing::*;

use super::{World, ask, world};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    a_new_workflow_that_is_cut_leaves_nothing,
    phases_gates_and_approvals_that_are_cut_leave_the_old_state,
    books_passes_and_checklists_that_are_cut_leave_the_old_state,
);

macro_rules! counts {
    ($db:expr, $($table:literal)+) => {[$({
        let sql = concat!("SELECT CAST(COUNT(*) AS BIGINT) FROM ", $table);
        let (count,): (i64,) = $db.one(sql, vec![]).await.unwrap();
        format!("{} {count}", $table)
    },)+]};
}

/// Everything that can be exported, how many rows each table has, and the ids that were given out.
async fn dump(writing: &Writing, db: &Db) -> Vec<String> {
    let mut exported = Vec::new();
    writing.export(None, Format::JsonLines, &mut exported).await.unwrap();
    let mut all: Vec<String> =
        String::from_utf8(exported).unwrap().lines().map(str::to_owned).collect();
    all.extend(
        counts!(db, "writing_workflows" "writing_visits" "writing_approvals" "writing_gates"
        "writing_scenes" "writing_passes" "writing_pass_runs" "writing_metrics" "writing_sums"
        "writing_gauges" "writing_daily" "writing_books" "writing_reports"),
    );
    let sums = "SELECT CAST(COALESCE(SUM(total), 0) AS BIGINT), CAST(COUNT(*) AS BIGINT) FROM writing_sums";
    all.push(format!("{:?}", db.one::<(i64, i64)>(sums, vec![]).await.unwrap()));
    let analytics = writing.get_phase_analytics(AnalyticsQuery::default()).await.unwrap();
    all.push(serde_json::to_string(&analytics).unwrap());
    all
}

/// Cuts `call` at its first statement, its second, and so on; then it runs through.
async fn cut_everywhere<T, F>(w: &World, what: &str, call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, WritingError>>,
{
    let before = dump(&w.writing, &w.db).await;
    for statements in 0..200 {
        let (result, cut) = fault::after(statements, call()).await;
        if !cut {
            assert!(statements > 2, "{what}: only {statements} statements were cut");
            return result.unwrap_or_else(|e| panic!("{what} after {statements} cuts: {e}"));
        }
        let Err(error) = result else { panic!("{what} cut at {statements} is no error") };
        let told = ["database", "outcome_unknown"].contains(&error.code());
        assert!(told, "{what} cut at {statements}: {error}");
        assert_eq!(dump(&w.writing, &w.db).await, before, "{what} cut at {statements}");
    }
    panic!("{what} takes too many statements");
}

async fn a_new_workflow_that_is_cut_leaves_nothing(s: Scratch) {
    let w = world(s).await;
    let created = cut_everywhere(&w, "create", || {
        w.writing.create_workflow(ask! { "series_id": 7, "user_id": 1, "concept": "Five books" })
    });
    let id = created.await.workflow_id;
    assert_eq!(w.phase(id).await, (-1, PhaseStatus::InProgress));
}

async fn phases_gates_and_approvals_that_are_cut_leave_the_old_state(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for _ in -1..4 {
        cut_everywhere(&w, "complete", || w.complete(id)).await;
    }
    cut_everywhere(&w, "gate", || {
        w.writing.record_quality_gate(
            ask! { "workflow_id": id, "gate_type": "npe_series", "score": 85, "passed": true },
        )
    })
    .await;
    cut_everywhere(&w, "complete", || w.complete(id)).await;
    w.gate(id, "commercial", 7.5, true).await;
    w.complete(id).await.unwrap();
    w.complete(id).await.unwrap();
    let asked = cut_everywhere(&w, "request", || {
        w.writing.request_approval(
            ask! { "workflow_id": id, "approval_type": "series_plan", "artifacts": ["plan.md"] },
        )
    });
    let approval = asked.await.approval_id;
    cut_everywhere(&w, "decide", || {
        w.writing.submit_approval(ask! { "approval_id": approval, "decision": "approved" })
    })
    .await;
    cut_everywhere(&w, "back", || {
        w.writing.advance_to_phase(AdvanceToPhase { workflow_id: id, target_phase: 6 })
    })
    .await;
    assert_eq!(w.phase(id).await, (6, PhaseStatus::InProgress));
}

async fn books_passes_and_checklists_that_are_cut_leave_the_old_state(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.plan(id).await;
    w.book_metric(id, 1, "words_written", 1200.5).await;
    cut_everywhere(&w, "start of a pass", || w.start_pass(id, 1, 1)).await;
    cut_everywhere(&w, "end of a pass", || w.complete_pass(id, 1, 1)).await;
    let book = BookRef { workflow_id: id, book_number: 1 };
    cut_everywhere(&w, "book record", || {
        let asked = ask! { "workflow_id": id, "book_number": 1, "title": "The lamp" };
        w.writing.update_book_record(asked)
    })
    .await;
    cut_everywhere(&w, "checklist", || w.writing.run_qa_checklist(book.clone())).await;
    cut_everywhere(&w, "day by hand", || {
        let updates = serde_json::json!({ "words_written": 10 });
        w.writing.update_daily_stats(
            ask! { "workflow_id": id, "date": "2026-01-05", "updates": updates },
        )
    })
    .await;
}
