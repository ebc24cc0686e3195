//! The rules on good histories and on bad ones: each rule is broken once at least.

use super::*;

fn stamp(what: What, kind: Kind, at: u64, phase: &str, attempt: i64) -> Stamp {
    let of_kind = if kind == Kind::Phase { 100 } else { 200 };
    let place = PHASES.iter().position(|p| *p == phase).unwrap_or(9);
    Stamp {
        what,
        kind,
        boot_ns: at * 1_000_000,
        wall_ms: i64::try_from(at).unwrap(),
        pid: of_kind + 10 * i32::try_from(place).unwrap() + i32::try_from(attempt).unwrap(),
        run: "r".into(),
        phase: phase.into(),
        attempt,
        together: vec![],
        live: 1,
    }
}

/// A phase and its agent, from a moment on for ten milliseconds, as stored.
fn attempt(history: &mut History, phase: &str, number: i64, at: u64, status: &str) {
    let moments = [(What::Start, Kind::Phase, 1), (What::Start, Kind::Agent, 3)];
    let ends = [(What::Stop, Kind::Agent, 6), (What::Stop, Kind::Phase, 9)];
    for (what, kind, after) in moments.into_iter().chain(ends) {
        history.stamps.push(stamp(what, kind, at + after, phase, number));
    }
    let at = i64::try_from(at).unwrap();
    history.attempts.push(Attempt {
        run: "r".into(),
        phase: phase.into(),
        attempt: number,
        status: status.into(),
        started_at: at,
        ended_at: Some(at + 10),
        failure: None,
    });
}

fn saw(status: &str, revision: i64) -> Event {
    let state_at = format!("2026-01-01T00:00:{revision:02}Z");
    Event::Saw { poller: 0, run: "r".into(), status: status.into(), revision, state_at }
}

fn ended(status: &str) -> Event {
    Event::Ended { run: "r".into(), status: status.into() }
}

/// A run that went well, with a build that failed once and was mended by a resume.
fn good() -> History {
    let mut history = History { max_running: 2, keys: 1, ..History::default() };
    attempt(&mut history, "plan", 1, 100, "completed");
    attempt(&mut history, "build", 1, 200, "failed");
    attempt(&mut history, "build", 2, 300, "completed");
    attempt(&mut history, "review", 1, 400, "completed");
    history.runs.insert("r".into(), "completed".into());
    history.events = vec![
        Event::Accepted { key: "k".into(), run: "r".into() },
        saw("queued", 1),
        saw("running", 4),
        Event::Accepted { key: "k".into(), run: "r".into() },
        saw("failed", 9),
        ended("failed"),
        Event::Reviving { run: "r".into() },
        saw("failed", 9),
        saw("queued", 10),
        saw("completed", 20),
        ended("completed"),
        saw("completed", 21),
    ];
    history
}

#[track_caller]
fn broken(words: &str, change: impl FnOnce(&mut History)) {
    let mut history = good();
    change(&mut history);
    let found = violations(&history);
    assert!(found.iter().any(|f| f.contains(words)), "no {words:?} in {found:#?}");
}

fn at(history: &mut History, kind: Kind, what: What, phase: &str) -> usize {
    let is = |s: &Stamp| s.kind == kind && s.what == what && s.phase == phase;
    history.stamps.iter().position(is).unwrap()
}

#[test]
fn a_good_history_breaks_nothing() {
    assert_eq!(violations(&good()), Vec::<String>::new());
    // Nor does one in which a phase was killed with its agent: no stop was written.
    let mut killed = good();
    let failed = |s: &Stamp| s.phase == "build" && s.attempt == 1 && s.what == What::Stop;
    killed.stamps.retain(|s| !failed(s));
    assert_eq!(violations(&killed), Vec::<String>::new());
}

#[test]
fn two_lives_at_once_are_seen() {
    for kind in [Kind::Phase, Kind::Agent] {
        broken("began beside [7]", |h| {
            let start = at(h, kind, What::Start, "build");
            h.stamps[start].together = vec![7];
        });
    }
    broken("began before", |h| {
        let stop = at(h, Kind::Phase, What::Stop, "plan");
        h.stamps[stop].boot_ns = 250_000_000;
    });
    broken("began twice", |h| {
        let start = at(h, Kind::Phase, What::Start, "review");
        let again = Stamp { pid: 999, boot_ns: 405_000_000, ..h.stamps[start].clone() };
        h.stamps.push(again);
    });
}

#[test]
fn too_many_at_once_are_seen() {
    broken("one of 3 at once", |h| {
        let start = at(h, Kind::Phase, What::Start, "plan");
        h.stamps[start].live = 3;
    });
}

#[test]
fn a_life_that_nobody_knows_is_seen() {
    broken("belongs to no stored attempt", |h| h.attempts.truncate(3));
    broken("before the attempt was stored", |h| h.attempts[0].started_at = 102);
    broken("after the end of the attempt", |h| h.attempts[3].ended_at = Some(405));
    broken("has no end", |h| h.attempts[3].ended_at = None);
}

#[test]
fn an_agent_outside_of_its_phase_is_seen() {
    broken("has no phase", |h| {
        h.stamps.retain(|s| !(s.kind == Kind::Phase && s.phase == "plan"));
    });
    broken("lived outside of", |h| {
        let stop = at(h, Kind::Phase, What::Stop, "plan");
        h.stamps[stop].boot_ns = 104_000_000;
    });
}

#[test]
fn phases_out_of_order_are_seen() {
    broken("before plan was completed", |h| h.attempts[0].status = "failed".into());
    broken("was done again", |h| attempt(h, "review", 2, 500, "completed"));
    broken("came after review", |h| attempt(h, "build", 3, 500, "completed"));
    broken("is no known phase", |h| attempt(h, "deploy", 1, 500, "completed"));
}

#[test]
fn answers_that_go_back_are_seen() {
    broken("from completed to running unasked", |h| h.events.push(saw("running", 30)));
    broken("from completed to failed unasked", |h| h.events.push(saw("failed", 30)));
    broken("from revision 21 to 3", |h| h.events.push(saw("completed", 3)));
    broken("the state of run r went back", |h| {
        let Event::Saw { state_at, .. } = h.events.last_mut().unwrap() else { unreachable!() };
        *state_at = "2025".into();
    });
    broken("from running to queued unasked", |h| h.events.insert(3, saw("queued", 5)));
    broken("is stored as failed", |h| {
        h.runs.insert("r".into(), "failed".into());
    });
}

#[test]
fn a_cancel_that_did_not_hold_is_seen() {
    let cancelled = |status: &str| Event::Cancelled { run: "r".into(), status: status.into() };
    broken("was cancelled and ended as", |h| h.events.insert(3, cancelled("stopping")));
    broken("was cancelled and ended as None", |h| h.events.push(cancelled("cancelled")));
    let mut late = good();
    late.events.push(cancelled("completed"));
    assert_eq!(violations(&late), Vec::<String>::new(), "it came too late, and said so");
}

#[test]
fn a_key_with_two_runs_or_none_is_seen() {
    let accepted = |key: &str, run: &str| Event::Accepted { key: key.into(), run: run.into() };
    broken("key k made", |h| h.events.push(accepted("k", "other")));
    broken("made by two keys", |h| h.events.push(accepted("other", "r")));
    broken("is not stored", |h| h.runs.clear());
    broken("made by no key", |h| {
        h.runs.insert("other".into(), "completed".into());
    });
    broken("2 keys are stored", |h| h.keys = 2);
}
