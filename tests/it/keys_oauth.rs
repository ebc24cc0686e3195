//! Tokens of an OAuth issuer, with the real binary and an issuer of the test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Client as Web;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::world::{Daemon, World, quoted};

/// Whom its tokens are for.
pub const AUDIENCE: &str = "https://adwd.example/mcp";

/// An issuer on loopback with one key.
pub struct Issuer {
    pub url: String,
    pair: EcdsaKeyPair,
    /// How often its keys were asked for.
    asked: Arc<AtomicUsize>,
    /// Whether it answers.
    up: Arc<AtomicBool>,
}

impl Issuer {
    pub async fn start() -> Issuer {
        let rng = SystemRandom::new();
        let alg = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(alg, &rng).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(alg, pkcs8.as_ref(), &rng).unwrap();
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..32]), URL_SAFE_NO_PAD.encode(&point[32..]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
        let keys = json!({ "keys": [
            { "kty": "oct", "kid": "shared", "k": "AAAA" },
            { "kty": "EC", "crv": "P-256", "use": "sig", "kid": "k1", "x": x, "y": y },
        ] });
        // No oauth-authorization-server: the second place is looked at too.
        let metadata = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
        let (count, lives) = (asked.clone(), up.clone());
        let serve_keys = move || {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = lives.load(Ordering::SeqCst).then(|| axum::Json(keys.clone()));
            async move { answer.ok_or(StatusCode::BAD_GATEWAY).into_response() }
        };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(move || async { axum::Json(metadata) }))
            .route("/keys", get(serve_keys));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Issuer { url, pair, asked, up }
    }

    fn token(&self, header: &Value, payload: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(payload));
        let mark = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mark.as_ref()))
    }

    fn payload(&self) -> Value {
        json!({ "iss": self.url, "aud": AUDIENCE, "sub": "alice", "scope": "adwd:run",
            "exp": now_s() + 300 })
    }

    pub fn good(&self, changes: Value) -> String {
        let mut payload = self.payload();
        for (name, value) in changes.as_object().unwrap() {
            payload[name] = value.clone();
        }
        self.token(&header(), &payload)
    }
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "k1", "typ": "at+jwt" })
}

fn now_s() -> i64 {
    use adwd::clock::Clock as _;
    adwd::clock::SystemClock.now().0 / 1_000
}

async fn world(issuer: &Issuer) -> World {
    let world = World::new().await;
    world.set("oauth.issuer", &quoted(&issuer.url));
    world.set("oauth.audience", &quoted(AUDIENCE));
    world
}

