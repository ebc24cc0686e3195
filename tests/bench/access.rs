//! What authentication, limits and the record add to a call, side by side with them off, and how
//! much memory a daemon takes. `cargo bench --bench access`
//!
//! Two servers in this process for each engine, over real slices: one has no guard, and a gate that
//! stands open and remembers nothing; the other authenticates a key, limits it and records. Each
//! call goes to the one and to the other in turn, on a connection that stays, so that whatever else
//! the machine does meets both. Over HTTP the key is shown with each request; over `adwd stdio` the
//! caller is the owner, known by the uid of the socket's peer on both sides, and not limited.
// Benchmarks print, read the clock and start programs; that is what they are for.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

#[allow(dead_code, reason = "each benchmark uses a part")]
mod common;
#[allow(dead_code, reason = "a part of what the tests use")]
#[path = "../it/mcp_support.rs"]
mod mcp_support;
#[allow(dead_code, reason = "a part of what the tests use")]
#[path = "../it/support/postgres.rs"]
mod postgres;

use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adwd::auth::{NewKey, Principal, Scope, Tier, Transport};
use adwd::clock::{Clock, SystemClock};
use adwd::config::{AccessConfig, RatesConfig};
use common::{Client, Times};
use mcp_support::{GateOptions, Options, World};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Calls that are not counted.
const WARM: usize = 200;
const READS: usize = 2_000;
const WRITES: usize = 1_000;
/// What may be added to a median with the embedded database, in ms.
const READ_TARGET_MS: f64 = 0.3;
const WRITE_TARGET_MS: f64 = 1.0;
/// Calls between two looks at a daemon's memory.
const CALLS: usize = 10_000;
/// Calls on their way at once meanwhile.
const FLIGHT: usize = 16;
/// How long an idle daemon is watched.
const IDLE: Duration = Duration::from_secs(10);

/// A server and a connection to it on each road.
struct Side {
    world: World,
    web: Web,
    stdio: Client,
    workflow: Value,
    /// Where `adwd stdio` finds the socket.
    _folder: TempDir,
}

/// A connection over HTTP, with a key or without.
#[derive(Clone)]
struct Web {
    client: reqwest::Client,
    url: String,
    key: Option<String>,
}

impl Side {
    async fn new(on: bool, database: Option<String>) -> Side {
        let world = World::with(options(on, database)).await;
        let key = if on { Some(key_of(&world).await) } else { None };
        let web = Web { client: reqwest::Client::new(), url: world.url.clone(), key };
        let folder = tempfile::Builder::new().prefix("adwd-bench-").tempdir_in("/tmp").unwrap();
        let stdio = stdio(folder.path(), &world);
        let series = json!({ "user_id": 1, "series_id": 1, "total_books": 1, "concept": "c" });
        let workflow = web.call("create_workflow", series).await["workflow_id"].clone();
        Side { world, web, stdio, workflow, _folder: folder }
    }

    fn metric(&self) -> Value {
        json!({ "workflow_id": self.workflow, "metric_type": "words_written",
            "metric_value": 1, "context": { "book_number": 1, "chapter_number": 1 } })
    }
}

fn options(on: bool, database: Option<String>) -> Options {
    if on {
        let rates = RatesConfig { team: 1_000_000, ..RatesConfig::default() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let gate = GateOptions { on: Some((rates, clock)), principal: None, database };
        return Options { gate, access: AccessConfig::default(), ..Options::default() };
    }
    let principal = Principal {
        user_id: "key:bench".to_owned(),
        transport: Transport::Http,
        tier: Tier::Team,
        scope: Scope::All,
        hourly_tenths: None,
    };
    let gate = GateOptions { on: None, principal: Some(principal), database };
    Options { gate, guarded: false, ..Options::default() }
}

async fn key_of(world: &World) -> String {
    let asked = NewKey { tier: "team".to_owned(), name: "bench".to_owned(), ..NewKey::default() };
    world.deps.access.create(&Principal::unix(0), &asked).await.unwrap().key
}

/// The program's own bridge to that world's socket.
fn stdio(folder: &std::path::Path, world: &World) -> Client {
    let socket = folder.join("sock");
    symlink(&world.socket, &socket).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_adwd"));
    // In no repository: it would have it served.
    command
        .args(["stdio", "--no-start"])
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("ADWD_SOCKET", socket);
    Client::of(command)
}

impl Web {
    async fn ask(&self, method: &str, params: &Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut request = self
            .client
            .post(&self.url)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .body(body.to_string());
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 200);
        serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap()
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        let mut reply =
            self.ask("tools/call", &json!({ "name": tool, "arguments": arguments })).await;
        let result = reply["result"].take();
        assert_eq!(result["isError"], false, "{tool}: {reply} {result}");
        result["structuredContent"].clone()
    }
}

