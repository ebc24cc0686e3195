//! The gate as clients meet it: limits over HTTP and the socket, costs, and calls on record.

use std::sync::Arc;

use adwd::args;
use adwd::auth::{Principal, Tier};
use adwd::clock::{Clock, TestClock};
use adwd::config::RatesConfig;
use adwd::mcp::AdwServer;
use reqwest::{Client as Web, Response};
use rmcp::ServiceExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::gate_support::{HOUR_MS, NOW, hour, key, rows, with_record};
use crate::mcp_support::*;

/// A world whose gate limits by these rates, with a clock of its own; on HTTP everybody is a key of
/// that tier.
async fn gated(rates: RatesConfig, tier: Tier) -> (World, Arc<TestClock>) {
    gated_on(None, rates, tier).await
}

async fn gated_on(
    database: Option<String>,
    rates: RatesConfig,
    tier: Tier,
) -> (World, Arc<TestClock>) {
    let clock = Arc::new(TestClock::new(NOW));
    let gate = GateOptions {
        on: Some((rates, clock.clone() as Arc<dyn Clock>)),
        principal: Some(key(tier, None)),
        database,
    };
    (World::with(Options { gate, ..Options::default() }).await, clock)
}

fn team(calls: u32) -> RatesConfig {
    RatesConfig { team: calls, ..RatesConfig::default() }
}

async fn ask(world: &World, method: &str, params: Value) -> Response {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let request = Web::new()
        .post(&world.url)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    request.body(body.to_string()).send().await.unwrap()
}

async fn tool(world: &World, name: &str, arguments: Value) -> Response {
    ask(world, "tools/call", json!({ "name": name, "arguments": arguments })).await
}

fn header(reply: &Response, name: &str) -> Option<i64> {
    Some(reply.headers().get(name)?.to_str().unwrap().parse().unwrap())
}

