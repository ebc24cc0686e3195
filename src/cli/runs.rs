//! Commands about runs: trigger, phase, list, state, cancel, resume.

use serde_json::{Map, Value, json};

use super::args::{Common, List, OneRun, Phase, Resume, Trigger};
use super::fail::{Fail, exit};
use super::link::{Cx, arguments};
use super::{render, watch};
use crate::client::Client;
use crate::clock::{Clock as _, Millis, SystemClock};
use crate::runs::{RunPage, RunStatus, RunView, Triggered};

/// `adwd trigger`.
pub async fn trigger(cx: &Cx, given: Trigger) -> Result<u8, Fail> {
    let client = cx.connect_or_start().await?;
    let mut arguments = common(cx, &client, &given.issue, &given.common).await?;
    if let Some(phases) = &given.phases {
        arguments.insert("phases".into(), json!(phases));
    }
    let triggered: Triggered = client.call("trigger_adw_workflow", arguments).await?;
    answer(cx, client, triggered, &given.common).await
}

/// `adwd phase`.
pub async fn phase(cx: &Cx, given: Phase) -> Result<u8, Fail> {
    let client = cx.connect_or_start().await?;
    let mut arguments = common(cx, &client, &given.issue, &given.common).await?;
    arguments.insert("phase".into(), json!(given.phase));
    let triggered: Triggered = client.call("trigger_adw_phase", arguments).await?;
    answer(cx, client, triggered, &given.common).await
}

async fn common(
    cx: &Cx,
    client: &Client,
    issue: &str,
    given: &Common,
) -> Result<Map<String, Value>, Fail> {
    let project = cx.project(client).await?;
    // `#42` is how people write it, and what a shell leaves of it when quoted.
    let issue = issue.strip_prefix('#').unwrap_or(issue);
    Ok(arguments(vec![
        ("issue_number", Some(json!(issue))),
        ("project", project.map(|p| json!(p))),
        ("adw_id", given.adw_id.as_ref().map(|id| json!(id))),
        ("model", given.model.as_ref().map(|m| json!(m))),
        ("skip_cleanup", given.keep_worktree.then(|| json!(true))),
        ("priority", given.priority.map(|p| json!(p))),
        ("idempotency_key", given.idempotency_key.as_ref().map(|k| json!(k))),
    ]))
}

async fn answer(cx: &Cx, client: Client, triggered: Triggered, given: &Common) -> Result<u8, Fail> {
    if given.wait {
        if !cx.out.is_json() {
            cx.out.note(&render::triggered_sentence(&triggered));
        }
        return watch::wait(cx, client, &triggered.adw_id, given.timeout).await;
    }
    if cx.out.is_json() {
        cx.out.json(&triggered);
    } else {
        render::triggered(&cx.out, &triggered);
        // A script's columns hold no sentence; the reason must not get lost with it.
        if let Some(failure) = triggered.failure.as_ref().filter(|_| !cx.out.is_terminal()) {
            cx.out.note(&format!("adwd: {}: {}", failure.class.as_str(), failure.message));
        }
    }
    let failed = RunStatus::parse(&triggered.status).is_some_and(watch::ended_badly);
    Ok(if failed { exit::FAILED } else { exit::OK })
}

/// `adwd list`.
pub async fn list(cx: &Cx, given: List) -> Result<u8, Fail> {
    if let Some(status) = given.status.as_deref().filter(|word| RunStatus::parse(word).is_none()) {
        let known: Vec<&str> = RunStatus::ALL.iter().map(|s| s.as_str()).collect();
        return Err(Fail::usage(format!("{status:?} is no status; known: {}", known.join(" "))));
    }
    let now = SystemClock.now();
    let since = given.since.as_deref().map(|when| moment("--since", when, now)).transpose()?;
    let client = cx.connect().await?;
    let project = cx.named_project(&client).await?;
    let arguments = arguments(vec![
        ("adw_id_filter", given.id.map(|id| json!(id))),
        ("status_filter", given.status.map(|s| json!(s))),
        ("project", project.map(|p| json!(p))),
        ("issue_number", given.issue.map(|i| json!(i))),
        ("since", since.map(|at| json!(at.rfc3339()))),
        ("limit", Some(json!(given.limit))),
        ("cursor", given.cursor.map(|c| json!(c))),
    ]);
    let page: RunPage = client.call("list_adw_workflows", arguments).await?;
    if cx.out.is_json() {
        cx.out.json(&page);
    } else {
        render::list(&cx.out, &page, now);
    }
    Ok(exit::OK)
}

