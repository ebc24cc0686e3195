//! Export: every row once, in a form that others can read.

use adwd::writing::export::{CsvTable, Format};

use super::{DAY_MS, World, ask, code, world};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(json_lines_hold_everything_once, csv_has_a_header_and_quotes_what_needs_it,);

async fn exported(w: &World, id: Option<i64>, format: Format) -> (u64, String) {
    let mut out = Vec::new();
    let rows = w.writing.export(id, format, &mut out).await.unwrap();
    (rows, String::from_utf8(out).unwrap())
}

async fn json_lines_hold_everything_once(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    w.plan(id).await;
    w.evidence(id, 1).await;
    w.qa(id, 1).await;
    for n in 0..1_205 {
        if n % 400 == 0 {
            w.later(DAY_MS);
        }
        w.metric(id, "agent_invocations", 1.0).await;
    }
    let other = w.create().await;
    w.metric(other, "words_written", 0.29).await;
    let (rows, text) = exported(&w, None, Format::JsonLines).await;
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    let (mut metric_ids, mut words) = (std::collections::BTreeSet::new(), 0.0);
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let table = line["table"].as_str().unwrap().to_owned();
        if table == "metric" {
            assert!(metric_ids.insert(line["metric_id"].as_i64().unwrap()), "{line}");
            if line["metric_type"] == "words_written" {
                words += line["metric_value"].as_f64().unwrap();
            }
        }
        assert!(line["workflow_id"].is_i64(), "{line}");
        *counts.entry(table).or_default() += 1;
    }
    assert_eq!(counts.values().sum::<u64>(), rows);
    assert_eq!(counts["workflow"], 2);
    assert_eq!(counts["approval"], 1);
    assert_eq!(counts["gate"], 2 + 1 + 3);
    assert_eq!(counts["phase"], 11 + 1);
    assert_eq!(counts["revision_pass"], 5);
    assert_eq!(counts["qa_report"], 1);
    assert_eq!(counts["book"], 10);
    // 6 gates of which 3 have a score of their own, 10 phases, 5 passes, 18 figures, 3 ratings.
    assert_eq!(counts["metric"], 1_205 + 1 + 9 + 10 + 5 + 18 + 3);
    assert!((words - 80_000.29).abs() < 1e-9);
    let (one, _) = exported(&w, Some(other), Format::JsonLines).await;
    assert_eq!(one, 1 + 5 + 1 + 1 + 1, "workflow, books, visit, day, metric");
    let mut out = Vec::new();
    assert_eq!(
        code(w.writing.export(Some(9), Format::JsonLines, &mut out).await),
        "unknown_workflow"
    );
}

async fn csv_has_a_header_and_quotes_what_needs_it(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let asked = ask! {
        "workflow_id": id, "metric_type": "words_written", "metric_value": 45.5,
        "context": { "book_number": 1, "metadata": { "note": "a, \"b\"" } },
    };
    w.writing.record_production_metric(asked).await.unwrap();
    let done = ask! { "workflow_id": id, "output": { "summary": "=1+1,\nnext" } };
    w.writing.complete_current_phase(done).await.unwrap();
    let (rows, text) = exported(&w, Some(id), Format::Csv(CsvTable::Metrics)).await;
    assert_eq!(rows, 2);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "a header and the rows");
    assert_eq!(
        lines[1],
        "1,1,words_written,45.5,,1,,2026-01-05T12:00:00.000Z,\"{\"\"note\"\":\"\"a, \\\"\"b\\\"\"\"\"}\""
    );
    let (rows, text) = exported(&w, None, Format::Csv(CsvTable::Daily)).await;
    assert_eq!(rows, 1);
    assert!(text.ends_with("1,2026-01-05,45.5,0,0,0,1\n"), "{text}");
    let (_, text) = exported(&w, None, Format::Csv(CsvTable::Phases)).await;
    assert!(text.contains("\"'=1+1,\nnext\""), "no spreadsheet takes it for a formula: {text}");
    assert_eq!(CsvTable::parse("daily"), Some(CsvTable::Daily));
    assert_eq!(CsvTable::parse("gates"), None);
}
