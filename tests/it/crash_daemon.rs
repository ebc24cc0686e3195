//! `kill -9`, stop and freeze of the daemon at every point of a run: a restart finds what lives,
//! and the run ends as an undisturbed one would.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::crash_support::{
    ROLES, attempt_dir, cancel, ends_well, kill9, monitor, nothing_is_left, recorded, send, shape,
    shop, trigger_issue,
};
use crate::mcp_support::refused;
use crate::world::{Agent, SOON, World, eventually, state, wait_status};

crate::in_worlds_on_both_engines!(
    killed_in_each_phase_it_ends_as_undisturbed,
    killed_behind_the_answer_the_queue_is_kept
);

async fn killed_in_each_phase_it_ends_as_undisturbed(world: World) {
    let gates = Agent::good()
        .on("planner", "gate plan")
        .on("implementor", "gate build")
        .on("reviewer", "gate review");
    let repo = shop(&world, &gates);
    let mut daemon = world.daemon().await;
    let id = trigger_issue(&daemon.client().await, 1).await;
    for (phase, _) in ROLES {
        world.at_gate(phase).await;
        let before = monitor(&world).await;
        daemon.kill9().await;
        daemon.start().await;
        let client = daemon.client().await;
        let run = state(&client, &id).await;
        assert_eq!((&run["status"], &run["current_phase"]), (&json!("running"), &json!(phase)));
        assert_eq!(monitor(&world).await.pid, before.pid, "the same one is found again");
        world.open_gate(phase);
    }
    let client = daemon.client().await;
    let disturbed = ends_well(&world, &repo, &client, &id).await;
    let calm = trigger_issue(&client, 2).await;
    let calm = ends_well(&world, &repo, &client, &calm).await;
    assert_eq!(shape(&repo, &disturbed), shape(&repo, &calm));
}

