//! Repositories of foreign layouts in a world, with stand-ins for the paid model and the forge.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::mcp_support::{Client, ok};
use crate::world::repo::git_at;
use crate::world::{RUN, World, eventually, wait_ended};

/// A repository of one of the layouts, in a world whose daemon finds the stand-ins.
pub struct Foreign {
    pub root: PathBuf,
    pub fake: PathBuf,
}

/// Makes it with the tests' `make_repo.py`.
pub async fn foreign(world: &World, layout: &str, flags: &[&str]) -> Foreign {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let base = world.path("foreign");
    let script = fixtures.join("make_repo.py").display().to_string();
    let base_text = base.display().to_string();
    let mut args = vec![script.as_str(), layout, &base_text];
    args.extend(flags);
    world.run_in(&world.root, "python3", &args).await.with_code(0);
    let bin = fixtures.join("bin");
    let path = format!("{}:{}", bin.display(), world.env()["PATH"]);
    world.set_env("PATH", Some(&path));
    world.set_env("ANTHROPIC_API_KEY", Some("none"));
    world.set_env("CLAUDE_CODE_PATH", Some(&bin.join("claude").display().to_string()));
    world.serve_nothing();
    Foreign { root: base.join("repo"), fake: base.join("fake") }
}

impl Foreign {
    /// Makes issue `n`, whose run goes wrong by these directives (`tests/fixtures/README.md`).
    pub fn issue(&self, n: u32, directives: &str) {
        let body = format!("Add a line for visitor {n}.\n\n{directives}\n");
        let text = json!({ "title": format!("Greet visitor {n}"), "body": body }).to_string();
        std::fs::create_dir_all(self.fake.join("issues")).unwrap();
        std::fs::write(self.fake.join(format!("issues/{n}.json")), text).unwrap();
    }

    /// The calls of the agent so far: its command, where, by which process.
    pub fn calls(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.fake.join("claude.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the agent of `command` works in the worktree of the run; its process.
    pub async fn working(&self, command: &str, id: &str) -> i32 {
        eventually(&format!("{command} of {id} is called"), RUN, async || {
            let calls = self.calls();
            let is = |call: &&Value| {
                call["command"] == command && call["cwd"].as_str().unwrap().contains(&id[..8])
            };
            let pid = calls.iter().rfind(is).and_then(|call| call["pid"].as_i64());
            pid.map(|pid| i32::try_from(pid).unwrap()).ok_or_else(|| format!("{calls:#?}"))
        })
        .await
    }

    /// Runs git in the main checkout.
    pub fn git(&self, args: &[&str]) -> String {
        git_at(&self.root, &[], args)
    }

    /// The worktrees beside the main checkout.
    pub fn worktrees(&self) -> usize {
        self.git(&["worktree", "list"]).lines().count() - 1
    }

    /// The state file of a run of the kotadb layout.
    pub fn state_file(&self, id: &str) -> PathBuf {
        self.root.join("automation/agents").join(id).join("adw_state.json")
    }
    /// What the stand-ins do wrong (`tests/fixtures/README.md`).
    pub fn behave(&self, directives: &str) {
        std::fs::write(self.fake.join("behave"), directives).unwrap();
    }

    /// Has it served, as `theirs`.
    pub async fn added(&self, client: &Client) -> Value {
        ok(
            client,
            "add_adw_project",
            json!({ "path": self.root.display().to_string(), "name": "theirs" }),
        )
        .await
    }
}

/// Runs an issue to its end.
pub async fn run(client: &Client, issue: &str) -> Value {
    let started =
        ok(client, "trigger_adw_workflow", json!({ "issue_number": issue, "project": "theirs" }))
            .await;
    wait_ended(client, started["adw_id"].as_str().unwrap()).await
}

/// The phases, each with its status.
pub fn statuses(run: &Value) -> Vec<String> {
    let phases = run["phases"].as_array().unwrap();
    phases
        .iter()
        .map(|p| format!("{} {}", p["phase"].as_str().unwrap(), p["status"].as_str().unwrap()))
        .collect()
}

/// Starts an issue; the run's id.
pub async fn start(client: &Client, issue: u32) -> String {
    let asked = json!({ "issue_number": issue, "project": "theirs" });
    crate::crash_support::trigger(client, asked).await
}

/// Insists on a failure of that phase and class, after one try, whose sentence has these words.
#[track_caller]
pub fn assert_failed(run: &Value, phase: &str, class: &str, words: &[&str]) {
    let failure = &run["failure"];
    let is = (&run["status"], failure["phase"].as_str(), failure["class"].as_str());
    assert_eq!(is, (&json!("failed"), Some(phase), Some(class)), "{run:#}");
    let said = failure["message"].as_str().unwrap();
    for word in words {
        assert!(said.contains(word), "{word:?} in {said:?}");
    }
    assert_eq!(crate::crash_support::attempts(run, phase).len(), 1, "{run:#}");
}
