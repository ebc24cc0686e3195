//! The official Python and TypeScript clients on runs: triggered, waited for with progress, watched,
//! read, cancelled, and as tasks, in both eras of the protocol, over HTTP and `adwd stdio`.
// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::node;
use crate::world::{ADWD, Agent, World};

/// How long a client's whole tour may take on a busy machine; alone it takes 20 s.
const TOUR: Duration = Duration::from_secs(400);

/// A repository whose agent plans when the gate of its issue is opened, and issues for every way.
fn repository(world: &World, ways: u32) {
    let repo = world.repo("shop");
    for way in 1..=ways {
        (0..4).for_each(|n| repo.issue(10 * way + n));
    }
    let agent = Agent::good().on("planner", "gate plan-$ADW_ISSUE_NUMBER");
    world.serve(&repo, &world.agent_lines("gated", &agent));
    world.set("limits.max_running", "16");
}

/// Runs a client's script; answers what it reports.
async fn tour(world: &World, url: &str, mut client: Command) -> Value {
    client.arg(url).arg(world.home()).args([ADWD, "stdio", "--no-start"]);
    client.current_dir(&world.root).stdin(Stdio::null());
    // The client's packages are those of the machine, not of the world's empty home.
    client.envs(world.env().into_iter().filter(|(name, _)| !name.starts_with("UV_")));
    if let Some(home) = std::env::var_os("HOME") {
        client.env("UV_CACHE_DIR", Path::new(&home).join(".cache/uv"));
    }
    let mut client = tokio::process::Command::from(client);
    let ended = tokio::time::timeout(TOUR, client.kill_on_drop(true).output()).await;
    let output = ended.unwrap_or_else(|_| panic!("within {TOUR:?}")).expect("the client starts");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}\n{err}"))
}

/// What a client must have seen on one way.
fn assert_seen(way: &str, seen: &Value) {
    let is_modern = way.ends_with("auto");
    let revision = if is_modern { "2026-07-28" } else { "2025-11-25" };
    assert_eq!(seen["revision"], revision, "{way}");
    assert_eq!((&seen["server"], &seen["tools"]), (&json!("adwd"), &json!(true)), "{way}");
    // Before 2026-07-28 a server without sessions cannot say anything of its own accord over HTTP.
    let is_told = is_modern || way.contains("stdio");
    let completed = json!({ "status": "completed", "read": "completed", "state": true, "log": true,
        "completion": true, "prompt": true, "progress": true,
        "subscribed": is_told, "heard": is_told });
    assert_eq!(seen["completed"], completed, "{way}");
    assert_eq!(seen["cancelled"], "cancelled", "{way}");
    assert_eq!(seen["refused"], json!({ "run": "unknown_run", "tool": -32602 }), "{way}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_runs_issues_on_every_way() {
    let world = World::new().await;
    repository(&world, 4);
    let daemon = world.daemon().await;
    let mut client = Command::new("uv");
    client.args(["run", "--no-project", "--no-progress", "--with", "mcp==2.3.0", "python"]);
    client.arg(node::scripts().join("runs.py")).env("UV_SYSTEM_CERTS", "1");
    let report = tour(&world, &daemon.url(), client).await;
    let report = report.as_object().unwrap();
    assert_eq!(report.len(), 4, "{report:#?}");
    for (way, seen) in report {
        assert_seen(way, seen);
        let tasks = json!({ "first": "working", "result": "completed",
            "cancelled": "cancelled", "run": "cancelled" });
        let wanted = if way.ends_with("auto") { &tasks } else { &Value::Null };
        assert_eq!(seen.get("tasks").unwrap_or(&Value::Null), wanted, "{way}");
    }
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_typescript_clients_run_issues_on_every_way() {
    let Some(node) = node::node("the official TypeScript clients on runs were") else { return };
    let world = World::new().await;
    repository(&world, 6);
    let daemon = world.daemon().await;
    let report = tour(&world, &daemon.url(), node.script("runs.mjs")).await;
    let report = report.as_object().unwrap();
    assert_eq!(report.len(), 6, "{report:#?}");
    report.iter().for_each(|(way, seen)| assert_seen(way, seen));
    world.quiet().await;
}