/// One run works, one waits.
async fn killed_behind_the_answer_the_queue_is_kept(world: World) {
    world.set("limits.max_running", "1");
    let repo = shop(&world, &Agent::good().on("planner", "gate plan"));
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let first = trigger_issue(&client, 1).await;
    let second = trigger_issue(&client, 2).await;
    daemon.kill9().await;
    daemon.start().await;
    let client = daemon.client().await;
    let run = state(&client, &second).await;
    assert_eq!((&run["status"], &run["queue_position"]), (&json!("queued"), &json!(1)), "{run:#}");
    world.open_gate("plan");
    for id in [&first, &second] {
        wait_status(&client, id, "completed").await;
    }
    ends_well(&world, &repo, &client, &first).await;
    ends_well(&world, &repo, &client, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_ends_while_no_daemon_runs_is_judged_by_the_next() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let mut daemon = world.daemon().await;
    let id = trigger_issue(&daemon.client().await, 1).await;
    world.at_gate("build").await;
    daemon.kill9().await;
    world.open_gate("build");
    let exit = recorded(&attempt_dir(&repo, &id, "build", 1)).await;
    assert_eq!(exit.code, Some(0), "{exit:?}");
    world.quiet().await;
    daemon.start().await;
    ends_well(&world, &repo, &daemon.client().await, &id).await;
}

/// A git in front of the real one, that stays at a gate before the first `fetch` or `worktree add`.
fn slow_git(world: &World, word: &str, gate: &str) {
    let path = world.env()["PATH"].clone();
    let real =
        path.split(':').map(|d| format!("{d}/git")).find(|p| std::path::Path::new(p).exists());
    let real = real.expect("git is there");
    let script = format!(
        r#"#!/bin/sh
case " $* " in
*" {word} "*)
    if [ ! -e "$HOME/at-{gate}" ]; then
        : >"$HOME/at-{gate}"
        while [ ! -e "$HOME/open-{gate}" ]; do sleep 0.05; done
    fi ;;
esac
exec {real} "$@"
"#
    );
    world.program("slow/git", &script);
    world.set_env("PATH", Some(&format!("{}:{path}", world.path("slow").display())));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_run_starts_it_is_started_again() {
    // The git of before lives on and holds the repository's lock: one that hangs does not keep the
    // next daemon from starting, and one that works meets its mending.
    for (word, hangs) in [("fetch", true), ("worktree add", false)] {
        let world = World::new().await;
        let repo = shop(&world, &Agent::good());
        slow_git(&world, word, "git");
        let mut daemon = world.daemon().await;
        let client = daemon.client().await;
        let id = trigger_issue(&client, 1).await;
        world.at_gate("git").await;
        assert_eq!(state(&client, &id).await["status"], "starting");
        daemon.kill9().await;
        if !hangs {
            world.open_gate("git");
        }
        daemon.start().await;
        world.open_gate("git");
        ends_well(&world, &repo, &daemon.client().await, &id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_while_a_run_starts_waits_for_nobody() {
    for word in ["fetch", "worktree add"] {
        let world = World::new().await;
        let repo = shop(&world, &Agent::good());
        slow_git(&world, word, "git");
        let daemon = world.daemon().await;
        let client = daemon.client().await;
        let id = trigger_issue(&client, 1).await;
        world.at_gate("git").await;
        cancel(&client, &id).await;
        // The gate stays closed.
        let run = wait_status(&client, &id, "cancelled").await;
        assert_eq!(run["failure"]["class"], "cancelled", "{run:#}");
        nothing_is_left(&world, &repo).await;
        assert!(repo.local_branches().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_stop_leaves_runs_alive() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("planner", "gate plan"));
    let mut daemon = world.daemon().await;
    let id = trigger_issue(&daemon.client().await, 1).await;
    world.at_gate("plan").await;
    let before = monitor(&world).await;
    daemon.terminate().await;
    assert_eq!(monitor(&world).await.pid, before.pid);
    daemon.start().await;
    world.open_gate("plan");
    ends_well(&world, &repo, &daemon.client().await, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_was_frozen_goes_on() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("planner", "gate plan"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("plan").await;
    send(daemon.pid(), Signal::SIGSTOP);
    world.open_gate("plan");
    let exit = recorded(&attempt_dir(&repo, &id, "plan", 1)).await;
    assert_eq!(exit.code, Some(0));
    world.quiet().await;
    send(daemon.pid(), Signal::SIGCONT);
    ends_well(&world, &repo, &client, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_daemon_for_a_state_folder() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good());
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let second = world.cli(&["serve"]).await;
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains(&daemon.pid().to_string()), "{second:?}");
    let id = trigger_issue(&client, 1).await;
    ends_well(&world, &repo, &client, &id).await;
    daemon.kill9().await;
    daemon.start().await;
    assert_eq!(state(&daemon.client().await, &id).await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_its_project_being_away() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("implementor", "gate build"));
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("build").await;
    daemon.kill9().await;
    world.serve_nothing();
    daemon.start().await;
    let client = daemon.client().await;
    assert_eq!(state(&client, &id).await["status"], "running");
    let error = refused(&client, "trigger_adw_workflow", json!({ "issue_number": 2 })).await;
    assert_eq!(error["code"], "no_project", "{error:#}");
    world.open_gate("build");
    recorded(&attempt_dir(&repo, &id, "build", 1)).await;
    assert_eq!(state(&client, &id).await["status"], "running", "nobody judges it now");
    daemon.terminate().await;
    world.serve(&repo, &world.agent_lines("ordered", &Agent::good()));
    daemon.start().await;
    ends_well(&world, &repo, &daemon.client().await, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_be_cancelled_while_its_project_is_away() {
    let world = World::new().await;
    shop(
        &world,
        &Agent::good().on("implementor", "trap '' TERM INT; setsid sleep 999 & gate build"),
    );
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    let (live, orphaned) = (trigger_issue(&client, 1).await, trigger_issue(&client, 2).await);
    for id in [&live, &orphaned] {
        eventually("it builds", SOON, async || {
            let run = state(&client, id).await;
            if run["current_phase"] == "build" { Ok(()) } else { Err(run.to_string()) }
        })
        .await;
    }
    world.at_gate("build").await;
    daemon.kill9().await;
    // One run has lost its monitor as well.
    let of_second = world
        .processes()
        .into_iter()
        .find(|p| p.is_monitor() && p.argv.iter().any(|word| word.contains(&orphaned)));
    kill9(of_second.expect("its monitor").pid);
    world.serve_nothing();
    daemon.start().await;
    let client = daemon.client().await;
    for id in [&live, &orphaned] {
        cancel(&client, id).await;
        wait_status(&client, id, "cancelled").await;
    }
    world.quiet().await;
}
