//! What limits and the record add to a call, side by side with them off.
//! `cargo bench --bench access`
//!
//! Two servers in this process, over real slices and the embedded database: behind one the gate
//! stands open and remembers nothing, behind the other it limits a key and records. Each call goes
//! over HTTP on a connection that stays, to the one and to the other in turn, so that whatever else
//! the machine does meets both.
// Benchmarks print, read the clock and start programs; that is what they are for.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

#[allow(dead_code, reason = "each benchmark uses a part")]
mod common;
#[allow(dead_code, reason = "a part of what the tests use")]
#[path = "../it/mcp_support.rs"]
mod mcp_support;

use std::sync::Arc;
use std::time::Instant;

use adwd::auth::{Principal, Scope, Tier, Transport};
use adwd::clock::{Clock, SystemClock};
use adwd::config::RatesConfig;
use common::Times;
use mcp_support::{GateOptions, Options, World};
use serde_json::{Value, json};

/// Calls that are not counted.
const WARM: usize = 200;
const READS: usize = 2_000;
const WRITES: usize = 1_000;
/// What the gate may add to a median, in ms.
const READ_TARGET_MS: f64 = 0.3;
const WRITE_TARGET_MS: f64 = 1.0;

/// A server and a connection to it.
struct Side {
    world: World,
    web: reqwest::Client,
    workflow: Value,
}

impl Side {
    async fn new(on: bool) -> Side {
        let principal = Principal {
            user_id: "key:bench".to_owned(),
            transport: Transport::Http,
            tier: Tier::Team,
            scope: Scope::All,
            hourly_tenths: None,
        };
        let rates = RatesConfig { team: 1_000_000, ..RatesConfig::default() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let gate = GateOptions {
            on: on.then_some((rates, clock)),
            principal: Some(principal),
            ..GateOptions::default()
        };
        let world = World::with(Options { gate, ..Options::default() }).await;
        let mut side = Side { world, web: reqwest::Client::new(), workflow: Value::Null };
        let series = json!({ "user_id": 1, "series_id": 1, "total_books": 1, "concept": "c" });
        side.workflow = side.call("create_workflow", series).await["workflow_id"].clone();
        side
    }

    async fn ask(&self, method: &str, params: &Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self
            .web
            .post(&self.world.url)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .body(body.to_string());
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

    async fn read(&self) {
        self.call("list_active_workflows", json!({})).await;
    }

    async fn write(&self) {
        let metric = json!({ "workflow_id": self.workflow, "metric_type": "words_written",
            "metric_value": 1, "context": { "book_number": 1, "chapter_number": 1 } });
        self.call("record_production_metric", metric).await;
    }
}

/// Times of the same call on both sides, taken in turn.
async fn both(sides: &[Side; 2], count: usize, call: impl AsyncFn(&Side)) -> [Times; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for at in 0..WARM + count {
        for (side, times) in sides.iter().zip(&mut times) {
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

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let sides = [Side::new(false).await, Side::new(true).await];
        println!(
            "{:<34} {:>10} {:>10} {:>11}   {:>10} {:>10}",
            "median", "off", "on", "added", "p95 off", "p95 on"
        );
        let floor =
            both(&sides, READS, async |side| drop(side.ask("ping", &json!({})).await)).await;
        line("floor: ping", &floor, None);
        let reads = both(&sides, READS, async |side| side.read().await).await;
        line("a read: list_active_workflows", &reads, Some(READ_TARGET_MS));
        let writes = both(&sides, WRITES, async |side| side.write().await).await;
        line("a write: record_production_metric", &writes, Some(WRITE_TARGET_MS));
        let again = both(&sides, READS, async |side| side.read().await).await;
        line("a read, with 1,000 metrics stored", &again, Some(READ_TARGET_MS));
    });
    // The slices' own tasks go on for as long as there is a runtime.
    runtime.shutdown_background();
}
