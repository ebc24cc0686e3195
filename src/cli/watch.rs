//! Watching a run until it ends, and following its log. Ctrl-C ends the watching, never the run.

use std::io::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio::time::Instant;

use super::args::{Logs, Wait};
use super::fail::{Fail, exit};
use super::link::{Cx, arguments};
use super::render;
use super::runs::about;
use crate::client::Client;
use crate::clock::{Clock as _, SystemClock};
use crate::out::{Out, harmless};
use crate::runs::{LogPage, RunStatus, RunView};

/// One waiting call; clients of MCP give up at 60 s, and the daemon's bound is 50.
const WAIT_CALL_S: u64 = 45;
/// How often a moving bar reads the run again.
const LOOK_MS: u64 = 500;
/// How often a followed log is asked for more.
const FOLLOW_MS: u64 = 400;
/// Lines of one page of a log.
const PAGE_LINES: u32 = 1_000;
/// A daemon that restarts may be gone for this long while we watch.
const AWAY_LIMIT_MS: u64 = 30_000;

/// Whether a status is an end that is not a good one.
#[must_use]
pub fn ended_badly(status: RunStatus) -> bool {
    status.is_terminal() && !matches!(status, RunStatus::Completed | RunStatus::Skipped)
}

/// `adwd wait`.
pub async fn command(cx: &Cx, given: Wait) -> Result<u8, Fail> {
    let client = cx.connect().await?;
    wait(cx, client, &given.id, given.timeout).await
}

/// Watches `id` until it has ended, `timeout_s` passed, or Ctrl-C; then shows it.
pub async fn wait(cx: &Cx, client: Client, id: &str, timeout_s: Option<u64>) -> Result<u8, Fail> {
    let mut meter = Meter::new(&cx.out);
    let watching = async {
        match timeout_s {
            None => Ok(Some(until_ended(cx, client, id, &mut meter).await?)),
            Some(s) => {
                let limit = Duration::from_secs(s);
                tokio::time::timeout(limit, until_ended(cx, client, id, &mut meter))
                    .await
                    .ok()
                    .transpose()
            }
        }
    };
    let ended: Result<Option<RunView>, Fail> = tokio::select! {
        ended = watching => ended,
        _ = tokio::signal::ctrl_c() => Err(Fail::interrupted(format!(
            "stopped watching; run {id} goes on"
        )).hint(format!("`adwd wait {id}` watches again, `adwd cancel {id}` ends it"))),
    };
    meter.finish();
    let Some(run) = ended? else {
        return Err(Fail::new(
            exit::TIMED_OUT,
            "timed_out",
            format!(
                "run {id} has not ended within {} s; it goes on",
                timeout_s.unwrap_or_default()
            ),
        )
        .hint(format!("`adwd wait {id}` watches again")));
    };
    if cx.out.is_json() {
        cx.out.json(&run);
    } else {
        render::run(&cx.out, &run, SystemClock.now());
    }
    Ok(if ended_badly(run.status) { exit::FAILED } else { exit::OK })
}

/// Returns the run when it has ended. A daemon that restarts meanwhile is waited for.
async fn until_ended(
    cx: &Cx,
    first: Client,
    id: &str,
    meter: &mut Meter<'_>,
) -> Result<RunView, Fail> {
    let mut client = first;
    loop {
        let run: Result<RunView, _> = look(&client, id, meter).await;
        match run {
            Ok(run) if run.status.is_terminal() => return Ok(run),
            Ok(_) => {}
            Err(fail) if fail.code == "connection" || fail.code == "stopping" => {
                meter.away();
                // What is said then is that no daemon runs, not that the run ended badly.
                client = reconnect(cx).await.map_err(|now| {
                    now.hint(format!("start one with `adwd serve`; `adwd wait {id}` watches again"))
                })?;
            }
            Err(fail) => return Err(fail),
        }
    }
}

/// One waiting call, with a look at the run at each sign of progress.
async fn look(client: &Client, id: &str, meter: &mut Meter<'_>) -> Result<RunView, Fail> {
    let get = async || client.call::<RunView>("get_adw_state", about(id)).await.map_err(Fail::from);
    let run = get().await?;
    meter.show(&run);
    if run.status.is_terminal() {
        return Ok(run);
    }
    let asked =
        arguments(vec![("adw_id", Some(json!(id))), ("timeout_s", Some(json!(WAIT_CALL_S)))]);
    let waited = client.call_value("wait_adw_workflow", asked);
    tokio::pin!(waited);
    loop {
        tokio::select! {
            ended = &mut waited => {
                ended?;
                let run = get().await?;
                meter.show(&run);
                return Ok(run);
            }
            () = client.progressed() => meter.show(&get().await?),
            () = tokio::time::sleep(Duration::from_millis(LOOK_MS)), if meter.moves() => meter.tick(),
        }
    }
}

