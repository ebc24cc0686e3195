//! The process tree of the scripts of the world (`uv → python → claude`, all in one group): what signals
//! do to it, and that nothing of it is left, whoever was hit.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::crash_support::{attempts, cancel, exit_record, kill9, process, send};
use crate::foreign_support::*;
use crate::world::{World, wait_ended, wait_removed, wait_status};

/// Whether the phase saved its metrics, which it does when it unwinds.
fn unwound(theirs: &Foreign, id: &str) -> bool {
    let state: Value =
        serde_json::from_slice(&std::fs::read(theirs.state_file(id)).unwrap()).unwrap();
    let phases = state["metrics"]["phases"].as_array().cloned().unwrap_or_default();
    phases.iter().any(|entry| entry["phase_name"] == "adw_build")
}

fn recorded(theirs: &Foreign, id: &str) -> adwd::runs::records::ExitRecord {
    let name = theirs.root.file_name().unwrap().to_string_lossy().into_owned();
    let mut found = vec![];
    for project in ["theirs", name.as_str()] {
        let dir = theirs.root.join(format!("logs/{project}/local/{id}/build/1"));
        found.extend(exit_record(&dir));
    }
    found.pop().expect("the end is recorded")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_from_outside_to_the_leader_leaves_no_agent_behind() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    theirs.issue(1, "fake:silent=600");
    let id = start(&client, 1).await;
    let agent = theirs.working("implement", &id).await;
    let uv = process(&world, &["uv", "adw_build.py"]);
    send(uv.pid, Signal::SIGTERM);
    let run = wait_ended(&client, &id).await;
    assert_failed(&run, "build", "cancelled", &["terminated from outside the daemon"]);
    assert_eq!(attempts(&run, "build")[0]["exit_code"], 143, "{run:#}");
    assert!(recorded(&theirs, &id).swept > 0, "the agent outlived them");
    assert!(!world.processes().iter().any(|p| p.pid == agent));
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_lets_python_unwind_and_ends_an_agent_that_heeds_nothing() {
    let world = World::new().await;
    world.set("stop.int_grace_s", "10");
    world.set("limits.max_running", "3");
    world.set("limits.max_running_per_project", "3");
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    theirs.issue(1, "fake:silent=600");
    theirs.issue(2, "fake:stubborn fake:silent=600");
    theirs.issue(3, "fake:stubborn fake:leave=601 fake:slow=600");
    let mut ids = vec![];
    for issue in 1..=3 {
        ids.push(start(&client, issue).await);
    }
    for id in &ids {
        theirs.working("implement", id).await;
    }
    for id in &ids {
        cancel(&client, id).await;
    }
    for id in &ids {
        let run = wait_status(&client, id, "cancelled").await;
        assert_eq!(run["failure"]["class"], "cancelled", "{run:#}");
        assert_eq!(attempts(&run, "build").len(), 1, "{run:#}");
        assert_eq!(run["worktree"], "present", "what was done is kept");
        assert!(recorded(&theirs, id).stopped.is_some());
    }
    assert!(unwound(&theirs, &ids[0]), "SIGINT came first, and there was time");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_alone_is_a_failure_of_the_agent() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    theirs.issue(1, "fake:silent=600");
    let id = start(&client, 1).await;
    kill9(theirs.working("implement", &id).await);
    let run = wait_ended(&client, &id).await;
    assert_failed(&run, "build", "agent", &["build exited 1"]);
    assert!(unwound(&theirs, &id), "the script noticed and ended by itself");
    world.quiet().await;
}

/// It holds the pipe of the agent's stderr, for which the script waits: whoever waits for the script sees
/// no sign of life, and what is left of a phase that ended is ended.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_leaves_in_a_session_of_its_own_is_ended_with_the_phase() {
    let world = World::new().await;
    world.set("limits.max_running", "2");
    world.set("limits.max_running_per_project", "2");
    world.set("phases.build.silence_s", "25");
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    theirs.issue(1, "fake:leave=3");
    theirs.issue(2, "fake:leave=602");
    let (short, long) = (start(&client, 1).await, start(&client, 2).await);
    let run = wait_ended(&client, &short).await;
    assert_eq!(run["status"], "completed", "it ended by itself, and the phase after it: {run:#}");
    wait_removed(&client, &short).await;
    let run = wait_ended(&client, &long).await;
    assert_eq!(run["status"], "timed_out", "{run:#}");
    let said = run["failure"]["message"].as_str().unwrap();
    assert!(said.contains("gave no sign of life for 25 s"), "{said}");
    assert_eq!(run["failure"]["class"], json!("timeout"));
    world.quiet().await;
}
