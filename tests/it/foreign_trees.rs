//! Worktrees, branches and bases of the scripts of the world, which the daemon did not make.

use std::path::Path;

use futures::future::join_all;
use serde_json::json;

use crate::crash_support::{attempts, cancel};
use crate::foreign_support::*;
use crate::mcp_support::refused;
use crate::world::repo::git_at;
use crate::world::{World, state, wait_ended, wait_removed, wait_status};

/// The scripts never fetch: the commit that is shown is the one they cut from.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_stale_is_told_as_it_is() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    let stale = theirs.git(&["rev-parse", "develop"]);
    let other = world.path("other");
    let (remote, folder) = (theirs.root.with_file_name("remote.git"), other.display().to_string());
    git_at(
        &world.root,
        &[],
        &["clone", "-q", "-b", "develop", &remote.display().to_string(), &folder],
    );
    let named = ["-c", "user.name=o", "-c", "user.email=o@example.org"];
    let commit = [&named[..], &["commit", "-q", "--allow-empty", "-m", "newer"]].concat();
    git_at(&other, &[], &commit);
    git_at(&other, &[], &["push", "-q", "origin", "develop"]);
    let run = run(&client, "1").await;
    assert_eq!(run["status"], "completed", "{run:#}");
    let branch = format!("origin/{}", run["branch"].as_str().unwrap());
    assert_eq!(theirs.git(&["merge-base", "origin/develop", &branch]), stale);
    assert_eq!(run["base_commit"], stale.as_str(), "{run:#}");
    assert_eq!(theirs.git(&["rev-parse", "develop"]), stale, "their branch is theirs");
    assert!(world.last_words().contains("which is not where the remote's is"), "it is logged");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_fails_in_plan_fails_the_plan_once() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    std::fs::write(theirs.fake.join("reject-push"), "*\n").unwrap();
    let run = run(&client, "1").await;
    assert_failed(&run, "plan", "git", &["[remote rejected]", "hook declined"]);
    assert_eq!(statuses(&run)[1..], ["build pending", "review pending"]);
    assert_eq!((&run["worktree"], theirs.worktrees()), (&json!("present"), 1), "{run:#}");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_is_there_is_refused_before_any_agent_is_paid() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    theirs.git(&["branch", "feature-7-abcd1234", "develop"]);
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    let asked = json!({ "issue_number": 7, "project": "theirs", "adw_id": "abcd1234" });
    let id = crate::crash_support::trigger(&client, asked).await;
    let run = wait_ended(&client, &id).await;
    assert_eq!(run["failure"]["class"], "preflight", "{run:#}");
    let said = run["failure"]["message"].as_str().unwrap();
    assert!(said.contains("feature-7-abcd1234 exists already"), "{said}");
    assert!(theirs.calls().is_empty(), "{:#?}", theirs.calls());
    assert_eq!(theirs.worktrees(), 0);
}

/// It leaves branch, worktree and state, of which its second try would die: there is none.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_plan_is_cancelled_whole_and_a_new_run_is_the_way_on() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    theirs.issue(1, "fake:silent=600@feature");
    let id = start(&client, 1).await;
    theirs.working("feature", &id).await;
    cancel(&client, &id).await;
    let run = wait_status(&client, &id, "cancelled").await;
    world.quiet().await;
    let branch = run["branch"].as_str().unwrap();
    let tree = run["worktree_path"].as_str().unwrap().to_owned();
    assert!(!theirs.git(&["branch", "--list", branch]).is_empty() && Path::new(&tree).is_dir());
    assert_eq!(run["worktree"], "present", "what was done is kept: {run:#}");
    theirs.issue(1, "");
    let error = refused(&client, "resume_adw_workflow", json!({ "adw_id": id })).await;
    assert_eq!(error["code"], "wrong_state", "{error:#}");
    let said = error["message"].as_str().unwrap();
    assert!(
        said.contains("cannot be run twice") && said.contains("trigger issue 1 anew"),
        "{said}"
    );
    let new = self::run(&client, "1").await;
    assert_eq!(new["status"], "completed", "{new:#}");
    wait_removed(&client, new["adw_id"].as_str().unwrap()).await;
    assert_eq!(theirs.worktrees(), 1, "that of the interrupted one");
    world.quiet().await;
}

/// With the reviewer at work in the main checkout, and a variable that would have the scripts' other
/// engine write there.
#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_clears_what_the_scripts_pile_up_and_keeps_the_main_checkout() {
    let world = World::new().await;
    let theirs = foreign(&world, "kotadb", &[]).await;
    world.set_env("ADW_USE_ATOMIC_AGENTS", Some("true"));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    let before = theirs.git(&["rev-parse", "HEAD"]);
    let run = run(&client, "1").await;
    assert_eq!(run["status"], "completed", "{run:#}");
    let id = run["adw_id"].as_str().unwrap();
    let run = wait_removed(&client, id).await;
    assert_eq!(theirs.worktrees(), 0);
    assert!(!Path::new(run["worktree_path"].as_str().unwrap()).exists(), "{run:#}");
    let remote = format!("origin/{}", run["branch"].as_str().unwrap());
    assert_eq!(theirs.git(&["rev-list", "--count", &format!("develop..{remote}")]), "2");
    let cwd = |command: &str| {
        let calls = theirs.calls();
        let call = calls.iter().find(|call| call["command"] == command).unwrap();
        call["cwd"].as_str().unwrap().to_owned()
    };
    assert_eq!(Path::new(&cwd("review")), theirs.root, "as they do it");
    assert!(cwd("implement").contains("automation/trees/feature-1-"), "not the other engine");
    assert_eq!(theirs.git(&["rev-parse", "HEAD"]), before);
    assert_eq!(theirs.git(&["status", "--porcelain"]), "");
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_at_once_are_ten_branches_and_ten_pull_requests() {
    let world = World::new().await;
    world.set("limits.max_running", "10");
    world.set("limits.max_running_per_project", "10");
    let theirs = foreign(&world, "kotadb", &[]).await;
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    theirs.added(&client).await;
    let ids = join_all((1..=10).map(|issue| start(&client, issue))).await;
    for (issue, id) in (1..=10).zip(&ids) {
        let mut run = crate::phases_support::ended(&client, id).await;
        // Their scripts make worktrees at once and hold no lock, so one may meet another's half-made
        // record. git leaves the branch then, of which a second try with that id would die; a run anew
        // has another.
        for _ in 0..3 {
            let failure = &run["failure"];
            let said = failure["message"].as_str().unwrap_or_default();
            if run["status"] != "failed" || !said.contains("commondir") {
                break;
            }
            assert_eq!((&failure["class"], &failure["retryable"]), (&json!("git"), &json!(false)));
            run = crate::phases_support::ended(&client, &start(&client, issue).await).await;
        }
        let run = wait_removed(&client, run["adw_id"].as_str().unwrap()).await;
        assert_eq!(run["status"], "completed", "{run:#}");
        assert_eq!(
            ["plan", "build", "review"].map(|p| attempts(&run, p).len()),
            [1, 1, 1],
            "{run:#}"
        );
    }
    let branches =
        theirs.git(&["for-each-ref", "--format=%(refname)", "refs/remotes/origin/feature-*"]);
    assert_eq!(branches.lines().count(), 10, "{branches}");
    assert_eq!(std::fs::read_dir(theirs.fake.join("prs")).unwrap().count(), 10);
    assert_eq!((theirs.worktrees(), theirs.git(&["status", "--porcelain"])), (0, String::new()));
    assert!(state(&client, &ids[0]).await["usage"]["cost_usd"].as_f64().unwrap() > 0.0);
    world.quiet().await;
}
