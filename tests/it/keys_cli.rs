//! Keys with the real binary: made in the shell, used over HTTP, and found nowhere afterwards.

use std::fs;
use std::path::Path;

use reqwest::Client as Web;
use serde_json::{Value, json};

use crate::in_worlds_on_both_engines;
use crate::world::{Daemon, SOON, World, eventually, procs};

in_worlds_on_both_engines!(a_key_from_the_shell_works_over_http_until_it_is_revoked);

/// One call of a tool over HTTP: status, and the answer.
async fn call(
    daemon: &Daemon<'_>,
    key: Option<&str>,
    tool: &str,
    arguments: Value,
) -> (u16, Value) {
    adwd::tls::install();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": tool, "arguments": arguments } });
    let mut request = Web::new()
        .post(daemon.url())
        .header("accept", "application/json, text/event-stream")
        .header("content-type", "application/json")
        .body(body.to_string());
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

fn error_code(answer: &Value) -> &str {
    answer["result"]["structuredContent"]["error"]["code"].as_str().unwrap_or_default()
}

async fn made(world: &World, words: &[&str]) -> (String, String) {
    let args = [&["key", "create", "--json"], words].concat();
    let made = world.cli(&args).await.with_code(0).json();
    (made["key"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
}

async fn a_key_from_the_shell_works_over_http_until_it_is_revoked(world: World) {
    world.set("http.trust_loopback", "false");
    let daemon = world.daemon().await;
    let list = "list_adw_workflows";
    assert_eq!(call(&daemon, None, list, json!({})).await.0, 200, "loopback reads");

    let (key, id) = made(&world, &["--tier", "team", "--name", "ci"]).await;
    assert!(key.starts_with(&format!("adwd_team_{id}_")), "{key}");
    assert_eq!(call(&daemon, Some(&key), list, json!({})).await.0, 200);
    let (status, answer) = call(&daemon, Some(&key), "list_access_keys", json!({})).await;
    assert_eq!((status, error_code(&answer)), (200, "not_allowed"), "{answer}");

    let shown = world.cli(&["key", "list"]).await.with_code(0).stdout;
    assert!(shown.contains(&id) && shown.contains("ci\tteam\tgood"), "{shown}");
    let secret = key.rsplit('_').next().unwrap().to_owned();
    let json = world.cli(&["key", "list", "--json"]).await.with_code(0).stdout;
    assert!(
        !shown.contains(&secret) && !json.contains(&secret) && !json.contains("hash"),
        "{json}"
    );

    let wrong = key.replace("_team_", "_admin_");
    assert_eq!(call(&daemon, Some(&wrong), list, json!({})).await.0, 401);

    let rotated = world.cli(&["key", "rotate", &id, "--grace", "24h", "--json"]).await.with_code(0);
    let next = rotated.json()["key"].as_str().unwrap().to_owned();
    for key in [&key, &next] {
        assert_eq!(call(&daemon, Some(key), list, json!({})).await.0, 200);
    }
    world.cli(&["key", "revoke", &id]).await.with_code(0);
    for key in [&key, &next] {
        let (status, answer) = call(&daemon, Some(key), list, json!({})).await;
        assert_eq!(status, 401, "{answer}");
    }
    world.cli(&["key", "revoke", "000000000000"]).await.with_code(5);
    let whole = world.cli(&["key", "revoke", &next]).await.with_code(2);
    assert!(!whole.stderr.contains(next.rsplit('_').next().unwrap()), "{whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_says_what_is_wrong_and_shows_a_key_alone_on_standard_output() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let plain = world.cli(&["key", "create", "--tier", "solo", "--name", "tv", "--expires", "30d"]);
    let plain = plain.await.with_code(0);
    assert!(plain.stdout.starts_with("adwd_solo_") && plain.stdout.trim().lines().count() == 1);
    assert!(
        plain.stderr.contains("shown this once") && plain.stderr.contains("ends at"),
        "{plain:?}"
    );
    let words = ["--tier", "team", "--name", "b", "--project", "shop", "--project", "site"];
    let made = world.cli(&[&["key", "create", "--json"], &words[..]].concat()).await.with_code(0);
    assert_eq!(made.json()["projects"], json!(["shop", "site"]));
    assert!(made.stderr.contains("does not serve shop, site"), "{made:?}");
    for (words, code, part) in [
        (&["--tier", "boss", "--name", "x"][..], 2, "possible values"),
        (&["--tier", "solo"], 2, "--name"),
        (&["--tier", "solo", "--name", "x", "--expires", "soon"], 2, "30d"),
        (&["--tier", "solo", "--name", "x", "--hourly", "0"], 2, "hourly"),
    ] {
        let ran = world.cli(&[&["key", "create"], words].concat()).await.with_code(code);
        assert!(ran.stderr.contains(part), "{words:?}: {ran:?}");
    }
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_key_needs_no_daemon() {
    let world = World::new().await;
    let (key, id) = made(&world, &["--tier", "admin", "--name", "me"]).await;
    let list = world.cli(&["key", "list", "--json"]).await.with_code(0).json();
    assert_eq!(list["keys"][0]["id"], json!(id));
    world.quiet().await;
    world.set("http.require_key", "true");
    world.set("http.trust_loopback", "false");
    let daemon = world.daemon().await;
    assert_eq!(call(&daemon, None, "list_access_keys", json!({})).await.0, 401);
    let (status, answer) = call(&daemon, Some(&key), "list_access_keys", json!({})).await;
    assert_eq!(
        (status, &answer["result"]["structuredContent"]["keys"][0]["id"]),
        (200, &json!(id))
    );
    // An admin manages keys over HTTP.
    let asked = json!({ "tier": "solo", "name": "by admin" });
    let (_, answer) = call(&daemon, Some(&key), "create_access_key", asked).await;
    let made = &answer["result"]["structuredContent"];
    assert_eq!(made["created_by"], json!(format!("key:{id}")));
    let second = made["key"].as_str().unwrap();
    assert_eq!(call(&daemon, Some(second), "list_adw_projects", json!({})).await.0, 200);
    let gone = call(&daemon, Some(&key), "revoke_access_key", json!({ "id": made["id"] })).await;
    assert_eq!(gone.1["result"]["structuredContent"]["state"], "revoked");
    assert_eq!(call(&daemon, Some(second), "list_adw_projects", json!({})).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_contradict_each_other_are_named() {
    let world = World::new().await;
    world.set("http.require_key", "true");
    let checked = world.cli(&["config", "check"]).await.with_code(2);
    assert!(checked.stderr.contains("http.trust_loopback is without effect"), "{checked:?}");
    let daemon = world.daemon().await;
    drop(daemon);
    world.set("http.require_key", "false");
    world.set("oauth.issuer", "\"https://id.example\"");
    let checked = world.cli(&["config", "check"]).await.with_code(2);
    assert!(checked.stderr.contains("set oauth.audience"), "{checked:?}");
    let refused = world.cli(&["serve"]).await.with_code(2);
    assert!(refused.stderr.contains("oauth.audience is not"), "{refused:?}");
    world.set("oauth.issuer", "\"http://id.example\"");
    let checked = world.cli(&["config", "check"]).await.with_code(2);
    assert!(checked.stderr.contains("https://HOST"), "{checked:?}");
}

/// Every file below a folder that holds one of the needles.
fn files_with(folder: &Path, needles: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            found.extend(files_with(&path, needles));
            continue;
        }
        let bytes = fs::read(&path).unwrap_or_default();
        for needle in needles {
            if bytes.windows(needle.len()).any(|part| part == needle.as_bytes()) {
                found.push(format!("{} holds {}…", path.display(), &needle[..6]));
            }
        }
    }
    found
}

/// Everything is done with keys that can be, with the log at its most talkative; then all that is
/// left is searched for their secrets: database, logs, state, standard error, process list.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_any_key_is_found_anywhere_afterwards() {
    let world = World::new().await;
    world.set("logs.level", "\"trace\"");
    world.set("http.trust_loopback", "false");
    let mut daemon = world.daemon().await;
    let mut keys = Vec::new();
    for tier in ["free", "team", "admin"] {
        keys.push(made(&world, &["--tier", tier, "--name", tier]).await);
    }
    let (admin, admin_id) = keys[2].clone();
    let (_, answer) =
        call(&daemon, Some(&admin), "rotate_access_key", json!({ "id": keys[0].1, "grace": "1h" }))
            .await;
    let rotated = answer["result"]["structuredContent"]["key"].as_str().unwrap().to_owned();
    // Used well, used wrongly, and put where no key belongs.
    for (key, _) in &keys {
        call(&daemon, Some(key), "list_adw_workflows", json!({})).await;
        call(&daemon, Some(key), "list_adw_projects", json!({ "token": key })).await;
        call(&daemon, Some(key), "get_adw_state", json!({ "adw_id": key })).await;
        call(&daemon, Some(key), key, json!({})).await;
        call(&daemon, Some(&admin), "revoke_access_key", json!({ "id": key })).await;
        let asked = json!({ "tier": "solo", "name": key });
        call(&daemon, Some(&admin), "create_access_key", asked).await;
        call(&daemon, Some(&format!("{key}0")), "list_adw_workflows", json!({})).await;
        call(&daemon, Some(&key.replace("adwd_", "adwd_x")), "list_adw_workflows", json!({})).await;
        world.cli(&["state", key]).await;
    }
    let secret = |key: &str| key.rsplit('_').next().unwrap().to_owned();
    let mut needles: Vec<String> = keys.iter().map(|(key, _)| secret(key)).collect();
    needles.push(secret(&rotated));
    for process in procs::of(&world.root) {
        let line = process.argv.join(" ");
        assert!(needles.iter().all(|needle| !line.contains(needle.as_str())), "{line}");
    }
    world.cli(&["key", "revoke", &admin_id]).await.with_code(0);
    // SQLite's own files are read as they are, while the daemon runs and after its end.
    assert_eq!(files_with(&world.root, &needles), Vec::<String>::new());
    daemon.terminate().await;
    assert_eq!(files_with(&world.root, &needles), Vec::<String>::new());
    let logged = files_with(&world.path("state/adwd/logs"), &["a key was made".to_owned()]);
    assert_eq!(logged.len(), 1, "the log was written: {logged:?}");
    let pepper = fs::read_to_string(world.state_dir().join("access.key")).unwrap();
    let others = files_with(&world.root, &[pepper.trim().to_owned()]);
    assert_eq!(others.len(), 1, "what keys are hashed with is in its own file alone: {others:?}");
    eventually("everything ended", SOON, async || {
        if world.processes().is_empty() { Ok(()) } else { Err("some live".to_owned()) }
    })
    .await;
}
