//! Writing workflows over stdio: how long a call takes at the server, beside the cheapest call there
//! is, with a history of 600 to 1,000,000 metrics. `cargo bench --bench writing`
//!
//! Targets are those of the project's issue on writing workflows, for a quiet 2-core machine with
//! the embedded database; look at the ratio to the floor where the machine is shared.
// Benchmarks print, read the clock and start programs; that is what they are for.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

#[allow(dead_code, reason = "each benchmark uses a part")]
mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use adwd::args;
use adwd::db::Db;
use adwd::writing::sums::SLICES_MS;
use common::{Client, Table, Times, World};
use serde_json::{Value, json};

/// Metrics of the workflow that is measured.
const ROWS: [i64; 4] = [600, 11_100, 111_100, 1_000_000];
/// Calls of a round, and rounds at each size.
const CALLS: usize = 60;
const ROUNDS: usize = 8;
/// Metrics on their way at once, where many are.
const FLIGHT: usize = 32;
/// How much slower a read may be at the largest size than at the smallest.
const FLAT: f64 = 1.5;

fn main() {
    let mut world = World::start("");
    let mut client = world.client();
    let floor = Times::of(200, 2_000, || drop(client.ask("ping", json!({}))));
    let table = Table::new(&floor);
    completes(&table, &mut client);
    rates(&table, &mut client);
    let id = create(&mut client);
    let mut reads = Vec::new();
    for rows in ROWS {
        drop(client);
        world.stop();
        fill(&world, id, rows);
        world.serve();
        client = world.client();
        check(&mut client, &world, id);
        reads.push(at_one_size(&table, &mut client, id, rows));
    }
    for (at, (what, _)) in reads[0].iter().enumerate() {
        let times = || reads.iter().map(|of| of[at].1);
        let flat = times().fold(f64::MIN, f64::max) / times().fold(f64::MAX, f64::min);
        table.ratio(&format!("slowest to fastest size: {what}"), flat, FLAT);
    }
}

fn create(client: &mut Client) -> i64 {
    let asked = json!({ "series_id": 1, "user_id": 1, "concept": "A series of a benchmark" });
    client.call("create_workflow", asked)["workflow_id"].as_i64().unwrap()
}

fn metric(id: i64, n: usize) -> Value {
    let kinds = ["words_written", "writing_time_minutes", "chapters_completed", "scenes_written"];
    json!({
        "workflow_id": id, "metric_type": kinds[n % 4], "metric_value": 12.34,
        "context": { "book_number": 1 + n % 5, "phase_number": 11 },
    })
}

/// The phases before the first gate, over and over.
fn completes(table: &Table, client: &mut Client) {
    let mut times = Vec::new();
    for _ in 0..60 {
        let asked = json!({
            "workflow_id": create(client),
            "output": { "summary": "Done.", "artifacts": ["plan.md"] },
        });
        let of_phases = Times::of(0, 5, || {
            drop(client.call("complete_current_phase", asked.clone()));
        });
        times.extend(of_phases.each());
    }
    table.line("complete_current_phase", &Times::new(times), 3.0);
}

fn rates(table: &Table, client: &mut Client) {
    for (flight, least) in [(1, 0.0), (8, 0.0), (FLIGHT, 3_000.0)] {
        let id = create(client);
        let call = "record_production_metric";
        client.flood(call, (1_000, flight), |n| metric(id, n));
        let rate = client.flood(call, (6_000, flight), |n| metric(id, n));
        table.rate(&format!("recorded metrics, {flight} in flight"), rate, least);
    }
}

