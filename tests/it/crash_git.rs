//! A git of a phase is killed while it holds a lock: on the index, or on the branch and HEAD. git
//! itself would refuse every later commit; the next attempt works.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::crash_support::{
    attempts, counts, ends_well, kill9, nothing_is_left, resume, shop, trigger_issue,
};
use crate::world::procs::Proc;
use crate::world::{Agent, Repo, World, wait_removed, wait_status};

/// Has the first `git add` of the build phase stand at a gate with the index locked: a filter runs.
fn stand_with_index(world: &World, repo: &Repo) {
    let filter = world.program("filter", &gated("cat >/dev/null; gate first; exit 1"));
    repo.git(&["config", "filter.slow.clean", &filter.display().to_string()]);
    repo.write(".gitattributes", "agent-*.txt filter=slow\n");
    repo.git(&["add", ".gitattributes"]);
    repo.git(&["commit", "-q", "-m", "a filter"]);
    repo.git(&["push", "-q"]);
}

/// Has the first commit of the build phase stand with HEAD and its branch locked: a hook runs.
fn stand_with_refs(_: &World, repo: &Repo) {
    let script = gated(
        "if [ \"$1\" = prepared ] && [ -e agent-1.txt ] && grep -q ' refs/heads/.*-1-'; then gate first; fi
        exit 0",
    );
    let hook = repo.root.join(".git/hooks/reference-transaction");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, script).unwrap();
    fs::set_permissions(hook, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A script that does this the first time, and hands its input on the other times.
fn gated(first: &str) -> String {
    format!(
        r#"#!/bin/sh
gate() {{
    : >"$HOME/at-$1"
    while [ ! -e "$HOME/open-$1" ]; do sleep 0.05; done
}}
if [ ! -e "$HOME/at-first" ]; then
    {first}
fi
cat
"#
    )
}

async fn killed(stand: fn(&World, &Repo), locks: &[&str], by_itself: bool) {
    let world = World::new().await;
    world.set("retry.max_attempts", if by_itself { "2" } else { "1" });
    let repo = shop(&world, &Agent::good());
    stand(&world, &repo);
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    world.at_gate("first").await;
    let of_git = |p: &Proc| p.argv[0] == "git" || p.argv[0].ends_with("/git");
    let found: Vec<Proc> = world.processes().into_iter().filter(of_git).collect();
    assert!(!found.is_empty(), "{:#?}", world.processes());
    for lock in locks {
        let tree =
            fs::read_dir(repo.root.join(".git/worktrees")).unwrap().flatten().next().unwrap();
        assert!(tree.path().join(lock).exists(), "it holds {lock}");
    }
    found.iter().for_each(|p| kill9(p.pid));
    if !by_itself {
        let run = wait_status(&client, &id, "failed").await;
        let failure = &run["failure"];
        assert_eq!(
            (&failure["class"], &failure["phase"]),
            (&json!("git"), &json!("build")),
            "{run:#}"
        );
        assert_eq!(failure["retryable"], true, "{run:#}");
        resume(&client, &id).await;
    }
    wait_status(&client, &id, "completed").await;
    let run = wait_removed(&client, &id).await;
    assert_eq!(counts(&run), [1, 2, 1], "{run:#}");
    let failure = &attempts(&run, "build")[0]["failure"];
    assert_eq!(failure["class"], "git", "{failure:#}");
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("was killed (signal 9)"), "{message}");
    assert_eq!(repo.pulls().len(), 1);
    nothing_is_left(&world, &repo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_that_was_killed_with_the_index_locked_does_not_spoil_the_next_attempt() {
    killed(stand_with_index, &["index.lock"], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_that_was_killed_with_its_branch_locked_does_not_spoil_the_next_attempt() {
    killed(stand_with_refs, &["HEAD.lock"], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_it_spoil_a_resume() {
    killed(stand_with_index, &["index.lock"], false).await;
}

/// What a commit or a switch locks beside the worktree's own; another run's git may need it at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_git_that_was_killed_with_shared_records_locked_leaves_them_to_nobody() {
    let world = World::new().await;
    let order = "[ -e \"$HOME/once\" ] || { : >\"$HOME/once\"; \
        : >\"$(git rev-parse --git-common-dir)/packed-refs.lock\"; exit 9; }";
    let repo = shop(&world, &Agent::good().on("implementor", order));
    let theirs = repo.root.join(".git/config.lock");
    fs::write(&theirs, "").unwrap();
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    let run = wait_status(&client, &id, "completed").await;
    assert_eq!(counts(&run), [1, 2, 1], "{run:#}");
    wait_removed(&client, &id).await;
    assert!(theirs.exists(), "it was there before the run");
    fs::remove_file(theirs).unwrap();
    nothing_is_left(&world, &repo).await;
}

/// The daemon's own: each is tried again at once, and the run knows nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_git_of_the_daemon_that_was_killed_is_tried_again() {
    let world = World::new().await;
    let repo = shop(&world, &Agent::good());
    let path = world.env()["PATH"].clone();
    let mut places = path.split(':').map(|dir| format!("{dir}/git"));
    let real = places.find(|git| std::path::Path::new(git).exists()).unwrap();
    let script = format!(
        r#"#!/bin/sh
for word in fetch "worktree add"; do
    mark=$HOME/killed-${{word%% *}}
    case " $* " in *" $word "*) if [ ! -e "$mark" ]; then : >"$mark"; kill -9 $$; fi ;; esac
done
exec {real} "$@"
"#
    );
    world.program("fragile/git", &script);
    world.set_env("PATH", Some(&format!("{}:{path}", world.path("fragile").display())));
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    let id = trigger_issue(&client, 1).await;
    ends_well(&world, &repo, &client, &id).await;
    for word in ["fetch", "worktree"] {
        assert!(world.home().join(format!("killed-{word}")).exists(), "{word} was killed");
    }
}
