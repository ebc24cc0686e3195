//! Defects of the upstream implementation (`spec/writing.md` §3), each with what is right: phases,
//! gates, approvals, books, the schema. 01, 39 and 40 are about the wire.

use adwd::args;
use adwd::writing::*;

use super::{HOUR_MS, ask, code, world};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    d02_every_argument_is_checked_and_unknown_fields_are_refused,
    d06_analytics_of_phase_0_and_minus_1_are_of_that_phase_alone,
    d07_the_first_execution_has_an_average,
    d08_no_sample_of_an_average_is_lost,
    d09_every_visit_has_a_row_that_is_closed_and_counted,
    d10_failures_quality_completed_phases_and_authors_are_written,
    d11_there_are_fourteen_phases_with_their_own_names,
    d31_an_unknown_workflow_is_an_error_everywhere,
    d36_the_migration_is_in_the_one_ledger_and_runs_once,
    d37_a_new_workflow_is_at_0_per_cent,
    d38_ten_completes_at_once_are_ten_steps_or_refusals,
    d41_words_on_the_wire_are_the_specifications,
    d42_errors_have_codes_and_name_no_sql,
);

async fn d02_every_argument_is_checked_and_unknown_fields_are_refused(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for target in [-1, 13, 99] {
        let asked = AdvanceToPhase { workflow_id: id, target_phase: target };
        assert_eq!(code(w.writing.advance_to_phase(asked).await), "invalid_argument");
    }
    assert_eq!(code(w.start_pass(id, 1, 9).await), "invalid_argument");
    assert_eq!(code(w.start_pass(id, 6, 1).await), "unknown_book");
    let refused = |json: serde_json::Value| serde_json::from_value::<RecordMetric>(json).is_err();
    let value = serde_json::json!({ "workflow_id": 1, "metric_type": "words_written", "value": 5 });
    assert!(refused(value), "`value` is not `metric_value`");
    assert!(serde_json::from_value::<CreateWorkflow>(serde_json::json!({})).is_err());
    let gate = serde_json::json!({
        "workflow_id": 1, "gate_type": "bogus", "score": 1, "passed": true,
    });
    assert!(serde_json::from_value::<RecordGate>(gate).is_err());
    let empty = ask! { "series_id": 1, "user_id": 1, "concept": "  " };
    assert_eq!(code(w.writing.create_workflow(empty).await), "invalid_argument");
}

async fn d06_analytics_of_phase_0_and_minus_1_are_of_that_phase_alone(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.complete(id).await.unwrap();
    w.complete(id).await.unwrap();
    for phase in [-1, 0] {
        let asked = ask! { "phase_number": phase };
        let found = w.writing.get_phase_analytics(asked).await.unwrap().phases;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].phase_number, found[0].total_executions), (phase, 1));
    }
    assert_eq!(w.writing.get_phase_analytics(ask! {}).await.unwrap().phases.len(), 14);
}

async fn d07_the_first_execution_has_an_average(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.later(90_000);
    w.complete(id).await.unwrap();
    let found = w.writing.get_phase_analytics(ask! { "phase_number": -1 }).await.unwrap();
    assert_eq!(found.phases[0].avg_duration_minutes, Some(1.5));
    assert_eq!(found.phases[0].success_rate, 100.0);
}

async fn d08_no_sample_of_an_average_is_lost(s: Scratch) {
    let w = world(s).await;
    for minutes in [10, 20, 30, 40] {
        let id = w.create().await;
        w.later(minutes * 60_000);
        w.complete(id).await.unwrap();
    }
    let found = w.writing.get_phase_analytics(ask! { "phase_number": -1 }).await.unwrap();
    assert_eq!(found.phases[0].avg_duration_minutes, Some(25.0));
}

