//! A further step for somebody who has none, and the step of a token once more.

use super::ctx::{Ctx, stored};
use super::error::StepsError;
use super::events::Whose;
use super::judge::{self, Worth};
use super::limiter::{self, Caller, Guesses};
use super::sql_read;
use super::start::check_hints;
use super::token::Claims;
use super::view::{ExecutionState, Handed, HandedStatus, Hints};
use super::work::{Advanced, Work};

/// Hands out one more ready step.
pub(super) async fn claim(
    ctx: &Ctx,
    execution_id: &str,
    hints: &Hints,
) -> Result<Handed, StepsError> {
    let result = async {
        check_hints(hints)?;
        try_claim(ctx, execution_id, hints).await
    }
    .await;
    if let Err(error) = &result {
        ctx.refused(error, Whose { execution_id: Some(execution_id), ..Whose::default() });
    }
    result
}

async fn try_claim(ctx: &Ctx, execution_id: &str, hints: &Hints) -> Result<Handed, StepsError> {
    let mut work = Work::take(ctx, execution_id).await?;
    work.read_steps().await?;
    let refused = work.must_run();
    let done = match (work.row.state, refused) {
        (ExecutionState::Running, _) => work.advance(hints, 1).await?,
        (ExecutionState::Idle, Err(refused)) => return Err(refused),
        (_, refused) => {
            let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
            Advanced { message, gate: work.gate().await?, ..Advanced::default() }
        }
    };
    let agent = done.given.first().map(|(at, _)| work.steps[*at].agent_name.clone());
    let Some(agent) = agent else {
        let changed = !work.events.is_empty();
        let handed = work.handed(done)?;
        // A gate or a deadlock was found on the way: that is a change like any other.
        if changed {
            work.finish(true).await?;
        } else {
            work.tx.rollback().await?;
        }
        return Ok(handed);
    };
    let caller = Caller { execution_id: Some(execution_id), agent: &agent };
    let now = work.now;
    limiter::check(&mut work.tx, &ctx.config, caller, now).await?;
    let handed = work.handed(done)?;
    work.finish(true).await?;
    Ok(handed)
}

/// The step of a token that is out; a pure read.
pub(super) async fn peek(ctx: &Ctx, guesses: &Guesses, token: &str) -> Result<Handed, StepsError> {
    let mut claims = None;
    let result = async {
        let verified = &*claims.insert(ctx.verify(token, guesses).await?);
        ctx.check_age(verified, ctx.now())?;
        look(ctx, verified).await
    }
    .await;
    if let Err(error) = &result {
        ctx.refused(error, Whose { claims: claims.as_ref(), ..Whose::default() });
    }
    result
}

async fn look(ctx: &Ctx, claims: &Claims) -> Result<Handed, StepsError> {
    let found = sql_read::execution_step(&ctx.db, &claims.execution_id, &claims.step_name).await?;
    let unknown = || StepsError::UnknownExecution { execution_id: claims.execution_id.clone() };
    let (head, step) = found.ok_or_else(unknown)?;
    let worth = judge::worth(claims, step.as_ref().map(|(step, _)| step), head.state);
    let (Worth::Live, Some((step, contract))) = (&worth, step) else {
        return Err(judge::refusal(worth, claims));
    };
    let snapshot = ctx.snapshot(&head.snapshot_hash).await?;
    let contract = stored("a step's contract", &contract.unwrap_or_default())?;
    let now = ctx.now();
    let handout = ctx.handout(&claims.execution_id, &snapshot, &step, contract, now);
    let message = match head.state {
        ExecutionState::Paused => format!(
            "Step '{}' is yours; the execution is paused, and takes its output when it goes on.",
            step.step_name
        ),
        _ => format!("Step '{}' is yours; submit its output with this token.", step.step_name),
    };
    Ok(Handed {
        status: HandedStatus::NoOp,
        execution_id: claims.execution_id.clone(),
        workflow_name: head.workflow_name,
        workflow_state: head.state,
        step: Some(handout),
        parallel: vec![],
        gate: None,
        selection: None,
        synthesis: None,
        message,
        warnings: vec![],
    })
}
