//! Seeing one attempt to its end: start its monitor if that never happened, watch what it leaves,
//! judge it when its tree is gone.
//!
//! What `kill -9` of the daemon leaves at each point, and what the next look makes of it, is tabled
//! in [`crate::crash`].
//!
//! A phase can take its attempt's folder away (`git clean -fdx` in the main checkout does). Then nobody
//! can ask it to stop or record its end: whoever carries its mark, or descends from the monitor that
//! was started for the folder, is ended, and the attempt is judged by its work.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account;
use super::ctx::Ctx;
use super::error::RunsError;
use super::facts;
use super::launch::{self, AttemptCall};
use super::observe::Watch;
use super::orphans;
use super::outcome::{self, Ending, Evidence, Stopped, Verdict};
use super::process::{self, MonitorLaunch};
use super::procfs;
use super::profile::WorktreeBy;
use super::project::Project;
use super::records::{self, ExitRecord, LaunchSpec, Probe, StartRecord, StopReason};
use super::sql::{self, AttemptEnd, AttemptRow, RunRow};
use super::state_file::AdwState;
use super::tail;
use super::view::{Failure, FailureClass, RunStatus};
use crate::clock::Millis;
use crate::crash::{self, Point};
use crate::limits;

fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RunsError {
    let path = path.display().to_string();
    move |source| RunsError::Io { operation, path, source }
}

/// The limits of a phase: wall clock and silence, milliseconds.
fn phase_limits(ctx: &Ctx, project: &Project, phase: &str) -> (u64, u64) {
    let defaults = &ctx.config().phases;
    let limit =
        phase.parse().map_or(defaults.other, |name| project.config.phase_limit(&name, defaults));
    (limit.wall_ms, limit.silence_ms)
}

/// Sees an attempt to its end, or returns early when something about the run has changed that the
/// state machine should look at (a stop was asked for, the daemon stops).
pub(crate) async fn attend(
    ctx: &Arc<Ctx>,
    project: &Project,
    row: &RunRow,
    attempt: &AttemptRow,
    stop: bool,
) -> Result<(), RunsError> {
    let dir = PathBuf::from(&attempt.dir);
    // Without the folder no monitor was launched, and there is nobody to ask.
    if stop && dir.is_dir() {
        records::request_stop(&dir, why_stop(row))
            .map_err(io("cannot ask for the stop in", &dir))?;
    }
    // One that began and of which nothing tells has lost its records, not its processes: a second
    // monitor would run the phase twice. It is followed, to be ended and judged.
    let began = attempt.status() == RunStatus::Running;
    if let (Probe::NotStarted, false) =
        (records::probe(&dir).map_err(io("cannot look at the attempt in", &dir))?, began)
    {
        if stop {
            // The request is on disk before this look, so a monitor that is only now coming up
            // sees it and starts nothing.
            return end_unstarted(ctx, row, attempt).await;
        }
        let budget_usd = account::agents_may_cost(ctx, project, row).await?;
        if let Err(why) = start(ctx, project, row, attempt, budget_usd).await {
            // A monitor that is only late must not come up behind the verdict: it heeds a stop.
            let _ = records::request_stop(&dir, StopReason::Signal);
            if matches!(records::probe(&dir), Ok(Probe::NotStarted) | Err(_)) {
                return never_began(ctx, project, row, attempt, &why).await;
            }
        }
    }
    sql::attempt_running(ctx.db(), attempt).await?;
    ctx.tell_changed(&row.adw_id);
    let _hint = ctx.hints.watch_run(&[dir.clone(), project.run_state_dir(&row.adw_id)]);
    let mut watch = Watch::new(ctx, project, row, &dir);
    follow(ctx, project, row, attempt, &mut watch, stop).await
}

/// Why the run is to stop.
fn why_stop(row: &RunRow) -> StopReason {
    if row.budget_stop.is_some() { StopReason::Budget } else { StopReason::Cancel }
}

