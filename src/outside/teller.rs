//! Hooks: ends of runs are taken in as notices, and each is told until it is delivered or dead.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;

use super::notice::{self, Verdict, pause_ms, retry_after_ms, signature, verdict};
use super::sql::{self, EndRow, NoticeRow};
use super::{Ctx, OutsideError, secret};
use crate::changes::Changed;
use crate::clock::{Clock, Millis};
use crate::config::HookConfig;
use crate::db::DbError;
use crate::ids::{Rng, RunId};
use crate::limits::{
    HOOK_ANSWER_MAX_BYTES, HOOK_ATTEMPT_MS, HOOK_ATTEMPTS_COUNT, HOOK_BATCH_COUNT, HOOK_GATHER_MS,
    HOOK_LOOK_BACK_MS, HOOK_LOOK_MS,
};
use crate::runs::RunsError;
use crate::telemetry;

/// A hook with its key.
pub(super) struct Hook {
    config: HookConfig,
    key: Option<Vec<u8>>,
    /// What ended before is not told.
    since: Millis,
}

/// The hooks of the settings, with their keys.
pub(super) fn hooks(configured: &[HookConfig]) -> Result<Vec<Hook>, OutsideError> {
    let hook = |config: &HookConfig| {
        let key = secret::hook_key(config)?;
        Ok(Hook { config: config.clone(), key, since: Millis(0) })
    };
    configured.iter().map(hook).collect()
}

/// The client that tells: TLS is verified, redirects are not followed.
pub(super) fn client(version: &str) -> Result<Client, OutsideError> {
    crate::tls::install();
    Client::builder()
        .redirect(Policy::none())
        .timeout(Duration::from_millis(HOOK_ATTEMPT_MS))
        .connect_timeout(Duration::from_millis(HOOK_ATTEMPT_MS / 2))
        .user_agent(format!("adwd/{version}"))
        .build()
        .map_err(OutsideError::Client)
}

/// Stores since when new hooks are there, and gives up what those that are gone were to be told.
pub(super) async fn begin(ctx: &Ctx, mut hooks: Vec<Hook>) -> Result<Vec<Hook>, OutsideError> {
    let (db, host, now) = (&ctx.deps.db, &ctx.deps.host, ctx.deps.clock.now());
    for name in sql::hook_names(db, host).await? {
        if !hooks.iter().any(|hook| hook.config.name == name) {
            sql::end_hook(db, host, &name, now).await?;
        }
    }
    for hook in &mut hooks {
        hook.since = sql::begin_hook(db, host, &hook.config.name, now).await?;
        let (name, url) = (&hook.config.name, hook.config.shown_url());
        tracing::info!(hook = name, url, "hook");
    }
    Ok(hooks)
}

