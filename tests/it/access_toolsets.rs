//! Which tools, resources and prompts a connection is shown, and the switch that takes triggers away.

use adwd::config::Toolsets;
use reqwest::Client as Web;
use rmcp::ClientServiceExt;
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::access_support::word;
use crate::mcp_support::*;
use crate::world::{self, ADWD};

/// The schemes of what a client is shown: tools by set, resources, templates, prompts.
async fn shown(client: &Client) -> (Vec<String>, Vec<String>) {
    let sets = |name: &str| {
        let tool = adwd::mcp::tools::named(name).expect("a tool that is listed exists");
        tool.toolset().as_str().to_owned()
    };
    let tools = client.list_all_tools().await.unwrap();
    let mut tools: Vec<String> = tools.iter().map(|tool| sets(&tool.name)).collect();
    tools.dedup();
    let scheme = |uri: &str| uri.split("://").next().unwrap().to_owned();
    let resources = client.list_all_resources().await.unwrap();
    let templates = client.list_all_resource_templates().await.unwrap();
    let mut schemes: Vec<String> = resources
        .iter()
        .map(|resource| scheme(&resource.uri))
        .chain(templates.iter().map(|template| scheme(&template.uri_template)))
        .collect();
    schemes.sort();
    schemes.dedup();
    (tools, schemes)
}

