//! The campaign: runs of several projects go on while parts of the program are killed at random
//! moments, and clients trigger, poll, cancel and resume through all of it. Whatever the moments
//! were, the rules of [`crate::invariants`] hold.
//!
//! Who is killed decides what may be expected. A run of which only the daemon was killed ends as an
//! undisturbed one, with nothing done twice. One in whose tree something was killed may fail, with a
//! named failure, and a resume mends it.
//!
//! The form that CI has is 6 runs and 10 kills on each engine. The nightly one:
//! `ADWD_TEST_RUNS=40 ADWD_TEST_KILLS=200 cargo test --test it -- crash_random --nocapture`;
//! `ADWD_TEST_SEED` repeats the dice of an earlier one (each prints its own), though not what the
//! machine made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rmcp::ClientServiceExt;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::crash_support::{CALLS_ONCE, assert_one_at_a_time, calls, counts};
use crate::invariants::{
    Event, assert_files_are_whole, assert_work_is_as_claimed, history, is_end, violations,
};
use crate::mcp_support::{Client, Ear, Era, lifecycle, params};
use crate::world::procs::Proc;
use crate::world::{Daemon, Repo, World, eventually, quoted, state, wait_removed};

const PROJECTS: [&str; 3] = ["shop", "yard", "mill"];
const MAX_RUNNING: usize = 3;
/// How long a run may take under fire, and how often it may have to be resumed.
const UNDER_FIRE_S: u64 = 900;
const RESUMES: usize = 20;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// The moment is the campaign's input, so it is waited for, not polled.
    async fn moment(&mut self, below_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(below_ms))).await;
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What everybody in a campaign shares.
struct Campaign {
    seed: u64,
    runs: u64,
    kills: u64,
    socket: PathBuf,
    killed: AtomicU64,
    over: AtomicBool,
    events: Mutex<Vec<Event>>,
    /// Ids of the runs, as they were answered, by their number in the campaign.
    known: Mutex<BTreeMap<u64, String>>,
    /// Numbers of the runs that were asked for and have not ended for good.
    open: Mutex<BTreeSet<u64>>,
    /// Numbers and ids of runs of which more than the daemon was killed, or that were cancelled.
    disturbed: Mutex<(BTreeSet<u64>, BTreeSet<String>)>,
}

impl Campaign {
    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    fn project(&self, n: u64) -> &'static str {
        PROJECTS[usize::try_from(n).unwrap() % PROJECTS.len()]
    }

    fn issue(&self, n: u64) -> u64 {
        n / PROJECTS.len() as u64 + 1
    }
}

/// A client that asks until it is answered, with a new connection wherever the daemon was killed.
struct Steady<'c> {
    campaign: &'c Campaign,
    client: Option<Client>,
}

