//! The path of a run, from the trigger to the end of its phase, beside what the machine itself
//! needs for the parts of it. `cargo bench --bench runs`
//!
//! A phase is a program that does nothing (`phase.rs`, compiled here with `rustc`), which also stands
//! in for uv: what is measured is the daemon, its monitor and what they ask git. Floors are taken in
//! the same run, one beside each sample where that is possible, because what the disk and the
//! other users of a machine do meets both then. Where `pueue` and `pueued` are on the search path, they
//! are given the same work. Everything lies in folders of `TMPDIR` that are removed at the end.
//!
//! Words behind `--` choose parts: `trigger slot worktree notices drain script`.
//!
//! Targets are those of the project's issue on proof, medians on a quiet 2-core machine.
// Benchmarks print, read the clock and start programs; that is what they are for.
#![allow(clippy::disallowed_methods, clippy::print_stdout)]

#[allow(dead_code, reason = "each benchmark uses a part")]
mod common;
mod pueue;
mod stage;

use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use common::Times;
use common::socket::Socket;
use pueue::Pueue;
use serde_json::json;
use stage::{Stage, marks, ms_between};

/// Samples of one run each.
const RUNS: u32 = 150;
/// Samples that take most of a second each.
const SLOW: u32 = 20;
/// Runs that are drained.
const DRAINED: u32 = 1_000;
/// Runs that a queue is drained of where its pace is slow; the time is told for [`DRAINED`].
const DRAINED_SLOW: u32 = 50;
/// Longest time that a watcher of a daemon may hold a change back, ms.
const DEBOUNCE_MS: f64 = 50.0;

fn main() {
    let program = stage::compile_phase();
    let pueue = Pueue::find();
    head();
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let parts: [(&str, &dyn Fn()); 7] = [
        ("trigger", &|| trigger(&program.path, pueue.as_ref())),
        ("slot", &|| slot(&program.path, pueue.as_ref())),
        ("worktree", &|| worktree(&program.path)),
        ("notices", &|| notices(&program.path)),
        ("drain", &|| drain(&program.path, pueue.as_ref(), 2, 6_000.0)),
        ("drain", &|| drain(&program.path, pueue.as_ref(), 16, 4_000.0)),
        ("script", &script),
    ];
    for (name, part) in parts {
        if words.is_empty() || words.iter().any(|word| word == name) {
            part();
        }
    }
}

fn head() {
    println!(
        "{:<46} {:>4} {:>10} {:>10} {:>10} {:>7} {:>10}  pueue",
        "", "n", "median", "p95", "floor", "x", "target"
    );
}

/// A line of the table; all times in ms.
fn line(what: &str, times: &Times, floor: &Times, target: f64, peer: &str) {
    let (median, low) = (times.median(), floor.median());
    let verdict = if median <= target { "" } else { "MISSED" };
    println!(
        "{what:<46} {:>4} {median:>10.3} {:>10.3} {low:>10.3} {:>6.1}x {target:>10.1}  {peer:<10} {verdict}",
        times.count(),
        times.quantile(0.95),
        median / low,
    );
}

/// From the trigger to its answer, and to the first instruction of the phase.
fn trigger(program: &std::path::Path, pueue: Option<&Pueue>) {
    let stage = Stage::new(program, 16, 16);
    let mut client = stage.client();
    stage.warm(&mut client, "plain");
    let floor = stage::Floor::new(stage.dir());
    let (mut answers, mut begins) = (vec![], vec![]);
    let (mut commits, mut calls, mut spawns) = (vec![], vec![], vec![]);
    for n in 0..RUNS {
        commits.push(floor.commit(n));
        let begun = Instant::now();
        client.ask("ping", json!({}));
        calls.push(begun.elapsed().as_secs_f64() * 1e6);
        spawns.push(stage.spawn(program, &format!("9{n}")) * 1e3);
        let issue = format!("1{n}");
        let (at, begun) = (SystemTime::now(), Instant::now());
        let id = stage.trigger(&mut client, "plain", "noop", &issue);
        answers.push(begun.elapsed().as_secs_f64() * 1e6);
        begins.push(ms_between(at, marks(&stage, &issue)) * 1e3);
        stage.ended(&mut client, &id);
    }
    let sum = |parts: [&[f64]; 3]| -> Vec<f64> {
        (0..parts[0].len()).map(|n| parts.iter().filter_map(|part| part.get(n)).sum()).collect()
    };
    let stored = Times::new(sum([&commits, &calls, &[]]));
    let all = Times::new(sum([&commits, &calls, &spawns]));
    line("trigger answered, run committed", &Times::new(answers), &stored, 1.0, "-");
    let peer = pueue.map(|pueue| pueue.begins(program, &stage.marks(), SLOW));
    line("trigger to main of the phase, a free slot", &Times::new(begins), &all, 4.0, &said(peer));
}

