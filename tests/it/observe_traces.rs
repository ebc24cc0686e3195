//! Traces of real runs, as a collector of OpenTelemetry hears them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::mcp_support::ok;
use crate::observe_support::get;
use crate::world::{Agent, SOON, World, eventually, wait_status};

/// A collector that keeps what it hears.
struct Collector {
    url: String,
    heard: Heard,
    server: JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Heard {
    requests: Arc<Mutex<Vec<(HeaderMap, ExportTraceServiceRequest)>>>,
    /// What it answers instead of listening.
    unwell: Arc<Mutex<Option<StatusCode>>>,
    asked: Arc<Mutex<usize>>,
}

async fn hear(State(heard): State<Heard>, headers: HeaderMap, body: Bytes) -> StatusCode {
    *heard.asked.lock().unwrap() += 1;
    if let Some(status) = *heard.unwell.lock().unwrap() {
        return status;
    }
    let message = ExportTraceServiceRequest::decode(body).expect("it is the protocol's message");
    heard.requests.lock().unwrap().push((headers, message));
    StatusCode::OK
}

impl Collector {
    async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Heard::default();
        let router = Router::new().route("/v1/traces", post(hear)).with_state(heard.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Collector { url, heard, server }
    }

    fn answer_with(&self, status: Option<StatusCode>) {
        *self.heard.unwell.lock().unwrap() = status;
    }

    fn asked(&self) -> usize {
        *self.heard.asked.lock().unwrap()
    }

    /// The spans of each message.
    fn traces(&self) -> Vec<Vec<Span>> {
        let requests = self.heard.requests.lock().unwrap();
        requests.iter().map(|(_, m)| m.resource_spans[0].scope_spans[0].spans.clone()).collect()
    }