/// The medians of the quietest round of the reads that must take the same time at every size: on a
/// shared machine all rounds together say more about the others than about the size.
fn at_one_size(table: &Table, client: &mut Client, id: i64, rows: i64) -> Vec<(&'static str, f64)> {
    let mut timed = |tool: &str, what: &str, arguments: Value, target: f64| {
        let mut round =
            |warm| Times::of(warm, CALLS, || drop(client.call(tool, arguments.clone())));
        drop(round(30));
        let rounds: Vec<Times> = (0..ROUNDS).map(|_| round(0)).collect();
        let times = Times::new(rounds.iter().flat_map(Times::each).collect());
        table.line(&format!("{rows:>9}: {tool}{what}"), &times, target);
        rounds.iter().map(Times::median).fold(f64::MAX, f64::min)
    };
    let all = json!({ "workflow_id": id });
    let range = json!({ "start": "2025-03-07T01:02:03Z", "end": "2099-11-20" });
    let ranged = json!({ "workflow_id": id, "date_range": range });
    let book = json!({ "workflow_id": id, "book_number": 1 });
    let mut reads = vec![("metrics", timed("get_workflow_metrics", "", all.clone(), 3.0))];
    reads.push(("metrics, range", timed("get_workflow_metrics", ", range", ranged, 3.0)));
    for (window, what) in
        [("day", "velocity, day"), ("week", "velocity, week"), ("all", "velocity, all")]
    {
        let asked = json!({ "workflow_id": id, "time_window": window });
        reads.push((what, timed("get_workflow_velocity", &format!(", {window}"), asked, 3.0)));
    }
    timed("run_qa_checklist", "", book, 5.0);
    timed("record_production_metric", "", metric(id, 0), 1.5);
    reads
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn with<T>(world: &World, work: impl AsyncFnOnce(&Db) -> T) -> T {
    let url = format!("sqlite:{}", world.database().display());
    let db = Db::open(&url).await.unwrap();
    let done = work(&db).await;
    db.close().await;
    done
}

/// The metrics that are filled in: `n` of four types and five books, spread over a year up to now.
const METRICS: &str = "
    INSERT INTO writing_metrics (id, workflow_id, metric_type, value, phase, book, recorded_at)
    WITH RECURSIVE up(n) AS (SELECT $2 UNION ALL SELECT n + 1 FROM up WHERE n + 1 < $3)
    SELECT $4 + n, $1, CASE n % 4 WHEN 0 THEN 'words_written' WHEN 1 THEN 'writing_time_minutes'
        WHEN 2 THEN 'chapters_completed' ELSE 'scenes_written' END,
        1234 + n % 100, 11, 1 + n % 5,
        $5 - (n * 7919 % 365) * 86400000 - n * 31 % 86400 * 1000 FROM up";

/// Adds what the new metrics are to the sums of one level.
const SUMS: &str = "
    INSERT INTO writing_sums (workflow_id, level, start, metric_type, book, phase, total, n)
    SELECT workflow_id, $3, CASE WHEN $4 = 0 THEN 0 ELSE recorded_at / $4 * $4 END, metric_type,
        book, -2, SUM(value), COUNT(*)
    FROM writing_metrics WHERE workflow_id = $1 AND id >= $2 GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (workflow_id, level, start, metric_type, book, phase) DO UPDATE SET
        total = writing_sums.total + excluded.total, n = writing_sums.n + excluded.n";

/// Adds them to the days of UTC.
const DAYS: &str = "
    INSERT INTO writing_daily (workflow_id, day, author_id, words, chapters, scenes, minutes, phases)
    SELECT workflow_id, date(recorded_at / 1000, 'unixepoch'), 1,
        SUM(CASE WHEN metric_type = 'words_written' THEN value ELSE 0 END),
        SUM(CASE WHEN metric_type = 'chapters_completed' THEN value ELSE 0 END),
        SUM(CASE WHEN metric_type = 'scenes_written' THEN value ELSE 0 END),
        SUM(CASE WHEN metric_type = 'writing_time_minutes' THEN value ELSE 0 END), 0
    FROM writing_metrics WHERE workflow_id = $1 AND id >= $2 GROUP BY 1, 2
    ON CONFLICT (workflow_id, day) DO UPDATE SET words = writing_daily.words + excluded.words,
        chapters = writing_daily.chapters + excluded.chapters,
        scenes = writing_daily.scenes + excluded.scenes,
        minutes = writing_daily.minutes + excluded.minutes";

/// Brings the workflow to so many metrics, with everything that the program would keep of them.
fn fill(world: &World, id: i64, rows: i64) {
    with(world, async |db| {
        let count = "SELECT COUNT(*) FROM writing_metrics WHERE workflow_id = $1";
        let (have,): (i64,) = db.one(count, args![id]).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let take = "UPDATE writing_ids SET metric = metric + $1 RETURNING metric";
        let (last,): (i64,) = tx.one(take, args![rows - have]).await.unwrap();
        let first = last - (rows - have) + 1;
        let filled = args![id, have, rows, first - have, now_ms()];
        tx.exec(METRICS, filled).await.unwrap();
        for (level, length) in [0].into_iter().chain(SLICES_MS).enumerate() {
            let level = i64::try_from(level).unwrap();
            tx.exec(SUMS, args![id, first, level, length]).await.unwrap();
        }
        tx.exec(DAYS, args![id, first]).await.unwrap();
        let first_at = "UPDATE writing_workflows SET first_metric_at = (SELECT MIN(recorded_at) \
                        FROM writing_metrics WHERE workflow_id = $1) WHERE id = $1";
        tx.exec(first_at, args![id]).await.unwrap();
        tx.commit().await.unwrap();
        db.exec("ANALYZE", args![]).await.unwrap();
    });
}

/// What the tools say of what was filled in is what the metrics themselves say.
fn check(client: &mut Client, world: &World, id: i64) {
    let day = 86_400_000;
    for (days, part) in [(400, 0), (300, 1_234_567), (31, 7_654_321), (1, 987_654)] {
        let from = now_ms() - days * day + part;
        let words = with(world, async |db| {
            let sql = "SELECT CAST(COALESCE(SUM(value), 0) AS BIGINT) FROM writing_metrics \
                       WHERE workflow_id = $1 AND metric_type = 'words_written' \
                       AND recorded_at >= $2";
            let (words,): (i64,) = db.one(sql, args![id, from]).await.unwrap();
            words
        });
        let start = adwd::clock::Millis(from).rfc3339();
        let asked = json!({ "workflow_id": id, "date_range": { "start": start } });
        let said = client.call("get_workflow_metrics", asked);
        #[allow(clippy::cast_precision_loss, reason = "hundredths below 2^53")]
        let words = words as f64 / 100.0;
        assert_eq!(said["metrics"]["total_words_written"].as_f64(), Some(words), "since {start}");
    }
}
