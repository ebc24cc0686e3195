//! Whether an authentic token of the right age is still good (`spec/steps.md` §4). Pure.

use super::error::StepsError;
use super::sql_rows::StepRow;
use super::token::Claims;
use super::view::{ExecutionState, StepStatus};

/// What an authentic token is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Its step is out, with this very token.
    Live,
    /// It was consumed, and nothing replaced it.
    Consumed,
    /// Why it is worth nothing any more.
    Revoked(String),
}

/// Holds the token against the step as it is stored.
#[must_use]
pub fn worth(claims: &Claims, step: Option<&StepRow>, state: ExecutionState) -> Worth {
    let Some(step) = step else {
        return Worth::Revoked(format!("the execution has no step '{}'", claims.step_name));
    };
    let same = step.attempt == claims.attempt && step.nonce.as_ref() == Some(&claims.nonce);
    match step.status {
        StepStatus::Running if same => Worth::Live,
        StepStatus::Completed if same => Worth::Consumed,
        StepStatus::Failed | StepStatus::Skipped => {
            Worth::Revoked(format!("the execution is {state}"))
        }
        _ if step.attempt > claims.attempt => Worth::Revoked(format!(
            "step '{}' was handed out again, as attempt {}",
            step.step_name, step.attempt
        )),
        _ => Worth::Revoked(format!("a newer token of step '{}' replaced it", step.step_name)),
    }
}

/// The error of a token that is not live.
#[must_use]
pub fn refusal(worth: Worth, claims: &Claims) -> StepsError {
    match worth {
        Worth::Revoked(why) => StepsError::TokenRevoked { why },
        Worth::Consumed | Worth::Live => {
            StepsError::TokenConsumed { step_name: claims.step_name.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Millis;

    fn claims(nonce: &str, attempt: u32) -> Claims {
        Claims {
            execution_id: "e".to_owned(),
            step_name: "s".to_owned(),
            issued_at: Millis(0),
            nonce: nonce.to_owned(),
            attempt,
        }
    }

    fn step(status: StepStatus, nonce: Option<&str>, attempt: u32) -> StepRow {
        StepRow {
            step_name: "s".to_owned(),
            ordinal: 0,
            agent_name: "a".to_owned(),
            status,
            attempt,
            approved: false,
            nonce: nonce.map(str::to_owned),
            kid: None,
            issued_at: None,
            started_at: None,
            completed_at: None,
            output_digest: None,
            focus: None,
        }
    }

    #[test]
    fn only_the_stored_nonce_of_a_running_step_is_live() {
        let of = |row: StepRow, nonce: &str, attempt| {
            worth(&claims(nonce, attempt), Some(&row), ExecutionState::Running)
        };
        use StepStatus::{Completed, Failed, Pending, Running};
        assert_eq!(of(step(Running, Some("n"), 1), "n", 1), Worth::Live);
        assert_eq!(of(step(Completed, Some("n"), 1), "n", 1), Worth::Consumed);
        for (row, part) in [
            (step(Running, Some("m"), 1), "newer token"),
            (step(Running, Some("n"), 2), "attempt 2"),
            (step(Completed, Some("m"), 1), "newer token"),
            (step(Pending, None, 0), "newer token"),
            (step(Failed, None, 1), "execution is"),
        ] {
            match of(row, "n", 1) {
                Worth::Revoked(why) => assert!(why.contains(part), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        let gone = worth(&claims("n", 1), None, ExecutionState::Running);
        assert!(matches!(gone, Worth::Revoked(why) if why.contains("no step")));
    }
}
