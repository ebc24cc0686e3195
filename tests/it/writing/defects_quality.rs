//! Defects of the upstream implementation (`spec/writing.md` §3), each with what is right: revision
//! passes, the checklist, the mark that rests on it.

use adwd::writing::*;

use super::{MINUTE_MS, ask, code, world};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    d12_ready_for_qa_needs_passes_1_to_5_and_not_a_count,
    d13_minutes_are_kept_to_the_hundredth,
    d14_completing_a_pass_that_was_not_begun_is_an_error,
    d15_completing_twice_is_refused_and_records_time_once,
    d16_a_pass_can_be_begun_again_and_its_first_result_is_kept,
    d17_all_six_passes_are_told_and_the_percentage_is_a_number,
    d18_every_category_is_judged_and_every_blocker_has_advice,
    d19_a_book_without_prose_is_not_ready_after_five_empty_passes,
    d20_the_checklist_runs_after_a_failed_gate_with_violations,
    d21_a_score_below_the_threshold_cannot_be_reported_as_passed,
    d22_blockers_have_one_form_and_lists_are_always_there,
    d23_the_time_estimate_is_the_sum_of_what_each_blocker_takes,
    d24_a_book_is_marked_ready_once_and_only_on_a_current_report,
);

async fn status(w: &super::World, id: i64) -> RevisionStatus {
    let asked = BookRef { workflow_id: id, book_number: 1 };
    w.writing.get_revision_status(asked).await.unwrap()
}

async fn d12_ready_for_qa_needs_passes_1_to_5_and_not_a_count(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for number in [1, 2, 3, 4, 6] {
        w.pass(id, 1, number).await;
    }
    let now = status(&w, id).await;
    assert_eq!((now.passes_completed, now.ready_for_qa), (5, false));
    let asked = ask! {
        "workflow_id": id, "book_number": 1, "pass_number": 5, "reason": "edited by the publisher",
    };
    w.writing.skip_revision_pass(asked).await.unwrap();
    let now = status(&w, id).await;
    assert_eq!((now.passes_completed, now.passes_skipped, now.ready_for_qa), (5, 1, true));
}

async fn d13_minutes_are_kept_to_the_hundredth(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.start_pass(id, 1, 1).await.unwrap();
    w.later(45 * MINUTE_MS + 30_000);
    assert_eq!(w.complete_pass(id, 1, 1).await.unwrap().duration_minutes.text(), "45.5");
    w.metric(id, "writing_time_minutes", 0.29).await;
    w.metric(id, "writing_time_minutes", 45.5).await;
    let total = w.metrics(id).await.metrics.total_writing_time_minutes;
    assert_eq!(total, Some(Hundredths(4_579)));
}

async fn d14_completing_a_pass_that_was_not_begun_is_an_error(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let error = w.complete_pass(id, 1, 2).await.unwrap_err();
    assert_eq!(error.code(), "wrong_state");
    assert!(error.to_string().contains("start_revision_pass"), "{error}");
}

async fn d15_completing_twice_is_refused_and_records_time_once(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.pass(id, 1, 1).await;
    let again = ask! { "workflow_id": id, "book_number": 1, "pass_number": 1 };
    assert_eq!(code(w.writing.complete_revision_pass(again).await), "wrong_state");
    let kept = &status(&w, id).await.passes[0];
    assert_eq!(kept.user_approved, Some(true), "what was said stays");
    let metrics = w.metrics(id).await;
    let revision = metrics.by_type.iter().find(|t| t.metric_type == "revision_time_minutes");
    assert_eq!(revision.unwrap().count, 1);
}

async fn d16_a_pass_can_be_begun_again_and_its_first_result_is_kept(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let first = w.pass(id, 1, 1).await;
    let again = w.start_pass(id, 1, 1).await.unwrap();
    assert_eq!((again.pass_id, again.run_count), (first.pass_id, 2));
    assert_eq!(code(w.start_pass(id, 1, 1).await), "wrong_state");
    let pass = status(&w, id).await.passes.remove(0);
    assert_eq!(pass.status, PassStatus::InProgress);
    assert_eq!((pass.completed_at, pass.findings_summary, pass.user_approved), (None, None, None));
    assert_eq!(pass.earlier_runs.len(), 1);
    assert_eq!(pass.earlier_runs[0].findings_summary.as_deref(), Some("fine"));
    let wrong = ask! {
        "workflow_id": id, "book_number": 1, "pass_number": 2, "pass_name": "dialogue",
    };
    let error = w.writing.start_revision_pass(wrong).await.unwrap_err();
    assert!(error.to_string().contains("continuity"), "{error}");
}

async fn d17_all_six_passes_are_told_and_the_percentage_is_a_number(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let fresh = status(&w, id).await;
    assert_eq!(fresh.passes.len(), 6);
    assert!(fresh.passes.iter().all(|pass| pass.status == PassStatus::Pending));
    for number in 1..=5 {
        w.pass(id, 1, number).await;
    }
    let json = serde_json::to_value(status(&w, id).await).unwrap();
    assert_eq!(json["progress_percentage"], serde_json::json!(83.3));
}

async fn d18_every_category_is_judged_and_every_blocker_has_advice(s: Scratch) {
    let w = world(s).await;
    let report = w.qa(w.create().await, 1).await;
    let categories: std::collections::BTreeSet<&str> =
        report.blockers.iter().map(|b| b.category.as_str()).collect();
    let all = ["continuity", "ku", "metadata", "npe", "production"];
    assert_eq!(categories.into_iter().collect::<Vec<_>>(), all);
    assert_eq!(report.recommendations.len(), report.blockers.len());
    assert_eq!(report.book_title, "Book 1");
}