/// Calls a tool with a token: status, challenge, answer.
async fn call(daemon: &Daemon<'_>, token: &str, tool: &str) -> (u16, String, Value) {
    adwd::tls::install();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": tool, "arguments": {} } });
    let response = Web::new()
        .post(daemon.url())
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let status = response.status().as_u16();
    (status, challenge, response.json().await.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_is_read_by_whoever_asks_and_leads_to_the_issuer() {
    let issuer = Issuer::start().await;
    let world = world(&issuer).await;
    world.set("http.trust_loopback", "false");
    world.set("http.require_key", "true");
    let daemon = world.daemon().await;
    adwd::tls::install();
    let root = daemon.url().replace("/mcp", "");
    for path in ["", "/mcp"] {
        let url = format!("{root}/.well-known/oauth-protected-resource{path}");
        let told: Value = Web::new().get(url).send().await.unwrap().json().await.unwrap();
        assert_eq!(told["resource"], AUDIENCE);
        assert_eq!(told["authorization_servers"], json!([issuer.url]));
        assert_eq!(told["scopes_supported"], json!(["adwd:read", "adwd:run", "adwd:admin"]));
    }
    let refused = Web::new().post(daemon.url()).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    let expected = "Bearer resource_metadata=\"https://adwd.example/.well-known/\
                    oauth-protected-resource/mcp\", scope=\"adwd:read\"";
    assert_eq!(challenge, expected);
    // Under its public name too.
    let token = issuer.good(json!({}));
    let named = Web::new().post(daemon.url()).header("host", "adwd.example");
    let named = named
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string());
    assert_eq!(named.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_are_tiers_and_a_token_without_any_is_not_enough() {
    let issuer = Issuer::start().await;
    let world = world(&issuer).await;
    let daemon = world.daemon().await;
    let allowed = async |token: &str, tool: &str| {
        let (status, _, answer) = call(&daemon, token, tool).await;
        assert_eq!(status, 200, "{answer}");
        answer["result"]["structuredContent"]["error"]["code"] != "not_allowed"
    };
    for (scope, [reads, works, manages]) in [
        ("adwd:read", [true, false, false]),
        ("openid adwd:run", [true, true, false]),
        ("adwd:admin", [true, true, true]),
    ] {
        let token = issuer.good(json!({ "scope": scope }));
        assert_eq!(allowed(&token, "list_adw_projects").await, reads, "{scope}");
        assert_eq!(allowed(&token, "cancel_adw_workflow").await, works, "{scope}");
        assert_eq!(allowed(&token, "list_access_keys").await, manages, "{scope}");
    }
    let (status, challenge, answer) =
        call(&daemon, &issuer.good(json!({ "scope": "openid" })), "list_adw_projects").await;
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("insufficient_scope")));
    assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
    assert!(challenge.contains("scope=\"adwd:read\""), "{challenge}");
    let bound = issuer.good(json!({ "scope": "adwd:admin", "adwd_projects": ["shop"] }));
    assert!(!allowed(&bound, "list_access_keys").await, "bound to projects: no keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_token_is_refused_and_a_key_beside_it_works() {
    let issuer = Issuer::start().await;
    let stranger = Issuer::start().await;
    let world = world(&issuer).await;
    let daemon = world.daemon().await;
    let with = |name: &str, value: Value| {
        let mut header = header();
        header[name] = value;
        issuer.token(&header, &issuer.payload())
    };
    let unsigned = {
        let token = with("alg", json!("none"));
        format!("{}.", token.rsplit_once('.').unwrap().0)
    };
    let wrong = stranger.token(&header(), &issuer.payload());
    let bad = [
        ("alg=none", unsigned),
        ("alg=none, signed", with("alg", json!("none"))),
        ("HS256", with("alg", json!("HS256"))),
        ("kid of a shared secret", with("kid", json!("shared"))),
        ("unknown kid", with("kid", json!("k2"))),
        ("typ", with("typ", json!("id+jwt"))),
        ("issuer", issuer.good(json!({ "iss": "https://evil.example" }))),
        ("audience", issuer.good(json!({ "aud": "https://other.example" }))),
        ("expired", issuer.good(json!({ "exp": now_s() - 120 }))),
    ];
    for (what, token) in &bad {
        let (status, challenge, answer) = call(&daemon, token, "list_adw_projects").await;
        assert_eq!((status, &answer["error"]["code"]), (401, &json!("invalid_token")), "{what}");
        assert!(challenge.starts_with("Bearer error=\"invalid_token\""), "{what}: {challenge}");
        assert!(challenge.contains("resource_metadata="), "{what}: {challenge}");
    }
    let (status, ..) = call(&daemon, &wrong, "list_adw_projects").await;
    assert_eq!(status, 429, "the tenth in a minute");
    let early = issuer.good(json!({ "nbf": now_s() + 120 }));
    assert_eq!(call(&daemon, &early, "list_adw_projects").await.0, 429);
    assert_eq!(call(&daemon, &issuer.good(json!({})), "list_adw_projects").await.0, 200);
    let made = world.cli(&["key", "create", "--tier", "solo", "--name", "x", "--json"]).await;
    let key = made.with_code(0).json()["key"].as_str().unwrap().to_owned();
    assert_eq!(call(&daemon, &key, "list_adw_projects").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuers_keys_are_kept_while_it_is_away_and_asked_for_once() {
    let issuer = Issuer::start().await;
    let world = world(&issuer).await;
    issuer.up.store(false, Ordering::SeqCst);
    let mut daemon = world.daemon().await;
    let token = issuer.good(json!({}));
    let (status, _, answer) = call(&daemon, &token, "list_adw_projects").await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("issuer_unavailable")));
    issuer.up.store(true, Ordering::SeqCst);
    daemon.restart().await;
    assert_eq!(call(&daemon, &token, "list_adw_projects").await.0, 200);
    issuer.up.store(false, Ordering::SeqCst);
    let asked = issuer.asked.load(Ordering::SeqCst);
    let unknown = issuer.token(&json!({ "alg": "ES256", "kid": "k9" }), &issuer.payload());
    for _ in 0..3 {
        assert_eq!(call(&daemon, &unknown, "list_adw_projects").await.0, 401);
        assert_eq!(call(&daemon, &token, "list_adw_projects").await.0, 200);
    }
    assert_eq!(issuer.asked.load(Ordering::SeqCst), asked, "it was asked within the minute");
}
