//! Agents and scripts that take their worktree, its `.git`, their branch or their plan away. The run
//! fails in words that name it, nothing of it lands in the main checkout, and where the work is still
//! there a resume goes on.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::crash_support::{attempts, resume, shop, trigger_issue};
use crate::mcp_support::Client;
use crate::phases_support::*;
use crate::world::{Agent, Repo, World, wait_ended, wait_removed};

/// What the implementor does on its first call, by issue.
const AGENT: &str = r#"if [ ! -e "$HOME/did-$ADW_ISSUE_NUMBER" ]; then
    : >"$HOME/did-$ADW_ISSUE_NUMBER"
    case $ADW_ISSUE_NUMBER in
    1) rm -rf "$PWD" ;;
    2) rm .git; echo stray >stray.txt ;;
    3) git switch -q -c elsewhere ;;
    4) B=$(git branch --show-current); git switch -q --detach; git branch -q -D "$B" ;;
    5) git rm -q -r automation/specs 2>/dev/null || git rm -q -r specs; git commit -q -m 'no plan' ;;
    esac
    exit 0
fi"#;

async fn failed(client: &Client, id: &str, words: &[&str]) -> Value {
    let run = wait_ended(client, id).await;
    let said = run["failure"]["message"].as_str().unwrap_or_default();
    assert_eq!(
        (&run["status"], run["failure"]["phase"].as_str()),
        (&json!("failed"), Some("build")),
        "{run:#}"
    );
    for word in words {
        assert!(said.contains(word), "{word:?} in {said:?}");
    }
    run
}

fn tree(run: &Value) -> PathBuf {
    PathBuf::from(run["worktree_path"].as_str().unwrap())
}

/// The main checkout is at its first commit, clean, and on its branch.
#[track_caller]
fn assert_untouched(repo: &Repo) {
    assert_eq!(repo.git(&["status", "--porcelain", "--untracked-files=no"]), "");
    assert_eq!(repo.git(&["branch", "--show-current"]), "main");
    assert_eq!(repo.git(&["rev-list", "--count", "main"]), "1");
    assert!(!repo.root.join("stray.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_takes_its_worktree_branch_or_plan_away_fails_and_touches_nothing_else() {
    let world = World::new().await;
    world.set("retry.max_attempts", "1");
    world.set("limits.max_running", "5");
    world.set("limits.max_running_per_project", "5");
    let repo = shop(&world, &Agent::good().on("implementor", AGENT));
    (4..=5).for_each(|issue| repo.issue(issue));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let mut ids = vec![];
    for issue in 1..=5 {
        ids.push(trigger_issue(&client, issue).await);
    }
    let removed = failed(&client, &ids[0], &["the agent removed the worktree"]).await;
    let headless = failed(&client, &ids[1], &["the agent removed the worktree"]).await;
    let elsewhere =
        failed(&client, &ids[2], &["moved the worktree from feature-3-", "to elsewhere"]).await;
    let branchless = failed(&client, &ids[3], &["to a detached HEAD"]).await;
    let planless = failed(&client, &ids[4], &["plan"]).await;
    for run in [&removed, &headless, &elsewhere, &branchless, &planless] {
        assert_eq!(attempts(run, "build").len(), 1, "{run:#}");
        assert!(
            matches!(run["failure"]["class"].as_str(), Some("agent" | "validation")),
            "{run:#}"
        );
    }
    world.quiet().await;
    assert_untouched(&repo);
    assert!(repo.pulls().is_empty());
    assert!(!tree(&removed).exists() && tree(&headless).join("stray.txt").exists());

    // The plan is on its branch: a worktree that is gone is made again, a detour is gone back.
    repo_git_in(&repo, &tree(&elsewhere), &["switch", "-q", elsewhere["branch"].as_str().unwrap()]);
    for run in [&removed, &elsewhere] {
        let id = run["adw_id"].as_str().unwrap();
        resume(&client, id).await;
        let run = wait_ended(&client, id).await;
        assert_eq!(run["status"], "completed", "{run:#}");
        wait_removed(&client, id).await;
    }
    // What is left in a folder without `.git` may be somebody's work: it is named and kept.
    let id = headless["adw_id"].as_str().unwrap();
    resume(&client, id).await;
    let run = wait_ended(&client, id).await;
    assert_failed(&run, "failed", "git", &["move it away"]);
    assert!(tree(&run).join("stray.txt").exists());
    std::fs::rename(tree(&run), world.path("aside")).unwrap();
    resume(&client, id).await;
    let run = wait_ended(&client, id).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    assert_eq!(repo.pulls().len(), 3);
    world.quiet().await;
    assert_untouched(&repo);
}

fn repo_git_in(repo: &Repo, tree: &Path, args: &[&str]) {
    let folder = tree.display().to_string();
    let mut all = vec!["-C", folder.as_str()];
    all.extend(args);
    repo.git(&all);
}

/// Git would answer for the checkout round a worktree without `.git`, and take its commits for the run's.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_takes_its_worktree_away_and_says_it_is_done_has_failed() {
    let world = World::new().await;
    let rogue = Rogue::new(&world);
    rogue.on(1, "work()\nshutil.rmtree(tree)\nsys.exit(0)");
    rogue.on(2, "work()\nos.remove(f'{tree}/.git')\nsys.exit(0)");
    rogue.on(3, "work()\nshutil.rmtree(tree)\nopen(tree, 'w').close()\nsys.exit(0)");
    rogue.on(4, "work()\ngit('switch', '-q', '--detach', 'main')\nsys.exit(0)");
    rogue.on(
        5,
        "work()\ngit('switch', '-q', '--detach')\ngit('branch', '-q', '-D', branch)\nsys.exit(0)",
    );
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let mut ids = vec![];
    for issue in 1..=5 {
        ids.push(rogue.start(&client, issue).await);
    }
    for (id, words) in ids.iter().zip([
        "is not there",
        "has no .git any more",
        "is not there",
        "nothing was committed",
    ]) {
        let run = watched(&world, &client, id).await;
        assert_failed(
            &run,
            "failed",
            "validation",
            &["work exited 0, but its work is not there", words],
        );
        assert_eq!(tries(&run).len(), 1, "{run:#}");
    }
    // The branch of the last is where it counts: on the remote, at what the worktree is at.
    let run = watched(&world, &client, &ids[4]).await;
    assert_eq!(run["status"], "completed", "{run:#}");
    wait_removed(&client, &ids[4]).await;
    world.quiet().await;
    assert_eq!(rogue.repo.remote_branches().len(), 5, "what was pushed stays");
    // A folder without `.git`, or a file, is nobody's to remove.
    let of =
        |issue: usize| rogue.repo.root.join(format!("automation/trees/{issue}-{}", ids[issue - 1]));
    let trees = rogue.repo.root.join("automation/trees");
    let left: Vec<_> = std::fs::read_dir(trees).unwrap().flatten().map(|e| e.path()).collect();
    assert_eq!(left.len(), 3, "{left:?} {:?}", of(2));
    assert_eq!(rogue.repo.git(&["rev-list", "--count", "main"]), "1");
    all_is_well(&world, &rogue, &client).await;
}

/// What an agent leaves holds neither its own phase nor the next one up.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_leaves_somebody_with_its_output_is_not_waited_for() {
    let world = World::new().await;
    let leave = "(setsid setsid sleep 1005 &) ; setsid sleep 1006 & :";
    let repo = shop(&world, &Agent::good().on("implementor", leave));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let run = crate::crash_support::ends_well(&world, &repo, &client, &id).await;
    assert_eq!(run["status"], "completed");
    assert_eq!(repo.pulls().len(), 1);
}
