//! What must hold whatever was killed when: a history of what was seen, and the rules over it.
//!
//! The history has three sources that do not know one another: the stamps that phases and agents
//! wrote about themselves (`tests/fixtures/campaign/stamp.py`), what clients were answered, and what
//! is stored when all is over. [`violations`] is pure; what it is fed with a world is gathered in
//! `ground`. The tests at the end feed it bad histories: a checker that cannot fail proves nothing.

mod ground;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

pub use ground::{assert_files_are_whole, assert_work_is_as_claimed, history};

/// The phases in their order.
pub const PHASES: [&str; 3] = ["plan", "build", "review"];

/// What stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Phase,
    Agent,
}

/// Which end of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Start,
    Stop,
}

/// One line of `stamps.jsonl`.
#[derive(Clone, Debug, Deserialize)]
pub struct Stamp {
    pub what: What,
    pub kind: Kind,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub boot_ns: u64,
    /// The clock that the daemon reads, epoch milliseconds.
    pub wall_ms: i64,
    pub pid: i32,
    pub run: String,
    pub phase: String,
    pub attempt: i64,
    /// At a start: who of the same kind and run lived then, as the kernel's locks tell.
    #[serde(default)]
    pub together: Vec<i32>,
    /// At a start: of how many runs one of this kind lived then, this one included.
    #[serde(default)]
    pub live: usize,
}

/// One thing that a client asked for or was answered, in the order in which the test process noted it:
/// what is asked is noted before it is sent, what is answered after it came.
#[derive(Clone, Debug)]
pub enum Event {
    /// A trigger with this key was answered with this run.
    Accepted { key: String, run: String },
    /// A poller saw a run so.
    Saw { poller: usize, run: String, status: String, revision: i64, state_at: String },
    /// A resume is going to be asked for.
    Reviving { run: String },
    /// A cancel was answered, and the run was then in this status.
    Cancelled { run: String, status: String },
    /// Whoever steers the run saw this end of it.
    Ended { run: String, status: String },
}

/// A stored attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub run: String,
    pub phase: String,
    pub attempt: i64,
    pub status: String,
    /// Epoch milliseconds.
    pub started_at: i64,
    /// Epoch milliseconds.
    pub ended_at: Option<i64>,
    /// Class and sentence of its failure.
    pub failure: Option<(String, String)>,
}

/// Everything that is known.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub max_running: usize,
    /// In the order of the file.
    pub stamps: Vec<Stamp>,
    pub events: Vec<Event>,
    /// Status by run, as stored at the end.
    pub runs: BTreeMap<String, String>,
    pub attempts: Vec<Attempt>,
    /// How many request keys are stored.
    pub keys: usize,
}

/// Whether a status is an end.
pub fn is_end(status: &str) -> bool {
    !matches!(status, "queued" | "starting" | "running" | "stopping")
}

/// Every rule that does not hold, as a sentence.
pub fn violations(history: &History) -> Vec<String> {
    let rules: [fn(&History, &mut Vec<String>); 8] = [
        one_at_a_time,
        not_more_than_allowed,
        every_life_is_known,
        agents_within_phases,
        phases_in_order,
        answers_never_go_back,
        cancels_hold,
        one_run_a_key,
    ];
    let mut found = vec![];
    for rule in rules {
        rule(history, &mut found);
    }
    found
}

/// From a start to the stop of the same process; without one it was killed.
struct Life<'h> {
    start: &'h Stamp,
    stop: Option<&'h Stamp>,
}

impl Life<'_> {
    fn name(&self) -> String {
        let s = self.start;
        format!("{:?} {} {}/{} (pid {})", s.kind, s.run, s.phase, s.attempt, s.pid)
    }

    /// The last moment at which it is known to have lived.
    fn last_ns(&self) -> u64 {
        self.stop.unwrap_or(self.start).boot_ns
    }
}

fn lives(history: &History, kind: Kind) -> Vec<Life<'_>> {
    let all = &history.stamps;
    let starts = all.iter().enumerate().filter(|(_, s)| s.kind == kind && s.what == What::Start);
    let mut lives: Vec<Life<'_>> = starts
        .map(|(at, start)| {
            let own = |s: &&Stamp| s.pid == start.pid && s.kind == kind;
            // A pid is used again, so the next word of that pid decides.
            let stop = all[at + 1..].iter().find(own).filter(|s| s.what == What::Stop);
            Life { start, stop }
        })
        .collect();
    lives.sort_by_key(|life| life.start.boot_ns);
    lives
}

