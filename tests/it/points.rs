//! Death at every point of a run (`src/crash`): the daemon, the monitor and the Python side die at
//! each moment at which something is written, started, renamed or committed. Whatever the moment, the
//! run ends as an undisturbed one, or by a failure with a name that the next attempt or a resume
//! mends; nothing is live twice at once, nobody is asked twice for what is done, nothing is left.
//!
//! A course is one run with several deaths, in the order of the points; each is told, so that a
//! failure names the last. `ADWD_TEST_POINTS=each` gives every death of the daemon a run of its own.

mod daemon;
mod monitor;
mod python;
mod steer;
mod table;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::crash_support::{assert_one_at_a_time, attempts, calls, counts, nothing_is_left};
use crate::mcp_support::{Client, params};
use crate::world::{Agent, Daemon, RUN, Repo, World, eventually, wait_removed};

/// Orders for an agent: whoever meets another agent of the run at work says so.
const ALONE: &str = "exec 9>\"$HOME/agent-$ADW_ID\"\nflock -n 9 || : >\"$HOME/twice-$ADW_ID\"";

/// What a look at a course finds.
enum Seen {
    /// The daemon is dead.
    Death,
    /// Somebody else died since.
    Progress,
    /// The run, as it is wanted.
    End(Value),
}

/// A world in which points can be armed.
struct Armed<'w> {
    world: &'w World,
    repo: Repo,
    folder: PathBuf,
}

