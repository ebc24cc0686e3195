//! What can go wrong when the writing slice is asked for something.

use crate::db::DbError;

/// A refused or failed request. Every variant says what was wrong, where, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum WritingError {
    /// An argument is not of its form.
    #[error("{field}: got {given}; expected {expected}")]
    Invalid {
        /// Name of the argument.
        field: &'static str,
        /// What came, clipped.
        given: String,
        /// What would be right.
        expected: String,
    },
    /// No workflow has this id.
    #[error(
        "no writing workflow {workflow_id} is known; list_active_workflows shows those in work, \
         create_workflow makes one"
    )]
    UnknownWorkflow {
        /// The id asked for.
        workflow_id: i64,
    },
    /// No approval has this id.
    #[error("no approval {approval_id} is known; get_pending_approvals shows those that are open")]
    UnknownApproval {
        /// The id asked for.
        approval_id: i64,
    },
    /// The series has no such book.
    #[error("workflow {workflow_id} has books 1 to {total_books}; there is no book {book_number}")]
    UnknownBook {
        /// The workflow.
        workflow_id: i64,
        /// The book asked for.
        book_number: i64,
        /// Books it has.
        total_books: i64,
    },
    /// Something must hold first.
    #[error("workflow {workflow_id} cannot {wanted}: {}", unmet.join("; "))]
    Unmet {
        /// The workflow.
        workflow_id: i64,
        /// What was asked for.
        wanted: String,
        /// What is missing, in words.
        unmet: Vec<String>,
    },
    /// A gate must be passed first.
    #[error("workflow {workflow_id} cannot {wanted}: {}", unmet.join("; "))]
    GateRequired {
        /// The workflow.
        workflow_id: i64,
        /// What was asked for.
        wanted: String,
        /// What is missing, in words.
        unmet: Vec<String>,
    },
    /// The object is not in a state where this can be done.
    #[error("{message}")]
    WrongState {
        /// What state it is in and what could be done instead.
        message: String,
    },
    /// The approval was decided before.
    #[error("approval {approval_id} was decided already: {status}; request_approval asks anew")]
    AlreadyDecided {
        /// The approval.
        approval_id: i64,
        /// What was decided.
        status: &'static str,
    },
    /// Such an approval is open.
    #[error(
        "{approval_type} has an open approval already: {approval_id}; submit_approval decides it"
    )]
    ApprovalPending {
        /// Of what.
        approval_type: &'static str,
        /// The open one.
        approval_id: i64,
    },
    /// The idempotency key was used with other arguments.
    #[error(
        "idempotency_key {key:?} was used for metric {metric_id} with other arguments; use a new key \
         for another metric"
    )]
    KeyReused {
        /// The key.
        key: String,
        /// What it was used for.
        metric_id: i64,
    },
    /// No report says that the book is ready.
    #[error("book {book_number} cannot be marked ready: {reason}")]
    NotReady {
        /// The book.
        book_number: i64,
        /// Why not, and what to do.
        reason: String,
    },
    /// The database did not answer whether it has stored it.
    #[error("the database went away while this was stored; it is not known whether it was")]
    Unsure,
    /// The daemon is stopping.
    #[error("the daemon is stopping; nothing was recorded")]
    Stopping,
    /// A stored value is not one the program stores there.
    #[error("stored data of {what} cannot be read: {problem}")]
    Stored {
        /// Of what.
        what: &'static str,
        /// Why not.
        problem: String,
    },
    /// What is written to could not be.
    #[error("cannot write the export: {0}")]
    Io(#[from] std::io::Error),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// How much of a refused value is repeated, in characters.
const GIVEN_MAX_CHARS: usize = 60;

impl WritingError {
    /// A refused argument; what came is quoted and clipped, and `()` stands for nothing.
    pub fn invalid(
        field: &'static str,
        given: impl std::fmt::Debug,
        expected: impl Into<String>,
    ) -> WritingError {
        let mut given = format!("{given:?}");
        if given == "()" {
            "nothing".clone_into(&mut given);
        }
        let clipped: String = given.chars().take(GIVEN_MAX_CHARS).collect();
        let given = if clipped.len() < given.len() { format!("{clipped}…") } else { given };
        WritingError::Invalid { field, given, expected: expected.into() }
    }

    /// Stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            WritingError::Invalid { .. } => "invalid_argument",
            WritingError::UnknownWorkflow { .. } => "unknown_workflow",
            WritingError::UnknownApproval { .. } => "unknown_approval",
            WritingError::UnknownBook { .. } => "unknown_book",
            WritingError::Unmet { .. } => "prerequisites_unmet",
            WritingError::GateRequired { .. } => "quality_gate_required",
            WritingError::WrongState { .. } => "wrong_state",
            WritingError::AlreadyDecided { .. } => "already_decided",
            WritingError::ApprovalPending { .. } => "approval_pending",
            WritingError::KeyReused { .. } => "idempotency_conflict",
            WritingError::NotReady { .. } => "not_ready",
            WritingError::Unsure => "outcome_unknown",
            WritingError::Stopping => "stopping",
            WritingError::Stored { .. } => "stored_data",
            WritingError::Io(_) => "io",
            WritingError::Db(_) => "database",
        }
    }

    /// Whether the caller can mend it by asking differently or later.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        !matches!(
            self,
            WritingError::Io(_)
                | WritingError::Db(_)
                | WritingError::Stored { .. }
                | WritingError::Unsure
        )
    }
}
