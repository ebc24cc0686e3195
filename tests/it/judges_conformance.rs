//! The official conformance suite: on the real program, and its full requirement sets on the same
//! router with the suite's own fixtures behind it (`tests/conformance`).
//!
//! Graded is what the suite writes into `checks.json`, check by check; which scenarios there are is
//! written here, so that a suite with new ones fails until somebody has looked at them.
// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

#[path = "../conformance/fixture/mod.rs"]
mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::node::{self, Node};
use crate::world::World;

const SUITE: &str = "@modelcontextprotocol/conformance/dist/index.js";
/// How long a whole set may take on a busy machine; alone it takes 20 s.
const SET: Duration = Duration::from_secs(400);
/// Milliseconds for one scenario.
const SCENARIO_MS: &str = "90000";
/// The check of every message against the schema of its revision.
const WIRE: &str = "wire-schema-valid";

/// Scenarios of 2026-07-28 that ask nothing but what every server has: no failure on the product.
const GRADED_MODERN: [&str; 10] = [
    "caching",
    "completion-complete",
    "dns-rebinding-protection",
    "http-header-validation",
    "input-required-result-unsupported-methods",
    "prompts-list",
    "resources-list",
    "sep-2164-resource-not-found",
    "server-sse-multiple-streams",
    "tools-list",
];

/// Those of 2025-11-25.
const GRADED_LEGACY: [&str; 9] = [
    "completion-complete",
    "dns-rebinding-protection",
    "ping",
    "prompts-list",
    "resources-list",
    "resources-subscribe",
    "resources-unsubscribe",
    "server-initialize",
    "tools-list",
];

/// Scenarios that call fixed names (`test_simple_text`, `test://static-text`), in both revisions:
/// the product must refuse them as unknown.
const FIXTURES: [&str; 15] = [
    "json-schema-2020-12",
    "prompts-get-embedded-resource",
    "prompts-get-simple",
    "prompts-get-with-args",
    "prompts-get-with-image",
    "resources-read-binary",
    "resources-read-text",
    "resources-templates-read",
    "tools-call-audio",
    "tools-call-embedded-resource",
    "tools-call-error",
    "tools-call-image",
    "tools-call-mixed-content",
    "tools-call-simple-text",
    "tools-call-with-progress",
];

/// The same of 2026-07-28 alone. `server-stateless` has four checks that need a fixture, of 28.
const FIXTURES_MODERN: [&str; 21] = [
    "http-custom-header-server-validation",
    "input-required-result-basic-elicitation",
    "input-required-result-basic-list-roots",
    "input-required-result-basic-sampling",
    "input-required-result-capability-check",
    "input-required-result-multi-round",
    "input-required-result-multiple-input-requests",
    "input-required-result-non-tool-request",
    "input-required-result-request-state",
    "input-required-result-result-type",
    "input-required-result-tampered-state",
    "server-stateless",
    "tasks-capability-negotiation",
    "tasks-dispatch-and-envelope",
    "tasks-lifecycle",
    "tasks-mrtr-composition",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-request-state-removal",
    "tasks-required-task-error",
    "tasks-wire-fields",
];

/// The same of 2025-11-25 alone; `logging/setLevel` is deprecated and not offered.
const FIXTURES_LEGACY: [&str; 6] = [
    "elicitation-sep1034-defaults",
    "elicitation-sep1330-enums",
    "logging-set-level",
    "tools-call-elicitation",
    "tools-call-sampling",
    "tools-call-with-logging",
];

/// Scenarios that pass where nothing was tried: a refusal is enough for them, or they are about
/// sessions, or the suite passes them over. They count for nothing.
const EMPTY_MODERN: [&str; 4] = [
    "input-required-result-ignore-extra-params",
    "input-required-result-missing-input-response",
    "input-required-result-validate-input",
    "tasks-status-notifications",
];
const EMPTY_LEGACY: [&str; 3] =
    ["server-session-lifecycle", "server-sse-multiple-streams", "server-sse-polling"];

/// Scenarios whose messages the suite itself does not hold against the schema.
const WIRELESS: [&str; 6] = [
    "dns-rebinding-protection",
    "server-session-lifecycle",
    "server-sse-multiple-streams",
    "server-sse-polling",
    "server-stateless",
    "tasks-status-notifications",
];

/// Scenarios of an extension that the daemon does not speak and that no requirement set names.
const SKILLS: [&str; 3] =
    ["sep-2640-skills-directory", "sep-2640-skills-enumeration", "sep-2640-skills-manifest"];

/// How a check says that it had no fixture to work on.
const ABSENT: [&str; 10] = [
    "Unknown tool: ",
    "Unknown prompt \"test_",
    "Resource not found: \"test://",
    "Not testable: ",
    "Tool 'json_schema_2020_12_tool' not found",
    "Prerequisite failed: could not get initial InputRequiredResult",
    // Of scenarios that do not pass on what the server said.
    "Expected InputRequiredResult with inputRequests and requestState",
    "routing-task fixture from Check 2 unavailable",
    "tools/call for failing_job returned error code -32602",
    "logging/setLevel",
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    id: String,
    status: String,
    #[serde(default)]
    error_message: String,
}

