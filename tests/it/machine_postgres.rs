//! A PostgreSQL server that goes away under load and comes back: stopped for a while, all its
//! sessions ended, restarted in the middle of commits. No run is lost, none is done twice, and what
//! was answered happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crash_support::{CALLS_ONCE, assert_one_at_a_time, calls, counts, nothing_is_left};
use crate::mcp_support::{Client, call, ok};
use crate::support::postgres::{self, AloneServer};
use crate::world::{Agent, Repo, World, quoted, state, wait_ended, wait_removed};

/// Issues that a test triggers.
const ISSUES: u32 = 6;
/// How long the server stays away.
const AWAY_S: u64 = 20;

/// A world on a server of its own; `None`, said loudly, where there is no PostgreSQL.
async fn world() -> Option<(World, Repo, Arc<AloneServer>)> {
    let server = tokio::task::spawn_blocking(postgres::alone).await.unwrap()?;
    let world = World::new().await;
    world.set("database_url", &quoted(&server.url()));
    world.set("limits.max_running", "3");
    let agent = world.agent_lines("slow", &Agent::good().on("implementor", "sleep 1"));
    let repo = world.repo("shop");
    (1..=ISSUES).for_each(|n| repo.issue(n));
    world.serve(&repo, &agent);
    Some((world, repo, Arc::new(server)))
}

/// What was told to those who triggered: the ids by issue.
#[derive(Default)]
struct Told {
    ids: BTreeMap<u32, String>,
    refused: Vec<Value>,
}

/// Triggers every issue again and again under one key each until each was answered, and looks at
/// the list in between; until `over` is set and all have an id.
async fn load(client: &Client, over: &AtomicBool) -> Told {
    let mut told = Told::default();
    loop {
        for n in 1..=ISSUES {
            let given = json!({ "issue_number": n, "idempotency_key": format!("key {n}") });
            let answer = call(client, "trigger_adw_workflow", given).await;
            let content = answer.structured_content.unwrap();
            if answer.is_error == Some(true) {
                assert_eq!(content["error"]["code"], "database", "{content:#}");
                told.refused.push(content["error"].clone());
                continue;
            }
            let id = content["adw_id"].as_str().unwrap().to_owned();
            let before = told.ids.insert(n, id.clone());
            assert!(before.is_none_or(|before| before == id), "one key, one run: {content:#}");
            let _ = call(client, "list_adw_workflows", json!({})).await;
        }
        if over.load(Ordering::SeqCst) && told.ids.len() == ISSUES as usize {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every run ends well, once.
async fn all_end_well(world: &World, repo: &Repo, client: &Client, told: &Told) {
    for (n, id) in &told.ids {
        let run = wait_ended(client, id).await;
        assert_eq!(run["status"], "completed", "{run:#}");
        let run = wait_removed(client, id).await;
        assert_eq!(counts(&run), [1, 1, 1], "issue {n}: {run:#}");
        assert_eq!(calls(repo, id), CALLS_ONCE);
        assert_one_at_a_time(repo, id);
    }
    let list = ok(client, "list_adw_workflows", json!({})).await;
    assert_eq!(list["workflows"].as_array().unwrap().len(), told.ids.len(), "{list:#}");
    assert_eq!(repo.pulls().len(), told.ids.len());
    nothing_is_left(world, repo).await;
}

async fn blocking(server: &Arc<AloneServer>, work: impl FnOnce(&AloneServer) + Send + 'static) {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || work(&server)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_twenty_seconds_under_load_costs_no_run() {
    let Some((world, repo, server)) = world().await else { return };
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let over = AtomicBool::new(false);
    let away = async {
        let other = daemon.client().await;
        // Some are at work, some wait, some are not triggered yet.
        crate::world::eventually("runs are at work", 60, async || {
            let list = ok(&other, "list_adw_workflows", json!({})).await;
            let runs = list["workflows"].as_array().unwrap().iter();
            let busy = runs.filter(|run| run["status"] == "running").count();
            if busy > 1 { Ok(()) } else { Err(format!("{list:#}")) }
        })
        .await;
        blocking(&server, AloneServer::stop).await;
        let gone = Instant::now();
        // A trigger while it is away is refused within a bound, and says why.
        let given = json!({ "issue_number": 1, "idempotency_key": "while it is away" });
        let answer = call(&other, "trigger_adw_workflow", given).await;
        let error = answer.structured_content.unwrap()["error"].clone();
        assert_eq!(error["code"], "database", "{error:#}");
        assert!(gone.elapsed() < Duration::from_secs(60), "{:?}", gone.elapsed());
        let said = error["message"].as_str().unwrap();
        assert!(said.contains("connection") || said.contains("server"), "{said}");
        tokio::time::sleep(Duration::from_secs(AWAY_S).saturating_sub(gone.elapsed())).await;
        blocking(&server, AloneServer::start).await;
        over.store(true, Ordering::SeqCst);
    };
    let (told, ()) = tokio::join!(load(&client, &over), away);
    assert!(!told.refused.is_empty(), "the load went on while the server was away");
    all_end_well(&world, &repo, &client, &told).await;
    assert_eq!(state(&client, &told.ids[&1]).await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_ended_and_restarts_in_the_middle_of_commits_cost_no_run() {
    let Some((world, repo, server)) = world().await else { return };
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let over = AtomicBool::new(false);
    let trouble = async {
        for round in 0..6 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            if round % 3 == 2 {
                blocking(&server, |server| {
                    server.stop();
                    server.start();
                })
                .await;
            } else {
                blocking(&server, AloneServer::end_sessions).await;
            }
        }
        over.store(true, Ordering::SeqCst);
    };
    let (told, ()) = tokio::join!(load(&client, &over), trouble);
    all_end_well(&world, &repo, &client, &told).await;
}
