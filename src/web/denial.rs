//! How the guard refuses: status, `WWW-Authenticate`, and an error in the form that all errors have.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::oauth;
use crate::auth::Denied;
use crate::config::AccessConfig;

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: &'static str,
    /// `error` of `WWW-Authenticate`, where a credential was shown (RFC 6750 §3.1).
    challenge: Option<&'static str>,
    retry_after_s: Option<i64>,
}

impl Refusal {
    /// Nobody said who they are, and this road asks.
    #[must_use]
    pub fn no_credential() -> Refusal {
        Refusal {
            status: StatusCode::UNAUTHORIZED,
            code: "unauthorized",
            message: "a key is needed here".to_owned(),
            hint: "send `Authorization: Bearer KEY`; `adwd key create` on the daemon's machine makes one",
            challenge: None,
            retry_after_s: None,
        }
    }

    /// The response, which says where tokens come from where any are taken.
    #[must_use]
    pub fn into_response(self, config: &AccessConfig) -> Response {
        let Refusal { status, code, message, hint, challenge, retry_after_s } = self;
        let body = json!({ "error": { "code": code, "message": message, "hint": hint } });
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let value = www_authenticate(challenge, &message, config);
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(WWW_AUTHENTICATE, value);
            }
        }
        if let Some(seconds) = retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// RFC 6750 §3, with the metadata's address of RFC 9728 §5.1 and, as the MCP specification asks,
/// the scopes that would do.
fn www_authenticate(challenge: Option<&str>, message: &str, config: &AccessConfig) -> String {
    let mut parts = Vec::new();
    if let Some(error) = challenge {
        parts.push(format!("error=\"{error}\", error_description=\"{message}\""));
    }
    if let Some(url) = oauth::metadata_url(config) {
        parts.push(format!("resource_metadata=\"{url}\", scope=\"{}\"", oauth::LEAST_SCOPE));
    }
    format!("Bearer {}", parts.join(", ")).trim_end().to_owned()
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Refusal {
        let message = match &denied {
            Denied::Db(_) => "the daemon's database failed, so nobody can be let in".to_owned(),
            other => other.to_string(),
        };
        let (status, code, hint) = told(&denied);
        let challenge = match status {
            StatusCode::UNAUTHORIZED => Some("invalid_token"),
            StatusCode::FORBIDDEN => Some("insufficient_scope"),
            _ => None,
        };
        let retry_after_s = match denied {
            Denied::Throttled { retry_after_ms } => {
                Some(retry_after_ms.max(1).saturating_add(999) / 1_000)
            }
            Denied::Issuer | Denied::Db(_) => Some(5),
            _ => None,
        };
        if let Denied::Db(error) = &denied {
            tracing::error!(%error, "a credential cannot be looked up");
        }
        Refusal { status, code, message, hint, challenge, retry_after_s }
    }
}

fn told(denied: &Denied) -> (StatusCode, &'static str, &'static str) {
    let again = "make a new key with `adwd key create` on the daemon's machine";
    match denied {
        Denied::Unknown => (
            StatusCode::UNAUTHORIZED,
            "invalid_credential",
            "check that the whole key was sent as `Authorization: Bearer KEY`; `adwd key list` \
             shows which keys are good",
        ),
        Denied::Revoked => (StatusCode::UNAUTHORIZED, "key_revoked", again),
        Denied::Expired => (StatusCode::UNAUTHORIZED, "key_expired", again),
        Denied::Rotated => {
            (StatusCode::UNAUTHORIZED, "key_rotated", "use the key that `adwd key rotate` showed")
        }
        Denied::Token(_) => (
            StatusCode::UNAUTHORIZED,
            "invalid_token",
            "get another token from the issuer that this daemon's metadata names",
        ),
        Denied::Scope => (
            StatusCode::FORBIDDEN,
            "insufficient_scope",
            "ask the issuer for adwd:read (reads), adwd:run (works) or adwd:admin (manages)",
        ),
        Denied::Throttled { .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            "throttled",
            "wait as Retry-After says, and send a good key: good keys are not held up",
        ),
        Denied::Issuer => (
            StatusCode::SERVICE_UNAVAILABLE,
            "issuer_unavailable",
            "ask again in a few seconds, or use a key",
        ),
        Denied::Db(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "database",
            "ask again; if it stays, read the daemon's log or run `adwd doctor`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OauthConfig;

    fn header(response: &Response, name: axum::http::HeaderName) -> Option<&str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn the_challenge_names_metadata_only_where_tokens_are_taken() {
        let plain = AccessConfig::default();
        let response = Refusal::no_credential().into_response(&plain);
        assert_eq!(response.status(), 401);
        assert_eq!(header(&response, WWW_AUTHENTICATE), Some("Bearer"));
        let response = Refusal::from(Denied::Unknown).into_response(&plain);
        let told = header(&response, WWW_AUTHENTICATE).unwrap();
        assert!(told.starts_with("Bearer error=\"invalid_token\""), "{told}");
        assert!(!told.contains("resource_metadata"), "{told}");
        let oauth = OauthConfig {
            issuer: Some("https://id.example".to_owned()),
            audience: Some("https://adwd.example/mcp".to_owned()),
            jwks_url: None,
        };
        let config = AccessConfig { oauth, ..AccessConfig::default() };
        let response = Refusal::no_credential().into_response(&config);
        assert_eq!(
            header(&response, WWW_AUTHENTICATE),
            Some(
                "Bearer resource_metadata=\"https://adwd.example/.well-known/\
                 oauth-protected-resource/mcp\", scope=\"adwd:read\""
            )
        );
        let response = Refusal::from(Denied::Scope).into_response(&config);
        assert_eq!(response.status(), 403);
        let told = header(&response, WWW_AUTHENTICATE).unwrap();
        assert!(told.contains("error=\"insufficient_scope\""), "{told}");
    }

    #[test]
    fn who_is_shut_out_learns_for_how_long_in_whole_seconds() {
        for (ms, seconds) in [(1, "1"), (30_000, "30"), (30_001, "31"), (-5, "1")] {
            let refusal = Refusal::from(Denied::Throttled { retry_after_ms: ms });
            let response = refusal.into_response(&AccessConfig::default());
            assert_eq!(response.status(), 429);
            assert_eq!(header(&response, RETRY_AFTER), Some(seconds));
        }
    }
}
