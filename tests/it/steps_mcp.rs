//! Step workflows over the wire, for the tests: content of their own, and a walk through a workflow
//! in either dialect.

use std::collections::BTreeSet;
use std::path::Path;

use rmcp::model::{CallToolResult, ErrorData, ReadResourceRequestParams, ResourceContents};
use rmcp::service::ServiceError;
use serde_json::{Value, json};

use crate::mcp_support::*;

/// The two sets of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Seed001,
    Seed003,
}

pub const DIALECTS: [Dialect; 2] = [Dialect::Seed001, Dialect::Seed003];

impl Dialect {
    /// The argument that names a workflow.
    pub fn workflow(self) -> &'static str {
        match self {
            Dialect::Seed001 => "template_name",
            Dialect::Seed003 => "workflow_name",
        }
    }

    /// The argument that carries a token.
    pub fn token(self) -> &'static str {
        match self {
            Dialect::Seed001 => "step_token",
            Dialect::Seed003 => "token",
        }
    }

    /// The argument that carries an output.
    pub fn output(self) -> &'static str {
        match self {
            Dialect::Seed001 => "model_output_so_far",
            Dialect::Seed003 => "output",
        }
    }

    /// The argument that names an execution.
    pub fn execution(self) -> &'static str {
        match self {
            Dialect::Seed001 => "task_id",
            Dialect::Seed003 => "execution_id",
        }
    }

    /// The step that an answer hands out: its name and token.
    pub fn step(self, answer: &Value) -> Option<(String, String)> {
        let (name, token) = match self {
            Dialect::Seed001 => {
                (&answer["next_step_contract"]["step_name"], &answer["new_step_token"])
            }
            Dialect::Seed003 => (&answer["step_name"], &answer["new_token"]),
        };
        Some((name.as_str()?.to_owned(), token.as_str()?.to_owned()))
    }

    /// Arguments that hand a step in.
    pub fn submission(self, token: &str, output: Value) -> Value {
        json!({ self.token(): token, self.output(): output })
    }
}

