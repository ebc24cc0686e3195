//! An ended life of a run as spans of OpenTelemetry. Pure: the same life gives the same bytes.
//!
//! One trace a life: a root span for the life, below it one for each attempt of a phase. Ids are
//! derived from the run's id and the life, so that telling it twice (a crash between the collector's
//! answer and our mark) says the same again instead of something new, and a resume links to the life
//! before without anything having been stored about that.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use sha2::{Digest as _, Sha256};

use crate::clock::Millis;
use crate::runs::{Failure, Life, LifeAttempt, RunStatus, Usage};

/// The bit of `flags` that says that a span is recorded (W3C trace context, §3.2.2.5).
const SAMPLED: u32 = 1;

/// Who tells.
#[derive(Clone, Debug)]
pub struct Origin {
    /// `service.name`.
    pub service_name: String,
    /// `service.version`.
    pub version: &'static str,
    /// `host.id`: the daemon's own name for the machine.
    pub host: String,
}

/// The 16 bytes that name the trace of a life.
#[must_use]
pub fn trace_id(adw_id: &str, queued_at: Millis) -> Vec<u8> {
    digest(&["trace", adw_id, &queued_at.0.to_string()])[..16].to_vec()
}

/// The 8 bytes that name its root span.
fn root_id(adw_id: &str, queued_at: Millis) -> Vec<u8> {
    digest(&["root", adw_id, &queued_at.0.to_string()])[..8].to_vec()
}

fn attempt_id(life: &Life, attempt: &LifeAttempt) -> Vec<u8> {
    let (queued, number) = (life.queued_at.0.to_string(), attempt.attempt.to_string());
    digest(&["attempt", &life.adw_id, &queued, &attempt.phase, &number])[..8].to_vec()
}

fn digest(parts: &[&str]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    // All zeros would be no id (W3C trace context, §3.2.2.3); a SHA-256 does not begin with 8 of them.
    hash.finalize().to_vec()
}

/// The message that tells a collector of one life.
#[must_use]
pub fn export(life: &Life, origin: &Origin) -> ExportTraceServiceRequest {
    let resource = Attributes::default()
        .text("service.name", Some(&origin.service_name))
        .text("service.version", Some(origin.version))
        .text("host.id", Some(&origin.host));
    let scope = InstrumentationScope {
        name: "adwd".to_owned(),
        version: origin.version.to_owned(),
        ..InstrumentationScope::default()
    };
    let mut spans = vec![root(life)];
    spans.extend(life.attempts.iter().map(|attempt| of_attempt(life, attempt)));
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource = Some(Resource { attributes: resource.0, ..Resource::default() });
    let all = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![all] }
}

fn root(life: &Life) -> Span {
    let attributes = Attributes::default()
        .text("adw.id", Some(&life.adw_id))
        .number("adw.life", i64::try_from(life.number).ok())
        .text("adw.project", Some(&life.project))
        .text("adw.issue", Some(&life.issue_number))
        .text("adw.issue.class", life.issue_class.as_deref())
        .text("adw.profile", Some(&life.profile))
        .text("adw.triggered_by", Some(&life.triggered_by))
        .text("adw.branch", life.branch.as_deref())
        .text("adw.pull_request", life.pr_url.as_deref())
        .end(life.status, life.failure.as_ref())
        .usage(life.usage.get("total"));
    let links = life.before.map(|before| Link {
        trace_id: trace_id(&life.adw_id, before),
        span_id: root_id(&life.adw_id, before),
        attributes: Attributes::default().text("adw.link", Some("resumed")).0,
        flags: SAMPLED,
        ..Link::default()
    });
    Span {
        span_id: root_id(&life.adw_id, life.queued_at),
        name: "adw run".to_owned(),
        attributes: attributes.0,
        links: links.into_iter().collect(),
        status: Some(status(life.status, life.failure.as_ref())),
        ..span(life, life.queued_at, life.ended_at)
    }
}

