//! Step workflows over stdio: how long a call takes at the server, beside the cheapest call there
//! is. `cargo bench --bench steps`
//!
//! Targets are those of the project's issue on step workflows, for a quiet 2-core machine with the
//! embedded database; look at the ratio to the floor where the machine is shared.
// Benchmarks print, read the clock and start programs; that is what they are for.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

#[allow(dead_code, reason = "each benchmark uses a part")]
mod common;

use std::sync::{Arc, Barrier};
use std::time::Instant;

use common::{Client, Table, Times, World};
use serde_json::{Value, json};

/// Steps of the workflow that is run: enough that most submissions are not the last one.
const STEPS: usize = 40;
/// Clients at once, where many are.
const CLIENTS: usize = 16;

fn main() {
    let content = tempfile::tempdir().unwrap();
    write_content(content.path());
    let config = format!(
        "[steps]\nrate_limits = false\n[[content]]\npath = {:?}\n",
        content.path().display().to_string()
    );
    let world = World::start(&config);
    let mut client = world.client();
    let floor = Times::of(200, 2_000, || drop(client.ask("ping", json!({}))));
    let table = Table::new(&floor);
    tools(&table, &mut client);
    resources(&table, &mut client);
    at_once(&table, &world);
}

fn write_content(root: &std::path::Path) {
    for folder in ["agents", "workflows"] {
        std::fs::create_dir(root.join(folder)).unwrap();
    }
    let persona = "You do one step of a benchmark.\n".repeat(100);
    let agent = format!("---\nname: bench-agent\ndescription: Does nothing.\n---\n\n{persona}");
    std::fs::write(root.join("agents/bench-agent.md"), agent).unwrap();
    let mut text = "---\nname: bench\ndescription: A long line of steps.\nphases:\n".to_owned();
    for n in 0..STEPS {
        text +=
            &format!("  - phase: step-{n:02}\n    agent: bench-agent\n    description: Nothing\n");
        if n > 0 {
            text += &format!("    dependsOn: [step-{:02}]\n", n - 1);
        }
    }
    text += "---\n\nA benchmark.\n";
    std::fs::write(root.join("workflows/bench.md"), text).unwrap();
}

fn start(client: &mut Client) -> Value {
    client.call("workflow_start", json!({ "workflow_name": "bench" }))
}

fn output(artifact_bytes: usize) -> Value {
    let mut output = json!({
        "summary": "Nothing was to be done, and it was done.",
        "references": ["src/lib.rs"], "confidence": 0.9,
    });
    if artifact_bytes > 0 {
        output["artifacts"] = json!([{
            "type": "markdown", "title": "notes.md", "content": "x".repeat(artifact_bytes),
        }]);
    }
    output
}

/// Goes through executions until there are `count` times of a submission that is not the last.
fn walk(client: &mut Client, output: &Value, count: usize) -> Times {
    let mut times = Vec::with_capacity(count);
    while times.len() < count {
        let mut token = start(client)["new_token"].clone();
        for _ in 1..STEPS {
            let begun = Instant::now();
            let next =
                client.call("workflow_next_step", json!({ "token": token, "output": output }));
            times.push(begun.elapsed().as_secs_f64() * 1e6);
            token = next["new_token"].clone();
        }
    }
    Times::new(times)
}

fn tools(table: &Table, client: &mut Client) {
    let starts = Times::of(20, 200, || drop(start(client)));
    table.line("workflow_start", &starts, 3.0);
    table.line("workflow_next_step", &walk(client, &output(0), 500), 1.5);
    table.line("workflow_next_step, 4 KiB artifact", &walk(client, &output(4096), 500), 1.5);
    let token = start(client)["new_token"].as_str().unwrap().to_owned();
    let peek =
        Times::of(20, 500, || drop(client.call("workflow_next_step", json!({ "token": token }))));
    table.line("workflow_next_step, a peek", &peek, 1.5);
    let mut forged = token;
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    let arguments = json!({ "token": forged, "output": output(0) });
    let refused = Times::of(20, 500, || {
        let call = json!({ "name": "workflow_next_step", "arguments": arguments });
        let reply = client.ask("tools/call", call);
        assert_eq!(reply["result"]["isError"], true, "{reply}");
    });
    table.line("workflow_next_step, a bad token", &refused, 0.3);
}

fn resources(table: &Table, client: &mut Client) {
    let started = start(client);
    let id = started["execution_id"].as_str().unwrap().to_owned();
    let mut token = started["new_token"].clone();
    for _ in 0..5 {
        let arguments = json!({ "token": token, "output": output(4096) });
        token = client.call("workflow_next_step", arguments)["new_token"].clone();
    }
    for uri in [
        "midex://workflow/available_workflows".to_owned(),
        "midex://workflow/workflow_details/bench".to_owned(),
        format!("midex://workflow/current_step/{id}"),
        format!("midex://workflow/workflow_status/{id}"),
        format!("midex://workflow/step_history/{id}"),
        format!("midex://workflow/workflow_artifacts/{id}"),
        format!("midex://workflow/telemetry/{id}"),
        "midex://persona/bench-agent".to_owned(),
        "midex://guardrails/active".to_owned(),
        "midex://workflow/artifacts/recent".to_owned(),
    ] {
        let times = Times::of(20, 500, || drop(client.read(&uri)));
        let shown = uri.replace(&id, "ID");
        table.line(shown.trim_start_matches("midex://"), &times, 0.5);
    }
    let uri = "midex://workflow/telemetry?limit=1000";
    let rows = client.read(uri);
    let text = rows["result"]["contents"][0]["text"].as_str().unwrap().to_owned();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(rows.len(), 1_000);
    let times = Times::of(10, 200, || drop(client.read(uri)));
    table.line("workflow/telemetry?limit=1000", &times, 5.0);
}

fn at_once(table: &Table, world: &World) {
    let barrier = Arc::new(Barrier::new(CLIENTS));
    let (mut calls, mut reads) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let barrier = barrier.clone();
                let mut client = world.client();
                scope.spawn(move || {
                    barrier.wait();
                    one_of_many(&mut client)
                })
            })
            .collect();
        for thread in threads {
            let (c, r) = thread.join().unwrap();
            calls.extend(c);
            reads.extend(r);
        }
    });
    table.line_p95("16 clients at once: workflow_next_step", &Times::new(calls), 50.0);
    table.line_p95("16 clients at once: current_step read", &Times::new(reads), 10.0);
}

/// An execution from start to end, reading the current step before each submission.
fn one_of_many(client: &mut Client) -> (Vec<f64>, Vec<f64>) {
    let (mut calls, mut reads) = (Vec::new(), Vec::new());
    let started = start(client);
    let uri =
        format!("midex://workflow/current_step/{}", started["execution_id"].as_str().unwrap());
    let mut token = started["new_token"].clone();
    for _ in 1..STEPS {
        let begun = Instant::now();
        client.read(&uri);
        reads.push(begun.elapsed().as_secs_f64() * 1e6);
        let begun = Instant::now();
        let arguments = json!({ "token": token, "output": output(1024) });
        token = client.call("workflow_next_step", arguments)["new_token"].clone();
        calls.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    (calls, reads)
}