/// Tells a hook until the daemon stops.
pub(super) async fn tell(ctx: Arc<Ctx>, hook: Hook) {
    let mut changes = ctx.deps.runs.changes();
    loop {
        let more = match round(&ctx, &hook).await {
            Ok(more) => more,
            Err(error) => {
                tracing::warn!(hook = hook.config.name, %error, "cannot be told now");
                false
            }
        };
        if more && !ctx.deps.shutdown.is_cancelled() {
            continue;
        }
        let hint = async {
            while let Some(changed) = changes.next().await {
                if matches!(changed, Changed::Run(_) | Changed::Lagged) {
                    // A run that goes on changes often: one look for all of it.
                    return tokio::time::sleep(Duration::from_millis(HOOK_GATHER_MS)).await;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ctx.deps.shutdown.cancelled() => return,
            () = hint => {}
            () = tokio::time::sleep(Duration::from_millis(HOOK_LOOK_MS)) => {}
        }
    }
}

/// Takes in what is new and tells what is due; answers whether there is more right now.
async fn round(ctx: &Ctx, hook: &Hook) -> Result<bool, RunsError> {
    let (db, host, name) = (&ctx.deps.db, &ctx.deps.host, &hook.config.name);
    let back = ctx.deps.clock.now().plus_ms(-HOOK_LOOK_BACK_MS);
    let ends = sql::untold(db, host, name, hook.since.max(back), HOOK_BATCH_COUNT).await?;
    for end in &ends {
        take_in(ctx, hook, end).await?;
    }
    let due = sql::due_notices(db, host, name, ctx.deps.clock.now(), HOOK_BATCH_COUNT).await?;
    for row in &due {
        if ctx.deps.shutdown.is_cancelled() {
            return Ok(false);
        }
        attempt(ctx, hook, row).await?;
    }
    let full = |count: usize| i64::try_from(count).is_ok_and(|count| count >= HOOK_BATCH_COUNT);
    Ok(full(ends.len()) || full(due.len()))
}

/// Makes a notice of an end. Its body is fixed now, whatever becomes of the run later.
async fn take_in(ctx: &Ctx, hook: &Hook, end: &EndRow) -> Result<(), RunsError> {
    let HookConfig { name, format, events, projects, .. } = &hook.config;
    let wanted =
        events.contains(&end.status) && (projects.is_empty() || projects.contains(&end.project));
    let body = if wanted {
        let run = ctx.deps.runs.get(&end.adw_id).await?;
        if !run.status.is_terminal() {
            // It goes on, and its next end will be told.
            return Ok(());
        }
        notice::body(*format, &run, ctx.deps.version)
    } else {
        String::new()
    };
    let now = ctx.deps.clock.now();
    let row = NoticeRow {
        id: notice_id(ctx.deps.rng.as_ref()),
        hook: name.clone(),
        adw_id: end.adw_id.clone(),
        run_ended_at: end.ended_at,
        event: end.status.clone(),
        state: if wanted { "pending" } else { "unwanted" }.to_owned(),
        body,
        attempts: 0,
        next_at: now.0,
        created_at: now.0,
        ended_at: None,
        last_status: None,
        last_error: None,
    };
    sql::insert_notice(&ctx.deps.db, &ctx.deps.host, &row).await?;
    Ok(())
}

/// `msg_` and 24 of `[0-9a-z]`.
fn notice_id(rng: &dyn Rng) -> String {
    let parts = [(); 3].map(|()| RunId::generate(rng).to_string());
    format!("msg_{}", parts.concat())
}

/// One attempt: it is counted and the next one is set before anything is sent.
async fn attempt(ctx: &Ctx, hook: &Hook, row: &NoticeRow) -> Result<(), DbError> {
    let db = &ctx.deps.db;
    let number = row.attempts + 1;
    let mut random = [0; 2];
    ctx.deps.rng.fill(&mut random);
    let pause = pause_ms(number, u16::from_le_bytes(random));
    let planned = ctx.deps.clock.now().plus_ms(pause);
    if !sql::begin_attempt(db, &row.id, row.attempts, planned).await? {
        return Ok(());
    }
    let sent = tokio::select! {
        // Not judged: the next daemon sends it again.
        () = ctx.deps.shutdown.cancelled() => return Ok(()),
        sent = send(&ctx.client, hook, &row.id, &row.body, ctx.deps.clock.as_ref()) => sent,
    };
    let now = ctx.deps.clock.now();
    let state = match sent.verdict {
        Verdict::Delivered => "delivered",
        Verdict::Again if number < HOOK_ATTEMPTS_COUNT => "pending",
        Verdict::Again | Verdict::Dead => "dead",
    };
    let next = planned.max(now.plus_ms(sent.retry_after_ms.unwrap_or_default()));
    let told = (sent.status, sent.problem.as_deref());
    sql::end_attempt(db, &row.id, state, next, now, told).await?;
    let (hook, id, adw_id) = (&hook.config.name, &row.id, &row.adw_id);
    let problem = sent.problem.unwrap_or_default();
    match state {
        "delivered" => tracing::info!(hook, id, adw_id, number, "told"),
        "pending" => {
            let next = next.rfc3339();
            tracing::warn!(hook, id, adw_id, number, next, "not told: {problem}");
        }
        _ => tracing::error!(
            hook,
            id,
            adw_id,
            number,
            "given up: {problem}; `adwd hook dead` lists it, `adwd hook retry {id}` tries again"
        ),
    }
    Ok(())
}

/// What came of sending.
struct Sent {
    verdict: Verdict,
    status: Option<u16>,
    problem: Option<String>,
    retry_after_ms: Option<i64>,
}

async fn send(client: &Client, hook: &Hook, id: &str, body: &str, clock: &dyn Clock) -> Sent {
    let now = clock.now();
    let timestamp_s = now.0.div_euclid(1_000);
    let mut request = client
        .post(&hook.config.url)
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp_s.to_string());
    if let Some(key) = &hook.key {
        request = request.header("webhook-signature", signature(key, id, timestamp_s, body));
    }
    let mut response = match request.body(body.to_owned()).send().await {
        Ok(response) => response,
        Err(error) => {
            // Without the address: it may hold a chat service's secret.
            let problem = Some(telemetry::chain(&error.without_url()));
            let verdict = Verdict::Again;
            return Sent { verdict, status: None, problem, retry_after_ms: None };
        }
    };
    let status = response.status().as_u16();
    let verdict = verdict(status);
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after_ms = asked.and_then(|text| retry_after_ms(text, now));
    if verdict == Verdict::Delivered {
        return Sent { verdict, status: Some(status), problem: None, retry_after_ms: None };
    }
    let mut said = vec![];
    while let Ok(Some(chunk)) = response.chunk().await {
        said.extend_from_slice(&chunk);
        if said.len() >= HOOK_ANSWER_MAX_BYTES {
            break;
        }
    }
    said.truncate(HOOK_ANSWER_MAX_BYTES);
    let hint = if (300..400).contains(&status) { " (redirects are not followed)" } else { "" };
    let said: String = String::from_utf8_lossy(&said).chars().take(200).collect();
    let said = telemetry::neutralise(said.trim()).into_owned();
    let colon = if said.is_empty() { "" } else { ": " };
    let problem = Some(format!("HTTP {status}{hint}{colon}{said}"));
    Sent { verdict, status: Some(status), problem, retry_after_ms }
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The id that was sent.
    pub id: String,
    /// Whether it was taken.
    pub delivered: bool,
    /// The status that answered.
    pub status: Option<u16>,
    /// What was wrong.
    pub problem: Option<String>,
}

/// Sends a hook a notice of no run, once.
///
/// # Errors
/// [`OutsideError`]: a secret that cannot be used.
pub async fn try_hook(
    config: &HookConfig,
    version: &str,
    clock: &dyn Clock,
    rng: &dyn Rng,
) -> Result<Tried, OutsideError> {
    let hook = Hook { config: config.clone(), key: secret::hook_key(config)?, since: Millis(0) };
    let id = notice_id(rng);
    let body = notice::trial(config.format, &config.name, version, clock.now());
    let sent = send(&client(version)?, &hook, &id, &body, clock).await;
    let delivered = sent.verdict == Verdict::Delivered;
    Ok(Tried { id, delivered, status: sent.status, problem: sent.problem })
}
