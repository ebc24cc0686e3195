//! `adwd schedule` and `adwd hook`. They read the settings and the database, and need no daemon.

use serde_json::{Value, json};

use super::args::{Hook, Schedule};
use super::fail::{Fail, chain, exit, tone};
use super::link::Cx;
use crate::clock::{Clock as _, Millis, SystemClock};
use crate::config::{CatchUp, HookConfig, ScheduleConfig};
use crate::daemon;
use crate::db::{Db, DbError};
use crate::ids::OsRng;
use crate::limits::HOOK_LIST_COUNT;
use crate::out::{Tone, cell, toned};
use crate::outside::sql::{self, NoticeRow, ScheduleRow};
use crate::outside::try_hook;

/// The database and the daemon's name in it; none where no daemon ever ran on this state folder.
async fn database(cx: &Cx) -> Result<Option<(Db, String)>, Fail> {
    let paths = &cx.config().paths;
    let Some(host) = daemon::recorded_host(&paths.state_dir) else { return Ok(None) };
    let db = Db::open(&paths.database_url).await.map_err(failed)?;
    db.migrate(&SystemClock).await.map_err(failed)?;
    Ok(Some((db, host)))
}

fn failed(error: DbError) -> Fail {
    Fail::new(exit::FAILED, "database", chain(&error))
}

/// `adwd schedule`.
pub async fn schedule(cx: &Cx, given: &Schedule) -> Result<u8, Fail> {
    let Schedule::List { times } = given;
    let rows = match database(cx).await? {
        Some((db, host)) => sql::schedules(&db, &host).await.map_err(failed)?,
        None => vec![],
    };
    let now = SystemClock.now();
    let schedules = &cx.config().outside.schedules;
    let row_of = |schedule: &ScheduleConfig| rows.iter().find(|row| row.name == schedule.name);
    if cx.out.is_json() {
        let all: Vec<Value> =
            schedules.iter().map(|s| schedule_json(s, row_of(s), now, *times)).collect();
        cx.out.json(&json!({ "schedules": all }));
        return Ok(exit::OK);
    }
    if schedules.is_empty() {
        cx.out.note("no [[schedule]] in the configuration; `adwd config example` shows one");
    }
    let table: Vec<_> = schedules
        .iter()
        .map(|schedule| {
            let next = next_times(schedule, now, *times).join("\n");
            let next = if schedule.enabled { cell(next) } else { toned("switched off", Tone::Dim) };
            let last = row_of(schedule).and_then(|row| Some((row.fired_at?, row.fired.clone()?)));
            let last = last.map_or_else(String::new, |(at, what)| {
                format!("{} {what}", schedule.cron.local(at))
            });
            let cron = format!("{} {}", schedule.cron.text(), schedule.cron.zone_name());
            let issues = schedule.issues.iter().map(|n| format!("#{n}")).collect::<Vec<_>>();
            let project = schedule.project.clone().unwrap_or_default();
            vec![
                cell(&schedule.name),
                cell(cron),
                cell(project),
                cell(issues.join(" ")),
                next,
                cell(last),
            ]
        })
        .collect();
    cx.out.table(&["NAME", "CRON", "PROJECT", "ISSUES", "NEXT", "LAST"], &table);
    Ok(exit::OK)
}

fn next_times(schedule: &ScheduleConfig, now: Millis, times: u8) -> Vec<String> {
    let first = schedule.cron.next(now);
    let moments = std::iter::successors(first, |at| schedule.cron.next(*at));
    moments.take(usize::from(times)).map(|at| schedule.cron.local(at)).collect()
}

fn schedule_json(
    schedule: &ScheduleConfig,
    row: Option<&ScheduleRow>,
    now: Millis,
    times: u8,
) -> Value {
    json!({
        "name": schedule.name, "cron": schedule.cron.text(),
        "time_zone": schedule.cron.zone_name(), "project": schedule.project,
        "issues": schedule.issues, "phases": schedule.phases, "model": schedule.model,
        "enabled": schedule.enabled,
        "catch_up": if schedule.catch_up == CatchUp::Once { "once" } else { "skip" },
        "next": next_times(schedule, now, times),
        "last_at": row.and_then(|row| row.fired_at).map(Millis::rfc3339),
        "last": row.and_then(|row| row.fired.clone()),
    })
}

/// `adwd hook`.
pub async fn hook(cx: &Cx, given: &Hook) -> Result<u8, Fail> {
    match given {
        Hook::List => list(cx).await,
        Hook::Dead => dead(cx).await,
        Hook::Retry { id } => retry(cx, id).await,
        Hook::Test { name } => test(cx, name).await,
    }
}

