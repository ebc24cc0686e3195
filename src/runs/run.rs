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
/// run was asked for. `None` where nothing is left to do. A run that was stopped between its last phase
/// and its own end has a life without phases left, in which it completes.
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
        None if facts.status == RunStatus::Completed => asked.iter().position(|p| !done(p))?,
        None => asked.iter().position(|p| !done(p)).unwrap_or(asked.len()),
    };
    let todo = asked[start..].to_vec();
    let mut floors = facts.floors.clone();
    for phase in &todo {
        floors.insert(phase.clone(), facts.next_number(phase) - 1);
    }
    Some(Resume { todo, floors })
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
