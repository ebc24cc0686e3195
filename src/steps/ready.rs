//! What comes next: the ready set, the score, and how many at once (`spec/steps.md` §6). Pure.
//!
//! A step is ready when it is pending and all it depends on is completed. Among the ready ones the
//! score decides, then the name, bytewise. The graph counts always; the order in the file never.

use serde_json::{Map, Value};

use super::globs;
use super::template::Phase;
use super::view::{Hints, Selection, StepStatus};

/// Points of a step that was asked for by name.
const REQUESTED: i64 = 999;
/// Points of each path pattern that matches a referenced path.
const PATTERN: i64 = 2;
/// Points of each tag among the intent tags.
const TAG: i64 = 1;

/// Where an execution's steps stand; the slices are as long as `phases` and in its order.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The workflow's steps.
    pub phases: &'a [Phase],
    /// Status of each.
    pub status: &'a [StepStatus],
    /// Whether a person has let it past its gate.
    pub approved: &'a [bool],
    /// How many may be out at once.
    pub max_parallel: usize,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Every step is done.
    Complete,
    /// These are handed out, the chosen one first; indices into the phases.
    Hand(Vec<usize>, Selection),
    /// Nobody works, and the chosen step waits for a person's approval.
    Gate(usize, Selection),
    /// Nothing can be handed out before one of these is done.
    Wait(Vec<usize>, Waiting),
    /// Nobody works and nothing is ready: each of these, and what it waits for.
    Deadlock(Vec<(usize, Vec<String>)>),
}

/// Why nothing is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// As many are out as may be.
    Full,
    /// Nothing is ready before they are done.
    Dependencies,
    /// What is out, or what is ready, runs alone.
    Alone,
    /// What is ready waits for a person's approval, which is asked for when nobody works.
    Gate,
}