/// From the end of one phase to the first instruction of the phase that waited for its place.
fn slot(program: &std::path::Path, pueue: Option<&Pueue>) {
    let stage = Stage::new(program, 1, 1);
    let mut client = stage.client();
    stage.warm(&mut client, "plain");
    let floor = stage::Floor::new(stage.dir());
    let (mut times, mut floors) = (vec![], vec![]);
    for n in 0..SLOW {
        floors.push(floor.commit(n) + stage.spawn(program, &format!("9{n}")) * 1e3);
        let (first, second) = (format!("1{n}"), format!("2{n}"));
        stage.trigger(&mut client, "plain", "rest", &first);
        let id = stage.trigger(&mut client, "plain", "noop", &second);
        let ended = marks(&stage, &format!("{first}.exit"));
        times.push(ms_between(ended, marks(&stage, &second)) * 1e3);
        stage.ended(&mut client, &id);
    }
    let peer = pueue.map(|pueue| pueue.slots(program, &stage.marks(), SLOW / 2));
    line(
        "end of one to main of the next, one slot",
        &Times::new(times),
        &Times::new(floors),
        5.0,
        &said(peer),
    );
}

/// The same from a trigger, with a worktree of 437 files.
fn worktree(program: &std::path::Path) {
    let stage = Stage::new(program, 16, 16);
    let mut client = stage.client();
    stage.warm(&mut client, "tree");
    let (mut times, mut floors) = (vec![], vec![]);
    for n in 0..SLOW {
        floors.push(stage.git_worktree_add(n));
        let issue = format!("1{n}");
        let at = SystemTime::now();
        let id = stage.trigger(&mut client, "tree", "noop", &issue);
        times.push(ms_between(at, marks(&stage, &issue)) * 1e3);
        stage.ended(&mut client, &id);
    }
    let floor = Times::new(floors);
    let target = floor.median() + 6.0;
    line("trigger to main, with git worktree add", &Times::new(times), &floor, target, "-");
}

/// From what a phase does to the notice of it.
fn notices(program: &std::path::Path) {
    let stage = Stage::new(program, 16, 16);
    let mut client = stage.client();
    stage.warm(&mut client, "plain");
    let (renames, floor) = renames(&stage, &mut client);
    line("state file renamed to notice", &renames, &floor, 10.0 + DEBOUNCE_MS, "-");
    let (mut exits, mut floors) = (vec![], vec![]);
    for n in 0..SLOW {
        floors.push(stage.wait_for_end(program, &format!("8{n}")) * 1e3);
        let issue = format!("1{n}");
        let id = stage.trigger(&mut client, "plain", "rest", &issue);
        client.subscribe(&format!("adw://runs/{id}"));
        // The first notice that came after the end; it rested long enough for any before.
        let told = loop {
            let (_, at) = client.notice();
            if let Some(ended) = stage.mark(&format!("{issue}.exit"))
                && at > ended
            {
                break ms_between(ended, at);
            }
        };
        let phase = stage.phase(&mut client, &id);
        assert_eq!(phase, "completed", "told before it was stored");
        exits.push(told * 1e3);
        stage.ended(&mut client, &id);
    }
    line(
        "end of a phase to notice of its status",
        &Times::new(exits),
        &Times::new(floors),
        3.0,
        "-",
    );
}

