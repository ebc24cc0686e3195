//! The official inspector, on the command line, in both eras of the protocol, over HTTP and
//! `adwd stdio`: every tool's schemas under `--strict`, every tool that only reads, resources, prompts,
//! and the exit code of what is refused.
// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use serde_json::{Value, json};

use crate::access_support::made_key;
use crate::mcp_support::ok;
use crate::node::{self, Node};
use crate::world::{ADWD, Daemon, World, wait_status};

const INSPECTOR: &str = "@modelcontextprotocol/inspector/clients/launcher/build/index.js";
/// How long one look may take on a busy machine; alone it takes half a second.
const LOOK: Duration = Duration::from_secs(600);
/// Inspectors at once.
const AT_ONCE: usize = 2;
/// Exit codes of the inspector.
const RC_TOOL_ERROR: i32 = 5;
const RC_PROTOCOL_ERROR: i32 = 1;

const ALL_TOOLSETS: &str = "adw,steps,writing,admin";

/// A road and an era.
#[derive(Clone, Copy, Debug)]
struct Way {
    stdio: bool,
    era: &'static str,
}

const fn way(stdio: bool, era: &'static str) -> Way {
    Way { stdio, era }
}

const WAYS: [Way; 4] =
    [way(false, "legacy"), way(false, "modern"), way(true, "legacy"), way(true, "modern")];
const AUTO: [Way; 2] = [way(false, "auto"), way(true, "auto")];
/// Both eras and both roads in two looks, for what does not depend on how they meet.
const CORNERS: [Way; 2] = [way(false, "modern"), way(true, "legacy")];
const OTHER_CORNERS: [Way; 2] = [way(false, "legacy"), way(true, "modern")];

/// A daemon with one of everything to look at, and the inspector.
struct Bench {
    node: Node,
    url: String,
    key: String,
    env: Vec<(String, String)>,
    run: String,
    series: i64,
    execution: String,
}

