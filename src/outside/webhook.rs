//! `POST /webhooks/github`: proved, remembered, carried out, answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::github::{self, Action, Asked, Order};
use super::{Ctx, Told, begins, is_passing, sql, told};
use crate::auth::Tier;
use crate::clock::Millis;
use crate::limits::{
    OUTSIDE_ANSWER_MS, OUTSIDE_BODY_MAX_BYTES, OUTSIDE_BODY_MS, OUTSIDE_REFUSAL_LOG_MS,
};
use crate::runs::{Caller, ListFilter, RunSummary, RunsError, TriggerRequest};

/// Path of the endpoint.
pub const PATH: &str = "/webhooks/github";

/// An answer: its status and its body.
type Answer = (StatusCode, Value);

pub(super) fn router(ctx: Arc<Ctx>) -> Router {
    Router::new().route(PATH, post(github)).with_state(ctx)
}

async fn github(State(ctx): State<Arc<Ctx>>, request: Request) -> Response {
    let (status, answer) = match receive(&ctx, request).await {
        Ok(answer) => answer,
        Err((status, why)) => {
            // Anybody can be refused as often as they like; the log is not theirs to fill.
            if let Some(unsaid) = ctx.refusals.is_said(ctx.deps.clock.now()) {
                let status = status.as_u16();
                tracing::warn!(status, unsaid, "a webhook was refused: {why}");
            }
            refusal(status, &why)
        }
    };
    (status, Json(answer)).into_response()
}

/// Which refusals the log tells of: one in [`OUTSIDE_REFUSAL_LOG_MS`].
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<(Option<Millis>, u64)>);

impl Refusals {
    /// Whether the log tells of one at this moment, and then of how many before it did not.
    fn is_said(&self, now: Millis) -> Option<u64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (said_at, unsaid) = &mut *last;
        // A clock that goes back silences nothing.
        let fresh = |at: Millis| (0..OUTSIDE_REFUSAL_LOG_MS).contains(&now.since_ms(at));
        if said_at.is_some_and(fresh) {
            *unsaid += 1;
            return None;
        }
        *said_at = Some(now);
        Some(std::mem::take(unsaid))
    }
}

fn refusal(status: StatusCode, why: &str) -> Answer {
    (status, json!({ "accepted": false, "reason": why }))
}

/// Takes a delivery in and proves it, before anything of it is believed.
async fn receive(ctx: &Arc<Ctx>, request: Request) -> Result<Answer, (StatusCode, String)> {
    let Some(secret) = &ctx.github_secret else {
        let why = "no webhooks are taken: github.webhook_secret_file is not set";
        return Err((StatusCode::NOT_FOUND, why.to_owned()));
    };
    let (parts, body) = request.into_parts();
    let body = read_body(body).await?;
    let signature = text_of(&parts.headers, github::SIGNATURE).unwrap_or_default();
    if !github::is_signed(secret.expose().as_bytes(), &body, signature) {
        let why = match signature {
            "" => format!("{} is missing: set the secret in GitHub's webhook", github::SIGNATURE),
            _ => format!("{} is not the signature of this body", github::SIGNATURE),
        };
        return Err((StatusCode::UNAUTHORIZED, why));
    }
    let kind = text_of(&parts.headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        let why = "set the content type of GitHub's webhook to application/json".to_owned();
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    let word = |name: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let text = text_of(&parts.headers, name).filter(|text| text.bytes().all(good));
        let text = text.filter(|text| (1..=100).contains(&text.len()));
        text.map(str::to_owned).ok_or_else(|| bad(format!("{name} is missing, or is no word")))
    };
    let (delivery, event) = (word(github::DELIVERY)?, word(github::EVENT)?);
    let asked = github::read(&ctx.deps.config.github, &event, &body).map_err(bad)?;
    let digest: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    // A task of its own: whoever hangs up early must not leave it half done.
    let (ctx, id) = (Arc::clone(ctx), delivery.clone());
    let work = tokio::spawn(async move { handle(&ctx, &id, &event, &digest, asked).await });
    let limit = Duration::from_millis(OUTSIDE_ANSWER_MS);
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::error!(%error, delivery, "the handling of a webhook failed");
            Err((
                StatusCode::INTERNAL_SERVER_ERROR,
                "a defect of adwd; its log says more".to_owned(),
            ))
        }
        Err(_) => {
            let why = format!("not done within {} s; send {delivery} again", limit.as_secs());
            Err((StatusCode::SERVICE_UNAVAILABLE, why))
        }
    }
}