async fn follow(
    ctx: &Arc<Ctx>,
    project: &Project,
    row: &RunRow,
    attempt: &AttemptRow,
    watch: &mut Watch,
    stop: bool,
) -> Result<(), RunsError> {
    let (wall_ms, silence_ms) = phase_limits(ctx, project, &attempt.phase);
    let notify = ctx.notify_of(&row.adw_id);
    loop {
        let probe =
            records::probe(&watch.dir).map_err(io("cannot look at the attempt in", &watch.dir))?;
        if let Probe::Live { start: Some(start), .. } | Probe::Vanished(Some(start)) = &probe {
            watch.start = Some(start.clone());
        }
        watch.look(ctx, project, row).await?;
        let since = records::since(Millis(attempt.started_at), watch.start.as_ref(), ctx.now());
        let state = watch.state.as_ref();
        watch.meter.look(ctx, project, (attempt, since), state, false).await?;
        match probe {
            Probe::Ended(exit) => {
                return judge(ctx, project, row, attempt, watch, Some(exit)).await;
            }
            Probe::NotStarted | Probe::Vanished(_) => {
                // Its locks are free, but who gave its output away holds none.
                end_without_monitor(ctx, watch).await;
                return judge(ctx, project, row, attempt, watch, None).await;
            }
            Probe::Live { monitor_alive, .. } => {
                // By the clock that nobody sets, as the monitor's own limit.
                let age_ms = watch.start.as_ref().and_then(StartRecord::age_ms);
                let over = age_ms.is_some_and(|age| u64::try_from(age).unwrap_or(0) > wall_ms);
                if watch.active_at.elapsed() > Duration::from_millis(silence_ms) {
                    records::request_stop(&watch.dir, StopReason::Silence)
                        .map_err(io("cannot ask for the stop in", &watch.dir))?;
                }
                if !monitor_alive && over {
                    records::request_stop(&watch.dir, StopReason::WallLimit)
                        .map_err(io("cannot ask for the stop in", &watch.dir))?;
                }
                let asked = stop || records::stop_requested(&watch.dir).is_some();
                if !monitor_alive && (asked || watch.leader_is_gone()) {
                    end_without_monitor(ctx, watch).await;
                } else if is_stuck(ctx, watch) {
                    end_monitor(watch);
                }
            }
        }
        // After its last record a monitor is gone in no time.
        let ending = watch.dir.join("exit.json").exists();
        let pause = if ending { limits::WATCH_DEBOUNCE_MS } else { limits::ATTEND_POLL_MS };
        tokio::select! {
            () = notify.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(pause)) => {}
            () = ctx.deps.shutdown.cancelled() => return Ok(()),
        }
        if !stop
            && (account::stop_if_passed(ctx, row, &attempt.phase).await?
                || stop_asked(ctx, &row.adw_id).await?)
        {
            return Ok(());
        }
    }
}

async fn stop_asked(ctx: &Ctx, adw_id: &str) -> Result<bool, RunsError> {
    Ok(sql::run(ctx.db(), adw_id)
        .await?
        .is_none_or(|r| r.stop_requested || r.status() != RunStatus::Running))
}

async fn end_without_monitor(ctx: &Ctx, watch: &Watch) {
    let start = watch.start.clone().unwrap_or_else(|| procfs::unrecorded(&watch.dir));
    let ended = orphans::end_orphans(&watch.dir, &start, ctx.config().stop.term_grace_ms).await;
    if ended > 0 {
        tracing::warn!(dir = %watch.dir.display(), ended, "ended processes that no monitor answers for");
    }
}

/// Whether a stop was asked for longer ago than the monitor's whole ladder takes. Counted from when
/// it was first seen here, and not by the time of its file: clocks are set.
fn is_stuck(ctx: &Ctx, watch: &mut Watch) -> bool {
    if records::stop_requested(&watch.dir).is_none() {
        return false;
    }
    let stop = &ctx.config().stop;
    let ladder_ms = stop.int_grace_ms + stop.term_grace_ms + limits::KILL_LIMIT_MS;
    let seen = watch.stop_seen_at.get_or_insert_with(Instant::now);
    seen.elapsed() > Duration::from_millis(ladder_ms + limits::MONITOR_STUCK_MS)
}

/// Ends a monitor that does not do its work, such as a stopped one; its tree comes next.
fn end_monitor(watch: &Watch) {
    if let Some(start) = &watch.start {
        tracing::warn!(dir = %watch.dir.display(), "the monitor does not heed the stop; ending it");
        orphans::kill_process(start.monitor);
    }
}

