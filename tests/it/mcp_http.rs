//! What HTTP adds: origins, hosts, media types, sizes, and JSON or event streams as asked.

use reqwest::{Client as Web, Response};
use serde_json::{Value, json};

use crate::mcp_support::*;
use adwd::mcp::bounds::BODY_MAX_BYTES;

async fn post(world: &World, headers: &[(&str, &str)], body: String) -> Response {
    let mut request = Web::new()
        .post(&world.url)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).send().await.unwrap()
}

fn legacy_list() -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_and_names_of_this_machine_are_served() {
    let world = World::new().await;
    for origin in ["http://localhost:5173", "http://127.0.0.1", "http://[::1]:8080"] {
        let reply = post(&world, &[("origin", origin)], legacy_list()).await;
        assert_eq!(reply.status(), 200, "{origin}");
    }
    for origin in [
        "http://evil.example.com",
        "http://localhost.evil.example.com",
        "http://127.0.0.1.evil.example.com:80",
        "null",
        "file://",
    ] {
        let reply = post(&world, &[("origin", origin)], legacy_list()).await;
        assert_eq!(reply.status(), 403, "{origin}");
    }
    let reply = post(&world, &[("host", "evil.example.com")], legacy_list()).await;
    assert_eq!(reply.status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_message_is_answered_as_json_rpc_has_it() {
    let world = World::new().await;
    for (body, code) in [
        ("{bad", -32_700),
        ("", -32_700),
        ("[]", -32_600),
        ("\"x\"", -32_600),
        (r#"{"jsonrpc":"2.0","id":5}"#, -32_600),
    ] {
        let reply = post(&world, &[], body.to_owned()).await;
        assert_eq!(reply.status(), 400, "{body}");
        assert_eq!(reply.headers()["content-type"], "application/json", "{body}");
        let told: Value = reply.json().await.unwrap();
        assert_eq!((&told["jsonrpc"], &told["id"]), (&json!("2.0"), &Value::Null), "{body}");
        assert_eq!(told["error"]["code"], code, "{body}: {told}");
        assert!(told["error"]["message"].as_str().unwrap().contains(": "), "{told}");
    }
    let text = Web::new()
        .post(&world.url)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "text/plain");
    assert_eq!(text.body(legacy_list()).send().await.unwrap().status(), 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simple_reply_is_one_json_body_without_a_session() {
    let world = World::new().await;
    let reply = post(&world, &[], legacy_list()).await;
    let headers = reply.headers().clone();
    assert_eq!(headers["content-type"], "application/json");
    assert!(!headers.contains_key("mcp-session-id"));
    let body: Value = reply.json().await.unwrap();
    assert!(body["result"]["tools"].as_array().unwrap().len() >= 9);
    assert!(body["result"].get("resultType").is_none());
    for method in ["GET", "DELETE"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let reply = Web::new().request(method, &world.url).send().await.unwrap();
        assert!(reply.status().is_client_error(), "{}", reply.status());
    }
    let elsewhere = world.url.replace("/mcp", "/other");
    assert_eq!(Web::new().post(elsewhere).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn modern_lists_say_how_long_they_keep_and_for_whom() {
    let world = World::new().await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    for method in [
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
    ] {
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": method, "params": { "_meta": meta } });
        let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
        let reply: Value = post(&world, &headers, body.to_string()).await.json().await.unwrap();
        let result = &reply["result"];
        assert_eq!(result["cacheScope"], "private", "{method}: {reply}");
        assert_eq!(result["resultType"], "complete", "{method}");
        assert!(result["ttlMs"].as_u64().is_some(), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_of_another_kind_is_refused() {
    let world = World::new().await;
    let reply = post(&world, &[], "x".repeat(BODY_MAX_BYTES + 1)).await;
    assert_eq!(reply.status(), 413);
    let text = Web::new().post(&world.url).header("content-type", "text/plain").body("x");
    assert!(text.send().await.unwrap().status().is_client_error());
    let reply = post(&world, &[], "{not json".to_owned()).await;
    assert!(reply.status().is_client_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_cannot_call_by_simple_request() {
    let world = World::new().await;
    let reply = Web::new()
        .post(&world.url)
        .header("origin", "http://localhost:1")
        .header("accept", "*/*")
        .header("content-type", "text/plain")
        .body(legacy_list())
        .send()
        .await
        .unwrap();
    assert!(reply.status().is_client_error(), "{}", reply.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_ends_its_wait_and_not_the_run() {
    let world = World::new().await;
    let client = world.client((Road::Unix, Era::Modern)).await;
    let run = ok(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    let idle = world.changes.listeners();
    let arguments = json!({ "adw_id": run["adw_id"], "timeout_s": 50 });
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "wait_adw_workflow"),
    ];
    // A plain JSON reply, one with an event stream for progress, and both in the newest revision.
    for (modern, told) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut own = if modern { meta.clone() } else { json!({}) };
        if told {
            own["progressToken"] = json!("t");
        }
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "wait_adw_workflow", "arguments": arguments, "_meta": own } });
        let headers = if modern { &headers[..] } else { &[] };
        {
            let asked = async {
                let mut reply = post(&world, headers, body.to_string()).await;
                while let Ok(Some(_)) = reply.chunk().await {}
            };
            let seen = async {
                until("a wait", || world.changes.listeners() > idle).await;
            };
            tokio::select! {
                () = asked => panic!("answered too early: modern {modern}, told {told}"),
                () = seen => {}
            }
        }
        // The connection is closed by now.
        until("the end of the wait", || world.changes.listeners() == idle).await;
        let run = ok(&client, "get_adw_state", json!({ "adw_id": run["adw_id"] })).await;
        assert_eq!(run["status"], "queued");
    }
}
