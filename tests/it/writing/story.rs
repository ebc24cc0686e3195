//! The life of a series of five books, from its concept to the last book's mark.

use adwd::changes::Changed;
use adwd::writing::*;

use super::{DAY_MS, HOUR_MS, ask, begin, world};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(five_books_from_the_concept_to_the_last_mark);

async fn five_books_from_the_concept_to_the_last_mark(s: Scratch) {
    let w = world(s).await;
    let mut changes = w.changes.subscribe();
    let asked = ask! {
        "series_id": 7, "user_id": 1, "concept": "Five books about a lighthouse",
        "series_title": "The Lamp", "time_zone": "Europe/Berlin",
    };
    let made = w.writing.create_workflow(asked).await.unwrap();
    let id = made.workflow_id;
    assert_eq!((id, made.current_phase, made.phase_status), (1, -1, PhaseStatus::InProgress));
    assert_eq!(changes.next().await, Some(Changed::Writing("1".to_owned())));

    // The plan: three days a phase, a failed gate on the way.
    for expected in -1..4 {
        w.later(3 * DAY_MS);
        let done = w.complete(id).await.unwrap();
        assert_eq!((done.completed_phase, done.next_phase), (expected, Some(expected + 1)));
        assert_eq!(done.duration_minutes.text(), "4320");
    }
    let early = w.complete(id).await.unwrap_err();
    assert_eq!(early.code(), "quality_gate_required");
    assert!(early.to_string().contains("npe_series"), "{early}");
    assert_eq!(w.phase(id).await, (4, PhaseStatus::WaitingQualityGate));
    let failed = w.gate(id, "npe_series", 71.5, false).await;
    assert_eq!(failed.next_action, "return_to_phase_3");
    w.writing.advance_to_phase(ask! { "workflow_id": id, "target_phase": 3 }).await.unwrap();
    w.complete(id).await.unwrap();
    assert_eq!(w.gate(id, "npe_series", 86.0, true).await.next_action, "proceed");
    w.complete(id).await.unwrap();
    w.gate(id, "commercial", 7.25, true).await;
    w.complete(id).await.unwrap();
    w.complete(id).await.unwrap();

    // The author sends the plan back once.
    let first = w.request(id, "series_plan").await;
    assert_eq!(w.phase(id).await, (7, PhaseStatus::WaitingApproval));
    assert_eq!(w.decide(first, "revision_requested").await.next_action, "revise");
    assert_eq!(w.complete(id).await.unwrap_err().code(), "prerequisites_unmet");
    let second = w.request(id, "series_plan").await;
    let pending = w.writing.get_pending_approvals(WorkflowRef { workflow_id: id }).await.unwrap();
    assert_eq!(pending.approvals.len(), 1);
    assert_eq!(pending.approvals[0].approval_id, second);
    assert_eq!(w.decide(second, "approved").await.next_action, "advance_to_phase_8");
    w.complete(id).await.unwrap();
    w.complete(id).await.unwrap();

    for book in 1..=5 {
        one_book(&w, id, book).await;
    }
    let done = w.complete(id).await.unwrap();
    assert_eq!((done.completed_phase, done.next_phase), (12, None));
    assert_eq!(done.phase_status, PhaseStatus::Completed);
    let state = w.state(id).await;
    assert_eq!(state.phase_status, PhaseStatus::Completed);
    assert!(state.completed_at.is_some());
    the_end(&w, id).await;
}

