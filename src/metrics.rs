//! What the program counts of itself, for whoever watches it; the text is prometheus-client's.
//!
//! [`Metrics`] is a handle that is passed to whoever has something to count. Events are counted as
//! they happen, and a restart begins at zero, as every scraper expects. What the database, the
//! kernel or the supervisor know anyway is no event: it is asked for at the scrape, as [`Facts`].
//!
//! Every label has few values: the tools, phases, routes and statuses that there are. What comes
//! from outside (the name of a tool, a path) never becomes a label by itself.

mod facts;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use facts::{Facts, ProcessFacts, RunFigures};

use crate::limits::METRICS_LABELS_COUNT;

/// What stands for a tool that there is not, and for whatever would be one label too many.
const OTHER: &str = "other";

/// Seconds: from a read of the embedded database to a call that waits.
const CALL_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 60.0];
/// Seconds: from a cached page to a server far away that is busy.
const STATEMENT_BUCKETS: [f64; 11] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1.0, 10.0];
/// Seconds: from a script that dies at once to the longest an agent works.
const PHASE_BUCKETS: [f64; 10] =
    [1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0];

/// In which of its two texts the answer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which whoever names nothing gets.
    Prometheus,
}

impl Format {
    /// What a scraper that sent this `Accept` header understands.
    #[must_use]
    pub fn accepted(accept: &str) -> Format {
        match accept.to_ascii_lowercase().contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    /// The answer's `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// How a tool call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With what was asked for.
    Ok,
    /// The tool was asked and answered that it cannot.
    Error,
    /// The tool was not asked: there is none, it is switched off, or not for this caller.
    Refused,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
            Outcome::Refused => "refused",
        }
    }
}

/// What agents used since the last time it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// US dollars.
    pub cost_usd: f64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Tokens read from the provider's cache.
    pub cache_read_tokens: u64,
    /// Tokens written to the provider's cache.
    pub cache_creation_tokens: u64,
}

/// One label, of a name that the family's type parameter gives.
macro_rules! labels {
    ($name:ident { $($label:ident: $type:ty),+ }) => {
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        struct $name { $($label: $type),+ }
    };
}

