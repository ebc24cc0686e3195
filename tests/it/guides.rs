//! What the README tells people to copy is copied here, and works.

use serde_json::Value;

use crate::world::World;

const README: &str = include_str!("../../README.md");

/// The README's fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in README.lines() {
        match (&mut open, line) {
            (None, line) if line == format!("```{language}") => open = Some(String::new()),
            (Some(_), "```") => found.extend(open.take()),
            (Some(text), line) => *text += &format!("{line}\n"),
            (None, _) => {}
        }
    }
    found
}

#[test]
fn every_client_configuration_is_json_and_names_our_endpoint_or_our_command() {
    let blocks = blocks("json");
    assert!(blocks.len() >= 4, "Claude Desktop, Claude Code, Cursor, VS Code");
    for block in blocks {
        let value: Value = serde_json::from_str(&block).unwrap_or_else(|e| panic!("{e}: {block}"));
        let servers = value.get("mcpServers").or_else(|| value.get("servers"));
        let Some(ours) = servers.map(|servers| &servers["adwd"]) else { continue };
        let url = ours["url"].as_str().is_some_and(|u| u.starts_with("http://127.0.0.1:7117/mcp"));
        let command = ours["command"].as_str().is_some_and(|c| c.ends_with("adwd"));
        assert!(url || command, "{block}");
        let key = ours["headers"]["Authorization"].as_str().unwrap_or("Bearer ${KEY}");
        assert!(key.starts_with("Bearer ${"), "a key is named, never written down: {block}");
    }
}

#[test]
fn every_piece_of_configuration_is_toml() {
    for block in blocks("toml") {
        toml::from_str::<toml::Table>(&block).unwrap_or_else(|e| panic!("{e}: {block}"));
    }
}

/// The script of the Raycast section, run as Raycast runs it.
#[tokio::test(flavor = "multi_thread")]
async fn the_raycast_script_brings_an_issue_to_its_pull_request() {
    let world = World::new().await;
    if world.run_in(&world.path(""), "sh", &["-c", "command -v node"]).await.code != 0 {
        eprintln!("SKIPPED: the Raycast script needs node (apt-get install nodejs)");
        return;
    }
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let daemon = world.daemon().await;
    let made = ["key", "create", "--tier", "team", "--name", "raycast", "--json"];
    let key = world.cli(&made).await.with_code(0).json();
    let scripts = blocks("js");
    let script = world.write("adw-trigger.mjs", &scripts[0]).display().to_string();
    let run = |key: String| {
        let command = format!("ADWD_URL={} ADWD_KEY={key} exec node {script} 1 shop", daemon.url());
        let world = &world;
        async move { world.run_in(&world.path(""), "sh", &["-c", &command]).await }
    };
    let ran = run(key["key"].as_str().unwrap().to_owned()).await.with_code(0);
    let last = ran.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with("file://") && last.ends_with(".md"), "{ran:?}");
    assert_eq!(repo.pulls().len(), 1);

    let free = ["key", "create", "--tier", "free", "--name", "looker", "--json"];
    let free = world.cli(&free).await.with_code(0).json();
    let refused = run(free["key"].as_str().unwrap().to_owned()).await.with_code(1);
    assert!(refused.stderr.contains("Team tier required to trigger ADW workflows"), "{refused:?}");
    let unknown = run("adwd_team_unknown_secret".to_owned()).await.with_code(1);
    assert!(unknown.stderr.starts_with("adwd: "), "{unknown:?}");
    assert!(!unknown.stderr.contains("adwd_team_unknown_secret"), "{unknown:?}");
}
