//! Taking a step's output in: the token is consumed, the output stored, the next step handed out.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ctx::{Ctx, json as text, persona, stored};
use super::error::StepsError;
use super::events::Whose;
use super::judge::{self, Worth};
use super::limiter::{self, Caller, Guesses};
use super::output;
use super::sql::{self, NewOutput};
use super::sql_rows::{Gist, NewArtifact, StepRow};
use super::start::check_hints;
use super::token::Claims;
use super::view::{ArtifactIn, ExecutionState, Handed, Hints, Output, StepHandout, StepStatus};
use super::work::{Advanced, Work};
use crate::clock::Millis;

/// What the submitter was answered, as it is kept for one who lost the answer: without personas,
/// which are in the snapshot, and without tokens, which are never stored.
#[derive(Serialize, Deserialize)]
struct Answer {
    handed: Handed,
    /// Nonce and key id of each token in it.
    issued: Vec<(Option<String>, Option<String>)>,
}

/// Takes the output in.
pub(super) async fn submit(
    ctx: &Ctx,
    guesses: &Guesses,
    token: &str,
    output: Output,
    hints: &Hints,
) -> Result<Handed, StepsError> {
    let mut claims = None;
    let result = async {
        output::check(&output)?;
        check_hints(hints)?;
        let verified = &*claims.insert(ctx.verify(token, guesses).await?);
        ctx.check_age(verified, ctx.now())?;
        take_in(ctx, verified, output, hints).await
    }
    .await;
    if let Err(error) = &result {
        ctx.refused(error, Whose { claims: claims.as_ref(), ..Whose::default() });
    }
    result
}

async fn take_in(
    ctx: &Ctx,
    claims: &Claims,
    output: Output,
    hints: &Hints,
) -> Result<Handed, StepsError> {
    // Before anything is taken: hashing megabytes must hold nobody up.
    let digest = output::digest(&output);
    let mut work = Work::take(ctx, &claims.execution_id).await?;
    let phase = work.phases().iter().find(|phase| phase.phase == claims.step_name);
    if let Some(agent) = phase.map(|phase| phase.agent.clone()) {
        let caller = Caller { execution_id: Some(&claims.execution_id), agent: &agent };
        let now = work.now;
        limiter::check(&mut work.tx, &ctx.config, caller, now).await?;
    }
    work.read_steps().await?;
    let at = work.find(&claims.step_name);
    match judge::worth(claims, at.map(|at| &work.steps[at]), work.row.state) {
        Worth::Live => work.must_run()?,
        Worth::Consumed => {
            let step = at.map(|at| &work.steps[at]);
            if step.and_then(|step| step.output_digest.as_ref()) == Some(&digest) {
                return again(work, claims).await;
            }
            return Err(judge::refusal(Worth::Consumed, claims));
        }
        revoked => return Err(judge::refusal(revoked, claims)),
    }
    let at = at.ok_or_else(|| judge::refusal(Worth::Consumed, claims))?;
    let (handed, stored) = complete_step(&mut work, at, digest, output, hints).await?;
    let answer = text(&kept(&work, &handed));
    let gist = work.fresh.clone().unwrap_or_else(|| gist(&work.steps[at], &Output::default()));
    let new = NewOutput { gist: &gist, output: &stored, answer: &answer };
    let id = work.row.execution_id.clone();
    sql::insert_output(&mut work.tx, &id, &new).await?;
    work.finish(true).await?;
    Ok(handed)
}

/// The answer to a submission that was taken in before, for one who lost it.
async fn again(mut work: Work<'_>, claims: &Claims) -> Result<Handed, StepsError> {
    let answer = sql::answer(&mut work.tx, &claims.execution_id, &claims.step_name).await?;
    let Answer { mut handed, issued } = stored("an answer", &answer)?;
    let handouts = handed.step.iter_mut().chain(handed.parallel.iter_mut());
    for (handout, (nonce, kid)) in handouts.zip(issued) {
        let at = work.find(&handout.step_name);
        let Some(step) = at.map(|at| &work.steps[at]) else { continue };
        // As it was then: a token that was replaced since stays replaced.
        let then = StepRow {
            attempt: handout.attempt,
            nonce,
            kid,
            issued_at: Some(handout.issued_at),
            ..step.clone()
        };
        handout.token = work.ctx.token(&claims.execution_id, &then, work.now);
        handout.persona = persona(&work.snapshot, &handout.agent_name);
    }
    // Nothing was changed, the rate buckets included.
    work.tx.rollback().await?;
    Ok(handed)
}

