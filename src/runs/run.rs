//! The run state machine: durable facts in, next step out.
//!
//! There is no event log and no memory: [`next`] looks at what is stored and says what to do. A
//! daemon that was killed at any point loads the same facts and gets the same answer, so recovery
//! is not a special case. The legal moves between statuses are [`may_move`]; every `UPDATE` that
//! changes a status names the status it moves from.
//!
//! ```text
//! queued ──► starting ──► running ──► completed | failed | skipped | timed_out | lost
//!    │           │           │   └──► cancelled (its monitor was told to stop by a signal)
//!    │           └─────┬─────┘
//!    ▼                 ▼
//! cancelled ◄────── stopping ──► cancelled | completed? no: an asked-for stop wins
//!                      └──► failed, where a budget asked for it (or what was done meanwhile)
//! (any end) ──resume──► queued
//! ```

use std::collections::BTreeMap;

use super::view::{Failure, FailureClass, RunStatus};
use crate::clock::Millis;

/// What is stored of an attempt, as far as the machine needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptFacts {
    /// The phase.
    pub phase: String,
    /// 1 for the first of the phase.
    pub attempt: i64,
    /// Its status.
    pub status: RunStatus,
    /// Its failure, where it has one.
    pub failure: Option<Failure>,
    /// When it ended.
    pub ended_at: Option<Millis>,
}

/// What is stored of a run, as far as the machine needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunFacts {
    /// Its status.
    pub status: RunStatus,
    /// Phases to do in this life (from the trigger, or the last resume), in order.
    pub todo: Vec<String>,
    /// Per phase: attempts up to this number belong to an earlier life and do not count.
    pub floors: BTreeMap<String, i64>,
    /// All attempts, oldest first within a phase.
    pub attempts: Vec<AttemptFacts>,
    /// A stop was asked for.
    pub stop_requested: bool,
    /// The stop is because a budget is used up; the failure that the run then ends with.
    pub budget_stop: Option<Failure>,
}

/// How often and how soon a failed phase is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts of a phase in one life, the first included.
    pub max_attempts: i64,
    /// Delay before the second attempt, milliseconds; doubles with each further one.
    pub base_delay_ms: i64,
    /// Bound of the delay, milliseconds.
    pub max_delay_ms: i64,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// A terminal status.
    pub status: RunStatus,
    /// Why, unless it is completed or skipped.
    pub failure: Option<Failure>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing: it waits for a place, or has ended.
    Rest,
    /// Preflight, environment, worktree.
    Prepare,
    /// Record a new attempt of the phase; nothing is spawned before it is stored.
    Begin {
        /// The phase.
        phase: String,
        /// Its number.
        attempt: i64,
    },
    /// See the recorded attempt to its end: start its monitor if that never happened, watch it
    /// otherwise.
    Attend {
        /// The phase.
        phase: String,
        /// Its number.
        attempt: i64,
        /// Ask its tree to stop.
        stop: bool,
    },
    /// Nothing until then.
    WaitUntil(Millis),
    /// Record the end.
    Finish(End),
}

impl RunFacts {
    /// Attempts of a phase that belong to this life.
    fn live_attempts<'a>(&'a self, phase: &'a str) -> impl Iterator<Item = &'a AttemptFacts> + 'a {
        let floor = self.floors.get(phase).copied().unwrap_or(0);
        self.attempts.iter().filter(move |a| a.phase == phase && a.attempt > floor)
    }

    /// The newest attempt of a phase in this life: by its number, because the clock may jump back.
    fn last_attempt<'a>(&'a self, phase: &'a str) -> Option<&'a AttemptFacts> {
        self.live_attempts(phase).max_by_key(|a| a.attempt)
    }

    /// The number that a new attempt of the phase gets.
    #[must_use]
    pub fn next_number(&self, phase: &str) -> i64 {
        self.attempts.iter().filter(|a| a.phase == phase).map(|a| a.attempt).max().unwrap_or(0) + 1
    }

    /// The attempt that has not ended, if any. There is never more than one.
    #[must_use]
    pub fn open_attempt(&self) -> Option<&AttemptFacts> {
        self.attempts.iter().find(|a| !a.status.is_terminal())
    }

    /// The phase that runs or is next.
    #[must_use]
    pub fn current_phase(&self) -> Option<&str> {
        if let Some(open) = self.open_attempt() {
            return Some(&open.phase);
        }
        self.todo
            .iter()
            .find(|p| self.last_attempt(p).is_none_or(|a| a.status != RunStatus::Completed))
            .map(String::as_str)
    }
}

