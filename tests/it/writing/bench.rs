//! How long the promised tools take at the handle, printed; run with
//! `cargo test --release --test it -- --ignored --nocapture writing::bench`.

// It measures, so it asks for the time; and it is read by a person.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::time::{Duration, Instant};

use adwd::args;
use adwd::writing::*;

use super::{DAY_MS, World, ask, begin, world};

/// Sizes of the history at which reads must take the same time.
const ROWS: [i64; 4] = [600, 11_100, 111_100, 1_000_000];
const CALLS: usize = 200;

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Times a call some hundred times: the median in ms.
macro_rules! timed {
    ($call:expr) => {{
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let start = Instant::now();
            $call;
            times.push(start.elapsed());
        }
        median(times)
    }};
}

fn metric(id: i64, n: i64, at: Option<String>) -> RecordMetric {
    let kinds = ["words_written", "writing_time_minutes", "chapters_completed", "scenes_written"];
    let kind = kinds[usize::try_from(n % 4).unwrap()];
    let mut asked: RecordMetric = ask! {
        "workflow_id": id, "metric_type": kind, "metric_value": 12.34,
        "context": { "book_number": 1 + n % 5, "phase_number": 11 },
    };
    asked.recorded_at = at;
    asked
}

/// Records through the front door, spread over a year, many in flight.
async fn fill(w: &World, id: i64, from: i64, to: i64) -> f64 {
    const FLIGHT: i64 = 256;
    let start = Instant::now();
    let tasks: Vec<_> = (0..FLIGHT)
        .map(|task| {
            let writing = w.writing.clone();
            tokio::spawn(async move {
                for n in (from + task..to).step_by(usize::try_from(FLIGHT).unwrap()) {
                    let at = begin().plus_ms(-(n * 7_919 % 365) * DAY_MS - n % 86_400 * 1_000);
                    writing
                        .record_production_metric(metric(id, n, Some(at.rfc3339())))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (to - from) as f64 / start.elapsed().as_secs_f64()
}

async fn at_one_size(w: &World, id: i64, rows: i64) {
    let record = timed!(w.writing.record_production_metric(metric(id, 0, None)).await.unwrap());
    let metrics = timed!(w.metrics(id).await);
    let range = timed!({
        let asked = ask! {
            "workflow_id": id, "date_range": { "start": "2025-03-07T01:02:03Z", "end": "2025-11-20" },
        };
        w.writing.get_workflow_metrics(asked).await.unwrap()
    });
    let mut windows = Vec::new();
    for window in ["day", "week", "all"] {
        windows.push(timed!({
            let asked = ask! { "workflow_id": id, "time_window": window };
            w.writing.get_workflow_velocity(asked).await.unwrap()
        }));
    }
    let book = BookRef { workflow_id: id, book_number: 1 };
    let qa = timed!(w.writing.run_qa_checklist(book.clone()).await.unwrap());
    let days = timed!(w.days(id).await);
    println!(
        "{rows:>9} rows: record {record:.2}  metrics {metrics:.2}  range {range:.2}  velocity \
         {:.2}/{:.2}/{:.2}  qa {qa:.2}  days {days:.2}",
        windows[0], windows[1], windows[2]
    );
}

async fn complete(w: &World) {
    let mut times = Vec::new();
    for _ in 0..40 {
        let id = w.create().await;
        for _ in 0..5 {
            let start = Instant::now();
            w.complete(id).await.unwrap();
            times.push(start.elapsed());
        }
    }
    println!("complete_current_phase {:.2}", median(times));
}

/// Metrics a second with so many in flight, all of now.
async fn rate(w: &World, id: i64, flight: i64) -> f64 {
    const EACH: i64 = 400;
    let start = Instant::now();
    let tasks: Vec<_> = (0..flight)
        .map(|task| {
            let writing = w.writing.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    writing.record_production_metric(metric(id, task + n, None)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (flight * EACH) as f64 / start.elapsed().as_secs_f64()
}

async fn measure(w: World, sizes: &[i64]) {
    println!("\n{} (medians in ms)", w.db.engine().name());
    let id = w.create().await;
    complete(&w).await;
    for flight in [1, 8, 32] {
        let other = w.create().await;
        println!("{flight:>2} in flight: {:.0} metrics/s", rate(&w, other, flight).await);
    }
    w.evidence(id, 1).await;
    let mut filled = 0;
    for rows in sizes {
        let speed = fill(&w, id, filled, *rows).await;
        filled = *rows;
        w.db.exec("ANALYZE", args![]).await.unwrap();
        at_one_size(&w, id, *rows).await;
        println!("{:>14} filled at {speed:.0} metrics/s", "");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; see the head of the file"]
async fn the_tools_at_every_size_on_sqlite() {
    measure(world(crate::db::sqlite().await).await, &ROWS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; see the head of the file"]
async fn the_tools_at_some_sizes_on_postgres() {
    let Some(scratch) = crate::db::postgres().await else { return };
    measure(world(scratch).await, &ROWS[..3]).await;
}
