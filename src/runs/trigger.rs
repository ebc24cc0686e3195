//! Accepting work: validated before anything happens, stored before anything is spawned, answered
//! within its bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::account::{self, Payer};
use super::ctx::Ctx;
use super::error::RunsError;
use super::project::Project;
use super::run;
use super::sql::{self, Requeue, RunRow};
use super::view::{Caller, RunStatus, RunView, TriggerRequest, Triggered};
use super::{query, steer};
use crate::auth::Scope;
use crate::changes::{Changed, Subscription};
use crate::clock::Millis;
use crate::crash::{self, Point};
use crate::db::Tx;
use crate::ids::{IssueNumber, PhaseName, RunId};
use crate::limits;

/// A request that has passed validation.
struct Valid {
    scope: Scope,
    project: Arc<Project>,
    issue: String,
    adw_id: Option<String>,
    phases: Vec<String>,
    priority: i64,
    request: TriggerRequest,
    /// Whether the answer waits for nothing.
    at_once: bool,
}

pub(super) fn invalid(field: &'static str, given: &str, expected: impl Into<String>) -> RunsError {
    let clipped: String = given.chars().take(100).collect();
    RunsError::Invalid { field, given: clipped, expected: expected.into() }
}

/// The phase, where the profile has it.
pub(super) fn known_phase(project: &Project, phase: &str) -> Result<String, RunsError> {
    phase.parse::<PhaseName>().map_err(|e| invalid("phase", phase, e.expected))?;
    if project.profile.phase(phase).is_none() {
        return Err(RunsError::UnknownPhase {
            phase: phase.to_owned(),
            profile: project.profile.name.clone(),
            project: project.name.clone(),
            has: project.profile.phase_names().join(", "),
        });
    }
    Ok(phase.to_owned())
}

fn validate(ctx: &Ctx, scope: &Scope, request: TriggerRequest) -> Result<Valid, RunsError> {
    let issue = request
        .issue_number
        .parse::<IssueNumber>()
        .map_err(|e| invalid("issue_number", &request.issue_number, e.expected))?
        .to_string();
    let adw_id = match request.adw_id.as_deref() {
        None => None,
        Some(id) => {
            Some(id.parse::<RunId>().map_err(|e| invalid("adw_id", id, e.expected))?.to_string())
        }
    };
    let priority = request.priority.unwrap_or(0);
    if !(-100..=100).contains(&priority) {
        return Err(invalid("priority", &priority.to_string(), "a whole number from -100 to 100"));
    }
    for (field, value, max) in
        [("model", &request.model, 128), ("idempotency_key", &request.idempotency_key, 256)]
    {
        if let Some(v) = value.as_deref().filter(|v| {
            v.is_empty() || v.len() > max || v.chars().any(char::is_control) || v.starts_with('-')
        }) {
            return Err(invalid(
                field,
                v,
                format!("1 to {max} characters without control characters, not beginning with '-'"),
            ));
        }
    }
    let project = ctx.project_for_work(scope, request.project.as_deref())?;
    let phases = match &request.phases {
        None => project.profile.sequence.clone(),
        Some(list) if list.is_empty() => {
            return Err(invalid(
                "phases",
                "[]",
                format!("some of {}", project.profile.phase_names().join(", ")),
            ));
        }
        Some(list) => {
            for phase in list {
                known_phase(&project, phase)?;
            }
            project.profile.in_order(list)
        }
    };
    Ok(Valid {
        scope: scope.clone(),
        project,
        issue,
        adw_id,
        phases,
        priority,
        request,
        at_once: false,
    })
}

impl Valid {
    /// What two triggers must agree in to be the same request.
    fn digest(&self) -> String {
        serde_json::json!([
            self.project.name,
            self.issue,
            self.request.model,
            self.request.skip_cleanup,
            self.phases
        ])
        .to_string()
    }

    /// How long the answer waits for what becomes of it.
    fn patience(&self, ctx: &Ctx) -> Duration {
        let limit_ms = if self.at_once { 0 } else { ctx.config().trigger_timeout_ms };
        Duration::from_millis(limit_ms)
    }

