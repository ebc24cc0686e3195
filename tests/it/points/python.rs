//! A phase's script dies, as `kill -9` would have it, at each of its writes and programs. Each death
//! costs an attempt; the next one goes on from what is there.

use serde_json::json;

use super::{Armed, failures};
use crate::crash_support::{attempts, trigger};
use crate::e2e_github::GitHub;
use crate::world::{World, wait_status};

/// Points of one phase in the order in which a script passes them.
pub(super) struct Course {
    /// The phase that dies.
    phase: &'static str,
    /// Where; `@n` where earlier phases pass there too.
    pub(super) points: &'static [&'static str],
    /// How often planner, check, implementor and reviewer are asked in all.
    asked: [u32; 4],
}

pub(super) const COURSES: [Course; 5] = [
    // An agent is asked again until its plan is committed and noted. A git that is left alone may
    // still do its work, so of one course either its start is a death or its end.
    Course {
        phase: "plan",
        points: &[
            "marker-printed.ADW_ID",
            "run-locked",
            "file-made.adw_state.json",
            "file-synced.adw_state.json",
            "file-renamed.adw_state.json",
            "marker-printed.STATUS",
            "file-renamed.issue.json",
            "tool-started.git-switch",
            "call-folder-made.planner",
            "file-made.prompt.md",
            "tree-started.ordered",
            "tree-ended.ordered",
            "file-renamed.result.json",
            "plan-written",
            "tool-ended.git-add",
            "tool-ended.git-commit",
            "comment-written",
            "phase-done",
        ],
        asked: [9, 1, 1, 1],
    },
    // Around what is told and moved on the way; a plan that is noted is used again.
    Course {
        phase: "plan",
        points: &[
            "marker-printed.WORKTREE_PATH",
            "tool-ended.git-switch",
            "marker-printed.BRANCH",
            "tool-started.git-commit",
            "marker-printed.PLAN_FILE",
        ],
        asked: [2, 1, 1, 1],
    },
    // Until its work is committed and noted the implementor is asked again, then only what comes
    // after is done again.
    Course {
        phase: "build",
        points: &[
            "call-folder-made.implementor",
            "file-synced.prompt.md@2",
            "tree-started.ordered@2",
            "tree-ended.ordered@2",
            "tool-ended.git-add@2",
            "call-folder-made.check",
            "tree-started.sh",
            "tree-ended.sh",
            "tool-ended.git-commit@2",
            "tool-started.git-push",
            "tool-ended.git-push",
            "file-made.1.md",
            "file-synced.1.md",
            "file-renamed.1.md",
            "pull-made",
            "comment-written@2",
            "phase-done@2",
        ],
        asked: [1, 5, 10, 1],
    },
    Course {
        phase: "build",
        points: &["tool-started.git-commit@2", "marker-printed.PR_URL"],
        asked: [1, 2, 2, 1],
    },
    Course {
        phase: "review",
        points: &[
            "call-folder-made.reviewer",
            "tree-started.ordered@3",
            "tree-ended.ordered@3",
            "file-renamed.result.json@3",
            "marker-printed.PR_URL@2",
            "file-renamed.1.md@2",
            "phase-done@3",
        ],
        asked: [1, 1, 1, 8],
    },
];

/// On a forge that is asked over its program.
pub(super) const GITHUB: &[&str] = &["tool-ended.gh-issue@3", "tool-started.gh-pr@2", "pull-made"];

async fn attempt_after_attempt(course: &Course) {
    let world = World::new().await;
    world.set("retry.max_attempts", "20");
    let armed = Armed::of(&world, &[]);
    let mut daemon = world.daemon().await;
    let run = armed.course(&mut daemon, 1, course.points).await;
    let killed = vec!["failed/internal/137"; course.points.len()];
    assert_eq!(failures(&run, course.phase), killed, "{run:#}");
    for failed in &attempts(&run, course.phase)[..killed.len()] {
        assert_eq!(failed["failure"]["retryable"], true, "{failed:#}");
    }
    let tries = ["plan", "build", "review"]
        .map(|phase| if phase == course.phase { course.points.len() + 1 } else { 1 });
    armed.landed(&daemon.client().await, &run, tries, course.asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_dies_at_each_of_its_writes_is_made_once() {
    attempt_after_attempt(&COURSES[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_dies_at_each_of_its_words_is_made_once() {
    attempt_after_attempt(&COURSES[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_dies_at_each_of_its_writes_is_made_once() {
    attempt_after_attempt(&COURSES[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_dies_at_each_of_its_words_is_made_once() {
    attempt_after_attempt(&COURSES[3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_that_dies_at_each_of_its_writes_is_made_once() {
    attempt_after_attempt(&COURSES[4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_dies_while_it_asks_github_says_nothing_twice() {
    let world = World::new().await;
    let Some(github) = GitHub::of(&world).await else { return };
    let repo = world.repo("shop");
    github.knows(&repo);
    world.serve(&repo, "forge = \"github\"\nforge_repo = \"any.test/o/r\"");
    let armed = Armed::with(&world, repo);
    let daemon = world.daemon().await;
    let client = daemon.client().await;
    armed.arm(GITHUB);
    let id = trigger(&client, json!({ "issue_number": "7" })).await;
    let run = wait_status(&client, &id, "completed").await;
    assert!(armed.left(GITHUB).is_empty(), "{:?}: {run:#}", armed.left(GITHUB));
    assert_eq!(failures(&run, "plan"), ["failed/internal/137"], "{run:#}");
    assert_eq!(failures(&run, "build"), ["failed/internal/137"; 2], "{run:#}");
    let (pull, on_issue, on_pull) = github.only_pull();
    assert_eq!(run["pr_url"], pull["url"], "{run:#}");
    assert_eq!((on_issue.len(), on_pull.len()), (2, 1), "{on_issue:#?}");
    github.quiet().await;
}
