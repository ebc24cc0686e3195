//! Step workflows: an LLM is handed one step after another against a token.
//!
//! This is the slice's handle. Everything above talks to [`Steps`] and to the plain data of
//! [`view`].
//!
//! ## Who writes what, and what `kill -9` leaves
//! Every change is one transaction that begins by taking the execution's row (`UPDATE … SET version
//! = version + 1 … RETURNING`): on PostgreSQL that is the row's lock, on SQLite the whole
//! database's. So there is one writer of an execution at a time, whoever waited sees what the one
//! before committed, and a crash at any statement leaves the old state whole; the next call goes
//! on from there. Nothing is kept in memory that decides anything.
//!
//! | fact | written by | in one transaction with |
//! |---|---|---|
//! | execution, all its steps `pending`, its snapshot | `start` | the first step handed out (or the pause at its gate), events, the agent's rate bucket |
//! | step `pending → running`, nonce, contract | `submit`, `claim`, `control` start, resume, approve | events, and what caused it |
//! | step `running → completed`, output, artifacts, the answer | `submit` | both rate buckets, the next steps, the execution's new state, events |
//! | new nonce | `control` reissue, retry (with the next attempt), resume (of expired ones) | events |
//! | execution `→ paused` | `submit`, `start` (gate, blockers), `control` | events |
//! | execution `→ completed`, synthesis, final artifacts | the submission of the last step | as a submission |
//! | execution `→ failed`, `abandoned`, `diverged`; steps out and pending closed, nonces gone | `control`, the sweeper, a deadlock | events |
//! | `stall_level` | the sweeper; every change sets it back | `stall_detected` |
//!
//! | killed | what is left | what happens next |
//! |---|---|---|
//! | before the commit | the old state; the token is good | the same call succeeds |
//! | after the commit, before the answer | the new state, the answer stored | the same token and output get the same answer; other output gets `token_consumed` |
//! | between the commit and the hint to listeners | the new state | listeners read again at their next look |
//! | while a key file is made or replaced | no file, or a whole one | the next start makes or reads it |
//!
//! Order of checks of a submission: shape of the output and the token, its MAC (one that is wrong
//! counts against the connection), its age (no database so far), the rate limits, the step, the state. The lock order within a transaction is
//! execution, rate buckets (task, agent), steps, counters, so that transactions cannot deadlock.

mod claim;
pub mod content_sql;
pub mod contract;
mod control;
mod ctx;
pub mod error;
pub mod events;
pub mod execution;
pub mod front_matter;
pub mod globs;
pub mod guardrails;
pub mod judge;
pub mod keys;
pub mod library;
pub mod limiter;
pub mod output;
mod query;
pub mod ready;
pub mod sql;
pub mod sql_read;
pub mod sql_rows;
mod stall;
mod start;
mod submit;
pub mod template;
pub mod token;
pub mod view;
mod work;
mod yaml;

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::changes::Subscription;
use ctx::Ctx;
pub use ctx::StepsDeps;
pub use error::StepsError;
pub use events::TYPES as EVENT_TYPES;
pub use library::{Library, LibraryDeps, SyncReport, WorkflowListing};
use limiter::Guesses;
pub use stall::Swept;
pub use template::{Agent, Complexity, Kind, Phase, Problem, Rule, Snapshot, Workflow};
pub use view::*;

/// Handle to the steps slice; cheap to clone.
#[derive(Clone)]
pub struct Steps {
    ctx: Arc<Ctx>,
    guesses: Arc<Guesses>,
}

impl Steps {
    /// Loads or makes the signing key and starts the sweeper: stalls, abandonment, time limits,
    /// retention, rotation of the key. It ends with `shutdown`.
    ///
    /// # Errors
    /// The key file's or the database's.
    pub async fn open(deps: StepsDeps) -> Result<(Steps, JoinHandle<()>), StepsError> {
        let (ctx, notes) = Ctx::open(deps).await?;
        let ctx = Arc::new(ctx);
        let task = tokio::spawn(stall::run(Arc::clone(&ctx), notes));
        Ok((Steps { ctx, guesses: Arc::default() }, task))
    }

    /// A handle for one connection: what it guesses at tokens is counted for itself. Copies of a
    /// handle count together.
    #[must_use]
    pub fn of_connection(&self) -> Steps {
        Steps { ctx: Arc::clone(&self.ctx), guesses: Arc::default() }
    }

    /// Starts a workflow and hands out its first step; with `hold` it is made `idle`.
    ///
    /// # Errors
    /// [`StepsError`]; after an error nothing was stored.
    pub async fn start(&self, request: StartRequest) -> Result<Handed, StepsError> {
        start::start_named(&self.ctx, request).await
    }

    /// The same with content that the caller has; the request's `workflow_name` is not looked at.
    ///
    /// # Errors
    /// [`StepsError`]; after an error nothing was stored.
    pub async fn start_snapshot(
        &self,
        snapshot: Snapshot,
        request: StartRequest,
    ) -> Result<Handed, StepsError> {
        start::start(&self.ctx, snapshot, request).await
    }