    /// The request key as it is stored: kept apart per user, and hashed, because people put into it
    /// what they have at hand, credentials included.
    fn key(&self, caller: &Caller) -> Option<String> {
        let given = self.request.idempotency_key.as_ref()?;
        let hash: String = Sha256::digest(given).iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("{}\u{1f}{hash}", caller.user_id))
    }
}

/// What became of a request that was accepted.
pub(super) struct Accepted {
    /// The run, as it is when it is answered.
    pub(super) run: RunView,
    /// It was active already.
    pub(super) already_running: bool,
}

impl From<Accepted> for Triggered {
    fn from(Accepted { run, already_running }: Accepted) -> Triggered {
        let ended = run.status.is_terminal();
        Triggered {
            adw_id: run.adw_id,
            status: if ended { run.status.as_str().into() } else { "pending".into() },
            project: run.project,
            issue_number: run.issue_number,
            phases: run.phases.iter().map(|p| p.phase.clone()).collect(),
            already_running,
            worktree_path: run.worktree_path,
            queue_position: run.queue_position,
            failure: run.failure,
        }
    }
}

/// A whole workflow.
pub(super) async fn trigger(
    ctx: &Arc<Ctx>,
    scope: &Scope,
    caller: &Caller,
    request: TriggerRequest,
) -> Result<Accepted, RunsError> {
    let valid = validate(ctx, scope, request)?;
    accept(ctx, caller, &valid, "trigger_adw_workflow").await
}

/// A whole workflow, answered as soon as it is stored.
pub(super) async fn enqueue(
    ctx: &Arc<Ctx>,
    scope: &Scope,
    caller: &Caller,
    request: TriggerRequest,
) -> Result<Accepted, RunsError> {
    let valid = Valid { at_once: true, ..validate(ctx, scope, request)? };
    accept(ctx, caller, &valid, "trigger_adw_workflow").await
}

async fn accept(
    ctx: &Arc<Ctx>,
    caller: &Caller,
    valid: &Valid,
    tool: &'static str,
) -> Result<Accepted, RunsError> {
    // Twice at most: a lost race for the key, the issue or the id is seen on the second look.
    for _ in 0..2 {
        if let Some(first) = replay(ctx, caller, valid, tool).await? {
            return answer_within(ctx, &valid.scope, &first, false, valid.patience(ctx)).await;
        }
        if let Some(active) =
            sql::active_run_of_issue(ctx.db(), &valid.project.name, &valid.issue).await?
        {
            return joined(ctx, valid, &active).await;
        }
        if let Some(id) = &valid.adw_id {
            free_id(ctx, valid, id).await?;
        }
        let (project, user) = (valid.project.name.as_str(), caller.user_id.as_str());
        account::refuse_if_used_up(ctx, Payer { adw_id: "", project, user }).await?;
        match store(ctx, caller, valid, tool).await {
            Ok(adw_id) => {
                ctx.wake.notify_one();
                ctx.run_changed(&adw_id);
                ctx.deps.changes.send(Changed::Queue);
                note(ctx, caller, &valid.project, &valid.issue, &adw_id, tool);
                return answer_within(ctx, &valid.scope, &adw_id, false, valid.patience(ctx)).await;
            }
            Err(RunsError::Db(e)) if e.is_unique() => {}
            Err(e) => return Err(e),
        }
    }
    Err(RunsError::Conflict {
        adw_id: valid.adw_id.clone().unwrap_or_default(),
        message: format!(
            "issue {} of {} was triggered by somebody else in the same moment; ask again",
            valid.issue, valid.project.name
        ),
    })
}

/// The run that this request key made before.
async fn replay(
    ctx: &Ctx,
    caller: &Caller,
    valid: &Valid,
    tool: &str,
) -> Result<Option<String>, RunsError> {
    let Some(key) = valid.key(caller) else { return Ok(None) };
    match sql::request_key(ctx.db(), &key).await? {
        None => Ok(None),
        Some((first_tool, digest, adw_id)) if first_tool == tool && digest == valid.digest() => {
            Ok(Some(adw_id))
        }
        Some((_, _, adw_id)) => {
            // A key or token that was bound to other projects since must not be told of their runs.
            let adw_id = match sql::run_within(ctx.db(), &valid.scope, &adw_id).await? {
                Some(run) => run.adw_id,
                None => String::new(),
            };
            let made = match adw_id.as_str() {
                "" => String::new(),
                id => format!("; it made run {id}"),
            };
            Err(RunsError::Conflict {
                message: format!(
                    "this idempotency key was used before with other arguments{made}. Use a new key for a new request"
                ),
                adw_id,
            })
        }
    }
}

