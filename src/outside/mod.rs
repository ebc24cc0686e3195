//! The outside: what starts runs there, and who is told there of their end.
//!
//! Webhooks of GitHub come in by [`Outside::router`], schedules by the clock; both end in
//! [`Runs::enqueue`] under a key of their own, so that whatever is handled twice (a redelivery, a
//! restart) starts one run. Hooks are told of ends level-triggered: what is looked for is an ended
//! run without a notice, so that `kill -9` at any instruction loses none, and may only tell it twice,
//! under one id.

pub mod due;
mod error;
pub mod github;
pub mod notice;
mod scheduler;
mod secret;
pub mod sql;
mod teller;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, AuditError, Call, End, Open, Status};
use crate::auth::Tier;
use crate::clock::Clock;
use crate::config::{OutsideConfig, Secret};
use crate::db::Db;
use crate::ids::Rng;
use crate::limits::{OUTSIDE_KEEP_MS, OUTSIDE_PRUNE_MS};
use crate::runs::{Runs, RunsError};

pub use error::OutsideError;
pub use teller::{Tried, try_hook};
pub use webhook::PATH as WEBHOOK_PATH;

/// What this part is built from.
pub struct OutsideDeps {
    /// The settings.
    pub config: OutsideConfig,
    /// Database, migrated.
    pub db: Db,
    /// The runs.
    pub runs: Runs,
    /// Where what was asked for is written down.
    pub audit: Audit,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and pauses.
    pub rng: Arc<dyn Rng>,
    /// Name of this daemon: only its own runs are told of.
    pub host: String,
    /// This program's version.
    pub version: &'static str,
    /// Cancelled when the daemon stops.
    pub shutdown: CancellationToken,
}

/// What all parts share.
pub(crate) struct Ctx {
    deps: OutsideDeps,
    github_secret: Option<Secret>,
    refusals: webhook::Refusals,
    client: reqwest::Client,
}

/// Handle to the outside; cheap to clone.
#[derive(Clone)]
pub struct Outside {
    ctx: Arc<Ctx>,
}

impl Outside {
    /// Reads the secrets and starts the clockwork and the tellers; the task ends with the daemon.
    ///
    /// # Errors
    /// [`OutsideError`]: a secret that cannot be used, or the database's.
    pub async fn start(deps: OutsideDeps) -> Result<(Outside, JoinHandle<()>), OutsideError> {
        let github = &deps.config.github;
        let github_secret = secret::read(
            "github.webhook_secret",
            github.secret_file.as_deref(),
            github.secret.as_ref(),
        )?;
        match &github_secret {
            Some(_) => tracing::info!("POST {WEBHOOK_PATH} takes webhooks of GitHub"),
            None => tracing::info!(
                "POST {WEBHOOK_PATH} answers 404: there is no github.webhook_secret_file"
            ),
        }
        let hooks = teller::hooks(&deps.config.hooks)?;
        let ctx = Arc::new(Ctx {
            client: teller::client(deps.version)?,
            github_secret,
            refusals: webhook::Refusals::default(),
            deps,
        });
        scheduler::begin(&ctx).await?;
        let hooks = teller::begin(&ctx, hooks).await?;
        let mut parts = JoinSet::new();
        parts.spawn(scheduler::keep(Arc::clone(&ctx)));
        parts.spawn(prune(Arc::clone(&ctx)));
        for hook in hooks {
            parts.spawn(teller::tell(Arc::clone(&ctx), hook));
        }
        let task = tokio::spawn(async move {
            while let Some(ended) = parts.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a part of the outside failed");
                }
            }
        });
        Ok((Outside { ctx }, task))
    }

    /// The routes for the outside. They carry their own proof and stand outside of the guard.
    pub fn router(&self) -> Router {
        webhook::router(Arc::clone(&self.ctx))
    }
}

/// Forgets what is old.
async fn prune(ctx: Arc<Ctx>) {
    loop {
        let before = ctx.deps.clock.now().plus_ms(-OUTSIDE_KEEP_MS);
        match sql::prune(&ctx.deps.db, before).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "old deliveries and notices are forgotten"),
            Err(error) => tracing::warn!(%error, "old deliveries and notices are kept"),
        }
        tokio::select! {
            () = ctx.deps.shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(OUTSIDE_PRUNE_MS)) => {}
        }
    }
}

/// Something that somebody outside asked for and that was let in, whatever came of it.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// `github:{login}` or `schedule:{name}`.
    pub user_id: &'a str,
    /// `webhook` or `cron`.
    pub triggered_by: &'a str,
    /// `run`, `cancel` or `resume`.
    pub action: &'a str,
    /// The project.
    pub project: &'a str,
    /// The issue.
    pub issue: &'a str,
    /// The run, where there is one.
    pub adw_id: Option<&'a str>,
    /// Why nothing came of it, where nothing did.
    pub refused: Option<&'a str>,
    /// The delivery's id, or the moment of the schedule.
    pub request_id: &'a str,
}

/// Writes down that something begins. What cannot be recorded is not done.
///
/// # Errors
/// The record's.
pub(crate) async fn begins(ctx: &Ctx, told: &Told<'_>) -> Result<Open, AuditError> {
    let params = json!({
        "action": told.action, "issue_number": told.issue, "project": told.project,
    });
    let call = Call {
        adw_id: None,
        tool_name: told.triggered_by.to_owned(),
        user_id: told.user_id.to_owned(),
        tier: Tier::Team,
        params: params.to_string(),
        transport: told.triggered_by.to_owned(),
        request_id: Some(told.request_id.to_owned()),
    };
    ctx.deps.audit.open(call).await
}

/// The one place that everything which is asked for from outside passes, for the record.
pub(crate) async fn told(told: &Told<'_>, open: Open) {
    let Told { user_id, triggered_by, action, project, issue, adw_id, refused, request_id } = told;
    let end = End {
        status: if refused.is_some() { Status::Refused } else { Status::Ok },
        adw_id: adw_id.map(str::to_owned),
        error_code: refused.map(|_| "refused".to_owned()),
    };
    open.close(end).await;
    match refused {
        None => tracing::info!(
            user = user_id,
            triggered_by,
            action,
            project,
            issue,
            adw_id,
            request_id,
            "asked for from outside"
        ),
        Some(why) => tracing::warn!(
            user = user_id,
            triggered_by,
            action,
            project,
            issue,
            adw_id,
            request_id,
            "asked for from outside and refused: {why}"
        ),
    }
}

/// Whether the same request may succeed later, with nothing done about it.
pub(crate) fn is_passing(error: &RunsError) -> bool {
    matches!(
        error,
        RunsError::QueueFull { .. }
            | RunsError::Stopping
            | RunsError::TimedOut { .. }
            | RunsError::Io { .. }
            | RunsError::Db(_)
    )
}
