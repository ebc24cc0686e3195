//! Answers: pure reads of the database and of the log files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::{self, Payer};
use super::budget::{Budget, Whose};
use super::ctx::{Ctx, Unserved};
use super::error::RunsError;
use super::project::Project;
use super::sql::{self, AttemptRow, RunRow};
use super::sql_queue::{self, ActiveRow};
use super::tail;
use super::trigger::{invalid, known_phase};
use super::view::{
    AttemptView, ListFilter, LogPage, LogQuery, PhaseView, ProjectView, RunPage, RunStatus,
    RunSummary, RunView, Usage,
};
use crate::auth::Scope;
use crate::changes::Changed;
use crate::clock::Millis;
use crate::limits;

/// The run, where it exists for the scope; one outside is unknown, in the same words.
pub(super) async fn row_of(ctx: &Ctx, scope: &Scope, adw_id: &str) -> Result<RunRow, RunsError> {
    sql::run_within(ctx.db(), scope, adw_id)
        .await?
        .ok_or_else(|| RunsError::UnknownRun { adw_id: adw_id.chars().take(100).collect() })
}

/// Everything known about a run.
pub(super) async fn get(ctx: &Ctx, scope: &Scope, adw_id: &str) -> Result<RunView, RunsError> {
    let row = row_of(ctx, scope, adw_id).await?;
    let attempts = sql::attempts(ctx.db(), adw_id).await?;
    let position =
        if row.status() == RunStatus::Queued { position(ctx, scope, &row).await? } else { None };
    let budgets = account::budgets(ctx, Payer::of(&row)).await?;
    // What all projects together spend in a day is not for who is bound to some of them.
    let theirs = |budget: &&Budget| *scope == Scope::All || budget.whose != Whose::Day;
    let budgets = budgets.iter().filter(theirs).map(Budget::view).collect();
    Ok(RunView { budgets, ..view(ctx, &row, &attempts, position) })
}

/// Its place among the waiting runs that exist for the scope.
async fn position(ctx: &Ctx, scope: &Scope, row: &RunRow) -> Result<Option<i64>, RunsError> {
    let before = sql_queue::before(ctx.db(), &row.host, &ActiveRow::of(row)).await?;
    let theirs = before.iter().filter(|(project, _)| scope.holds(project));
    Ok(Some(1 + theirs.map(|(_, count)| count).sum::<i64>()))
}

fn time(ms: Option<i64>) -> Option<String> {
    ms.map(|t| Millis(t).rfc3339())
}

fn view(ctx: &Ctx, row: &RunRow, attempts: &[AttemptRow], queue_position: Option<i64>) -> RunView {
    let usage: serde_json::Map<String, serde_json::Value> =
        row.run_usage.as_deref().and_then(|u| serde_json::from_str(u).ok()).unwrap_or_default();
    let usage_of =
        |part: &str| usage.get(part).and_then(|u| serde_json::from_value::<Usage>(u.clone()).ok());
    let facts = row.facts(attempts);
    let current = if row.active { facts.current_phase().map(str::to_owned) } else { None };
    let state: Option<serde_json::Value> =
        row.state.as_deref().and_then(|s| serde_json::from_str(s).ok());
    let reason = || state.as_ref()?.get("skip_reason")?.as_str().map(str::to_owned);
    RunView {
        skip_reason: (row.status() == RunStatus::Skipped)
            .then(|| reason().unwrap_or_else(|| "out of scope".into())),
        adw_id: row.adw_id.clone(),
        project: row.project.clone(),
        issue_number: row.issue_number.clone(),
        issue_title: row.issue_title.clone(),
        issue_class: row.issue_class.clone(),
        status: row.status(),
        origin: row.origin.clone(),
        triggered_by: row.triggered_by.clone(),
        host: row.host.clone(),
        current_phase: current,
        phases: phases(row, attempts, &usage_of),
        queue_position,
        priority: row.priority,
        model: row.model.clone(),
        skip_cleanup: row.skip_cleanup,
        created_at: Millis(row.created_at).rfc3339(),
        started_at: time(row.started_at),
        ended_at: time(row.ended_at),
        retry_at: time(row.retry_at.filter(|at| *at > ctx.now().0)),
        branch: row.branch.clone(),
        base_branch: row.base_branch.clone(),
        base_commit: row.base_commit.clone(),
        worktree_path: row.worktree_path.clone(),
        worktree: row.worktree.clone(),
        plan_file: row.plan_file.clone(),
        pr_url: row.pr_url.clone(),
        usage: usage_of("total"),
        budgets: vec![],
        failure: row.failure(),
        state,
        state_age_ms: row.state_at.map(|at| ctx.now().since_ms(Millis(at)).max(0)),
        state_problem: row.state_problem.clone(),
        revision: row.revision,
    }
}