async fn joined(ctx: &Arc<Ctx>, valid: &Valid, active: &RunRow) -> Result<Accepted, RunsError> {
    let same_id = valid.adw_id.as_ref().is_none_or(|id| id == &active.adw_id);
    if same_id && active.digest == valid.digest() {
        return answer(ctx, &valid.scope, &active.adw_id, true).await;
    }
    Err(RunsError::Conflict {
        adw_id: active.adw_id.clone(),
        message: format!(
            "issue {} of {} has the active run {} ({}) with other arguments; wait for it, cancel it with cancel_adw_workflow, or trigger with the same arguments to join it",
            valid.issue, valid.project.name, active.adw_id, active.status
        ),
    })
}

async fn free_id(ctx: &Ctx, valid: &Valid, id: &str) -> Result<(), RunsError> {
    let Some(taken) = sql::run(ctx.db(), id).await? else {
        return Ok(());
    };
    let message = if !valid.scope.holds(&taken.project) {
        // Ids are one space for all, so that it is taken shows; whose it is does not.
        format!("id {id} cannot be used; choose another or leave it out")
    } else if taken.origin == "external" {
        format!(
            "id {id} belongs to a run that this daemon did not start; choose another or leave it out"
        )
    } else if taken.issue_number == valid.issue && taken.project == valid.project.name {
        format!(
            "run {id} of this issue has ended ({}); go on with it by resume_adw_workflow, or leave adw_id out for a new run",
            taken.status
        )
    } else {
        format!(
            "id {id} belongs to issue {} of {}; choose another or leave it out",
            taken.issue_number, taken.project
        )
    };
    Err(RunsError::Conflict { adw_id: id.to_owned(), message })
}

impl RunRow {
    /// A queued run of the daemon's that nothing is known of yet.
    pub(super) fn blank(adw_id: &str, now: Millis) -> RunRow {
        RunRow {
            adw_id: adw_id.to_owned(),
            seq: 0,
            project: String::new(),
            issue_number: String::new(),
            host: String::new(),
            origin: "daemon".into(),
            profile: String::new(),
            status: RunStatus::Queued.as_str().into(),
            active: true,
            stop_requested: false,
            revision: 1,
            priority: 0,
            phases: "[]".into(),
            todo: "[]".into(),
            floors: "{}".into(),
            digest: String::new(),
            model: None,
            skip_cleanup: false,
            triggered_by: String::new(),
            transport: String::new(),
            request_id: None,
            user_id: None,
            created_at: now.0,
            queued_at: now.0,
            started_at: None,
            ended_at: None,
            retry_at: None,
            issue_title: None,
            issue_class: None,
            branch: None,
            base_branch: None,
            base_commit: None,
            worktree_path: None,
            worktree: None,
            plan_file: None,
            pr_url: None,
            failure: None,
            run_usage: None,
            cost_usd: None,
            state: None,
            state_at: None,
            state_problem: None,
            budget_stop: None,
        }
    }
}

/// Refuses one more waiting run where the queue is full.
pub(super) async fn room_in_queue(ctx: &Ctx, tx: &mut Tx) -> Result<(), RunsError> {
    let waiting = sql::waiting(tx, &ctx.deps.host).await?;
    let max = i64::from(ctx.config().limits.queue_max);
    if waiting >= max {
        return Err(RunsError::QueueFull { waiting, max });
    }
    Ok(())
}