async fn reconnect(cx: &Cx) -> Result<Client, Fail> {
    let until = Instant::now() + Duration::from_millis(AWAY_LIMIT_MS);
    loop {
        match cx.connect().await {
            Err(_) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(LOOK_MS)).await
            }
            other => return other,
        }
    }
}

/// Shows progress on standard error: a bar on a terminal, a line a change elsewhere.
pub struct Meter<'a> {
    out: &'a Out,
    bar: Option<ProgressBar>,
    last: String,
}

impl<'a> Meter<'a> {
    /// A meter that has shown nothing yet.
    #[must_use]
    pub fn new(out: &'a Out) -> Meter<'a> {
        let bar = out.can_animate().then(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            let template = "{spinner} [{bar:18}] {elapsed} {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
            }
            bar
        });
        Meter { out, bar, last: String::new() }
    }

    /// The run as it now is.
    pub fn show(&mut self, run: &RunView) {
        let line = render::progress_line(run);
        if let Some(bar) = &self.bar {
            let ended =
                run.phases.iter().filter(|p| matches!(p.status.as_str(), "completed" | "skipped"));
            bar.set_length(run.phases.len().max(1) as u64);
            bar.set_position(ended.count() as u64);
            bar.set_message(harmless(&line));
            bar.tick();
        } else if line != self.last && !self.out.is_json() {
            self.out.note(&line);
        }
        self.last = line;
    }

    fn moves(&self) -> bool {
        self.bar.is_some()
    }

    fn tick(&self) {
        if let Some(bar) = &self.bar {
            bar.tick();
        }
    }

    fn away(&mut self) {
        let line = "the daemon went away; waiting for it to come back".to_owned();
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None if line != self.last && !self.out.is_json() => self.out.note(&line),
            None => {}
        }
        "the daemon went away; waiting for it to come back".clone_into(&mut self.last);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            let _ = std::io::stderr().flush();
        }
    }
}

/// `adwd logs`.
pub async fn logs(cx: &Cx, given: Logs) -> Result<u8, Fail> {
    let client = cx.connect().await?;
    if !given.follow {
        return one_log(cx, &client, &given).await;
    }
    tokio::select! {
        ended = follow(cx, client, &given) => ended,
        _ = tokio::signal::ctrl_c() => Err(Fail::interrupted(format!("stopped following; run {} goes on", given.id))),
    }
}

/// A page, or with `--all` every page there is now.
async fn one_log(cx: &Cx, client: &Client, given: &Logs) -> Result<u8, Fail> {
    let mut asked = first_page(given);
    let mut whole: Option<LogPage> = None;
    loop {
        let page: LogPage = client.call("get_adw_logs", asked.clone()).await?;
        let more = given.all && page.more && !cx.out.is_gone();
        asked = arguments(vec![
            ("adw_id", Some(json!(given.id))),
            ("phase", given.phase.as_ref().map(|p| json!(p))),
            ("after", Some(json!(page.next))),
            ("limit", Some(json!(PAGE_LINES))),
        ]);
        if !cx.out.is_json() {
            page.lines.iter().for_each(|line| cx.out.line(line));
        } else if let Some(whole) = &mut whole {
            whole.lines.extend(page.lines);
            (whole.next, whole.more, whole.ended) = (page.next, page.more, page.ended);
        } else {
            whole = Some(page);
        }
        if !more {
            break;
        }
    }
    if let Some(whole) = whole {
        cx.out.json(&whole);
    }
    Ok(exit::OK)
}

fn first_page(given: &Logs) -> serde_json::Map<String, serde_json::Value> {
    let limit = if given.all { PAGE_LINES } else { given.lines };
    arguments(vec![
        ("adw_id", Some(json!(given.id))),
        ("phase", given.phase.as_ref().map(|p| json!(p))),
        ("limit", Some(json!(limit))),
        ("tail", (!given.all).then(|| json!(true))),
    ])
}