impl Check {
    fn is(&self, status: &str) -> bool {
        self.status == status
    }
}

/// What came of one set of scenarios.
struct Report {
    scenarios: BTreeMap<String, Vec<Check>>,
    success: bool,
    said: String,
}

impl Report {
    fn read(folder: &Path, success: bool, said: String) -> Report {
        let mut scenarios = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            // `server-tools-list-2026-11-26T16-57-20-740Z`
            let name = name.strip_prefix("server-").unwrap();
            let name = &name[..name.len() - "-2026-11-26T16-57-20-740Z".len()];
            let checks = fs::read_to_string(entry.path().join("checks.json")).unwrap();
            let checks: Vec<Check> = serde_json::from_str(&checks).unwrap();
            assert!(!checks.is_empty(), "{name} checked nothing");
            assert!(scenarios.insert(name.to_owned(), checks).is_none(), "{name} ran twice");
        }
        Report { scenarios, success, said }
    }

    /// The checks of that status, as `scenario: check`, and what each says.
    fn all(&self, status: &str) -> BTreeMap<String, &str> {
        let mut found = BTreeMap::new();
        for (name, checks) in &self.scenarios {
            let those = checks.iter().filter(|check| check.is(status));
            found.extend(those.map(|c| (format!("{name}: {}", c.id), c.error_message.as_str())));
        }
        found
    }

    /// Exactly these checks warned.
    fn assert_warned(&self, known: &[&str]) {
        let warned = self.all("WARNING");
        assert_eq!(warned.keys().collect::<Vec<_>>(), known, "{warned:#?}");
    }

    /// How many checks succeeded that the suite scores.
    fn successes(&self) -> usize {
        self.scenarios.values().flatten().filter(|check| check.is("SUCCESS")).count()
    }

    /// These scenarios ran, and no others.
    fn assert_are(&self, known: &[&[&str]]) {
        let known: BTreeSet<&str> = known.concat().into_iter().collect();
        let ran: BTreeSet<&str> = self.scenarios.keys().map(String::as_str).collect();
        assert_eq!(ran, known, "{}", self.said);
    }

    /// Every message of every scenario is what its revision's schema allows, failed ones included.
    fn assert_wire(&self) {
        for (name, checks) in &self.scenarios {
            let wire: Vec<_> = checks.iter().filter(|check| check.id == WIRE).collect();
            assert!(wire.iter().all(|check| check.is("SUCCESS")), "{name}: {wire:#?}");
            let is_watched = !WIRELESS.contains(&name.as_str());
            assert_eq!(wire.len(), usize::from(is_watched), "{name}: {checks:#?}");
        }
    }
}

