//! What can go wrong when the steps slice is asked for something.

use super::view::{ControlAction, ExecutionState};
use crate::db::DbError;

/// How much of a caller's text is repeated in an error, in characters.
const SHOWN_CHARS: usize = 200;

/// The text, cut where it is too long to be repeated.
#[must_use]
pub fn clipped(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A refused or failed request. Every variant says what was wrong, where, and what would be right.
/// After an error nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StepsError {
    /// An argument is not of its form.
    #[error("{field}: got {given}; expected {expected}")]
    Invalid {
        /// Name or path of the argument, such as `output.artifacts[2].content`.
        field: String,
        /// What came, clipped.
        given: String,
        /// What would be right.
        expected: String,
    },
    /// No workflow has this name.
    #[error("Workflow '{name}' not found; known: {known}")]
    UnknownWorkflow {
        /// The name asked for.
        name: String,
        /// Names that are known.
        known: String,
    },
    /// The workflow's files have problems; `adwd content check` names them all.
    #[error("Workflow '{name}' cannot be started: {problems}")]
    InvalidWorkflow {
        /// Its name.
        name: String,
        /// What is wrong.
        problems: String,
    },
    /// No agent has this name.
    #[error("Agent '{name}' not found; known: {known}")]
    UnknownAgent {
        /// The name asked for.
        name: String,
        /// Names that are known.
        known: String,
    },
    /// The id is taken.
    #[error("Execution ID '{execution_id}' already exists; leave it out to get a new one")]
    ExecutionExists {
        /// The id.
        execution_id: String,
    },
    /// No execution has this id.
    #[error("Execution '{execution_id}' not found")]
    UnknownExecution {
        /// The id asked for.
        execution_id: String,
    },
    /// No artifact has this id.
    #[error("Artifact '{artifact_id}' not found")]
    UnknownArtifact {
        /// The id asked for.
        artifact_id: String,
    },
    /// The token is no token of ours in form.
    #[error("Invalid or malformed token: {problem}")]
    TokenMalformed {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The token's signature is not ours: altered, forged, or of a key that is gone.
    #[error("Token signature is not valid: it was altered, or is not from this daemon")]
    TokenSignature,
    /// The token has expired.
    #[error(
        "Token expired (issued {minutes} minutes ago, valid {valid_minutes}); get a new one with workflow_control action \"reissue\""
    )]
    TokenExpired {
        /// Age in minutes.
        minutes: i64,
        /// Lifetime in minutes.
        valid_minutes: i64,
    },
    /// The token was used, for another output than this one.
    #[error(
        "Token already consumed: step '{step_name}' was submitted; read the current step for the next token"
    )]
    TokenConsumed {
        /// Its step.
        step_name: String,
    },
    /// The token was replaced by a newer one, or its execution has ended.
    #[error("Token revoked: {why}")]
    TokenRevoked {
        /// What replaced or ended it.
        why: String,
    },
    /// The execution is not in a state where this can be done.
    #[error("Execution '{execution_id}' is {state}: {message}")]
    StateConflict {
        /// The execution.
        execution_id: String,
        /// Where it stands.
        state: ExecutionState,
        /// What would be right.
        message: String,
        /// Actions that this state takes.
        allowed: Vec<ControlAction>,
    },
    /// The step waits for others, or is not out.
    #[error("Step '{step_name}': {message}")]
    StepNotReady {
        /// The step.
        step_name: String,
        /// What it waits for.
        message: String,
    },
    /// Too many calls.
    #[error("Rate limit exceeded for {scope}:{key}; try again in {retry_after_ms} ms")]
    RateLimited {
        /// `task` or `agent`.
        scope: &'static str,
        /// Which one.
        key: String,
        /// When a call would be let through.
        retry_after_ms: i64,
    },
    /// An output or artifact is larger than its bound.
    #[error("{what} has {bytes} bytes; at most {max} are taken")]
    TooLarge {
        /// Which one.
        what: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
    /// A content folder or key file could not be read or written.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// The database failed.
    #[error("the database failed: {0}")]
    Db(#[from] DbError),
}

impl StepsError {
    /// The stable word for programs (`spec/steps.md` §3.3).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            StepsError::Invalid { .. } => "invalid_arguments",
            StepsError::UnknownWorkflow { .. } => "unknown_workflow",
            StepsError::InvalidWorkflow { .. } => "invalid_workflow",
            StepsError::UnknownAgent { .. } => "unknown_agent",
            StepsError::ExecutionExists { .. } => "execution_exists",
            StepsError::UnknownExecution { .. } => "unknown_execution",
            StepsError::UnknownArtifact { .. } => "unknown_artifact",
            StepsError::TokenMalformed { .. } => "token_malformed",
            StepsError::TokenSignature => "token_signature",
            StepsError::TokenExpired { .. } => "token_expired",
            StepsError::TokenConsumed { .. } => "token_consumed",
            StepsError::TokenRevoked { .. } => "token_revoked",
            StepsError::StateConflict { .. } => "state_conflict",
            StepsError::StepNotReady { .. } => "step_not_ready",
            StepsError::RateLimited { .. } => "rate_limited",
            StepsError::TooLarge { .. } => "artifact_too_large",
            StepsError::Db(error) if error.is_transient() => "busy",
            StepsError::Io { .. } | StepsError::Db(_) => "internal",
        }
    }
}
