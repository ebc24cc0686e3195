//! Many at once on one workflow: nothing is lost, nothing is counted twice, nobody waits for ever.

use std::sync::Arc;
use std::time::Duration;

use adwd::args;
use adwd::writing::*;

use super::{World, ask, world};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    ten_tasks_complete_phases_and_record_metrics_on_one_workflow,
    one_bad_metric_among_many_fails_alone,
);

/// Two handles on one database, as two daemons would have.
fn handles(w: &World) -> [Writing; 2] {
    let deps = WritingDeps {
        db: w.db.clone(),
        clock: w.clock.clone(),
        rng: Arc::new(adwd::ids::TestRng::new(2)),
        changes: w.changes.clone(),
        config: adwd::config::WritingConfig::default(),
    };
    [w.writing.clone(), Writing::open(deps)]
}

/// One task's work: metrics with keys, each sent twice, and whatever phase can be completed.
async fn work(writing: Writing, id: i64, task: i64) -> i64 {
    let mut completed = 0;
    for n in 0..20_i64 {
        let asked: RecordMetric = ask! {
            "workflow_id": id, "metric_type": "words_written",
            "metric_value": (task * 20 + n) as f64 / 100.0,
            "context": { "book_number": 1 + n % 2 }, "idempotency_key": format!("{task}-{n}"),
        };
        let (first, second) = tokio::join!(
            writing.record_production_metric(asked.clone()),
            writing.record_production_metric(asked.clone()),
        );
        assert_eq!(first.unwrap(), second.unwrap(), "the same key is the same metric");
        let gate = ask! {
            "workflow_id": id, "gate_type": "npe_scene", "score": 90, "passed": true,
            "book_number": 1, "chapter_number": 1 + task, "scene_number": 1 + n,
        };
        writing.record_quality_gate(gate).await.unwrap();
        let asked = ask! { "workflow_id": id, "output": { "summary": "done" } };
        match writing.complete_current_phase(asked).await {
            Ok(_) => completed += 1,
            Err(error) => assert!(error.is_callers(), "{error:?}"),
        }
    }
    completed
}

async fn ten_tasks_complete_phases_and_record_metrics_on_one_workflow(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let [here, there] = handles(&w);
    let tasks: Vec<_> = (0..10)
        .map(|task| {
            let writing = if task % 2 == 0 { here.clone() } else { there.clone() };
            tokio::spawn(work(writing, id, task))
        })
        .collect();
    let mut completed = 0;
    for task in tasks {
        let limit = Duration::from_secs(120);
        completed += tokio::time::timeout(limit, task).await.expect("no deadlock").unwrap();
    }
    assert_eq!(completed, 5, "from -1 to the gate of phase 4, once each");
    let metrics = w.metrics(id).await;
    // The numbers 0 to 199, in hundredths.
    assert_eq!(metrics.metrics.total_words_written, Some(Hundredths(199 * 200 / 2)));
    let books: i64 = metrics.by_book.iter().map(|book| book.words_written.unwrap().0).sum();
    assert_eq!(books, 19_900);
    assert_eq!(w.days(id).await[0].words_written, Hundredths(19_900));
    assert_eq!(w.days(id).await[0].phases_completed, Hundredths(500));
    let words = metrics.by_type.iter().find(|t| t.metric_type == "words_written").unwrap();
    assert_eq!(words.count, 200);
    assert_eq!(w.writing.gates(id, None).await.unwrap().total, 200);
    let (ids, last): (i64, i64) = w
        .db
        .one("SELECT CAST(COUNT(DISTINCT id) AS BIGINT), MAX(id) FROM writing_metrics", args![])
        .await
        .unwrap();
    assert!(ids >= 200 + 200 + 5 && last >= ids, "{ids} {last}");
}

async fn one_bad_metric_among_many_fails_alone(s: Scratch) {
    let w = world(s).await;
    let id = w.create().await;
    let record = |n: i64| {
        let writing = w.writing.clone();
        let asked: RecordMetric = ask! {
            "workflow_id": if n == 3 { 99 } else { id }, "metric_type": "words_written",
            "metric_value": 1, "context": { "book_number": if n == 5 { 77 } else { 1 } },
        };
        tokio::spawn(async move { writing.record_production_metric(asked).await })
    };
    let tasks: Vec<_> = (0..32).map(record).collect();
    let mut codes = Vec::new();
    for task in tasks {
        codes.push(task.await.unwrap().err().map(|error| error.code()));
    }
    assert_eq!(codes[3], Some("unknown_workflow"));
    assert_eq!(codes[5], Some("unknown_book"));
    assert_eq!(codes.iter().filter(|code| code.is_none()).count(), 30);
    assert_eq!(w.metrics(id).await.metrics.total_words_written.unwrap().text(), "30");
}
