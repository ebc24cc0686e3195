//! Callers of every tier and scope, and a world for them.

use std::collections::BTreeMap;

use adwd::auth::{NewKey, Principal, Tier};
use adwd::config::BudgetConfig;
use reqwest::Client as Web;
use rmcp::model::CallToolResult;
use serde_json::{Value, json};

use crate::mcp_support::*;
use crate::world;

/// The projects of a world for bound callers: their own, and one that must not exist for them.
pub const PROJECTS: &[&str] = &["shop", "bank"];
/// The tiers that a key can have.
pub const KEY_TIERS: [Tier; 5] =
    [Tier::Free, Tier::Solo, Tier::Team, Tier::Enterprise, Tier::Admin];

/// Who calls over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub tier: Tier,
    /// The projects it is bound to; none is no bound.
    pub projects: &'static [&'static str],
}

impl Who {
    pub fn bound(tier: Tier) -> Who {
        Who { tier, projects: &["shop"] }
    }

    /// A new key of it, as the owner makes one.
    pub async fn key(self, world: &World) -> String {
        let asked = NewKey {
            tier: self.tier.as_str().to_owned(),
            name: "test".to_owned(),
            projects: self.projects.iter().map(|name| (*name).to_owned()).collect(),
            ..NewKey::default()
        };
        world.deps.access.create(&Principal::unix(0), &asked).await.unwrap().key
    }

    /// A client of it.
    pub async fn client(self, world: &World, era: Era) -> Client {
        http_client(&world.url, Some(&self.key(world).await), era, Ear::named("test")).await
    }

    /// The whole answer to one request without a handshake.
    pub async fn ask(self, world: &World, method: &str, params: Value) -> Value {
        ask(&world.url, Some(&self.key(world).await), method, params).await
    }

    /// The answer to a call of a tool.
    pub async fn call(self, world: &World, tool: &str, arguments: Value) -> Value {
        self.ask(world, "tools/call", json!({ "name": tool, "arguments": arguments })).await
    }
}

/// The whole answer to one request over HTTP, without a handshake.
pub async fn ask(url: &str, key: Option<&str>, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    adwd::tls::install();
    let mut request = Web::new()
        .post(url)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .body(body.to_string());
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    request.send().await.unwrap().json().await.unwrap()
}

/// Two projects whose queue never moves, in this process; keys and guard are the program's.
pub async fn world() -> World {
    world_with(BudgetConfig::default()).await
}

/// The same, in which so much may be spent.
pub async fn world_with(budget: BudgetConfig) -> World {
    World::with(Options { projects: PROJECTS, budget, ..Options::default() }).await
}

/// Two projects of the real program, whose keys have no quota: what a tier may do is looked at a
/// thousand times, and what an hour of it costs is the business of other tests.
pub async fn real_world() -> world::World {
    let world = world::World::new().await;
    for name in PROJECTS {
        let repo = world.repo(name);
        world.serve(&repo, "");
    }
    world.set("http.trust_loopback", "false");
    for tier in ["free", "solo", "team"] {
        world.set(&format!("rates.{tier}"), "0");
    }
    world
}

/// A key out of the shell.
pub async fn made_key(world: &world::World, words: &[&str]) -> String {
    let args = [&["key", "create", "--json", "--name", "test"], words].concat();
    world.cli(&args).await.with_code(0).json()["key"].as_str().unwrap().to_owned()
}

/// A key of every tier, out of the shell.
pub async fn tier_keys(world: &world::World) -> Vec<(Tier, String)> {
    let mut keys = Vec::new();
    for tier in KEY_TIERS {
        keys.push((tier, made_key(world, &["--tier", tier.as_str()]).await));
    }
    keys
}

/// The word of a refusal, in either form; none where the call succeeded.
pub fn word(result: &CallToolResult) -> Option<String> {
    if result.is_error != Some(true) {
        return None;
    }
    let content = result.structured_content.as_ref().expect("errors are structured");
    let word = content.pointer("/error/code").or_else(|| content.get("code"));
    Some(word.and_then(Value::as_str).expect("errors have a code").to_owned())
}

/// One of everything that can be read, made by the owner: what stands for each variable of the
/// templates.
pub async fn one_of_each(owner: &Client) -> BTreeMap<&'static str, String> {
    let trigger = json!({ "issue_number": 1, "project": "shop" });
    let run = ok(owner, "trigger_adw_workflow", trigger).await;
    let start = json!({ "workflow_name": "bug-fix", "project": "shop", "max_parallel": 4 });
    let step = ok(owner, "workflow_start", start).await;
    let artifact = json!({ "type": "markdown", "title": "Notes", "content": "# It works" });
    let output = json!({ "summary": "Looked at it", "artifacts": [artifact] });
    let submit = json!({ "token": step["new_token"], "output": output });
    let next = ok(owner, "workflow_next_step", submit).await;
    assert!(next["new_token"].is_string(), "a step is out: {next:#}");
    let execution = step["execution_id"].as_str().unwrap().to_owned();
    let read = rmcp::model::ReadResourceRequestParams::new("midex://workflow/artifacts/recent");
    let recent = owner.read_resource(read).await.unwrap();
    let recent = serde_json::to_value(&recent.contents[0]).unwrap();
    let recent: Value = serde_json::from_str(recent["text"].as_str().unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{recent:#}")).to_owned();
    let series = json!({ "series_id": 1, "user_id": 1, "concept": "A lighthouse" });
    let series = ok(owner, "create_workflow", series).await;
    BTreeMap::from([
        ("adw_id", text(&run["adw_id"])),
        ("phase", "plan".to_owned()),
        ("workflowName", "bug-fix".to_owned()),
        ("executionId", execution.clone()),
        ("execution_id", execution.clone()),
        ("task_id", execution),
        ("stepName", text(&step["step_name"])),
        ("artifactId", text(&recent[0]["artifact_id"])),
        ("type", "markdown".to_owned()),
        ("agent", text(&step["agent_name"])),
        ("projectId", "shop".to_owned()),
        ("project_id", "shop".to_owned()),
        ("workflow_id", series["workflow_id"].to_string()),
        ("book_number", "1".to_owned()),
        ("phase_number", "1".to_owned()),
        ("view", "summary".to_owned()),
    ])
}

/// A template with its variables filled in; optional ones are left out.
pub fn fill(template: &str, values: &BTreeMap<&'static str, String>) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (variable, behind) = after.split_once('}').unwrap();
        text.push_str(before);
        if !variable.starts_with('?') {
            let value = values.get(variable);
            text.push_str(value.unwrap_or_else(|| panic!("{template}: what is {variable}?")));
        }
        rest = behind;
    }
    text + rest
}