/// Writes the launch specification and starts the monitor. The error is a sentence.
async fn start(
    ctx: &Arc<Ctx>,
    project: &Project,
    row: &RunRow,
    attempt: &AttemptRow,
    budget_usd: Option<f64>,
) -> Result<(), String> {
    let dir = Path::new(&attempt.dir);
    let Some(script) = project.script(&attempt.phase) else {
        return Err(format!("its script is gone from {}", project.scripts_root.display()));
    };
    let Some(uv) = super::preflight::find_uv(ctx) else {
        return Err(match &ctx.config().uv.path {
            Some(path) => format!("uv is gone: {} (uv.path) is no program", path.display()),
            None => "uv is gone from the daemon's PATH".into(),
        });
    };
    let unusable = |e: std::io::Error| format!("its folder {} is no use: {e}", dir.display());
    std::fs::create_dir_all(dir).map_err(unusable)?;
    crash::here(Point::AttemptFolderMade);
    let base_env = ctx.base_env(project);
    let environment = ctx.environment();
    let claude = super::preflight::claude(&base_env);
    let made = row.worktree_path.as_deref();
    let call = AttemptCall {
        environment: &environment,
        claude: &claude,
        adw_id: &row.adw_id,
        issue: &row.issue_number,
        phase: &attempt.phase,
        dir,
        model: row.model.as_deref(),
        skip_cleanup: row.skip_cleanup,
        triggered_by: &row.triggered_by,
        request_id: row.request_id.as_deref(),
        user_id: row.user_id.as_deref(),
        worktree: made.filter(|_| project.profile.worktree_by == WorktreeBy::Daemon),
        base_branch: row.base_branch.as_deref(),
        base_commit: row.base_commit.as_deref(),
        budget_usd,
    };
    let env = launch::phase_env(&base_env, project, &call);
    let spec = LaunchSpec {
        argv: launch::phase_argv(&uv, &script, project, &call),
        cwd: project.root.join(&project.profile.cwd),
        wall_ms: phase_limits(ctx, project, &attempt.phase).0,
        int_grace_ms: ctx.config().stop.int_grace_ms,
        term_grace_ms: ctx.config().stop.term_grace_ms,
        log_cap_bytes: limits::PHASE_LOG_BYTES,
    };
    spec.write(dir).map_err(unusable)?;
    let env: BTreeMap<OsString, OsString> =
        env.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
    let scope = process::ScopeSpec::where_possible(
        &ctx.deps.base_env,
        &format!("adw-{}-{}-{}", row.adw_id, attempt.phase, attempt.attempt),
    );
    let launch =
        MonitorLaunch { exe: ctx.deps.exe.clone(), attempt_dir: dir.to_path_buf(), env, scope };
    let ended = ctx.notify_of(&row.adw_id);
    process::launch_monitor_for(&launch, &ended).await.map_err(|e| e.to_string())?;
    tracing::info!(
        adw_id = row.adw_id,
        phase = attempt.phase,
        attempt = attempt.attempt,
        "monitor started"
    );
    Ok(())
}

/// Ends an attempt whose project is not served: nothing of it is judged, it is to be gone.
pub(crate) async fn end_unserved(
    ctx: &Arc<Ctx>,
    row: &RunRow,
    attempt: &AttemptRow,
) -> Result<(), RunsError> {
    let dir = PathBuf::from(&attempt.dir);
    let grace_ms = ctx.config().stop.term_grace_ms;
    while !ctx.deps.shutdown.is_cancelled() {
        if dir.is_dir() {
            records::request_stop(&dir, why_stop(row))
                .map_err(io("cannot ask for the stop in", &dir))?;
        }
        match records::probe(&dir).map_err(io("cannot look at the attempt in", &dir))? {
            Probe::Live { start, monitor_alive } => {
                if let Some(start) = start.filter(|_| !monitor_alive) {
                    orphans::end_orphans(&dir, &start, grace_ms).await;
                }
                tokio::time::sleep(Duration::from_millis(limits::MONITOR_TICK_MS.into())).await;
            }
            _ => return end_unstarted(ctx, row, attempt).await,
        }
    }
    Ok(())
}

async fn end_unstarted(
    ctx: &Arc<Ctx>,
    row: &RunRow,
    attempt: &AttemptRow,
) -> Result<(), RunsError> {
    let cancelled = || Failure {
        class: FailureClass::Cancelled,
        message: format!("cancelled before {} was done", attempt.phase),
        retryable: false,
        phase: Some(attempt.phase.clone()),
        log_tail: vec![],
    };
    let (status, failure) = match row.budget_stop() {
        Some(failure) => (RunStatus::Failed, failure),
        None => (RunStatus::Cancelled, cancelled()),
    };
    let end = AttemptEnd {
        status,
        exit_code: None,
        exit_signal: None,
        failure: Some(failure),
        head_commit: None,
    };
    end_attempt(ctx, attempt, &end).await?;
    ctx.tell_changed(&row.adw_id);
    Ok(())
}

/// Stores the end of an attempt; the first time it is counted too.
async fn end_attempt(ctx: &Ctx, attempt: &AttemptRow, end: &AttemptEnd) -> Result<(), RunsError> {
    records::remove_unfinished(Path::new(&attempt.dir));
    let now = ctx.now();
    if sql::end_attempt(ctx.db(), attempt, end, now).await? {
        let took = u64::try_from(now.since_ms(Millis(attempt.started_at))).unwrap_or(0);
        let took = Duration::from_millis(took);
        ctx.deps.metrics.phase_ended(&attempt.phase, end.status.as_str(), took);
    }
    Ok(())
}