fn of_attempt(life: &Life, attempt: &LifeAttempt) -> Span {
    // The account is kept by phase; it stands at the phase's last attempt.
    let is_last = !life
        .attempts
        .iter()
        .any(|other| other.phase == attempt.phase && other.attempt > attempt.attempt);
    let attributes = Attributes::default()
        .text("adw.id", Some(&life.adw_id))
        .text("adw.phase", Some(&attempt.phase))
        .number("adw.attempt", Some(attempt.attempt))
        .number("process.exit.code", attempt.exit_code)
        .number("adw.exit_signal", attempt.exit_signal)
        .text("vcs.ref.head.revision", attempt.head_commit.as_deref())
        .end(attempt.status, attempt.failure.as_ref())
        .usage(life.usage.get(&attempt.phase).filter(|_| is_last));
    Span {
        span_id: attempt_id(life, attempt),
        parent_span_id: root_id(&life.adw_id, life.queued_at),
        name: format!("phase {}", attempt.phase),
        attributes: attributes.0,
        status: Some(status(attempt.status, attempt.failure.as_ref())),
        ..span(life, attempt.started_at, attempt.ended_at)
    }
}

/// What all spans of a life share. A clock that was set back in between makes none end before it
/// began.
fn span(life: &Life, from: Millis, to: Millis) -> Span {
    Span {
        trace_id: trace_id(&life.adw_id, life.queued_at),
        flags: SAMPLED,
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: nanos(from),
        end_time_unix_nano: nanos(to).max(nanos(from)),
        ..Span::default()
    }
}

fn nanos(at: Millis) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000_000)
}

fn status(status: RunStatus, failure: Option<&Failure>) -> Status {
    let code = match status {
        RunStatus::Completed | RunStatus::Skipped => StatusCode::Ok,
        // Somebody wanted it to end: no error.
        RunStatus::Cancelled => StatusCode::Unset,
        _ => StatusCode::Error,
    };
    let is_error = code == StatusCode::Error;
    let message = failure.filter(|_| is_error).map(|f| f.message.clone()).unwrap_or_default();
    Status { code: code.into(), message }
}