/// Limit, remaining and reset as the headers tell them.
fn told(reply: &Response) -> [Option<i64>; 3] {
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"].map(|n| header(reply, n))
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_http_says_429_and_the_time_it_tells_is_right() {
    let (world, clock) = gated(team(2), Tier::Team).await;
    let trigger = async |issue: u32| {
        let arguments = json!({ "issue_number": issue });
        tool(&world, "trigger_adw_workflow", arguments).await
    };
    let reset = (NOW.0 + HOUR_MS + 999) / 1_000;
    for (issue, left) in [(1, 1), (2, 0)] {
        let reply = trigger(issue).await;
        assert_eq!(reply.status(), 200);
        assert_eq!(told(&reply), [Some(2), Some(left), Some(reset)]);
        assert_eq!(header(&reply, "retry-after"), None);
    }
    clock.advance(1_234_567);
    let reply = trigger(3).await;
    assert_eq!(reply.status(), 429);
    assert_eq!(told(&reply), [Some(2), Some(0), Some(reset)]);
    let wait_s = header(&reply, "retry-after").unwrap();
    let body: Value = reply.json().await.unwrap();
    assert_eq!((&body["id"], &body["error"]["code"]), (&json!(1), &json!(-32_029)));
    let data = &body["error"]["data"];
    assert_eq!(data["code"], "rate_limited");
    assert_eq!(data["retry_after_ms"], HOUR_MS - 1_234_567);
    assert_eq!(wait_s, (HOUR_MS - 1_234_567 + 999) / 1_000);
    assert!(body["error"]["message"].as_str().unwrap().contains("2 calls an hour"), "{body}");
    // A second earlier is too early; then is not.
    clock.advance((wait_s - 1) * 1_000);
    let early = trigger(3).await;
    assert_eq!((early.status().as_u16(), header(&early, "retry-after")), (429, Some(1)));
    clock.advance(1_000);
    let reply = trigger(3).await;
    assert_eq!((reply.status().as_u16(), told(&reply)[1]), (200, Some(1)));
    world.recorded().await;
    let refused = rows(&world.db).await.into_iter().filter(|row| row.1 == "refused").count();
    assert_eq!(refused, 1, "the first of the hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_request_costs() {
    let (world, _) = gated(team(1_000), Tier::Team).await;
    let mut used = 0;
    let mut expect = async |what: &str, cost: i64| {
        let now = hour(&world.db, "key:k1").await.map_or(0, |(_, used, _)| used);
        assert_eq!(now - used, cost, "{what}");
        used = now;
    };
    let reads: [(&str, Value); 6] = [
        ("resources/list", json!({})),
        ("resources/read", json!({ "uri": "adw://runs" })),
        ("prompts/get", json!({ "name": "summarize_runs" })),
        ("tools/call", json!({ "name": "list_adw_workflows", "arguments": {} })),
        ("tools/call", json!({ "name": "no_such_tool", "arguments": {} })),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/resource", "uri": "adw://runs/{adw_id}" },
                    "argument": { "name": "adw_id", "value": "" } }),
        ),
    ];
    for (method, params) in reads {
        ask(&world, method, params.clone()).await;
        expect(&format!("{method} {params}"), 1).await;
    }
    let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "t", "version": "1" } });
    for (method, params) in [
        ("initialize", hello),
        ("ping", json!({})),
        ("tools/list", json!({})),
        ("prompts/list", json!({})),
        ("resources/templates/list", json!({})),
        ("no/such", json!({})),
    ] {
        let reply = ask(&world, method, params).await;
        assert_eq!(told(&reply), [None; 3], "{method}");
        expect(method, 0).await;
    }
    tool(&world, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    expect("a trigger", 10).await;
    tool(&world, "workflow.start", json!({ "workflow_name": "bug-fix" })).await;
    expect("a write by its alias", 10).await;
    let client = world.client((Road::Http, Era::Modern)).await;
    expect("a handshake", 0).await;
    ok(&client, "list_adw_projects", json!({})).await;
    expect("a read of the newest revision", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_beyond_the_limit_is_refused_before_its_stream_begins() {
    let (world, clock) = gated(team(1), Tier::Team).await;
    let listen = async || {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen",
            "params": { "_meta": meta, "notifications": { "resourcesListChanged": true } } });
        let request = Web::new()
            .post(&world.url)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "subscriptions/listen");
        request.body(body.to_string()).send().await.unwrap()
    };
    let reply = listen().await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    assert_eq!(told(&reply)[..2], [Some(1), Some(0)], "a stream tells it as well");
    assert_eq!(hour(&world.db, "key:k1").await.unwrap().1, 1, "paid once");
    drop(reply);
    for _ in 0..9 {
        tool(&world, "list_adw_projects", json!({})).await;
    }
    let reply = listen().await;
    assert_eq!((reply.status().as_u16(), header(&reply, "retry-after")), (429, Some(3_600)));
    let body: Value = reply.json().await.unwrap();
    assert_eq!(body["error"]["data"]["code"], "rate_limited", "{body}");
    clock.advance(HOUR_MS);
    assert_eq!(listen().await.status(), 200);
}