/// A moment, or how long ago: `90m`, `12h`, `7d`.
pub(super) fn moment(flag: &str, when: &str, now: Millis) -> Result<Millis, Fail> {
    let when = when.trim();
    let units =
        [("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000_i64)];
    for (unit, ms) in units {
        if let Some(number) = when.strip_suffix(unit).and_then(|n| n.parse::<u32>().ok()) {
            return Ok(now.plus_ms(-(i64::from(number).saturating_mul(ms))));
        }
    }
    let midnight = format!("{when}T00:00:00Z");
    Millis::parse_rfc3339(when).or_else(|| Millis::parse_rfc3339(&midnight)).ok_or_else(|| {
        Fail::usage(format!(
            "{flag} {when:?}: expected 90m, 12h, 7d, a day, or a time such as 2026-11-21T09:00:00Z"
        ))
    })
}

/// `adwd state`.
pub async fn state(cx: &Cx, given: OneRun) -> Result<u8, Fail> {
    let client = cx.connect().await?;
    let run: RunView = client.call("get_adw_state", about(&given.id)).await?;
    show(cx, &run);
    Ok(exit::OK)
}

/// `adwd cancel`.
pub async fn cancel(cx: &Cx, given: OneRun) -> Result<u8, Fail> {
    let client = cx.connect().await?;
    let run: RunView = client.call("cancel_adw_workflow", about(&given.id)).await?;
    if cx.out.is_json() {
        cx.out.json(&run);
    } else {
        cx.out.line(&match run.status {
            RunStatus::Stopping => {
                format!("{}: stopping; its processes are being ended", run.adw_id)
            }
            status => format!("{}: {status}", run.adw_id),
        });
    }
    Ok(exit::OK)
}

/// `adwd resume`.
pub async fn resume(cx: &Cx, given: Resume) -> Result<u8, Fail> {
    let client = cx.connect_or_start().await?;
    let mut arguments = about(&given.id);
    if let Some(phase) = given.from {
        arguments.insert("from_phase".into(), json!(phase));
    }
    let run: RunView = client.call("resume_adw_workflow", arguments).await?;
    if given.wait {
        return watch::wait(cx, client, &given.id, given.timeout).await;
    }
    if cx.out.is_json() {
        cx.out.json(&run);
    } else {
        let phase = run.current_phase.as_deref().unwrap_or("its first phase");
        cx.out.line(&format!("{}: {}, goes on with {phase}", run.adw_id, run.status));
    }
    Ok(exit::OK)
}

fn show(cx: &Cx, run: &RunView) {
    if cx.out.is_json() {
        cx.out.json(run);
    } else {
        render::run(&cx.out, run, SystemClock.now());
    }
}

/// Arguments that name one run.
#[must_use]
pub fn about(id: &str) -> Map<String, Value> {
    arguments(vec![("adw_id", Some(json!(id)))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_a_day_or_a_moment() {
        let now = Millis(1_795_253_220_000);
        assert_eq!(moment("--since", "90m", now).unwrap(), now.plus_ms(-5_400_000));
        assert_eq!(moment("--since", "7d", now).unwrap(), now.plus_ms(-604_800_000));
        assert_eq!(
            moment("--since", "2026-11-21", now).unwrap().rfc3339(),
            "2026-11-21T00:00:00.000Z"
        );
        assert_eq!(
            moment("--since", "2026-11-21T09:00:00+01:00", now).unwrap().rfc3339(),
            "2026-11-21T08:00:00.000Z"
        );
        assert_eq!(moment("--since", "soon", now).unwrap_err().exit, exit::USAGE);
    }
}