async fn d19_a_book_without_prose_is_not_ready_after_five_empty_passes(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for number in 1..=5 {
        w.pass(id, 1, number).await;
    }
    w.gate(id, "npe_series", 90.0, true).await;
    w.record(id, 1).await;
    let report = w.qa(id, 1).await;
    assert_eq!(report.status, QaStatus::NotReady);
    assert_eq!(report.categories.metadata.status, CategoryStatus::Pass);
    for category in [&report.categories.continuity, &report.categories.ku] {
        assert_eq!(category.status, CategoryStatus::Fail);
        assert!(category.blockers.iter().all(|blocker| blocker.code == "no_data"));
    }
}

async fn d20_the_checklist_runs_after_a_failed_gate_with_violations(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let asked = ask! {
        "workflow_id": id, "gate_type": "npe_series", "score": 55, "passed": false,
        "violations": [
            { "category": "pacing", "severity": "high", "message": "sags", "suggestion": "cut" },
        ],
    };
    w.writing.record_quality_gate(asked).await.unwrap();
    let report = w.qa(id, 1).await;
    assert_eq!(report.categories.npe.status, CategoryStatus::Fail);
    assert_eq!(report.categories.npe.score, Some(Hundredths(5_500)));
    let gates = w.writing.gates(id, Some(GateType::NpeSeries)).await.unwrap();
    assert_eq!(gates.gates[0].violations[0].message, "sags");
}

async fn d21_a_score_below_the_threshold_cannot_be_reported_as_passed(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for (kind, score, passed) in
        [("npe_series", 5.0, true), ("npe_series", 80.0, false), ("commercial", 6.99, true)]
    {
        let asked = ask! { "workflow_id": id, "gate_type": kind, "score": score, "passed": passed };
        assert_eq!(code(w.writing.record_quality_gate(asked).await), "invalid_argument");
    }
    let asked = ask! { "workflow_id": id, "gate_type": "commercial", "score": 11, "passed": true };
    assert_eq!(code(w.writing.record_quality_gate(asked).await), "invalid_argument");
    w.evidence(id, 1).await;
    w.scene(id, (2, 1, 1), false).await;
    assert_eq!(w.qa(id, 1).await.status, QaStatus::Ready, "a scene of another book");
    w.scene(id, (1, 2, 1), false).await;
    let report = w.qa(id, 1).await;
    assert_eq!(report.blockers[0].code, "npe_scene_failed");
}

async fn d22_blockers_have_one_form_and_lists_are_always_there(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let json = serde_json::to_value(w.qa(id, 1).await).unwrap();
    for blocker in json["blockers"].as_array().unwrap() {
        let keys: Vec<&str> = blocker.as_object().unwrap().keys().map(String::as_str).collect();
        let form = ["category", "severity", "code", "message", "recommendation", "estimated_hours"];
        assert_eq!(keys, form);
        assert!(blocker["recommendation"].is_string());
    }
    w.evidence(id, 1).await;
    let json = serde_json::to_value(w.qa(id, 1).await).unwrap();
    assert_eq!(json["status"], "READY_TO_PUBLISH");
    for list in ["blockers", "warnings", "recommendations"] {
        assert_eq!(json[list], serde_json::json!([]));
    }
    assert_eq!(json["blocker_count"], 0);
    assert_eq!(json["estimated_time_to_ready_hours"], 0.0);
}

async fn d23_the_time_estimate_is_the_sum_of_what_each_blocker_takes(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.evidence(id, 1).await;
    w.book_metric(id, 1, "scenes_planned", 5.0).await;
    w.book_metric(id, 1, "timeline_conflicts", 3.0).await;
    let report = w.qa(id, 1).await;
    // Two scenes of three quarters of an hour, three contradictions of an hour.
    assert_eq!(report.estimated_time_to_ready_hours, 4.5);
}

async fn d24_a_book_is_marked_ready_once_and_only_on_a_current_report(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    assert_eq!(code(w.mark(id, 1).await), "not_ready");
    w.qa(id, 1).await;
    assert_eq!(code(w.mark(id, 1).await), "not_ready");
    w.evidence(id, 1).await;
    let report = w.qa(id, 1).await;
    // Any change of the book makes the report an old one; what is no change does not.
    w.book_metric(id, 1, "words_written", 10.0).await;
    let error = w.mark(id, 1).await.unwrap_err();
    assert!(error.to_string().contains("changed since"), "{error}");
    let asked = ask! { "workflow_id": id, "book_number": 1 };
    let stored = w.writing.get_qa_report(asked).await.unwrap();
    assert_eq!((stored.reports[0].clone(), stored.current), (report, false));
    w.qa(id, 1).await;
    w.book_metric(id, 1, "agent_invocations", 1.0).await;
    w.book_metric(id, 2, "words_written", 1.0).await;
    let first = w.mark(id, 1).await.unwrap();
    w.later(MINUTE_MS);
    let second = w.mark(id, 1).await.unwrap();
    assert_eq!(first.ready_at, second.ready_at, "marked once");
    assert_eq!(code(w.mark(id, 6).await), "unknown_book");
    let this = || BookRef { workflow_id: id, book_number: 1 };
    assert!(w.writing.book_record(this()).await.unwrap().ready_at.is_some());
    w.pass(id, 1, 5).await;
    assert_eq!(w.writing.book_record(this()).await.unwrap().ready_at, None, "revised since");
    assert_eq!(code(w.mark(id, 1).await), "not_ready");
}
