//! What a person does to an execution.

use serde_json::json;

use super::ctx::{Ctx, stored};
use super::error::{StepsError, clipped};
use super::events::Whose;
use super::execution::{self, Effect};
use super::sql;
use super::start::{begin, check_reason};
use super::token;
use super::view::{
    ControlAction, ControlRequest, Controlled, ExecutionState, Hints, StepHandout, StepStatus,
};
use super::work::{Advanced, Work};

use ControlAction as A;

/// What an action came to.
struct Outcome {
    step: Option<StepHandout>,
    message: String,
}

impl Outcome {
    fn said(message: impl Into<String>) -> Outcome {
        Outcome { step: None, message: message.into() }
    }
}

/// Does what is asked for.
pub(super) async fn control(ctx: &Ctx, request: ControlRequest) -> Result<Controlled, StepsError> {
    let result = try_control(ctx, &request).await;
    if let Err(error) = &result {
        let execution_id = Some(request.execution_id.as_str());
        ctx.refused(error, Whose { execution_id, ..Whose::default() });
    }
    result
}

async fn try_control(ctx: &Ctx, request: &ControlRequest) -> Result<Controlled, StepsError> {
    check_reason("reason", request.reason.as_deref())?;
    let said = request.reason.as_deref().is_some_and(|reason| !reason.trim().is_empty());
    if request.action == A::Diverge && !said {
        return Err(StepsError::Invalid {
            field: "reason".to_owned(),
            given: "nothing".to_owned(),
            expected: "why the work went another way".to_owned(),
        });
    }
    let mut work = Work::take(ctx, &request.execution_id).await?;
    let previous_state = work.row.state;
    if let Some(expected) = request.expected_state.filter(|state| *state != previous_state) {
        return Err(work.conflict(format!("expected_state is {expected}; nothing was done")));
    }
    let effect = execution::effect(previous_state, request.action);
    if effect == Effect::No {
        let takes = work.allowed().iter().map(|a| a.as_str()).collect::<Vec<_>>().join(", ");
        let takes = if takes.is_empty() { "none: it has ended".to_owned() } else { takes };
        let action = request.action;
        return Err(work.conflict(format!("it does not take {action}; actions it takes: {takes}")));
    }
    work.read_steps().await?;
    let outcome = act(&mut work, request, effect).await?;
    let out = work.out();
    let controlled = Controlled {
        execution_id: work.row.execution_id.clone(),
        previous_state,
        workflow_state: work.row.state,
        current_steps: out.into_iter().map(|at| work.steps[at].step_name.clone()).collect(),
        step: outcome.step,
        allowed_actions: work.allowed(),
        message: outcome.message,
    };
    work.finish(true).await?;
    Ok(controlled)
}

async fn act(
    work: &mut Work<'_>,
    request: &ControlRequest,
    effect: Effect,
) -> Result<Outcome, StepsError> {
    let reason = request.reason.clone();
    match (request.action, effect) {
        (A::Start, _) => {
            let hints: Hints = match &work.row.hints {
                Some(hints) => stored("the hints of a held execution", hints)?,
                None => Hints::default(),
            };
            let done = begin(work, &hints).await?;
            Ok(first(work, done))
        }
        (A::Pause, _) => {
            work.go(ExecutionState::Paused, reason);
            Ok(Outcome::said("Paused. Tokens stay good; their output is taken after a resume."))
        }
        (A::Resume, _) => resume(work).await,
        (A::Approve, _) => approve(work, request.step_name.as_deref()).await,
        (A::Retry, _) => retry(work, request).await,
        (A::Reissue, _) => {
            let at = target(work, request.step_name.as_deref())?;
            work.renew(at, false).await?;
            let message =
                format!("New token for step '{}'; the old one is revoked.", work.names(&[at]));
            Ok(Outcome { step: Some(work.handout_again(at).await?), message })
        }
        (A::Abandon | A::Diverge | A::Fail, Effect::To(state)) => {
            work.close(state, reason).await?;
            Ok(Outcome::said(format!("The execution is {state}; its tokens are revoked.")))
        }
        // The table gives these a state.
        (A::Abandon | A::Diverge | A::Fail, _) => Err(work.conflict("nothing was done".to_owned())),
    }
}

/// The first step that was handed out.
fn first(work: &Work<'_>, done: Advanced) -> Outcome {
    let message = done.message;
    let step = done.given.into_iter().next().map(|(at, contract)| work.handout(at, contract));
    Outcome { step, message }
}

