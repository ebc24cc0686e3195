//! What a daemon costs that does nothing, how soon it is back, and how fast it answers "where is it?".
//! `cargo bench --bench footprint`
//!
//! Memory and wake-ups of an idle daemon stand beside a bare HTTP server of the same libraries, which
//! is this program called once more; reads stand beside a ping on the same socket. The runs that live
//! are real ones, under real monitors, whose phase is a `sleep` in the place of uv: what is measured is
//! the daemon and not Python.
// Benchmarks print, read the clock and start programs; that is what they are for.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

#[allow(dead_code, reason = "each benchmark uses a part")]
mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use adwd::args;
use adwd::db::Db;
use common::socket::Socket;
use common::{Client, Table, Times, World};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs that are stored, and how many answers a page holds.
const STORED: usize = 10_000;
const PAGE: usize = 50;
/// Runs that live at once.
const LIVE: usize = 100;
/// How long an idle process is watched.
const IDLE: Duration = Duration::from_secs(20);
/// How often a daemon is started.
const STARTS: usize = 15;
const RESTARTS: usize = 5;

/// The word by which this program is the bare server.
const BARE: &str = "--bare-http-server";

/// In the place of uv: a phase sleeps, everything else succeeds.
const UV: &str = r#"#!/bin/sh
case " $* " in
*" --version "*) echo "uv 0.13.8" ;;
*" python find "*) command -v python3 ;;
*" -c "* | *" sync "*) ;;
*) exec sleep 600 ;;
esac
"#;

/// A repository with a bare remote, and the uv that sleeps.
struct Shop(TempDir);

impl Shop {
    fn new() -> Shop {
        let shop = Shop(tempfile::Builder::new().prefix("adwd-bench-").tempdir_in("/tmp").unwrap());
        let uv = shop.0.path().join("uv");
        std::fs::write(&uv, UV).unwrap();
        std::fs::set_permissions(&uv, std::fs::Permissions::from_mode(0o755)).unwrap();
        shop.git(&["init", "-q", "--bare", "-b", "main", "shop.git"]);
        shop.git(&["init", "-q", "-b", "main", "shop"]);
        std::fs::write(shop.root().join("README.md"), "# A repository\n").unwrap();
        shop.git(&["-C", "shop", "add", "--all"]);
        shop.git(&["-C", "shop", "commit", "-q", "-m", "first"]);
        shop.git(&["-C", "shop", "remote", "add", "origin", "../shop.git"]);
        shop.git(&["-C", "shop", "push", "-q", "-u", "origin", "main"]);
        shop.git(&["-C", "shop", "remote", "set-head", "origin", "main"]);
        shop
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("shop")
    }

    fn git(&self, args: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=bench", "-c", "user.email=bench@example.org"]).args(args);
        let ran = git.current_dir(self.0.path()).output().unwrap();
        assert!(ran.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    fn config(&self) -> String {
        let uv = self.0.path().join("uv").display().to_string();
        let root = self.root().display().to_string();
        format!(
            "uv.path = {uv:?}\nlimits.max_running = {LIVE}\nlimits.max_running_per_project = {LIVE}\n\
             [[project]]\nname = \"shop\"\npath = {root:?}\nagent = \"patch\"\n"
        )
    }
}

/// What the kernel says of a process: resident and private memory in MiB, and how often its threads
/// were woken (each time they went to sleep by themselves).
struct Look {
    resident: f64,
    private: f64,
    wakes: u64,
}

fn look(pid: u32) -> Look {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let kib = |name: &str| -> f64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let wakes = threads.map(|thread| {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    });
    Look {
        resident: kib("Rss:") / 1024.0,
        private: (kib("Private_Clean:") + kib("Private_Dirty:")) / 1024.0,
        wakes: wakes.sum(),
    }
}

/// Prints what an idle process takes; answers its resident memory and wake-ups a second.
fn idle(what: &str, pid: u32, targets: Option<(f64, f64)>) {
    // What was only needed for the start is given back or comes to rest meanwhile.
    std::thread::sleep(Duration::from_secs(3));
    let before = look(pid);
    std::thread::sleep(IDLE);
    let after = look(pid);
    #[allow(clippy::cast_precision_loss, reason = "a count")]
    let wakes = (after.wakes - before.wakes) as f64 / IDLE.as_secs_f64();
    let Look { resident, private, .. } = after;
    let verdict = match targets {
        Some((mib, per_second)) => {
            let missed = if resident > mib || wakes > per_second { "  MISSED" } else { "" };
            format!("most {mib:.0} MiB, {per_second:.0}/s{missed}")
        }
        None => "floor".to_owned(),
    };
    println!(
        "{what:<38} {resident:>6.1} MiB resident {private:>6.1} private {wakes:>6.2} wake-ups/s  {verdict}"
    );
}

/// The bare server: the same HTTP library and runtime, one route.
fn bare() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let router = axum::Router::new().route("/", axum::routing::get(async || "ok"));
        println!("{}", listener.local_addr().unwrap());
        axum::serve(listener, router).await.unwrap();
    });
}

