//! What the scripts of the world say of themselves is not what is: exits of 0 without success, states
//! that are written in place.

use serde_json::{Value, json};

use crate::crash_support::{attempts, kill9, process, resume};
use crate::foreign_support::*;
use crate::mcp_support::{ok, refused};
use crate::world::{World, eventually, state, wait_ended, wait_removed};

#[tokio::test(flavor = "multi_thread")]
async fn without_a_pull_request_or_its_address_a_build_that_exits_zero_has_failed() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    theirs.issue(1, "fake:no-pr");
    theirs.issue(2, "fake:chatty-pr");
    let none = run(&client, "1").await;
    assert_failed(&none, "build", "validation", &["build exited 0", "no pull request is recorded"]);
    assert_eq!(none["state"]["pr_created"], false, "as the script says: {none:#}");
    let chatty = run(&client, "2").await;
    // There is one, and the script says so; but its address was told in a paragraph that anybody could
    // have written.
    assert_failed(&chatty, "build", "validation", &["build exited 0", "no URL of a pull request"]);
    assert_eq!(chatty["state"]["pr_created"], true);
    assert!(chatty["pr_url"].is_null(), "{chatty:#}");
    for run in [&none, &chatty] {
        assert_eq!(attempts(run, "build")[0]["exit_code"], 0);
        assert_eq!(run["worktree"], "present", "what was done is kept");
    }
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_stream_that_is_cut_short_counts_by_what_was_done() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    theirs.issue(1, "fake:truncated");
    theirs.issue(2, "fake:truncated fake:no-change");
    theirs.issue(3, "fake:garbage");
    theirs.issue(4, "fake:max-turns");
    theirs.issue(5, "fake:agent-error");
    theirs.issue(6, "fake:truncated@feature");
    let done = run(&client, "1").await;
    assert_eq!(done["status"], "completed", "the work is there: {done:#}");
    assert_eq!(done["usage"]["lower_bound"], true, "its cost was never told: {done:#}");
    let nothing = run(&client, "2").await;
    assert_failed(&nothing, "build", "validation", &["build exited 0", "nothing was committed"]);
    let garbage = run(&client, "3").await;
    assert_eq!(garbage["status"], "completed", "{garbage:#}");
    assert!(garbage["usage"]["lower_bound"] != true, "what is JSON was read: {garbage:#}");
    let turns = run(&client, "4").await;
    assert_failed(&turns, "build", "agent", &["build exited 1", "ClaudeCodeResultMessage"]);
    let error = run(&client, "5").await;
    assert_failed(&error, "build", "agent", &["API Error: 500"]);
    let plan = run(&client, "6").await;
    assert_eq!(statuses(&plan)[0], "plan failed", "{plan:#}");
    assert_eq!(attempts(&plan, "plan").len(), 1, "a second try would die of the branch: {plan:#}");
    world.quiet().await;
}

/// Who reads while it is written sees nothing, or half of it: what was known stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_written_in_place_is_never_forgotten_in_between() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    let id = start(&client, 7).await;
    let mut known: Vec<(&str, Value)> = vec![];
    let mut looks = 0_u32;
    let run = eventually("it has ended", 120, async || {
        looks += 1;
        let run = state(&client, &id).await;
        for (key, value) in &known {
            assert_eq!(&run[*key], value, "{key} at look {looks}: {run:#}");
        }
        for key in ["branch", "worktree_path", "plan_file", "issue_title", "issue_class"] {
            if run[key].is_string() && !known.iter().any(|(k, _)| *k == key) {
                known.push((key, run[key].clone()));
            }
        }
        if crate::world::is_end(run["status"].as_str().unwrap()) {
            Ok(run)
        } else {
            Err(format!("{run:#}"))
        }
    })
    .await;
    assert_eq!((&run["status"], known.len()), (&json!("completed"), 5), "{run:#}");
    assert!(run["state_problem"].is_null(), "{run:#}");
    world.quiet().await;
}

