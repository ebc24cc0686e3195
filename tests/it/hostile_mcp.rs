//! A hostile client that speaks HTTP well and MCP badly; and tricks in ids and addresses.

use serde_json::{Value, json};

use crate::hostile_support::*;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused_as_json_rpc_has_it() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let at = address(&world);
    let before = resident_kib(&daemon);
    let good = Good::start(&daemon);
    let list = r#""jsonrpc":"2.0","id":1,"method":"tools/list""#;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deeper =
        format!(r#"{{{list},"params":{}1{}}}"#, r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    for (what, text) in [
        ("an empty batch", "[]".to_owned()),
        ("a batch", format!("[{{{list}}},{{{list}}}]")),
        ("a great batch", format!("[{}1]", "1,".repeat(100_000))),
        ("another version", r#"{"jsonrpc":"1.0","id":1,"method":"tools/list"}"#.to_owned()),
        ("no version", r#"{"id":1,"method":"tools/list"}"#.to_owned()),
        ("no method", r#"{"jsonrpc":"2.0","id":1}"#.to_owned()),
        ("a number for a method", r#"{"jsonrpc":"2.0","id":1,"method":7}"#.to_owned()),
        ("nesting", deep),
        ("nested params", deeper),
        ("half of a message", format!("{{{list}")),
        ("two messages", format!("{{{list}}}{{{list}}}")),
        ("a lone surrogate", r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#.to_owned()),
        ("a null", "null".to_owned()),
        (
            "an id that is an object",
            r#"{"jsonrpc":"2.0","id":{},"method":"tools/list"}"#.to_owned(),
        ),
    ] {
        let answer = say(&at, post(&at, &[], &text)).await;
        assert_eq!(status(&answer), 400, "{what}: {answer}");
        let told = body(&answer);
        assert!(
            told["error"]["code"].as_i64().is_some_and(|code| code <= -32_600),
            "{what}: {told}"
        );
    }
    let mut bytes = post(&at, &[], "12345678").into_bytes();
    bytes.truncate(bytes.len() - 8);
    bytes.extend_from_slice(b"{\"\xff\xfe\":1}"[..8].as_ref());
    assert_eq!(status(&say(&at, bytes).await), 400, "no UTF-8");
    good.end().await;
    assert_flat(&daemon, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_strange_message_is_answered() {
    let world = World::new().await;
    let _daemon = world.daemon().await;
    let at = address(&world);
    let long = "x".repeat(100_000);
    for (what, text, code) in [
        ("an unknown method", rpc("no/such", json!({})).to_string(), Some(-32_601)),
        ("a method of 100,000 bytes", rpc(&long, json!({})).to_string(), Some(-32_601)),
        ("an unknown tool", rpc("tools/call", json!({"name": "../x"})).to_string(), Some(-32_602)),
        ("a tool without a name", rpc("tools/call", json!({})).to_string(), Some(-32_601)),
        ("an id at the end of numbers", with_id(&i64::MAX.to_string()), None),
        ("a long id", with_id(&format!("\"{long}\"")), None),
        (
            "keys that come twice",
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"no/such","method":"tools/list"}"#
                .to_owned(),
            None,
        ),
    ] {
        let answer = say(&at, post(&at, &[], &text)).await;
        let told = if answer.contains("application/json") { body(&answer) } else { Value::Null };
        assert!(status(&answer) != 0 && status(&answer) < 500, "{what}: {answer}");
        match code {
            Some(code) => assert_eq!(told["error"]["code"], code, "{what}: {told}"),
            None => assert_eq!(answers(&answer), 1, "{what}"),
        }
    }
}

fn with_id(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#)
}

/// Texts that would lead out of a folder or out of a line wherever they were believed.
fn tricks() -> Vec<String> {
    let mut tricks: Vec<String> = [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "abcd1234/../../x",
        "abcd1234\0",
        "abcd1234\nroot",
        "abcd1234\r\nX: y",
        "\u{202e}abcd",
        "a'; DROP TABLE runs; --",
        "$(touch /tmp/x)",
        "",
        " ",
    ]
    .map(str::to_owned)
    .into();
    tricks.push("x".repeat(1 << 20));
    tricks
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_addresses_lead_nowhere() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let at = address(&world);
    let before = resident_kib(&daemon);
    for trick in tricks() {
        let shown: String = trick.chars().take(40).collect();
        for tool in ["get_adw_state", "cancel_adw_workflow", "get_adw_logs", "resume_adw_workflow"]
        {
            let call = rpc("tools/call", json!({ "name": tool, "arguments": { "adw_id": trick } }));
            let answer = say(&at, post(&at, &[], &call.to_string())).await;
            let told = body(&answer);
            let refused = told["result"]["isError"] == true || told["error"].is_object();
            assert!(refused, "{tool} {shown:?}: {told}");
            assert!(answer.len() < 16 * 1024, "{tool} {shown:?}: {} bytes back", answer.len());
            assert!(!answer.contains("root:"), "{answer}");
        }
        for uri in [
            format!("adw://runs/{trick}"),
            format!("adw://runs/{trick}/log/plan"),
            format!("adw://runs/abcd1234/log/{trick}"),
            format!("file:///{trick}"),
            trick.clone(),
        ] {
            let call = rpc("resources/read", json!({ "uri": uri }));
            let answer = say(&at, post(&at, &[], &call.to_string())).await;
            if uri == "adw://runs/" || uri == "adw://runs/ " {
                continue;
            }
            assert!(body(&answer)["error"].is_object(), "{shown:?}: {answer}");
            assert!(answer.len() < 16 * 1024, "{shown:?}: {} bytes back", answer.len());
        }
    }
    assert_flat(&daemon, before);
}