fn memory() {
    println!("idle, watched for {} s", IDLE.as_secs());
    let mut bare: Child = Command::new(std::env::current_exe().unwrap())
        .arg(BARE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    idle("a bare HTTP server", bare.id(), None);
    bare.kill().unwrap();
    bare.wait().unwrap();
    let shop = Shop::new();
    let world = World::start(&shop.config());
    idle("the daemon, a repository served", world.pid(), Some((20.0, 1.0)));
    peer();
}

/// pueue's daemon, where it is on the path.
fn peer() {
    let folder = tempfile::Builder::new().prefix("adwd-bench-").tempdir_in("/tmp").unwrap();
    let mut daemon = Command::new("pueued");
    daemon.env("HOME", folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "PUEUE_CONFIG_PATH"] {
        daemon.env_remove(name);
    }
    daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut daemon) = daemon.spawn() else {
        println!("{:<38} not on PATH", "pueued");
        return;
    };
    idle("pueued", daemon.id(), None);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// Lets the daemon complete what one run is, and stores it `STORED` times under other ids.
fn fill(world: &mut World) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    world.stop();
    runtime.block_on(async {
        let db = Db::open(&format!("sqlite:{}", world.database().display())).await.unwrap();
        let phases = json!(["plan", "build", "review"]).to_string();
        let state = json!({ "adw_id": "x", "issue": { "body": "b".repeat(1_500) } }).to_string();
        let mut tx = db.begin().await.unwrap();
        for at in 0..STORED {
            let id = format!("{at:08x}");
            let moment = 1_760_000_000_000 + i64::try_from(at).unwrap() * 60_000;
            tx.exec(
                "INSERT INTO runs (adw_id, seq, project, issue_number, host, origin, profile, \
                 status, active, stop_requested, revision, priority, phases, todo, floors, \
                 digest, skip_cleanup, triggered_by, transport, created_at, queued_at, \
                 started_at, ended_at, issue_title, branch, worktree, pr_url, state, state_at) \
                 VALUES ($1, $2, 'shop', $3, 'here', 'adwd', 'adwd', 'completed', FALSE, FALSE, \
                 12, 0, $4, $4, '{}', '', FALSE, 'mcp', 'unix', $5, $5, $5, $6, 'A title', $7, \
                 'removed', 'https://forge.test/shop/pull/1', $8, $6)",
                args![
                    &id,
                    i64::try_from(at).unwrap() + 1,
                    (at % 997).to_string(),
                    &phases,
                    moment,
                    moment + 50_000,
                    format!("feature-{at}"),
                    &state
                ],
            )
            .await
            .unwrap();
            for phase in ["plan", "build", "review"] {
                tx.exec(
                    "INSERT INTO attempts (adw_id, phase, attempt, status, dir, started_at, \
                     ended_at, exit_code) VALUES ($1, $2, 1, 'completed', $3, $4, $5, 0)",
                    args![&id, phase, format!("/tmp/gone/{id}/{phase}/1"), moment, moment + 9_000],
                )
                .await
                .unwrap();
            }
        }
        tx.commit().await.unwrap();
        db.close().await;
    });
}

