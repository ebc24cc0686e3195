//! A phase of one's own that does what a test says: a project with its own script under a profile of
//! its own, real uv, real monitor.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::crash_support::{attempt_dir, trigger};
use crate::hostile_support::GROWTH_KIB;
use crate::mcp_support::{Client, ok};
use crate::world::{Daemon, Repo, World, eventually, is_end, quoted, state};

/// What every phase begins with; then come the orders of its issue, then its work. Two processes of
/// one run that live at once write `twice`.
const SCRIPT: &str = r#"
import fcntl, json, os, shutil, signal, subprocess, sys, time
issue, adw_id, phase = sys.argv[1:4]
home, root = os.environ["HOME"], os.environ["ADW_PROJECT_ROOT"]
tree, attempt = os.environ["ADW_WORKTREE_PATH"], os.environ["ADW_ATTEMPT_DIR"]
folder = os.path.join(os.environ["ADW_AGENTS_DIR"], adw_id)
state_file, log = os.path.join(folder, "adw_state.json"), os.path.join(attempt, "execution.log")
branch = f"rogue-{issue}-{adw_id}"
alone = open(f"{home}/alone-{adw_id}", "a")
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    open(f"{home}/twice", "a").write(f"{adw_id} {phase} {attempt}\n")

def gate(name):
    open(f"{home}/at-{name}", "w").close()
    while not os.path.exists(f"{home}/open-{name}"):
        time.sleep(0.05)

def once():
    """Whether this is the first time that a run asks."""
    first = not os.path.exists(f"{home}/once-{adw_id}")
    open(f"{home}/once-{adw_id}", "w").close()
    return first