async fn list(cx: &Cx) -> Result<u8, Fail> {
    let counts = match database(cx).await? {
        Some((db, host)) => sql::notice_counts(&db, &host).await.map_err(failed)?,
        None => vec![],
    };
    let count = |hook: &HookConfig, state: &str| {
        let found = counts.iter().find(|(name, is, _)| *name == hook.name && is == state);
        found.map_or(0, |(_, _, count)| *count)
    };
    let hooks = &cx.config().outside.hooks;
    if cx.out.is_json() {
        let all: Vec<Value> = hooks
            .iter()
            .map(|hook| {
                json!({
                    "name": hook.name, "url": hook.shown_url(), "format": hook.format.as_str(),
                    "events": hook.events, "projects": hook.projects,
                    "pending": count(hook, "pending"), "delivered": count(hook, "delivered"),
                    "dead": count(hook, "dead"),
                })
            })
            .collect();
        cx.out.json(&json!({ "hooks": all }));
        return Ok(exit::OK);
    }
    if hooks.is_empty() {
        cx.out.note("no [[hook]] in the configuration; `adwd config example` shows one");
    }
    let rows: Vec<_> = hooks
        .iter()
        .map(|hook| {
            let dead = count(hook, "dead");
            vec![
                cell(&hook.name),
                cell(hook.shown_url()),
                cell(hook.format.as_str()),
                cell(count(hook, "pending").to_string()),
                cell(count(hook, "delivered").to_string()),
                toned(dead.to_string(), if dead > 0 { Tone::Bad } else { Tone::Plain }),
            ]
        })
        .collect();
    cx.out.table(&["NAME", "URL", "FORMAT", "PENDING", "DELIVERED", "DEAD"], &rows);
    Ok(exit::OK)
}

async fn dead(cx: &Cx) -> Result<u8, Fail> {
    let rows = match database(cx).await? {
        Some((db, host)) => {
            sql::notices(&db, &host, "dead", HOOK_LIST_COUNT).await.map_err(failed)?
        }
        None => vec![],
    };
    if cx.out.is_json() {
        let all: Vec<Value> = rows.iter().map(notice_json).collect();
        cx.out.json(&json!({ "notices": all }));
        return Ok(exit::OK);
    }
    let table: Vec<_> = rows
        .iter()
        .map(|row| {
            vec![
                cell(&row.id),
                cell(&row.hook),
                cell(&row.adw_id),
                toned(&row.event, tone(&row.event)),
                cell(row.attempts.to_string()),
                cell(Millis(row.ended_at.unwrap_or(row.created_at)).rfc3339()),
                cell(row.last_error.clone().unwrap_or_default()),
            ]
        })
        .collect();
    cx.out.table(&["ID", "HOOK", "RUN", "EVENT", "ATTEMPTS", "GIVEN UP", "WHY"], &table);
    Ok(exit::OK)
}

fn notice_json(row: &NoticeRow) -> Value {
    json!({
        "id": row.id, "hook": row.hook, "adw_id": row.adw_id, "event": row.event,
        "state": row.state, "attempts": row.attempts,
        "run_ended_at": Millis(row.run_ended_at).rfc3339(),
        "given_up_at": row.ended_at.map(|at| Millis(at).rfc3339()),
        "last_status": row.last_status, "last_error": row.last_error,
    })
}

async fn retry(cx: &Cx, id: &str) -> Result<u8, Fail> {
    let unknown = || {
        Fail::new(exit::NOT_FOUND, "unknown_notice", format!("no notice {id:?} is known"))
            .hint("`adwd hook dead` lists those that were given up")
    };
    let Some((db, host)) = database(cx).await? else { return Err(unknown()) };
    let Some(row) = sql::notice(&db, &host, id).await.map_err(failed)? else {
        return Err(unknown());
    };
    if !cx.config().outside.hooks.iter().any(|hook| hook.name == row.hook) {
        let message = format!("hook {} is no longer configured: nobody would be told", row.hook);
        return Err(Fail::new(exit::REFUSED, "wrong_state", message));
    }
    if !sql::retry_notice(&db, &host, id, SystemClock.now()).await.map_err(failed)? {
        let message =
            format!("notice {id} is {}; only one that was given up is retried", row.state);
        return Err(Fail::new(exit::REFUSED, "wrong_state", message));
    }
    if cx.out.is_json() {
        cx.out.json(&json!({ "id": id, "hook": row.hook, "state": "pending" }));
    } else {
        cx.out
            .line(&format!("{id} is pending again; the daemon tells {} within seconds", row.hook));
    }
    Ok(exit::OK)
}

async fn test(cx: &Cx, name: &str) -> Result<u8, Fail> {
    let hooks = &cx.config().outside.hooks;
    let Some(hook) = hooks.iter().find(|hook| hook.name == name) else {
        let known: Vec<&str> = hooks.iter().map(|hook| hook.name.as_str()).collect();
        let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
        let message = format!("no hook {name:?} is configured; known: {known}");
        return Err(Fail::new(exit::NOT_FOUND, "unknown_hook", message));
    };
    let tried = try_hook(hook, env!("CARGO_PKG_VERSION"), &SystemClock, &OsRng).await;
    let tried = tried.map_err(|error| Fail::new(exit::USAGE, "configuration", chain(&error)))?;
    let url = hook.shown_url();
    if cx.out.is_json() {
        cx.out.json(&json!({
            "id": tried.id, "hook": name, "url": url, "delivered": tried.delivered,
            "status": tried.status, "problem": tried.problem,
        }));
        return Ok(if tried.delivered { exit::OK } else { exit::FAILED });
    }
    match tried.problem {
        None => {
            let status = tried.status.unwrap_or_default();
            cx.out.line(&format!("{url} took {} (HTTP {status})", tried.id));
            Ok(exit::OK)
        }
        Some(problem) => Err(Fail::new(
            exit::FAILED,
            "not_delivered",
            format!("{url} did not take it: {problem}"),
        )),
    }
}
