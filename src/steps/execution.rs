//! The state machine of an execution, as data (`spec/steps.md` §5). Pure.
//!
//! ```text
//! idle ──► running ──► completed | failed | diverged
//!   │       │  ▲ │
//!   │       ▼  │ └───► abandoned
//!   │      paused ───► abandoned
//!   └────► abandoned
//! ```
//! The only extension to seed 003's table is idle → abandoned: a held execution could otherwise
//! never be given up.

use std::fmt::{self, Display};
use std::str::FromStr;

use super::template::Complexity;
use super::view::{ControlAction, ExecutionState, StepStatus};

use ControlAction as A;
use ExecutionState as S;

/// What a control action does in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Refused: `state_conflict`.
    No,
    /// The execution goes to this state.
    To(ExecutionState),
    /// The execution stays where it is; a step changes. (`retry` without an attempt left fails it.)
    Stays,
}

use Effect::{No, Stays, To};

/// Every state, in the order of the seeds.
pub const STATES: [ExecutionState; 7] =
    [S::Idle, S::Running, S::Paused, S::Completed, S::Failed, S::Abandoned, S::Diverged];

/// Every control action, in the order of the table below.
pub const ACTIONS: [ControlAction; 9] = [
    A::Start,
    A::Pause,
    A::Resume,
    A::Abandon,
    A::Diverge,
    A::Fail,
    A::Retry,
    A::Reissue,
    A::Approve,
];

/// What each action does in each state; rows as [`STATES`], columns as [`ACTIONS`].
#[rustfmt::skip]
const CONTROL: [[Effect; 9]; 7] = [
    // start         pause         resume          abandon           diverge          fail           retry  reissue approve
    [To(S::Running), No,           No,             To(S::Abandoned), No,              No,            No,    No,     No],              // idle
    [No,             To(S::Paused), No,            To(S::Abandoned), To(S::Diverged), To(S::Failed), Stays, Stays,  Stays],           // running
    [No,             No,           To(S::Running), To(S::Abandoned), No,              No,            No,    No,     To(S::Running)],  // paused
    [No; 9],                                                                                                                          // completed
    [No; 9],                                                                                                                          // failed
    [No; 9],                                                                                                                          // abandoned
    [No; 9],                                                                                                                          // diverged
];

/// What `action` does in `state`.
#[must_use]
pub fn effect(state: ExecutionState, action: ControlAction) -> Effect {
    CONTROL[state as usize][action as usize]
}

/// The actions that `state` takes; `waiting` is whether a step waits for approval. An execution
/// that was paused for that goes on by `approve` alone, one that was paused otherwise by `resume`.
#[must_use]
pub fn allowed(state: ExecutionState, waiting: bool) -> Vec<ControlAction> {
    let hidden = match (state, waiting) {
        (S::Paused, true) => Some(A::Resume),
        (S::Paused, false) => Some(A::Approve),
        _ => None,
    };
    let takes = |action: &ControlAction| effect(state, *action) != No && Some(*action) != hidden;
    ACTIONS.into_iter().filter(takes).collect()
}

/// Whether an execution may go from one state to the other.
#[must_use]
pub fn may_move(from: ExecutionState, to: ExecutionState) -> bool {
    match from {
        S::Idle => matches!(to, S::Running | S::Abandoned),
        S::Running => {
            matches!(to, S::Completed | S::Failed | S::Paused | S::Abandoned | S::Diverged)
        }
        S::Paused => matches!(to, S::Running | S::Abandoned),
        S::Completed | S::Failed | S::Abandoned | S::Diverged => false,
    }
}

/// What becomes of a step that is out when its execution enters a terminal state.
#[must_use]
pub fn step_end(state: ExecutionState) -> StepStatus {
    if state == S::Failed { StepStatus::Failed } else { StepStatus::Skipped }
}

/// Attempts that a step has (`spec/steps.md` §1.1, execution policies).
#[must_use]
pub fn attempts(complexity: Complexity) -> u32 {
    match complexity {
        Complexity::Simple => 1,
        Complexity::Moderate => 2,
        Complexity::High => 3,
    }
}

