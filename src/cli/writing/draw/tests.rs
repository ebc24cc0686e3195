//! What is drawn, as a person sees it without colours.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-03-04T12:00:00.000Z";

fn visit(number: i64, status: &str, minutes: Value, score: Value) -> Value {
    json!({
        "visit_id": number + 2, "phase_number": number, "phase_name": "", "book_number": 1,
        "status": status, "started_at": NOW, "completed_at": null, "duration_minutes": minutes,
        "output_summary": null, "artifacts": [], "validation_score": score,
    })
}

fn pass_of(number: i64, name: &str, status: &str) -> Value {
    json!({
        "pass_number": number, "pass_name": name, "status": status, "pass_id": number,
        "run_count": if status == "complete" { 2 } else { 0 },
        "started_at": null, "completed_at": null,
        "duration_minutes": if status == "complete" { json!(90.5) } else { Value::Null },
        "findings_summary": null, "edits_made": true, "user_approved": null,
        "skip_reason": if status == "skipped" { json!("no dialogue") } else { Value::Null },
        "earlier_runs": [],
    })
}

fn picture() -> Picture {
    let state = json!({
        "workflow_id": 7, "series_id": 3, "series_title": "The Iron Crown", "user_id": 1,
        "concept": "c", "current_phase": 5, "phase_name": "Commercial Validation",
        "phase_status": "waiting_quality_gate", "current_book": 1, "current_chapter": null,
        "total_books": 5, "unmet": ["a commercial gate of 7 or more"], "time_zone": "UTC",
        "metadata": {}, "revision": 9, "created_at": NOW, "updated_at": "2026-03-04T09:00:00.000Z",
        "completed_at": null,
    });
    let gate = |number: i64, kind: &str, passed: bool, score: Value, recorded: i64| {
        json!({ "phase_number": number, "has_gate": true, "gate_type": kind, "passed": passed,
            "score": score, "violations": [], "recorded": recorded })
    };
    let names = ["structural", "continuity", "dialogue", "emotional", "line_edit", "final_qa"];
    let statuses = ["complete", "in_progress", "skipped", "pending", "pending", "pending"];
    let passes: Vec<Value> =
        (0..6).map(|at| pass_of(at as i64 + 1, names[at], statuses[at])).collect();
    serde_json::from_value(json!({
        "state": state,
        "progress": { "total_books": 5, "books_completed": 0, "current_book": 1,
            "current_phase": 5, "percent_complete": 8 },
        "history": { "workflow_id": 7, "created_at": NOW, "total": 4, "total_duration_hours": 3.0,
            "phases": [
                visit(3, "completed", json!(12.5), Value::Null),
                visit(4, "failed", json!(1), json!(70)),
                visit(4, "completed", json!(180), json!(84.5)),
                visit(5, "started", Value::Null, Value::Null),
            ] },
        "gates": [gate(4, "npe_series", true, json!(84.5), 1),
            gate(5, "commercial", false, json!(6.9), 1),
            gate(10, "npe_scene", false, Value::Null, 0)],
        "approvals": { "workflow_id": 7, "approvals": [] },
        "revision": { "workflow_id": 7, "book_number": 1, "passes_completed": 1,
            "passes_skipped": 1, "total_passes": 6, "progress_percentage": 16.7,
            "passes": passes, "ready_for_qa": false },
        "qa": { "workflow_id": 7, "book_number": 1, "reports": [], "total": 0, "current": false,
            "ready_at": null },
        "velocity": { "workflow_id": 7, "time_window": "all",
            "velocity": { "words_per_hour": 1042.0, "words_per_day": 2311.0,
                "chapters_per_day": null, "scenes_per_hour": null, "active_days": 2,
                "window_days": 3 },
            "efficiency": { "planning_to_writing_ratio": null, "revision_rate": null,
                "npe_pass_rate": null },
            "projections": { "estimated_completion_date": "2026-08-13",
                "estimated_total_words": 375_000.0, "books_remaining": 5,
                "hours_remaining": 353.2 } },
        "days": [{ "date": "2026-03-02", "words": 4200.0 }, { "date": "2026-03-03", "words": 0.0 },
            { "date": "2026-03-04", "words": 1.0 }],
    }))
    .unwrap()
}

fn text(lines: &[Line]) -> Vec<String> {
    lines
        .iter()
        .map(|line| line.iter().map(|(text, _)| text.as_str()).collect::<String>())
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[test]
fn a_series_is_readable_without_colours() {
    let lines = text(&lines(&picture(), 100, Millis::parse_rfc3339(NOW).unwrap()));
    for expected in [
        "Book series 7: The Iron Crown",
        "phase 5 Commercial Validation, waiting_quality_gate; book 1 of 5, 0 approved, 8 %; changed 3h00m ago",
        "  missing: a commercial gate of 7 or more",
        "  ✓  3 Series Architect         completed            12.5 min",
        "  ✓  4 NPE Validation           completed            3h01m, 2 visits, score 84.5",
        "  ▶  5 Commercial Validation    waiting_quality_gate",
        "  · 12 Book Production Loop     pending",
        "REVISION OF BOOK 1",
        "  ✓  1 structural               complete             1h30m, run 2, edited",
        "  –  3 dialogue                 skipped              edited, no dialogue",
        "  QA: no report yet",
        "  ✗  5 commercial               failed               score 6.9 of 10",
        "  · 10 npe_scene                pending",
        "  pace: 1,042 words an hour, 2,311 words a day",
        "  ahead: 5 book(s) to go, 375,000 words in all, 353 hours left, done by 2026-08-13",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected:?} is not in {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line == "WAITING FOR A DECISION"));
}

#[test]
fn the_plot_has_a_column_a_day_and_shows_the_smallest_day() {
    assert_eq!(
        plot(&picture().days, 40),
        [
            "  4,200 │█",
            "        │█",
            "        │█",
            "        │█",
            "        │█",
            "        │█   ▁",
            "      0 └──────",
            "         2026-03-04",
        ]
    );
    let nothing = [Day { date: "2026-03-01".to_owned(), words: 0.0 }];
    assert_eq!(plot(&nothing, 80), ["  no words from 2026-03-01 to 2026-03-01"]);
    assert_eq!(plot(&[], 80), Vec::<String>::new());
}

#[test]
fn a_narrow_terminal_shows_the_newest_days() {
    let days: Vec<Day> =
        (1..=31).map(|n| Day { date: format!("2026-03-{n:02}"), words: f64::from(n) }).collect();
    for (width, axis) in [(31, "2026-03-10  2026-03-31"), (29, "2026-03-31")] {
        let rows = plot(&days, width);
        assert_eq!(rows.last().unwrap().trim(), axis);
        assert!(rows.iter().all(|row| row.chars().count() <= width), "{rows:#?}");
    }
    assert_eq!(grouped(1_234_567.4), "1,234,567");
    assert_eq!(grouped(-12.0), "-12");
}

proptest! {
    #[test]
    fn nothing_is_wider_than_the_terminal(
        width in 20_usize..200,
        words in proptest::collection::vec(-100.0_f64..1e9, 0..400),
    ) {
        let mut picture = picture();
        picture.days = words
            .iter()
            .map(|words| Day { date: "2026-03-04".to_owned(), words: *words })
            .collect();
        for line in text(&lines(&picture, width, Millis(0))) {
            prop_assert!(line.chars().count() <= width, "{line:?}");
        }
    }
}
