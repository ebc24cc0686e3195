//! Readiness and health of a real daemon, in good days and bad ones.

use std::fs;

use serde_json::json;

use crate::mcp_support::ok;
use crate::observe_support::get;
use crate::support::postgres;
use crate::world::{Agent, World, eventually, quoted, wait_status};

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_whose_database_stops_is_not_ready_until_it_comes_back() {
    let server = tokio::task::spawn_blocking(postgres::alone).await.unwrap();
    let Some(server) = server else { return };
    let world = World::new().await;
    world.set("database_url", &quoted(&server.url()));
    let daemon = world.daemon().await;
    let base = daemon.url().replace("/mcp", "");
    let ready = async |status: u16, part: &str| {
        eventually(&format!("/readyz answers {status}"), 60, async || {
            let answer = get(&format!("{base}/readyz")).await;
            let fits = answer.status == status && answer.body.contains(part);
            if fits { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
        .await
    };
    ready(200, "ready").await;
    server.stop();
    let answer = ready(503, "database").await;
    assert_eq!(answer.check("database")["name"], "database");
    let metrics = get(&format!("{base}/metrics")).await;
    assert!(metrics.body.contains("\nadwd_database_up 0\n"), "{metrics:?}");
    assert!(!metrics.body.contains("adwd_queue_length"), "what is not known is not told");
    let health = get(&format!("{base}/mcp/health")).await;
    assert_eq!(health.status, 503, "{health:?}");
    assert_eq!(health.check("database")["status"], "failed", "{health:?}");
    assert_eq!(get(&format!("{base}/healthz")).await.status, 200, "it lives all the same");
    server.start();
    ready(200, "ready").await;
    let metrics = get(&format!("{base}/metrics")).await;
    assert!(metrics.body.contains("\nadwd_database_up 1\n"), "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_cannot_be_written_is_not_ready() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let base = daemon.url().replace("/mcp", "");
    assert_eq!(get(&format!("{base}/readyz")).await.status, 200);
    // Something is in the way of the file that is written: that holds for root too.
    let probe = world.state_dir().join(format!(".health-{}", daemon.pid()));
    fs::create_dir_all(probe.join("x")).unwrap();
    let becomes = async |status: u16| {
        eventually(&format!("/readyz answers {status}"), 30, async || {
            let answer = get(&format!("{base}/readyz")).await;
            if answer.status == status { Ok(answer) } else { Err(format!("{answer:?}")) }
        })
        .await
    };
    let answer = becomes(503).await;
    let message = answer.check("state_dir")["message"].to_string();
    assert!(message.contains("cannot be written"), "{message}");
    let place = world.root.display().to_string();
    assert!(!answer.body.contains(&place), "nothing of the machine is told without a key");
    fs::remove_dir_all(probe).unwrap();
    becomes(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_daemon_says_what_it_has_and_looks_once_for_all_who_ask() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    // A git that counts how often it is asked for its version.
    let counted = "#!/bin/sh\n[ \"$1\" = --version ] && echo x >>\"$HOME/asked\"\nPATH=${PATH#*:} exec git \"$@\"\n";
    world.program("bin/git", counted);
    let path = format!("{}:{}", world.path("bin").display(), world.env()["PATH"]);
    world.set_env("PATH", Some(&path));
    let daemon = world.daemon().await;
    let base = daemon.url().replace("/mcp", "");
    let asked =
        || fs::read_to_string(world.home().join("asked")).unwrap_or_default().lines().count();
    let before = asked();
    let url = format!("{base}/mcp/health");
    let answers = futures::future::join_all((0..16).map(|_| get(&url))).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &answers[0].body));
    }
    assert_eq!(asked() - before, 1, "sixteen who ask start one look");
    let answer = get(&url).await;
    assert_eq!(asked() - before, 1, "and so does the next one");
    assert_eq!(answer.json()["status"], "ok", "{:#}", answer.json());
    for name in [
        "uv",
        "python",
        "git",
        "database",
        "state_dir",
        "disk",
        "inotify",
        "queue",
        "supervisor",
        "projects",
    ] {
        assert_eq!(answer.check(name)["status"], "ok", "{name}");
    }
    for name in ["uv", "python", "git"] {
        assert!(answer.check(name)["version"].as_str().unwrap().contains('.'), "{name}");
    }
    // An agent that nobody uses is not looked for.
    assert!(!answer.body.contains("agent:"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_and_a_client_read_the_same_report_without_http() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "agent = \"codex\"");
    world.set("http.enabled", "false");
    world.set_env("CODEX_PATH", Some("/nonexistent/codex"));
    world.set("env_allow", "[\"CODEX_*\"]");
    world.cli(&["health"]).await.with_code(3);
    let _daemon = world.daemon().await;
    let ran = world.cli(&["health", "--json"]).await.with_code(1);
    let report = ran.json();
    assert_eq!(report["status"], "failed", "no project can work: {report:#}");
    let all = report["checks"].as_array().unwrap();
    let agent = all.iter().find(|check| check["name"] == "agent:codex").unwrap();
    assert!(agent["message"].as_str().unwrap().contains("needed by shop"), "{agent:#}");
    assert!(agent["hint"].is_string(), "{agent:#}");
    // A second project that needs no such agent can work.
    world.serve(&world.repo("other"), "");
    let mut daemon = _daemon;
    daemon.restart().await;
    let ran = world.cli(&["health"]).await.with_code(0);
    assert!(ran.stdout.contains("degraded\tagent:codex\t"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_uv_is_told_with_the_reason_and_what_to_do() {
    let world = World::new().await;
    world.set("uv.path", "\"/nonexistent/uv\"");
    let daemon = world.daemon().await;
    let base = daemon.url().replace("/mcp", "");
    let answer = get(&format!("{base}/mcp/health")).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["status"], "failed");
    let uv = answer.check("uv");
    assert_eq!(uv["message"], "not found (uv.path = /nonexistent/uv)");
    assert!(uv["hint"].as_str().unwrap().contains("adwd doctor --fix"), "{uv:#}");
    assert_eq!(
        get(&format!("{base}/readyz")).await.status,
        200,
        "it takes work; runs will say why"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_degraded() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let agent = Agent::good().on("planner", "gate first");
    world.serve(&repo, &world.agent_lines("a", &agent));
    world.set("limits.max_running", "1");
    world.set("limits.queue_max", "1");
    let daemon = world.daemon().await;
    let base = daemon.url().replace("/mcp", "");
    let client = daemon.client().await;
    let first = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "1" })).await;
    world.at_gate("first").await;
    ok(&client, "trigger_adw_workflow", json!({ "issue_number": "2" })).await;
    let answer = get(&format!("{base}/mcp/health")).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("degraded")));
    let queue = answer.check("queue");
    assert!(
        queue["message"].as_str().unwrap().starts_with("1 of at most 1 runs wait"),
        "{queue:#}"
    );
    world.open_gate("first");
    wait_status(&client, first["adw_id"].as_str().unwrap(), "completed").await;
}