fn phases(
    row: &RunRow,
    attempts: &[AttemptRow],
    usage_of: &dyn Fn(&str) -> Option<Usage>,
) -> Vec<PhaseView> {
    let floors = row.facts(&[]).floors;
    let todo = row.todo();
    row.phases()
        .into_iter()
        .map(|phase| {
            let own: Vec<&AttemptRow> = attempts.iter().filter(|a| a.phase == phase).collect();
            let floor =
                if todo.contains(&phase) { floors.get(&phase).copied().unwrap_or(0) } else { 0 };
            let last = own.iter().rev().find(|a| a.attempt > floor);
            PhaseView {
                status: last.map_or_else(|| "pending".to_owned(), |a| a.status.clone()),
                usage: usage_of(&phase),
                attempts: own.into_iter().map(attempt_view).collect(),
                phase,
            }
        })
        .collect()
}

fn attempt_view(a: &AttemptRow) -> AttemptView {
    AttemptView {
        attempt: a.attempt,
        status: a.status(),
        started_at: Millis(a.started_at).rfc3339(),
        ended_at: time(a.ended_at),
        exit_code: a.exit_code,
        exit_signal: a.exit_signal,
        failure: a.failure(),
        head_commit: a.head_commit.clone(),
        dir: a.dir.clone(),
    }
}

/// A page of runs.
pub(super) async fn list(ctx: &Ctx, filter: &ListFilter) -> Result<RunPage, RunsError> {
    let limit = filter.limit.unwrap_or(limits::LIST_DEFAULT_COUNT);
    if !(1..=limits::LIST_PAGE_COUNT).contains(&limit) {
        return Err(invalid(
            "limit",
            &limit.to_string(),
            format!("1 to {}", limits::LIST_PAGE_COUNT),
        ));
    }
    let before = match filter.cursor.as_deref() {
        None => None,
        // The last run of the page before, by its id: its number would tell how many others exist.
        Some(c) => Some(
            sql::run_within(ctx.db(), &filter.scope, c.strip_prefix("after:").unwrap_or_default())
                .await?
                .ok_or_else(|| invalid("cursor", c, "the next_cursor of an earlier page"))?
                .seq,
        ),
    };
    let (mut rows, total) = sql::list(ctx.db(), filter, before, i64::from(limit) + 1).await?;
    // The history of a project stays when it is not served any more.
    if let Some(name) = filter.project.as_deref().filter(|_| total == 0)
        && let Err(unknown @ (RunsError::UnknownProject { .. } | RunsError::NoProject)) =
            ctx.wanted_project(&filter.scope, Some(name))
    {
        return Err(unknown);
    }
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_cursor = if more { rows.last().map(|r| format!("after:{}", r.adw_id)) } else { None };
    let attempts = attempts_on(ctx, &rows).await?;
    let of = |row: &RunRow| attempts.get(&row.adw_id).map_or(&[][..], Vec::as_slice);
    let workflows = rows.iter().map(|row| summary(row, of(row))).collect();
    Ok(RunPage { workflows, total, next_cursor })
}

