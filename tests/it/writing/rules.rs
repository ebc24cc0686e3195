//! The state machine, refusal by refusal, and what `writing.enforce = "off"` lets through.

use adwd::changes::Changed;
use adwd::config::WritingConfig;
use adwd::writing::*;

use super::{World, ask, code, world, world_with};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    phases_are_entered_one_after_the_other_and_left_backwards_always,
    a_plan_that_is_made_again_needs_a_new_approval,
    a_rejected_plan_fails_the_workflow_until_it_is_retried,
    an_approval_is_asked_for_once_and_decided_once,
    a_book_begins_when_the_one_before_is_approved,
    phases_with_a_gate_or_an_approval_cannot_be_skipped,
    the_gate_of_a_phase_is_told,
    every_write_is_told_and_a_refusal_is_not,
    switched_off_the_rules_let_everything_through_but_nonsense,
    lists_of_workflows_have_pages,
    a_workflow_has_a_bounded_number_of_types,
);

async fn advance(w: &World, id: i64, target: i64) -> Result<PhaseMoved, WritingError> {
    let asked = AdvanceToPhase { workflow_id: id, target_phase: target };
    w.writing.advance_to_phase(asked).await
}

async fn skip(w: &World, id: i64, phase: i64) -> Result<PhaseMoved, WritingError> {
    let asked = ask! { "workflow_id": id, "phase_number": phase, "reason": "not needed" };
    w.writing.skip_phase(asked).await
}

async fn phases_are_entered_one_after_the_other_and_left_backwards_always(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let error = advance(&w, id, 2).await.unwrap_err();
    assert!(error.to_string().contains("the next one is 0"), "{error}");
    for target in 0..=4 {
        assert!(advance(&w, id, target).await.unwrap().success);
    }
    let error = advance(&w, id, 5).await.unwrap_err();
    assert_eq!(error.code(), "quality_gate_required");
    assert!(error.to_string().contains("npe_series"), "{error}");
    let same = advance(&w, id, 4).await.unwrap();
    assert!(same.message.starts_with("already"), "{}", same.message);
    w.gate(id, "npe_series", 10.0, false).await;
    assert_eq!(w.phase(id).await, (4, PhaseStatus::WaitingQualityGate));
    advance(&w, id, 1).await.unwrap();
    assert_eq!(w.phase(id).await, (1, PhaseStatus::InProgress));
    // A gate that passed in an earlier visit does not count in a later one.
    for target in 2..=4 {
        advance(&w, id, target).await.unwrap();
    }
    w.gate(id, "npe_series", 90.0, true).await;
    advance(&w, id, 3).await.unwrap();
    advance(&w, id, 4).await.unwrap();
    assert_eq!(code(w.complete(id).await), "quality_gate_required");
}

async fn a_plan_that_is_made_again_needs_a_new_approval(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.plan(id).await;
    advance(&w, id, 7).await.unwrap();
    assert_eq!(w.state(id).await.unmet, Vec::<String>::new(), "the plan is as it was");
    advance(&w, id, 3).await.unwrap();
    w.complete(id).await.unwrap();
    w.gate(id, "npe_series", 85.0, true).await;
    w.complete(id).await.unwrap();
    w.gate(id, "commercial", 8.0, true).await;
    w.complete(id).await.unwrap();
    w.complete(id).await.unwrap();
    let error = w.complete(id).await.unwrap_err();
    assert!(error.to_string().contains("series_plan"), "{error}");
    let approval = w.request(id, "series_plan").await;
    w.decide(approval, "approved").await;
    w.complete(id).await.unwrap();
}

async fn a_rejected_plan_fails_the_workflow_until_it_is_retried(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let retry = || ask! { "workflow_id": id, "phase_number": -1 };
    assert_eq!(code(w.writing.retry_failed_phase(retry()).await), "wrong_state");
    let approval = w.request(id, "series_plan").await;
    let decided = w.decide(approval, "rejected").await;
    assert_eq!((decided.phase_status, decided.approved_at), (PhaseStatus::Failed, None));
    assert_eq!(code(w.complete(id).await), "prerequisites_unmet");
    let active = w.writing.list_active_workflows(ask! {}).await.unwrap();
    assert_eq!(active.total, 0);
    let retried = w.writing.retry_failed_phase(retry()).await.unwrap();
    assert_eq!(retried.phase_status, PhaseStatus::InProgress);
    w.complete(id).await.unwrap();
    let history = w.writing.get_phase_history(ask! { "workflow_id": id }).await.unwrap();
    let ends: Vec<_> = history.phases.iter().map(|visit| visit.status).collect();
    let expected = [VisitStatus::Failed, VisitStatus::Completed, VisitStatus::Started];
    assert_eq!(ends, expected);
}

