//! `adwd stdio`: bytes between a client's pipes and the one daemon, and nothing else on stdout.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;

use crate::mcp_support::{Era, ok};
use crate::world::daemon::stdio_client;
use crate::world::{ADWD, SOON, World, wait_removed, wait_status};

fn bridge(world: &World, folder: &Path) -> Child {
    let mut command = world.command(folder, ADWD);
    command.arg("stdio").kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("adwd stdio starts")
}

/// Sends the lines and reads until the answer with the last id has come; then closes the input.
async fn converse(mut child: Child, lines: &[Value]) -> (Vec<String>, Output) {
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines {
        stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }
    let last = lines.iter().rev().find_map(|line| line.get("id")).cloned();
    let mut heard = vec![];
    let talk = async {
        while last.is_some()
            && let Some(line) = stdout.next_line().await.unwrap()
        {
            let id = serde_json::from_str::<Value>(&line).ok().and_then(|v| v.get("id").cloned());
            heard.push(line);
            if id.is_some() && id == last {
                break;
            }
        }
        drop(stdin);
        while let Some(line) = stdout.next_line().await.unwrap() {
            heard.push(line);
        }
        child.wait_with_output().await.unwrap()
    };
    let output = tokio::time::timeout(Duration::from_secs(SOON), talk).await.expect("it ends");
    (heard, output)
}

fn hello() -> [Value; 3] {
    let client = json!({ "name": "raw", "version": "1" });
    [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client } }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
            "name": "list_adw_projects", "arguments": {} } }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn stdout_is_the_wire_and_the_end_of_input_is_the_end() {
    let world = World::new().await;
    let repo = world.repo("shop");
    // No daemon runs, and none has heard of the repository.
    let (heard, output) = converse(bridge(&world, &repo.root.join("issues")), &hello()).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.is_empty());
    for line in &heard {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(value["jsonrpc"], "2.0", "{line}");
    }
    let answer: Value = serde_json::from_str(heard.last().unwrap()).unwrap();
    let projects = &answer["result"]["structuredContent"]["projects"];
    assert_eq!(projects[0]["name"], "shop", "{answer:#}");
    assert_eq!(projects[0]["path"], repo.root.display().to_string(), "{answer:#}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("started one in the background"), "{said}");
    assert!(said.contains("now serving") && said.contains("\"shop\""), "{said}");

    // The daemon stays; the second bridge has nothing to say, whatever it is asked.
    let mut lines = hello().to_vec();
    lines[2] = json!({ "jsonrpc": "2.0", "id": 2, "method": "no/such", "params": {} });
    let (heard, output) = converse(bridge(&world, &repo.root), &lines).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(heard.last().unwrap().contains("error"), "{heard:?}");
    // Without any input it ends at once, too.
    let (heard, output) = converse(bridge(&world, &world.root), &[]).await;
    assert_eq!((heard.len(), output.status.code()), (0, Some(0)), "{output:?}");
    world.cli(&["stop"]).await.with_code(0);
    world.quiet().await;
}

/// What Claude Desktop does: one command, and everything is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_only_the_command_gets_a_pull_request() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let client = stdio_client(&world, Era::Modern).await;
    let path = repo.root.display().to_string();
    let added = ok(&client, "add_adw_project", json!({ "path": path })).await;
    assert_eq!((&added["added"], &added["profile"]), (&json!(true), &json!("adwd")), "{added:#}");
    let started = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "1" })).await;
    let id = started["adw_id"].as_str().unwrap().to_owned();
    // The client goes away in the middle; the run does not care.
    client.cancel().await.unwrap();
    let client = stdio_client(&world, Era::Legacy).await;
    wait_status(&client, &id, "completed").await;
    wait_removed(&client, &id).await;
    assert_eq!(repo.pulls().len(), 1);
    drop(client);
    world.cli(&["stop"]).await.with_code(0);
    world.quiet().await;
}

/// `--no-start` and a daemon that dies under an open bridge.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_ends_with_its_daemon_and_starts_none_unasked() {
    let world = World::new().await;
    let ran = world.cli(&["stdio", "--no-start"]).await.with_code(3);
    assert_eq!(ran.stdout, "", "{ran:?}");
    assert!(ran.stderr.contains("adwd serve"), "{ran:?}");
    let mut daemon = world.daemon().await;
    let mut child = bridge(&world, &world.root);
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(format!("{}\n", hello()[0]).as_bytes()).await.unwrap();
    stdout.next_line().await.unwrap().expect("a greeting");
    daemon.kill9().await;
    // Its input is still open; it must not wait for that.
    let ended = tokio::time::timeout(Duration::from_secs(SOON), child.wait()).await;
    ended.expect("the bridge ends with its daemon").unwrap();
}
