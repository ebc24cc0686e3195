//! What a world holds, for the rules: stamps, rows, files and git.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use adwd::args;
use adwd::db::Db;
use serde_json::Value;

use super::{Attempt, Event, History, Stamp};
use crate::world::repo::git_at;
use crate::world::{Repo, World};

adwd::row! {
    struct RunRow {
        adw_id: String,
        status: String,
    }
    struct AttemptRow {
        adw_id: String,
        phase: String,
        attempt: i64,
        status: String,
        started_at: i64,
        ended_at: Option<i64>,
        failure: Option<String>,
    }
    struct Count {
        count: i64,
    }
    struct Integrity {
        integrity_check: String,
    }
    struct Orphan {
        parent: String,
    }
}

fn attempt(row: AttemptRow) -> Attempt {
    let failure = row.failure.map(|text| {
        let failure: Value = serde_json::from_str(&text).unwrap();
        let word = |key: &str| failure[key].as_str().unwrap_or_default().to_owned();
        (word("class"), word("message"))
    });
    Attempt {
        run: row.adw_id,
        phase: row.phase,
        attempt: row.attempt,
        status: row.status,
        started_at: row.started_at,
        ended_at: row.ended_at,
        failure,
    }
}

/// What is stored and stamped in a world whose runs have ended, with what its clients were told.
pub async fn history(world: &World, max_running: usize, events: Vec<Event>) -> History {
    let stamps = fs::read_to_string(world.path("stamps/stamps.jsonl")).unwrap();
    let stamps = stamps
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect::<Vec<Stamp>>();
    let db = Db::open(&world.database_url()).await.unwrap();
    let runs: Vec<RunRow> = db.all("SELECT adw_id, status FROM runs", args![]).await.unwrap();
    let attempts: Vec<AttemptRow> = db
        .all(
            "SELECT adw_id, phase, attempt, status, started_at, ended_at, failure FROM attempts",
            args![],
        )
        .await
        .unwrap();
    let keys: Vec<Count> =
        db.all("SELECT COUNT(*) AS count FROM request_keys", args![]).await.unwrap();
    assert_database_is_whole(world, &db).await;
    db.close().await;
    History {
        max_running,
        stamps,
        events,
        runs: runs.into_iter().map(|run| (run.adw_id, run.status)).collect(),
        attempts: attempts.into_iter().map(attempt).collect(),
        keys: usize::try_from(keys[0].count).unwrap(),
    }
}

/// As the engine itself tells it; PostgreSQL has no such question, and refuses orphans at once.
async fn assert_database_is_whole(world: &World, db: &Db) {
    if !world.database_url().starts_with("sqlite:") {
        return;
    }
    let told: Vec<Integrity> = db.all("PRAGMA integrity_check", args![]).await.unwrap();
    let told: Vec<String> = told.into_iter().map(|row| row.integrity_check).collect();
    assert_eq!(told, ["ok"]);
    let orphans: Vec<Orphan> = db.all("PRAGMA foreign_key_check", args![]).await.unwrap();
    let orphans: Vec<String> = orphans.into_iter().map(|row| row.parent).collect();
    assert_eq!(orphans, Vec::<String>::new());
}

/// Nothing half-made is left: git's records are whole and without lock, and no file in the making
/// lies in the folders of state.
pub fn assert_files_are_whole(world: &World, repos: &[&Repo]) {
    let env: Vec<(String, String)> = world.env().into_iter().collect();
    let mut left = vec![];
    let is_temp = |name: &str| name.ends_with(".tmp") || name.starts_with(".tmp");
    find(&world.state_dir(), &is_temp, &mut left);
    for repo in repos {
        for folder in ["automation/agents", "automation/pulls", "automation/trees", "logs"] {
            find(&repo.root.join(folder), &is_temp, &mut left);
        }
        // The lock of ours is a file that stays.
        let is_lock = |name: &str| name.ends_with(".lock") && name != "adwd-worktree.lock";
        for folder in [repo.root.join(".git"), repo.remote.clone()] {
            find(&folder, &is_lock, &mut left);
            git_at(&folder, &env, &["fsck", "--full", "--strict", "--no-dangling"]);
        }
    }
    assert_eq!(left, Vec::<PathBuf>::new());
}

fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&entry.path(), wanted, found);
        } else if wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
}

/// Worktrees, branches and pull requests of a repository are those that its runs claim, no more and
/// no fewer; `runs` are all of them, as shown.
pub fn assert_work_is_as_claimed(repo: &Repo, runs: &[Value]) {
    let text = |run: &Value, key: &str| run[key].as_str().unwrap_or_default().to_owned();
    let present = runs.iter().filter(|run| run["worktree"] == "present");
    let present: BTreeSet<String> = present.map(|run| text(run, "worktree_path")).collect();
    assert_eq!(repo.worktrees().into_iter().collect::<BTreeSet<_>>(), present);
    let by_branch: BTreeMap<String, &Value> =
        runs.iter().map(|run| (text(run, "branch"), run)).filter(|(b, _)| !b.is_empty()).collect();
    for branch in repo.remote_branches().into_iter().chain(repo.local_branches()) {
        let ours = by_branch.contains_key(&branch)
            || runs
                .iter()
                .any(|run| run["branch"].is_null() && branch.contains(&text(run, "adw_id")));
        assert!(ours, "branch {branch} is of none of {:?}", by_branch.keys());
    }
    let pulls = repo.pulls();
    for (path, pull) in &pulls {
        let of = runs
            .iter()
            .filter(|run| pull.contains(&format!("\nadw_id: \"{}\"", text(run, "adw_id"))));
        assert_eq!(of.count(), 1, "{}: {pull}", path.display());
    }
    for run in runs.iter().filter(|run| run["status"] == "completed") {
        let (branch, n) = (text(run, "branch"), text(run, "issue_number"));
        let mut own =
            pulls.iter().filter(|(_, pull)| pull.contains(&format!("\nhead: \"{branch}\"")));
        let (path, _) = own.next().unwrap_or_else(|| panic!("no pull request of {run:#}"));
        assert_eq!(text(run, "pr_url"), format!("file://{}", path.display()));
        assert!(own.next().is_none(), "a second pull request of {run:#}");
        assert_eq!(run["worktree"], "removed", "{run:#}");
        let by = format!("by run {}", text(run, "adw_id"));
        assert_eq!(repo.file_on(&branch, &format!("agent-{n}.txt")), by, "{run:#}");
    }
}