async fn an_approval_is_asked_for_once_and_decided_once(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let first = w.request(id, "series_plan").await;
    let again = ask! { "workflow_id": id, "approval_type": "series_plan", "artifacts": [] };
    let error = w.writing.request_approval(again).await.unwrap_err();
    assert_eq!(error.code(), "approval_pending");
    assert!(error.to_string().contains(&first.to_string()), "{error}");
    // Two chapters may be open at once, and the workflow waits for both.
    for chapter in [1, 2] {
        let asked = ask! {
            "workflow_id": id, "approval_type": "chapter_plan", "artifacts": [],
            "chapter_number": chapter,
        };
        w.writing.request_approval(asked).await.unwrap();
    }
    let decided = w.decide(first, "approved").await;
    assert_eq!(decided.phase_status, PhaseStatus::WaitingApproval);
    w.decide(first + 1, "approved").await;
    let last = w.decide(first + 2, "revision_requested").await;
    assert_eq!(last.phase_status, PhaseStatus::InProgress);
    let again = ask! { "approval_id": first, "decision": "rejected" };
    assert_eq!(code(w.writing.submit_approval(again).await), "already_decided");
    let pending = serde_json::json!({ "approval_id": first, "decision": "pending" });
    assert!(serde_json::from_value::<SubmitApproval>(pending).is_err(), "that is no decision");
    let unknown = ask! { "approval_id": 99, "decision": "approved" };
    assert_eq!(code(w.writing.submit_approval(unknown).await), "unknown_approval");
    let all = w.writing.approvals(id).await.unwrap().approvals;
    assert_eq!(all.len(), 3);
    assert_eq!(all[2].status, ApprovalStatus::Approved, "newest first");
}

async fn a_book_begins_when_the_one_before_is_approved(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.plan(id).await;
    let book = |book_number| BookRef { workflow_id: id, book_number };
    let start = |number| w.writing.start_book_iteration(book(number));
    let finish = |number| w.writing.complete_book_iteration(book(number));
    assert_eq!(code(start(1).await), "invalid_argument");
    assert_eq!(code(start(2).await), "prerequisites_unmet");
    assert_eq!(code(finish(1).await), "wrong_state", "phase 9 is too early");
    w.complete(id).await.unwrap();
    w.scene(id, (1, 1, 1), true).await;
    w.complete(id).await.unwrap();
    assert_eq!(code(finish(2).await), "wrong_state", "book 1 is the current one");
    let done = finish(1).await.unwrap();
    assert_eq!(code(finish(1).await), "approval_pending");
    assert_eq!(code(start(2).await), "prerequisites_unmet", "not decided yet");
    w.decide(done.approval_id, "revision_requested").await;
    let again = finish(1).await.unwrap();
    w.decide(again.approval_id, "approved").await;
    assert_eq!(code(finish(1).await), "wrong_state", "it is approved");
    assert_eq!(code(start(3).await), "prerequisites_unmet");
    let error = w.complete(id).await.unwrap_err();
    assert!(error.to_string().contains("start_book_iteration of book 2"), "{error}");
    start(2).await.unwrap();
    assert_eq!(code(start(2).await), "prerequisites_unmet", "it has begun");
    let chapter = ask! { "workflow_id": id, "approval_type": "chapter_plan", "artifacts": [] };
    assert_eq!(code(w.writing.request_approval(chapter).await), "wrong_state");
    let state = w.state(id).await;
    assert_eq!((state.current_book, state.current_phase), (2, 9));
}

async fn phases_with_a_gate_or_an_approval_cannot_be_skipped(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    assert_eq!(code(skip(&w, id, 2).await), "wrong_state", "not the current one");
    for phase in -1..4 {
        assert_eq!(skip(&w, id, phase).await.unwrap().current_phase, phase + 1);
    }
    assert_eq!(code(skip(&w, id, 4).await), "wrong_state");
    let history = w.writing.get_phase_history(ask! { "workflow_id": id }).await.unwrap();
    assert_eq!(history.phases[0].status, VisitStatus::Skipped);
    assert_eq!(history.phases[0].output_summary.as_deref(), Some("not needed"));
    let found = w.writing.get_phase_analytics(ask! { "phase_number": 0 }).await.unwrap();
    assert_eq!(found.phases[0].total_executions, 0, "what was skipped was not executed");
}