/// Puts a file into the world's own content folder.
pub fn put(world: &World, path: &str, text: &str) {
    let path = world.content.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A world with content of the tests' own: two steps one after the other; odd names; a gate.
pub async fn world_with(options: Options) -> World {
    let world = World::with(options).await;
    for (path, text) in [
        ("agents/worker.md", WORKER),
        ("agents/supervisor.md", SUPERVISOR),
        ("rules/careful.md", RULE),
        ("workflows/tiny.md", TINY),
        ("workflows/odd.md", ODD),
        ("workflows/gated.md", GATED),
        ("workflows/wide.md", WIDE),
        ("workflows/broken.md", BROKEN),
    ] {
        put(&world, path, text);
    }
    world.steps.library().sync().await.unwrap();
    world
}

/// The same with the usual settings.
pub async fn world() -> World {
    world_with(Options::default()).await
}

const WORKER: &str = "---\nname: worker\ndescription: Does it\n---\n# Worker\n\nYou work.\n";
const SUPERVISOR: &str =
    "---\nname: supervisor\ndescription: Looks after it\n---\n# Supervisor\n\nYou look after it.\n";
const RULE: &str = "---\nname: careful\ndescription: Care\nalwaysApply: true\n---\n\
    # Care\n\n- **NEVER** push to main\n- **ALWAYS** run the tests\n";
const TINY: &str = "---\nname: tiny\ndescription: Two steps\ncomplexity: simple\ntags: [small]\n\
    phases:\n  - phase: first\n    agent: worker\n    description: Do the first thing\n\
    \x20 - phase: second\n    agent: worker\n    description: Do the second\n    dependsOn: [first]\n\
    ---\n# Tiny\n\nText of tiny.\n";
const ODD: &str = "---\nname: \"odd näme\"\ndescription: Odd\ncomplexity: simple\n\
    phases:\n  - phase: \"a/b ü\"\n    agent: worker\n    description: Odd\n---\nOdd.\n";
const GATED: &str = "---\nname: gated\ndescription: A gate\ncomplexity: simple\n\
    phases:\n  - phase: make\n    agent: worker\n    description: Make it\n\
    \x20 - phase: release\n    agent: worker\n    description: Release it\n    dependsOn: [make]\n\
    \x20   requires_approval: true\n---\nGated.\n";
const WIDE: &str = "---\nname: wide\ndescription: Three at once\ncomplexity: simple\n\
    phases:\n  - phase: a\n    agent: worker\n    description: A\n\
    \x20 - phase: b\n    agent: worker\n    description: B\n\
    \x20 - phase: c\n    agent: worker\n    description: C\n---\nWide.\n";
const BROKEN: &str = "---\nname: broken\ndescription: A circle\ncomplexity: simple\n\
    phases:\n  - phase: a\n    agent: nobody\n    description: A\n    dependsOn: [a]\n---\nNo.\n";

/// An output with everything in it.
pub fn output(step: &str) -> Value {
    json!({
        "summary": format!("did {step}"),
        "artifacts": [{
            "type": "markdown", "title": format!("About {step}"), "content": format!("# {step}\n"),
        }],
        "references": ["src/auth/login.rs"],
        "confidence": 0.9,
    })
}

/// Calls a tool of the family that must do it.
pub async fn done(client: &Client, tool: &str, arguments: Value) -> Value {
    let result = call(client, tool, arguments).await;
    assert_eq!(result.is_error, Some(false), "{result:?}");
    told(&result)
}

/// Calls a tool of the family that must refuse.
pub async fn refusal(client: &Client, tool: &str, arguments: Value) -> Value {
    let result = call(client, tool, arguments).await;
    assert_eq!(result.is_error, Some(true), "{result:?}");
    let told = told(&result);
    assert!(told["code"].is_string() && told["error"].is_string(), "{told}");
    assert!(told["success"] == false || told["status"] == "error", "{told}");
    told
}

fn told(result: &CallToolResult) -> Value {
    assert_mirrored(result);
    result.structured_content.clone().unwrap()
}

/// Starts a workflow; the answer.
pub async fn start(client: &Client, dialect: Dialect, workflow: &str) -> Value {
    done(client, "workflow_start", json!({ dialect.workflow(): workflow })).await
}

/// Goes through a started workflow to its end; the steps in the order they were done, and the last
/// answer. A gate is approved as a person would.
pub async fn walk(client: &Client, dialect: Dialect, mut answer: Value) -> (Vec<String>, Value) {
    let id = answer["execution_id"].as_str().unwrap().to_owned();
    let mut order = Vec::new();
    for _ in 0..64 {
        if answer["workflow_state"] == "paused" {
            let approve = json!({ dialect.execution(): id, "action": "approve" });
            answer = done(client, "workflow_control", approve).await;
        }
        let Some((step, token)) = dialect.step(&answer) else { break };
        let submission = dialect.submission(&token, output(&step));
        answer = done(client, "workflow_next_step", submission).await;
        order.push(step);
    }
    (order, answer)
}

/// Reads a resource as text; the address is echoed.
pub async fn read_text(client: &Client, uri: &str) -> Result<(String, String), ErrorData> {
    match client.read_resource(ReadResourceRequestParams::new(uri)).await {
        Ok(result) => match result.contents.into_iter().next() {
            Some(ResourceContents::TextResourceContents {
                uri: echoed, mime_type, text, ..
            }) => {
                assert_eq!(echoed, uri);
                Ok((mime_type.unwrap(), text))
            }
            other => panic!("{uri}: {other:?}"),
        },
        Err(ServiceError::McpError(error)) => Err(error),
        Err(other) => panic!("{uri}: {other:?}"),
    }
}

/// Reads a resource that is JSON.
pub async fn read(client: &Client, uri: &str) -> Value {
    let (mime, text) = read_text(client, uri).await.unwrap_or_else(|e| panic!("{uri}: {e:?}"));
    assert_eq!(mime, "application/json", "{uri}");
    serde_json::from_str(&text).unwrap()
}

/// The names of the workflows that ship.
pub fn shipped_workflows() -> BTreeSet<String> {
    let stems = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.extension()? == "md").then(|| stem(&path))
    };
    std::fs::read_dir(shipped().join("workflows")).unwrap().filter_map(stems).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}