/// Starts of a daemon that has much to remember, from the call of the program to its readiness.
fn starts(table: &Table, world: &mut World) {
    let mut times = vec![];
    for _ in 0..STARTS {
        world.stop();
        let begun = Instant::now();
        world.serve();
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    table.line(&format!("start to ready, {STORED} runs stored"), &Times::new(times), 60.0);
}

fn reads(table: &Table, socket: &mut Socket) {
    let id = format!("{:08x}", STORED / 2);
    let times = Times::of(200, 2_000, || {
        socket.call("get_adw_state", json!({ "adw_id": id }));
    });
    table.line("get_adw_state", &times, 0.3);
    let times = Times::of(50, 500, || {
        let page = socket.call("list_adw_workflows", json!({ "limit": PAGE }));
        assert_eq!(page["structuredContent"]["workflows"].as_array().unwrap().len(), PAGE);
    });
    table.line(&format!("a page of {PAGE} of {STORED} runs"), &times, 2.0);
}

/// The phases that run, by the id of their run.
fn living(client: &mut Client) -> BTreeMap<String, Value> {
    let filter = json!({ "status_filter": "running", "limit": LIVE });
    let page = client.call("list_adw_workflows", filter);
    let runs = page["workflows"].as_array().unwrap().iter();
    runs.map(|run| (run["adw_id"].as_str().unwrap().to_owned(), run.clone())).collect()
}

/// Monitors of this world: processes of ours that were started as one.
fn monitors(root: &Path) -> Vec<u32> {
    let root = root.display().to_string();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split('\0').nth(1) == Some("__monitor") && words.contains(&root)
    })
    .collect()
}

/// `kill -9` with many runs alive: how soon the next daemon is ready, and that it has them all.
fn live_runs() {
    let shop = Shop::new();
    let mut world = World::start(&shop.config());
    let mut client = world.client();
    let floor = ping(&mut Socket::connect(&world.socket()));
    for n in 1..=LIVE {
        client.call("trigger_adw_workflow", json!({ "issue_number": n }));
    }
    let begun = Instant::now();
    while monitors(&shop.root()).len() < LIVE || living(&mut client).len() < LIVE {
        assert!(begun.elapsed() < Duration::from_secs(180), "{LIVE} runs do not come up");
        std::thread::sleep(Duration::from_millis(100));
    }
    let before = monitors(&shop.root());
    let mut private: Vec<f64> = before.iter().map(|pid| look(*pid).private).collect();
    private.sort_by(f64::total_cmp);
    let median = private[private.len() / 2];
    println!("\n{LIVE} live runs");
    let verdict = if median > 1.0 { "  MISSED" } else { "" };
    println!("{:<38} {median:>6.2} MiB private, median  most 1 MiB{verdict}", "a run's monitor");
    let table = Table::new(&floor);
    let mut times = vec![];
    for _ in 0..RESTARTS {
        drop(client);
        world.stop();
        let begun = Instant::now();
        world.serve();
        times.push(begun.elapsed().as_secs_f64() * 1e6);
        client = world.client();
        let living = living(&mut client);
        assert_eq!(living.len(), LIVE, "all of them still run");
        assert_eq!(monitors(&shop.root()), before, "under the same monitors");
    }
    table.line(&format!("kill -9 to ready, {LIVE} runs alive"), &Times::new(times), 200.0);
    for id in living(&mut client).keys() {
        client.call("cancel_adw_workflow", json!({ "adw_id": id }));
    }
    let begun = Instant::now();
    while !monitors(&shop.root()).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(120), "cancelled runs do not end");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn ping(socket: &mut Socket) -> Times {
    Times::of(200, 2_000, || {
        socket.ask("ping", json!({}));
    })
}

fn main() {
    if std::env::args().any(|word| word == BARE) {
        return bare();
    }
    memory();
    let mut world = World::start("");
    fill(&mut world);
    world.serve();
    let mut socket = Socket::connect(&world.socket());
    println!("\n{STORED} runs stored; calls over the socket");
    let table = Table::new(&ping(&mut socket));
    reads(&table, &mut socket);
    drop(socket);
    starts(&table, &mut world);
    drop(world);
    live_runs();
}
