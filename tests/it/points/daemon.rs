//! The daemon dies, at each statement and at each file of a run.

use std::fs;

use serde_json::{Value, json};

use super::{Armed, answer};
use crate::crash_support::{counts, ends_well, shape};
use crate::mcp_support::ok;
use crate::world::{Daemon, SOON, World, eventually};

/// Each statement that stores something of a run, before and after its commit.
pub(super) const STATEMENTS: &[&[&str]] = &[
    &[
        "trigger-uncommitted",
        "trigger-stored",
        "status-unmoved.starting",
        "status-moved.starting",
        "prepared-unstored",
        "prepared-stored",
        "running-unstored",
        "running-stored",
    ],
    &[
        "attempt-unbegun",
        "attempt-begun",
        "attempt-not-running",
        "attempt-running",
        "tell-unstored",
        "tell-stored",
        "spending-uncommitted",
        "spending-stored",
    ],
    &[
        "attempt-unended",
        "attempt-ended",
        "attempt-begun@2",
        "attempt-running@3",
        "run-unfinished.completed",
        "run-finished.completed",
        "removal-unstored",
        "removal-stored",
    ],
];

/// Each file and each program of a run that is the daemon's. A git that is left alone may still do its
/// work, so after the start of a removal none of its other points is sure to be passed.
pub(super) const FILES: &[&[&str]] = &[
    &[
        // First, for where each has a run: only the first run of a world makes the environment.
        "command-started.uv-sync",
        "trigger-noted",
        "command-started.git-fetch-origin",
        "exclude-written",
        "exclude-renamed",
        "command-started.git-worktree-add",
        "attempt-folder-made",
        "command-started.git-worktree-remove",
    ],
    &[
        "record-written.spec.json",
        "record-synced.spec.json",
        "record-renamed.spec.json",
        "monitor-log-made",
        "monitor-launched",
        "worktree-gone",
    ],
];

/// What somebody else's crash left, and this one dies while it mends it.
pub(super) const MENDED: &[&str] = &["half-made-tree-gone", "commondir-mended"];

/// A run by hand: found, and seen to change.
pub(super) const FOREIGN: [&[&str]; 2] = [
    &["foreign-uncommitted", "foreign-stored", "carry-uncommitted", "carried"],
    &["foreign-unchanged", "foreign-changed"],
];

