//! An hour's limit as real daemons keep it: one key, 64 clients at once, two daemons on one
//! database, and the hour that outlives them.

use adwd::args;
use adwd::clock::{Clock, Millis, SystemClock};
use adwd::db::Db;
use reqwest::{Client as Web, Response};
use serde_json::{Value, json};

use crate::gate_support::{HOUR_MS, hour};
use crate::mcp_support::ok;
use crate::world::{Daemon, Engine, World, quoted};

const CLIENTS: usize = 64;
/// Calls that the key may ask in an hour.
const QUOTA: i64 = 200;
/// A read costs a tenth of a call.
const READ_TENTHS: i64 = 1;
const WRITE_TENTHS: i64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_of_two_daemons_get_one_quota_on_postgres() {
    let Some(one) = World::on(Engine::Postgres).await else { return };
    let two = World::new().await;
    two.set("database_url", &quoted(&one.database_url()));
    exactly_the_quota_passes(&[one, two]).await;
}

/// SQLite belongs to one daemon alone.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_of_a_daemon_get_one_quota_on_sqlite() {
    exactly_the_quota_passes(&[World::new().await]).await;
}

async fn exactly_the_quota_passes(worlds: &[World]) {
    let mut daemons = Vec::new();
    for world in worlds {
        daemons.push(world.daemon().await);
    }
    let words = ["key", "create", "--tier", "team", "--name", "load", "--hourly", "200", "--json"];
    let made = worlds[0].cli(&words).await.with_code(0).json();
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let series = json!({ "user_id": 1, "series_id": 1, "total_books": 1, "concept": "c" });
    let workflow =
        ok(&daemons[0].client().await, "create_workflow", series).await["workflow_id"].clone();

    let tally = all_at_once(&daemons, key, &workflow).await;
    let spent = tally.reads * READ_TENTHS + tally.writes * WRITE_TENTHS;
    assert_eq!(spent, QUOTA * WRITE_TENTHS, "all of it, and not a tenth more: {tally:?}");
    assert!(tally.reads > 0 && tally.writes > 0, "{tally:?}");

    let db = Db::open(&worlds[0].database_url()).await.unwrap();
    let user = format!("key:{id}");
    let (begun, used, refused) = hour(&db, &user).await.unwrap();
    assert_eq!((used, refused), (spent, tally.refused));
    let told = whole_seconds(begun + HOUR_MS);
    assert_eq!(tally.resets, [told], "every refusal, wherever, tells the one end of the hour");
    let count = async |sql| db.one::<(i64,)>(sql, args![]).await.unwrap().0;
    let stored = count("SELECT COUNT(*) FROM writing_metrics").await;
    assert_eq!(stored, tally.writes, "what was refused changed nothing");

    for daemon in &mut daemons {
        daemon.restart().await;
    }
    for daemon in &daemons {
        for call in [read(), write(&workflow)] {
            let sent = SystemClock.now();
            let reply = ask(&Web::new(), &daemon.url(), key, &call).await;
            let refusal = Refusal::of(reply, sent).await;
            assert_eq!(refusal.reset_s, told, "the hour goes on after a restart");
        }
    }
    for daemon in &mut daemons {
        daemon.terminate().await;
    }
    let sql = "SELECT status, COUNT(*) FROM mcp_invocations WHERE user_id = $1 \
               GROUP BY status ORDER BY status";
    let record: Vec<(String, i64)> = db.all(sql, args![&user]).await.unwrap();
    let passed = tally.reads + tally.writes;
    assert_eq!(record, [("ok".to_owned(), passed), ("refused".to_owned(), 1)]);
}

/// What 64 clients met.
#[derive(Debug, Default)]
struct Tally {
    reads: i64,
    writes: i64,
    refused: i64,
    /// Ends of the hour that refusals told, in s.
    resets: Vec<i64>,
}

/// Half of the clients read and half write, on every daemon, each until it is refused: whoever
/// writes stops where less than a call is left, whoever reads takes the rest.
async fn all_at_once(daemons: &[Daemon<'_>], key: &str, workflow: &Value) -> Tally {
    adwd::tls::install();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let reads = (n / daemons.len()).is_multiple_of(2);
            let call = if reads { read() } else { write(workflow) };
            let (url, key) = (daemons[n % daemons.len()].url(), key.to_owned());
            tokio::spawn(async move {
                let (web, mut passed) = (Web::new(), 0);
                loop {
                    let sent = SystemClock.now();
                    let reply = ask(&web, &url, &key, &call).await;
                    if reply.status() != 200 {
                        return (reads, passed, Refusal::of(reply, sent).await.reset_s);
                    }
                    let reply: Value = reply.json().await.unwrap();
                    assert_eq!(reply["result"]["isError"], false, "{reply}");
                    passed += 1;
                }
            })
        })
        .collect();
    let mut tally = Tally::default();
    for client in clients {
        let (reads, passed, reset_s) = client.await.unwrap();
        *if reads { &mut tally.reads } else { &mut tally.writes } += passed;
        tally.refused += 1;
        tally.resets.push(reset_s);
    }
    tally.resets.sort_unstable();
    tally.resets.dedup();
    tally
}

fn read() -> Value {
    json!({ "name": "list_active_workflows", "arguments": {} })
}

fn write(workflow: &Value) -> Value {
    let metric = json!({ "workflow_id": workflow, "metric_type": "words_written",
        "metric_value": 1, "context": { "book_number": 1, "chapter_number": 1 } });
    json!({ "name": "record_production_metric", "arguments": metric })
}

async fn ask(web: &Web, url: &str, key: &str, call: &Value) -> Response {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call });
    let request = web
        .post(url)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .bearer_auth(key);
    request.body(body.to_string()).send().await.unwrap()
}

/// A refusal whose headers and body agree with each other and with the clock.
struct Refusal {
    reset_s: i64,
}

impl Refusal {
    /// `sent`: when the request was.
    async fn of(reply: Response, sent: Millis) -> Refusal {
        assert_eq!(reply.status(), 429);
        let headers = reply.headers().clone();
        let header = |name: &str| -> i64 {
            let value = headers.get(name).unwrap_or_else(|| panic!("no {name}: {headers:?}"));
            value.to_str().unwrap().parse().unwrap()
        };
        let reply: Value = reply.json().await.unwrap();
        let answered = SystemClock.now();
        let data = &reply["error"]["data"];
        let reset = Millis::parse_rfc3339(data["reset_at"].as_str().unwrap()).unwrap();
        let wait_ms = data["retry_after_ms"].as_i64().unwrap();
        let reset_s = header("x-ratelimit-reset");
        assert_eq!(reset_s, whole_seconds(reset.0), "{reply}");
        assert_eq!(header("retry-after"), whole_seconds(wait_ms), "{reply}");
        // Whole calls: what is left is less than one.
        assert_eq!((header("x-ratelimit-limit"), header("x-ratelimit-remaining")), (QUOTA, 0));
        assert_eq!((&data["limit"], &data["remaining"]), (&json!(QUOTA), &json!(0)), "{reply}");
        // Whoever waits as long as it says comes after the end of the hour, and not much after.
        let now = reset.plus_ms(-wait_ms);
        assert!(now >= sent && now <= answered, "{sent:?} {now:?} {answered:?}: {reply}");
        Refusal { reset_s }
    }
}

/// Rounded up: who waits so long has waited enough.
fn whole_seconds(ms: i64) -> i64 {
    (ms + 999) / 1_000
}
