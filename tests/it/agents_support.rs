//! Real agent programs (Claude Code, Codex, opencode, Gemini CLI) against a model on loopback.
//!
//! They are 1.4 GB, so they are tried only where `ADWD_TEST_AGENTS` names a folder with them; how it
//! is filled says `tests/agents/README.md`. Elsewhere the tests say SKIPPED and prove nothing.

// Not every test file needs everything.
#![allow(dead_code)]
// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;

use serde_json::{Value, json};

use crate::world::{ADWD, SOON, World, eventually, quoted};

/// The variable that names the folder where the npm packages were installed.
pub const SWITCH: &str = "ADWD_TEST_AGENTS";
const STUB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents/stub_model.py");
/// What the key of every agent is; it must be in no log.
pub const KEY: &str = "sk-ant-a-key-of-the-test";

/// An agent program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cli {
    Claude,
    Codex,
    Opencode,
    Gemini,
}

impl Cli {
    /// Its name as a project's `agent`, and as a program.
    pub fn name(self) -> &'static str {
        match self {
            Cli::Claude => "claude",
            Cli::Codex => "codex",
            Cli::Opencode => "opencode",
            Cli::Gemini => "gemini",
        }
    }
}

/// The folder with the programs.
pub struct Shelf(PathBuf);

/// The shelf of `ADWD_TEST_AGENTS`; `None`, said loudly once, where there is none.
pub fn shelf() -> Option<Shelf> {
    static SAID: Once = Once::new();
    if let Some(folder) = std::env::var_os(SWITCH) {
        let shelf = Shelf(PathBuf::from(folder).join("node_modules"));
        assert!(
            shelf.program(Cli::Claude).exists(),
            "{SWITCH}: {} is not filled",
            shelf.0.display()
        );
        return Some(shelf);
    }
    SAID.call_once(|| {
        // Straight to the file descriptor: libtest keeps what a passing test prints to itself.
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED ({SWITCH} is not set): the real agent programs were not tried; \
             tests/agents/README.md says how\n"
        );
    });
    None
}

impl Shelf {
    /// A program.
    pub fn program(&self, cli: Cli) -> PathBuf {
        self.0.join(".bin").join(cli.name())
    }

    /// The environment of a world becomes that of somebody who has all four, with keys for a model
    /// that is at `model`.
    pub fn put_into(&self, world: &World, model: &Model) {
        let path = world.env()["PATH"].clone();
        let (node, bin) = (self.0.join("node/bin"), self.0.join(".bin"));
        let own = Path::new(ADWD).parent().unwrap();
        let text = |path: &Path| path.display().to_string();
        let path = [text(&node), text(&bin), text(own), path].join(":");
        world.set_env("PATH", Some(&path));
        for (name, value) in [
            ("ANTHROPIC_BASE_URL", model.url.as_str()),
            ("ANTHROPIC_API_KEY", KEY),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("OPENAI_API_KEY", KEY),
            ("GEMINI_API_KEY", KEY),
            ("GOOGLE_GEMINI_BASE_URL", model.url.as_str()),
            ("GEMINI_CLI_TRUST_WORKSPACE", "true"),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_MODELS_FETCH", "1"),
            ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1"),
        ] {
            world.set_env(name, Some(value));
        }
        world.write("home/.codex/config.toml", &codex_config(&model.url, 4));
    }
}

/// What a user of Codex writes to use a model elsewhere; `retries` of what fails.
pub fn codex_config(url: &str, retries: u32) -> String {
    format!(
        "model = \"gpt-5.5\"\nmodel_provider = \"stub\"\ncheck_for_update_on_startup = false\n\
         [analytics]\nenabled = false\n[model_providers.stub]\nname = \"stub\"\n\
         base_url = \"{url}/v1\"\nwire_api = \"responses\"\nenv_key = \"OPENAI_API_KEY\"\n\
         request_max_retries = {retries}\nstream_max_retries = {retries}\n"
    )
}

/// A model of a test: `tests/agents/stub_model.py`. It ends with it.
pub struct Model {
    folder: tempfile::TempDir,
    child: Child,
    pub url: String,
}

