//! What is told to those who watch: `/healthz`, `/readyz`, `/mcp/health`, `/metrics`.
//!
//! The first two are for whoever starts the daemon or sends it requests (a service manager, a load
//! balancer), need no key, and tell nothing but whether. The others are for people and scrapers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::health::{Examiner, HealthDeps, supervisor};
use super::process;
use crate::auth::{Action, Principal, Scope};
use crate::limits::METRICS_CACHE_MS;
use crate::metrics::{Facts, Format, Metrics, RunFigures};
use crate::probe::{Check, Status};

/// What the routes need to know; cheap to clone.
#[derive(Clone)]
pub struct Observed {
    deps: HealthDeps,
    examiner: Examiner,
    metrics: Metrics,
    stopping: CancellationToken,
    /// The last look. All who ask at once wait for one, and nobody without a key makes us write.
    last: Arc<Mutex<Option<(Instant, Looked)>>>,
}

/// What is looked at at most every [`METRICS_CACHE_MS`].
#[derive(Clone)]
struct Looked {
    /// The database's word, or why there is none.
    figures: Result<RunFigures, String>,
    state_folder: Check,
}

impl Observed {
    /// Watches a daemon; `stopping` is cancelled when it drains.
    #[must_use]
    pub fn new(deps: HealthDeps, metrics: Metrics, stopping: CancellationToken) -> Observed {
        let examiner = Examiner::new(deps.clone());
        Observed { deps, examiner, metrics, stopping, last: Arc::default() }
    }

    /// The report of `/mcp/health`, for other roads.
    pub async fn report(&self) -> Value {
        serde_json::to_value(&*self.examiner.report().await).unwrap_or(Value::Null)
    }

    async fn look(&self) -> Looked {
        let mut last = self.last.lock().await;
        match &*last {
            Some((at, looked)) if at.elapsed() < Duration::from_millis(METRICS_CACHE_MS) => {
                looked.clone()
            }
            _ => {
                let state_folder = self.deps.state_folder();
                let looked = Looked { figures: self.deps.figures().await, state_folder };
                *last = Some((Instant::now(), looked.clone()));
                looked
            }
        }
    }

    async fn facts(&self) -> Facts {
        let runs = &self.deps.runs;
        let watcher = runs.watcher();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        Facts {
            runs: self.look().await.figures.ok(),
            watcher: Some(watcher.means),
            rescans: watcher.rescans,
            overflows: watcher.overflows,
            beat_age_s: Some(runs.beat_age().as_secs_f64()),
            projects_served: count(runs.served().len()),
            projects_unserved: count(runs.unserved().len()),
            process: process::facts(),
        }
    }

    /// What keeps the daemon from taking work.
    async fn unready(&self) -> Vec<Check> {
        let looked = self.look().await;
        let mut checks = vec![supervisor(self.deps.runs.beat_age()), looked.state_folder];
        if let Err(why) = looked.figures {
            checks.push(Check::failed("database", why, "see that the database runs"));
        }
        if self.stopping.is_cancelled() {
            let why = "the daemon is stopping and takes nothing new";
            checks.push(Check::failed("draining", why, "wait for the next one"));
        }
        checks.retain(|check| check.status == Status::Failed);
        checks
    }
}

/// The routes that need no key.
pub fn open_routes(observed: Observed) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(observed)
        .layer(map_response(not_stored))
}

/// The routes for those who may read; they must stand behind the guard.
pub fn routes(observed: Observed) -> Router {
    Router::new()
        .route("/mcp/health", get(health))
        .route("/metrics", get(metrics))
        .with_state(observed)
        .layer(map_response(not_stored))
}

/// The same routes, every request counted. To be put around everything else.
pub fn counted(router: Router, metrics: Metrics) -> Router {
    router.layer(from_fn_with_state(metrics, count))
}

async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    metrics.request(route.as_ref().map(MatchedPath::as_str), response.status().as_u16());
    response
}

async fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn healthz() -> Response {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") })).into_response()
}

async fn readyz(State(observed): State<Observed>) -> Response {
    let failed = observed.unready().await;
    if failed.is_empty() {
        return Json(json!({ "status": "ready" })).into_response();
    }
    let why = failed.iter().map(|check| json!({ "name": check.name, "message": check.message }));
    let body = json!({ "status": "not_ready", "checks": why.collect::<Vec<_>>() });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn health(State(observed): State<Observed>, request: Request) -> Response {
    if let Err(refusal) = may_watch(&request) {
        return refusal;
    }
    let report = observed.examiner.report().await;
    let status = match report.status {
        Status::Failed => StatusCode::SERVICE_UNAVAILABLE,
        Status::Ok | Status::Degraded => StatusCode::OK,
    };
    (status, Json(&*report)).into_response()
}

async fn metrics(State(observed): State<Observed>, request: Request) -> Response {
    if let Err(refusal) = may_watch(&request) {
        return refusal;
    }
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let text = observed.metrics.render(observed.facts().await, format);
    ([(CONTENT_TYPE, format.content_type())], text).into_response()
}

/// Whether the caller may see what is about the whole daemon.
#[allow(clippy::result_large_err, reason = "the answer is sent at once")]
fn may_watch(request: &Request) -> Result<(), Response> {
    let Some(principal) = request.extensions().get::<Principal>() else {
        tracing::error!("a request reached a guarded route without passing the guard");
        return Err(StatusCode::UNAUTHORIZED.into_response());
    };
    let message = match &principal.scope {
        Scope::All if principal.allows(Action::Read) => return Ok(()),
        Scope::All => "this key may not read",
        Scope::Projects(_) => {
            "this is about the whole daemon, and this key is bound to projects; use one that is not"
        }
    };
    let error = json!({ "error": { "code": "not_allowed", "message": message } });
    Err((StatusCode::FORBIDDEN, Json(error)).into_response())
}
