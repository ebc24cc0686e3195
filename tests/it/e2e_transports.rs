//! One run end to end over every road: an issue becomes a branch, a reviewed pull request, and
//! nothing else is left.

use serde_json::{Value, json};

use crate::mcp_support::{Client, Era, ok};
use crate::world::{Repo, World, wait_removed, wait_status};

/// What a completed run of issue 1 with the `patch` agent leaves on disk and in the database.
async fn assert_complete(world: &World, repo: &Repo, run: &Value) {
    let id = run["adw_id"].as_str().unwrap();
    assert_eq!(run["worktree"], "removed", "{run:#}");
    assert_eq!(run["status"], "completed", "{run:#}");
    assert_eq!(run["issue_number"], "1");
    assert_eq!(run["issue_title"], "Add notes/1.txt");
    assert_eq!(run["issue_class"], "/feature");
    assert_eq!(run["origin"], "daemon");
    assert_eq!(run["project"], "shop");
    let branch = format!("feature-1-{id}");
    assert_eq!(run["branch"], branch.as_str());
    assert_eq!(run["base_branch"], "main");
    assert_eq!(run["base_commit"], repo.git(&["rev-parse", "main"]).as_str());
    assert!(run.get("failure").is_none() && run.get("queue_position").is_none(), "{run:#}");

    let phases = run["phases"].as_array().unwrap();
    let names: Vec<&str> = phases.iter().map(|p| p["phase"].as_str().unwrap()).collect();
    assert_eq!(names, ["plan", "build", "review"]);
    for phase in phases {
        assert_eq!(phase["status"], "completed", "{phase:#}");
        let attempts = phase["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{phase:#}");
        assert_eq!(attempts[0]["exit_code"], 0, "{phase:#}");
        assert!(attempts[0]["ended_at"].is_string(), "{phase:#}");
        assert!(attempts[0]["head_commit"].is_string(), "{phase:#}");
        assert_eq!(phase["usage"]["agent_calls"], 1, "{phase:#}");
    }
    assert_eq!(run["usage"]["agent_calls"], 3, "{run:#}");
    assert_eq!(run["state"]["adw_id"], id);
    assert_eq!(run["state"]["last_review"]["success"], true, "{run:#}");
    assert!(run["state_age_ms"].is_i64(), "{run:#}");

    assert_eq!(repo.remote_branches(), [branch.as_str()]);
    let plan = run["plan_file"].as_str().unwrap();
    assert_eq!(repo.changed_on(&branch), ["notes/1.txt", plan]);
    assert_eq!(repo.file_on(&branch, "notes/1.txt"), "note 1");
    let pulls = repo.pulls();
    assert_eq!(pulls.len(), 1, "{pulls:?}");
    let (path, text) = &pulls[0];
    assert_eq!(run["pr_url"], format!("file://{}", path.display()).as_str());
    assert!(text.contains(&branch) && text.contains("Review passed"), "{text}");
    assert_eq!(repo.worktrees(), Vec::<String>::new());
    assert_eq!(repo.git(&["status", "--porcelain"]), "", "the main checkout is as it was");
    world.quiet().await;
}

async fn over(world: &World, repo: &Repo, client: &Client) {
    let started = ok(client, "trigger_adw_workflow", json!({ "issue_number": "1" })).await;
    assert_eq!(started["status"], "pending", "{started:#}");
    let id = started["adw_id"].as_str().unwrap();
    wait_status(client, id, "completed").await;
    let run = wait_removed(client, id).await;
    assert_complete(world, repo, &run).await;
}

async fn shop(world: &World) -> Repo {
    let repo = world.repo("shop");
    world.serve(&repo, "");
    repo
}

async fn over_the_unix_socket(world: World) {
    let repo = shop(&world).await;
    let daemon = world.daemon().await;
    over(&world, &repo, &daemon.client().await).await;
}

crate::in_worlds_on_both_engines!(over_the_unix_socket);

#[tokio::test(flavor = "multi_thread")]
async fn over_http_with_the_modern_protocol() {
    let world = World::new().await;
    let repo = shop(&world).await;
    let daemon = world.daemon().await;
    over(&world, &repo, &daemon.http_client(Era::Modern).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_with_initialize() {
    let world = World::new().await;
    let repo = shop(&world).await;
    let daemon = world.daemon().await;
    over(&world, &repo, &daemon.http_client(Era::Legacy).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_stdio_of_an_adwd_child() {
    let world = World::new().await;
    let repo = shop(&world).await;
    let daemon = world.daemon().await;
    let client = daemon.stdio_client(Era::Legacy).await;
    let started = ok(&client, "trigger_adw_workflow", json!({ "issue_number": 1 })).await;
    let id = started["adw_id"].as_str().unwrap();
    wait_status(&client, id, "completed").await;
    let run = wait_removed(&client, id).await;
    client.cancel().await.unwrap();
    assert_complete(&world, &repo, &run).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_shell() {
    let world = World::new().await;
    let repo = shop(&world).await;
    let daemon = world.daemon().await;
    let ran = world.cli_in(&repo.root, &["trigger", "1", "--wait", "--json"]).await.with_code(0);
    let answer = ran.json();
    let id = answer["adw_id"].as_str().unwrap();
    let run = wait_removed(&daemon.client().await, id).await;
    assert_eq!(answer["status"], "completed");
    assert_eq!(run["triggered_by"], "cli", "{run:#}");
    assert_complete(&world, &repo, &run).await;
}