async fn the_gate_of_a_phase_is_told(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let check = |phase: i64| {
        let asked = PhaseRef { workflow_id: id, phase_number: phase };
        w.writing.check_gate_status(asked)
    };
    let none = check(3).await.unwrap();
    assert_eq!((none.has_gate, none.passed), (false, None));
    let open = check(4).await.unwrap();
    assert_eq!((open.has_gate, open.passed, open.recorded), (true, Some(false), 0));
    for _ in -1..4 {
        w.complete(id).await.unwrap();
    }
    w.gate(id, "npe_series", 79.99, false).await;
    let failed = check(4).await.unwrap();
    assert_eq!((failed.passed, failed.score), (Some(false), Some(Hundredths(7_999))));
    w.gate(id, "npe_series", 80.0, true).await;
    let passed = check(4).await.unwrap();
    assert_eq!((passed.passed, passed.recorded), (Some(true), 2));
    assert_eq!(w.phase(id).await, (4, PhaseStatus::InProgress));
}

async fn every_write_is_told_and_a_refusal_is_not(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let mut changes = w.changes.subscribe();
    let before = w.state(id).await.revision;
    assert_eq!(code(advance(&w, id, 9).await), "prerequisites_unmet");
    assert_eq!(code(w.start_pass(id, 9, 1).await), "unknown_book");
    assert_eq!(w.state(id).await.revision, before, "a refusal changes nothing");
    w.metric(id, "words_written", 1.0).await;
    w.complete(id).await.unwrap();
    w.start_pass(id, 1, 1).await.unwrap();
    w.qa(id, 1).await;
    for _ in 0..4 {
        assert_eq!(changes.next().await, Some(Changed::Writing(id.to_string())));
    }
    assert_eq!(w.state(id).await.revision, before + 4);
}

async fn switched_off_the_rules_let_everything_through_but_nonsense(s: Scratch) {
    let config = WritingConfig { enforce: false, ..WritingConfig::default() };
    let w = world_with(s, config).await;
    let id = w.create().await;
    assert_eq!(advance(&w, id, 9).await.unwrap().current_phase, 9);
    assert_eq!(code(advance(&w, id, 13).await), "invalid_argument");
    w.gate(id, "npe_series", 5.0, true).await;
    w.complete(id).await.unwrap();
    w.complete(id).await.unwrap();
    assert_eq!(w.phase(id).await.0, 11);
    let book = BookRef { workflow_id: id, book_number: 4 };
    w.writing.start_book_iteration(book).await.unwrap();
    assert_eq!(w.state(id).await.current_book, 4);
    let far = BookRef { workflow_id: id, book_number: 77 };
    assert_eq!(code(w.writing.start_book_iteration(far).await), "unknown_book");
    w.request(id, "series_plan").await;
    w.complete(id).await.unwrap();
    advance(&w, id, 12).await.unwrap();
    assert_eq!(w.complete(id).await.unwrap().phase_status, PhaseStatus::Completed);
    assert_eq!(code(w.complete(id).await), "prerequisites_unmet");
    let report = w.qa(id, 1).await;
    assert_eq!(report.status, QaStatus::NotReady, "verdicts rest on evidence all the same");
}

async fn lists_of_workflows_have_pages(s: Scratch) {
    let w = world(s).await;
    for _ in 0..5 {
        w.create().await;
    }
    let page = w.writing.list_active_workflows(ask! { "limit": 2 }).await.unwrap();
    let ids: Vec<i64> = page.workflows.iter().map(|item| item.workflow_id).collect();
    assert_eq!((ids, page.total, page.next_before_id), (vec![5, 4], 5, Some(4)));
    let asked = ask! { "limit": 3, "before_id": 4, "user_id": 1 };
    let page = w.writing.list_active_workflows(asked).await.unwrap();
    assert_eq!((page.workflows.len(), page.next_before_id), (3, None));
    let none = w.writing.list_active_workflows(ask! { "user_id": 2 }).await.unwrap();
    assert_eq!(none.total, 0);
    assert_eq!(w.writing.complete_ids("", 3).await.unwrap(), [5, 4, 3]);
    assert_eq!(w.writing.complete_ids("2", 3).await.unwrap(), [2]);
}

async fn a_workflow_has_a_bounded_number_of_types(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let record = |n: i64| {
        let writing = w.writing.clone();
        let asked: RecordMetric =
            ask! { "workflow_id": id, "metric_type": format!("own_{n}"), "metric_value": 1 };
        tokio::spawn(async move { writing.record_production_metric(asked).await })
    };
    let mut taken = Vec::new();
    for (n, task) in (0..210).map(record).collect::<Vec<_>>().into_iter().enumerate() {
        if task.await.unwrap().is_ok() {
            taken.push(format!("own_{n}"));
        }
    }
    assert_eq!(taken.len(), 200, "however they arrive");
    w.metric(id, &taken[7], 1.0).await;
    w.metric(id, "words_written", 1.0).await;
    assert_eq!(w.metrics(id).await.by_type.len(), 201);
}
