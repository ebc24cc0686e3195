//! What the tests of the outside share: a receiver of notices, signed deliveries, a stub of `gh`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Client as Web;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::watch;

use crate::world::{Daemon, Repo, SOON, World, eventually, quoted};

/// The secret of GitHub's webhook in these tests: that of GitHub's own example.
pub const SECRET: &str = "It's a Secret to Everybody";

/// The header that signs a body.
pub fn signed(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={hex}")
}

/// A `gh` that is logged in and answers nothing until [`World::open_gate`]`("gh")`: runs of such a
/// project stay active in their first phase.
pub fn stub_gh(world: &World) {
    world.program(
        "bin/gh",
        "#!/bin/sh\n[ \"$1\" = auth ] && exit 0\n: >\"$HOME/at-gh\"\n\
         while [ ! -e \"$HOME/open-gh\" ]; do sleep 0.05; done\nexit 1\n",
    );
    let path = format!("{}:{}", world.path("bin").display(), world.env()["PATH"]);
    world.set_env("PATH", Some(&path));
}

/// A served repository `acme/{name}` of GitHub, with webhooks switched on.
pub fn github_shop(world: &World, name: &str) -> Repo {
    stub_gh(world);
    let repo = world.repo(name);
    world.serve(&repo, &format!("forge = \"github\"\nforge_repo = \"acme/{name}\"\n"));
    world.set("github.webhook_secret", &quoted(SECRET));
    repo
}

/// A delivery of a comment by a collaborator on an issue of `acme/shop`. `nonce`: as GitHub's ids
/// and times make every body another.
pub fn comment(issue: u32, text: &str, nonce: u32) -> Value {
    let user = json!({ "login": "mona", "type": "User" });
    json!({
        "action": "created",
        "issue": { "number": issue, "state": "open", "user": user, "author_association": "NONE" },
        "comment": { "id": nonce, "body": text, "user": user, "author_association": "MEMBER" },
        "sender": user,
        "repository": { "full_name": "acme/shop", "html_url": "https://github.com/acme/shop" },
    })
}

/// An answer of the endpoint.
#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// The address of the endpoint.
pub fn endpoint(daemon: &Daemon<'_>) -> String {
    daemon.url().replace("/mcp", "/webhooks/github")
}

/// Sends a delivery as GitHub does.
pub async fn deliver(url: &str, delivery: &str, event: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let signature = signed(SECRET, body.as_bytes());
    let headers = [
        ("x-github-delivery", delivery),
        ("x-github-event", event),
        ("x-hub-signature-256", signature.as_str()),
        ("content-type", "application/json"),
    ];
    post(url, &headers, body.into_bytes()).await
}

/// Sends anything.
pub async fn post(url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let mut request = web().post(url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let reply = request.send().await.unwrap();
    let status = reply.status().as_u16();
    let text = reply.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, body }
}

pub fn web() -> Web {
    adwd::tls::install();
    Web::new()
}

/// What a receiver of notices got.
#[derive(Clone, Debug)]
pub struct Got {
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A header of an answer.
type Extra = Option<(&'static str, String)>;

#[derive(Default)]
struct Desk {
    got: Mutex<Vec<Got>>,
    /// Status and `Retry-After` or `Location` of the next answers; 204 after them.
    answers: Mutex<Vec<(u16, Extra)>>,
    /// Whether answers are held back.
    held: watch::Sender<bool>,
}

/// A receiver of notices on loopback.
pub struct Receiver {
    pub url: String,
    desk: Arc<Desk>,
}

impl Receiver {
    pub async fn new() -> Receiver {
        let desk = Arc::new(Desk::default());
        let router = Router::new().fallback(take).with_state(desk.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Receiver { url, desk }
    }

    /// Answers the next request so; asked for several times, in this order.
    pub fn next(&self, status: u16, header: Option<(&'static str, &str)>) {
        let header = header.map(|(name, value)| (name, value.to_owned()));
        self.desk.answers.lock().unwrap().push((status, header));
    }

    /// Holds answers back, or lets them go.
    pub fn hold(&self, held: bool) {
        self.desk.held.send_replace(held);
    }

    pub fn got(&self) -> Vec<Got> {
        self.desk.got.lock().unwrap().clone()
    }

    /// Waits until it got so many.
    pub async fn wait(&self, count: usize) -> Vec<Got> {
        eventually(&format!("{count} notices came"), SOON, async || {
            let got = self.got();
            if got.len() >= count { Ok(got) } else { Err(format!("{got:#?}")) }
        })
        .await
    }
}

async fn take(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let body = String::from_utf8(body.to_vec()).unwrap();
    desk.got.lock().unwrap().push(Got { headers, body });
    let mut held = desk.held.subscribe();
    held.wait_for(|held| !held).await.expect("the desk is there");
    let mut answers = desk.answers.lock().unwrap();
    if answers.is_empty() {
        return StatusCode::NO_CONTENT.into_response();
    }
    let (status, header) = answers.remove(0);
    let mut response = (StatusCode::from_u16(status).unwrap(), "said the receiver").into_response();
    if let Some((name, value)) = header {
        let name = if name == "location" { header::LOCATION } else { header::RETRY_AFTER };
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