/// The attempts of the active runs of a page, by run; one statement, however many they are.
async fn attempts_on(
    ctx: &Ctx,
    rows: &[RunRow],
) -> Result<HashMap<String, Vec<AttemptRow>>, RunsError> {
    let mut found: HashMap<String, Vec<AttemptRow>> = HashMap::new();
    let active = || rows.iter().filter(|row| row.active).map(|row| row.seq);
    if let (Some(first), Some(last)) = (active().min(), active().max()) {
        for attempt in sql::attempts_of_active(ctx.db(), first..=last).await? {
            found.entry(attempt.adw_id.clone()).or_default().push(attempt);
        }
    }
    Ok(found)
}

fn summary(row: &RunRow, attempts: &[AttemptRow]) -> RunSummary {
    let failure = row.failure();
    let current =
        if row.active { row.facts(attempts).current_phase().map(str::to_owned) } else { None };
    RunSummary {
        adw_id: row.adw_id.clone(),
        project: row.project.clone(),
        issue_number: row.issue_number.clone(),
        issue_title: row.issue_title.clone(),
        status: row.status(),
        origin: row.origin.clone(),
        current_phase: current,
        triggered_by: row.triggered_by.clone(),
        created_at: Millis(row.created_at).rfc3339(),
        ended_at: time(row.ended_at),
        branch: row.branch.clone(),
        pr_url: row.pr_url.clone(),
        failure_class: failure.as_ref().map(|f| f.class),
        failure_message: failure.map(|f| f.message),
        cost_usd: row.cost_usd,
    }
}

/// A place in a run's logs: phase, attempt, and the tail's own cursor.
struct Place {
    phase: String,
    attempt: i64,
    offset: String,
}

impl Place {
    fn parse(text: &str) -> Option<Place> {
        let mut parts = text.splitn(3, '.');
        let (phase, attempt, offset) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        Some(Place { phase: phase.to_owned(), attempt, offset: offset.to_owned() })
    }
}

/// A page of a log.
pub(super) async fn logs(
    ctx: &Ctx,
    scope: &Scope,
    adw_id: &str,
    query: &LogQuery,
) -> Result<LogPage, RunsError> {
    let row = row_of(ctx, scope, adw_id).await?;
    let limit = query.limit.unwrap_or(limits::LOG_DEFAULT_COUNT);
    if !(1..=limits::LOG_PAGE_COUNT).contains(&limit) {
        return Err(invalid(
            "limit",
            &limit.to_string(),
            format!("1 to {}", limits::LOG_PAGE_COUNT),
        ));
    }
    if let (Some(phase), Some(project)) = (query.phase.as_deref(), ctx.project(&row.project)) {
        known_phase(&project, phase)?;
    }
    let attempts = sql::attempts(ctx.db(), adw_id).await?;
    let bad_cursor = |c: &str| invalid("after", c, "the `next` of an earlier page of the same run");
    let place = match query.after.as_deref() {
        None => None,
        Some(c) => Some(
            Place::parse(c)
                .filter(|p| query.phase.as_ref().is_none_or(|q| q == &p.phase))
                .ok_or_else(|| bad_cursor(c))?,
        ),
    };
    let found = match &place {
        Some(p) => attempts.iter().find(|a| a.phase == p.phase && a.attempt == p.attempt),
        None if query.phase.is_none() && !query.tail => attempts.first(),
        None => attempts.iter().rev().find(|a| query.phase.as_ref().is_none_or(|q| q == &a.phase)),
    };
    let Some(attempt) = found else {
        if let Some(c) = query.after.as_deref().filter(|_| !attempts.is_empty()) {
            return Err(bad_cursor(c));
        }
        return Ok(nothing_yet(&row, query));
    };
    let path = Path::new(&attempt.dir).join("execution.log");
    let offset = place.as_ref().map(|p| p.offset.as_str());
    let tail_from = query.tail && place.is_none();
    let ended = attempt.ended_at.is_some();
    let page =
        tail::page(&path, offset, limit as usize, tail_from, ended).map_err(|e| match e {
            tail::TailError::Cursor(_) => bad_cursor(query.after.as_deref().unwrap_or_default()),
            tail::TailError::Io(source) => unread(attempt, &path, source),
        })?;
    // A follower that named no phase is led on to the next attempt when this one is read.
    let later =
        if query.phase.is_none() && ended && !page.more { after(&attempts, attempt) } else { None };
    let next = match later {
        Some(next) => format!("{}.{}.0", next.phase, next.attempt),
        None => format!("{}.{}.{}", attempt.phase, attempt.attempt, page.next),
    };
    Ok(LogPage {
        adw_id: row.adw_id.clone(),
        phase: attempt.phase.clone(),
        attempt: attempt.attempt,
        lines: page.lines,
        next,
        more: page.more || later.is_some(),
        ended: ended && (query.phase.is_some() || !row.active),
    })
}