/// How many times the time limit of a simple workflow this one has: the ratio of 15 minutes, 1 hour
/// and 2 hours (`spec/steps.md` §1.1).
#[must_use]
pub fn time_factor(complexity: Complexity) -> i64 {
    match complexity {
        Complexity::Simple => 1,
        Complexity::Moderate => 4,
        Complexity::High => 8,
    }
}

impl ExecutionState {
    /// The state as it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            S::Idle => "idle",
            S::Running => "running",
            S::Paused => "paused",
            S::Completed => "completed",
            S::Failed => "failed",
            S::Abandoned => "abandoned",
            S::Diverged => "diverged",
        }
    }

    /// Whether nothing can change any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, S::Idle | S::Running | S::Paused)
    }
}

impl StepStatus {
    /// The status as it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            StepStatus::Pending => "pending",
            StepStatus::Running => "running",
            StepStatus::Completed => "completed",
            StepStatus::Failed => "failed",
            StepStatus::Skipped => "skipped",
        }
    }
}

impl ControlAction {
    /// The action as it is asked for.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            A::Start => "start",
            A::Pause => "pause",
            A::Resume => "resume",
            A::Abandon => "abandon",
            A::Diverge => "diverge",
            A::Fail => "fail",
            A::Retry => "retry",
            A::Reissue => "reissue",
            A::Approve => "approve",
        }
    }
}

/// A word that names no state, status or action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not one of {1}")]
pub struct UnknownWord(pub String, pub &'static str);

macro_rules! words {
    ($type:ty, $all:expr, $expected:literal) => {
        impl Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<$type, UnknownWord> {
                let found = $all.into_iter().find(|word| word.as_str() == text);
                found.ok_or_else(|| UnknownWord(text.to_owned(), $expected))
            }
        }
    };
}

words!(ExecutionState, STATES, "idle, running, paused, completed, failed, abandoned, diverged");
words!(
    ControlAction,
    ACTIONS,
    "start, pause, resume, abandon, diverge, fail, retry, reissue, approve"
);
words!(
    StepStatus,
    [
        StepStatus::Pending,
        StepStatus::Running,
        StepStatus::Completed,
        StepStatus::Failed,
        StepStatus::Skipped
    ],
    "pending, running, completed, failed, skipped"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_rows_and_columns_are_the_enums() {
        for (index, state) in STATES.into_iter().enumerate() {
            assert_eq!(state as usize, index);
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        for (index, action) in ACTIONS.into_iter().enumerate() {
            assert_eq!(action as usize, index);
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        assert!("walking".parse::<ExecutionState>().is_err());
    }

    #[test]
    fn an_action_only_makes_legal_moves() {
        for state in STATES {
            for action in ACTIONS {
                match effect(state, action) {
                    To(next) => assert!(may_move(state, next), "{state} {action}"),
                    Stays => assert!(!state.is_terminal(), "{state} {action}"),
                    No => {}
                }
            }
        }
    }

    #[test]
    fn transitions_are_those_of_seed_003_and_one_more() {
        let mut moves = vec![];
        for from in STATES {
            moves.extend(STATES.into_iter().filter(|to| may_move(from, *to)).map(|to| (from, to)));
        }
        let expected = [
            (S::Idle, S::Running),
            (S::Idle, S::Abandoned),
            (S::Running, S::Paused),
            (S::Running, S::Completed),
            (S::Running, S::Failed),
            (S::Running, S::Abandoned),
            (S::Running, S::Diverged),
            (S::Paused, S::Running),
            (S::Paused, S::Abandoned),
        ];
        assert_eq!(moves, expected);
    }

    #[test]
    fn an_ended_execution_takes_no_action() {
        for state in STATES.into_iter().filter(|state| state.is_terminal()) {
            assert_eq!(allowed(state, false), [], "{state}");
        }
        assert_eq!(allowed(S::Idle, false), [A::Start, A::Abandon]);
        assert_eq!(allowed(S::Paused, false), [A::Resume, A::Abandon]);
        assert_eq!(allowed(S::Paused, true), [A::Abandon, A::Approve]);
    }
}
