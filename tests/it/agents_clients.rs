//! Claude Code, Codex, opencode and Gemini CLI as MCP clients of the daemon, set up with the lines
//! that the README gives, against a model on loopback.

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::agents_support::{Cli, Model, Shelf, codex_config, shelf};
use crate::mcp_support::ok;
use crate::world::{Daemon, RUN, Ran, Repo, SOON, World, eventually, wait_status};

/// The road on which a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    Http,
    Stdio,
}

/// A client, set up for the daemon of a world.
struct Desk<'w> {
    world: &'w World,
    cli: Cli,
    folder: PathBuf,
}

/// A served repository whose agent is `patch`, so that runs are quick, and a daemon that lets
/// nobody work over HTTP without a key.
async fn scene(shelf: &Shelf, turns: Value) -> (World, Repo, Model) {
    let world = World::new().await;
    let model = Model::playing(json!({ "other": turns })).await;
    shelf.put_into(&world, &model);
    world.set("http.trust_loopback", "false");
    let repo = world.repo("shop");
    world.serve(&repo, "");
    (world, repo, model)
}

impl<'w> Desk<'w> {
    /// Sets the client up: over HTTP with a key of the team tier, over stdio as the user.
    async fn of(
        world: &'w World,
        daemon: &Daemon<'_>,
        model: &Model,
        (cli, road): (Cli, Road),
    ) -> Desk<'w> {
        let made = ["key", "create", "--json", "--tier", "team", "--name", "desk"];
        let key = world.cli(&made).await.with_code(0).json()["key"].as_str().unwrap().to_owned();
        world.set_env("ADWD_KEY", Some(&key));
        let folder = world.path("desk");
        std::fs::create_dir_all(&folder).unwrap();
        let desk = Desk { world, cli, folder };
        let url = daemon.url();
        match cli {
            Cli::Claude => desk.claude(road, &url, &key).await,
            Cli::Codex => desk.codex(road, &url, model).await,
            Cli::Opencode => desk.opencode(road, &url, model),
            Cli::Gemini => desk.gemini(road, &url).await,
        }
        desk
    }

    async fn claude(&self, road: Road, url: &str, key: &str) {
        let header = format!("Authorization: Bearer {key}");
        let words: &[&str] = match road {
            Road::Http => &["mcp", "add", "--transport", "http", "adwd", url, "--header", &header],
            Road::Stdio => &["mcp", "add", "adwd", "--", "adwd", "stdio", "--no-start"],
        };
        self.world.run_in(&self.folder, "claude", words).await.with_code(0);
    }

    async fn codex(&self, road: Road, url: &str, model: &Model) {
        let own = codex_config(&model.url, 1);
        let http = "[mcp_servers.adwd]\nbearer_token_env_var = \"ADWD_KEY\"\n";
        let http = format!("{own}{http}url = \"{url}\"\n");
        let text = if road == Road::Http { http } else { own };
        self.world.write("home/.codex/config.toml", &text);
        if road == Road::Stdio {
            // Codex hands a server few variables; where the socket is not in its usual place, it has
            // to be told.
            let place = format!("XDG_RUNTIME_DIR={}", self.world.env()["XDG_RUNTIME_DIR"]);
            let words =
                ["mcp", "add", "adwd", "--env", &place, "--", "adwd", "stdio", "--no-start"];
            self.world.run_in(&self.folder, "codex", &words).await.with_code(0);
        }
    }

    fn opencode(&self, road: Road, url: &str, model: &Model) {
        let server = match road {
            Road::Http => json!({ "type": "remote", "url": url, "oauth": false,
                "headers": { "Authorization": "Bearer {env:ADWD_KEY}" } }),
            Road::Stdio => json!({ "type": "local", "command": ["adwd", "stdio", "--no-start"] }),
        };
        let base = format!("{}/v1", model.url);
        let config = json!({
            "$schema": "https://opencode.ai/config.json",
            "autoupdate": false,
            "model": "stub/stub-model",
            "small_model": "stub/stub-model",
            "provider": { "stub": { "npm": "@ai-sdk/openai-compatible", "name": "stub",
                "options": { "baseURL": base, "apiKey": "x" },
                "models": { "stub-model": { "name": "stub-model", "tool_call": true,
                    "limit": { "context": 200_000, "output": 8000 } } } } },
            "mcp": { "adwd": server },
        });
        self.world.write("home/.config/opencode/opencode.json", &config.to_string());
        // The world's XDG_CONFIG_HOME is the daemon's; opencode looks there too.
        self.world.write("config/opencode/opencode.json", &config.to_string());
    }

    async fn gemini(&self, road: Road, url: &str) {
        let settings = json!({ "security": { "auth": { "selectedType": "gemini-api-key" } },
            "general": { "disableAutoUpdate": true }, "privacy": { "usageStatisticsEnabled": false } });
        self.world.write("home/.gemini/settings.json", &settings.to_string());
        let header = "Authorization: Bearer $ADWD_KEY";
        let http = ["--transport", "http", "-H", header, "adwd", url];
        let stdio = ["adwd", "adwd", "stdio", "--no-start"];
        let words: &[&str] = if road == Road::Http { &http } else { &stdio };
        let words = [&["mcp", "add", "--scope", "user", "--trust"], words].concat();
        self.world.run_in(&self.folder, "gemini", &words).await.with_code(0);
    }

    fn words<'a>(&self, prompt: &'a str) -> Vec<&'a str> {
        match self.cli {
            Cli::Claude => {
                let mut words = vec!["-p", prompt, "--output-format", "stream-json", "--verbose"];
                words.extend(["--allowedTools", "mcp__adwd"]);
                words
            }
            // Headless it asks nobody, so tools that change something have to be approved before; in
            // the command, so that a phase's Codex has no such leave.
            Cli::Codex => {
                let approved = "mcp_servers.adwd.default_tools_approval_mode=\"approve\"";
                vec!["exec", "--json", "--skip-git-repo-check", "-c", approved, prompt]
            }
            Cli::Opencode => vec!["run", "--format", "json", prompt],
            Cli::Gemini => {
                vec!["-m", "gemini-2.5-flash", "--yolo", "-o", "stream-json", "-p", prompt]
            }
        }
    }

    /// Says something to the client, and waits until it has done it. On a busy machine some take
    /// a minute only to begin.
    async fn ask(&self, prompt: &str) -> Ran {
        let mut command = self.world.command(&self.folder, self.cli.name());
        command.args(self.words(prompt)).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(4 * RUN), command.output()).await;
        let output = output.expect("the client comes to an end").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Ran { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }.with_code(0)
    }

    /// Says something to the client and lets it work.
    fn begin(&self, prompt: &str) -> tokio::process::Child {
        let mut command = self.world.command(&self.folder, self.cli.name());
        command.args(self.words(prompt)).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }
}

