//! Runs that somebody starts by hand beside the daemon: shown as they are, and never touched.

use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::mcp_support::{ok, refused};
use crate::world::{Repo, World, eventually, state, wait_removed, wait_status};

const SDLC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/automation/adws/adw_sdlc.py");

/// `uv run …/adw_sdlc.py ISSUE ID` in the repository, as a person would.
fn by_hand(world: &World, repo: &Repo, issue: &str, id: &str) -> tokio::process::Child {
    let mut command = world.command(&repo.root, "uv");
    command.args(["run", "--no-project", SDLC, issue, id]);
    command.env("ADW_CHECK_COMMAND", "sh check").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("uv starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_is_listed_as_external_and_left_alone() {
    let world = World::new().await;
    let repo = world.repo("shop");
    world.serve(&repo, "");
    // Whatever is old enough to be removed would be removed at once.
    world.set("worktrees.keep_failed_days", "0");
    let mut daemon = world.daemon().await;
    let client = daemon.client().await;
    world.close_check();
    let mut manual = by_hand(&world, &repo, "1", "hand1");
    world.at_check().await;
    let run = shown(&client, "hand1", "running").await;
    assert_eq!((&run["origin"], &run["triggered_by"]), (&json!("external"), &json!("manual")));
    assert_eq!((&run["issue_number"], &run["project"]), (&json!("1"), &json!("shop")), "{run:#}");
    for tool in ["cancel_adw_workflow", "resume_adw_workflow"] {
        let error = refused(&client, tool, json!({ "adw_id": "hand1" })).await;
        assert_eq!(error["code"], "wrong_state", "{error:#}");
    }
    let given = json!({ "issue_number": "1", "adw_id": "hand1" });
    let error = refused(&client, "trigger_adw_workflow", given).await;
    assert_eq!(error["code"], "conflict", "{error:#}");

    // A daemon that comes and goes does not disturb it.
    daemon.restart().await;
    let _ = daemon.client().await;
    world.open_check();
    assert!(manual.wait().await.unwrap().success());
    let client = daemon.client().await;
    let run = shown(&client, "hand1", "completed").await;
    assert_eq!(run["branch"], "feature-1-hand1", "{run:#}");
    assert!(run["pr_url"].is_string() && run["worktree"] == "present", "{run:#}");
    let path = run["worktree_path"].as_str().unwrap().to_owned();

    // One that is killed in the middle is lost, not in progress.
    world.close_check();
    let _ = std::fs::remove_file(world.home().join("at-check"));
    let mut killed = by_hand(&world, &repo, "2", "hand2");
    world.at_check().await;
    for process in world.processes() {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    killed.wait().await.unwrap();
    world.open_check();
    let run = shown(&client, "hand2", "lost").await;
    let lost = run["worktree_path"].as_str().unwrap().to_owned();

    // The daemon's own run of the same repository is cleaned up; theirs stay.
    let own = ok(&client, "trigger_adw_workflow", json!({ "issue_number": "3" })).await;
    let own = own["adw_id"].as_str().unwrap();
    wait_status(&client, own, "completed").await;
    wait_removed(&client, own).await;
    daemon.restart().await;
    assert!(Path::new(&path).join("notes/1.txt").is_file(), "{path}");
    assert!(Path::new(&lost).join(".git").is_file(), "{lost}");
    assert_eq!(repo.worktrees().len(), 2, "{:?}", repo.worktrees());

    // One that has ended is not read again and again, but what changes is seen.
    let client = daemon.client().await;
    repo.git(&["worktree", "remove", "--force", &path]);
    eventually("its worktree is gone", 60, async || {
        let run = state(&client, "hand1").await;
        if run["worktree"] == "removed" { Ok(()) } else { Err(run.to_string()) }
    })
    .await;
    let mut again = by_hand(&world, &repo, "2", "hand2");
    assert!(again.wait().await.unwrap().success());
    shown(&client, "hand2", "completed").await;
    world.quiet().await;
}

/// Waits until an external run is known with that status.
async fn shown(client: &crate::mcp_support::Client, id: &str, status: &str) -> serde_json::Value {
    eventually(&format!("{id} is shown as {status}"), 60, async || {
        let given = json!({ "adw_id_filter": id });
        let page = ok(client, "list_adw_workflows", given).await;
        if page["workflows"][0]["status"] == status { Ok(()) } else { Err(page.to_string()) }
    })
    .await;
    state(client, id).await
}