async fn never_began(
    ctx: &Arc<Ctx>,
    project: &Project,
    row: &RunRow,
    attempt: &AttemptRow,
    why: &str,
) -> Result<(), RunsError> {
    let mut watch = Watch::new(ctx, project, row, Path::new(&attempt.dir));
    let exit = ExitRecord::never_began(why, ctx.now());
    judge(ctx, project, row, attempt, &mut watch, Some(exit)).await
}

/// Gathers the evidence, judges, stores the verdict.
async fn judge(
    ctx: &Arc<Ctx>,
    project: &Project,
    row: &RunRow,
    attempt: &AttemptRow,
    watch: &mut Watch,
    exit: Option<ExitRecord>,
) -> Result<(), RunsError> {
    watch.tail.at_end();
    watch.start = watch.start.take().or_else(|| records::started(&watch.dir));
    watch.look(ctx, project, row).await?;
    let since = records::since(Millis(attempt.started_at), watch.start.as_ref(), ctx.now());
    watch.meter.look(ctx, project, (attempt, since), watch.state.as_ref(), true).await?;
    // The row may have learned its branch or worktree just now.
    let row = sql::run(ctx.db(), &row.adw_id).await?.unwrap_or_else(|| row.clone());
    let (wall_ms, silence_ms) = phase_limits(ctx, project, &attempt.phase);
    let stopped = exit
        .as_ref()
        .map_or_else(|| records::stop_requested(&watch.dir), |e| e.stopped)
        .map(stopped_of);
    let evidence = Evidence {
        phase: attempt.phase.clone(),
        stopped,
        ending: match ending_of(exit.as_ref()) {
            Ending::Unrecorded if !watch.dir.join("start.json").exists() => Ending::RecordsGone,
            ending => ending,
        },
        status: watch.markers.status,
        skipped: watch.skip_reason(project, &attempt.phase),
        checks: facts::check(ctx, project, &row, &attempt.phase, watch.state.as_ref(), since).await,
        error: watch.state.as_ref().and_then(AdwState::error),
        our_codes: project.profile.exit_codes,
        coded: project.profile.phase(&attempt.phase).is_some_and(|p| p.coded),
        budget: account::used_up(ctx, &row).await?,
        log_tail: tail::last_lines(&watch.dir.join("execution.log"), limits::FAILURE_TAIL_COUNT)
            .unwrap_or_default(),
        wall_ms,
        silence_ms,
    };
    let verdict = outcome::judge(&evidence);
    let once = project.profile.phase(&attempt.phase).is_some_and(|p| p.once);
    let head = match row.worktree_path.as_deref() {
        Some(tree) => facts::head(ctx, project, Path::new(tree)).await,
        None => None,
    };
    let (status, failure) = match verdict {
        Verdict::Completed => (RunStatus::Completed, None),
        Verdict::Skipped(_) => (RunStatus::Skipped, None),
        Verdict::Failed(f) => (RunStatus::Failed, Some(f)),
        Verdict::Cancelled(f) => (RunStatus::Cancelled, Some(f)),
        Verdict::TimedOut(f) => (RunStatus::TimedOut, Some(f)),
        Verdict::Lost(f) => (RunStatus::Lost, Some(f)),
    };
    // A second try of such a phase would only die of what the first one made.
    let failure = failure
        .map(|f| Failure { retryable: f.retryable && !(once && row.worktree_path.is_some()), ..f });
    let end = AttemptEnd {
        status,
        exit_code: exit.as_ref().and_then(|e| e.code).map(i64::from),
        exit_signal: exit.as_ref().and_then(|e| e.signal).map(i64::from),
        failure,
        head_commit: head,
    };
    end_attempt(ctx, attempt, &end).await?;
    tracing::info!(adw_id = row.adw_id, phase = attempt.phase, attempt = attempt.attempt, %status, "phase ended");
    ctx.tell_changed(&row.adw_id);
    Ok(())
}

fn stopped_of(reason: StopReason) -> Stopped {
    match reason {
        StopReason::Cancel => Stopped::Cancel,
        StopReason::WallLimit => Stopped::WallLimit,
        StopReason::Silence => Stopped::Silence,
        StopReason::LogLimit => Stopped::LogLimit,
        StopReason::Signal => Stopped::Signal,
        StopReason::Budget => Stopped::Budget,
    }
}

fn ending_of(exit: Option<&ExitRecord>) -> Ending {
    match exit {
        None => Ending::Unrecorded,
        Some(ExitRecord { spawn_error: Some(why), .. }) => Ending::NeverBegan(why.clone()),
        Some(ExitRecord { code: Some(code), .. }) => Ending::Exited(*code),
        Some(ExitRecord { signal: Some(signal), .. }) => Ending::Signalled(*signal),
        Some(_) => Ending::Unrecorded,
    }
}
