//! The guard: every request learns here whose it is, before anything else sees it.
//!
//! A credential decides alone: one that is bad is refused on loopback too, because whoever sends one
//! means to be somebody. Without one, only a peer on loopback that nobody speaks for (no proxy, no
//! forwarding header) is let in, to read; see [`Principal::loopback`].

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{Router, routing};
use futures::StreamExt as _;

use super::denial::Refusal;
use super::oauth;
use crate::auth::{Access, Identity, Principal, throttle};

/// Routes that answer whoever asks: what clients have to read before they have a credential, what
/// watches whether the daemon lives, and what proves by a signature of its own whose it is.
const OPEN: [(Method, &str); 5] = [
    (Method::GET, oauth::METADATA_PATH),
    (Method::GET, oauth::MCP_METADATA_PATH),
    (Method::GET, "/healthz"),
    (Method::GET, "/readyz"),
    (Method::POST, "/webhooks/github"),
];

/// What the guard knows.
#[derive(Clone, Debug)]
pub struct Guard {
    access: Access,
    behind_proxy: bool,
}

impl Guard {
    /// A guard that asks `access`. `behind_proxy`: a proxy of the user's stands in front, so no peer
    /// is who it seems, and the proxy's last word says where a request came from.
    #[must_use]
    pub fn new(access: Access, behind_proxy: bool) -> Guard {
        Guard { access, behind_proxy }
    }