    /// Takes a step's output in and hands out what comes next.
    ///
    /// The same token with the same output again is answered as the first time: the caller lost
    /// the answer.
    ///
    /// # Errors
    /// [`StepsError`]; after an error nothing was changed and the token is as good as before.
    pub async fn submit(
        &self,
        token: &str,
        output: Output,
        hints: Hints,
    ) -> Result<Handed, StepsError> {
        submit::submit(&self.ctx, &self.guesses, token, output, &hints).await
    }

    /// The step that the token is for, again; changes nothing.
    ///
    /// # Errors
    /// The token's.
    pub async fn peek(&self, token: &str) -> Result<Handed, StepsError> {
        claim::peek(&self.ctx, &self.guesses, token).await
    }

    /// Hands out one more ready step, where there is one and the execution may have more out;
    /// otherwise [`HandedStatus::NoOp`] with the reason as message.
    ///
    /// # Errors
    /// [`StepsError`]; after an error nothing was changed.
    pub async fn claim(&self, execution_id: &str, hints: Hints) -> Result<Handed, StepsError> {
        claim::claim(&self.ctx, execution_id, &hints).await
    }

    /// Pauses, resumes, ends… an execution, or renews the token of a step.
    ///
    /// # Errors
    /// [`StepsError::StateConflict`] names the actions that would be taken; after an error nothing
    /// was changed.
    pub async fn control(&self, request: ControlRequest) -> Result<Controlled, StepsError> {
        control::control(&self.ctx, request).await
    }

    /// Everything about an execution but what its steps submitted.
    ///
    /// # Errors
    /// [`StepsError::UnknownExecution`], or the database's.
    pub async fn execution(&self, execution_id: &str) -> Result<ExecutionView, StepsError> {
        query::execution(&self.ctx, execution_id, false).await
    }

    /// The same with each step's output and the ids of its artifacts.
    ///
    /// # Errors
    /// [`StepsError::UnknownExecution`], or the database's.
    pub async fn history(&self, execution_id: &str) -> Result<ExecutionView, StepsError> {
        query::execution(&self.ctx, execution_id, true).await
    }

    /// The steps that are out, with their tokens computed again; never makes one.
    ///
    /// # Errors
    /// [`StepsError::UnknownExecution`], or the database's.
    pub async fn current(&self, execution_id: &str) -> Result<Handed, StepsError> {
        query::current(&self.ctx, execution_id).await
    }

    /// Executions, newest first.
    ///
    /// # Errors
    /// [`StepsError::Invalid`] for the limit, or the database's.
    pub async fn executions(
        &self,
        filter: &ExecutionFilter,
    ) -> Result<Vec<ExecutionSummary>, StepsError> {
        query::executions(&self.ctx, filter).await
    }

    /// Artifacts, newest first.
    ///
    /// # Errors
    /// [`StepsError::Invalid`] for the limit, or the database's.
    pub async fn artifacts(
        &self,
        filter: &ArtifactFilter,
    ) -> Result<Vec<ArtifactView>, StepsError> {
        query::artifacts(&self.ctx, filter).await
    }

    /// One artifact with its content.
    ///
    /// # Errors
    /// [`StepsError::UnknownArtifact`], or the database's.
    pub async fn artifact(&self, artifact_id: &str) -> Result<ArtifactView, StepsError> {
        query::artifact(&self.ctx, artifact_id).await
    }

    /// The rules that count for the steps an execution has out, of its snapshot.
    ///
    /// # Errors
    /// [`StepsError::UnknownExecution`], or the database's.
    pub async fn guardrails(&self, execution_id: &str) -> Result<Vec<Rule>, StepsError> {
        query::guardrails(&self.ctx, execution_id).await
    }

    /// Telemetry events, newest first.
    ///
    /// # Errors
    /// [`StepsError::Invalid`] for the limit, or the database's.
    pub async fn events(&self, filter: &EventFilter) -> Result<Vec<EventView>, StepsError> {
        query::events(&self.ctx, filter).await
    }

    /// The newest execution that has not ended, of a project or of all.
    ///
    /// # Errors
    /// The database's.
    pub async fn active(&self, project: Option<&str>) -> Result<Option<String>, StepsError> {
        query::active(&self.ctx, project).await
    }

    /// One round of the sweeper, now. It makes one every minute by itself.
    ///
    /// # Errors
    /// The database's or the key file's; what was done before it stays done.
    pub async fn sweep(&self) -> Result<Swept, StepsError> {
        stall::sweep(&self.ctx).await
    }

    /// The content that workflows are started from.
    #[must_use]
    pub fn library(&self) -> &Library {
        &self.ctx.library
    }

    /// Stream of changes: a hint that an execution is worth reading again, never data.
    #[must_use]
    pub fn changes(&self) -> Subscription {
        self.ctx.changes.subscribe()
    }
}
