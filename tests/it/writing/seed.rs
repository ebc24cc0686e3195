//! The two scenarios of the seed's own testing strategy.

use adwd::writing::*;

use super::{ask, world};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    start_revision_pass_creates_a_new_pass_and_complete_records_its_duration,
    a_complete_revision_workflow_of_six_passes_is_ready_for_qa,
);

async fn start_revision_pass_creates_a_new_pass_and_complete_records_its_duration(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let asked = ask! {
        "workflow_id": id, "book_number": 1, "pass_number": 1, "pass_name": "structural",
    };
    let started: PassStarted = w.writing.start_revision_pass(asked).await.unwrap();
    assert_eq!(started.pass_id, 1);
    assert_eq!(started.started_at, "2026-01-05T12:00:00.000Z");
    assert_eq!(started.message, "Started structural revision pass for Book 1");
    w.later(1_000);
    let asked = ask! {
        "workflow_id": id, "book_number": 1, "pass_number": 1,
        "findings_summary": "Test findings", "edits_made": true, "user_approved": true,
    };
    let done: PassCompleted = w.writing.complete_revision_pass(asked).await.unwrap();
    assert_eq!(done.duration_minutes, Hundredths(2), "a second is 0.02 minutes");
}

async fn a_complete_revision_workflow_of_six_passes_is_ready_for_qa(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    for number in 1..=6 {
        w.pass(id, 1, number).await;
    }
    let asked = BookRef { workflow_id: id, book_number: 1 };
    let status = w.writing.get_revision_status(asked).await.unwrap();
    assert_eq!((status.passes_completed, status.total_passes), (6, 6));
    assert_eq!(status.progress_percentage, 100.0);
    assert!(status.ready_for_qa);
    let minutes = w.metrics(id).await;
    let revision = minutes.by_type.iter().find(|t| t.metric_type == "revision_time_minutes");
    assert_eq!(revision.unwrap().total, Some(Hundredths(18_000)), "six times half an hour");
}
