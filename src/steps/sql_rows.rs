//! Rows of the steps slice, and statements that store many rows at once.

use super::execution::UnknownWord;
use super::view::{ExecutionState, StepStatus};
use crate::clock::Millis;
use crate::db::{Column, ColumnError};

macro_rules! word_columns {
    ($($type:ty),*) => {$(
        impl Column for $type {
            type Raw = String;
            fn from_raw(raw: String) -> Result<$type, ColumnError> {
                raw.parse().map_err(|error: UnknownWord| error.into())
            }
        }
    )*};
}

word_columns!(ExecutionState, StepStatus);

crate::row! {
    /// A row of `executions`.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ExecutionRow {
        /// Id.
        pub execution_id: String,
        /// Name of its workflow.
        pub workflow_name: String,
        /// Hash of its snapshot.
        pub snapshot_hash: String,
        /// Project.
        pub project: Option<String>,
        /// Where it stands.
        pub state: ExecutionState,
        /// Why.
        pub state_reason: Option<String>,
        /// The step that waits for approval.
        pub waiting_step: Option<String>,
        /// Steps that may be out at once.
        pub max_parallel: u32,
        /// Whether blockers pause it.
        pub pause_on_blockers: bool,
        /// Grows with every change.
        pub version: i64,
        /// Made.
        pub created_at: Millis,
        /// Started.
        pub started_at: Option<Millis>,
        /// Last changed.
        pub updated_at: Millis,
        /// Ended.
        pub completed_at: Option<Millis>,
        /// Last activity of a person or a model.
        pub active_at: Millis,
        /// Stall events since then.
        pub stall_level: i64,
        /// Paused since.
        pub paused_at: Option<Millis>,
        /// Time spent in earlier pauses, in ms.
        pub paused_ms: i64,
        /// Hints for the first step of a held execution, JSON.
        pub hints: Option<String>,
        /// Of a completed one, JSON.
        pub synthesis: Option<String>,
    }

    /// A row of `execution_steps`, without its contract.
    #[derive(Clone, Debug, PartialEq)]
    pub struct StepRow {
        /// Name.
        pub step_name: String,
        /// Its place among the workflow's phases.
        pub ordinal: usize,
        /// Agent.
        pub agent_name: String,
        /// Where it stands.
        pub status: StepStatus,
        /// Current or last attempt, from 1; 0 before the first.
        pub attempt: u32,
        /// Whether a person let it past its gate.
        pub approved: bool,
        /// Nonce of the token that is out, or that was consumed.
        pub nonce: Option<String>,
        /// Key of that token.
        pub kid: Option<String>,
        /// When that token was issued.
        pub issued_at: Option<Millis>,
        /// First handed out.
        pub started_at: Option<Millis>,
        /// Taken in or given up.
        pub completed_at: Option<Millis>,
        /// Digest of what was submitted.
        pub output_digest: Option<String>,
        /// Paths that it refers to, a JSON list.
        pub focus: Option<String>,
    }

    /// What the synthesis needs of an output.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Gist {
        /// The step.
        pub step_name: String,
        /// Its summary.
        pub summary: String,
        /// Its confidence.
        pub confidence: Option<f64>,
        /// Its blockers, a JSON list.
        pub blockers: String,
    }
}

/// A row of `execution_artifacts` that is to be stored, with its content.
#[derive(Clone, Debug)]
pub struct NewArtifact {
    /// UUID.
    pub artifact_id: String,
    /// Execution.
    pub execution_id: String,
    /// Step; none for the synthesis.
    pub step_name: Option<String>,
    /// Agent.
    pub agent_name: String,
    /// Type.
    pub artifact_type: String,
    /// Title.
    pub title: String,
    /// What it is.
    pub description: Option<String>,
    /// Mime type.
    pub content_type: String,
    /// JSON.
    pub metadata: Option<String>,
    /// The content.
    pub content: String,
    /// Whether its execution completed with it.
    pub is_final: bool,
}