impl Model {
    /// Starts one that plays these turns, by role.
    pub async fn playing(roles: Value) -> Model {
        // Not in a world: it is no process that a run may leave behind.
        let folder = tempfile::Builder::new().prefix("adwd-model-").tempdir_in("/tmp").unwrap();
        write_script(folder.path(), &roles);
        let said = fs::File::create(folder.path().join("stub.log")).unwrap();
        let child = Command::new("python3")
            .arg(STUB)
            .args([&folder.path().join("script.json"), folder.path()])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .expect("python3 starts");
        let port = eventually("the model listens", SOON, async || {
            let port = fs::read_to_string(folder.path().join("port"));
            port.map_err(|_| fs::read_to_string(folder.path().join("stub.log")).unwrap())
        })
        .await;
        Model { folder, child, url: format!("http://127.0.0.1:{port}") }
    }

    /// From now on it plays these turns.
    pub fn play(&self, roles: Value) {
        write_script(self.folder.path(), &roles);
    }

    /// What it was asked, in order.
    pub fn requests(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("requests.jsonl"));
        let text = text.unwrap_or_default();
        // The last line may be in the making.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What it was asked in a role.
    pub fn asked_as(&self, role: &str) -> Vec<Value> {
        let mut requests = self.requests();
        requests.retain(|request| request["role"] == role);
        requests
    }

    /// The text that agents handed back as results of tools, in the last request of a role.
    pub fn last_body(&self, role: &str) -> String {
        let requests = self.asked_as(role);
        requests.last().map(|request| request["body"].to_string()).unwrap_or_default()
    }

    /// Waits until a turn stands at that gate.
    pub async fn at_gate(&self, name: &str) {
        let mark = self.folder.path().join(format!("at-{name}"));
        eventually(&format!("the model is at gate {name}"), SOON * 2, async || {
            if mark.exists() { Ok(()) } else { Err(self.last_roles()) }
        })
        .await;
    }

    /// Opens a gate, for good.
    pub fn open_gate(&self, name: &str) {
        fs::write(self.folder.path().join(format!("open-{name}")), "").unwrap();
    }

    fn last_roles(&self) -> String {
        let told = |r: &Value| format!("{} {} {}", r["role"], r["turn"], r["calls"]);
        self.requests().iter().map(told).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the model was asked:\n{}", self.last_roles());
            let said = fs::read_to_string(self.folder.path().join("stub.log"));
            eprintln!("the model said: {}", said.unwrap_or_default());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_script(folder: &Path, roles: &Value) {
    let fresh = folder.join("script.new");
    fs::write(&fresh, json!({ "roles": roles }).to_string()).unwrap();
    fs::rename(fresh, folder.join("script.json")).unwrap();
}

/// Turns of agents that do their work: an answer by the classifier, a look and a plan, a file by a
/// command and one by the agent's own editor, a look and a review. Each turn costs 10 input and 5
/// output tokens.
pub fn good_work() -> Value {
    json!({
        "classifier": [{ "text": "{\"class\": \"feature\", \"reason\": \"it is new\"}" }],
        "planner": [
            { "text": "I look first.", "shell": "git log --oneline" },
            { "text": PLAN },
        ],
        "implementor": [
            { "text": "First a command.", "shell": "mkdir -p notes && echo by the agent >notes/1.txt" },
            { "write": { "path": "notes/2.txt", "text": "by the editor\n" } },
            { "text": "Two notes were added, because the plan says so." },
        ],
        "reviewer": [
            { "shell": "git log --oneline" },
            { "text": "{\"success\": true, \"review_summary\": \"It is as planned.\", \"review_issues\": []}" },
        ],
    })
}

/// A plan.
pub const PLAN: &str = "Add two notes.\n\n1. Add notes/1.txt.\n2. Add notes/2.txt.\n";

/// The same with other turns for one role.
pub fn work_but(role: &str, turns: Value) -> Value {
    let mut roles = good_work();
    roles[role] = turns;
    roles
}

/// The lines of a `[[project]]` whose agent is that program.
pub fn agent_is(cli: Cli) -> String {
    format!("agent = {}\n", quoted(cli.name()))
}