/// No phase of a run, and no agent of a run, lives twice at once; no attempt's phase begins twice.
fn one_at_a_time(history: &History, found: &mut Vec<String>) {
    for kind in [Kind::Phase, Kind::Agent] {
        let mut by_run: BTreeMap<&str, Vec<Life<'_>>> = BTreeMap::new();
        for life in lives(history, kind) {
            by_run.entry(&life.start.run).or_default().push(life);
        }
        for of_run in by_run.values() {
            for life in of_run.iter().filter(|life| !life.start.together.is_empty()) {
                found.push(format!("{} began beside {:?}", life.name(), life.start.together));
            }
            for pair in of_run.windows(2) {
                if pair[1].start.boot_ns < pair[0].last_ns() {
                    found.push(format!("{} began before {} ended", pair[1].name(), pair[0].name()));
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    for life in lives(history, Kind::Phase) {
        let s = life.start;
        if !seen.insert((&s.run, &s.phase, s.attempt)) {
            found.push(format!("{} began twice", life.name()));
        }
    }
}

fn not_more_than_allowed(history: &History, found: &mut Vec<String>) {
    for life in lives(history, Kind::Phase) {
        if life.start.live > history.max_running {
            found.push(format!(
                "{} was one of {} at once; allowed are {}",
                life.name(),
                life.start.live,
                history.max_running
            ));
        }
    }
}

fn attempt_of<'h>(history: &'h History, stamp: &Stamp) -> Option<&'h Attempt> {
    history
        .attempts
        .iter()
        .find(|a| a.run == stamp.run && a.phase == stamp.phase && a.attempt == stamp.attempt)
}

/// Every stamp belongs to a stored attempt, and lies between its beginning and its end.
fn every_life_is_known(history: &History, found: &mut Vec<String>) {
    for stamp in &history.stamps {
        let name = format!(
            "the {:?} of {:?} {} {}/{}",
            stamp.what, stamp.kind, stamp.run, stamp.phase, stamp.attempt
        );
        let Some(attempt) = attempt_of(history, stamp) else {
            found.push(format!("{name} belongs to no stored attempt"));
            continue;
        };
        if stamp.wall_ms < attempt.started_at {
            found.push(format!("{name} came before the attempt was stored"));
        }
        match attempt.ended_at {
            None => found.push(format!("the attempt of {name} has no end")),
            Some(end) if stamp.wall_ms > end => {
                found.push(format!("{name} came after the end of the attempt"));
            }
            Some(_) => {}
        }
    }
}

/// An agent lives only while the phase of its attempt does.
fn agents_within_phases(history: &History, found: &mut Vec<String>) {
    let phases = lives(history, Kind::Phase);
    for agent in lives(history, Kind::Agent) {
        let a = agent.start;
        let own = phases.iter().find(|p| {
            (&p.start.run, &p.start.phase, p.start.attempt) == (&a.run, &a.phase, a.attempt)
        });
        let Some(phase) = own else {
            found.push(format!("{} has no phase", agent.name()));
            continue;
        };
        let late = phase.stop.is_some_and(|stop| agent.last_ns() > stop.boot_ns);
        if a.boot_ns < phase.start.boot_ns || late {
            found.push(format!("{} lived outside of {}", agent.name(), phase.name()));
        }
    }
}

/// Plan, build, review: each after the one before it was completed, and none again after that.
fn phases_in_order(history: &History, found: &mut Vec<String>) {
    let place = |phase: &str| PHASES.iter().position(|p| *p == phase);
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for life in lives(history, Kind::Phase) {
        let s = life.start;
        let Some(at) = place(&s.phase) else {
            found.push(format!("{} is no known phase", life.name()));
            continue;
        };
        let before = last.entry(&s.run).or_insert(at);
        if at < *before {
            found.push(format!("{} came after {}", life.name(), PHASES[*before]));
        }
        *before = at.max(*before);
        let done = |phase: &str| {
            history.attempts.iter().any(|a| {
                let ended = a.ended_at.is_some_and(|end| end <= s.wall_ms);
                a.run == s.run && a.phase == phase && a.status == "completed" && ended
            })
        };
        for missing in PHASES[..at].iter().filter(|phase| !done(phase)) {
            found.push(format!("{} began before {missing} was completed", life.name()));
        }
        if done(&s.phase) {
            found.push(format!("{} was done again", life.name()));
        }
    }
}

fn rank(status: &str) -> usize {
    let order = ["queued", "starting", "running", "stopping"];
    order.iter().position(|s| *s == status).unwrap_or(order.len())
}

/// What one poller sees of a run only moves on; an ended run stays as it ended, unless somebody asked
/// for a new life.
fn answers_never_go_back(history: &History, found: &mut Vec<String>) {
    struct Seen<'h> {
        status: &'h str,
        revision: i64,
        state_at: &'h str,
        lives: usize,
    }
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    let mut seen: BTreeMap<(usize, &str), Seen<'_>> = BTreeMap::new();
    for event in &history.events {
        if let Event::Reviving { run } = event {
            *asked.entry(run).or_default() += 1;
        }
        let Event::Saw { poller, run, status, revision, state_at } = event else { continue };
        let now = Seen { status, revision: *revision, state_at, lives: 0 };
        let Some(before) = seen.get_mut(&(*poller, run.as_str())) else {
            seen.insert((*poller, run), now);
            continue;
        };
        if now.revision < before.revision {
            found.push(format!(
                "run {run} went back from revision {} to {}",
                before.revision, now.revision
            ));
        }
        if now.state_at < before.state_at {
            found.push(format!(
                "the state of run {run} went back from {} to {}",
                before.state_at, now.state_at
            ));
        }
        let changed_end = is_end(before.status) && before.status != now.status;
        let lives =
            before.lives + usize::from(changed_end || rank(now.status) < rank(before.status));
        if lives > asked.get(run.as_str()).copied().unwrap_or(0) {
            found.push(format!("run {run} went from {} to {} unasked", before.status, now.status));
        }
        *before = Seen { lives, ..now };
    }
    for (run, status) in &history.runs {
        let mut last = history.events.iter().rev();
        let told = last.find_map(|event| match event {
            Event::Ended { run: of, status } if of == run => Some(status),
            _ => None,
        });
        if told.is_some_and(|told| told != status) {
            found.push(format!("run {run} ended {} and is stored as {status}", told.unwrap()));
        }
    }
}

/// A cancel that was answered while the run was active is how that life ends.
fn cancels_hold(history: &History, found: &mut Vec<String>) {
    for (at, event) in history.events.iter().enumerate() {
        let Event::Cancelled { run, status } = event else { continue };
        if !matches!(status.as_str(), "stopping" | "cancelled") {
            continue;
        }
        let end = history.events[at..].iter().find_map(|event| match event {
            Event::Ended { run: of, status } if of == run => Some(status.as_str()),
            _ => None,
        });
        if end != Some("cancelled") {
            found.push(format!("run {run} was cancelled and ended as {end:?}"));
        }
    }
}

/// Whoever asks with a key, however often, is answered with its one run, and that is still there.
fn one_run_a_key(history: &History, found: &mut Vec<String>) {
    let mut by_key: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for event in &history.events {
        if let Event::Accepted { key, run } = event {
            by_key.entry(key).or_default().insert(run);
        }
    }
    let mut all = BTreeSet::new();
    for (key, runs) in &by_key {
        if runs.len() > 1 {
            found.push(format!("key {key} made {runs:?}"));
        }
        for run in runs {
            if !all.insert(*run) {
                found.push(format!("run {run} was made by two keys"));
            }
            if !history.runs.contains_key(*run) {
                found.push(format!("run {run} was answered and is not stored"));
            }
        }
    }
    for run in history.runs.keys().filter(|run| !all.contains(run.as_str())) {
        found.push(format!("run {run} was made by no key"));
    }
    if history.keys != by_key.len() {
        found.push(format!("{} keys are stored, {} were answered", history.keys, by_key.len()));
    }
}
