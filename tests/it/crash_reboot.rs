//! The machine goes down in the middle of ten runs and comes up again: every process is gone at once,
//! the boot id is another, and strangers have the pids of before.
//!
//! It is a machine of its own as far as the daemon can see: a pid namespace, whose end takes every
//! process along, with a `/proc` of its own and another file in the place of the boot id.

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use adwd::runs::records::{Identity, StartRecord, write_atomic};
use serde_json::Value;

use crate::crash_support::{
    ROLES, assert_one_at_a_time, attempt_dir, attempts, counts, nothing_is_left, resume, shop,
    start_record, trigger_issue,
};
use crate::mcp_support::Client;
use crate::world::{
    Agent, Daemon, Repo, SOON, World, eventually, state, wait_removed, wait_status,
};

/// Runs that stand in a phase when the machine goes down, two in each; the others wait.
const STANDING: u32 = 6;

/// The first process of a machine: mounts its boot id, lets strangers have the pids that are named,
/// and, when it is told to, starts the daemon. A stranger leads a session, says who it is, and writes
/// down every signal that it is sent.
const INIT: &str = r#"
set -eu
world=$1; shift
mount --bind "$world/boot" /proc/sys/kernel/random/boot_id
for pid in $(cat "$world/wanted"); do
    echo $((pid - 1)) >/proc/sys/kernel/ns_last_pid
    python3 "$world/stranger.py" "$world" &
    [ $! = "$pid" ] || { echo "the stranger $pid got the pid $!" >&2; exit 1; }
done
while [ ! -e "$world/power" ]; do sleep 0.05; done
"$@" &
wait $!
"#;

const STRANGER: &str = r#"
import os, signal, sys
world = sys.argv[1]
def note(name, text):
    handle = os.open(f"{world}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, text.encode())
    os.close(handle)
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, lambda number, _: note("signalled", f"{os.getpid()} {number}\n"))
os.setsid()
ticks = open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19]
note("strangers", f"{os.getpid()} {ticks}\n")
os.environ.clear()
while True:
    signal.pause()
"#;

fn can_have_machines() -> bool {
    let words =
        ["--pid", "--fork", "--mount-proc", "sh", "-c", "echo 1 >/proc/sys/kernel/ns_last_pid"];
    let tried = std::process::Command::new("unshare").args(words).output();
    let able = tried.is_ok_and(|done| done.status.success());
    if !able {
        eprintln!(
            "\nSKIPPED (no pid namespaces: they take root and util-linux's unshare): the machine was \
             not rebooted in the middle of runs\n"
        );
    }
    able
}

/// Turns the machine on, with this boot id, and with strangers who have these pids; each with when it
/// began, in clock ticks.
async fn boot<'w>(world: &'w World, id: &str, wanted: &[i32]) -> (Daemon<'w>, BTreeMap<i32, u64>) {
    for left in ["power", "strangers", "signalled"] {
        let _ = fs::remove_file(world.path(left));
    }
    world.write("boot", &format!("{id}\n"));
    world.write("stranger.py", STRANGER);
    let text: Vec<String> = wanted.iter().map(i32::to_string).collect();
    world.write("wanted", &text.join("\n"));
    let root = world.root.display().to_string();
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"];
    let words = [&unshare[..], &[INIT, "adwd-boot", &root]].concat();
    let mut daemon = world.daemon_under(&words);
    daemon.launch();
    let told = eventually("the strangers are there", SOON, async || {
        let text = fs::read_to_string(world.path("strangers")).unwrap_or_default();
        let told: BTreeMap<i32, u64> = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(pid, ticks)| (pid.parse().unwrap(), ticks.parse().unwrap()))
            .collect();
        if told.len() == wanted.len() {
            Ok(told)
        } else {
            Err(format!("{told:?} {}", world.last_words()))
        }
    })
    .await;
    (daemon, told)
}

async fn power_on(world: &World, daemon: &mut Daemon<'_>) -> Client {
    world.write("power", "");
    daemon.ready().await;
    daemon.client().await
}

/// The attempts that stand: run, phase, folder.
fn standing(repo: &Repo, ids: &[String]) -> Vec<(String, &'static str, PathBuf)> {
    let places = ids.iter().take(STANDING as usize).enumerate();
    places
        .map(|(n, id)| {
            let phase = ROLES[n / 2].0;
            (id.clone(), phase, attempt_dir(repo, id, phase, 1))
        })
        .collect()
}

fn pids(start: &StartRecord) -> Vec<i32> {
    [Some(start.monitor), start.child].into_iter().flatten().map(|who| who.pid).collect()
}

/// How the machine comes up again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Up {
    /// Another boot. The clock of ticks began anew too, and by chance the strangers have not only the
    /// pids but the very beginnings of those who had them before.
    Rebooted,
    /// The same boot, as far as is told: all were killed, and the pids given anew.
    Killed,
}