/// Times of the same call on both sides, taken in turn.
async fn both(sides: &mut [Side; 2], count: usize, call: impl AsyncFn(&mut Side)) -> [Times; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for at in 0..WARM + count {
        for (side, times) in sides.iter_mut().zip(&mut times) {
            let begun = Instant::now();
            call(side).await;
            if at >= WARM {
                times.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
    }
    times.map(Times::new)
}

fn line(what: &str, [off, on]: &[Times; 2], target_ms: Option<f64>) {
    let added = on.median() - off.median();
    let verdict = match target_ms {
        Some(target) if added > target => format!("most {target:.1} ms  MISSED"),
        Some(target) => format!("most {target:.1} ms"),
        None => String::new(),
    };
    println!(
        "{what:<34} {:>7.3} ms {:>7.3} ms {added:>+8.3} ms   {:>7.3} ms {:>7.3} ms   {verdict}",
        off.median(),
        on.median(),
        off.quantile(0.95),
        on.quantile(0.95),
    );
}

/// All lines of one engine. `judged`: whether the targets are for it.
async fn engine(name: &str, databases: [Option<String>; 2], judged: bool) {
    let [off, on] = databases;
    let mut sides = [Side::new(false, off).await, Side::new(true, on).await];
    let target = |ms| judged.then_some(ms);
    println!(
        "\n{name:<34} {:>10} {:>10} {:>11}   {:>10} {:>10}",
        "off", "on", "added", "p95 off", "p95 on"
    );
    let times = both(&mut sides, READS, async |side| {
        side.web.ask("ping", &json!({})).await;
    });
    line("http, floor: ping", &times.await, None);
    for what in ["http, a read", "http, a read again"] {
        let times = both(&mut sides, READS, async |side| {
            side.web.call("list_active_workflows", json!({})).await;
        });
        line(what, &times.await, target(READ_TARGET_MS));
    }
    let times = both(&mut sides, WRITES, async |side| {
        side.web.call("record_production_metric", side.metric()).await;
    });
    line("http, a write", &times.await, target(WRITE_TARGET_MS));
    let times = both(&mut sides, READS, async |side| {
        side.stdio.ask("ping", json!({}));
    });
    line("stdio, floor: ping", &times.await, None);
    let times = both(&mut sides, READS, async |side| {
        side.stdio.call("list_active_workflows", json!({}));
    });
    line("stdio, a read", &times.await, target(READ_TARGET_MS));
    let times = both(&mut sides, WRITES, async |side| {
        let metric = side.metric();
        side.stdio.call("record_production_metric", metric);
    });
    line("stdio, a write", &times.await, target(WRITE_TARGET_MS));
    on_record(&sides[1]).await;
}

/// What was measured was done: each call is on record, with its end.
async fn on_record(side: &Side) {
    side.world.recorded().await;
    let sql = "SELECT COUNT(*) FROM mcp_invocations WHERE status = 'ok' \
               AND tool_name IN ('list_active_workflows', 'record_production_metric')";
    let (ok,): (i64,) = side.world.db.one(sql, adwd::args![]).await.unwrap();
    let calls = 3 * (WARM + READS) + 2 * (WARM + WRITES);
    assert_eq!(usize::try_from(ok).unwrap(), calls);
}

/// How much memory a daemon of its own takes, before and after it was asked a lot.
async fn memory() {
    let world = common::World::start("");
    let made = world
        .run(&["key", "create", "--tier", "team", "--name", "b", "--hourly", "1000000", "--json"]);
    let made: Value = serde_json::from_slice(&made).unwrap();
    let address = std::fs::read_to_string(world.dir().join("state/http.addr")).unwrap();
    let web = Web {
        client: reqwest::Client::new(),
        url: format!("http://{}/mcp", address.trim()),
        key: Some(made["key"].as_str().unwrap().to_owned()),
    };
    println!("\nmemory of a daemon (resident)");
    println!("{:<34} {:>7.1} MiB", "idle", world.resident_mib());
    for round in 1..=3 {
        let begun = Instant::now();
        let tasks: Vec<_> = (0..FLIGHT)
            .map(|_| {
                let web = web.clone();
                tokio::spawn(async move {
                    for _ in 0..CALLS / FLIGHT {
                        web.call("list_active_workflows", json!({})).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let took = begun.elapsed();
        #[allow(clippy::cast_precision_loss, reason = "a count")]
        let rate = CALLS as f64 / took.as_secs_f64();
        let what = format!("after {} calls by a key", round * CALLS);
        println!(
            "{what:<34} {:>7.1} MiB   {rate:.0} calls/s, {FLIGHT} at once",
            world.resident_mib()
        );
    }
    let before = world.processor_ticks();
    tokio::time::sleep(IDLE).await;
    let used = world.processor_ticks() - before;
    println!("{:<34} {used:>7} ticks of the processor in {} s", "idle again", IDLE.as_secs());
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        engine("SQLite, medians", [None, None], true).await;
        let databases = [postgres::fresh_database(), postgres::fresh_database()];
        if databases[0].is_some() {
            engine("PostgreSQL, medians", databases, false).await;
        }
        memory().await;
    });
    // The slices' own tasks go on for as long as there is a runtime.
    runtime.shutdown_background();
}
