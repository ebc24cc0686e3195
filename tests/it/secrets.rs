//! Nothing that is secret is found anywhere but where it belongs.
//!
//! Everything is done that secrets take part in, rightly and wrongly, with the log at its most
//! talkative. Then all that is left is searched: logs, standard error, answers, processes, every
//! table, every file of the state folder, the project and the phases.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use adwd::args;
use adwd::db::Db;
use serde_json::{Value, json};

use crate::access_support::{ask, made_key};
use crate::keys_oauth::{AUDIENCE, Issuer};
use crate::mcp_support::{Client, ok};
use crate::observe_support::send;
use crate::outside_support::{Receiver, SECRET, comment, deliver, endpoint, post, signed};
use crate::world::{self, Agent, Daemon, SOON, World, eventually, procs, quoted};

crate::in_worlds_on_both_engines!(no_secret_is_found_where_it_does_not_belong);

const HOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Of a hook whose secret is in a file.
const FILED: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const CHAT: &str = "T0LOCAL/B0LOCAL/chatpathsecret";
const TRACES: &str = "otlp-header-value-7";
const PASSWORD: &str = "database-password-5";

/// What must not be found, by what it is.
#[derive(Default)]
struct Needles(Vec<(String, String)>);

impl Needles {
    fn add(&mut self, what: &str, secret: &str) {
        assert!(secret.len() >= 12, "{what} is too short to be looked for");
        self.0.push((what.to_owned(), secret.to_owned()));
    }

    /// The secret part of a key.
    fn add_key(&mut self, what: &str, key: &str) {
        self.add(what, key.rsplit('_').next().unwrap());
    }

    /// Which of them a text holds.
    fn in_bytes(&self, bytes: &[u8]) -> Vec<&str> {
        let holds = |part: &str| bytes.windows(part.len()).any(|found| found == part.as_bytes());
        self.0.iter().filter(|(_, secret)| holds(secret)).map(|(what, _)| what.as_str()).collect()
    }

    /// Where they are found below a folder.
    fn in_files(&self, folder: &Path, but: &[&Path]) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_symlink() || but.contains(&path.as_path()) {
                continue;
            }
            if path.is_dir() {
                found.extend(self.in_files(&path, but));
                continue;
            }
            let held = self.in_bytes(&fs::read(&path).unwrap_or_default());
            found.extend(held.iter().map(|what| format!("{} holds {what}", path.display())));
        }
        found
    }

    #[track_caller]
    fn assert_none(&self, place: &str, text: &str) {
        assert_eq!(self.in_bytes(text.as_bytes()), Vec::<&str>::new(), "{place}: {text}");
    }
}

/// Every row of every table, as text. SQLite's is its file, which is searched as it is.
async fn dump(world: &World) -> String {
    let url = world.database_url();
    if !url.starts_with("postgres") {
        return String::new();
    }
    let db = Db::open(&url).await.unwrap();
    let sql = "SELECT CAST(table_name AS TEXT) FROM information_schema.tables \
               WHERE table_schema = 'public'";
    let tables: Vec<(String,)> = db.all(sql, args![]).await.unwrap();
    assert!(tables.len() > 15, "{tables:?}");
    let mut text = String::new();
    for (table,) in tables {
        let sql = format!("SELECT CAST(t AS TEXT) FROM {table} AS t");
        let rows: Vec<(String,)> = db.all(Box::leak(sql.into_boxed_str()), args![]).await.unwrap();
        text.extend(rows.into_iter().map(|(row,)| format!("{table}: {row}\n")));
    }
    text
}