/// Nobody on the socket has a limit; but who had one is told by results.
#[tokio::test(flavor = "multi_thread")]
async fn without_http_the_limit_is_a_result_that_says_when() {
    let (world, clock) = gated(RatesConfig::default(), Tier::Team).await;
    let principal = Principal { hourly_tenths: Some(12), ..Principal::unix(4_711) };
    let server = AdwServer::new(world.deps.clone(), world.stop.clone());
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = server.of(principal, adwd::mcp::Hello::default(), CancellationToken::new());
    let served = tokio::spawn(async move { server.serve(far).await.unwrap().waiting().await });
    let client = Ear::named("test").serve(near).await.unwrap();
    ok(&client, "workflow_start", json!({ "workflow_name": "bug-fix" })).await;
    clock.advance(600_000);
    let error = refused(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    assert_eq!(
        (&error["code"], &error["retry_after_ms"]),
        (&json!("rate_limited"), &json!(3_000_000))
    );
    assert!(error["hint"].as_str().unwrap().contains("in 3000 s"), "{error}");
    // Step workflows tell errors in a shape of their own.
    let result = call(&client, "workflow_start", json!({ "workflow_name": "bug-fix" })).await;
    let told = result.structured_content.unwrap();
    assert_eq!(
        (&told["code"], &told["retry_after_ms"]),
        (&json!("rate_limited"), &json!(3_000_000))
    );
    for _ in 0..2 {
        ok(&client, "list_adw_projects", json!({})).await;
    }
    let error = client.list_all_resources().await.unwrap_err().to_string();
    assert!(error.contains("Rate limit exceeded"), "{error}");
    clock.advance(2_999_999);
    refused(&client, "list_adw_projects", json!({})).await;
    clock.advance(1);
    ok(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    drop(client);
    served.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_with_progress_tells_the_limit_in_its_head() {
    let (world, _) = gated(team(10), Tier::Team).await;
    let run = tool(&world, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    let run: Value = run.json().await.unwrap();
    let id = &run["result"]["structuredContent"]["adw_id"];
    let params = json!({ "name": "wait_adw_workflow", "_meta": { "progressToken": "t" },
        "arguments": { "adw_id": id, "timeout_s": 5 } });
    let reply = ask(&world, "tools/call", params).await;
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    assert_eq!(told(&reply)[..2], [Some(10), Some(8)], "1 for the trigger, 0.1 for the wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_client_hangs_up_is_interrupted() {
    let (world, _) = gated(team(10), Tier::Team).await;
    let run = tool(&world, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    let run: Value = run.json().await.unwrap();
    let id = run["result"]["structuredContent"]["adw_id"].clone();
    let idle = world.changes.listeners();
    let arguments = json!({ "adw_id": id, "timeout_s": 50 });
    tokio::select! {
        _ = tool(&world, "wait_adw_workflow", arguments) => panic!("answered too early"),
        () = until("a wait", || world.changes.listeners() > idle) => {}
    }
    until("the end of the wait", || world.changes.listeners() == idle).await;
    let told = crate::world::eventually("its end is on record", 10, async || {
        world.recorded().await;
        let last = rows(&world.db).await.pop().unwrap();
        if last.1 == "open" { Err(format!("{last:?}")) } else { Ok(last) }
    })
    .await;
    let word = |word: &str| word.to_owned();
    assert_eq!(told, (word("wait_adw_workflow"), word("interrupted"), Some(word("hung_up"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_limited_hears_nothing_of_limits_and_is_on_record() {
    let clock = Arc::new(TestClock::new(NOW));
    let rates = RatesConfig { free: 1, solo: 1, team: 1, enterprise: 1, ..RatesConfig::default() };
    let on = Some((rates, clock as Arc<dyn Clock>));
    let gate = GateOptions { on, ..GateOptions::default() };
    let world = World::with(Options { gate, ..Options::default() }).await;
    for way in WAYS {
        let client = world.client(way).await;
        for _ in 0..30 {
            ok(&client, "list_adw_projects", json!({})).await;
        }
    }
    let reply = tool(&world, "list_adw_projects", json!({})).await;
    assert_eq!(told(&reply), [None; 3], "loopback without a key");
    world.recorded().await;
    let stored = rows(&world.db).await;
    assert_eq!(stored.len(), 121);
    assert!(stored.iter().all(|row| row.1 == "ok"), "{stored:?}");
    let quotas: Vec<(String,)> = world.db.all("SELECT user_id FROM quotas", args![]).await.unwrap();
    assert_eq!(quotas, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_on_record_with_their_run_their_end_and_no_secret() {
    let (world, _) = gated(RatesConfig::default(), Tier::Free).await;
    let secret = "ghp_abcdefghij0123456789";
    let socket = world.client((Road::Unix, Era::Modern)).await;
    let run = ok(
        &socket,
        "trigger_adw_workflow",
        json!({ "issue_number": 7, "idempotency_key": "sesame", "model": secret }),
    )
    .await;
    ok(&socket, "get_adw_state", json!({ "adw_id": run["adw_id"] })).await;
    refused(&socket, "get_adw_state", json!({ "adw_id": "nosuch" })).await;
    tool(&world, "trigger_adw_workflow", json!({ "issue_number": 7 })).await;
    tool(&world, "no_such_tool", json!({ "password": "hunter22" })).await;
    let list = async |filter: Value| -> Vec<Value> {
        let page = ok(&socket, "list_mcp_invocations", filter).await;
        page["invocations"].as_array().unwrap().clone()
    };
    world.recorded().await;
    let of_run = list(json!({ "adw_id": run["adw_id"] })).await;
    let tools: Vec<&Value> = of_run.iter().map(|call| &call["tool_name"]).collect();
    assert_eq!(tools, ["get_adw_state", "trigger_adw_workflow"], "newest first");
    let uid = format!("uid:{}", nix::unistd::geteuid().as_raw());
    let trigger = &of_run[1];
    assert_eq!((&trigger["user_id"], &trigger["tier"]), (&json!(uid), &json!("owner")));
    assert_eq!((&trigger["transport"], &trigger["status"]), (&json!("unix"), &json!("ok")));
    assert_eq!(
        trigger["params"],
        json!({ "issue_number": 7, "idempotency_key": "***", "model": "***" })
    );
    assert!(trigger["duration_ms"].is_i64() && trigger["request_id"].is_string());
    let refused = list(json!({ "status": "refused" })).await;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["error_code"], "not_allowed");
    assert_eq!((&refused[0]["user_id"], &refused[0]["tier"]), (&json!("key:k1"), &json!("free")));
    let failed = list(json!({ "status": "error", "user_id": uid })).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["error_code"], "unknown_run");
    let open = list(json!({ "status": "open" })).await;
    assert_eq!(open.len(), 1, "the asking itself: {open:?}");
    assert_eq!(open[0]["tool_name"], "list_mcp_invocations");
    let stored: Vec<(String,)> =
        world.db.all("SELECT params FROM mcp_invocations", args![]).await.unwrap();
    let stored = format!("{stored:?}");
    for word in [secret, "sesame", "hunter22"] {
        assert!(!stored.contains(word), "{stored}");
    }
    // What everybody asked is for those who manage keys.
    let reply = tool(&world, "list_mcp_invocations", json!({})).await;
    let reply: Value = reply.json().await.unwrap();
    assert_eq!(reply["result"]["structuredContent"]["error"]["code"], "not_allowed");
}

/// It changes a run, so whoever tries it is on record and pays, also where the tier is too low.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_by_task_that_is_not_allowed_is_refused_recorded_and_paid_for() {
    let (world, _) = gated(RatesConfig::default(), Tier::Free).await;
    let socket = world.client((Road::Unix, Era::Modern)).await;
    let run = ok(&socket, "trigger_adw_workflow", json!({ "issue_number": 7 })).await;
    let client = world.connect((Road::Http, Era::Modern), Ear::with_tasks()).await;
    let id = run["adw_id"].as_str().unwrap();
    let error = client.cancel_task(rmcp::model::CancelTaskParams::new(id)).await.unwrap_err();
    assert!(error.to_string().contains("Team tier required"), "{error}");
    let state = ok(&socket, "get_adw_state", json!({ "adw_id": id })).await;
    assert!(state["status"] != "cancelled" && state["status"] != "stopping", "{state}");
    world.recorded().await;
    let filter = json!({ "status": "refused", "adw_id": id });
    let calls = ok(&socket, "list_mcp_invocations", filter).await;
    let call = &calls["invocations"][0];
    assert_eq!((&call["tool_name"], &call["user_id"]), (&json!("tasks/cancel"), &json!("key:k1")));
    assert_eq!(call["error_code"], "not_allowed");
    assert_eq!(hour(&world.db, "key:k1").await.unwrap().1, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_has_its_own_log_of_who_steered_it() {
    let (world, _) = gated(RatesConfig::default(), Tier::Team).await;
    let run = tool(&world, "trigger_adw_workflow", json!({ "issue_number": 7 })).await;
    let run: Value = run.json().await.unwrap();
    let id = run["result"]["structuredContent"]["adw_id"].as_str().unwrap().to_owned();
    let socket = world.client((Road::Unix, Era::Modern)).await;
    ok(&socket, "cancel_adw_workflow", json!({ "adw_id": id })).await;
    let root = world.content.parent().unwrap().join("repo-demo");
    let log = root.join("logs/demo/local").join(&id).join("mcp_trigger.log");
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<[&Value; 4]> = lines
        .iter()
        .map(|line| ["tool_name", "user_id", "tier", "transport"].map(|field| &line[field]))
        .collect();
    let uid = json!(format!("uid:{}", nix::unistd::geteuid().as_raw()));
    let word = |word: &str| json!(word);
    assert_eq!(
        told,
        [
            [&word("trigger_adw_workflow"), &word("key:k1"), &word("team"), &word("http")],
            [&word("cancel_adw_workflow"), &uid, &word("owner"), &word("unix")],
        ]
    );
    for line in &lines {
        assert_eq!((&line["issue_number"], &line["adw_id"]), (&json!("7"), &json!(id)));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_only_reads_without_a_limit_are_answered() {
    let (world, _) = gated(team(100), Tier::Team).await;
    let socket = world.client((Road::Unix, Era::Modern)).await;
    with_record(&world.db, false).await;
    ok(&socket, "list_adw_projects", json!({})).await;
    let error = refused(&socket, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    assert_eq!(error["code"], "database");
    assert!(error["message"].as_str().unwrap().contains("nothing was done"), "{error}");
    // This family tells errors in a shape of its own.
    let result = call(&socket, "workflow_start", json!({ "workflow_name": "bug-fix" })).await;
    assert_eq!(result.is_error, Some(true));
    assert_eq!(result.structured_content.unwrap()["code"], "database");
    for name in ["list_adw_projects", "trigger_adw_workflow"] {
        let reply: Value =
            tool(&world, name, json!({ "issue_number": 1 })).await.json().await.unwrap();
        assert_eq!(reply["result"]["structuredContent"]["error"]["code"], "database", "{name}");
    }
    let runs = ok(&socket, "list_adw_workflows", json!({})).await;
    assert_eq!(runs["total"], 0, "nothing was begun");
    assert_eq!(hour(&world.db, "key:k1").await, None, "and nothing taken");
    with_record(&world.db, true).await;
    ok(&socket, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
}

/// 64 clients ask over HTTP for more than there is.
async fn flooded(world: World, limit: u32) {
    let mut clients = Vec::new();
    let (url, web) = (world.url.clone(), Web::new());
    for _ in 0..64 {
        let (url, web) = (url.clone(), web.clone());
        clients.push(tokio::spawn(async move {
            let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": { "name": "list_adw_projects", "arguments": {} } });
            let mut passed = 0_u32;
            loop {
                let request = web
                    .post(&url)
                    .header("accept", "application/json, text/event-stream")
                    .header("content-type", "application/json");
                let reply = request.body(body.to_string()).send().await.unwrap();
                match reply.status().as_u16() {
                    200 => passed += 1,
                    429 => {
                        assert_eq!(header(&reply, "retry-after"), Some(3_600));
                        return passed;
                    }
                    other => panic!("{other}: {:?}", reply.text().await),
                }
            }
        }));
    }
    let mut passed = 0;
    for client in clients {
        passed += client.await.unwrap();
    }
    assert_eq!(passed, limit * 10, "reads: ten a call");
    world.recorded().await;
    let answered = rows(&world.db).await.into_iter().filter(|row| row.1 == "ok").count();
    assert_eq!(answered, passed as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_over_http_get_the_quota_and_no_more_on_sqlite() {
    let (world, _) = gated(team(60), Tier::Team).await;
    flooded(world, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_over_http_get_the_quota_and_no_more_on_postgres() {
    let Some(s) = crate::db::postgres().await else { return };
    let (world, _) = gated_on(Some(s.url.clone()), team(60), Tier::Team).await;
    flooded(world, 60).await;
}