/// Attributes; what is not known is left out.
#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn with(mut self, key: &str, value: Option<Value>) -> Attributes {
        if let Some(value) = value {
            let value = Some(AnyValue { value: Some(value) });
            self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
        }
        self
    }

    fn text(self, key: &str, text: Option<&str>) -> Attributes {
        self.with(key, text.map(|text| Value::StringValue(text.to_owned())))
    }

    fn number(self, key: &str, number: Option<i64>) -> Attributes {
        self.with(key, number.map(Value::IntValue))
    }

    fn end(self, status: RunStatus, failure: Option<&Failure>) -> Attributes {
        self.text("adw.outcome", Some(status.as_str()))
            .text("adw.failure.class", failure.map(|f| f.class.as_str()))
            .text("adw.failure.message", failure.map(|f| f.message.as_str()))
    }

    fn usage(self, usage: Option<&Usage>) -> Attributes {
        let Some(used) = usage else { return self };
        self.number("adw.agent_calls", Some(used.agent_calls))
            .number("gen_ai.usage.input_tokens", Some(used.input_tokens))
            .number("gen_ai.usage.output_tokens", Some(used.output_tokens))
            .number("adw.cache_read_tokens", Some(used.cache_read_tokens))
            .number("adw.cache_creation_tokens", Some(used.cache_creation_tokens))
            .with("adw.cost_usd", Some(Value::DoubleValue(used.cost_usd)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::runs::FailureClass;

    fn failure() -> Failure {
        Failure {
            class: FailureClass::Agent,
            message: "the agent gave nothing".to_owned(),
            retryable: true,
            phase: Some("build".to_owned()),
            log_tail: vec![],
        }
    }

    fn attempt(phase: &str, attempt: i64, failed: bool) -> LifeAttempt {
        LifeAttempt {
            phase: phase.to_owned(),
            attempt,
            status: if failed { RunStatus::Failed } else { RunStatus::Completed },
            started_at: Millis(1_500),
            ended_at: Millis(1_900),
            exit_code: Some(i64::from(failed)),
            exit_signal: None,
            failure: failed.then(failure),
            head_commit: None,
        }
    }

    fn life() -> Life {
        let used = |cost_usd| Usage { cost_usd, input_tokens: 7, ..Usage::default() };
        Life {
            adw_id: "r1".to_owned(),
            number: 2,
            queued_at: Millis(1_000),
            before: Some(Millis(10)),
            ended_at: Millis(2_000),
            status: RunStatus::Failed,
            failure: Some(failure()),
            project: "shop".to_owned(),
            issue_number: "42".to_owned(),
            issue_class: None,
            profile: "adwd".to_owned(),
            triggered_by: "mcp".to_owned(),
            branch: None,
            pr_url: None,
            usage: BTreeMap::from([
                ("total".to_owned(), used(1.5)),
                ("build".to_owned(), used(0.5)),
            ]),
            attempts: vec![attempt("build", 1, true), attempt("build", 2, true)],
        }
    }

    fn spans(life: &Life) -> Vec<Span> {
        let origin = Origin { service_name: "adwd".to_owned(), version: "1", host: "h".to_owned() };
        let message = export(life, &origin);
        message.resource_spans[0].scope_spans[0].spans.clone()
    }

    fn value(span: &Span, key: &str) -> Option<Value> {
        span.attributes.iter().find(|a| a.key == key)?.value.clone()?.value
    }

    #[test]
    fn a_life_is_one_trace_with_its_attempts_below_it() {
        let spans = spans(&life());
        assert_eq!(spans.len(), 3);
        let root = &spans[0];
        assert_eq!((root.trace_id.len(), root.span_id.len()), (16, 8));
        assert!(root.parent_span_id.is_empty());
        assert_eq!(
            (root.start_time_unix_nano, root.end_time_unix_nano),
            (1_000_000_000, 2_000_000_000)
        );
        for child in &spans[1..] {
            assert_eq!(child.trace_id, root.trace_id);
            assert_eq!(child.parent_span_id, root.span_id);
            assert_eq!(child.name, "phase build");
        }
        assert_ne!(spans[1].span_id, spans[2].span_id);
        let status = root.status.clone().unwrap();
        assert_eq!(
            (status.code(), status.message.as_str()),
            (StatusCode::Error, "the agent gave nothing")
        );
        assert_eq!(value(root, "adw.failure.class"), Some(Value::StringValue("agent".to_owned())));
        assert_eq!(value(root, "adw.cost_usd"), Some(Value::DoubleValue(1.5)));
        assert_eq!(value(&spans[1], "adw.cost_usd"), None, "it stands at the last attempt");
        assert_eq!(value(&spans[2], "adw.cost_usd"), Some(Value::DoubleValue(0.5)));
        assert_eq!(value(root, "adw.branch"), None, "what is not known is left out");
    }

    #[test]
    fn a_resume_links_to_the_life_before_and_telling_it_again_says_the_same() {
        let (now, again) = (spans(&life()), spans(&life()));
        assert_eq!(now, again);
        let before = Life { queued_at: Millis(10), before: None, number: 1, ..life() };
        let first = spans(&before);
        assert!(first[0].links.is_empty());
        assert_eq!(now[0].links[0].trace_id, first[0].trace_id);
        assert_eq!(now[0].links[0].span_id, first[0].span_id);
        assert_ne!(now[0].trace_id, first[0].trace_id);
    }

    #[test]
    fn what_somebody_cancelled_is_no_error_and_no_span_ends_before_it_began() {
        let life = Life { status: RunStatus::Cancelled, ended_at: Millis(5), ..life() };
        let root = &spans(&life)[0];
        assert_eq!(root.status.clone().unwrap().code(), StatusCode::Unset);
        assert_eq!(root.start_time_unix_nano, root.end_time_unix_nano);
    }
}