impl Standing<'_> {
    fn of(&self, status: StepStatus) -> Vec<usize> {
        (0..self.phases.len()).filter(|&at| self.status[at] == status).collect()
    }

    fn completed(&self, name: &str) -> bool {
        let found = self.phases.iter().position(|phase| phase.phase == name);
        found.is_some_and(|at| self.status[at] == StepStatus::Completed)
    }

    /// What the step still waits for.
    #[must_use]
    pub fn missing(&self, at: usize) -> Vec<String> {
        let needs = self.phases[at].depends_on.iter();
        needs.filter(|name| !self.completed(name)).cloned().collect()
    }

    /// Steps that could be handed out now, in the workflow's order.
    #[must_use]
    pub fn ready(&self) -> Vec<usize> {
        let mut pending = self.of(StepStatus::Pending);
        pending.retain(|&at| self.phases[at].depends_on.iter().all(|name| self.completed(name)));
        pending
    }

    fn gated(&self, at: usize) -> bool {
        self.phases[at].requires_approval && !self.approved[at]
    }

    /// Decides what comes next, handing out at most `want` steps.
    ///
    /// # Errors
    /// The requested step where the workflow has none of that name.
    pub fn next(&self, hints: &Hints, want: usize) -> Result<Next, String> {
        let requested = self.requested(hints)?;
        if self.status.iter().all(|s| matches!(s, StepStatus::Completed | StepStatus::Skipped)) {
            return Ok(Next::Complete);
        }
        let (ready, running) = (self.ready(), self.of(StepStatus::Running));
        if ready.is_empty() && running.is_empty() {
            let left = self.of(StepStatus::Pending).into_iter();
            return Ok(Next::Deadlock(left.map(|at| (at, self.missing(at))).collect()));
        }
        if ready.is_empty() {
            return Ok(Next::Wait(running, Waiting::Dependencies));
        }
        let alone = |at: &usize| !self.phases[*at].allow_parallel;
        let free = self.max_parallel.saturating_sub(running.len()).min(want);
        if running.iter().any(alone) {
            return Ok(Next::Wait(running, Waiting::Alone));
        }
        if free == 0 {
            return Ok(Next::Wait(running, Waiting::Full));
        }
        let mut takers = ready;
        if !running.is_empty() {
            takers.retain(|at| !alone(at));
            if takers.is_empty() {
                return Ok(Next::Wait(running, Waiting::Alone));
            }
            takers.retain(|&at| !self.gated(at));
            if takers.is_empty() {
                return Ok(Next::Wait(running, Waiting::Gate));
            }
        }
        let (order, mut selection) = self.select(&takers, hints);
        selection.requested_not_ready = requested;
        if self.gated(order[0]) {
            return Ok(Next::Gate(order[0], selection));
        }
        if alone(&order[0]) {
            return Ok(Next::Hand(vec![order[0]], selection));
        }
        let further = order[1..].iter().copied().filter(|at| !alone(at) && !self.gated(*at));
        let handed = std::iter::once(order[0]).chain(further).take(free).collect();
        Ok(Next::Hand(handed, selection))
    }

    /// What the requested step still waits for: nothing where it is ready, or past.
    fn requested(&self, hints: &Hints) -> Result<Vec<String>, String> {
        let Some(name) = &hints.requested_step_name else { return Ok(vec![]) };
        let found = self.phases.iter().position(|phase| phase.phase == *name);
        let at = found.ok_or_else(|| name.clone())?;
        if self.status[at] == StepStatus::Pending { Ok(self.missing(at)) } else { Ok(vec![]) }
    }

    /// The candidates, best first, and how the best was chosen.
    fn select(&self, candidates: &[usize], hints: &Hints) -> (Vec<usize>, Selection) {
        let name = |at: usize| self.phases[at].phase.as_str();
        let mut scored: Vec<(Score, usize)> =
            candidates.iter().map(|&at| (score(&self.phases[at], hints), at)).collect();
        scored.sort_by(|(a, i), (b, j)| b.total().cmp(&a.total()).then(name(*i).cmp(name(*j))));
        let (best, chosen) = scored[0];
        let tied = scored.get(1).is_some_and(|(other, _)| other.total() == best.total());
        let reason = match best {
            Score { requested: true, .. } => "requested",
            _ if scored.len() == 1 => "only_candidate",
            _ if tied => "name",
            Score { paths, .. } if paths > 0 => "paths",
            _ => "tags",
        };
        let mut names: Vec<String> = candidates.iter().map(|&at| name(at).to_owned()).collect();
        names.sort();
        let points = |wanted: &String| {
            let found = scored.iter().find(|(_, at)| name(*at) == wanted);
            Value::from(found.map_or(0, |(score, _)| score.total()))
        };
        let scores: Map<String, Value> = names.iter().map(|n| (n.clone(), points(n))).collect();
        let selection = Selection {
            chosen: name(chosen).to_owned(),
            scores,
            reason: reason.to_owned(),
            candidates: names,
            tie_broken_by: tied.then(|| "name".to_owned()),
            requested_not_ready: vec![],
        };
        (scored.into_iter().map(|(_, at)| at).collect(), selection)
    }
}

#[derive(Clone, Copy)]
struct Score {
    requested: bool,
    paths: i64,
    tags: i64,
}

impl Score {
    fn total(self) -> i64 {
        i64::from(self.requested) * REQUESTED + self.paths + self.tags
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> i64 {
    i64::try_from(items.count()).unwrap_or(i64::MAX / 2)
}

fn score(phase: &Phase, hints: &Hints) -> Score {
    let paths: Vec<String> = hints.referenced_paths.iter().map(|p| globs::normalise(p)).collect();
    let matched = |pattern: &&String| paths.iter().any(|path| globs::matches(pattern, path));
    let meant = |tag: &&String| hints.intent_tags.contains(tag);
    Score {
        requested: hints.requested_step_name.as_deref() == Some(phase.phase.as_str()),
        paths: PATTERN.saturating_mul(count(phase.path_patterns.iter().filter(matched))),
        tags: TAG.saturating_mul(count(phase.tags.iter().filter(meant))),
    }
}

#[cfg(test)]
#[path = "ready_tests.rs"]
mod tests;