/// A world in which every secret that can be set is set; the files that may hold one.
async fn prepare(world: &World, issuer: &Issuer, receiver: &Receiver) -> Vec<std::path::PathBuf> {
    world.set("logs.level", "\"trace\"");
    world.set("http.trust_loopback", "false");
    world.set("oauth.issuer", &quoted(&issuer.url));
    world.set("oauth.audience", &quoted(AUDIENCE));
    world.set("otlp.endpoint", "\"http://127.0.0.1:9\"");
    world.set_env("OTEL_EXPORTER_OTLP_HEADERS", Some(&format!("x-api-key={TRACES}")));
    world.set_env("ADWD_GITHUB_WEBHOOK_SECRET", Some(SECRET));
    let url = world.database_url();
    if let Some(rest) = url.strip_prefix("postgres:///") {
        // The server trusts everybody, so a password does no harm; the host is that of the query.
        let url = format!("postgres://postgres:{PASSWORD}@localhost/{rest}");
        world.set_env("ADWD_DATABASE_URL", Some(&url));
    }
    let filed = world.write("filed.secret", FILED);
    fs::set_permissions(&filed, fs::Permissions::from_mode(0o600)).unwrap();
    let repo = world.repo("shop");
    // Phases get all that a list can give them.
    let agent = Agent::good().on("implementor", "env >\"$HOME/env-of-an-agent\"\ngate build");
    let lines = world.agent_lines("talker", &agent);
    let hook = |name: &str, url: &str, extra: &str| {
        format!("[[hook]]\nname = \"{name}\"\nurl = {}\n{extra}\n", quoted(url))
    };
    let chat = receiver.url.replace("/in", &format!("/services/{CHAT}"));
    let tables = [
        hook("ops", &receiver.url, &format!("secret = \"{HOOK_SECRET}\"")),
        hook(
            "filed",
            &receiver.url,
            &format!("secret_file = {}", quoted(&filed.display().to_string())),
        ),
        hook("chat", &chat, "format = \"slack\""),
        hook("gone", &format!("http://127.0.0.1:9/services/{CHAT}"), "format = \"slack\""),
    ]
    .concat();
    world.serve(
        &repo,
        &format!(
            "{lines}env_allow = [\"ADWD_*\", \"OTEL_*\"]\ncheck_command = \"sh check\"\n{tables}"
        ),
    );
    vec![world.config_file(), filed]
}

/// Uses a credential well, wrongly, and where none belongs; what was answered.
async fn misuse(daemon: &Daemon<'_>, credential: &str) -> String {
    let url = daemon.url();
    let mut told = String::new();
    let calls = [
        ("list_adw_workflows", json!({})),
        ("get_adw_state", json!({ "adw_id": credential })),
        ("list_adw_workflows", json!({ "cursor": credential, "status_filter": credential })),
        (
            "trigger_adw_workflow",
            json!({ "issue_number": credential, "idempotency_key": credential }),
        ),
        ("trigger_adw_workflow", json!({ "issue_number": 1, "project": credential })),
        ("trigger_adw_workflow", json!({ "issue_number": 77, "idempotency_key": credential })),
        ("workflow_next_step", json!({ "token": credential, "output": { "summary": credential } })),
        (credential, json!({ credential: credential })),
    ];
    for (tool, arguments) in calls {
        let params = json!({ "name": tool, "arguments": arguments });
        ask(&url, Some(credential), "tools/call", params).await;
    }
    for (method, params) in [
        ("resources/read", json!({ "uri": format!("adw://runs/{credential}") })),
        ("prompts/get", json!({ "name": "diagnose_run", "arguments": { "adw_id": credential } })),
        (credential, json!({})),
    ] {
        ask(&url, Some(credential), method, params).await;
    }
    // Bad ones are not echoed, in whatever way they are bad.
    for bad in [format!("{credential}0"), format!("x{credential}"), credential.to_uppercase()] {
        let list = json!({ "name": "list_adw_workflows", "arguments": {} });
        told += &ask(&url, Some(&bad), "tools/call", list).await.to_string();
    }
    let basic = format!("Basic {credential}");
    for (path, headers) in [
        ("/metrics", vec![("authorization", basic.as_str())]),
        ("/metrics", vec![("x-api-key", credential), ("cookie", credential)]),
    ] {
        told += &send("GET", &url.replace("/mcp", path), &headers).await.body;
    }
    send("GET", &format!("{}?key={credential}", url.replace("/mcp", "/metrics")), &[]).await;
    told
}