    /// Who may do something without a credential.
    fn anonymous(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<Principal, Refusal> {
        let config = self.access.config();
        let here = peer.is_some_and(|ip| ip.to_canonical().is_loopback());
        if here && !config.require_key && !self.behind_proxy && !is_forwarded(headers) {
            return Ok(Principal::loopback(config.trust_loopback));
        }
        Err(Refusal::no_credential())
    }

    /// Where a request came from, as bad credentials are counted.
    fn address(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> String {
        let told = self.behind_proxy.then(|| forwarded_for(headers)).flatten();
        throttle::address(told.or(peer))
    }
}

/// The routes behind the guard, and the metadata of the protected resource where tokens are taken.
/// Requests need a [`ConnectInfo`] of their peer's [`SocketAddr`] in their extensions; one without
/// it is not from loopback.
pub fn guarded(router: Router, guard: Guard) -> Router {
    let metadata = oauth::metadata(guard.access.config());
    let router = match metadata {
        Some(metadata) => {
            let told = move || {
                let metadata = metadata.clone();
                // Any page may read what everybody may know: some clients live in one.
                async move { ([(ACCESS_CONTROL_ALLOW_ORIGIN, "*")], axum::Json(metadata)) }
            };
            router
                .route(oauth::METADATA_PATH, routing::get(told.clone()))
                .route(oauth::MCP_METADATA_PATH, routing::get(told))
        }
        None => router,
    };
    router.layer(from_fn_with_state(Arc::new(guard), pass))
}

async fn pass(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if OPEN.iter().any(|(method, open)| request.method() == method && path == *open) {
        return next.run(request).await;
    }
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let found = match credential(request.headers()) {
        Shown::Nothing => {
            guard.anonymous(peer, request.headers()).map(|principal| (principal, None))
        }
        Shown::Other => {
            let address = guard.address(peer, request.headers());
            let refused = guard.access.refuse(&address).await;
            refused.map(of_identity).map_err(Refusal::from)
        }
        Shown::Bearer(text) => {
            let address = guard.address(peer, request.headers());
            let found = guard.access.identify(text, &address).await;
            found.map(of_identity).map_err(Refusal::from)
        }
    };
    // Nothing behind the guard needs it, so nothing there can let it slip.
    request.headers_mut().remove(AUTHORIZATION);
    match found {
        Ok((principal, identity)) => {
            request.extensions_mut().insert(principal);
            let response = next.run(request).await;
            match identity {
                Some(identity) => until_ended(response, guard.access.clone(), identity),
                None => response,
            }
        }
        Err(refusal) => refusal.into_response(guard.access.config()),
    }
}

fn of_identity(identity: Identity) -> (Principal, Option<Identity>) {
    (identity.principal.clone(), Some(identity))
}

/// An event stream ends with the key or token it was opened with.
fn until_ended(response: Response, access: Access, identity: Identity) -> Response {
    let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    if !kind.is_some_and(|kind| kind.starts_with(b"text/event-stream")) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let ended = async move { access.ended(&identity).await };
    let body = Body::from_stream(body.into_data_stream().take_until(Box::pin(ended)));
    Response::from_parts(parts, body)
}

/// What a request shows.
enum Shown<'a> {
    Nothing,
    Bearer(&'a str),
    /// Something that is no bearer credential, or more than one.
    Other,
}

fn credential(headers: &HeaderMap) -> Shown<'_> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = given.next() else { return Shown::Nothing };
    if given.next().is_some() {
        return Shown::Other;
    }
    let words = first.to_str().ok().and_then(|text| text.trim().split_once(' '));
    match words {
        Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => {
            Shown::Bearer(text.trim_start())
        }
        _ => Shown::Other,
    }
}

/// Whether somebody says that the request is another's: the headers of RFC 7239 and 9110, and those
/// by which proxies and tunnels name their peer or its user.
fn is_forwarded(headers: &HeaderMap) -> bool {
    const BEGINNINGS: [&str; 4] = ["x-forwarded", "x-original-", "x-envoy-", "tailscale-"];
    headers.keys().any(|name| {
        let name = name.as_str();
        matches!(name, "forwarded" | "forwarded-for" | "via" | "x-real-ip" | "cdn-loop")
            || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
            // `client-ip`, `x-client-ip`, `true-client-ip`, `cf-connecting-ip`, `x-azure-clientip`, …
            || ["client-ip", "connecting-ip", "clientip"].iter().any(|end| name.ends_with(end))
    })
}

/// The last address of the last `X-Forwarded-For`: the one that the proxy itself saw. Those before
/// it are what its peer claims.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let last = last.rsplit(',').next()?.trim();
    last.parse().ok().or_else(|| last.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn a_credential_is_one_bearer_in_any_letters() {
        for value in ["Bearer abc", "bearer abc", "BEARER  abc", " Bearer abc "] {
            let map = headers(&[("authorization", value)]);
            assert!(matches!(credential(&map), Shown::Bearer("abc")), "{value}");
        }
        for pairs in [
            &[("authorization", "Basic abc")][..],
            &[("authorization", "Bearer")],
            &[("authorization", "")],
            &[("authorization", "abc")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
        ] {
            assert!(matches!(credential(&headers(pairs)), Shown::Other), "{pairs:?}");
        }
        assert!(matches!(credential(&headers(&[])), Shown::Nothing));
    }

    #[test]
    fn the_address_is_the_last_that_the_proxy_saw() {
        let told = |pairs: &[_]| forwarded_for(&headers(pairs)).map(|ip| ip.to_string());
        let one = told(&[("x-forwarded-for", "10.0.0.1, 192.0.2.7")]);
        assert_eq!(one.as_deref(), Some("192.0.2.7"));
        let two = told(&[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-for", "[2001:db8::1]:80")]);
        assert_eq!(two.as_deref(), Some("2001:db8::1"));
        assert_eq!(told(&[("x-forwarded-for", "10.0.0.1, unknown")]), None);
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn any_forwarding_header_counts() {
        for name in [
            "forwarded",
            "via",
            "x-real-ip",
            "x-forwarded-for",
            "x-forwarded-anything",
            "x-forwarded",
            "forwarded-for",
            "client-ip",
            "x-client-ip",
            "true-client-ip",
            "cf-connecting-ip",
            "x-cluster-client-ip",
            "fly-client-ip",
            "fastly-client-ip",
            "x-azure-clientip",
            "x-envoy-external-address",
            "x-original-forwarded-for",
            "tailscale-user-login",
            "cdn-loop",
        ] {
            assert!(is_forwarded(&headers(&[(name, "x")])), "{name}");
        }
        let plain = [("user-agent", "via"), ("accept", "forwarded"), ("x-request-id", "1")];
        assert!(!is_forwarded(&headers(&plain)));
    }
}