def git(*args):
    subprocess.run(["git", *args], cwd=tree, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

def save(**more):
    """The state, as it should be written."""
    os.makedirs(folder, exist_ok=True)
    with open(state_file + ".tmp", "w") as file:
        json.dump({"adw_id": adw_id, "issue_number": issue, "branch_name": branch, **more}, file)
    os.replace(state_file + ".tmp", state_file)

def work():
    with open(os.path.join(tree, f"work-{phase}.txt"), "w") as file:
        file.write("done\n")
    git("checkout", "-q", "-B", branch)
    git("add", "--all")
    git("commit", "-q", "-m", f"{phase} of {issue}")
    git("push", "-q", "origin", branch)

save()
print("at work", flush=True)
orders = f"{root}/rogue/{issue}-{phase}.py"
if os.path.exists(orders):
    exec(compile(open(orders).read(), orders, "exec"))
work()
"#;

/// The phases of the profile, and what must hold after each.
const PROFILE: &str = r#"
[[profile]]
name = "rogue"
extends = "adwd"
scripts_from = "project"
argv = ["{script}", "{issue}", "{adw_id}", "{phase}"]
sequence = ["work"]
required_files = []
phases = [
    { name = "work", scripts = ["rogue/phase.py"], post = ["worktree", "new_commit", "pushed"] },
    { name = "again", scripts = ["rogue/phase.py"], post = ["worktree"] },
]
"#;

/// The project.
pub struct Rogue {
    pub repo: Repo,
}

impl Rogue {
    /// Makes it, and has it served.
    pub fn new(world: &World) -> Rogue {
        let repo = world.repo("rogue");
        repo.write("rogue/phase.py", SCRIPT);
        // Nothing of it is part of any commit, and git is not to see it.
        repo.write(".git/info/exclude", "/rogue/\n");
        world.serve(&repo, &format!("profile = \"rogue\"\ncheck_command = \"true\"\n{PROFILE}"));
        world.set("limits.max_running", "8");
        world.set("limits.max_running_per_project", "8");
        Rogue { repo }
    }

    /// What the phase `work` of an issue does before its work, in Python.
    pub fn on(&self, issue: u32, orders: &str) {
        self.on_phase(issue, "work", orders);
    }

    /// What a phase of an issue does before its work, in Python.
    pub fn on_phase(&self, issue: u32, phase: &str, orders: &str) {
        self.repo.write(&format!("rogue/{issue}-{phase}.py"), orders);
    }

    /// Triggers the phase `work` of an issue; the run's id.
    pub async fn start(&self, client: &Client, issue: u32) -> String {
        trigger(client, json!({ "issue_number": issue })).await
    }

    /// The folder of the first attempt of `work`.
    pub fn first(&self, id: &str) -> PathBuf {
        attempt_dir(&self.repo, id, "work", 1)
    }
}

/// The attempts of `work`, as shown.
pub fn tries(run: &Value) -> &[Value] {
    crate::crash_support::attempts(run, "work")
}

/// What a failed run says: status, class, sentence.
pub fn failure(run: &Value) -> (String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let failure = &run["failure"];
    (text(&run["status"]), text(&failure["class"]), text(&failure["message"]))
}

/// Insists that the run failed with that status and class, and that the sentence has these words.
#[track_caller]
pub fn assert_failed(run: &Value, status: &str, class: &str, words: &[&str]) {
    let (was, class_was, said) = failure(run);
    assert_eq!((was.as_str(), class_was.as_str()), (status, class), "{run:#}");
    for word in words {
        assert!(said.contains(word), "{word:?} in {said:?}");
    }
}

/// In the middle of a misbehaving phase: the run is shown as running, and its log is.
pub async fn answers(client: &Client, id: &str) -> (Value, Value) {
    let run = state(client, id).await;
    assert_eq!(run["status"], "running", "{run:#}");
    let log = ok(client, "get_adw_logs", json!({ "adw_id": id, "tail": true })).await;
    (run, log)
}

/// The lines of the whole log of a run, page by page.
pub async fn whole_log(client: &Client, id: &str) -> Vec<String> {
    let (mut lines, mut after) = (vec![], None::<String>);
    loop {
        let mut given = json!({ "adw_id": id, "limit": 1000 });
        if let Some(after) = after {
            given["after"] = json!(after);
        }
        let page = ok(client, "get_adw_logs", given).await;
        let new = page["lines"].as_array().unwrap();
        lines.extend(new.iter().map(|line| line.as_str().unwrap().to_owned()));
        if page["more"] != true {
            return lines;
        }
        after = Some(page["next"].as_str().unwrap().to_owned());
    }
}

/// The end of a run, which whoever waits for it at the shell or follows its log sees too.
pub async fn watched(world: &World, client: &Client, id: &str) -> Value {
    let (waits, follows) = (["wait", id], ["logs", "-f", id]);
    let (waited, followed, run) =
        tokio::join!(world.cli(&waits), world.cli(&follows), ended(client, id));
    let code = i32::from(!matches!(run["status"].as_str(), Some("completed" | "skipped")));
    assert_eq!((waited.code, followed.code), (code, code), "{waited:?} {followed:?} {run:#}");
    run
}

/// Waits for the end of a run that has much to write, on a machine that has much to do.
pub async fn ended(client: &Client, id: &str) -> Value {
    eventually(&format!("run {id} ended"), 400, async || {
        let run = state(client, id).await;
        if is_end(run["status"].as_str().unwrap_or_default()) {
            Ok(run)
        } else {
            Err(run.to_string())
        }
    })
    .await
}

/// At the very end of a test: no process, no two at once, the main checkout as it was, and a next run
/// that goes as ever.
pub async fn all_is_well(world: &World, rogue: &Rogue, client: &Client) {
    world.quiet().await;
    let twice = fs::read_to_string(world.home().join("twice")).unwrap_or_default();
    assert_eq!(twice, "", "two processes of one run lived at once");
    let id = rogue.start(client, 99).await;
    let run = ended(client, &id).await;
    assert_eq!((&run["status"], tries(&run).len()), (&json!("completed"), 1), "{run:#}");
    crate::world::wait_removed(client, &id).await;
    world.quiet().await;
    assert_eq!(rogue.repo.git(&["status", "--porcelain"]), "", "the main checkout is untouched");
    assert_eq!(rogue.repo.git(&["rev-list", "--count", "main"]), "1");
    assert_eq!(rogue.repo.git(&["branch", "--show-current"]), "main");
}

/// The daemon's memory, now and at its largest, in KiB.
pub struct Memory {
    pub now: u64,
    pub peak: u64,
}

/// Reads it.
pub fn memory(daemon: &Daemon<'_>) -> Memory {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    Memory { now: of("VmRSS:"), peak: of("VmHWM:") }
}

/// Prints what a flood did to the daemon's memory, and insists that it stayed flat.
#[track_caller]
pub fn assert_flat(what: &str, daemon: &Daemon<'_>, before: &Memory) {
    let after = memory(daemon);
    eprintln!(
        "{what}: daemon {} KiB before, at most {} KiB, {} KiB after",
        before.now, after.peak, after.now
    );
    let allowed = before.peak.max(before.now) + GROWTH_KIB;
    assert!(after.peak <= allowed, "{what}: it grew to {} of {allowed} KiB", after.peak);
}

/// A Python string.
pub fn py(text: &str) -> String {
    quoted(text)
}