impl<'c> Steady<'c> {
    fn of(campaign: &'c Campaign) -> Steady<'c> {
        Steady { campaign, client: None }
    }

    /// The answer, or the refusal. `note` is what each try counts as, before it is sent.
    async fn ask(&mut self, tool: &str, given: Value, note: Option<Event>) -> Result<Value, Value> {
        eventually(&format!("{tool} {given} is answered"), UNDER_FIRE_S, async || {
            if let Some(event) = &note {
                self.campaign.note(event.clone());
            }
            let answer = self.once(tool, given.clone()).await;
            if answer.is_err() {
                self.client = None;
            }
            answer
        })
        .await
    }

    async fn once(&mut self, tool: &str, given: Value) -> Result<Result<Value, Value>, String> {
        let bound = Duration::from_secs(60);
        let said = |e: &dyn std::fmt::Display| e.to_string();
        if self.client.is_none() {
            let stream = UnixStream::connect(&self.campaign.socket).await.map_err(|e| said(&e))?;
            let hello = Ear::named("steady").serve_with_lifecycle(stream, lifecycle(Era::Modern));
            let hello = tokio::time::timeout(bound, hello).await.map_err(|e| said(&e))?;
            self.client = Some(hello.map_err(|e| said(&e))?);
        }
        let call = self.client.as_ref().unwrap().call_tool(params(tool, given));
        let result = tokio::time::timeout(bound, call).await.map_err(|e| said(&e))?;
        let result = result.map_err(|e| said(&e))?;
        let content = result.structured_content.unwrap_or_default();
        if result.is_error == Some(true) {
            return Ok(Err(content["error"].clone()));
        }
        Ok(Ok(content))
    }

    /// Looks at a run, and notes what is seen.
    async fn look(&mut self, poller: usize, run: &str) -> Value {
        let seen = self.ask("get_adw_state", json!({ "adw_id": run }), None).await.unwrap();
        self.campaign.note(Event::Saw {
            poller,
            run: run.to_owned(),
            status: seen["status"].as_str().unwrap().to_owned(),
            revision: seen["revision"].as_i64().unwrap(),
            state_at: seen["state"]["updated_at"].as_str().unwrap_or_default().to_owned(),
        });
        seen
    }
}

/// Scripts of the project's own, which are ours but for their stamps, and an agent that stamps.
fn stamped(world: &World, name: &str, issues: u64) -> Repo {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stamps = world.path("stamps");
    fs::create_dir_all(&stamps).unwrap();
    fs::write(stamps.join("span_ms"), number("ADWD_TEST_SPAN_MS", 800).to_string()).unwrap();
    let fixture = |file: &str| fs::read_to_string(ours.join("tests/fixtures/campaign").join(file));
    world.write("stamps/stamp.py", &fixture("stamp.py").unwrap());
    let agent = world.program("stamps/agent.py", &fixture("agent.py").unwrap());
    let repo = world.repo(name);
    (1..=issues).for_each(|n| repo.issue(u32::try_from(n).unwrap()));
    let scripts = repo.root.join("automation/adws");
    copy(&ours.join("automation/adws"), &scripts);
    let plain = "from adw_modules.entry import script\n";
    let with_stamps = format!(
        "sys.path.insert(0, {:?})\nimport stamp\nfrom adw_modules import entry\n{plain}\n\
         unstamped = entry.main\n\n\ndef stamped(kind):\n    with stamp.living(\"phase\"):\n        \
         return unstamped(kind)\n\n\nentry.main = stamped\n",
        stamps.display().to_string()
    );
    for phase in crate::invariants::PHASES {
        let path = scripts.join(format!("adw_phases/adw_{phase}.py"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(plain), "{text}");
        fs::write(path, text.replace(plain, &with_stamps)).unwrap();
    }
    let command = quoted(&agent.display().to_string());
    world.serve(&repo, &format!("agent = \"command\"\nagent_command = {command}\n"));
    repo
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_name().to_str() {
            Some("__pycache__" | "adw_tests") => {}
            _ if path.is_dir() => copy(&path, &target),
            _ => drop(fs::copy(path, target).unwrap()),
        }
    }
}

crate::in_worlds_on_both_engines!(killed_at_random_moments_all_runs_end_well);

async fn killed_at_random_moments_all_runs_end_well(world: World) {
    let began = Instant::now();
    let campaign = Campaign {
        seed: number("ADWD_TEST_SEED", 20_260_221),
        runs: number("ADWD_TEST_RUNS", 6),
        kills: number("ADWD_TEST_KILLS", 10),
        socket: world.socket(),
        killed: AtomicU64::default(),
        over: AtomicBool::default(),
        events: Mutex::default(),
        known: Mutex::default(),
        open: Mutex::default(),
        disturbed: Mutex::default(),
    };
    eprintln!("ADWD_TEST_SEED={}", campaign.seed);
    world.set("limits.max_running", &MAX_RUNNING.to_string());
    world.set("limits.max_running_per_project", "2");
    let issues = campaign.issue(campaign.runs);
    let repos = PROJECTS.map(|name| stamped(&world, name, issues));
    let mut daemon = world.daemon().await;
    let steering = async {
        join_all((0..campaign.runs).map(|n| steer(&campaign, n))).await;
        campaign.over.store(true, Ordering::Relaxed);
    };
    tokio::join!(
        steering,
        slay(&campaign, &world, &mut daemon),
        poll(&campaign, 0),
        poll(&campaign, 1)
    );
    judge(&campaign, &world, &repos, &mut daemon).await;
    eprintln!("{} kills, {} runs, {:?}", campaign.kills, campaign.runs, began.elapsed());
}

/// Brings one run to its end, through kills: triggers it with a key, sometimes twice, sometimes
/// cancels it, and resumes it as long as it has not come to a good end.
async fn steer(campaign: &Campaign, n: u64) {
    let mut dice = Dice(campaign.seed ^ (n + 1).wrapping_mul(0x1234_5678_9abc));
    eventually("its turn has come", UNDER_FIRE_S * 4, async || {
        let turn = n * campaign.kills / campaign.runs;
        if campaign.killed.load(Ordering::Relaxed) >= turn { Ok(()) } else { Err(String::new()) }
    })
    .await;
    campaign.open.lock().unwrap().insert(n);
    let mut client = Steady::of(campaign);
    let key = format!("campaign-{n}");
    let given = json!({
        "project": campaign.project(n), "issue_number": campaign.issue(n), "idempotency_key": key,
    });
    let mut id = String::new();
    for _ in 0..=dice.below(2) {
        let answer = client.ask("trigger_adw_workflow", given.clone(), None).await.unwrap();
        answer["adw_id"].as_str().unwrap().clone_into(&mut id);
        campaign.note(Event::Accepted { key: key.clone(), run: id.clone() });
    }
    campaign.known.lock().unwrap().insert(n, id.clone());
    let fate = dice.below(6);
    if fate < 2 {
        dice.moment(6_000).await;
        campaign.disturbed.lock().unwrap().0.insert(n);
        let seen = client.ask("cancel_adw_workflow", json!({ "adw_id": id }), None).await.unwrap();
        let status = seen["status"].as_str().unwrap().to_owned();
        campaign.note(Event::Cancelled { run: id.clone(), status });
    }
    for _ in 0..RESUMES {
        let status = ended(campaign, &mut client, n, &id).await;
        if status == "completed" || (status == "cancelled" && fate == 1) {
            campaign.open.lock().unwrap().remove(&n);
            return;
        }
        campaign.disturbed.lock().unwrap().0.insert(n);
        let reviving = Event::Reviving { run: id.clone() };
        // Refused where an earlier try, whose answer was lost, has done it.
        let asked =
            client.ask("resume_adw_workflow", json!({ "adw_id": id }), Some(reviving)).await;
        assert!(asked.is_ok() || asked.as_ref().unwrap_err()["code"] == "wrong_state", "{asked:?}");
    }
    panic!("run {id} does not come to an end: {:#}", client.look(1_000, &id).await);
}

async fn ended(campaign: &Campaign, client: &mut Steady<'_>, n: u64, id: &str) -> String {
    let poller = 10 + usize::try_from(n).unwrap();
    eventually(&format!("run {id} ended"), UNDER_FIRE_S, async || {
        let wait = json!({ "adw_id": id, "timeout_s": 10 });
        client.ask("wait_adw_workflow", wait, None).await.unwrap();
        let run = client.look(poller, id).await;
        let status = run["status"].as_str().unwrap().to_owned();
        if !is_end(&status) {
            return Err(run.to_string());
        }
        if status != "completed" {
            eprintln!(
                "run {n} ({id}) ended {status}: {} {}",
                run["failure"]["class"], run["failure"]["message"]
            );
        }
        campaign.note(Event::Ended { run: id.to_owned(), status: status.clone() });
        Ok(status)
    })
    .await
}

/// Looks at every run again and again.
async fn poll(campaign: &Campaign, poller: usize) {
    let mut client = Steady::of(campaign);
    let mut dice = Dice(campaign.seed + poller as u64);
    while !campaign.over.load(Ordering::Relaxed) {
        let known: Vec<String> = campaign.known.lock().unwrap().values().cloned().collect();
        for id in known {
            client.look(poller, &id).await;
        }
        dice.moment(400).await;
    }
}

/// Kills, at random moments, whoever the dice say.
async fn slay(campaign: &Campaign, world: &World, daemon: &mut Daemon<'_>) {
    let mut dice = Dice(campaign.seed);
    while campaign.killed.load(Ordering::Relaxed) < campaign.kills {
        dice.moment(1_500).await;
        let role = ["monitor", "uv", "python", "agent", "git"].get(dice.below(12) as usize);
        let Some(role) = role else {
            daemon.kill9().await;
            dice.moment(300).await;
            daemon.start().await;
            let kills = campaign.killed.fetch_add(1, Ordering::Relaxed) + 1;
            eprintln!("kill {kills}: the daemon");
            continue;
        };
        if let Some(victim) = find(world, role, &mut dice).await {
            // Told first: what follows from the kill must not find it untold.
            disturb(campaign, &victim);
            let done = kill(Pid::from_raw(victim.pid), Signal::SIGKILL).is_ok();
            let kills = campaign.killed.fetch_add(u64::from(done), Ordering::Relaxed) + 1;
            eprintln!("kill {kills}: {role} {} {:?} {done}", victim.pid, victim.argv);
        }
    }
}

/// Somebody of that role, waited for a moment: a git lives shortly.
async fn find(world: &World, role: &str, dice: &mut Dice) -> Option<Proc> {
    let is = |p: &Proc, name: &str| {
        p.argv.first().is_some_and(|a| a == name || a.ends_with(&format!("/{name}")))
    };
    let has = |p: &Proc, part: &str| p.argv.iter().any(|a| a.contains(part));
    for _ in 0..40 {
        let mut found = world.processes();
        found.retain(|p| match role {
            "monitor" => p.is_monitor(),
            "python" => has(p, "adw_phases/adw_") && !is(p, "uv") && !p.is_monitor(),
            "agent" => has(p, "stamps/agent.py"),
            _ => is(p, role),
        });
        if !found.is_empty() {
            return Some(found.swap_remove(dice.below(found.len() as u64) as usize));
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    None
}

/// Notes whose tree something was killed in: that of one run, or nobody's in particular.
fn disturb(campaign: &Campaign, victim: &Proc) {
    let folder = victim.attempt.clone().or_else(|| victim.argv.get(2).map(PathBuf::from));
    let run = folder.filter(|_| victim.attempt.is_some() || victim.is_monitor());
    let run = run.and_then(|f| Some(f.parent()?.parent()?.file_name()?.to_str()?.to_owned()));
    let mut disturbed = campaign.disturbed.lock().unwrap();
    match run {
        Some(run) => drop(disturbed.1.insert(run)),
        None => disturbed.0.extend(campaign.open.lock().unwrap().iter()),
    }
}

/// When all have ended.
async fn judge(campaign: &Campaign, world: &World, repos: &[Repo; 3], daemon: &mut Daemon<'_>) {
    // A worktree whose removal was killed is left alone for a time, or until the next start.
    daemon.restart().await;
    let client = daemon.client().await;
    let known = campaign.known.lock().unwrap().clone();
    let mut runs: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let (numbers, ids) = campaign.disturbed.lock().unwrap().clone();
    let mut calm = 0;
    for (n, id) in &known {
        let repo = repos.iter().find(|repo| repo.name == campaign.project(*n)).unwrap();
        let run = state(&client, id).await;
        let run = if run["status"] == "completed" { wait_removed(&client, id).await } else { run };
        if !numbers.contains(n) && !ids.contains(id) {
            assert_eq!(run["status"], "completed", "only the daemon was killed: {run:#}");
            assert_eq!(counts(&run), [1, 1, 1], "only the daemon was killed: {run:#}");
            assert_eq!(calls(repo, id), CALLS_ONCE);
            calm += 1;
        }
        assert_one_at_a_time(repo, id);
        runs.entry(&repo.name).or_default().push(run);
    }
    eprintln!("{calm} of {} runs lost no more than their daemon", known.len());
    world.quiet().await;
    let events = campaign.events.lock().unwrap().clone();
    let history = history(world, MAX_RUNNING, events).await;
    assert_eq!(violations(&history), Vec::<String>::new());
    for attempt in history.attempts.iter().filter(|a| a.status != "completed") {
        let (class, message) = attempt.failure.as_ref().unwrap_or_else(|| panic!("{attempt:?}"));
        let named =
            !message.trim().is_empty() && (class != "internal" || message.contains("killed"));
        assert!(named, "a failure without a name: {attempt:?}");
    }
    for repo in repos {
        assert_work_is_as_claimed(repo, runs.get(repo.name.as_str()).map_or(&[], Vec::as_slice));
    }
    assert_files_are_whole(world, &repos.each_ref());
}