async fn one_book(w: &super::World, id: i64, book: i64) {
    let this = BookRef { workflow_id: id, book_number: book };
    if book > 1 {
        let started = w.writing.start_book_iteration(this.clone()).await.unwrap();
        assert_eq!((started.book_number, started.current_phase), (book, 9));
    }
    assert_eq!(w.state(id).await.current_book, book);
    w.complete(id).await.unwrap();
    // One scene fails first; only when its latest gate passes is the phase done.
    w.scene(id, (book, 1, 1), true).await;
    w.scene(id, (book, 1, 2), false).await;
    assert_eq!(w.phase(id).await, (10, PhaseStatus::WaitingQualityGate));
    w.scene(id, (book, 1, 2), true).await;
    w.complete(id).await.unwrap();
    for _ in 0..4 {
        w.later(DAY_MS);
        w.book_metric(id, book, "planning_time_minutes", 30.0).await;
    }
    w.evidence(id, book).await;
    let report = w.qa(id, book).await;
    assert_eq!(report.status, QaStatus::Ready, "{:?}", report.blockers);
    assert_eq!(report.book_title, format!("Lighthouse {book}"));
    let linked = w.pass(id, book, 6).await;
    assert_eq!(linked.report_id, Some(report.report_id), "pass 6 stands for the report");

    w.later(HOUR_MS);
    let done = w.writing.complete_book_iteration(this).await.unwrap();
    assert_eq!(done.next_book, (book < 5).then_some(book + 1));
    assert_eq!(w.phase(id).await, (12, PhaseStatus::WaitingApproval));
    let decided = w.decide(done.approval_id, "approved").await;
    assert_eq!(decided.next_action, "advance_next_phase");
    let progress = w.writing.get_series_progress(WorkflowRef { workflow_id: id }).await.unwrap();
    assert_eq!((progress.books_completed, progress.percent_complete), (book, book * 20));
    assert_eq!(w.mark(id, book).await.unwrap().status, QaStatus::Ready);
}

async fn the_end(w: &super::World, id: i64) {
    let progress = w.writing.get_series_progress(WorkflowRef { workflow_id: id }).await.unwrap();
    assert_eq!(progress.percent_complete, 100);
    let m = w.metrics(id).await;
    assert_eq!(m.metrics.total_words_written.unwrap().text(), "400000");
    assert_eq!(m.metrics.total_writing_time_minutes.unwrap().text(), "12000");
    assert_eq!(m.metrics.current_velocity, Some(2_000.0));
    assert_eq!((m.metrics.books_completed, m.metrics.books_with_activity), (5, 5));
    assert_eq!(m.metrics.avg_commercial_score, Some(7.25));
    assert_eq!(m.by_book.len(), 5);
    assert!(m.by_book.iter().all(|book| book.words_written.unwrap().text() == "80000"));
    let phases: Vec<i64> = m.by_phase.iter().map(|phase| phase.phase_number).collect();
    assert_eq!(phases, (-1..=12).collect::<Vec<_>>());
    let gate = m.by_phase.iter().find(|phase| phase.phase_number == 5).unwrap();
    assert_eq!(gate.quality_score, Some(72.5));

    let v = w.writing.get_workflow_velocity(ask! { "workflow_id": id }).await.unwrap();
    assert_eq!(v.projections.books_remaining, 0);
    assert_eq!(v.projections.hours_remaining, Some(0.0));
    assert_eq!(v.projections.estimated_total_words, Some(400_000.0));
    assert_eq!(v.efficiency.revision_rate, Some(5.0));
    assert_eq!(v.efficiency.planning_to_writing_ratio, Some(0.05));
    assert_eq!(v.efficiency.npe_pass_rate, Some(75.0), "one of four scenes needed a second try");

    let history = w.writing.get_phase_history(ask! { "workflow_id": id }).await.unwrap();
    assert_eq!(history.total, 16 + 4 * 4);
    assert!(history.phases.iter().all(|visit| visit.status != VisitStatus::Started));
    let failed = history.phases.iter().filter(|visit| visit.status == VisitStatus::Failed).count();
    assert_eq!(failed, 1, "the visit of the failed gate");
    let analytics = w.writing.get_phase_analytics(ask! {}).await.unwrap().phases;
    let npe = analytics.iter().find(|phase| phase.phase_number == 4).unwrap();
    assert_eq!((npe.total_executions, npe.failed_executions, npe.success_rate), (2, 1, 50.0));
    assert_eq!(w.complete(id).await.unwrap_err().code(), "prerequisites_unmet");
    let active = w.writing.list_active_workflows(ask! { "user_id": 1 }).await.unwrap();
    assert_eq!(active.total, 0);
    let days = w.days(id).await;
    assert!(days.windows(2).all(|pair| pair[0].stat_date > pair[1].stat_date), "newest first");
    assert!(begin().day() < days[0].stat_date);
}