/// What to do next with a run.
#[must_use]
pub fn next(facts: &RunFacts, now: Millis, retry: &RetryPolicy) -> Next {
    if facts.status.is_terminal() || facts.status == RunStatus::Queued {
        return Next::Rest;
    }
    if let Some(open) = facts.open_attempt() {
        return Next::Attend {
            phase: open.phase.clone(),
            attempt: open.attempt,
            stop: facts.stop_requested || facts.status == RunStatus::Stopping,
        };
    }
    if facts.stop_requested || facts.status == RunStatus::Stopping {
        return Next::Finish(match &facts.budget_stop {
            Some(failure) => out_of_budget(facts, failure),
            None => cancelled(facts),
        });
    }
    if facts.status == RunStatus::Starting {
        return Next::Prepare;
    }
    for phase in &facts.todo {
        match phase_step(facts, phase, now, retry) {
            None => {}
            Some(step) => return step,
        }
    }
    Next::Finish(End { status: RunStatus::Completed, failure: None })
}

/// The step that a phase calls for; `None` where it is done.
fn phase_step(facts: &RunFacts, phase: &str, now: Millis, retry: &RetryPolicy) -> Option<Next> {
    let Some(last) = facts.last_attempt(phase) else {
        return Some(Next::Begin { phase: phase.to_owned(), attempt: facts.next_number(phase) });
    };
    match last.status {
        RunStatus::Completed => None,
        RunStatus::Skipped => {
            Some(Next::Finish(End { status: RunStatus::Skipped, failure: last.failure.clone() }))
        }
        status => {
            let made = i64::try_from(facts.live_attempts(phase).count()).unwrap_or(i64::MAX);
            let may_retry = matches!(status, RunStatus::Failed | RunStatus::Lost)
                && last.failure.as_ref().is_some_and(|f| f.retryable && class_can_heal(f.class))
                && made < retry.max_attempts;
            if !may_retry {
                return Some(Next::Finish(End { status, failure: last.failure.clone() }));
            }
            let delay_ms = retry_delay_ms(retry, made);
            let due = last.ended_at.unwrap_or(now).plus_ms(delay_ms);
            // An end that lies in the future was stamped before the clock was set back.
            let waits = due > now && due.since_ms(now) <= delay_ms;
            Some(if waits {
                Next::WaitUntil(due)
            } else {
                Next::Begin { phase: phase.to_owned(), attempt: facts.next_number(phase) }
            })
        }
    }
}

/// Delay after `made` attempts.
fn retry_delay_ms(retry: &RetryPolicy, made: i64) -> i64 {
    let doublings = u32::try_from((made - 1).clamp(0, 20)).unwrap_or(20);
    retry.base_delay_ms.saturating_mul(1_i64 << doublings).clamp(0, retry.max_delay_ms.max(0))
}

/// Classes that trying again, unchanged, can heal. A limit that passed, a blocker, a cancelled run
/// or a defect would only burn money again.
#[must_use]
pub fn class_can_heal(class: FailureClass) -> bool {
    matches!(
        class,
        FailureClass::Environment
            | FailureClass::Agent
            | FailureClass::Forge
            | FailureClass::Git
            | FailureClass::Lost
            | FailureClass::Internal
    )
}

/// The end of a run whose budget is used up. What it got done before the stop reached it was paid
/// for: where nothing is left to do, it is done.
fn out_of_budget(facts: &RunFacts, failure: &Failure) -> End {
    let done = |a: &Option<&AttemptFacts>| a.is_some_and(|a| a.status == RunStatus::Completed);
    match facts.todo.iter().map(|phase| facts.last_attempt(phase)).find(|a| !done(a)) {
        None => End { status: RunStatus::Completed, failure: None },
        Some(Some(last)) if last.status == RunStatus::Skipped => {
            End { status: RunStatus::Skipped, failure: last.failure.clone() }
        }
        Some(_) => {
            let phase = facts.current_phase().map(str::to_owned);
            let failure = Failure { phase, ..failure.clone() };
            End { status: RunStatus::Failed, failure: Some(failure) }
        }
    }
}

fn cancelled(facts: &RunFacts) -> End {
    let told = facts
        .attempts
        .iter()
        .rev()
        .find(|a| a.status == RunStatus::Cancelled)
        .and_then(|a| a.failure.clone());
    let failure = told.unwrap_or_else(|| Failure {
        class: FailureClass::Cancelled,
        message: "cancelled".into(),
        retryable: false,
        phase: facts.current_phase().map(str::to_owned),
        log_tail: vec![],
    });
    End { status: RunStatus::Cancelled, failure: Some(failure) }
}