/// A state file that is renamed into place, and the notice of it; beside a bare watcher.
fn renames(stage: &Stage, client: &mut Socket) -> (Times, Times) {
    let id = stage.trigger(client, "plain", "hold", "7");
    marks(stage, "7");
    client.subscribe(&format!("adw://runs/{id}"));
    let folder = stage.state_folder(&id);
    let (mut times, mut floors) = (vec![], vec![]);
    for n in 0..SLOW {
        floors.push(bare_notice(stage.dir()) * 1e3);
        // Notices of one resource are a quarter of a second apart.
        std::thread::sleep(Duration::from_millis(400));
        let state = json!({ "adw_id": id, "issue_number": "7", "plan_file": format!("{n}.md") });
        let new = folder.join("new");
        std::fs::write(&new, state.to_string()).unwrap();
        // Written long before: the rename is what is told.
        std::thread::sleep(Duration::from_millis(400));
        client.ask("ping", json!({}));
        client.forget_notices();
        let at = SystemTime::now();
        std::fs::rename(new, folder.join("adw_state.json")).unwrap();
        times.push(ms_between(at, client.notice().1) * 1e3);
    }
    stage.go("7");
    stage.ended(client, &id);
    (Times::new(times), Times::new(floors))
}

/// How long a watcher with nothing behind it takes to tell a rename, ms.
fn bare_notice(dir: &std::path::Path) -> f64 {
    use notify::Watcher as _;
    let folder = tempfile::tempdir_in(dir).unwrap();
    let (tell, told) = mpsc::channel();
    let mut watcher = notify::recommended_watcher(move |_| {
        let _ = tell.send(Instant::now());
    })
    .unwrap();
    std::fs::write(folder.path().join("new"), "").unwrap();
    watcher.watch(folder.path(), notify::RecursiveMode::NonRecursive).unwrap();
    let at = Instant::now();
    std::fs::rename(folder.path().join("new"), folder.path().join("state")).unwrap();
    told.recv().unwrap().duration_since(at).as_secs_f64() * 1e3
}

/// Runs that do nothing, from the moment that their queue is opened until all have ended.
fn drain(program: &std::path::Path, pueue: Option<&Pueue>, at_once: u32, target: f64) {
    let stage = Stage::new(program, at_once, at_once);
    let mut client = stage.client();
    stage.warm(&mut client, "plain");
    let floor = stage.xargs(program, at_once, DRAINED);
    // These take all places while the queue fills.
    let holders: Vec<String> = (0..at_once)
        .map(|n| stage.trigger(&mut client, "plain", "hold", &format!("5{n}")))
        .collect();
    for n in 0..at_once {
        marks(&stage, &format!("5{n}"));
    }
    stage.trigger_all(&mut client, "plain", "noop", DRAINED);
    let begun = Instant::now();
    (0..at_once).for_each(|n| stage.go(&format!("5{n}")));
    let all = u64::from(DRAINED) + holders.len() as u64 + stage::WARM;
    stage.all_completed(&mut client, all);
    let took = begun.elapsed().as_secs_f64() * 1e3;
    let peer = pueue.map(|pueue| {
        let ms = pueue.drain(program, &stage.marks(), at_once, DRAINED_SLOW);
        Times::new(vec![ms * 1e3 * f64::from(DRAINED) / f64::from(DRAINED_SLOW)])
    });
    let what = format!("{DRAINED} phases that do nothing, {at_once} at once");
    let one = |ms: f64| Times::new(vec![ms * 1e3]);
    line(&what, &one(took), &one(floor), target, &said(peer));
}

/// Our own script of a phase from its start to its first marker, beside one that is empty.
fn script() {
    let Some(uv) = stage::real_uv() else {
        return println!("start of a phase's script: there is no uv, and none could be had");
    };
    let sample = stage::Sample::new();
    // A script by its own word, as ours is: for a mere file uv looks for a Python each time.
    let block =
        "# /// script\n# requires-python = \">=3.11\"\n# dependencies = []\n# ///\nprint()\n";
    let empty = sample.file("empty.py", block);
    let ours = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("automation/adws/adw_phases/adw_plan.py");
    let first_line = |script: &std::path::Path| {
        let mut command = Command::new(&uv);
        command.args(["run", "--no-progress", "--no-project"]).arg(script).args(["1", "bench1"]);
        sample.first_line(command) * 1e3
    };
    let (mut times, mut floors) = (vec![], vec![]);
    for n in 0..SLOW + 3 {
        let (floor, time) = (first_line(&empty), first_line(&ours));
        // The first ones warm what uv keeps.
        if n >= 3 {
            floors.push(floor);
            times.push(time);
        }
    }
    line(
        "uv run of the plan script to its first marker",
        &Times::new(times),
        &Times::new(floors),
        60.0,
        "-",
    );
}

/// A peer's median.
fn said(times: Option<Times>) -> String {
    times.map_or_else(|| "not on PATH".to_owned(), |times| format!("{:.1}", times.median()))
}
