//! Twenty runs triggered at once on one repository do not know of one another.

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::mcp_support::ok;
use crate::world::{World, eventually, state, wait_removed, wait_status};

const RUNS: u32 = 20;
const AT_ONCE: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_are_twenty_worktrees_branches_and_pull_requests() {
    let world = World::new().await;
    world.set("limits.max_running", &AT_ONCE.to_string());
    world.set("limits.max_running_per_project", &AT_ONCE.to_string());
    let repo = world.repo("shop");
    (1..=RUNS).for_each(|n| repo.issue(n));
    world.serve(&repo, "");
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    world.close_check();

    let asked =
        (1..=RUNS).map(|n| ok(&client, "trigger_adw_workflow", json!({ "issue_number": n })));
    let answers = join_all(asked).await;
    let ids: Vec<&str> = answers.iter().map(|a| a["adw_id"].as_str().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");

    // Six stand before their check, the others wait in a line without gaps.
    eventually("six build, fourteen wait", 60, async || {
        let runs = join_all(ids.iter().map(|id| state(&client, id))).await;
        let building = |run: &&Value| run["current_phase"] == "build" && run["status"] == "running";
        let places: BTreeSet<i64> =
            runs.iter().filter_map(|run| run["queue_position"].as_i64()).collect();
        let seen = (runs.iter().filter(building).count(), places);
        let wanted = (AT_ONCE, (1..=i64::from(RUNS) - 6).collect());
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert_eq!(repo.worktrees().len(), AT_ONCE, "{:?}", repo.worktrees());
    world.open_check();

    for id in &ids {
        wait_status(&client, id, "completed").await;
    }
    let runs = join_all(ids.iter().map(|id| wait_removed(&client, id))).await;
    let distinct = |field: &str| -> BTreeSet<String> {
        runs.iter().map(|run| run[field].as_str().unwrap().to_owned()).collect()
    };
    for field in ["worktree_path", "branch", "pr_url"] {
        assert_eq!(distinct(field).len(), ids.len(), "{field}: {:?}", distinct(field));
    }
    assert_eq!(repo.remote_branches().into_iter().collect::<BTreeSet<_>>(), distinct("branch"));
    assert_eq!(repo.pulls().len(), ids.len());
    for run in &runs {
        let (n, branch) = (run["issue_number"].as_str().unwrap(), run["branch"].as_str().unwrap());
        let (note, plan) = (format!("notes/{n}.txt"), run["plan_file"].as_str().unwrap());
        assert_eq!(repo.changed_on(branch), [note.as_str(), plan], "{branch}");
        assert_eq!(repo.file_on(branch, &note), format!("note {n}"));
        let attempts = run["phases"].as_array().unwrap().iter();
        assert!(attempts.clone().all(|p| p["attempts"].as_array().unwrap().len() == 1), "{run:#}");
    }
    for (path, text) in repo.pulls() {
        let own = runs.iter().filter(|run| text.contains(run["branch"].as_str().unwrap()));
        assert_eq!(own.count(), 1, "{}: {text}", path.display());
    }
    assert_eq!(repo.worktrees(), Vec::<String>::new());
    world.quiet().await;
}