/// Shows what is added until the attempt has ended and, without `--phase`, the run too. A daemon
/// that restarts meanwhile is waited for.
async fn follow(cx: &Cx, first: Client, given: &Logs) -> Result<u8, Fail> {
    let mut client = first;
    let mut asked = first_page(given);
    // The log that is shown, and whether all of it was.
    let mut shown: Option<(String, i64)> = None;
    loop {
        match follow_on(cx, &client, given, &mut asked, &mut shown).await {
            Ok(None) => {}
            Ok(Some(code)) => return Ok(code),
            Err(fail) if fail.code == "connection" || fail.code == "stopping" => {
                cx.out.note("the daemon went away; waiting for it to come back");
                client = reconnect(cx).await?;
            }
            Err(fail) => return Err(fail),
        }
    }
}

/// One page; the exit code where it was the last one.
async fn follow_on(
    cx: &Cx,
    client: &Client,
    given: &Logs,
    asked: &mut serde_json::Map<String, serde_json::Value>,
    shown: &mut Option<(String, i64)>,
) -> Result<Option<u8>, Fail> {
    let page: LogPage = match client.call("get_adw_logs", asked.clone()).await {
        Ok(page) => page,
        // Before its first phase a run has no log yet.
        Err(error) => {
            let fail = Fail::from(error);
            let run: RunView = client.call("get_adw_state", about(&given.id)).await?;
            if fail.code != "wrong_state" || run.status.is_terminal() {
                return Err(fail);
            }
            tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
            return Ok(None);
        }
    };
    show_page(cx, given, &page, shown);
    if cx.out.is_gone() {
        return Ok(Some(exit::OK));
    }
    // Before anything else is asked: what was shown is not shown again, whatever fails.
    *asked = arguments(vec![
        ("adw_id", Some(json!(given.id))),
        ("phase", given.phase.as_ref().map(|p| json!(p))),
        ("after", Some(json!(page.next))),
        ("limit", Some(json!(PAGE_LINES))),
    ]);
    if !page.more && page.ended {
        let run: RunView = client.call("get_adw_state", about(&given.id)).await?;
        match next_log(&run, &page, given.phase.as_deref()) {
            Next::Nothing => {
                return Ok(Some(if ended_badly(run.status) { exit::FAILED } else { exit::OK }));
            }
            Next::Wait => {}
            Next::Phase(phase) => {
                *asked = arguments(vec![
                    ("adw_id", Some(json!(given.id))),
                    ("phase", Some(json!(phase))),
                    ("limit", Some(json!(PAGE_LINES))),
                ]);
            }
        }
    }
    if !page.more {
        tokio::time::sleep(Duration::from_millis(FOLLOW_MS)).await;
    }
    Ok(None)
}

fn show_page(cx: &Cx, given: &Logs, page: &LogPage, shown: &mut Option<(String, i64)>) {
    let this = (page.phase.clone(), page.attempt);
    let fresh = shown.as_ref() != Some(&this);
    if cx.out.is_json() {
        // A stream has no end to close a document at: one document a page.
        if fresh || !page.lines.is_empty() {
            cx.out.json(page);
        }
    } else {
        if fresh && given.phase.is_none() {
            let again = if page.attempt > 1 {
                format!(", attempt {}", page.attempt)
            } else {
                String::new()
            };
            cx.out.note(&format!("--- {}{again} ---", page.phase));
        }
        page.lines.iter().for_each(|line| cx.out.line(line));
    }
    *shown = Some(this);
}

/// What to show after a log that has ended.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    Wait,
    Phase(String),
}

fn next_log(run: &RunView, page: &LogPage, only: Option<&str>) -> Next {
    let position = run.phases.iter().position(|p| p.phase == page.phase);
    let newer = position.and_then(|at| {
        let same = run.phases[at]
            .attempts
            .last()
            .filter(|a| a.attempt > page.attempt)
            .map(|_| &run.phases[at]);
        let later = run.phases[at + 1..].iter().find(|p| !p.attempts.is_empty() && only.is_none());
        same.or(later)
    });
    match newer {
        Some(phase) => Next::Phase(phase.phase.clone()),
        None if run.status.is_terminal() => Next::Nothing,
        // The phase that was asked for is over, whatever the run does next.
        None if only.is_some() && run.current_phase.as_deref() != only => Next::Nothing,
        None => Next::Wait,
    }
}