fn text_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

async fn read_body(body: Body) -> Result<Vec<u8>, (StatusCode, String)> {
    let all = async {
        let (mut stream, mut bytes) = (body.into_data_stream(), Vec::new());
        while let Some(chunk) = stream.next().await {
            let chunk =
                chunk.map_err(|e| (StatusCode::BAD_REQUEST, format!("the body broke off: {e}")))?;
            if bytes.len() + chunk.len() > OUTSIDE_BODY_MAX_BYTES {
                let why = format!("the body has more than {OUTSIDE_BODY_MAX_BYTES} bytes");
                return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let limit = Duration::from_millis(OUTSIDE_BODY_MS);
    tokio::time::timeout(limit, all).await.unwrap_or_else(|_| {
        let why = format!("the body did not come within {} s", limit.as_secs());
        Err((StatusCode::REQUEST_TIMEOUT, why))
    })
}

/// Carries a delivery out once: what was answered before is answered again.
async fn handle(ctx: &Ctx, delivery: &str, event: &str, digest: &str, asked: Asked) -> Answer {
    let (db, host, now) = (&ctx.deps.db, &ctx.deps.host, ctx.deps.clock.now());
    let row = match sql::take_delivery(db, host, delivery, event, digest, now).await {
        Ok(row) => row,
        Err(error) => return later(&error.to_string()),
    };
    if row.digest != digest {
        let why = format!("delivery {delivery} had another body before");
        tracing::warn!(delivery, "a webhook was refused: {why}");
        return refusal(StatusCode::CONFLICT, &why);
    }
    if let Some(answer) = stored(&row) {
        tracing::info!(delivery, first = row.delivery, "a webhook came again");
        return answer;
    }
    let (status, answer) = act(ctx, &row.delivery, asked).await;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        // Not remembered: a redelivery shall try again.
        return (status, answer);
    }
    let text = answer.to_string();
    let kept = sql::answer_delivery(db, host, &row.delivery, status.as_u16(), &text).await;
    if let Err(error) = kept {
        // It is found again by the key of the run.
        tracing::warn!(%error, delivery, "what answered a webhook is not stored");
    }
    (status, answer)
}

fn stored(row: &sql::DeliveryRow) -> Option<Answer> {
    let status = u16::try_from(row.status?).ok().and_then(|s| StatusCode::from_u16(s).ok())?;
    Some((status, serde_json::from_str(row.answer.as_deref()?).ok()?))
}

fn later(why: &str) -> Answer {
    tracing::warn!("a webhook cannot be handled now: {why}");
    refusal(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}; send it again later"))
}

async fn act(ctx: &Ctx, delivery: &str, asked: Asked) -> Answer {
    match asked {
        Asked::Ping => (StatusCode::OK, json!({ "accepted": false, "reason": "pong" })),
        Asked::Nothing(why) => {
            tracing::info!(delivery, "a webhook starts nothing: {why}");
            refusal(StatusCode::ACCEPTED, &why)
        }
        Asked::Order(order) => {
            let project = match project_of(ctx, &order).await {
                Ok(project) => project,
                Err(why) => {
                    tracing::warn!(delivery, "a webhook starts nothing: {why}");
                    return refusal(StatusCode::ACCEPTED, &why);
                }
            };
            carry_out(ctx, delivery, &order, &project).await
        }
    }
}

/// The project that the order is about.
async fn project_of(ctx: &Ctx, order: &Order) -> Result<String, String> {
    let repository = &order.repository;
    let found = ctx.deps.runs.projects_of_repository(repository).await;
    match found.as_slice() {
        [] => Err(format!(
            "no served project is {repository}: forge_repo, or the URL of the remote, says which one is"
        )),
        [one] if one.issues_in_files => Err(format!(
            "project {} takes its issues from files (forge = \"local\"), so issue {} of {repository} is none of its",
            one.name, order.issue
        )),
        [one] => Ok(one.name.clone()),
        several => {
            let names: Vec<&str> = several.iter().map(|p| p.name.as_str()).collect();
            Err(format!("{repository} is several projects: {}; serve it once", names.join(", ")))
        }
    }
}

async fn carry_out(ctx: &Ctx, delivery: &str, order: &Order, project: &str) -> Answer {
    let caller = Caller {
        user_id: format!("github:{}", order.login),
        triggered_by: "webhook".to_owned(),
        tier: Tier::Team.as_str().to_owned(),
        transport: "http".to_owned(),
        request_id: Some(delivery.to_owned()),
    };
    let mut record = Told {
        user_id: &caller.user_id,
        triggered_by: "webhook",
        action: order.action.as_str(),
        project,
        issue: &order.issue,
        adw_id: None,
        refused: None,
        request_id: delivery,
    };
    let open = match begins(ctx, &record).await {
        Ok(open) => open,
        Err(error) => return later(&error.to_string()),
    };
    let done = match &order.action {
        Action::Run { phases, model } => {
            let request = TriggerRequest {
                issue_number: order.issue.clone(),
                project: Some(project.to_owned()),
                adw_id: None,
                model: model.clone(),
                skip_cleanup: false,
                phases: phases.clone(),
                priority: None,
                idempotency_key: Some(format!("webhook:{delivery}")),
            };
            let run = ctx.deps.runs.enqueue(&caller, request).await;
            run.map(|run| (run.adw_id, run.already_running))
        }
        Action::Cancel | Action::Resume => steer(ctx, &caller, order, project).await,
    };
    let (adw_id, why) = match &done {
        Ok((adw_id, _)) => (Some(adw_id.as_str()), None),
        Err(RunsError::Conflict { adw_id, message }) => {
            (Some(adw_id.as_str()).filter(|id| !id.is_empty()), Some(message.clone()))
        }
        Err(error) if is_passing(error) => {
            let why = error.to_string();
            record.refused = Some(&why);
            told(&record, open).await;
            return later(&why);
        }
        Err(error) => (None, Some(error.to_string())),
    };
    (record.adw_id, record.refused) = (adw_id, why.as_deref());
    told(&record, open).await;
    let mut answer = json!({
        "accepted": why.is_none(), "action": order.action.as_str(), "project": project,
        "issue_number": order.issue,
    });
    let mut add = |key: &str, value: Value| answer[key] = value;
    if let Some(adw_id) = adw_id {
        add("adw_id", json!(adw_id));
    }
    if let Ok((_, true)) = done {
        add("already_running", json!(true));
    }
    if let Some(why) = &why {
        add("reason", json!(why));
    }
    (StatusCode::ACCEPTED, answer)
}

/// Ends the issue's active run, or goes on with its newest one.
async fn steer(
    ctx: &Ctx,
    caller: &Caller,
    order: &Order,
    project: &str,
) -> Result<(String, bool), RunsError> {
    let cancel = order.action == Action::Cancel;
    let runs = &ctx.deps.runs;
    let filter = ListFilter {
        project: Some(project.to_owned()),
        issue_number: Some(order.issue.clone()),
        ..ListFilter::default()
    };
    let page = runs.list(&filter).await?;
    let wanted = |run: &&RunSummary| !cancel || !run.status.is_terminal();
    let Some(run) = page.workflows.iter().find(wanted) else {
        let which = if cancel { "active run" } else { "run" };
        return Err(RunsError::WrongState {
            adw_id: String::new(),
            message: format!("issue {} of {project} has no {which}", order.issue),
        });
    };
    let run = match cancel {
        true => runs.cancel(caller, &run.adw_id).await?,
        false => runs.resume(caller, &run.adw_id, None).await?,
    };
    Ok((run.adw_id, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_are_refused_the_log_tells_of_one_a_second_and_how_many_more_there_were() {
        let refusals = Refusals::default();
        let at = |ms: i64| refusals.is_said(Millis(1_795_000_000_000 + ms));
        assert_eq!(at(0), Some(0));
        assert!((1..1_000).all(|ms| at(ms).is_none()));
        assert_eq!((at(1_000), at(1_001), at(2_000)), (Some(999), None, Some(1)));
        assert_eq!(at(-60_000), Some(0), "a clock that goes back silences nothing");
    }
}
