//! What an HTTP answer says of the caller's limit: its headers, and 429 beyond it.
//!
//! rmcp makes the answer, so the gate writes what it found into a cell that travels with the
//! request ([`Told`]); the layer here reads it when the answer is there. An event stream begins with
//! the first message, which comes after the gate; a subscription alone is acknowledged by rmcp before
//! anybody is asked, so the layer pays for it first.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rmcp::RoleServer;
use rmcp::service::RequestContext;
use serde_json::json;

use super::{Barred, Gate, seconds};
use crate::auth::Principal;
use crate::quota::{Cost, Standing, TENTHS};

/// The method as the newest revision's header names it; rmcp compares it with the body.
const METHOD: &str = "mcp-method";
/// The one request whose answer begins before its handler is asked.
const LISTEN: &str = "subscriptions/listen";

/// The cell. Absent where the request came by another road.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<Found>>);

#[derive(Clone, Copy, Debug, Default)]
struct Found {
    standing: Option<Standing>,
    /// The answer's status, where it is not the library's.
    status: Option<StatusCode>,
    /// When the same request would be let through.
    retry_ms: Option<i64>,
}

impl Told {
    fn set(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn found(&self) -> Found {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(context: &RequestContext<RoleServer>) -> Option<&Told> {
        context.extensions.get::<Parts>()?.extensions.get::<Told>()
    }

    /// Notes where the caller stands.
    pub(super) fn note(context: &RequestContext<RoleServer>, standing: Option<Standing>) {
        if let Some(told) = Told::of(context) {
            told.set(|found| found.standing = standing.or(found.standing));
        }
    }

    /// Notes that the request is refused.
    pub(super) fn bar(context: &RequestContext<RoleServer>, barred: &Barred) {
        if let Some(told) = Told::of(context) {
            told.refuse(barred);
        }
    }

    fn refuse(&self, barred: &Barred) {
        if let Barred::Limit(standing, cost) = barred {
            let ever = cost.tenths() <= standing.limit_tenths;
            self.set(|found| {
                found.standing = Some(*standing);
                found.status = Some(StatusCode::TOO_MANY_REQUESTS);
                found.retry_ms = ever.then(|| standing.reset_ms());
            });
        }
    }

    /// Puts what was found into the answer.
    fn onto(&self, mut response: Response) -> Response {
        let found = self.found();
        if let Some(status) = found.status {
            *response.status_mut() = status;
        }
        let headers = response.headers_mut();
        let mut put = |name: &'static str, value: i64| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        };
        if let Some(standing) = found.standing {
            put("x-ratelimit-limit", standing.limit_tenths / TENTHS);
            // Whole calls: clients read an integer. Below one, reads may still go.
            put("x-ratelimit-remaining", standing.remaining_tenths / TENTHS);
            put("x-ratelimit-reset", seconds(standing.resets_at.0));
        }
        if let Some(retry_ms) = found.retry_ms {
            put("retry-after", seconds(retry_ms));
        }
        response
    }
}

/// The layer; inside the guard, because it needs the principal.
pub(crate) async fn metered(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Response {
    let told = Told::default();
    let listens = request.headers().get(METHOD).is_some_and(|method| method == LISTEN);
    if let Some(principal) = request.extensions().get::<Principal>().filter(|_| listens) {
        match gate.spend(principal, Cost::Read).await {
            Ok(standing) => told.set(|found| found.standing = standing),
            Err(barred) => {
                told.refuse(&barred);
                let error = barred.into_protocol(principal);
                let body = Json(json!({ "jsonrpc": "2.0", "id": null, "error": error }));
                let status = StatusCode::SERVICE_UNAVAILABLE;
                return told.onto((status, body).into_response());
            }
        }
    }
    request.extensions_mut().insert(told.clone());
    told.onto(next.run(request).await)
}
