//! The layouts that exist in the world run unmodified under their profiles: the scripts of
//! `tests/fixtures`, written after what those layouts were seen to do, with stand-ins for the paid
//! model and the hosted forge.
//!
//! What those layouts do that a daemon must not be taken in by, clause by clause of what was measured
//! of them (`spec/adw-world.md`), and where the true outcome is tested:
//!
//! | clause | test |
//! |---|---|
//! | §1.4 a out of scope; b the push fails in build | `kotadb_exit_zero_is_not_success` |
//! | §1.4 c the pull request's agent fails; e it chats | `foreign_truth`: `without_a_pull_request…`, `a_chatty…` |
//! | §1.4 d an agent's stream cut short; one line that is no JSON | `foreign_truth`: `an_agents_stream…` |
//! | §2 written in place, so empty or torn to who reads | `foreign_truth`: `a_state_written_in_place…` |
//! | §2 empty for good, after a kill between truncate and write | `foreign_truth`: `a_state_that_a_kill_left_empty…` |
//! | §2 nulls left out; a review as JSON in a string; metrics after a failure too | `foreign_truth`: `metrics_and_reviews…` |
//! | §2 the number of the issue replaced where an id is used again | `foreign_truth`: `an_id_is_never_used_for_two_issues` |
//! | §3.1 a stale base | `foreign_trees`: `a_base_that_is_stale…` |
//! | §3.2 no local base branch | `kotadb_preflight_names_what_the_scripts_need` |
//! | §3.3 the push in plan | `foreign_trees`: `a_push_that_fails_in_plan…` |
//! | §3.4 worktrees pile up | `foreign_trees`: `the_daemon_clears…` |
//! | §3.5 a re-run dies of its branch; §3.6 an interrupted plan | `foreign_trees`: `a_branch_that_is_there…`, `an_interrupted_plan…` |
//! | §3.8 the reviewer in the main checkout; §3.9 atomic mode | `foreign_trees`: `the_daemon_clears…` |
//! | §3.10 ten at once | `foreign_trees`: `ten_at_once…` |
//! | §5 signals to the leader; INT and metrics; agents that are killed, ignore TERM, call `setsid` | `foreign_processes` |

use serde_json::{Value, json};

use crate::foreign_support::*;
use crate::mcp_support::ok;
use crate::world::{World, wait_ended};

#[tokio::test(flavor = "multi_thread")]
async fn kotadb_runs_plan_build_and_review_in_the_scripts_own_worktree() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let project = theirs.added(&client).await;
    assert_eq!(project["profile"], "kotadb", "{project:#}");
    let run = run(&client, "7").await;
    assert_eq!(run["status"], "completed", "{run:#}");
    assert_eq!(statuses(&run), ["plan completed", "build completed", "review completed"]);
    assert!(run["worktree_path"].as_str().unwrap().contains("automation/trees/"), "{run:#}");
    assert!(
        run["pr_url"].as_str().unwrap().starts_with("https://"),
        "from the one line that tells it: {run:#}"
    );
    assert!(run["usage"]["cost_usd"].as_f64().unwrap() > 0.0, "from the agents' streams: {run:#}");
    assert_eq!(run["base_branch"], "develop");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kotadb_exit_zero_is_not_success() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;

    theirs.behave("fake:push-fail");
    let refused = run(&client, "1").await;
    assert_eq!(
        refused["status"], "failed",
        "the push failed and the script said rc 0: {refused:#}"
    );
    assert_eq!(refused["failure"]["class"], "validation");
    assert!(
        refused["failure"]["message"].as_str().unwrap().contains("pull request"),
        "{refused:#}"
    );

    let _ = std::fs::remove_file(theirs.fake.join("reject-push"));
    theirs.behave("fake:out-of-scope");
    let skipped = run(&client, "2").await;
    assert_eq!(skipped["status"], "skipped", "{skipped:#}");

    theirs.behave("fake:blocker");
    let blocked = run(&client, "3").await;
    assert_eq!(blocked["status"], "failed", "{blocked:#}");
    assert_eq!(statuses(&blocked)[2], "review failed");

    theirs.behave("fake:forge-markers");
    let forged = run(&client, "4").await;
    let id = forged["adw_id"].as_str().unwrap();
    assert!(forged["worktree_path"].as_str().unwrap().contains(id.get(..8).unwrap()), "{forged:#}");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_is_written_over_the_one_before_is_paid_for_beside_it() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    theirs.behave("fake:blocker");
    let first = run(&client, "3").await;
    assert_eq!(statuses(&first)[2], "review failed", "{first:#}");
    theirs.behave("");
    ok(&client, "resume_adw_workflow", json!({ "adw_id": first["adw_id"] })).await;
    let second = wait_ended(&client, first["adw_id"].as_str().unwrap()).await;
    assert_eq!(second["status"], "completed", "{second:#}");
    let count = |run: &Value, name: &str| run["usage"][name].as_i64().unwrap();
    let review = &first["phases"][2]["usage"];
    assert!(review["agent_calls"].as_i64().unwrap() > 0, "{first:#}");
    for name in ["agent_calls", "output_tokens"] {
        let again = review[name].as_i64().unwrap();
        assert_eq!(count(&second, name), count(&first, name) + again, "{name}: {second:#}");
    }
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kotadb_preflight_names_what_the_scripts_need() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &["--python312"]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    let python = world
        .run_in(&world.root, "python3", &["-c", "import sys; print(sys.version_info >= (3, 12))"])
        .await;
    if python.stdout.trim() == "False" {
        let old = run(&client, "1").await;
        assert_eq!(old["failure"]["class"], "preflight", "{old:#}");
        assert!(old["failure"]["message"].as_str().unwrap().contains("adw_review.py"), "{old:#}");
        assert_eq!(
            statuses(&old),
            ["plan pending", "build pending", "review pending"],
            "before any agent was paid"
        );
    }
    let git = |args: &[&str]| crate::world::repo::git_at(&theirs.root, &[], args);
    git(&["branch", "-D", "develop"]);
    let stale = run(&client, "2").await;
    assert_eq!(stale["failure"]["class"], "preflight", "{stale:#}");
    assert!(
        stale["failure"]["message"].as_str().unwrap().contains("git branch develop"),
        "{stale:#}"
    );
    assert_eq!(git(&["branch", "--list", "develop"]), "", "never guessed into a new branch");
}