/// Step tokens, used well and wrongly; both of them.
async fn steps(owner: &Client) -> Vec<String> {
    let step = ok(owner, "workflow_start", json!({ "workflow_name": "bug-fix" })).await;
    let first = step["new_token"].as_str().unwrap().to_owned();
    let artifact = json!({ "type": "markdown", "title": "Notes", "content": "# It works" });
    let output = json!({ "summary": "Looked at it", "artifacts": [artifact] });
    let submit = json!({ "token": first, "output": output });
    let next = ok(owner, "workflow_next_step", submit.clone()).await;
    let second = next["new_token"].as_str().unwrap().to_owned();
    for token in [&first, &second] {
        let wrong = format!("{token}x");
        for arguments in [json!({ "token": wrong }), json!({ "token": token, "output": 7 })] {
            crate::mcp_support::call(owner, "workflow_next_step", arguments).await;
        }
        let lost = json!({ "adw_id": token });
        crate::mcp_support::call(owner, "get_adw_state", lost).await;
    }
    vec![first, second]
}

async fn no_secret_is_found_where_it_does_not_belong(world: World) {
    let (issuer, receiver) = (Issuer::start().await, Receiver::new().await);
    let own_files = prepare(&world, &issuer, &receiver).await;
    let mut daemon = world.daemon().await;
    let mut needles = Needles::default();
    for (what, secret) in [
        ("the webhook's secret", SECRET),
        ("a hook's secret", HOOK_SECRET),
        ("a hook's secret of a file", FILED),
        ("a chat's address", CHAT),
        ("a header of traces", TRACES),
        ("the database's password", PASSWORD),
    ] {
        needles.add(what, secret);
    }
    let owner = daemon.client().await;
    let run = ok(&owner, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    let id = run["adw_id"].as_str().unwrap();

    let mut told = String::new();
    let key = made_key(&world, &["--tier", "team"]).await;
    needles.add_key("a key", &key);
    let token = issuer.good(json!({}));
    let expired = issuer.good(json!({ "exp": 1_000_000_000 }));
    for (what, token) in [("a token of OAuth", &token), ("an expired one", &expired)] {
        needles.add(what, token.rsplit('.').next().unwrap());
    }
    for credential in [&key, &token, &expired] {
        told += &misuse(&daemon, credential).await;
    }
    for token in steps(&owner).await {
        needles.add("a step's token", token.rsplit('.').next().unwrap());
    }
    let body = comment(1, "/adw run", 1);
    let signature = signed(SECRET, body.to_string().as_bytes());
    needles.add("a signature", signature.strip_prefix("sha256=").unwrap());
    deliver(&endpoint(&daemon), "d-1", "issue_comment", &body).await;
    let headers =
        [("x-hub-signature-256", signature.as_str()), ("content-type", "application/json")];
    told += &post(&endpoint(&daemon), &headers, b"another body".to_vec()).await.body.to_string();

    world.at_gate("build").await;
    assert_processes(&world, &needles);
    world.open_gate("build");
    world::wait_status(&owner, id, "completed").await;
    receiver.wait(3).await;
    told += &looked_at(&world, &daemon).await;
    needles.assert_none("an answer", &told);
    drop(owner);
    daemon.terminate().await;
    let table = dump(&world).await;
    let held: Vec<&str> =
        table.lines().filter(|row| !needles.in_bytes(row.as_bytes()).is_empty()).collect();
    assert_eq!(held, Vec::<&str>::new(), "in the database");
    let own_files: Vec<&Path> = own_files.iter().map(std::path::PathBuf::as_path).collect();
    assert_eq!(needles.in_files(&world.root, &own_files), Vec::<String>::new());
    let where_they_belong = needles.in_files(&world.root, &[]);
    assert_eq!(where_they_belong.len(), 3, "hooks and their file: {where_they_belong:?}");
    assert_log_is_talkative(&world);
}

/// What the daemon and the shell tell of everything.
async fn looked_at(world: &World, daemon: &Daemon<'_>) -> String {
    let mut told = String::new();
    for words in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["config", "check"],
        &["doctor", "--json", "--offline"],
        &["health", "--json"],
        &["key", "list", "--json"],
        &["audit", "--json", "-n", "100"],
        &["hook", "list", "--json"],
        &["hook", "dead", "--json"],
        &["schedule", "list", "--json"],
        &["project", "list", "--json"],
        &["list", "--json"],
        &["usage", "--json"],
    ] {
        let ran = world.cli(words).await;
        assert!(!ran.stdout.is_empty() || ran.code == 0, "{words:?}: {ran:?}");
        told += &format!("{words:?}\n{}\n{}\n", ran.stdout, ran.stderr);
    }
    let admin = made_key(world, &["--tier", "admin"]).await;
    let bearer = format!("Bearer {admin}");
    for path in ["/metrics", "/mcp/health", "/healthz", "/readyz"] {
        let url = daemon.url().replace("/mcp", path);
        told += &send("GET", &url, &[("authorization", &bearer)]).await.body;
    }
    told
}