/// A kill between truncate and write. The scripts can never read it again; the daemon says so before any
/// agent is paid, and knows what was in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_a_kill_left_empty_is_named_and_the_run_goes_on_from_a_copy() {
    let world = World::new().await;
    world.set("retry.max_attempts", "1");
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    theirs.issue(1, "fake:silent=600");
    let id = start(&client, 1).await;
    theirs.working("implement", &id).await;
    let known = eventually("the plan is told", 30, async || {
        let run = state(&client, &id).await;
        if run["plan_file"].is_string() { Ok(run) } else { Err(run.to_string()) }
    })
    .await;
    let file = theirs.state_file(&id);
    let copy = std::fs::read(&file).unwrap();
    std::fs::write(&file, "").unwrap();
    kill9(process(&world, &["python", "adw_build.py"]).pid);
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["status"], "failed", "{run:#}");
    world.quiet().await;
    let calls = theirs.calls().len();
    resume(&client, &id).await;
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["failure"]["class"], "preflight", "{run:#}");
    let said = run["failure"]["message"].as_str().unwrap();
    assert!(said.contains("cannot be used: adw_state.json is empty"), "{said}");
    assert_eq!(theirs.calls().len(), calls, "before any agent was paid");
    for key in ["branch", "plan_file", "worktree_path"] {
        assert_eq!(run[key], known[key], "{key}: {run:#}");
    }
    std::fs::write(&file, copy).unwrap();
    theirs.issue(1, "");
    // The plan has the directive too: it is the issue's text.
    let plan = std::path::Path::new(run["worktree_path"].as_str().unwrap())
        .join(run["plan_file"].as_str().unwrap());
    let text = std::fs::read_to_string(&plan).unwrap();
    std::fs::write(&plan, text.replace("fake:silent=600", "")).unwrap();
    resume(&client, &id).await;
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    wait_removed(&client, &id).await;
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_reviews_in_the_state_prove_nothing() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    theirs.issue(1, "fake:crash");
    theirs.issue(2, "fake:blocker");
    theirs.issue(3, "fake:debt");
    theirs.issue(4, "fake:bad-json");
    let crashed = run(&client, "1").await;
    assert_failed(&crashed, "build", "agent", &["ECONNREFUSED"]);
    let entries = crashed["state"]["metrics"]["phases"].as_array().unwrap();
    assert!(
        entries.iter().any(|e| e["phase_name"] == "adw_build"),
        "as after a good one: {crashed:#}"
    );
    assert!(crashed["state"].get("last_review").is_none(), "nulls are left out: {crashed:#}");
    let blocked = run(&client, "2").await;
    assert_failed(&blocked, "review", "validation", &["the review found blockers"]);
    assert!(blocked["state"]["last_review"].is_string(), "JSON in a string: {blocked:#}");
    let debt = run(&client, "3").await;
    assert_eq!(debt["status"], "completed", "a lesser finding is no blocker: {debt:#}");
    let prose = run(&client, "4").await;
    assert_failed(&prose, "review", "agent", &[]);
    assert_eq!(attempts(&prose, "review")[0]["exit_code"], 20, "{prose:#}");
    world.quiet().await;
}

/// The scripts would write the number of the second over that of the first.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_never_used_for_two_issues() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let file = theirs.state_file("somebody");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, r#"{"adw_id": "somebody", "issue_number": "1"}"#).unwrap();
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    eventually("the other one is known", 60, async || {
        let listed = ok(&client, "list_adw_workflows", json!({ "project": "theirs" })).await;
        if listed["total"] == 1 { Ok(()) } else { Err(listed.to_string()) }
    })
    .await;
    let asked =
        json!({ "issue_number": 2, "project": "theirs", "adw_id": "ours0001", "phases": ["plan"] });
    let id = crate::crash_support::trigger(&client, asked).await;
    assert_eq!(wait_ended(&client, &id).await["status"], "completed");
    for id in ["ours0001", "somebody"] {
        let asked = json!({ "issue_number": 3, "project": "theirs", "adw_id": id });
        let error = refused(&client, "trigger_adw_workflow", asked).await;
        assert_eq!(error["code"], "conflict", "{id}: {error:#}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(r#""issue_number": "1""#), "{text}");
    let own: Value =
        serde_json::from_slice(&std::fs::read(theirs.state_file("ours0001")).unwrap()).unwrap();
    assert_eq!(own["issue_number"], "2");
    world.quiet().await;
}