labels!(CallLabels { tool: &'static str, transport: &'static str, outcome: &'static str });
labels!(FamilyLabels { family: &'static str });
labels!(RequestLabels { route: String, status: &'static str });
labels!(EndLabels { status: &'static str, class: &'static str });
labels!(PhaseLabels { phase: String, outcome: &'static str });
labels!(KindLabels { kind: &'static str });
labels!(BuildLabels { version: &'static str });

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn histograms<L>(make: fn() -> Histogram) -> Histograms<L>
where
    L: Clone + std::hash::Hash + Eq,
{
    Family::new_with_constructor(make)
}

/// Statements of the database: how long they took, and how they failed. A handle of its own,
/// because the database is there before anything else and knows nothing of the rest.
#[derive(Clone)]
pub struct Statements {
    took: Histograms<KindLabels>,
    failed: Family<KindLabels, Counter>,
}

impl Default for Statements {
    fn default() -> Statements {
        Statements {
            took: histograms(|| Histogram::new(STATEMENT_BUCKETS)),
            failed: Family::default(),
        }
    }
}

impl fmt::Debug for Statements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Statements")
    }
}

impl Statements {
    /// A statement took so long, well or not. `kind`: `select`, `insert`, `commit`, …
    pub fn took(&self, kind: &'static str, took: Duration) {
        self.took.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
    }

    /// A statement failed. `kind`: `busy`, `unavailable`, `rule` (of the schema), `other`.
    pub fn failed(&self, kind: &'static str) {
        self.failed.get_or_create(&KindLabels { kind }).inc();
    }
}

/// The counters; cheap to clone, each clone counts into the same.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    facts: facts::Shown,
    /// One answer is written at a time: facts belong to it.
    writing: Mutex<()>,
    phases: Mutex<BTreeSet<String>>,
    statements: Statements,
    calls: Family<CallLabels, Counter>,
    call_took: Histograms<FamilyLabels>,
    requests: Family<RequestLabels, Counter>,
    runs_ended: Family<EndLabels, Counter>,
    phase_took: Histograms<PhaseLabels>,
    cost: Counter<f64, AtomicU64>,
    tokens: Family<KindLabels, Counter>,
    traces: Family<KindLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new(env!("CARGO_PKG_VERSION"))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Counters at zero, of a program of this version.
    #[must_use]
    pub fn new(version: &'static str) -> Metrics {
        let mut inner = Inner {
            registry: Registry::default(),
            facts: facts::Shown::default(),
            writing: Mutex::default(),
            phases: Mutex::default(),
            statements: Statements::default(),
            calls: Family::default(),
            call_took: histograms(|| Histogram::new(CALL_BUCKETS)),
            requests: Family::default(),
            runs_ended: Family::default(),
            phase_took: histograms(|| Histogram::new(PHASE_BUCKETS)),
            cost: Counter::default(),
            tokens: Family::default(),
            traces: Family::default(),
        };
        inner.register(version);
        Metrics { inner: Arc::new(inner) }
    }

    /// Where the database counts.
    #[must_use]
    pub fn statements(&self) -> Statements {
        self.inner.statements.clone()
    }

    /// A tool was called. `tool`: its name, where there is such a tool; `family`: which slice
    /// answers it.
    pub fn call(
        &self,
        tool: Option<(&'static str, &'static str)>,
        transport: &'static str,
        outcome: Outcome,
        took: Duration,
    ) {
        let (tool, family) = tool.unwrap_or(("unknown", OTHER));
        let labels = CallLabels { tool, transport, outcome: outcome.word() };
        self.inner.calls.get_or_create(&labels).inc();
        let labels = FamilyLabels { family };
        self.inner.call_took.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// An HTTP request was answered. `route`: the pattern of the route, `None` where there is none.
    pub fn request(&self, route: Option<&str>, status: u16) {
        let status = match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        let labels = RequestLabels { route: route.unwrap_or(OTHER).to_owned(), status };
        self.inner.requests.get_or_create(&labels).inc();
    }

    /// A run ended. `class`: of its failure, where it failed.
    pub fn run_ended(&self, status: &'static str, class: Option<&'static str>) {
        let labels = EndLabels { status, class: class.unwrap_or("none") };
        self.inner.runs_ended.get_or_create(&labels).inc();
    }

    /// An attempt of a phase ended.
    pub fn phase_ended(&self, phase: &str, outcome: &'static str, took: Duration) {
        let labels = PhaseLabels { phase: self.known_phase(phase), outcome };
        self.inner.phase_took.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Phases are named by whoever writes a profile; a restart makes room again.
    fn known_phase(&self, phase: &str) -> String {
        let mut known = self.inner.phases.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(phase) {
            return phase.to_owned();
        }
        if known.len() >= METRICS_LABELS_COUNT {
            return OTHER.to_owned();
        }
        known.insert(phase.to_owned());
        phase.to_owned()
    }

    /// Agents used so much more.
    pub fn spent(&self, spent: &Spent) {
        self.inner.cost.inc_by(spent.cost_usd.max(0.0));
        let kinds = [
            ("input", spent.input_tokens),
            ("output", spent.output_tokens),
            ("cache_read", spent.cache_read_tokens),
            ("cache_creation", spent.cache_creation_tokens),
        ];
        for (kind, tokens) in kinds {
            self.inner.tokens.get_or_create(&KindLabels { kind }).inc_by(tokens);
        }
    }

    /// The trace of a run was `sent`, `refused` by the collector, or sending it `failed`.
    pub fn trace(&self, kind: &'static str) {
        self.inner.traces.get_or_create(&KindLabels { kind }).inc();
    }

    /// Everything as text, with the facts of this moment.
    #[must_use]
    pub fn render(&self, facts: Facts, format: Format) -> String {
        let _one = self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.facts.show(facts);
        let mut text = String::new();
        let written = match format {
            Format::OpenMetrics => text::encode(&mut text, &self.inner.registry),
            Format::Prometheus => prometheus_text::encode(&mut text, &self.inner.registry),
        };
        if written.is_err() {
            // Writing to a string does not fail; an encoder that thinks otherwise is told of.
            tracing::error!("the metrics could not be written as text");
        }
        text
    }
}

impl Inner {
    fn register(&mut self, version: &'static str) {
        let r = &mut self.registry;
        let build = Info::new(BuildLabels { version });
        r.register("adwd_build", "The program", build);
        r.register("adwd_tool_calls", "Calls of tools", self.calls.clone());
        r.register_with_unit(
            "adwd_tool_call_duration",
            "How long calls of tools took, waits included",
            Unit::Seconds,
            self.call_took.clone(),
        );
        r.register("adwd_http_requests", "HTTP requests", self.requests.clone());
        r.register("adwd_runs_ended", "Runs that ended", self.runs_ended.clone());
        r.register_with_unit(
            "adwd_phase_duration",
            "How long attempts of phases took",
            Unit::Seconds,
            self.phase_took.clone(),
        );
        r.register("adwd_agent_cost_usd", "What agents cost, in US dollars", self.cost.clone());
        r.register("adwd_agent_tokens", "Tokens that agents used", self.tokens.clone());
        r.register("adwd_traces", "Traces of runs told to the collector", self.traces.clone());
        r.register_with_unit(
            "adwd_database_statement_duration",
            "How long statements took",
            Unit::Seconds,
            self.statements.took.clone(),
        );
        r.register(
            "adwd_database_errors",
            "Statements that failed",
            self.statements.failed.clone(),
        );
        r.register_collector(Box::new(self.facts.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_in_both_texts() {
        let metrics = Metrics::new("1.2.3");
        metrics.call(Some(("get_adw_state", "runs")), "unix", Outcome::Ok, Duration::ZERO);
        metrics.call(None, "http", Outcome::Refused, Duration::ZERO);
        metrics.request(Some("/mcp"), 200);
        metrics.request(None, 404);
        metrics.run_ended("failed", Some("agent"));
        metrics.run_ended("completed", None);
        metrics.spent(&Spent { cost_usd: 0.25, input_tokens: 3, ..Spent::default() });
        metrics.statements().failed("busy");
        let text = metrics.render(Facts::default(), Format::OpenMetrics);
        for line in [
            "adwd_build_info{version=\"1.2.3\"} 1",
            "adwd_tool_calls_total{tool=\"get_adw_state\",transport=\"unix\",outcome=\"ok\"} 1",
            "adwd_tool_calls_total{tool=\"unknown\",transport=\"http\",outcome=\"refused\"} 1",
            "adwd_http_requests_total{route=\"other\",status=\"4xx\"} 1",
            "adwd_runs_ended_total{status=\"failed\",class=\"agent\"} 1",
            "adwd_agent_cost_usd_total 0.25",
            "adwd_agent_tokens_total{kind=\"input\"} 3",
            "adwd_database_errors_total{kind=\"busy\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        let text = metrics.render(Facts::default(), Format::Prometheus);
        assert!(text.contains("# TYPE adwd_tool_calls_total counter"), "{text}");
        assert!(!text.contains("# EOF"), "{text}");
    }

    #[test]
    fn phases_beyond_the_bound_share_one_label() {
        let metrics = Metrics::default();
        for n in 0..METRICS_LABELS_COUNT + 5 {
            metrics.phase_ended(&format!("p{n}"), "completed", Duration::from_secs(1));
        }
        let text = metrics.render(Facts::default(), Format::OpenMetrics);
        let series = text.lines().filter(|l| l.starts_with("adwd_phase_duration_seconds_count"));
        assert_eq!(series.count(), METRICS_LABELS_COUNT + 1);
        assert!(text.contains("phase=\"other\""));
    }

    #[test]
    fn a_label_is_escaped() {
        let metrics = Metrics::default();
        metrics.phase_ended("a\"b\\c\nd", "failed", Duration::ZERO);
        let text = metrics.render(Facts::default(), Format::OpenMetrics);
        assert!(text.contains(r#"phase="a\"b\\c\nd""#), "{text}");
    }

    #[test]
    fn a_scraper_gets_the_text_that_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Prometheus);
        assert_eq!(Format::accepted(""), Format::Prometheus);
    }
}
