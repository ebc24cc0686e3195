//! What the crash tests share: starting a run, what it left, and what must hold at the end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use adwd::runs::records::{ExitRecord, StartRecord};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::mcp_support::{Client, ok};
use crate::world::procs::Proc;
use crate::world::{Agent, Repo, SOON, World, eventually, wait_removed, wait_status};

/// The roles of a run whose issue has a label, in the order of their phases.
pub const ROLES: [(&str, &str); 3] =
    [("plan", "planner"), ("build", "implementor"), ("review", "reviewer")];

/// The agent calls, and the check, of a run in which nothing was done twice.
pub const CALLS_ONCE: [&str; 4] =
    ["plan/planner/1", "build/check/1", "build/implementor/1", "review/reviewer/1"];

/// Triggers a run; its id.
pub async fn trigger(client: &Client, given: Value) -> String {
    let answer = ok(client, "trigger_adw_workflow", given).await;
    answer["adw_id"].as_str().unwrap().to_owned()
}

/// Triggers a run of issue `n`; its id.
pub async fn trigger_issue(client: &Client, n: u32) -> String {
    trigger(client, json!({ "issue_number": n })).await
}

pub async fn cancel(client: &Client, id: &str) -> Value {
    ok(client, "cancel_adw_workflow", json!({ "adw_id": id })).await
}

pub async fn resume(client: &Client, id: &str) -> Value {
    ok(client, "resume_adw_workflow", json!({ "adw_id": id })).await
}

/// A repository whose agent has these orders, served.
pub fn shop(world: &World, agent: &Agent) -> Repo {
    let repo = world.repo("shop");
    world.serve(&repo, &world.agent_lines("ordered", agent));
    repo
}

/// The attempts of a phase, as shown.
pub fn attempts<'v>(run: &'v Value, phase: &str) -> &'v [Value] {
    let phases = run["phases"].as_array().unwrap();
    let found = phases.iter().find(|p| p["phase"] == phase).unwrap();
    found["attempts"].as_array().unwrap()
}

/// How many attempts plan, build and review had.
pub fn counts(run: &Value) -> [usize; 3] {
    ["plan", "build", "review"].map(|phase| attempts(run, phase).len())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The recorded agent calls of a run, as `phase/role/n`.
pub fn calls(repo: &Repo, id: &str) -> Vec<String> {
    let root = repo.root.join("automation/agents").join(id);
    let mut found = vec![];
    for phase in ["plan", "build", "review"] {
        for role in names(&root.join(phase)) {
            let numbers = names(&root.join(phase).join(&role));
            found.extend(numbers.iter().map(|n| format!("{phase}/{role}/{n}")));
        }
    }
    found
}

/// The folder of an attempt.
pub fn attempt_dir(repo: &Repo, id: &str, phase: &str, attempt: u32) -> PathBuf {
    repo.root.join(format!("logs/{}/local/{id}/{phase}/{attempt}", repo.name))
}

pub fn start_record(dir: &Path) -> Option<StartRecord> {
    serde_json::from_slice(&fs::read(dir.join("start.json")).ok()?).ok()
}

pub fn exit_record(dir: &Path) -> Option<ExitRecord> {
    serde_json::from_slice(&fs::read(dir.join("exit.json")).ok()?).ok()
}

/// The attempts of a run did not overlap, as their own records have it.
pub fn assert_one_at_a_time(repo: &Repo, id: &str) {
    let mut spans = vec![];
    for phase in ["plan", "build", "review"] {
        for n in 1.. {
            let dir = attempt_dir(repo, id, phase, n);
            if !dir.exists() {
                break;
            }
            let Some(start) = start_record(&dir) else { continue };
            if let Some(exit) = exit_record(&dir) {
                spans.push((start.started_at, exit.ended_at, dir));
            }
        }
    }
    spans.sort();
    for pair in spans.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two attempts at once: {pair:#?}");
    }
}

/// What a run came to, without what differs from run to run.
pub fn shape(repo: &Repo, run: &Value) -> String {
    let (id, n) = (run["adw_id"].as_str().unwrap(), run["issue_number"].as_str().unwrap());
    let branch = run["branch"].as_str().unwrap_or_default();
    let phases: Vec<Value> = run["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            let tries = p["attempts"].as_array().unwrap().iter();
            let tries: Vec<Value> =
                tries.map(|a| json!([a["attempt"], a["status"], a["exit_code"]])).collect();
            json!([p["phase"], p["status"], tries, p["usage"]["agent_calls"]])
        })
        .collect();
    let pulls = repo.pulls().into_iter().filter(|(_, text)| text.contains(branch)).count();
    let whole = json!({
        "status": run["status"], "class": run["issue_class"], "phases": phases, "branch": branch,
        "plan": run["plan_file"], "failure": run["failure"], "worktree": run["worktree"],
        "changed": repo.changed_on(branch), "calls": calls(repo, id), "pulls": pulls,
    });
    let text = serde_json::to_string_pretty(&whole).unwrap();
    text.replace(id, "ID")
        .replace(&format!("specs/{n}-"), "specs/N-")
        .replace(&format!("-{n}-"), "-N-")
        .replace(&format!("agent-{n}."), "agent-N.")
}

/// Waits for a good end, and insists that nothing was done twice and nothing is left.
pub async fn ends_well(world: &World, repo: &Repo, client: &Client, id: &str) -> Value {
    wait_status(client, id, "completed").await;
    let run = wait_removed(client, id).await;
    assert_eq!(counts(&run), [1, 1, 1], "{run:#}");
    assert_eq!(calls(repo, id), CALLS_ONCE);
    assert_one_at_a_time(repo, id);
    nothing_is_left(world, repo).await;
    run
}

/// No process, no worktree, no half-made git record or lock file.
pub async fn nothing_is_left(world: &World, repo: &Repo) {
    world.quiet().await;
    eventually("git's records are whole", SOON, async || {
        let left = git_locks(&repo.root.join(".git"));
        let trees = repo.worktrees();
        if left.is_empty() && trees.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?} {trees:?}"))
        }
    })
    .await;
    assert_eq!(names(&repo.root.join("automation/trees")), Vec::<String>::new());
}

fn git_locks(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() && name != "objects" {
            found.extend(git_locks(&path));
        } else if path.extension().is_some_and(|e| e == "lock") && name != "adwd-worktree.lock" {
            found.insert(path);
        }
    }
    found
}

/// The monitor of the phase that runs.
pub async fn monitor(world: &World) -> Proc {
    eventually("a monitor lives", SOON, async || {
        world.processes().into_iter().find(Proc::is_monitor).ok_or_else(|| "none".to_owned())
    })
    .await
}

/// The process of the phase whose arguments hold all these words.
pub fn process(world: &World, words: &[&str]) -> Proc {
    let all = world.processes();
    let fits =
        |p: &&Proc| !p.is_monitor() && words.iter().all(|w| p.argv.iter().any(|a| a.contains(w)));
    all.iter().find(fits).cloned().unwrap_or_else(|| panic!("no {words:?} in {all:#?}"))
}

pub fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

pub fn kill9(pid: i32) {
    send(pid, Signal::SIGKILL);
}

/// Waits until an attempt's end is recorded.
pub async fn recorded(dir: &Path) -> ExitRecord {
    eventually("the end is recorded", SOON, async || {
        exit_record(dir).ok_or_else(|| format!("{:?}", names(dir)))
    })
    .await
}