/// The courses, or each of their points alone where that is asked for.
fn courses(all: &'static [&'static [&'static str]]) -> Vec<Vec<&'static str>> {
    if std::env::var("ADWD_TEST_POINTS").is_ok_and(|how| how == "each") {
        return all.concat().into_iter().map(|point| vec![point]).collect();
    }
    all.iter().map(|course| course.to_vec()).collect()
}

/// Runs the courses, and an undisturbed run that all of them must look like.
async fn as_undisturbed(world: &World, all: &'static [&'static [&'static str]]) {
    let armed = Armed::of(world, &[]);
    let mut daemon = world.daemon().await;
    let mut shapes = vec![];
    for (n, course) in (1..).zip(courses(all)) {
        armed.repo.issue(n);
        let run = armed.course(&mut daemon, n, &course).await;
        let client = daemon.client().await;
        let run = ends_well(world, &armed.repo, &client, run["adw_id"].as_str().unwrap()).await;
        armed.landed(&client, &run, [1, 1, 1], [1; 4]).await;
        let runs = ok(&client, "list_adw_workflows", json!({})).await;
        let of_issue = |run: &&Value| run["issue_number"] == n.to_string().as_str();
        let runs = runs["workflows"].as_array().unwrap().iter().filter(of_issue).count();
        assert_eq!(runs, 1, "the request that was asked again is one run");
        shapes.push((course, shape(&armed.repo, &run)));
        let _ = fs::remove_file(armed.repo.root.join(".git/info/exclude"));
    }
    let n = u32::try_from(shapes.len()).unwrap() + 1;
    armed.repo.issue(n);
    let calm = armed.course(&mut daemon, n, &[]).await;
    let calm = shape(&armed.repo, &calm);
    for (course, disturbed) in shapes {
        assert_eq!(disturbed, calm, "after {course:?}");
    }
}

crate::in_worlds_on_both_engines!(
    killed_at_the_statements_of_a_start_the_run_ends_as_undisturbed,
    killed_at_the_statements_of_an_attempt_the_run_ends_as_undisturbed,
    killed_at_the_statements_of_an_end_the_run_ends_as_undisturbed,
    killed_at_what_it_sees_of_others_each_is_listed_and_counted_once,
);

async fn killed_at_the_statements_of_a_start_the_run_ends_as_undisturbed(world: World) {
    as_undisturbed(&world, &STATEMENTS[..1]).await;
}

async fn killed_at_the_statements_of_an_attempt_the_run_ends_as_undisturbed(world: World) {
    as_undisturbed(&world, &STATEMENTS[1..2]).await;
}

async fn killed_at_the_statements_of_an_end_the_run_ends_as_undisturbed(world: World) {
    as_undisturbed(&world, &STATEMENTS[2..]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_the_files_and_programs_of_a_run_it_ends_as_undisturbed() {
    as_undisturbed(&World::new().await, FILES).await;
}

/// A worktree that a killed `git worktree add` left half made, and one whose record lost its way
/// back: the daemon dies while it mends them.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_mends_a_repository_it_mends_it_again() {
    let world = World::new().await;
    let armed = Armed::of(&world, &[]);
    let mut daemon = world.daemon().await;
    let trees = armed.repo.root.join("automation/trees");
    let records = armed.repo.root.join(".git/worktrees");
    for (name, files) in [
        ("half", &[("locked", "initializing"), ("HEAD", "ref: refs/heads/half\n")][..]),
        ("torn", &[("commondir", ""), ("HEAD", "ref: refs/heads/main\n")]),
    ] {
        let (tree, record) = (trees.join(name), records.join(name));
        fs::create_dir_all(&tree).unwrap();
        fs::create_dir_all(&record).unwrap();
        fs::write(tree.join("work"), name).unwrap();
        fs::write(tree.join(".git"), format!("gitdir: {}\n", record.display())).unwrap();
        fs::write(record.join("gitdir"), format!("{}\n", tree.join(".git").display())).unwrap();
        for (file, text) in files {
            fs::write(record.join(file), text).unwrap();
        }
    }
    let run = armed.course(&mut daemon, 1, MENDED).await;
    assert_eq!((&run["status"], counts(&run)), (&json!("completed"), [1, 1, 1]), "{run:#}");
    assert!(!trees.join("half").exists() && !records.join("half").exists());
    assert_eq!(fs::read_to_string(records.join("torn/commondir")).unwrap(), "../..\n");
    assert_eq!(fs::read_to_string(trees.join("torn/work")).unwrap(), "torn", "it may be work");
    assert_eq!(armed.repo.worktrees(), [trees.join("torn").display().to_string()]);
    world.quiet().await;
}

/// Writes the state of a run by hand.
fn by_hand(armed: &Armed<'_>, build: &str) {
    let usage = json!({ "agent_calls": 1, "input_tokens": 5, "cost_usd": 0.25 });
    let state = json!({
        "schema_version": 1, "adw_id": "hand1", "issue_number": "3",
        "phase_status": { "plan": "completed", "build": build, "review": build },
        "usage": { "plan": usage, "total": usage },
    });
    let file = "automation/agents/hand1/adw_state.json";
    armed.repo.write(file, &state.to_string());
}

async fn killed_at_what_it_sees_of_others_each_is_listed_and_counted_once(world: World) {
    let armed = Armed::of(&world, &[]);
    let mut daemon = world.daemon().await;
    armed.arm(FOREIGN[0]);
    by_hand(&armed, "in_progress");
    let lost = |run: &Value| run["status"] == "lost" && run["usage"]["cost_usd"] == 0.25;
    armed.until(&mut daemon, FOREIGN[0], "hand1", lost).await;
    armed.arm(FOREIGN[1]);
    by_hand(&armed, "completed");
    let done = |run: &Value| run["status"] == "completed";
    let run = armed.until(&mut daemon, FOREIGN[1], "hand1", done).await;
    assert_eq!(run["origin"], "external", "{run:#}");
    spent_once(&mut daemon).await;
    let page = ok(&daemon.client().await, "list_adw_workflows", json!({})).await;
    assert_eq!(page["workflows"].as_array().unwrap().len(), 1, "{page:#}");
    world.quiet().await;
}

async fn spent_once(daemon: &mut Daemon<'_>) {
    eventually("it is counted, and once", SOON, async || {
        let page = answer(daemon, "get_usage", json!({ "by": "run" })).await.unwrap_or_default();
        let line = &page["lines"][0];
        if line["name"] == "hand1" && line["cost_usd"] == 0.25 {
            Ok(())
        } else {
            Err(page.to_string())
        }
    })
    .await;
}