/// Command lines of all processes, and the environment of all but the daemon's own.
fn assert_processes(world: &World, needles: &Needles) {
    let all = procs::of(&world.root);
    assert!(all.iter().any(procs::Proc::is_monitor), "a phase is at it: {all:?}");
    for process in all {
        needles.assert_none("a command line", &process.argv.join(" "));
        let environ = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        let held = needles.in_bytes(&environ);
        // Where they came from.
        let expected = process.is_daemon();
        assert_eq!(!held.is_empty(), expected, "{held:?} in the environment of {process:?}");
    }
}

/// The search above looked into something.
fn assert_log_is_talkative(world: &World) {
    let log = fs::read_to_string(world.state_dir().join("logs/adwd.log")).unwrap();
    for part in ["TRACE", "DEBUG", "a key was made", "***"] {
        assert!(log.contains(part), "no {part} in the log");
    }
    assert!(world.home().join("env-of-an-agent").exists());
}

/// A real panic of the real program, whose message is full of secrets: one call fails, and neither
/// the answer nor standard error nor the log tells them.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_tells_no_secret_and_costs_one_call() {
    let world = World::new().await;
    world.set_env("ADWD_TEST_PANIC", Some("get_adw_logs"));
    world.set_env("RUST_BACKTRACE", Some("1"));
    world.set_env("ADWD_GITHUB_WEBHOOK_SECRET", Some(SECRET));
    let daemon = world.daemon().await;
    let key = made_key(&world, &["--tier", "team"]).await;
    let mut needles = Needles::default();
    needles.add("the webhook's secret", SECRET);
    needles.add_key("a key", &key);
    let arguments = json!({ "adw_id": format!("{key} and {SECRET}") });
    let params = json!({ "name": "get_adw_logs", "arguments": arguments });
    let over_http = ask(&daemon.url(), Some(&key), "tools/call", params).await;
    let owner = daemon.client().await;
    let over_socket = crate::mcp_support::call(&owner, "get_adw_logs", arguments).await;
    let over_socket = over_socket.structured_content.unwrap();
    for error in [&over_http["result"]["structuredContent"]["error"], &over_socket["error"]] {
        assert_eq!(error["code"], "internal", "{error}");
        needles.assert_none("the answer", &error.to_string());
    }
    ok(&owner, "list_adw_workflows", json!({})).await;
    let failed = world.cli(&["audit", "--tool", "get_adw_logs", "--json"]).await.json();
    let codes: Vec<&Value> =
        failed["invocations"].as_array().unwrap().iter().map(|call| &call["error_code"]).collect();
    assert_eq!(codes, [&json!("internal"), &json!("internal")], "{failed}");
    eventually("the log has the panic", SOON, async || {
        let log = fs::read_to_string(world.state_dir().join("logs/adwd.log")).unwrap();
        let lines = log.lines().filter(|line| line.contains("panicked at src/mcp/fault.rs"));
        if lines.count() == 2 { Ok(()) } else { Err(log) }
    })
    .await;
    let said = fs::read_to_string(world.path("daemon-1.err")).unwrap();
    assert!(said.contains("panicked at src/mcp/fault.rs") && said.contains("***"), "{said}");
    assert!(said.contains("panic_where_asked"), "the places follow: {said}");
    assert_eq!(needles.in_files(&world.root, &[]), Vec::<String>::new());
    // A crash that no program can tell of leaves no image of its memory either.
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