/// Triggers, waits with the id of the answer, looks.
fn trigger_and_wait() -> Value {
    json!([
        { "text": "I start it.", "mcp": "trigger_adw_workflow", "input": { "issue_number": "1" } },
        { "mcp": "wait_adw_workflow", "input": { "adw_id": "$last:adw_id", "timeout_s": 50 } },
        { "mcp": "get_adw_state", "input": { "adw_id": "$last:adw_id" } },
        { "text": "The run is complete." },
    ])
}

/// The names under which the model was offered the daemon's tools.
fn offered(model: &Model) -> Vec<String> {
    let mut names = vec![];
    for request in model.asked_as("other") {
        for name in request["offered"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            if name.contains("adw") && !names.contains(&name.to_owned()) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// What was on record of a tool's calls, the newest first.
async fn recorded(world: &World, tool: &str) -> Vec<Value> {
    let shown = world.cli(&["audit", "--tool", tool, "--json"]).await.with_code(0).json();
    shown["invocations"].as_array().unwrap().clone()
}

async fn a_run_is_triggered_and_waited_for(cli: Cli, road: Road) {
    let Some(shelf) = shelf() else { return };
    let (world, repo, model) = scene(&shelf, trigger_and_wait()).await;
    let daemon = world.daemon().await;
    let desk = Desk::of(&world, &daemon, &model, (cli, road)).await;
    let said = desk.ask("run issue 1 and tell me when it is done").await;
    assert!(said.stdout.contains("The run is complete."), "{said:?}");
    let seen = model.last_body("other");
    let calls = recorded(&world, "trigger_adw_workflow").await;
    assert_eq!(calls.len(), 1, "{calls:#?}\n{seen}\n{said:?}");
    let id = calls[0]["adw_id"].as_str().unwrap().to_owned();
    let client = daemon.client().await;
    let run = wait_status(&client, &id, "completed").await;
    for part in [&*id, "completed", run["pr_url"].as_str().unwrap()] {
        assert!(seen.contains(part), "the model was told {part}: {seen}");
    }
    assert_eq!(recorded(&world, "wait_adw_workflow").await.len(), 1, "{seen}");
    assert_eq!(recorded(&world, "get_adw_state").await[0]["status"], "ok");
    let transport = if road == Road::Http { "http" } else { "unix" };
    assert_eq!(calls[0]["transport"], transport, "{calls:#?}");
    assert_eq!(repo.remote_branches().len(), 1);
    eprintln!("{cli:?} {road:?}: offered {:?}", offered(&model));
}

/// A wait for a run that goes on is answered at its end of 50 s, before any client loses patience.
async fn a_long_wait_is_answered_in_time(cli: Cli) {
    let Some(shelf) = shelf() else { return };
    let (world, _repo, model) = scene(&shelf, trigger_and_wait()).await;
    let daemon = world.daemon().await;
    let desk = Desk::of(&world, &daemon, &model, (cli, Road::Http)).await;
    world.close_check();
    desk.ask("run issue 1 and tell me when it is done").await;
    let calls = recorded(&world, "wait_adw_workflow").await;
    assert_eq!(calls.len(), 1, "{calls:#?}");
    assert_eq!(calls[0]["status"], "ok", "{calls:#?}");
    let seen = model.last_body("other");
    assert!(seen.contains("waited") || seen.contains("running"), "{seen}");
    world.open_check();
    let client = daemon.client().await;
    let id = calls[0]["adw_id"].as_str().unwrap();
    wait_status(&client, id, "completed").await;
}

/// Whoever stops a client in the middle of a wait ends the wait, and not the run.
async fn ctrl_c_ends_the_wait_and_not_the_run(cli: Cli, road: Road) {
    let Some(shelf) = shelf() else { return };
    let (world, _repo, model) = scene(&shelf, trigger_and_wait()).await;
    let daemon = world.daemon().await;
    let desk = Desk::of(&world, &daemon, &model, (cli, road)).await;
    world.close_check();
    let mut program = desk.begin("run issue 1 and tell me when it is done");
    eventually("the client waits", SOON * 3, async || {
        let calls = recorded(&world, "wait_adw_workflow").await;
        if calls.is_empty() { Err("no wait".to_owned()) } else { Ok(()) }
    })
    .await;
    let pid = i32::try_from(program.id().unwrap()).unwrap();
    kill(Pid::from_raw(-pid), Signal::SIGINT).unwrap();
    let ended = eventually("the wait is over", 20, async || {
        let call = recorded(&world, "wait_adw_workflow").await.remove(0);
        if call["completed_at"].is_null() { Err(call.to_string()) } else { Ok(call) }
    })
    .await;
    assert_eq!(ended["status"], "interrupted", "{ended:#}");
    assert!(ended["duration_ms"].as_i64().unwrap() < 45_000, "not by its own time: {ended:#}");
    let _ = tokio::time::timeout(Duration::from_secs(SOON), program.wait()).await;
    let id =
        recorded(&world, "trigger_adw_workflow").await[0]["adw_id"].as_str().unwrap().to_owned();
    let client = daemon.client().await;
    world.at_check().await;
    let run = ok(&client, "get_adw_state", json!({ "adw_id": id })).await;
    assert_eq!(run["status"], "running", "it went on: {run:#}");
    world.open_check();
    wait_status(&client, &id, "completed").await;
}

/// Each case in a test of its own, so that they run side by side.
macro_rules! cases {
    ($($name:ident: $case:expr;)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            $case.await;
        })+
    };
}

cases! {
    claude_triggers_over_http: a_run_is_triggered_and_waited_for(Cli::Claude, Road::Http);
    claude_triggers_over_stdio: a_run_is_triggered_and_waited_for(Cli::Claude, Road::Stdio);
    codex_triggers_over_http: a_run_is_triggered_and_waited_for(Cli::Codex, Road::Http);
    codex_triggers_over_stdio: a_run_is_triggered_and_waited_for(Cli::Codex, Road::Stdio);
    opencode_triggers_over_http: a_run_is_triggered_and_waited_for(Cli::Opencode, Road::Http);
    opencode_triggers_over_stdio: a_run_is_triggered_and_waited_for(Cli::Opencode, Road::Stdio);
    gemini_triggers_over_http: a_run_is_triggered_and_waited_for(Cli::Gemini, Road::Http);
    gemini_triggers_over_stdio: a_run_is_triggered_and_waited_for(Cli::Gemini, Road::Stdio);
    claude_is_answered_in_time: a_long_wait_is_answered_in_time(Cli::Claude);
    codex_is_answered_in_time: a_long_wait_is_answered_in_time(Cli::Codex);
    opencode_is_answered_in_time: a_long_wait_is_answered_in_time(Cli::Opencode);
    gemini_is_answered_in_time: a_long_wait_is_answered_in_time(Cli::Gemini);
    ctrl_c_in_claude_over_http: ctrl_c_ends_the_wait_and_not_the_run(Cli::Claude, Road::Http);
    ctrl_c_in_claude_over_stdio: ctrl_c_ends_the_wait_and_not_the_run(Cli::Claude, Road::Stdio);
    ctrl_c_in_codex_over_http: ctrl_c_ends_the_wait_and_not_the_run(Cli::Codex, Road::Http);
    ctrl_c_in_codex_over_stdio: ctrl_c_ends_the_wait_and_not_the_run(Cli::Codex, Road::Stdio);
}

/// The committed `.mcp.json` of the README, with the key in the environment alone.
#[tokio::test(flavor = "multi_thread")]
async fn claude_takes_the_key_of_a_committed_file_from_the_environment() {
    let Some(shelf) = shelf() else { return };
    let turns = json!([{ "mcp": "list_adw_projects" }, { "text": "Seen." }]);
    let (world, _repo, model) = scene(&shelf, turns).await;
    let daemon = world.daemon().await;
    let desk = Desk::of(&world, &daemon, &model, (Cli::Gemini, Road::Http)).await;
    let server = json!({ "type": "http", "url": format!("{}?toolsets=adw", daemon.url()),
        "headers": { "Authorization": "Bearer ${ADWD_KEY}" } });
    world.write("desk/.mcp.json", &json!({ "mcpServers": { "adwd": server } }).to_string());
    let mut words =
        Desk { cli: Cli::Claude, folder: desk.folder.clone(), world: &world }.words("look");
    words.extend(["--mcp-config", ".mcp.json"]);
    world.run_in(&desk.folder, "claude", &words).await.with_code(0);
    let calls = recorded(&world, "list_adw_projects").await;
    assert_eq!(calls.len(), 1, "{}", model.last_body("other"));
    assert!(calls[0]["user_id"].as_str().unwrap().starts_with("key:"), "{calls:#?}");
    assert!(model.last_body("other").contains("shop"));
}