impl<'w> Armed<'w> {
    /// A world with a repository `shop` whose agent has these orders besides.
    fn of(world: &'w World, orders: &[(&str, &str)]) -> Armed<'w> {
        let repo = world.repo("shop");
        let mut agent = Agent::good();
        for role in ["planner", "implementor", "reviewer"] {
            agent = agent.on(role, ALONE);
        }
        for (role, shell) in orders {
            agent = agent.on(role, shell);
        }
        world.serve(&repo, &world.agent_lines("ordered", &agent));
        Armed::with(world, repo)
    }

    /// A world with that repository, which is served already.
    fn with(world: &'w World, repo: Repo) -> Armed<'w> {
        let folder = world.path("crash");
        fs::create_dir_all(&folder).unwrap();
        world.set_env("ADWD_TEST_CRASH", Some(folder.to_str().unwrap()));
        Armed { world, repo, folder }
    }

    /// Arms these points: `name`, `name.detail`, or either with `@n` for the n-th time.
    fn arm(&self, points: &[&str]) {
        for entry in fs::read_dir(&self.folder).unwrap().flatten() {
            fs::remove_file(entry.path()).unwrap();
        }
        for point in points {
            let file = if point.contains('@') { (*point).to_owned() } else { format!("{point}@1") };
            fs::write(self.folder.join(file), "").unwrap();
        }
    }

    /// Which of these points nobody has died at yet.
    fn left<'p>(&self, points: &[&'p str]) -> Vec<&'p str> {
        let name = |point: &'p str| point.split('@').next().unwrap();
        let reached =
            |point: &'p str| self.folder.join(format!("{}.reached", name(point))).exists();
        points.iter().copied().filter(|point| !reached(point)).collect()
    }

    fn crashes(&self, daemon: &mut Daemon<'_>) -> bool {
        let Some(status) = daemon.ended() else { return false };
        assert_eq!(status.signal(), Some(6), "it died of itself: {status}");
        true
    }

    /// Starts the daemon again, however often it dies while it starts.
    async fn start(&self, daemon: &mut Daemon<'_>, points: &[&str]) {
        loop {
            eprintln!("died; still to come: {:?}", self.left(points));
            match daemon.start_or_end().await {
                Ok(()) => return,
                Err(said) => assert!(said.contains("signal: 6"), "{said}"),
            }
        }
    }

    /// Asks for something until it is answered, well or not; where the daemon dies of it, of the
    /// next one.
    async fn ask(
        &self,
        daemon: &mut Daemon<'_>,
        points: &[&str],
        tool: &str,
        given: Value,
    ) -> Value {
        loop {
            if let Some(answer) = answer(daemon, tool, given.clone()).await {
                return answer;
            }
            eventually("the daemon that gave no answer is dead", RUN, async || {
                if self.crashes(daemon) { Ok(()) } else { Err(format!("{:?}", self.left(points))) }
            })
            .await;
            self.start(daemon, points).await;
        }
    }

    /// Starts the daemon again as often as it dies, until the run looks as wanted and nobody has
    /// still to die. Each death has the time of a whole run.
    async fn until(
        &self,
        daemon: &mut Daemon<'_>,
        points: &[&str],
        id: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        loop {
            let before = self.left(points).len();
            let found = eventually(&format!("run {id} comes further"), RUN, async || {
                if self.crashes(daemon) {
                    return Ok(Seen::Death);
                }
                let run = answer(daemon, "get_adw_state", json!({ "adw_id": id })).await;
                let left = self.left(points);
                match run {
                    Some(run) if wanted(&run) && left.is_empty() => Ok(Seen::End(run)),
                    _ if left.len() < before => Ok(Seen::Progress),
                    run => Err(format!("{left:?} {run:#?}")),
                }
            })
            .await;
            match found {
                Seen::End(run) => return run,
                Seen::Death => self.start(daemon, points).await,
                Seen::Progress => {}
            }
        }
    }

    /// A run of that issue in which the daemon dies at each of these points; its last picture. The
    /// client, who may get no answer, asks with the same key until it has one.
    async fn course(&self, daemon: &mut Daemon<'_>, issue: u32, points: &[&str]) -> Value {
        self.arm(points);
        let key = format!("issue {issue}");
        let given = json!({ "issue_number": issue, "idempotency_key": key });
        let answer = self.ask(daemon, points, "trigger_adw_workflow", given).await;
        let id = answer["adw_id"].as_str().unwrap_or_else(|| panic!("{answer:#}")).to_owned();
        let landed = |run: &Value| {
            let failed = ["failed", "lost", "cancelled", "timed_out"];
            assert!(!failed.iter().any(|status| run["status"] == *status), "{run:#}");
            run["worktree"] == "removed"
        };
        self.until(daemon, points, &id, landed).await
    }

    /// Insists that a run landed, once: these numbers of attempts, these calls of planner, checks,
    /// implementor and reviewer, one pull request, what was asked for on its branch, and nothing left.
    async fn landed(&self, client: &Client, run: &Value, tries: [usize; 3], asked: [u32; 4]) {
        let id = run["adw_id"].as_str().unwrap();
        assert_eq!(run["status"], "completed", "{run:#}");
        let run = wait_removed(client, id).await;
        assert_eq!(counts(&run), tries, "{run:#}");
        let folders = ["plan/planner", "build/check", "build/implementor", "review/reviewer"];
        let mut wanted: Vec<String> = folders
            .iter()
            .zip(asked)
            .flat_map(|(folder, n)| (1..=n).map(move |n| format!("{folder}/{n}")))
            .collect();
        let mut found = calls(&self.repo, id);
        // Beyond nine they are not in the order of their names.
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted, "{run:#}");
        let (branch, n) = (run["branch"].as_str().unwrap(), run["issue_number"].as_str().unwrap());
        let file = format!("agent-{n}.txt");
        assert_eq!(self.repo.file_on(branch, &file), format!("by run {id}"));
        let mut changed = vec![file, run["plan_file"].as_str().unwrap().to_owned()];
        changed.sort();
        assert_eq!(self.repo.changed_on(branch), changed);
        let pulls = self.repo.pulls();
        assert_eq!(pulls.iter().filter(|(_, text)| text.contains(branch)).count(), 1, "{pulls:#?}");
        assert!(!self.world.home().join(format!("twice-{id}")).exists(), "two agents at once");
        assert_one_at_a_time(&self.repo, id);
        nothing_is_left(self.world, &self.repo).await;
        self.no_temporary_file(id);
    }

    /// Nothing that reads like a record, a state or a stop is half written beside the whole one.
    fn no_temporary_file(&self, id: &str) {
        let exclude = self.repo.root.join(".git/info/exclude");
        let text = fs::read_to_string(&exclude).unwrap();
        assert_eq!(text.matches("# adwd begin").count(), 1, "{text}");
        let state = self.repo.root.join("automation/agents").join(id).join("adw_state.json");
        let state: Value = serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
        assert_eq!(state["adw_id"], id);
    }
}

/// What a tool answers, an error too; `None` where the daemon did not live to answer.
async fn answer(daemon: &Daemon<'_>, tool: &str, given: Value) -> Option<Value> {
    let client = daemon.try_client().await?;
    let call = client.call_tool(params(tool, given));
    let result = tokio::time::timeout(Duration::from_secs(RUN), call).await.ok()?.ok()?;
    result.structured_content
}

/// The failed attempts of a phase, as `status/class/code`.
fn failures(run: &Value, phase: &str) -> Vec<String> {
    let failed = attempts(run, phase).iter().filter(|a| a["status"] != "completed");
    failed
        .map(|a| {
            let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
            let code = a["exit_code"].as_i64().map_or_else(|| "-".to_owned(), |c| c.to_string());
            format!("{}/{}/{code}", word(&a["status"]), word(&a["failure"]["class"]))
        })
        .collect()
}
