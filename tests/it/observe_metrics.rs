//! `/metrics` of a real daemon: its form, by a strict reader, and its counters, by real runs.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::mcp_support::{Era, call, ok};
use crate::observe_support::{Answer, get, send};
use crate::world::{Agent, World, eventually, wait_status};

/// The series of one answer, by name and labels.
type Series = BTreeMap<String, f64>;

/// Reads OpenMetrics 1.0 and insists on its rules: every family has one TYPE and one HELP before its
/// samples, which stand together; names and suffixes fit the type; labels are quoted and escaped; no
/// series comes twice; the last line is `# EOF`.
fn read(text: &str) -> Series {
    let body = text.strip_suffix("# EOF\n").expect("the end is told");
    let mut series = Series::new();
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    for line in body.lines() {
        assert!(!line.is_empty(), "an empty line");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
            name.clone_into(&mut current);
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').expect(line);
            assert!(name.ends_with(&format!("_{unit}")), "{line}");
        } else {
            let (name, labels, value) = sample(line);
            let kind = &families[&current];
            let suffix = name.strip_prefix(current.as_str()).expect("samples stand together");
            let fitting: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                "info" => &["_info"],
                _ => &[""],
            };
            assert!(fitting.contains(&suffix), "{line} in a {kind}");
            let key = format!("{name}{{{labels}}}");
            assert!(series.insert(key, value).is_none(), "twice: {line}");
        }
    }
    assert_eq!(families.keys().collect::<BTreeSet<_>>(), helped.iter().collect());
    series
}

/// Name, labels and value of a line.
fn sample(line: &str) -> (&str, &str, f64) {
    let name_end = line.find(['{', ' ']).expect(line);
    let (name, rest) = line.split_at(name_end);
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
    let (labels, value) = match rest.strip_prefix('{') {
        None => ("", rest.trim_start()),
        Some(rest) => {
            let end = labels_end(rest);
            (&rest[..end], rest[end + 1..].trim_start())
        }
    };
    (name, labels, value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
}

/// Where the brace closes; quotes and escapes are gone through on the way.
fn labels_end(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => {
                assert!(['\\', '"', 'n'].contains(&c), "a bad escape in {text}");
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return at,
            _ => {}
        }
    }
    panic!("labels do not end: {text}");
}

const OPEN_METRICS: (&str, &str) = ("accept", "application/openmetrics-text; version=1.0.0");

async fn scrape(base: &str) -> Series {
    let answer = send("GET", &format!("{base}/metrics"), &[OPEN_METRICS]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    read(&answer.body)
}

/// The value of a series, 0 where it is not there yet.
fn value(series: &Series, key: &str) -> f64 {
    series.get(key).copied().unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counters_move_with_real_runs_and_calls() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let agent = Agent::good().on("implementor", "gate build");
    world.serve(&repo, &world.agent_lines("a", &agent));
    let daemon = world.daemon().await;
    let base = daemon.url().replace("/mcp", "");
    let client = daemon.client().await;
    let first = scrape(&base).await;
    assert_eq!(value(&first, "adwd_database_up{}"), 1.0);
    assert_eq!(value(&first, "adwd_projects{state=\"served\"}"), 1.0);
    assert_eq!(value(&first, "adwd_queue_length{}"), 0.0);

    let started = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "1" })).await;
    let id = started["adw_id"].as_str().unwrap();
    world.at_gate("build").await;
    eventually("the run and its attempt are told", 30, async || {
        let now = scrape(&base).await;
        let live = value(&now, "adwd_attempts_live{phase=\"build\"}");
        let running = value(&now, "adwd_runs{status=\"running\"}");
        if live == 1.0 && running == 1.0 { Ok(()) } else { Err(format!("{now:#?}")) }
    })
    .await;
    world.open_gate("build");
    wait_status(&client, id, "completed").await;
    let second = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "999" })).await;
    let refused = wait_status(&client, second["adw_id"].as_str().unwrap(), "failed").await;
    let class = refused["failure"]["class"].as_str().unwrap().to_owned();
    call(&client, "get_adw_state", json!({ "adw_id": "nosuch" })).await;
    assert!(client.call_tool(crate::mcp_support::params("nosuch", json!({}))).await.is_err());

    let now = scrape(&base).await;
    let one = |key: &str| assert_eq!(value(&now, key), 1.0, "{key} in {now:#?}");
    one("adwd_runs_ended_total{status=\"completed\",class=\"none\"}");
    one(&format!("adwd_runs_ended_total{{status=\"failed\",class=\"{class}\"}}"));
    one("adwd_tool_calls_total{tool=\"unknown\",transport=\"unix\",outcome=\"refused\"}");
    one("adwd_tool_calls_total{tool=\"get_adw_state\",transport=\"unix\",outcome=\"error\"}");
    for phase in ["plan", "build", "review"] {
        one(&format!(
            "adwd_phase_duration_seconds_count{{phase=\"{phase}\",outcome=\"completed\"}}"
        ));
    }
    assert_eq!(
        value(
            &now,
            "adwd_tool_calls_total{tool=\"trigger_adw_workflow\",transport=\"unix\",outcome=\"ok\"}"
        ),
        2.0
    );
    assert!(value(&now, "adwd_tool_call_duration_seconds_count{family=\"runs\"}") >= 4.0);
    assert!(value(&now, "adwd_database_statement_duration_seconds_count{kind=\"select\"}") > 5.0);
    assert!(value(&now, "adwd_database_statement_duration_seconds_count{kind=\"commit\"}") > 1.0);
    assert!(value(&now, "adwd_http_requests_total{route=\"/metrics\",status=\"2xx\"}") >= 1.0);
    assert!(value(&now, "process_resident_memory_bytes{}") > 1e6);
    assert!(value(&now, "process_start_time_seconds{}") > 1.7e9);
    assert!(value(&now, "adwd_supervisor_beat_age_seconds{}") < 40.0);
    // What a client makes up is no label.
    assert!(!now.keys().any(|key| key.contains("nosuch")), "{now:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routes_speak_http_as_they_should() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let base = daemon.url().replace("/mcp", "");
    let answer = get(&format!("{base}/healthz")).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("ok")));
    assert_eq!(answer.json()["version"], env!("CARGO_PKG_VERSION"));
    let answer = get(&format!("{base}/metrics")).await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(answer.body.contains("# TYPE adwd_http_requests_total counter"), "{answer:?}");
    for path in ["/healthz", "/readyz", "/metrics", "/mcp/health"] {
        let url = format!("{base}{path}");
        let answer = send("HEAD", &url, &[]).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}: {answer:?}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        let answer = send("POST", &url, &[]).await;
        assert_eq!(answer.status, 405, "{path}: {answer:?}");
        assert!(answer.header("allow").contains("GET"), "{path}: {answer:?}");
    }
    let missing: Answer = get(&format!("{base}/nosuch/path")).await;
    assert_eq!(missing.status, 404);
    let now = scrape(&base).await;
    assert_eq!(value(&now, "adwd_http_requests_total{route=\"other\",status=\"4xx\"}"), 1.0);
    let client = daemon.http_client(Era::Modern).await;
    ok(&client, "list_adw_projects", json!({})).await;
    let now = scrape(&base).await;
    let called =
        "adwd_tool_calls_total{tool=\"list_adw_projects\",transport=\"http\",outcome=\"ok\"}";
    assert_eq!(value(&now, called), 1.0, "{now:#?}");
}