async fn store(ctx: &Ctx, caller: &Caller, valid: &Valid, tool: &str) -> Result<String, RunsError> {
    let now = ctx.now();
    let adw_id =
        valid.adw_id.clone().unwrap_or_else(|| RunId::generate(ctx.deps.rng.as_ref()).to_string());
    let mut tx = ctx.db().begin().await?;
    // The counter first: it lets one trigger at a time pass, so each sees the others in the queue.
    let seq = tx.next_counter("runs").await?;
    room_in_queue(ctx, &mut tx).await?;
    let phases = serde_json::json!(valid.phases).to_string();
    let row = RunRow {
        seq,
        project: valid.project.name.clone(),
        issue_number: valid.issue.clone(),
        host: ctx.deps.host.clone(),
        profile: valid.project.profile.name.clone(),
        priority: valid.priority,
        todo: phases.clone(),
        phases,
        digest: valid.digest(),
        model: valid.request.model.clone(),
        skip_cleanup: valid.request.skip_cleanup,
        triggered_by: caller.triggered_by.clone(),
        transport: caller.transport.clone(),
        request_id: caller.request_id.clone(),
        user_id: Some(caller.user_id.clone()),
        ..RunRow::blank(&adw_id, now)
    };
    sql::insert_run(&mut tx, &row).await?;
    if let Some(key) = valid.key(caller) {
        sql::insert_request_key(&mut tx, &key, tool, &valid.digest(), &adw_id, now).await?;
    }
    crash::here(Point::TriggerUncommitted);
    tx.commit().await?;
    crash::here(Point::TriggerStored);
    tracing::info!(
        adw_id,
        issue = valid.issue,
        project = valid.project.name,
        user = caller.user_id,
        "run accepted"
    );
    Ok(adw_id)
}

/// One phase.
pub(super) async fn trigger_phase(
    ctx: &Arc<Ctx>,
    scope: &Scope,
    caller: &Caller,
    phase: &str,
    request: TriggerRequest,
) -> Result<Accepted, RunsError> {
    const TOOL: &str = "trigger_adw_phase";
    let project = ctx.project_for_work(scope, request.project.as_deref())?;
    let phase = known_phase(&project, phase)?;
    let first = project.profile.phases.first().is_some_and(|p| p.name == phase);
    let fresh = first && request.adw_id.is_none();
    let valid =
        validate(ctx, scope, TriggerRequest { phases: Some(vec![phase.clone()]), ..request })?;
    if fresh {
        return accept(ctx, caller, &valid, TOOL).await;
    }
    if let Some(again) = replay(ctx, caller, &valid, TOOL).await? {
        return answer(ctx, scope, &again, false).await;
    }
    let known = match &valid.adw_id {
        Some(id) => sql::run_within(ctx.db(), scope, id).await?,
        None => sql::newest_run_of_issue(ctx.db(), &valid.project.name, &valid.issue).await?,
    };
    let Some(row) = known else {
        if first {
            return accept(ctx, caller, &valid, TOOL).await;
        }
        return Err(no_run_for(&valid, &phase));
    };
    if row.issue_number != valid.issue || row.project != valid.project.name {
        return Err(RunsError::Conflict {
            message: format!(
                "run {} belongs to issue {} of {}, not to issue {}",
                row.adw_id, row.issue_number, row.project, valid.issue
            ),
            adw_id: row.adw_id,
        });
    }
    if row.active {
        // A run that was queued again for this phase has the digest of its first trigger.
        let model = valid.request.model.as_ref();
        let same =
            row.todo() == [phase.as_str()] && model.is_none_or(|m| row.model.as_ref() == Some(m));
        return if same {
            answer(ctx, scope, &row.adw_id, true).await
        } else {
            joined(ctx, &valid, &row).await
        };
    }
    if row.origin != "daemon" {
        return Err(RunsError::WrongState {
            message: format!(
                "run {} was not started by this daemon; it only watches it",
                row.adw_id
            ),
            adw_id: row.adw_id,
        });
    }
    again(ctx, caller, &valid, &row, &phase).await?;
    note(ctx, caller, &valid.project, &valid.issue, &row.adw_id, TOOL);
    answer(ctx, scope, &row.adw_id, false).await
}

fn no_run_for(valid: &Valid, phase: &str) -> RunsError {
    match &valid.adw_id {
        Some(id) => RunsError::UnknownRun { adw_id: id.clone() },
        None => RunsError::WrongState {
            adw_id: String::new(),
            message: format!(
                "phase {phase} goes on with a run, and issue {} of {} has none yet; trigger its first phase ({}) or the whole workflow first",
                valid.issue,
                valid.project.name,
                valid.project.profile.phases.first().map_or("plan", |p| p.name.as_str())
            ),
        },
    }
}

