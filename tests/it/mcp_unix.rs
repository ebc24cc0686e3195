//! The socket and the byte bridge: half-closes, notifications, disconnects, the end.

use std::time::{Duration, Instant};

use adwd::mcp::{Hello, bridge};
use rmcp::model::{SubscribeRequestParams, SubscriptionFilter};
use rmcp::service::SubscriptionEnd;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::mcp_support::*;
use adwd::mcp::bounds::MESSAGE_MAX_BYTES;

fn line(id: u32, method: &str, params: Value) -> String {
    let mut params = params;
    params["_meta"] = json!({
        "progressToken": id,
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "1" },
    });
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string() + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_of_input_pending_replies_are_still_carried_out() {
    let world = World::new().await;
    let client = world.client((Road::Unix, Era::Modern)).await;
    let run = ok(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    let args = json!({ "adw_id": run["adw_id"], "timeout_s": 7 });
    let input = line(1, "tools/list", json!({}))
        + &line(2, "tools/call", json!({ "name": "wait_adw_workflow", "arguments": args }));
    let mut output = Vec::new();
    let began = Instant::now();
    bridge(&world.socket, &Hello::default(), input.as_bytes(), &mut output).await.unwrap();
    // Longer than the 5 s that rmcp alone would give, and not much longer than the wait.
    assert!(began.elapsed() >= Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let text = String::from_utf8(output).unwrap();
    let replies: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(replies.iter().all(|reply| reply["jsonrpc"] == "2.0"), "{text}");
    let of = |id: u32| replies.iter().find(|reply| reply["id"] == id).unwrap();
    // One at the beginning, one while nothing happened.
    let told: Vec<f64> = replies
        .iter()
        .filter(|reply| reply["method"] == "notifications/progress")
        .map(|reply| reply["params"]["progress"].as_f64().unwrap())
        .collect();
    assert!(told.len() >= 2 && told.windows(2).all(|pair| pair[0] < pair[1]), "{told:?}");
    assert!(of(1)["result"]["tools"].is_array());
    assert_eq!(of(2)["result"]["structuredContent"]["ended"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_input_ends_at_once_and_says_nothing() {
    let world = World::new().await;
    let mut output = Vec::new();
    let began = Instant::now();
    bridge(&world.socket, &Hello::default(), &b""[..], &mut output).await.unwrap();
    assert!(output.is_empty() && began.elapsed() < Duration::from_secs(2));
    let missing = world.socket.with_extension("none");
    assert!(bridge(&missing, &Hello::default(), &b""[..], &mut output).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_ends_its_wait_and_not_the_run() {
    let world = World::new().await;
    let client = world.client((Road::Unix, Era::Modern)).await;
    let run = ok(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    let mut raw = UnixStream::connect(&world.socket).await.unwrap();
    let args = json!({ "adw_id": run["adw_id"], "timeout_s": 50 });
    let call = line(1, "tools/call", json!({ "name": "wait_adw_workflow", "arguments": args }));
    raw.write_all(call.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(raw);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let run = ok(&client, "get_adw_state", json!({ "adw_id": run["adw_id"] })).await;
    assert_eq!(run["status"], "queued");
    // Nothing hangs on: the server ends without waiting for the 50 s.
    let began = Instant::now();
    drop(client);
    world.stop.cancel();
    for task in world.served {
        task.await.unwrap().unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_old_era_hears_of_what_it_subscribed_to() {
    let world = World::new().await;
    let ear = Ear::named("old");
    let client = world.connect((Road::Unix, Era::Legacy), ear.clone()).await;
    let run = ok(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    let uri = format!("adw://runs/{}", run["adw_id"].as_str().unwrap());
    #[allow(deprecated)]
    client.subscribe(SubscribeRequestParams::new(uri.clone())).await.unwrap();
    ok(&client, "cancel_adw_workflow", json!({ "adw_id": run["adw_id"] })).await;
    let told = format!("updated {uri}");
    until("an update", || ear.heard().contains(&told)).await;
    ok(&client, "trigger_adw_workflow", json!({ "issue_number": 2 })).await;
    until("list_changed", || ear.heard().contains(&"list_changed".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_changes_ends_with_a_result_when_the_daemon_stops() {
    for road in [Road::Unix, Road::Http] {
        let world = World::new().await;
        let client = world.client((road, Era::Modern)).await;
        let run = ok(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
        let uri = format!("adw://runs/{}", run["adw_id"].as_str().unwrap());
        let filter = SubscriptionFilter::builder()
            .resources_list_changed()
            .resource_subscription(uri.clone())
            .resource_subscription("file:///etc/passwd")
            .build();
        let mut changes = client.listen(filter).await.unwrap();
        assert_eq!(changes.acknowledged().resource_subscriptions, Some(vec![uri.clone()]));
        tokio::time::sleep(Duration::from_millis(200)).await;
        ok(&client, "cancel_adw_workflow", json!({ "adw_id": run["adw_id"] })).await;
        ok(&client, "trigger_adw_workflow", json!({ "issue_number": 2 })).await;
        let mut heard = String::new();
        while !(heard.contains(&uri) && heard.contains("list_changed")) {
            let next = tokio::time::timeout(Duration::from_secs(5), changes.next()).await;
            heard += &serde_json::to_string(&next.unwrap().unwrap().unwrap()).unwrap();
        }
        let began = Instant::now();
        world.stop.cancel();
        let end = async { while changes.next().await.is_ok_and(|note| note.is_some()) {} };
        tokio::time::timeout(Duration::from_secs(5), end).await.unwrap();
        let graceful = matches!(changes.end(), Some(SubscriptionEnd::Graceful(_)));
        assert!(graceful, "{road:?}: {:?}", changes.end());
        for task in world.served {
            task.await.unwrap().unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{road:?} {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_answered_when_the_daemon_stops() {
    for road in [Road::Unix, Road::Http] {
        let world = World::new().await;
        let client = world.client((road, Era::Modern)).await;
        let run = ok(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
        let args = json!({ "adw_id": run["adw_id"], "timeout_s": 50 });
        let stop = world.stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            stop.cancel();
        });
        let waited = ok(&client, "wait_adw_workflow", args).await;
        assert_eq!(waited["ended"], false, "{road:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_oversized_lines_and_late_cancels_do_not_end_a_connection() {
    let world = World::new().await;
    let mut raw = UnixStream::connect(&world.socket).await.unwrap();
    raw.write_all(line(1, "tools/list", json!({})).as_bytes()).await.unwrap();
    let huge = "x".repeat(MESSAGE_MAX_BYTES + 1) + "\n";
    for nonsense in ["\n", "not json\n", "[]\n", "{\"jsonrpc\":\"2.0\"}\n", huge.as_str()] {
        raw.write_all(nonsense.as_bytes()).await.unwrap();
    }
    let late = json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } });
    raw.write_all(format!("{late}\n").as_bytes()).await.unwrap();
    raw.write_all(line(9, "prompts/list", json!({})).as_bytes()).await.unwrap();
    raw.shutdown().await.unwrap();
    let mut text = String::new();
    raw.read_to_string(&mut text).await.unwrap();
    let replies: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(replies.iter().any(|r| r["id"] == 9 && r["result"]["prompts"].is_array()), "{text}");
}