async fn at(world: &World, query: &str, era: Era) -> Client {
    http_client(&format!("{}?{query}", world.url), None, era, Ear::named("test")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_chooses_what_is_shown() {
    let world = World::new().await;
    for era in [Era::Legacy, Era::Modern] {
        let client = at(&world, "toolsets=adw", era).await;
        assert_eq!(shown(&client).await, (vec!["adw".to_owned()], vec!["adw".to_owned()]));
        let instructions = client.peer_info().unwrap().instructions.clone().unwrap();
        assert!(!instructions.contains("step workflows") && !instructions.contains("books"));
        assert_eq!(client.list_all_prompts().await.unwrap().len(), 3);
        for tool in ["workflow_start", "create_workflow"] {
            let result = call(&client, tool, json!({})).await;
            assert_eq!(word(&result).as_deref(), Some("disabled"));
            let text = result.structured_content.unwrap().to_string();
            assert!(text.contains("/mcp?toolsets=adw,"), "{text}");
        }
        let client = at(&world, "toolsets=writing%2Csteps", era).await;
        let (tools, schemes) = shown(&client).await;
        assert_eq!(tools, ["steps", "writing"]);
        assert!(!schemes.contains(&"adw".to_owned()) && schemes.contains(&"writing".to_owned()));
        assert!(client.list_all_prompts().await.unwrap().iter().all(|p| p.name != "run_issue"));
        // The rest is there all the same for who did not choose.
        let client = at(&world, "other=1", era).await;
        assert_eq!(shown(&client).await.0, ["adw", "steps", "writing"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_set_is_refused_with_the_known_ones() {
    adwd::tls::install();
    let world = World::new().await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    for query in ["toolsets=books", "toolsets=", "toolsets=adw,..%2F"] {
        let reply = Web::new()
            .post(format!("{}?{query}", world.url))
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .body(list.clone());
        let reply = reply.send().await.unwrap();
        assert_eq!(reply.status(), 400, "{query}");
        let told: Value = reply.json().await.unwrap();
        let message = told["error"]["message"].as_str().unwrap();
        assert!(message.contains("adw, steps, writing, admin"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_says_what_is_shown_to_who_does_not_choose() {
    let toolsets = Toolsets::parse("steps").unwrap();
    let world = World::with(Options { toolsets, ..Options::default() }).await;
    for way in WAYS {
        let client = world.client(way).await;
        assert_eq!(shown(&client).await.0, ["steps"], "{way:?}");
        let runs = ok(&client, "list_adw_workflows", json!({})).await;
        assert_eq!(runs["total"], 0, "it answers to its name");
    }
    let client = at(&world, "toolsets=adw", Era::Modern).await;
    assert_eq!(shown(&client).await.0, ["adw"], "a connection's own choice wins");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_manages_is_shown_to_who_asks_for_it_and_may() {
    let world = World::new().await;
    let client = at(&world, "toolsets=admin", Era::Modern).await;
    assert!(client.list_all_tools().await.unwrap().is_empty(), "the team tier manages nothing");
    let mut stream = UnixStream::connect(&world.socket).await.unwrap();
    stream.write_all(b"adwd-hello stdio toolsets=admin\n").await.unwrap();
    let client = Ear::named("test").serve_with_lifecycle(stream, lifecycle(Era::Modern)).await;
    let tools = client.unwrap().list_all_tools().await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "add_adw_project"), "{tools:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_line_that_is_not_understood_is_told_and_ends_the_connection() {
    let world = World::new().await;
    for line in ["adwd-hello stdio toolsets=books\n".to_owned(), "adwd-hello ".repeat(60)] {
        let mut stream = UnixStream::connect(&world.socket).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut told = String::new();
        stream.read_line(&mut told).await.unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["error"]["code"], -32_600, "{told}");
        // What it was still sending is thrown away: the end may come as an error.
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0, "the connection has ended");
    }
    // Whoever begins with a message, in whatever pieces, is served as ever.
    let client = world.client((Road::Unix, Era::Legacy)).await;
    assert!(!client.list_all_tools().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn stdio_chooses_by_flag_or_variable() {
    let world = world::World::new().await;
    let daemon = world.daemon().await;
    let stdio = async |flag: &[&str], variable: Option<&str>, era: Era| {
        let mut command = world.command(&world.root, ADWD);
        command.arg("stdio").args(flag);
        if let Some(value) = variable {
            command.env("ADWD_TOOLSETS", value);
        }
        let transport = TokioChildProcess::new(command).unwrap();
        Ear::named("test").serve_with_lifecycle(transport, lifecycle(era)).await.unwrap()
    };
    for era in [Era::Legacy, Era::Modern] {
        assert_eq!(shown(&stdio(&[], None, era).await).await.0, ["adw", "steps", "writing"]);
        let flag = ["--toolsets", "adw,admin"];
        let client = stdio(&flag, Some("writing"), era).await;
        assert_eq!(shown(&client).await.0, ["adw", "admin"], "the flag wins");
        let client = stdio(&[], Some("writing"), era).await;
        assert_eq!(shown(&client).await.0, ["writing"]);
        let result = call(&client, "list_adw_workflows", json!({})).await;
        assert_eq!(word(&result).as_deref(), Some("disabled"));
    }
    let ran = world.cli(&["stdio", "--toolsets", "books"]).await.with_code(2);
    assert!(ran.stderr.contains("adw, steps, writing, admin"), "{ran:?}");
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_client_chose_is_not_the_default_of_the_daemon_it_started() {
    let world = world::World::new().await;
    let mut command = world.command(&world.root, ADWD);
    command.arg("stdio").env("ADWD_TOOLSETS", "writing");
    let transport = TokioChildProcess::new(command).unwrap();
    let begun = Ear::named("test").serve_with_lifecycle(transport, lifecycle(Era::Modern));
    assert_eq!(shown(&begun.await.unwrap()).await.0, ["writing"]);
    let other = crate::world::daemon::stdio_client(&world, Era::Modern).await;
    assert_eq!(shown(&other).await.0, ["adw", "steps", "writing"]);
    world.cli(&["stop"]).await.with_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_triggers_are_off_still_obeys_its_owners_shell() {
    let world = World::with(Options { trigger_tools_enabled: false, ..Options::default() }).await;
    for way in WAYS {
        for name in ["test", "adwd-cli"] {
            let client = world.connect(way, Ear::named(name)).await;
            let tools = client.list_all_tools().await.unwrap();
            let starts = |name: &str| name.starts_with("trigger_") || name.starts_with("resume_");
            assert!(!tools.iter().any(|tool| starts(&tool.name)), "{way:?} {name}");
            assert!(tools.iter().any(|tool| tool.name == "cancel_adw_workflow"));
            let given = json!({ "issue_number": 1 });
            let result = call(&client, "trigger_adw_workflow", given).await;
            let may = way.0 == Road::Unix && name == "adwd-cli";
            let expected = if may { None } else { Some("disabled".to_owned()) };
            assert_eq!(word(&result), expected, "{way:?} {name}");
        }
    }
    // A client that calls itself so behind `adwd stdio` is still a client.
    let mut stream = UnixStream::connect(&world.socket).await.unwrap();
    stream.write_all(b"adwd-hello stdio\n").await.unwrap();
    let ear = Ear::named("adwd-cli");
    let client = ear.serve_with_lifecycle(stream, lifecycle(Era::Modern)).await.unwrap();
    let error = refused(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    assert_eq!(error["code"], "disabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variable_of_the_seed_takes_the_triggers_away_and_leaves_the_shell() {
    let world = world::World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    world.set_env("MCP_ADW_TOOLS_ENABLED", Some("false"));
    let daemon = world.daemon().await;
    let client = daemon.stdio_client(Era::Modern).await;
    let error = refused(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    assert_eq!(error["code"], "disabled");
    assert!(error["hint"].as_str().unwrap().contains("adwd trigger"), "{error}");
    let ran = world.cli_in(&repo.root, &["trigger", "1", "--json"]).await.with_code(0);
    let id = ran.json()["adw_id"].as_str().unwrap().to_owned();
    let run = ok(&client, "get_adw_state", json!({ "adw_id": id })).await;
    assert_eq!(run["triggered_by"], "cli");
    ok(&client, "cancel_adw_workflow", json!({ "adw_id": id })).await;
    world::wait_ended(&client, &id).await;
}
