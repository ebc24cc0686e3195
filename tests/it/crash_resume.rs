//! Resume: the same id, worktree, branch and pull request, from every phase.

use serde_json::json;

use crate::crash_support::{
    ROLES, attempt_dir, attempts, counts, nothing_is_left, resume, shop, trigger_issue,
};
use crate::mcp_support::ok;
use crate::world::{Agent, World, state, wait_ended, wait_removed, wait_status};

crate::in_worlds_on_both_engines!(a_failed_run_goes_on_from_the_phase_that_failed);

/// Each phase fails once, for a reason that no automatic retry can help.
async fn a_failed_run_goes_on_from_the_phase_that_failed(world: World) {
    let mut agent = Agent::good();
    for (phase, role) in ROLES {
        let once = format!(
            "if [ ! -e \"$HOME/failed-{phase}\" ]; then : >\"$HOME/failed-{phase}\"; echo 'permission denied' >&2; exit 1; fi"
        );
        agent = agent.on(role, &once);
    }
    let repo = shop(&world, &agent);
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let mut seen = vec![];
    for (n, (phase, _)) in ROLES.iter().enumerate() {
        let run = wait_status(&client, &id, "failed").await;
        assert_eq!(run["failure"]["phase"], *phase, "{run:#}");
        assert_eq!(counts(&run), [[1, 0, 0], [2, 1, 0], [2, 2, 1]][n], "{run:#}");
        assert_eq!(repo.worktrees(), [run["worktree_path"].as_str().unwrap()]);
        seen.push((run["worktree_path"].clone(), run["branch"].clone()));
        resume(&client, &id).await;
    }
    wait_status(&client, &id, "completed").await;
    let run = wait_removed(&client, &id).await;
    assert_eq!(counts(&run), [2, 2, 2], "{run:#}");
    seen.push((run["worktree_path"].clone(), run["branch"].clone()));
    assert!(seen.iter().all(|s| s.0 == run["worktree_path"]), "{seen:?}");
    assert!(seen[1..].iter().all(|s| s.1 == run["branch"]), "{seen:?}");
    assert_eq!(repo.pulls().len(), 1, "no second pull request");
    assert_eq!(repo.remote_branches(), [run["branch"].as_str().unwrap()]);
    nothing_is_left(&world, &repo).await;
}

/// The worktree was removed with the end; it is made again from the branch.
#[tokio::test(flavor = "multi_thread")]
async fn phases_that_are_done_again_find_their_branch_and_pull_request() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good());
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    wait_status(&client, &id, "completed").await;
    let first = wait_removed(&client, &id).await;
    let built = repo.remote_git(&["rev-parse", first["branch"].as_str().unwrap()]);
    for (phase, want) in [("build", [1, 2, 2]), ("review", [1, 2, 3])] {
        let given = json!({ "adw_id": id, "from_phase": phase });
        let run = ok(&client, "resume_adw_workflow", given).await;
        assert_eq!(run["adw_id"], id.as_str());
        wait_status(&client, &id, "completed").await;
        let run = wait_removed(&client, &id).await;
        assert_eq!(counts(&run), want, "{run:#}");
        assert_eq!((&run["branch"], &run["pr_url"]), (&first["branch"], &first["pr_url"]));
    }
    assert_eq!(repo.pulls().len(), 1);
    assert_eq!(repo.remote_git(&["rev-parse", first["branch"].as_str().unwrap()]), built);
    nothing_is_left(&world, &repo).await;
}

/// A run by hand with the same id leaves files of another schema where the next attempt would be.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_by_hand_is_not_taken_for_ours() {
    let world = World::new().await;
    let fails =
        "if [ ! -e \"$HOME/f\" ]; then : >\"$HOME/f\"; echo 'permission denied' >&2; exit 1; fi";
    let repo = shop(&world, &Agent::good().on("implementor", fails));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    wait_status(&client, &id, "failed").await;
    let by_hand = attempt_dir(&repo, &id, "build", 2);
    std::fs::create_dir_all(&by_hand).unwrap();
    std::fs::write(
        by_hand.join("start.json"),
        r#"{"pid": 1, "started_at": "2026-01-01T00:00:00Z"}"#,
    )
    .unwrap();
    std::fs::write(by_hand.join("exit.json"), r#"{"code": 0, "status": "completed"}"#).unwrap();
    resume(&client, &id).await;
    let run = wait_status(&client, &id, "completed").await;
    let numbers: Vec<_> = attempts(&run, "build").iter().map(|a| a["attempt"].clone()).collect();
    assert_eq!(numbers, [1, 3], "{run:#}");
}

/// A folder that cannot be made fails the run instead of holding it up for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_folder_that_cannot_be_had_is_a_failure() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good().on("planner", "gate plan"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("plan").await;
    let log = attempt_dir(&repo, &id, "build", 1);
    repo.write(log.parent().unwrap().strip_prefix(&repo.root).unwrap().to_str().unwrap(), "a file");
    world.open_gate("plan");
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["status"], "failed", "{run:#}");
    assert!(run["failure"]["message"].as_str().unwrap().contains("build/1"), "{run:#}");
    std::fs::remove_file(log.parent().unwrap()).unwrap();
    resume(&client, &id).await;
    wait_status(&client, &id, "completed").await;
    assert_eq!(state(&client, &id).await["status"], "completed");
}