async fn down_and_up(world: World, up: Up, runs: u32) {
    if !can_have_machines() {
        return;
    }
    world.set("limits.max_running", &STANDING.to_string());
    world.set("limits.max_running_per_project", &STANDING.to_string());
    world.set("retry.max_attempts", "1");
    let mut agent = Agent::good();
    for (at, (_, role)) in ROLES.iter().enumerate() {
        let (first, second) = (2 * at + 1, 2 * at + 2);
        let orders = format!(
            "case $ADW_ISSUE_NUMBER in {first}|{second})
                [ -e \"$HOME/at-$ADW_ISSUE_NUMBER\" ] || gate $ADW_ISSUE_NUMBER ;;
            esac"
        );
        agent = agent.on(role, &orders);
    }
    let repo = shop(&world, &agent);
    (1..=runs).for_each(|n| repo.issue(n));
    let (mut machine, _) = boot(&world, "11111111-1111-4111-8111-111111111111", &[]).await;
    let client = power_on(&world, &mut machine).await;
    let mut ids = vec![];
    for n in 1..=runs {
        ids.push(trigger_issue(&client, n).await);
    }
    for n in 1..=STANDING {
        world.at_gate(&n.to_string()).await;
    }
    let places = standing(&repo, &ids);
    let mut wanted: Vec<i32> = places
        .iter()
        .flat_map(|(_, _, dir)| pids(&start_record(dir).expect("it stands")))
        .collect();
    wanted.sort_unstable();
    assert_eq!(wanted.len(), 2 * STANDING as usize, "{wanted:?}");
    machine.kill9().await;
    world.quiet().await;

    let id = match up {
        Up::Rebooted => "22222222-2222-4222-8222-222222222222",
        Up::Killed => "11111111-1111-4111-8111-111111111111",
    };
    let (mut machine, strangers) = boot(&world, id, &wanted).await;
    assert_eq!(strangers.keys().copied().collect::<Vec<_>>(), wanted);
    if up == Up::Rebooted {
        for (_, _, dir) in &places {
            by_chance(dir, &strangers);
        }
    }
    let client = power_on(&world, &mut machine).await;
    ends_truly(&client, &repo, &ids).await;
    let signalled = fs::read_to_string(world.path("signalled")).unwrap_or_default();
    assert_eq!(signalled, "", "strangers were signalled");
    let living = world.processes();
    let living = living.iter().filter(|p| p.argv.iter().any(|word| word.ends_with("stranger.py")));
    assert_eq!(living.count(), wanted.len(), "strangers were killed");
    machine.kill9().await;
    nothing_is_left(&world, &repo).await;
}

/// Gives the processes of a record the beginnings of the strangers who have their pids now.
fn by_chance(dir: &std::path::Path, strangers: &BTreeMap<i32, u64>) {
    let start = start_record(dir).unwrap();
    let now = |who: Identity| Identity { start_ticks: strangers[&who.pid], ..who };
    let start = StartRecord { monitor: now(start.monitor), child: start.child.map(now), ..start };
    write_atomic(dir, "start.json", &start).unwrap();
}

/// Those that stood are lost, and say so, and a resume mends them; those that waited just run.
async fn ends_truly(client: &Client, repo: &Repo, ids: &[String]) {
    for (id, phase, dir) in standing(repo, ids) {
        let run = wait_status(client, &id, "lost").await;
        let failure = &run["failure"];
        assert_eq!(
            (&failure["class"], &failure["phase"]),
            (&"lost".into(), &phase.into()),
            "{run:#}"
        );
        assert_eq!(failure["retryable"], true, "{run:#}");
        assert!(!dir.join("exit.json").exists(), "nobody recorded an end");
        assert_eq!(attempts(&run, phase).len(), 1, "{run:#}");
        resume(client, &id).await;
    }
    for (n, id) in ids.iter().enumerate() {
        wait_status(client, id, "completed").await;
        let run = wait_removed(client, id).await;
        let mut want = [1, 1, 1];
        if let Some(twice) = want.get_mut(n / 2).filter(|_| n < STANDING as usize) {
            *twice = 2;
        }
        assert_eq!(counts(&run), want, "{run:#}");
        assert_one_at_a_time(repo, id);
        let queue: Value = state(client, id).await["queue_position"].clone();
        assert!(queue.is_null());
    }
    assert_eq!((repo.pulls().len(), repo.remote_branches().len()), (ids.len(), ids.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rebooted_in_the_middle_of_ten_runs_it_finds_them_lost_and_signals_no_stranger() {
    down_and_up(World::new().await, Up::Rebooted, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_everything_killed_and_the_pids_given_to_strangers_none_of_these_is_signalled() {
    down_and_up(World::new().await, Up::Killed, STANDING).await;
}