#[tokio::test(flavor = "multi_thread")]
async fn tac_iso_runs_in_trees_of_its_own() {
    let world = World::new().await;
    let theirs = foreign(&world, "tac-iso", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let project = theirs.added(&client).await;
    assert_eq!(project["profile"], "tac", "{project:#}");
    let run = run(&client, "7").await;
    assert_eq!(run["status"], "completed", "{run:#}");
    let id = run["adw_id"].as_str().unwrap();
    assert!(run["worktree_path"].as_str().unwrap().ends_with(&format!("trees/{id}")), "{run:#}");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tac_without_worktrees_works_in_place_one_by_one() {
    let world = World::new().await;
    let theirs = foreign(&world, "tac-plain", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    let mut ids = vec![];
    for issue in ["1", "2"] {
        let asked = json!({ "issue_number": issue, "project": "theirs" });
        let started = ok(&client, "trigger_adw_workflow", asked).await;
        ids.push(started["adw_id"].as_str().unwrap().to_owned());
    }
    let (mut spans, mut branches) = (vec![], vec![]);
    for id in &ids {
        let run = wait_ended(&client, id).await;
        assert_eq!(run["status"], "completed", "{run:#}");
        branches.push(run["branch"].as_str().unwrap().to_owned());
        spans.push((
            run["started_at"].as_str().unwrap().to_owned(),
            run["ended_at"].as_str().unwrap().to_owned(),
        ));
    }
    assert!(spans[0].1 <= spans[1].0, "the second begins when the first has ended: {spans:?}");
    let first = crate::world::repo::git_at(
        &theirs.root,
        &[],
        &["rev-list", &format!("main..{}", branches[0])],
    );
    let second = crate::world::repo::git_at(
        &theirs.root,
        &[],
        &["rev-list", &format!("main..{}", branches[1])],
    );
    assert!(
        first.lines().all(|c| !second.contains(c)),
        "each is cut from the base, not from the other"
    );

    // Somebody's own work in the checkout is neither committed nor left behind.
    std::fs::write(theirs.root.join("mine.txt"), "mine").unwrap();
    let refused = self::run(&client, "3").await;
    assert_eq!(refused["failure"]["class"], "preflight", "{refused:#}");
    assert!(refused["failure"]["message"].as_str().unwrap().contains("uncommitted"), "{refused:#}");
    world.quiet().await;
}