    async fn traces_become(&self, count: usize) -> Vec<Vec<Span>> {
        eventually(&format!("{count} traces are told"), SOON, async || {
            let traces = self.traces();
            if traces.len() >= count { Ok(traces) } else { Err(format!("{}", traces.len())) }
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|a| a.key == key).and_then(|a| a.value.clone()?.value);
    match found {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} is {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_one_trace_with_its_phases_and_a_resume_links_to_it() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let stumbles = "if [ ! -e \"$HOME/mended\" ]; then echo no >&2; exit 7; fi";
    let agent = Agent::good().on("implementor", stumbles);
    world.serve(&repo, &world.agent_lines("a", &agent));
    world.set("retry.max_attempts", "1");
    let collector = Collector::start().await;
    world.set_env("OTEL_EXPORTER_OTLP_ENDPOINT", Some(&collector.url));
    world.set_env("OTEL_EXPORTER_OTLP_HEADERS", Some("x-vendor-key=s3cr3t-of-vendor"));
    world.set_env("OTEL_SERVICE_NAME", Some("adw-box"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let started = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "1" })).await;
    let id = started["adw_id"].as_str().unwrap();
    let failed = wait_status(&client, id, "failed").await;

    let first = collector.traces_become(1).await.remove(0);
    let (headers, message) = collector.heard.requests.lock().unwrap()[0].clone();
    assert_eq!(headers["x-vendor-key"], "s3cr3t-of-vendor");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let resource = message.resource_spans[0].resource.clone().unwrap();
    assert_eq!(text(&resource.attributes, "service.name"), "adw-box");
    assert_eq!(text(&resource.attributes, "service.version"), env!("CARGO_PKG_VERSION"));
    assert!(!text(&resource.attributes, "host.id").is_empty());
    let root = &first[0];
    assert_eq!(text(&root.attributes, "adw.id"), id);
    assert_eq!(text(&root.attributes, "adw.project"), "shop");
    assert_eq!(text(&root.attributes, "adw.issue"), "1");
    assert_eq!(text(&root.attributes, "adw.failure.class"), failed["failure"]["class"]);
    let status = root.status.clone().unwrap();
    assert_eq!(status.code(), SpanStatus::Error);
    assert_eq!(status.message, failed["failure"]["message"].as_str().unwrap());
    let names: Vec<&str> = first.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["adw run", "phase plan", "phase build"]);
    assert_eq!(text(&first[1].attributes, "process.exit.code"), "0");
    assert_eq!(first[1].status.clone().unwrap().code(), SpanStatus::Ok);
    assert_eq!(first[2].status.clone().unwrap().code(), SpanStatus::Error);
    for child in &first[1..] {
        assert_eq!((&child.trace_id, &child.parent_span_id), (&root.trace_id, &root.span_id));
        assert!(child.start_time_unix_nano >= root.start_time_unix_nano);
        assert!(child.end_time_unix_nano <= root.end_time_unix_nano);
    }

    world.write("home/mended", "");
    ok(&client, "resume_adw_workflow", json!({ "adw_id": id })).await;
    wait_status(&client, id, "completed").await;
    let second = collector.traces_become(2).await.remove(1);
    let names: Vec<&str> = second.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["adw run", "phase build", "phase review"], "what this life did");
    assert_ne!(second[0].trace_id, root.trace_id);
    assert_eq!(second[0].links[0].trace_id, root.trace_id);
    assert_eq!(second[0].links[0].span_id, root.span_id);
    assert_eq!(second[0].status.clone().unwrap().code(), SpanStatus::Ok);
    assert!(!world.last_words().contains("s3cr3t-of-vendor"), "a key is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_missed_is_told_once_after_a_restart() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let collector = Collector::start().await;
    collector.answer_with(Some(StatusCode::SERVICE_UNAVAILABLE));
    world.set("otlp.endpoint", &format!("{:?}", collector.url));
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let started = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "1" })).await;
    let id = started["adw_id"].as_str().unwrap().to_owned();
    wait_status(&client, &id, "completed").await;
    eventually("the collector was asked twice", SOON, async || {
        if collector.asked() >= 2 { Ok(()) } else { Err(collector.asked().to_string()) }
    })
    .await;
    let base = daemon.url().replace("/mcp", "");
    let metrics = get(&format!("{base}/metrics")).await;
    assert!(metrics.body.contains("adwd_traces_total{kind=\"failed\"}"), "{metrics:?}");
    let said = world.last_words().matches("traces cannot be told").count();
    assert_eq!(said, 1, "once, however often it was tried: {}", world.last_words());
    daemon.kill9().await;
    collector.answer_with(None);
    daemon.start().await;
    let told = collector.traces_become(1).await;
    assert_eq!(text(&told[0][0].attributes, "adw.id"), id);
    // A second run, and a third daemon, tell nothing of the first again.
    let client = daemon.client().await;
    let started = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "2" })).await;
    let second = started["adw_id"].as_str().unwrap().to_owned();
    wait_status(&client, &second, "completed").await;
    collector.traces_become(2).await;
    daemon.restart().await;
    let client = daemon.client().await;
    let started = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "3" })).await;
    wait_status(&client, started["adw_id"].as_str().unwrap(), "completed").await;
    let ids: Vec<String> = collector
        .traces_become(3)
        .await
        .iter()
        .map(|spans| text(&spans[0].attributes, "adw.id"))
        .collect();
    assert_eq!(ids, [id, second, started["adw_id"].as_str().unwrap().to_owned()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_was_resumed_before_it_was_told_is_told_all_the_same() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let agent = Agent::good().on("implementor", "[ -e \"$HOME/mended\" ] || exit 7");
    world.serve(&repo, &world.agent_lines("a", &agent));
    world.set("retry.max_attempts", "1");
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let started = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "1" })).await;
    let id = started["adw_id"].as_str().unwrap().to_owned();
    wait_status(&client, &id, "failed").await;
    world.write("home/mended", "");
    ok(&client, "resume_adw_workflow", json!({ "adw_id": id })).await;
    wait_status(&client, &id, "completed").await;
    let collector = Collector::start().await;
    world.set("otlp.endpoint", &format!("{:?}", collector.url));
    daemon.restart().await;
    let told = collector.traces_become(2).await;
    let lives: Vec<String> = told.iter().map(|s| text(&s[0].attributes, "adw.life")).collect();
    assert_eq!(lives, ["1", "2"]);
    assert_eq!(text(&told[0][0].attributes, "adw.outcome"), "failed");
    assert_eq!(text(&told[1][0].attributes, "adw.outcome"), "completed");
    assert_eq!(told[1][0].links[0].span_id, told[0][0].span_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_refuses_is_not_told_again() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    let collector = Collector::start().await;
    collector.answer_with(Some(StatusCode::BAD_REQUEST));
    world.set("otlp.endpoint", &format!("{:?}", collector.url));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let base = daemon.url().replace("/mcp", "");
    let started = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "1" })).await;
    wait_status(&client, started["adw_id"].as_str().unwrap(), "completed").await;
    eventually("the refusal is counted", SOON, async || {
        let metrics = get(&format!("{base}/metrics")).await;
        let counted = metrics.body.contains("adwd_traces_total{kind=\"refused\"} 1\n");
        if counted { Ok(()) } else { Err(metrics.body) }
    })
    .await;
    collector.answer_with(None);
    let started = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "2" })).await;
    let second = started["adw_id"].as_str().unwrap();
    wait_status(&client, second, "completed").await;
    let told = collector.traces_become(1).await;
    assert_eq!(text(&told[0][0].attributes, "adw.id"), second);
    assert_eq!(collector.asked(), 2);
}
