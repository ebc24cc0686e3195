//! What is said to those who get no service.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::limits::HTTP_TURNED_AWAY_RETRY_S;

/// A refusal as JSON: `{"error": {"code", "message", "hint"}}`.
pub(super) fn refusal(status: StatusCode, code: &str, message: &str, hint: &str) -> Response {
    let error = json!({ "code": code, "message": message, "hint": hint });
    (status, Json(json!({ "error": error }))).into_response()
}

/// The same, as the last word on a connection: what the client still sends is not read.
pub(super) fn last_refusal(status: StatusCode, code: &str, message: &str, hint: &str) -> Response {
    let mut response = refusal(status, code, message, hint);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A refusal to somebody who has sent no request that could be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    /// All places are taken.
    Full,
    /// A head was begun and not ended in time.
    HeadTooSlow,
    /// Plain HTTP on a port that speaks TLS.
    PlainToTls,
}

/// The bytes of it, head and body.
pub(super) fn bare(why: Bare) -> Vec<u8> {
    let (status, code, message, hint) = match why {
        Bare::Full => (
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "all connections are taken",
            "try again in a moment",
        ),
        Bare::HeadTooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "the request's headers took too long",
            "send the whole head at once",
        ),
        Bare::PlainToTls => (
            StatusCode::BAD_REQUEST,
            "tls_required",
            "this port speaks TLS",
            "use https:// instead of http://",
        ),
    };
    let error = json!({ "code": code, "message": message, "hint": hint });
    let body = json!({ "error": error }).to_string();
    let again = match why {
        Bare::Full => format!("retry-after: {HTTP_TURNED_AWAY_RETRY_S}\r\n"),
        _ => String::new(),
    };
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         cache-control: no-store\r\n{again}connection: close\r\n\r\n{body}"
    )
    .into_bytes()
}