/// Runs one set against a server.
async fn run(node: &Node, url: &str, set: &[&str]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut suite = tokio::process::Command::from(node.package(SUITE));
    suite.args(["server", "--url", url, "--timeout", SCENARIO_MS]).args(set).arg("-o").arg(&out);
    suite.env("HOME", folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(SET, suite.output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{set:?} within {SET:?}")).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Report::read(&out, output.status.success(), said)
}

/// The suite, or nothing, loudly.
fn suite() -> Option<Node> {
    node::node("the official conformance suite was")
}

/// What the product is graded on: no failure but for want of a fixture, none at all in `graded`.
fn assert_graded(report: &Report, graded: &[&str], fixtures: &[&[&str]]) {
    report.assert_wire();
    for (name, checks) in &report.scenarios {
        let failed: Vec<_> = checks.iter().filter(|check| check.is("FAILURE")).collect();
        let lacks = |check: &&&Check| ABSENT.iter().any(|why| check.error_message.contains(why));
        assert_eq!(failed.iter().filter(lacks).count(), failed.len(), "{name}: {failed:#?}");
        let may_fail = fixtures.iter().any(|all| all.contains(&name.as_str()));
        assert!(failed.is_empty() || may_fail, "{name}: {failed:#?}");
        if graded.contains(&name.as_str()) {
            assert!(failed.is_empty(), "{name}: {failed:#?}");
            let good = checks.iter().filter(|check| check.is("SUCCESS") && check.id != WIRE);
            assert!(good.count() > 0, "{name} proved nothing: {checks:#?}");
        }
    }
}

#[test]
fn every_scenario_of_the_suite_is_known_here() {
    let Some(node) = suite() else { return };
    let output = node.package(SUITE).arg("list").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let servers = said.split("\n\n").find(|part| part.starts_with("Server scenarios")).unwrap();
    let named = servers.lines().filter_map(|line| line.strip_prefix("  - ")?.split(' ').next());
    let named: BTreeSet<&str> = named.collect();
    let all: [&[&str]; 8] = [
        &GRADED_MODERN,
        &GRADED_LEGACY,
        &FIXTURES,
        &FIXTURES_MODERN,
        &FIXTURES_LEGACY,
        &EMPTY_MODERN,
        &EMPTY_LEGACY,
        &SKILLS,
    ];
    assert_eq!(named, all.concat().into_iter().collect(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_fails_nothing_of_2026_07_28_that_it_can_be_asked() {
    let Some(node) = suite() else { return };
    let world = World::new().await;
    let daemon = world.daemon().await;
    let report = run(&node, &daemon.url(), &["--requirements", "2026-07-28"]).await;
    report.assert_are(&[&GRADED_MODERN, &FIXTURES, &FIXTURES_MODERN, &EMPTY_MODERN]);
    assert_graded(&report, &GRADED_MODERN, &[&FIXTURES, &FIXTURES_MODERN]);
    let stateless = &report.scenarios["server-stateless"];
    assert_eq!(stateless.iter().filter(|check| check.is("SUCCESS")).count(), 24, "{stateless:#?}");
    // Each for want of a fixture.
    report.assert_warned(&[
        "input-required-result-ignore-extra-params: sep-2322-ignore-unexpected-params",
        "input-required-result-missing-input-response: sep-2322-missing-response-rerequests",
        "server-stateless: sep-2575-server-sends-prompts-list-changed-on-subscription",
    ]);
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_fails_nothing_of_2025_11_25_that_it_can_be_asked() {
    let Some(node) = suite() else { return };
    let world = World::new().await;
    let daemon = world.daemon().await;
    let report = run(&node, &daemon.url(), &["--requirements", "2025-11-25"]).await;
    report.assert_are(&[&GRADED_LEGACY, &FIXTURES, &FIXTURES_LEGACY, &EMPTY_LEGACY]);
    assert_graded(&report, &GRADED_LEGACY, &[&FIXTURES, &FIXTURES_LEGACY]);
    // Both want a session, which a daemon that restarts does not give.
    report.assert_warned(&[
        "server-sse-multiple-streams: server-sse-multiple-streams-session",
        "server-sse-polling: server-sse-polling-session",
    ]);
    // What Codex and Gemini CLI speak; every scenario of it is one of the newer set too.
    let older =
        run(&node, &daemon.url(), &["--suite", "all", "--spec-version", "2025-06-18"]).await;
    let new = older.scenarios.keys().filter(|name| !report.scenarios.contains_key(*name));
    assert_eq!(new.collect::<Vec<_>>(), Vec::<&String>::new());
    let graded: Vec<&str> =
        GRADED_LEGACY.into_iter().filter(|n| *n != "dns-rebinding-protection").collect();
    assert!(graded.iter().all(|name| older.scenarios.contains_key(*name)), "{}", older.said);
    assert_graded(&older, &graded, &[&FIXTURES, &FIXTURES_LEGACY]);
    world.quiet().await;
}

/// The fixtures behind the daemon's router, in this process.
async fn fixtures(sessions: bool) -> (String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(fixture::serve(listener, sessions, stop.clone()));
    (url, stop)
}

/// A full requirement set: the suite itself is content, and nothing failed that it does not score.
async fn assert_required(
    sessions: bool,
    revision: &str,
    known: &[&[&str]],
    least: usize,
) -> Report {
    let node = suite().expect("looked for before");
    let (url, stop) = fixtures(sessions).await;
    let report = run(&node, &url, &["--requirements", revision]).await;
    stop.cancel();
    assert!(report.success, "{}", report.said);
    assert_eq!(report.all("FAILURE"), BTreeMap::new());
    report.assert_are(known);
    report.assert_wire();
    assert!(report.successes() >= least, "{} checks: {}", report.successes(), report.said);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn the_router_meets_every_requirement_of_2026_07_28() {
    if suite().is_none() {
        return;
    }
    let known: [&[&str]; 4] = [&GRADED_MODERN, &FIXTURES, &FIXTURES_MODERN, &EMPTY_MODERN];
    let report = assert_required(false, "2026-07-28", &known, 196).await;
    report.assert_warned(&[]);
}

/// Sampling, elicitation and logging of that revision need sessions, which the daemon does not give.
#[tokio::test(flavor = "multi_thread")]
async fn the_router_with_sessions_meets_every_requirement_of_2025_11_25() {
    if suite().is_none() {
        return;
    }
    let known: [&[&str]; 4] = [&GRADED_LEGACY, &FIXTURES, &FIXTURES_LEGACY, &EMPTY_LEGACY];
    let report = assert_required(true, "2025-11-25", &known, 81).await;
    // Streams that are taken up again: priming events, which they need, break Gemini CLI.
    report.assert_warned(&[
        "server-sse-polling: server-sse-disconnect-resume",
        "server-sse-polling: server-sse-priming-event",
        "server-sse-polling: server-sse-retry-field",
    ]);
}