fn kept(work: &Work<'_>, handed: &Handed) -> Answer {
    let mut kept = handed.clone();
    let mut issued = vec![];
    for handout in kept.step.iter_mut().chain(kept.parallel.iter_mut()) {
        strip(handout);
        let step = work.find(&handout.step_name).map(|at| &work.steps[at]);
        issued.push(step.map_or((None, None), |step| (step.nonce.clone(), step.kid.clone())));
    }
    Answer { handed: kept, issued }
}

fn strip(handout: &mut StepHandout) {
    handout.token = String::new();
    handout.persona = String::new();
}

/// Consumes the token, stores the artifacts and finds what comes next. Answers what the submitter
/// is told, and the output as it is stored.
async fn complete_step(
    work: &mut Work<'_>,
    at: usize,
    digest: String,
    mut output: Output,
    hints: &Hints,
) -> Result<(Handed, String), StepsError> {
    let step = &mut work.steps[at];
    step.completed_at = Some(work.now);
    step.output_digest = Some(digest);
    step.focus = Some(text(&output::focus(&output)));
    if !sql::consume(&mut work.tx, &work.row.execution_id, step).await? {
        let step_name = step.step_name.clone();
        return Err(StepsError::TokenConsumed { step_name });
    }
    step.status = StepStatus::Completed;
    let attempt = step.attempt;
    work.fresh = Some(gist(&work.steps[at], &output));
    work.tell("token_validated", Some(at), json!({ "attempt": attempt }));
    store_artifacts(work, at, &mut output).await?;
    let completed = json!({
        "attempt": attempt,
        "duration_ms": duration_ms(&work.steps[at]),
        "artifacts": output.artifacts.len(),
        "confidence": output.confidence,
    });
    work.tell("step_completed", Some(at), completed);

    let name = work.steps[at].step_name.clone();
    let mut done = if work.row.pause_on_blockers && !output.blockers.is_empty() {
        let count = output.blockers.len();
        let reason = format!("step '{name}' reports {count} blocker(s)");
        work.go(ExecutionState::Paused, Some(reason.clone()));
        let message = format!(
            "Paused: {reason}; when they are out of the way: workflow_control action \"resume\"."
        );
        Advanced { message, ..Advanced::default() }
    } else {
        work.advance(hints, usize::MAX).await?
    };
    done.message = format!("Step '{name}' completed. {}", done.message);
    let mut handed = work.handed(done)?;
    handed.warnings.clone_from(&output.warnings);
    if let Some(late) = late_request(work, hints) {
        handed.warnings.push(late);
    }
    Ok((handed, text(&output)))
}

/// A step that was asked for though it is past: it is said, and nothing else.
fn late_request(work: &Work<'_>, hints: &Hints) -> Option<String> {
    let step = &work.steps[work.find(hints.requested_step_name.as_deref()?)?];
    let past = step.status == StepStatus::Completed;
    past.then(|| format!("requested_step_name: step '{}' is completed already", step.step_name))
}

fn gist(step: &StepRow, output: &Output) -> Gist {
    Gist {
        step_name: step.step_name.clone(),
        summary: output.summary.clone(),
        confidence: output.confidence,
        blockers: text(&output.blockers),
    }
}

fn duration_ms(step: &StepRow) -> Option<i64> {
    let (from, to): (Millis, Millis) = (step.started_at?, step.completed_at?);
    Some(to.since_ms(from))
}

/// Stores the artifacts; their contents leave the output, so that they are stored once.
async fn store_artifacts(
    work: &mut Work<'_>,
    at: usize,
    output: &mut Output,
) -> Result<(), StepsError> {
    let step = &work.steps[at];
    let new = |given: &mut ArtifactIn| NewArtifact {
        artifact_id: work.ctx.uuid(),
        execution_id: work.row.execution_id.clone(),
        step_name: Some(step.step_name.clone()),
        agent_name: step.agent_name.clone(),
        artifact_type: given.artifact_type.clone(),
        title: given.title.clone(),
        description: given.description.clone(),
        content_type: given.content_type.clone(),
        metadata: given.metadata.as_ref().map(ToString::to_string),
        content: std::mem::take(&mut given.content),
        is_final: false,
    };
    let artifacts: Vec<NewArtifact> = output.artifacts.iter_mut().map(new).collect();
    sql::insert_artifacts(&mut work.tx, &artifacts, work.now).await?;
    for artifact in artifacts {
        let stored = json!({
            "artifact_id": artifact.artifact_id,
            "artifact_type": artifact.artifact_type,
            "title": artifact.title,
            "size_bytes": artifact.content.len(),
        });
        work.tell("artifact_stored", Some(at), stored);
    }
    Ok(())
}
