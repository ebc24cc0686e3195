//! The daemon is stopped (SIGSTOP) for longer than every limit that it watches, while phases end,
//! hang, fall silent and talk, and while clients wait and ask. When it goes on, each run has its true
//! outcome and each client its answer.
//!
//! `ADWD_TEST_FREEZE_S` is for how long; the nightly form is 70, longer also than the server's own
//! limits on PostgreSQL.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::crash_support::{
    attempt_dir, attempts, counts, nothing_is_left, recorded, send, trigger,
};
use crate::mcp_support::{Client, Era, ok};
use crate::world::{Agent, Repo, SOON, World, eventually, wait_ended, wait_removed, wait_status};

fn freeze_s() -> u64 {
    std::env::var("ADWD_TEST_FREEZE_S").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// A repository whose planner does this at issue 1, with a limit of its plan phase.
fn project(world: &World, name: &str, planner: &str, limit: &str) -> Repo {
    let repo = world.repo(name);
    let orders = format!("if [ \"$ADW_ISSUE_NUMBER\" = 1 ]; then\n{planner}\nfi");
    let agent = world.agent_lines(name, &Agent::good().on("planner", &orders));
    let limits = format!("limits = {{ plan = {{ {limit} }} }}\n");
    world.serve(&repo, &format!("{agent}{}", if limit.is_empty() { "" } else { &limits }));
    repo
}

async fn start(client: &Client, project: &str) -> String {
    trigger(client, json!({ "project": project, "issue_number": 1 })).await
}

/// A call that is sent now and answered when the daemon goes on.
fn sent(client: Client, tool: &'static str, given: Value) -> tokio::task::JoinHandle<Value> {
    tokio::spawn(async move { ok(&client, tool, given).await })
}

crate::in_worlds_on_both_engines!(stopped_for_longer_than_every_limit_it_tells_the_truth);

async fn stopped_for_longer_than_every_limit_it_tells_the_truth(world: World) {
    let (frozen, short) = (freeze_s(), freeze_s() / 3);
    world.set("limits.max_running", "8");
    world.set("retry.max_attempts", "1");
    let talk = "while [ ! -e \"$HOME/open-talk\" ]; do
        date +%s%N >>\"$HOME/../talks/automation/agents/$ADW_ID/talk\"; sleep 0.2
    done";
    let hang = "trap '' INT TERM; sleep 1000";
    let ends = project(&world, "ends", "gate ends", "");
    let hangs = project(&world, "hangs", hang, &format!("wall_s = {short}"));
    let silent = project(&world, "silent", "sleep 1000", &format!("silence_s = {short}"));
    let talks = project(&world, "talks", talk, &format!("silence_s = {}", frozen - 2));
    let cancelled = project(&world, "cancelled", "gate cancelled", "");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let mut ids = vec![];
    for repo in [&ends, &hangs, &silent, &talks, &cancelled] {
        ids.push(start(&client, &repo.name).await);
    }
    let [end_id, hang_id, silent_id, talk_id, cancel_id] = ids.as_slice() else { unreachable!() };
    world.at_gate("ends").await;
    world.at_gate("cancelled").await;
    let spoken = talks.root.join(format!("automation/agents/{talk_id}/talk"));
    let talking = async || spoken.exists().then_some(()).ok_or_else(String::new);
    eventually("it talks", SOON, talking).await;
    // One waits already, with a limit that passes meanwhile; the others ask a daemon that is away.
    let wait = json!({ "adw_id": end_id, "timeout_s": 1 });
    let waiting = sent(daemon.client().await, "wait_adw_workflow", wait);
    let (on_http, cancelling) = (daemon.http_client(Era::Modern).await, daemon.client().await);
    let (triggering, legacy) = (daemon.client().await, daemon.http_client(Era::Legacy).await);
    send(daemon.pid(), Signal::SIGSTOP);
    let reading = sent(on_http, "get_adw_state", json!({ "adw_id": end_id }));
    let listing = sent(legacy, "list_adw_workflows", json!({}));
    let cancelling = sent(cancelling, "cancel_adw_workflow", json!({ "adw_id": cancel_id }));
    let late = json!({ "project": "ends", "issue_number": 2, "idempotency_key": "late" });
    let triggering = sent(triggering, "trigger_adw_workflow", late);
    world.open_gate("ends");
    tokio::time::sleep(Duration::from_secs(frozen)).await;
    assert_eq!(recorded(&attempt_dir(&ends, end_id, "plan", 1)).await.code, Some(0));
    let told = recorded(&attempt_dir(&hangs, hang_id, "plan", 1)).await;
    assert_eq!(told.stopped, Some(adwd::runs::records::StopReason::WallLimit), "{told:?}");
    send(daemon.pid(), Signal::SIGCONT);

    for answer in [waiting, reading] {
        assert_eq!(answer.await.unwrap()["adw_id"], end_id.as_str());
    }
    let (listed, status) = (listing.await.unwrap(), cancelling.await.unwrap());
    assert!(matches!(listed["total"].as_i64(), Some(5 | 6)), "the late one may be there: {listed}");
    assert!(["stopping", "cancelled"].contains(&status["status"].as_str().unwrap()), "{status}");
    let late = triggering.await.unwrap();
    let late_id = &late["adw_id"].as_str().unwrap().to_owned();
    for id in [hang_id, silent_id] {
        timed_out(&client, id, &format!("{short} s")).await;
    }
    let run = wait_status(&client, cancel_id, "cancelled").await;
    assert_eq!(attempts(&run, "plan")[0]["status"], "cancelled", "{run:#}");
    world.open_gate("talk");
    for (id, repo) in [(end_id, &ends), (late_id, &ends), (talk_id, &talks)] {
        wait_status(&client, id, "completed").await;
        assert_eq!(counts(&wait_removed(&client, id).await), [1, 1, 1]);
        crate::crash_support::assert_one_at_a_time(repo, id);
    }
    assert_eq!((ends.pulls().len(), talks.pulls().len()), (2, 1));
    for (id, repo) in [(hang_id, &hangs), (silent_id, &silent), (cancel_id, &cancelled)] {
        its_work_is_kept(&client, id, repo).await;
    }
    for repo in [&ends, &talks] {
        nothing_is_left(&world, repo).await;
    }
}

async fn its_work_is_kept(client: &Client, id: &str, repo: &Repo) {
    let run = wait_ended(client, id).await;
    assert_eq!(repo.worktrees(), [run["worktree_path"].as_str().unwrap()]);
}

/// The run was stopped for a limit, and says which.
async fn timed_out(client: &Client, id: &str, words: &str) {
    let run = wait_status(client, id, "timed_out").await;
    assert_eq!(run["failure"]["class"], "timeout", "{run:#}");
    assert!(run["failure"]["message"].as_str().unwrap().contains(words), "{run:#}");
}