async fn d09_every_visit_has_a_row_that_is_closed_and_counted(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let executed = ask! { "workflow_id": id, "phase_number": 0, "input": { "a": 1 } };
    let executed = w.writing.execute_phase(executed).await.unwrap();
    assert_eq!(executed.status, PhaseStatus::InProgress, "not completed: nothing was done yet");
    assert_eq!(executed.output.input_echo["a"], 1);
    w.later(1_000);
    assert_eq!(w.complete(id).await.unwrap().duration_minutes, Hundredths(2));
    let history = w.writing.get_phase_history(ask! { "workflow_id": id }).await.unwrap();
    let seen: Vec<_> = history.phases.iter().map(|v| (v.phase_number, v.status)).collect();
    let expected =
        [(-1, VisitStatus::Completed), (0, VisitStatus::Completed), (1, VisitStatus::Started)];
    assert_eq!(seen, expected);
    assert_eq!(history.phases[1].duration_minutes, Some(Hundredths(2)));
    assert_eq!(history.phases[1].artifacts, ["a.md"]);
    let found = w.writing.get_phase_analytics(ask! { "phase_number": -1 }).await.unwrap();
    assert_eq!(found.phases[0].total_executions, 1, "a visit of no length counts");
}

async fn d10_failures_quality_completed_phases_and_authors_are_written(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for _ in -1..4 {
        w.complete(id).await.unwrap();
    }
    w.gate(id, "npe_series", 60.0, false).await;
    let asked = ask! { "workflow_id": id, "phase_number": 4 };
    let retried = w.writing.retry_failed_phase(asked).await.unwrap();
    assert_eq!((retried.current_phase, retried.phase_status), (4, PhaseStatus::InProgress));
    w.gate(id, "npe_series", 90.0, true).await;
    w.complete(id).await.unwrap();
    let found = w.writing.get_phase_analytics(ask! { "phase_number": 4 }).await.unwrap();
    let npe = &found.phases[0];
    assert_eq!((npe.total_executions, npe.successful_executions, npe.failed_executions), (2, 1, 1));
    assert_eq!(npe.avg_quality_score, Some(75.0));
    assert!(npe.last_execution.is_some());
    w.metric(id, "words_written", 100.0).await;
    let asked = ask! { "author_id": 1 };
    let author = w.writing.get_daily_writing_stats(asked).await.unwrap().stats;
    assert_eq!(author.len(), 1);
    assert_eq!(author[0].phases_completed.text(), "6");
    assert_eq!(author[0].words_written.text(), "100");
}

async fn d11_there_are_fourteen_phases_with_their_own_names(s: Scratch) {
    let w = world(s).await;
    let phases = w.writing.get_phase_analytics(ask! {}).await.unwrap().phases;
    let numbers: Vec<i64> = phases.iter().map(|phase| phase.phase_number).collect();
    assert_eq!(numbers, (-1..=12).collect::<Vec<_>>());
    assert_eq!(phases[0].phase_name, "Not Started");
    assert_eq!(phases[1].phase_name, "Premise Development");
    assert_eq!(phases[13].phase_name, "Book Production Loop");
}

async fn d31_an_unknown_workflow_is_an_error_everywhere(s: Scratch) {
    let w = world(s).await;
    let book = || BookRef { workflow_id: 99, book_number: 1 };
    let this = || WorkflowRef { workflow_id: 99 };
    let t = &w.writing;
    let asked = serde_json::json!({ "workflow_id": 99 });
    let metric = ask! { "workflow_id": 99, "metric_type": "words_written", "metric_value": 1 };
    let day = ask! {
        "workflow_id": 99, "date": "2026-01-05", "updates": { "words_written": 1 },
    };
    let codes = [
        code(t.get_workflow_state(this()).await),
        code(t.get_pending_approvals(this()).await),
        code(t.get_series_progress(this()).await),
        code(t.get_workflow_metrics(super::parsed(asked.clone())).await),
        code(t.get_workflow_velocity(super::parsed(asked.clone())).await),
        code(t.get_daily_writing_stats(super::parsed(asked.clone())).await),
        code(t.get_phase_history(super::parsed(asked)).await),
        code(t.get_revision_status(book()).await),
        code(t.run_qa_checklist(book()).await),
        code(t.mark_ready_to_publish(book()).await),
        code(t.start_book_iteration(BookRef { workflow_id: 99, book_number: 2 }).await),
        code(t.complete_book_iteration(book()).await),
        code(t.record_production_metric(metric).await),
        code(t.update_daily_stats(day).await),
        code(w.complete(99).await),
        code(w.start_pass(99, 1, 1).await),
    ];
    assert!(codes.iter().all(|code| *code == "unknown_workflow"), "{codes:?}");
}

