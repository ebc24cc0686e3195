//! Traces of ended runs, told to a collector of OpenTelemetry: OTLP over HTTP, in protobuf.
//!
//! What is to be told stands in the database, and a mark says what was told: a daemon that ends
//! loses nothing, and a collector that is away for a week costs one query now and then. Nothing of
//! this is waited for by a run.

pub mod span;

use std::time::Duration;

use prost::Message as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::changes::Changed;
use crate::config::Otlp;
use crate::limits::{
    METRICS_CACHE_MS, TRACES_ANSWER_MAX_BYTES, TRACES_BACKOFF_MAX_MS, TRACES_BACKOFF_MS,
    TRACES_LOOK_MS, TRACES_SEND_MS,
};
use crate::metrics::Metrics;
use crate::runs::{Life, Runs};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use span::Origin;

/// What the teller is made from.
pub struct TracesDeps {
    /// Whose runs are told.
    pub runs: Runs,
    /// Where to, and as whom.
    pub otlp: Otlp,
    /// The daemon's own name for the machine.
    pub host: String,
    /// Where it is counted.
    pub metrics: Metrics,
    /// Cancelled when the daemon stops; what is not told then is told by the next one.
    pub shutdown: CancellationToken,
}

/// Begins to tell; `None` where no collector is configured.
///
/// # Errors
/// Why there can be no client: the machine has no usable certificates, say.
pub fn start(deps: TracesDeps) -> Result<Option<JoinHandle<()>>, String> {
    let Some(url) = deps.otlp.traces_url() else { return Ok(None) };
    let mut headers = HeaderMap::new();
    for (name, value) in deps.otlp.headers.iter() {
        let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
        let mut value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let client = Client::builder()
        .default_headers(headers)
        .user_agent(concat!("adwd/", env!("CARGO_PKG_VERSION")))
        .timeout(Duration::from_millis(TRACES_SEND_MS))
        // A collector that moved is configured anew; a redirect would carry the headers elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())?;
    let origin = Origin {
        service_name: deps.otlp.service_name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        host: deps.host.clone(),
    };
    let teller = Teller { client, url, origin, runs: deps.runs, metrics: deps.metrics };
    Ok(Some(tokio::spawn(teller.work(deps.shutdown))))
}

struct Teller {
    client: Client,
    url: String,
    origin: Origin,
    runs: Runs,
    metrics: Metrics,
}

/// What the collector did with a life.
enum Told {
    Taken,
    /// It will never take it: it says why.
    Refused(String),
    /// It could not be reached, or is not well: later.
    Failed(String),
}

impl Teller {
    async fn work(self, shutdown: CancellationToken) {
        if let Err(error) = self.runs.forget_traced().await {
            tracing::debug!("old marks of traces stay for now: {error}");
        }
        let mut changes = self.runs.changes();
        let mut failures = 0_u32;
        loop {
            let round = tokio::select! {
                round = self.round() => round,
                () = shutdown.cancelled() => return,
            };
            failures = self.judge(round, failures);
            let wait = async {
                if failures > 0 {
                    return sleep(pause(failures)).await;
                }
                // Hints come in bursts, while a run works: one look for all of them.
                sleep(Duration::from_millis(METRICS_CACHE_MS)).await;
                let hint = async {
                    loop {
                        match changes.next().await {
                            Some(Changed::Run(_) | Changed::Lagged) => return,
                            Some(_) => {}
                            None => std::future::pending().await,
                        }
                    }
                };
                let _ = tokio::time::timeout(Duration::from_millis(TRACES_LOOK_MS), hint).await;
            };
            tokio::select! {
                () = wait => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Counts failures in a row; says when they begin and when they are over.
    fn judge(&self, round: Result<(), String>, failures: u32) -> u32 {
        match round {
            Ok(()) => {
                if failures > 0 {
                    tracing::info!("the collector of traces takes them again");
                }
                0
            }
            Err(why) => {
                self.metrics.trace("failed");
                if failures == 0 {
                    tracing::warn!(
                        "traces cannot be told to the collector; it is tried again, and they are kept for a week: {why}"
                    );
                }
                failures.saturating_add(1)
            }
        }
    }

    /// Tells everything that is to be told. An error says why some of it is still to be told.
    async fn round(&self) -> Result<(), String> {
        loop {
            let lives = self.runs.untraced().await.map_err(|error| error.to_string())?;
            if lives.is_empty() {
                return Ok(());
            }
            for life in lives {
                let outcome = match self.tell(&life).await {
                    Told::Taken => "sent",
                    Told::Refused(why) => {
                        let adw_id = &life.adw_id;
                        tracing::warn!(adw_id, "the collector refused the trace of a run: {why}");
                        "refused"
                    }
                    Told::Failed(why) => return Err(why),
                };
                self.metrics.trace(outcome);
                self.runs.traced(&life, outcome).await.map_err(|error| error.to_string())?;
            }
        }
    }

    async fn tell(&self, life: &Life) -> Told {
        let body = span::export(life, &self.origin).encode_to_vec();
        let request =
            self.client.post(&self.url).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        let answer = match request.send().await {
            Ok(answer) => answer,
            // Its text may hold the address, and that a password.
            Err(error) => return Told::Failed(root_cause(&error.without_url())),
        };
        match answer.status() {
            StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => partial(answer).await,
            // OTLP 1.x, "Failures": the data are wrong, and would be the next time too.
            status @ (StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY) => Told::Refused(format!("it answered {status}")),
            status => Told::Failed(format!("it answered {status}")),
        }
    }
}

/// A collector may take a message and refuse spans in it, which it must not be told again.
async fn partial(mut answer: reqwest::Response) -> Told {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if body.len() + chunk.len() > TRACES_ANSWER_MAX_BYTES {
            return Told::Taken;
        }
        body.extend_from_slice(&chunk);
    }
    // It may answer in JSON or with nothing: it was taken all the same.
    let said = ExportTraceServiceResponse::decode(body.as_slice()).ok();
    match said.and_then(|said| said.partial_success).filter(|part| part.rejected_spans > 0) {
        Some(part) => {
            let (count, why) = (part.rejected_spans, part.error_message);
            Told::Refused(format!("{count} spans: {}", why.chars().take(200).collect::<String>()))
        }
        None => Told::Taken,
    }
}

/// What the client says, down to the cause: "connection refused" is the useful word.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(below) = cause {
        text = format!("{text}: {below}");
        cause = below.source();
    }
    text
}

/// Doubles with each failure in a row, up to its bound.
fn pause(failures: u32) -> Duration {
    let factor = 2_u64.saturating_pow(failures.saturating_sub(1));
    Duration::from_millis(TRACES_BACKOFF_MS.saturating_mul(factor).min(TRACES_BACKOFF_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_and_is_bounded() {
        assert_eq!(pause(1), Duration::from_secs(1));
        assert_eq!(pause(3), Duration::from_secs(4));
        assert_eq!(pause(u32::MAX), Duration::from_millis(TRACES_BACKOFF_MAX_MS));
    }
}