/// Goes on: tokens that have expired meanwhile are renewed, and what is ready is handed out.
async fn resume(work: &mut Work<'_>) -> Result<Outcome, StepsError> {
    if let Some(step) = &work.row.waiting_step {
        let text = format!(
            "it waits for approval of step '{step}'; use action \"approve\" (or \"abandon\")"
        );
        return Err(work.conflict(text));
    }
    work.go(ExecutionState::Running, None);
    let ttl_ms = work.ctx.token_ttl_ms();
    let mut renewed = None;
    for at in work.out() {
        let issued_at = work.steps[at].issued_at.unwrap_or_default();
        if token::check_age(issued_at, work.now, ttl_ms).is_err() {
            work.renew(at, false).await?;
            renewed = renewed.or(Some(at));
        }
    }
    let done = work.advance(&Hints::default(), usize::MAX).await?;
    let mut outcome = first(work, done);
    outcome.message = format!("Resumed. {}", outcome.message);
    if let Some(at) = renewed {
        outcome.step = Some(work.handout_again(at).await?);
        outcome.message.push_str(" Tokens that had expired were renewed.");
    }
    Ok(outcome)
}

/// Lets a step past its gate, and hands it out where the execution waited for just that.
async fn approve(work: &mut Work<'_>, step_name: Option<&str>) -> Result<Outcome, StepsError> {
    let waiting = work.row.waiting_step.clone();
    let Some(name) = step_name.or(waiting.as_deref()).map(str::to_owned) else {
        return Err(work.conflict("no step waits for approval; name one with step_name".to_owned()));
    };
    let at = named(work, &name)?;
    let phase = &work.phases()[at];
    let problem = match (phase.requires_approval, work.steps[at].status) {
        (false, _) => Some("it needs no approval"),
        (true, StepStatus::Pending) if work.steps[at].approved => Some("it is approved already"),
        (true, StepStatus::Pending) => None,
        (true, _) => Some("it was handed out already"),
    };
    if let Some(problem) = problem {
        let message = problem.to_owned();
        return Err(StepsError::StepNotReady { step_name: name, message });
    }
    work.steps[at].approved = true;
    let id = work.row.execution_id.clone();
    sql::approve(&mut work.tx, &id, &name).await?;
    if waiting.as_deref() != Some(name.as_str()) {
        return Ok(Outcome::said(format!("Step '{name}' is approved for when its turn comes.")));
    }
    work.go(ExecutionState::Running, Some(format!("step '{name}' was approved")));
    let hints = Hints { requested_step_name: Some(name.clone()), ..Hints::default() };
    let done = work.advance(&hints, usize::MAX).await?;
    let mut outcome = first(work, done);
    outcome.message = format!("Step '{name}' is approved. {}", outcome.message);
    Ok(outcome)
}

/// Gives the step's attempt up; a new one where one is left, the end where none is.
async fn retry(work: &mut Work<'_>, request: &ControlRequest) -> Result<Outcome, StepsError> {
    let at = target(work, request.step_name.as_deref())?;
    let (name, attempt) = (work.steps[at].step_name.clone(), work.steps[at].attempt);
    let attempts = execution::attempts(work.snapshot.workflow.complexity);
    if attempt >= attempts {
        let reason = match &request.reason {
            Some(reason) => format!(": {reason}"),
            None => String::new(),
        };
        let reason = format!("step '{name}' failed in attempt {attempt} of {attempts}{reason}");
        work.close(ExecutionState::Failed, Some(reason.clone())).await?;
        return Ok(Outcome::said(format!("No attempt is left: {reason}")));
    }
    let failed = json!({ "attempt": attempt, "reason": request.reason });
    work.tell("step_failed", Some(at), failed);
    work.renew(at, true).await?;
    let step = work.handout_again(at).await?;
    let message = format!("Step '{name}' is out again, attempt {} of {attempts}.", step.attempt);
    Ok(Outcome { step: Some(step), message })
}

/// The step of that name.
fn named(work: &Work<'_>, name: &str) -> Result<usize, StepsError> {
    work.find(name).ok_or_else(|| {
        let all: Vec<usize> = (0..work.steps.len()).collect();
        StepsError::Invalid {
            field: "step_name".to_owned(),
            given: format!("{:?}", clipped(name)),
            expected: format!("one of {}", work.names(&all)),
        }
    })
}

/// The step that is out and meant: the one named, or the only one.
fn target(work: &Work<'_>, name: Option<&str>) -> Result<usize, StepsError> {
    let out = work.out();
    match (name, out.as_slice()) {
        (Some(name), _) => {
            let at = named(work, name)?;
            if out.contains(&at) {
                return Ok(at);
            }
            let message =
                format!("it is {}, not out; out: {}", work.steps[at].status, work.names(&out));
            Err(StepsError::StepNotReady { step_name: name.to_owned(), message })
        }
        (None, [only]) => Ok(*only),
        (None, []) => Err(work.conflict("no step is out".to_owned())),
        (None, several) => Err(StepsError::Invalid {
            field: "step_name".to_owned(),
            given: "nothing".to_owned(),
            expected: format!("one of those that are out: {}", work.names(several)),
        }),
    }
}