/// Queues an ended run again for one phase.
async fn again(
    ctx: &Arc<Ctx>,
    caller: &Caller,
    valid: &Valid,
    row: &RunRow,
    phase: &str,
) -> Result<(), RunsError> {
    let attempts = sql::attempts(ctx.db(), &row.adw_id).await?;
    let mut phases = row.phases();
    phases.push(phase.to_owned());
    let phases = valid.project.profile.in_order(&phases);
    let facts = row.facts(&attempts);
    let floors = run::plan_resume(&[phase.to_owned()], &facts, Some(phase))
        .map(|r| r.floors)
        .unwrap_or_default();
    let requeue = Requeue {
        phases: serde_json::json!(phases).to_string(),
        todo: serde_json::json!([phase]).to_string(),
        floors: serde_json::json!(floors).to_string(),
        model: valid.request.model.clone(),
    };
    let key = valid.key(caller).map(|k| (k, "trigger_adw_phase", valid.digest()));
    steer::requeue(ctx, row, &requeue, key).await
}

/// The answer: at the first of worktree known, an end, the trigger timeout, or the certainty that
/// the run has to wait for a place.
async fn answer(
    ctx: &Arc<Ctx>,
    scope: &Scope,
    adw_id: &str,
    already_running: bool,
) -> Result<Accepted, RunsError> {
    let limit = Duration::from_millis(ctx.config().trigger_timeout_ms);
    answer_within(ctx, scope, adw_id, already_running, limit).await
}

async fn answer_within(
    ctx: &Arc<Ctx>,
    scope: &Scope,
    adw_id: &str,
    already_running: bool,
    limit: Duration,
) -> Result<Accepted, RunsError> {
    let mut changes = ctx.deps.changes.subscribe();
    let begun = Instant::now();
    loop {
        let view = query::get(ctx, scope, adw_id).await?;
        let waits = view.status == RunStatus::Queued
            && begun.elapsed() >= Duration::from_millis(limits::ADMISSION_GRACE_MS);
        let known = view.status != RunStatus::Queued
            && (view.worktree_path.is_some() || view.status.is_terminal());
        if known || waits || already_running || begun.elapsed() >= limit {
            return Ok(Accepted { run: view, already_running });
        }
        let pause = limit
            .saturating_sub(begun.elapsed())
            .min(Duration::from_millis(limits::ADMISSION_GRACE_MS));
        tokio::select! {
            () = change_of(&mut changes, adw_id) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Returns when the run may read differently. Many may wait at once, and none of them is to read
/// whenever something happens to another's run.
async fn change_of(changes: &mut Subscription, adw_id: &str) {
    loop {
        match changes.next().await {
            Some(Changed::Run(id)) if id.as_str() != adw_id => {}
            Some(Changed::Run(_) | Changed::Lagged) | None => return,
            Some(_) => {}
        }
    }
}

/// One line in the run's `mcp_trigger.log` (`spec/adw.md` §6). A log that cannot be written is
/// said in the daemon's own and stops nothing.
pub(super) fn note(
    ctx: &Ctx,
    caller: &Caller,
    project: &Project,
    issue: &str,
    adw_id: &str,
    tool: &str,
) {
    let dir = project.run_log_dir(&ctx.environment(), adw_id);
    let line = serde_json::json!({
        "timestamp": ctx.now().rfc3339(), "tool_name": tool, "issue_number": issue,
        "adw_id": adw_id, "user_id": caller.user_id, "tier": caller.tier,
        "transport": caller.transport, "request_id": caller.request_id,
    });
    let written = std::fs::create_dir_all(&dir).and_then(|()| {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join("mcp_trigger.log"))?;
        file.write_all(format!("{line}\n").as_bytes())
    });
    if let Err(e) = written {
        tracing::warn!(adw_id, dir = %dir.display(), "mcp_trigger.log could not be written: {e}");
    }
    crash::here(Point::TriggerNoted);
}