async fn d36_the_migration_is_in_the_one_ledger_and_runs_once(s: Scratch) {
    let w = world(s).await;
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM schema_migrations WHERE name = 'writing'";
    assert_eq!(w.db.one::<(i64,)>(sql, args![]).await.unwrap(), (1,));
    let id = w.create().await;
    w.db.migrate(&*w.clock).await.unwrap();
    assert_eq!(w.db.one::<(i64,)>(sql, args![]).await.unwrap(), (1,));
    assert_eq!(w.phase(id).await.0, -1);
}

async fn d37_a_new_workflow_is_at_0_per_cent(s: Scratch) {
    let w = world(s).await;
    let this = WorkflowRef { workflow_id: w.create().await };
    let progress = w.writing.get_series_progress(this.clone()).await.unwrap();
    assert_eq!((progress.percent_complete, progress.books_completed), (0, 0));
    let book = BookRef { workflow_id: this.workflow_id, book_number: 77 };
    assert_eq!(code(w.writing.start_book_iteration(book).await), "unknown_book");
}

async fn d38_ten_completes_at_once_are_ten_steps_or_refusals(s: Scratch) {
    let w = std::sync::Arc::new(world(s).await);
    let id = w.create().await;
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let w = w.clone();
            tokio::spawn(async move { w.complete(id).await })
        })
        .collect();
    let (mut steps, mut refused) = (Vec::new(), 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(done) => steps.push(done.completed_phase),
            Err(error) => {
                assert_eq!(error.code(), "quality_gate_required");
                refused += 1;
            }
        }
    }
    steps.sort_unstable();
    assert_eq!(steps, [-1, 0, 1, 2, 3], "each phase once, up to the gate");
    assert_eq!(refused, 5);
    let history = w.writing.get_phase_history(ask! { "workflow_id": id }).await.unwrap();
    assert_eq!(history.total, 6);
    assert_eq!(w.phase(id).await, (4, PhaseStatus::WaitingQualityGate));
}

async fn d41_words_on_the_wire_are_the_specifications(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let report = serde_json::to_value(w.qa(id, 1).await).unwrap();
    assert_eq!(report["status"], "NOT_READY", "there is no PENDING");
    assert!(report["date"].is_string());
    for category in ["npe", "continuity", "ku", "production", "metadata"] {
        assert_eq!(report["categories"][category]["status"], "FAIL");
    }
    let asked = BookRef { workflow_id: id, book_number: 1 };
    let status = w.writing.get_revision_status(asked).await.unwrap();
    assert_eq!(serde_json::to_value(&status.passes[0]).unwrap()["status"], "pending");
    assert_eq!(serde_json::to_value(w.state(id).await).unwrap()["phase_status"], "in_progress");
}

async fn d42_errors_have_codes_and_name_no_sql(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.later(HOUR_MS);
    w.db.exec("DROP TABLE writing_sums", args![]).await.unwrap();
    let asked = ask! { "workflow_id": id, "metric_type": "words_written", "metric_value": 1 };
    let error = w.writing.record_production_metric(asked).await.unwrap_err();
    assert_eq!(error.code(), "database");
    assert!(!error.is_callers());
    assert!(!error.to_string().contains("INSERT"), "{error}");
    let asked = WorkflowRef { workflow_id: -5 };
    let error = w.writing.get_workflow_state(asked).await.unwrap_err();
    assert!(error.to_string().contains("create_workflow"), "{error}");
}