/// What the inspector said of one look.
#[derive(Debug)]
struct Seen {
    what: String,
    rc: Option<i32>,
    out: String,
    err: String,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

impl Bench {
    /// Looks with these words at what these toolsets show.
    async fn look(&self, way: Way, toolsets: &str, words: &[&str]) -> Seen {
        let home = tempfile::tempdir().unwrap();
        let mut inspector = tokio::process::Command::from(self.node.package(INSPECTOR));
        inspector.arg("--cli");
        if way.stdio {
            inspector.args([ADWD, "stdio"]);
            for (name, value) in &self.env {
                inspector.args(["-e", &format!("{name}={value}")]);
            }
            inspector.args(["-e", &format!("ADWD_TOOLSETS={toolsets}")]);
        } else {
            inspector
                .arg(format!("{}?toolsets={toolsets}", self.url))
                .args(["--transport", "http"]);
            inspector.args(["--header", &format!("Authorization: Bearer {}", self.key)]);
        }
        inspector.args(["--protocol-era", way.era]).args(words);
        inspector.env("HOME", home.path()).current_dir(home.path());
        inspector.stdin(Stdio::null()).kill_on_drop(true);
        let what = format!("{way:?} {toolsets} {words:?}");
        let ended = tokio::time::timeout(LOOK, inspector.output()).await;
        let Output { status, stdout, stderr } =
            ended.unwrap_or_else(|_| panic!("{what}: not within {LOOK:?}")).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Seen { what, rc: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// A look at everything that must go well and say nothing beside the result.
    async fn good(&self, way: Way, words: &[&str]) -> Value {
        self.good_of(way, ALL_TOOLSETS, words).await
    }

    async fn good_of(&self, way: Way, toolsets: &str, words: &[&str]) -> Value {
        let words = [words, &["--format", "json"]].concat();
        let seen = self.look(way, toolsets, &words).await;
        assert!(seen.rc == Some(0) && seen.err.is_empty(), "{}: {seen:#?}", seen.what);
        seen.json()["result"].clone()
    }

    /// Tools with the schemas held against what model providers take; any complaint is one.
    async fn tools(&self, way: Way, toolsets: &str) -> Vec<Value> {
        let listed = self.good_of(way, toolsets, &["--method", "tools/list", "--strict"]).await;
        listed["tools"].as_array().unwrap().clone()
    }

    /// Arguments for each tool that only reads.
    fn arguments(&self, tool: &str) -> Value {
        let (run, series) = (&self.run, self.series);
        match tool {
            "get_adw_state" => json!({ "adw_id": run }),
            "list_adw_workflows" => json!({ "limit": 5, "status_filter": "completed" }),
            "get_adw_logs" => json!({ "adw_id": run, "phase": "plan", "limit": 3 }),
            "wait_adw_workflow" => json!({ "adw_id": run, "timeout_s": 1 }),
            "get_usage" => json!({ "by": "day" }),
            "list_adw_projects" | "get_phase_analytics" | "list_access_keys" => json!({}),
            "list_active_workflows" => json!({ "limit": 5 }),
            "get_revision_status" | "get_qa_report" => {
                json!({ "workflow_id": series, "book_number": 1 })
            }
            "check_gate_status" => json!({ "workflow_id": series, "phase_number": 1 }),
            "get_workflow_state"
            | "get_phase_history"
            | "get_pending_approvals"
            | "get_series_progress"
            | "get_workflow_metrics"
            | "get_workflow_velocity"
            | "get_daily_writing_stats" => {
                json!({ "workflow_id": series })
            }
            "list_mcp_invocations" => json!({ "limit": 5 }),
            other => panic!("{other} reads and is new: say here with what it is called"),
        }
    }
}

/// A world with a repository.
async fn shop() -> World {
    let world = World::new().await;
    world.serve(&world.repo("shop"), "");
    world.set("steps.rate_limits", "false");
    world
}

impl Bench {
    /// With a completed run, a series and an execution.
    async fn of(node: Node, world: &World, daemon: &Daemon<'_>) -> Arc<Bench> {
        let client = daemon.client().await;
        let asked = json!({ "issue_number": 1, "phases": ["plan"] });
        let run = ok(&client, "trigger_adw_workflow", asked).await;
        let run = run["adw_id"].as_str().unwrap().to_owned();
        let asked = json!({ "series_id": 1, "user_id": 1, "concept": "lighthouses" });
        let series = ok(&client, "create_workflow", asked).await;
        let asked = json!({ "workflow_name": "bug-fix" });
        let execution = ok(&client, "workflow_start", asked).await;
        wait_status(&client, &run, "completed").await;
        Arc::new(Bench {
            node,
            url: daemon.url(),
            key: made_key(world, &["--tier", "admin"]).await,
            env: world.env().into_iter().collect(),
            run,
            series: series["workflow_id"].as_i64().unwrap(),
            execution: execution["execution_id"].as_str().unwrap().to_owned(),
        })
    }
}

fn inspector() -> Option<Node> {
    node::node("the official inspector was")
}

/// Looks at all of these, a few at once.
async fn each<T: Send + 'static, F: Future<Output = ()> + Send>(
    bench: &Arc<Bench>,
    things: Vec<T>,
    look: impl Fn(Arc<Bench>, T) -> F,
) {
    stream::iter(things)
        .map(|thing| look(bench.clone(), thing))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inspector_finds_nothing_to_say_of_any_tool() {
    let Some(node) = inspector() else { return };
    let world = shop().await;
    let daemon = world.daemon().await;
    let bench = Bench::of(node, &world, &daemon).await;
    let names = |tools: &[Value]| -> BTreeSet<String> {
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = bench.tools(WAYS[1], ALL_TOOLSETS).await;
    // Every toolset alone, and nothing but them.
    let mut together = BTreeSet::new();
    for set in ALL_TOOLSETS.split(',') {
        let own = names(&bench.tools(WAYS[1], set).await);
        assert!(!own.is_empty() && together.is_disjoint(&own), "{set}: {own:?}");
        together.extend(own);
    }
    assert_eq!(names(&all), together);
    // The same in every era and on every road.
    let others = [WAYS[0], WAYS[2], WAYS[3], AUTO[0], AUTO[1]];
    each(&bench, others.to_vec(), |bench, way| async move {
        let listed: BTreeSet<String> = bench
            .tools(way, ALL_TOOLSETS)
            .await
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect();
        assert!(listed.len() > 40, "{way:?}: {listed:?}");
    })
    .await;
    let reads = all.iter().filter(|tool| tool["annotations"]["readOnlyHint"] == true);
    let reads: Vec<String> = reads.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
    assert!(reads.len() > 15, "{reads:?}");
    // Each in both eras and on both roads, which are the corners of one diagonal or of the other.
    let calls = reads.iter().enumerate().flat_map(|(n, tool)| {
        let ways = if n % 2 == 0 { CORNERS } else { OTHER_CORNERS };
        ways.map(|way| (tool.clone(), way))
    });
    each(&bench, calls.collect(), |bench, (tool, way)| async move {
        let arguments = bench.arguments(&tool).to_string();
        let words =
            ["--method", "tools/call", "--tool-name", &tool, "--tool-args-json", &arguments];
        let answer = bench.good(way, &words).await;
        assert!(answer["structuredContent"].is_object(), "{tool} {way:?}: {answer:#}");
        assert_ne!(answer["isError"], true, "{tool} {way:?}: {answer:#}");
    })
    .await;
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inspector_reads_resources_and_prompts_and_is_refused_by_its_exit_code() {
    let Some(node) = inspector() else { return };
    let world = shop().await;
    let daemon = world.daemon().await;
    let bench = Bench::of(node, &world, &daemon).await;
    let lists = [
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
        ("prompts/list", "prompts"),
    ];
    let all = WAYS.iter().flat_map(|way| lists.map(|list| (*way, list)));
    each(&bench, all.collect(), |bench, (way, (method, field))| async move {
        let listed = bench.good(way, &["--method", method]).await;
        assert!(listed[field].as_array().is_some_and(|all| all.len() > 5), "{way:?}: {listed:#}");
    })
    .await;
    let (run, series, execution) = (&bench.run, bench.series, &bench.execution);
    let mut addresses = vec![
        format!("adw://runs/{run}"),
        format!("adw://runs/{run}/state"),
        format!("adw://runs/{run}/log/plan"),
        format!("midex://workflow/workflow_status/{execution}"),
        format!("midex://workflow/current_step/{execution}"),
    ];
    // Everything that is listed can be read.
    let listed = bench.good(WAYS[1], &["--method", "resources/list"]).await;
    let uris = listed["resources"].as_array().unwrap().iter().map(|r| r["uri"].as_str().unwrap());
    addresses.extend(uris.map(str::to_owned));
    each(&bench, addresses, |bench, uri| async move {
        let read = bench.good(CORNERS[0], &["--method", "resources/read", "--uri", &uri]).await;
        assert!(read["contents"][0]["text"].is_string(), "{uri}: {read:#}");
    })
    .await;
    let prompts = [
        ("run_issue", "issue_number=1".to_owned()),
        ("diagnose_run", format!("adw_id={run}")),
        ("writing_status", format!("workflow_id={series}")),
        ("bug-fix", "task=mend it".to_owned()),
    ];
    let gets = prompts.into_iter().flat_map(|prompt| CORNERS.map(|way| (way, prompt.clone())));
    each(&bench, gets.collect(), |bench, (way, (name, argument))| async move {
        let words = ["--method", "prompts/get", "--prompt-name", name, "--prompt-args", &argument];
        let got = bench.good(way, &words).await;
        assert!(got["messages"][0]["content"]["text"].is_string(), "{name} {way:?}: {got:#}");
    })
    .await;
    let state = ["--method", "tools/call", "--tool-name", "get_adw_state"];
    let refusals: [(i32, &[&str]); 4] = [
        (RC_TOOL_ERROR, &["--tool-args-json", r#"{"adw_id":"00000000"}"#]),
        (RC_TOOL_ERROR, &["--method", "tools/call", "--tool-name", "no_such_tool"]),
        (RC_PROTOCOL_ERROR, &["--method", "resources/read", "--uri", "adw://runs/00000000"]),
        (RC_PROTOCOL_ERROR, &["--method", "prompts/get", "--prompt-name", "no_such_prompt"]),
    ];
    for way in CORNERS {
        for (rc, words) in refusals {
            let words =
                if words[0] == "--method" { words.to_vec() } else { [&state, words].concat() };
            let seen = bench.look(way, ALL_TOOLSETS, &words).await;
            assert_eq!(seen.rc, Some(rc), "{}: {seen:#?}", seen.what);
        }
    }
    world.quiet().await;
}