/// Why a log cannot be shown.
fn unread(attempt: &AttemptRow, path: &Path, source: std::io::Error) -> RunsError {
    // The phase put something else there.
    if source.kind() == std::io::ErrorKind::InvalidData {
        let message = format!("the log of {} cannot be shown: {source}", attempt.phase);
        return RunsError::WrongState { adw_id: attempt.adw_id.clone(), message };
    }
    RunsError::Io { operation: "cannot read", path: path.display().to_string(), source }
}

fn after<'a>(attempts: &'a [AttemptRow], of: &AttemptRow) -> Option<&'a AttemptRow> {
    let at = attempts.iter().position(|a| a.phase == of.phase && a.attempt == of.attempt)?;
    attempts.get(at + 1)
}

fn nothing_yet(row: &RunRow, query: &LogQuery) -> LogPage {
    let phase = query.phase.clone().or_else(|| row.todo().first().cloned()).unwrap_or_default();
    LogPage {
        adw_id: row.adw_id.clone(),
        next: format!("{phase}.1.0"),
        phase,
        attempt: 1,
        lines: vec![],
        more: false,
        ended: !row.active,
    }
}

/// Waits for the end of a run.
pub(super) async fn wait(
    ctx: &Arc<Ctx>,
    scope: &Scope,
    adw_id: &str,
    timeout: Duration,
    progress: &mut (dyn FnMut(&RunView) + Send),
) -> Result<RunView, RunsError> {
    let mut changes = ctx.deps.changes.subscribe();
    let begun = Instant::now();
    loop {
        let view = get(ctx, scope, adw_id).await?;
        progress(&view);
        let left = timeout.saturating_sub(begun.elapsed());
        if view.status.is_terminal() || left.is_zero() || ctx.deps.shutdown.is_cancelled() {
            return Ok(view);
        }
        let pause = left.min(Duration::from_millis(limits::WAIT_HEARTBEAT_MS));
        let _ = tokio::time::timeout(pause, async {
            loop {
                match changes.next().await {
                    Some(Changed::Run(id)) if id.as_str() != adw_id => {}
                    Some(_) => return,
                    None => std::future::pending().await,
                }
            }
        })
        .await;
    }
}

/// A served project, as shown.
pub(super) async fn project_view(ctx: &Ctx, project: &Project) -> Result<ProjectView, RunsError> {
    Ok(ProjectView {
        name: project.name.clone(),
        path: project.root.display().to_string(),
        profile: project.profile.name.clone(),
        profile_reason: project.profile_reason.clone(),
        base_branch: project.base_branch(),
        remote: project.remote(),
        agent: project.agent(),
        forge: project.forge(),
        source: project.source.to_owned(),
        active_runs: sql::active_of_project(ctx.db(), &ctx.deps.host, &project.name).await?,
        problem: None,
    })
}

/// A project that cannot be served, as shown: what its table says, and why not.
pub(super) async fn unserved_view(ctx: &Ctx, u: &Unserved) -> Result<ProjectView, RunsError> {
    let own = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(ProjectView {
        name: u.table.name.to_string(),
        path: u.table.path.display().to_string(),
        profile: own(&u.table.profile),
        profile_reason: "not served".to_owned(),
        base_branch: u.table.base_branch.clone(),
        remote: own(&u.table.remote),
        agent: own(&u.table.agent),
        forge: own(&u.table.forge),
        source: u.source.to_owned(),
        active_runs: sql::active_of_project(ctx.db(), &ctx.deps.host, u.table.name.as_str())
            .await?,
        problem: Some(u.problem.clone()),
    })
}
