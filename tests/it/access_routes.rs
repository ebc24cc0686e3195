//! Every route that is no MCP, for everybody who can come, against the real program.

use crate::access_support::*;
use crate::observe_support::send;
use crate::world::Daemon;

/// Statuses for: nobody on loopback, a key of free, of admin, one bound to a project, one that is
/// none.
type Row = (&'static str, &'static str, [u16; 5]);

/// A bad key is refused wherever a key is looked at, also where there is nothing to be had by that
/// method.
const ROUTES: &[Row] = &[
    ("GET", "/healthz", [200; 5]),
    ("HEAD", "/healthz", [200; 5]),
    ("GET", "/readyz", [200; 5]),
    ("HEAD", "/readyz", [200; 5]),
    ("POST", "/healthz", [405; 5]),
    ("DELETE", "/readyz", [405; 5]),
    ("GET", "/mcp/health", [200, 200, 200, 403, 401]),
    ("POST", "/mcp/health", [405, 405, 405, 405, 401]),
    ("GET", "/metrics", [200, 200, 200, 403, 401]),
    ("PUT", "/metrics", [405, 405, 405, 405, 401]),
    // Without a signature it is nobody's, whatever key is shown.
    ("POST", "/webhooks/github", [401; 5]),
    ("GET", "/webhooks/github", [405; 5]),
    // No issuer is set.
    ("GET", "/.well-known/oauth-protected-resource", [404; 5]),
    ("GET", "/.well-known/oauth-protected-resource/mcp", [404; 5]),
    // No stream without a session: there are no sessions.
    ("GET", "/mcp", [405, 405, 405, 405, 401]),
    ("DELETE", "/mcp", [405, 405, 405, 405, 401]),
    ("PUT", "/mcp", [405, 405, 405, 405, 401]),
    ("GET", "/nothing", [404; 5]),
    ("GET", "/", [404; 5]),
];

/// The same where `http.require_key` is set, for nobody on loopback.
const WITHOUT_A_KEY: &[(&str, &str, u16)] = &[
    ("GET", "/healthz", 200),
    ("HEAD", "/healthz", 200),
    ("GET", "/readyz", 200),
    ("POST", "/webhooks/github", 401),
    ("GET", "/.well-known/oauth-protected-resource", 404),
    ("POST", "/healthz", 405),
    ("GET", "/mcp/health", 401),
    ("GET", "/metrics", 401),
    ("POST", "/mcp", 401),
    ("GET", "/mcp", 401),
    ("GET", "/nothing", 404),
];

async fn status(daemon: &Daemon<'_>, method: &str, path: &str, key: Option<&str>) -> u16 {
    let url = daemon.url().replace("/mcp", path);
    let bearer = key.map(|key| format!("Bearer {key}"));
    let headers: Vec<(&str, &str)> =
        bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    let answer = send(method, &url, &headers).await;
    if method != "HEAD" && answer.status >= 400 {
        assert!(!answer.body.contains("panicked"), "{answer:?}");
    }
    answer.status
}

#[tokio::test(flavor = "multi_thread")]
async fn every_plain_route_for_everybody() {
    let world = real_world().await;
    world.set("github.webhook_secret", "\"a secret of sixteen\"");
    let mut daemon = world.daemon().await;
    let free = made_key(&world, &["--tier", "free"]).await;
    let admin = made_key(&world, &["--tier", "admin"]).await;
    let bound = made_key(&world, &["--tier", "admin", "--project", "shop"]).await;
    // Whole, of the right form, and of no key that there is: bad ones are counted by address, so the
    // last of all rows.
    let wrong = free.replace("_free_", "_team_");
    let mut found = Vec::new();
    for (index, key) in
        [None, Some(&free), Some(&admin), Some(&bound), Some(&wrong)].into_iter().enumerate()
    {
        for (method, path, statuses) in ROUTES {
            let got = status(&daemon, method, path, key.map(String::as_str)).await;
            // After ten bad keys in a minute the answer is that there were too many.
            let throttled = index == 4 && statuses[index] == 401 && got == 429;
            if got != statuses[index] && !throttled {
                found.push(format!("{method} {path}, caller {index}: {got}"));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
    world.set("http.require_key", "true");
    daemon.restart().await;
    for (method, path, expected) in WITHOUT_A_KEY {
        let got = status(&daemon, method, path, None).await;
        assert_eq!(got, *expected, "{method} {path} without a key where one is required");
    }
    assert_eq!(status(&daemon, "GET", "/metrics", Some(&free)).await, 200);
}