/// Whether a run may go from one status to the other.
#[must_use]
pub fn may_move(from: RunStatus, to: RunStatus) -> bool {
    use RunStatus::{
        Cancelled, Completed, Failed, Lost, Queued, Running, Skipped, Starting, Stopping, TimedOut,
    };
    match (from, to) {
        (Queued, Starting | Cancelled)
        | (Starting, Running | Stopping | Failed)
        | (Running, Stopping | Completed | Failed | Skipped | TimedOut | Lost | Cancelled)
        // The others are ends of a stop that a budget asked for.
        | (Stopping, Cancelled | Failed | Completed | Skipped) => true,
        // A resume begins a new life.
        (ended, Queued) => ended.is_terminal(),
        _ => false,
    }
}

/// What a resume changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Resume {
    /// Phases of the new life.
    pub todo: Vec<String>,
    /// Floors of the new life.
    pub floors: BTreeMap<String, i64>,
}

/// Plans a resume from `from` (or from the first phase that is not completed) over the phases the
/// run was asked for. `None` where nothing is left to do.
#[must_use]
pub fn plan_resume(asked: &[String], facts: &RunFacts, from: Option<&str>) -> Option<Resume> {
    let done = |p: &String| {
        facts
            .attempts
            .iter()
            .filter(|a| &a.phase == p)
            .max_by_key(|a| a.attempt)
            .is_some_and(|a| a.status == RunStatus::Completed)
    };
    let start = match from {
        Some(phase) => asked.iter().position(|p| p == phase)?,
        None => asked.iter().position(|p| !done(p))?,
    };
    let todo = asked[start..].to_vec();
    let mut floors = facts.floors.clone();
    for phase in &todo {
        floors.insert(phase.clone(), facts.next_number(phase) - 1);
    }
    Some(Resume { todo, floors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RETRY: RetryPolicy =
        RetryPolicy { max_attempts: 3, base_delay_ms: 100, max_delay_ms: 150 };
    const NOW: Millis = Millis(1_000_000);

    fn facts(status: RunStatus) -> RunFacts {
        RunFacts {
            status,
            todo: ["plan", "build", "review"].map(String::from).to_vec(),
            floors: BTreeMap::new(),
            attempts: vec![],
            stop_requested: false,
            budget_stop: None,
        }
    }

    fn attempt(phase: &str, n: i64, status: RunStatus, retryable: bool) -> AttemptFacts {
        let failed =
            status.is_terminal() && !matches!(status, RunStatus::Completed | RunStatus::Skipped);
        AttemptFacts {
            phase: phase.into(),
            attempt: n,
            status,
            failure: failed.then(|| Failure {
                class: FailureClass::Forge,
                message: "x".into(),
                retryable,
                phase: Some(phase.into()),
                log_tail: vec![],
            }),
            ended_at: status.is_terminal().then_some(NOW),
        }
    }

    #[test]
    fn a_life_goes_prepare_plan_build_review_completed() {
        let mut f = facts(RunStatus::Starting);
        assert_eq!(next(&f, NOW, &RETRY), Next::Prepare);
        f.status = RunStatus::Running;
        for phase in ["plan", "build", "review"] {
            assert_eq!(next(&f, NOW, &RETRY), Next::Begin { phase: phase.into(), attempt: 1 });
            f.attempts.push(attempt(phase, 1, RunStatus::Running, false));
            assert_eq!(
                next(&f, NOW, &RETRY),
                Next::Attend { phase: phase.into(), attempt: 1, stop: false }
            );
            f.attempts.last_mut().unwrap().status = RunStatus::Completed;
        }
        assert_eq!(
            next(&f, NOW, &RETRY),
            Next::Finish(End { status: RunStatus::Completed, failure: None })
        );
    }

    #[test]
    fn a_retryable_failure_waits_longer_each_time_and_ends_after_three() {
        let mut f = facts(RunStatus::Running);
        f.attempts.push(attempt("plan", 1, RunStatus::Failed, true));
        assert_eq!(next(&f, NOW, &RETRY), Next::WaitUntil(NOW.plus_ms(100)));
        assert_eq!(
            next(&f, NOW.plus_ms(100), &RETRY),
            Next::Begin { phase: "plan".into(), attempt: 2 }
        );
        f.attempts.push(attempt("plan", 2, RunStatus::Lost, true));
        assert_eq!(next(&f, NOW, &RETRY), Next::WaitUntil(NOW.plus_ms(150)));
        f.attempts.push(attempt("plan", 3, RunStatus::Failed, true));
        assert!(matches!(
            next(&f, NOW, &RETRY),
            Next::Finish(End { status: RunStatus::Failed, .. })
        ));
    }

    #[test]
    fn timeouts_and_cancels_are_never_retried() {
        for status in [RunStatus::TimedOut, RunStatus::Cancelled] {
            let mut f = facts(RunStatus::Running);
            f.attempts.push(attempt("plan", 1, status, true));
            assert!(matches!(next(&f, NOW, &RETRY), Next::Finish(e) if e.status == status));
        }
    }

    #[test]
    fn a_clock_that_jumps_back_neither_repeats_a_phase_nor_holds_a_retry_back() {
        // The second attempt carries the earlier time, so the database lists it first.
        let mut f = facts(RunStatus::Running);
        f.attempts = vec![
            attempt("plan", 2, RunStatus::Completed, false),
            attempt("plan", 1, RunStatus::Failed, true),
        ];
        assert_eq!(next(&f, NOW, &RETRY), Next::Begin { phase: "build".into(), attempt: 1 });
        assert_eq!(f.current_phase(), Some("build"));
        let asked = f.todo.clone();
        f.status = RunStatus::Cancelled;
        assert_eq!(plan_resume(&asked, &f, None).unwrap().todo, ["build", "review"]);

        let mut f = facts(RunStatus::Running);
        f.attempts.push(attempt("plan", 1, RunStatus::Failed, true));
        let hour_ago = NOW.plus_ms(-3_600_000);
        assert_eq!(next(&f, hour_ago, &RETRY), Next::Begin { phase: "plan".into(), attempt: 2 });
    }

    #[test]
    fn a_stop_attends_the_open_attempt_first_and_then_ends_cancelled() {
        let mut f = facts(RunStatus::Stopping);
        f.attempts.push(attempt("plan", 1, RunStatus::Running, false));
        assert_eq!(
            next(&f, NOW, &RETRY),
            Next::Attend { phase: "plan".into(), attempt: 1, stop: true }
        );
        // Even where the phase got its work done while the stop was on its way.
        f.attempts[0].status = RunStatus::Completed;
        assert!(matches!(
            next(&f, NOW, &RETRY),
            Next::Finish(End { status: RunStatus::Cancelled, .. })
        ));
    }

    fn out_of_money() -> Failure {
        Failure {
            class: FailureClass::Budget,
            message: "spent".into(),
            retryable: false,
            phase: None,
            log_tail: vec![],
        }
    }

    #[test]
    fn a_used_up_budget_ends_the_tree_first_and_then_the_run_as_failed() {
        let mut f = facts(RunStatus::Stopping);
        f.stop_requested = true;
        f.budget_stop = Some(out_of_money());
        f.attempts.push(attempt("plan", 1, RunStatus::Running, false));
        let stop = Next::Attend { phase: "plan".into(), attempt: 1, stop: true };
        assert_eq!(next(&f, NOW, &RETRY), stop);
        f.attempts[0] = attempt("plan", 1, RunStatus::Failed, true);
        let Next::Finish(end) = next(&f, NOW, &RETRY) else { panic!("it ends") };
        let failure = end.failure.unwrap();
        assert_eq!((end.status, failure.class), (RunStatus::Failed, FailureClass::Budget));
        assert_eq!(failure.phase.as_deref(), Some("plan"));
        // With more money it goes on where it was.
        f.status = RunStatus::Failed;
        let asked = f.todo.clone();
        assert_eq!(plan_resume(&asked, &f, None).unwrap().todo, asked);
    }

    #[test]
    fn what_was_done_before_the_budgets_stop_came_is_done() {
        let mut f = facts(RunStatus::Stopping);
        f.budget_stop = Some(out_of_money());
        f.attempts = ["plan", "build"].map(|p| attempt(p, 1, RunStatus::Completed, false)).to_vec();
        assert!(matches!(next(&f, NOW, &RETRY), Next::Finish(e) if e.status == RunStatus::Failed));
        f.attempts.push(attempt("review", 1, RunStatus::Completed, false));
        let done = End { status: RunStatus::Completed, failure: None };
        assert_eq!(next(&f, NOW, &RETRY), Next::Finish(done));
        f.attempts = vec![attempt("plan", 1, RunStatus::Skipped, false)];
        assert!(matches!(next(&f, NOW, &RETRY), Next::Finish(e) if e.status == RunStatus::Skipped));
    }

    #[test]
    fn a_skipped_plan_ends_the_run_skipped() {
        let mut f = facts(RunStatus::Running);
        f.attempts.push(attempt("plan", 1, RunStatus::Skipped, false));
        assert!(matches!(
            next(&f, NOW, &RETRY),
            Next::Finish(End { status: RunStatus::Skipped, .. })
        ));
    }

    #[test]
    fn resume_goes_on_from_the_failed_phase_with_new_numbers() {
        let mut f = facts(RunStatus::Failed);
        f.attempts = vec![
            attempt("plan", 1, RunStatus::Completed, false),
            attempt("build", 1, RunStatus::Failed, false),
        ];
        let asked = f.todo.clone();
        let r = plan_resume(&asked, &f, None).unwrap();
        assert_eq!(r.todo, ["build", "review"]);
        let mut g =
            RunFacts { status: RunStatus::Running, todo: r.todo, floors: r.floors, ..f.clone() };
        assert_eq!(next(&g, NOW, &RETRY), Next::Begin { phase: "build".into(), attempt: 2 });
        g.attempts.push(attempt("build", 2, RunStatus::Completed, false));
        assert_eq!(next(&g, NOW, &RETRY), Next::Begin { phase: "review".into(), attempt: 1 });
        // From an earlier phase everything after it is done again.
        let r = plan_resume(&asked, &f, Some("plan")).unwrap();
        assert_eq!(
            (r.todo.len(), r.floors["plan"], r.floors["build"], r.floors["review"]),
            (3, 1, 1, 0)
        );
        assert_eq!(plan_resume(&asked, &f, Some("deploy")), None);
    }

    #[test]
    fn nothing_is_left_to_resume_of_a_completed_run() {
        let mut f = facts(RunStatus::Completed);
        for p in ["plan", "build", "review"] {
            f.attempts.push(attempt(p, 1, RunStatus::Completed, false));
        }
        assert_eq!(plan_resume(&f.todo.clone(), &f, None), None);
    }

    #[test]
    fn no_end_is_left_but_by_resume() {
        for from in RunStatus::ALL.into_iter().filter(|s| s.is_terminal()) {
            for to in RunStatus::ALL {
                assert_eq!(may_move(from, to), to == RunStatus::Queued);
            }
        }
    }

    /// Plays a whole life against scripted verdicts; `kill` decides after which steps the driver
    /// forgets everything and starts from the facts again. With facts alone, that changes nothing.
    fn play(
        verdicts: &[(RunStatus, bool)],
        stop_at: Option<usize>,
        broke: bool,
    ) -> (Vec<(String, i64)>, RunStatus) {
        let mut f = facts(RunStatus::Starting);
        let (mut begun, mut now, mut given) = (vec![], NOW, 0);
        for step in 0..200 {
            if stop_at == Some(step) && may_move(f.status, RunStatus::Stopping) {
                f.stop_requested = true;
                f.status = RunStatus::Stopping;
                f.budget_stop = broke.then(out_of_money);
            }
            match next(&f, now, &RETRY) {
                Next::Rest => break,
                Next::Prepare => f.status = RunStatus::Running,
                Next::Begin { phase, attempt: n } => {
                    assert!(f.open_attempt().is_none(), "two phases live at once");
                    begun.push((phase.clone(), n));
                    f.attempts.push(attempt(&phase, n, RunStatus::Starting, false));
                }
                Next::Attend { phase, attempt: n, stop } => {
                    let (status, retryable) = if stop && !broke {
                        (RunStatus::Cancelled, false)
                    } else {
                        verdicts.get(given).copied().unwrap_or((RunStatus::Completed, false))
                    };
                    given += 1;
                    let slot =
                        f.attempts.iter_mut().find(|a| a.phase == phase && a.attempt == n).unwrap();
                    *slot = AttemptFacts {
                        ended_at: Some(now),
                        ..attempt(&phase, n, status, retryable)
                    };
                }
                Next::WaitUntil(t) => {
                    assert!(t > now);
                    now = t;
                }
                Next::Finish(end) => {
                    assert!(may_move(f.status, end.status), "{:?} -> {:?}", f.status, end.status);
                    f.status = end.status;
                }
            }
        }
        (begun, f.status)
    }

    proptest! {
        #[test]
        fn every_life_ends_and_no_attempt_number_comes_twice(
            verdicts in proptest::collection::vec(
                (prop_oneof![Just(RunStatus::Completed), Just(RunStatus::Failed), Just(RunStatus::Lost),
                             Just(RunStatus::TimedOut), Just(RunStatus::Skipped), Just(RunStatus::Cancelled)], any::<bool>()), 0..12),
            stop_at in proptest::option::of(0usize..20),
            broke in any::<bool>(),
        ) {
            let (begun, status) = play(&verdicts, stop_at, broke);
            prop_assert!(status.is_terminal());
            let mut unique = begun.clone();
            unique.sort();
            unique.dedup();
            prop_assert_eq!(unique.len(), begun.len());
            prop_assert!(begun.len() <= 9);
        }
    }
}
