//! `adwd clean`: worktrees of ended runs go before their time, and no work with them.

use serde_json::{Value, json};

use crate::mcp_support::ok;
use crate::world::{Agent, World, state, wait_ended, wait_removed, wait_status};

/// What `adwd clean --json` says of a run.
fn said<'a>(answer: &'a Value, id: &str) -> &'a Value {
    let all = answer["worktrees"].as_array().unwrap();
    all.iter().find(|c| c["adw_id"] == id).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_runs_left_can_be_cleared_and_the_run_goes_on_from_its_branch() {
    let world = World::new().await;
    let repo = world.repo("shop");
    let half = "if [ ! -e \"$HOME/good\" ]; then echo half >half.txt; exit 1; fi";
    let agent = Agent::good()
        .on("implementor", &format!("[ $ADW_ISSUE_NUMBER = 3 ] && gate three\n{half}"));
    world.serve(&repo, &world.agent_lines("halfway", &agent));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    for (issue, id) in [("1", "aa1"), ("404", "bb1"), ("3", "cc1")] {
        let given = json!({ "issue_number": issue, "adw_id": id });
        ok(&client, "trigger_adw_workflow", given).await;
    }
    let failed = wait_ended(&client, "aa1").await;
    assert_eq!(failed["failure"]["phase"], "build", "{failed:#}");
    wait_ended(&client, "bb1").await;
    world.at_gate("three").await;
    assert_eq!(repo.worktrees().len(), 3);

    let forecast = world.cli(&["clean", "--dry-run", "--json"]).await.with_code(0).json();
    assert_eq!(forecast["worktrees"].as_array().unwrap().len(), 2, "{forecast:#}");
    assert_eq!(repo.worktrees().len(), 3, "nothing was changed");
    let answer = world.cli(&["clean", "--json"]).await.with_code(0).json();
    assert_eq!(said(&answer, "bb1")["removed"], true, "{answer:#}");
    let kept = said(&answer, "aa1")["kept"].as_str().unwrap();
    assert!(kept.contains("half.txt"), "{answer:#}");
    assert_eq!(repo.worktrees().len(), 2, "that of the living run stays");

    let refused = world.cli(&["clean", "aa1"]).await.with_code(4);
    assert!(refused.stdout.contains("uncommitted"), "{refused:?}");
    let living = world.cli(&["clean", "cc1", "--discard-changes"]).await.with_code(4);
    assert!(living.stdout.contains("running"), "{living:?}");
    world.cli(&["clean", "nope"]).await.with_code(5);
    world.cli(&["clean", "aa1", "--discard-changes"]).await.with_code(0);
    wait_removed(&client, "aa1").await;
    assert_eq!(repo.worktrees().len(), 1);

    // The plan's commit was never pushed; the branch kept it.
    world.write("home/good", "");
    world.open_gate("three");
    wait_status(&client, "cc1", "completed").await;
    ok(&client, "resume_adw_workflow", json!({ "adw_id": "aa1" })).await;
    wait_status(&client, "aa1", "completed").await;
    let plans = state(&client, "aa1").await["phases"][0]["attempts"].as_array().unwrap().len();
    assert_eq!(plans, 1, "it went on with the build");
    assert_eq!(repo.pulls().len(), 2);
    world.quiet().await;
}
