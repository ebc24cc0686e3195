//! A whole run for a newcomer's eyes: a sample repository, an issue, a daemon, a pull request; and
//! the same again with the daemon killed in the middle.
//!
//! Everything lies below one folder and nothing outside it is touched, but uv: where there is none,
//! one is installed for adwd alone, in its state folder, where the real daemon will want it too.
//! The daemon is this program, started as a user's would be; it is talked to over MCP alone.

mod sample;
mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::out::{Out, Tone};
use crate::runs::{RunStatus, RunView};
use crate::{tool, uv};
use stage::Stage;

/// A run of the sample takes seconds; a slow machine may take a while, a hung one not for ever.
const RUN_LIMIT: Duration = Duration::from_secs(180);

/// What to show.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Leave everything in place.
    pub keep: bool,
    /// Show an undisturbed run.
    pub first: bool,
    /// Show a run in which the daemon is killed.
    pub second: bool,
    /// Where; a temporary folder where absent.
    pub dir: Option<PathBuf>,
    /// This program.
    pub exe: PathBuf,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The user's own state folder, for uv.
    pub state_dir: PathBuf,
}

/// How a run of the demo went.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The run.
    pub adw_id: String,
    /// How it ended.
    pub status: RunStatus,
    /// Whether the daemon was killed meanwhile.
    pub killed: bool,
    /// Attempts of each phase; more than one would mean that work was repeated.
    pub attempts: BTreeMap<String, usize>,
    /// The branch.
    pub branch: Option<String>,
    /// The pull request's address.
    pub pr_url: Option<String>,
    /// The pull request's text.
    pub pull_request: String,
    /// The change, as git shows it from the remote repository.
    pub diff: String,
}

/// What the demo showed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where everything lies, or lay.
    pub dir: PathBuf,
    /// Whether it still does.
    pub kept: bool,
    /// The uv in use.
    pub uv: PathBuf,
    /// The runs.
    pub runs: Vec<Shown>,
}

/// Hears of a run each time it is looked at.
type Watcher<'a> = dyn FnMut(&RunView) + 'a;

/// Shows it. Ends every process that it started, whatever happened; an error is how it failed.
pub async fn run(plan: &Plan, out: &Out) -> anyhow::Result<Report> {
    let uv = find_uv(plan, out).await?;
    say(out, "");
    let stage = Stage::set(plan, &uv).await?;
    say(out, &format!("sample repository  {}", stage.repository().display()));
    say(out, &format!("its bare remote    {}", stage.remote().display()));
    let shown = tokio::select! {
        shown = show(plan, out, &stage) => shown,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    let struck = stage.strike().await;
    if shown.is_err() {
        // Whoever looks for the reason needs the logs.
        say(out, &format!("everything was left in {}", stage.root.display()));
    }
    let runs = shown?;
    struck.context("the daemon of the demo did not end")?;
    let report = Report { dir: stage.root.clone(), kept: plan.keep, uv, runs };
    if plan.keep {
        farewell(out, &stage);
    } else {
        std::fs::remove_dir_all(&stage.root)
            .with_context(|| format!("cannot remove {}", stage.root.display()))?;
        say(out, &format!("\nremoved {} (--keep leaves it)", stage.root.display()));
    }
    Ok(report)
}

async fn show(plan: &Plan, out: &Out, stage: &Stage) -> anyhow::Result<Vec<Shown>> {
    let mut runs = Vec::new();
    let mut teller = teller(out);
    let watch: &mut Watcher<'_> = &mut teller;
    if plan.first {
        title(out, "Issue 1 becomes a pull request");
        stage.start().await?;
        say(
            out,
            &format!("daemon             pid {}, MCP on {}", stage.pid(), stage.socket().display()),
        );
        let shown = undisturbed(out, stage, watch).await?;
        conclude(out, &shown);
        runs.push(shown);
    }
    if plan.second {
        title(out, "Issue 2, and the daemon is killed in the middle");
        if !plan.first {
            stage.start().await?;
        }
        let shown = killed(out, stage, watch).await?;
        conclude(out, &shown);
        runs.push(shown);
    }
    Ok(runs)
}

async fn undisturbed(out: &Out, stage: &Stage, watch: &mut Watcher<'_>) -> anyhow::Result<Shown> {
    say(out, "MCP call           trigger_adw_workflow {\"issue_number\": \"1\"}");
    let adw_id = stage.trigger("1").await?;
    let run = within(stage.until_ended(&adw_id, watch)).await?;
    judge(stage, run, false).await
}

async fn killed(out: &Out, stage: &Stage, watch: &mut Watcher<'_>) -> anyhow::Result<Shown> {
    say(out, "MCP call           trigger_adw_workflow {\"issue_number\": \"2\"}");
    let adw_id = stage.trigger("2").await?;
    let building = |run: &RunView| {
        run.phases.iter().any(|p| {
            p.phase == "build" && p.attempts.last().is_some_and(|a| a.status == RunStatus::Running)
        })
    };
    let run = within(stage.until(&adw_id, watch, building)).await?;
    if !building(&run) {
        bail!("run {adw_id} ended ({}) before its build was seen running", run.status);
    }
    let pid = stage.kill()?;
    say(out, &format!("kill -9 {pid:<10} the daemon is gone; the build goes on under its monitor"));
    // The build's test suite takes 4 s: some of it passes without any daemon.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    stage.start().await?;
    say(out, &format!("daemon again       pid {}; it finds the build where it is", stage.pid()));
    let run = within(stage.until_ended(&adw_id, watch)).await?;
    judge(stage, run, true).await
}

/// Tells each change of a run on a line of its own, with the seconds since its first.
fn teller(out: &Out) -> impl FnMut(&RunView) + '_ {
    let mut last = String::new();
    let mut begun: Option<(String, Instant)> = None;
    move |run| {
        if begun.as_ref().is_none_or(|(id, _)| *id != run.adw_id) {
            begun = Some((run.adw_id.clone(), Instant::now()));
        }
        let phases: Vec<String> =
            run.phases.iter().map(|p| format!("{} {}", p.phase, p.status)).collect();
        let line = format!("{} {:<9}  {}", run.adw_id, run.status, phases.join(" · "));
        if line != last {
            let since = begun.as_ref().map_or(0.0, |(_, at)| at.elapsed().as_secs_f64());
            say(out, &format!("{since:6.1} s  {line}"));
            last = line;
        }
    }
}

async fn within<T>(what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let done = tokio::time::timeout(RUN_LIMIT, what).await;
    done.with_context(|| format!("the run did not end within {} s", RUN_LIMIT.as_secs()))?
}

/// Reads what the run left, and insists that it is what was promised.
async fn judge(stage: &Stage, run: RunView, killed: bool) -> anyhow::Result<Shown> {
    let adw_id = &run.adw_id;
    if run.status != RunStatus::Completed {
        let why = run
            .failure
            .as_ref()
            .map(|f| format!(": {} ({})\n{}", f.message, f.class.as_str(), f.log_tail.join("\n")));
        bail!("run {adw_id} ended {}{}", run.status, why.unwrap_or_default());
    }
    let attempts: BTreeMap<String, usize> =
        run.phases.iter().map(|p| (p.phase.clone(), p.attempts.len())).collect();
    if let Some((phase, n)) = attempts.iter().find(|(_, n)| **n != 1) {
        bail!("run {adw_id}: phase {phase} had {n} attempts; one was promised");
    }
    let branch = run.branch.clone().context("the run names no branch")?;
    let url = run.pr_url.clone().context("the run names no pull request")?;
    let file = stage.pull_request_file(&url);
    let pull_request = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    let diff = stage.diff(&branch).await?;
    Ok(Shown {
        adw_id: run.adw_id,
        status: run.status,
        killed,
        attempts,
        branch: Some(branch),
        pr_url: Some(url),
        pull_request,
        diff,
    })
}

fn conclude(out: &Out, shown: &Shown) {
    if out.is_json() {
        return;
    }
    let after =
        if shown.killed { ", though the daemon was killed; no phase ran twice" } else { "" };
    out.painted(&out.paint(&format!("run {} completed{after}", shown.adw_id), Tone::Good));
    say(out, "");
    heading(out, "the pull request");
    shown.pull_request.lines().for_each(|line| say(out, &format!("  {line}")));
    say(out, "");
    heading(
        out,
        &format!(
            "the change, on branch {} of the remote",
            shown.branch.as_deref().unwrap_or_default()
        ),
    );
    for line in shown.diff.lines() {
        let tone = match line.as_bytes().first() {
            Some(b'+') if !line.starts_with("+++") => Tone::Good,
            Some(b'-') if !line.starts_with("---") => Tone::Bad,
            _ => Tone::Plain,
        };
        out.painted(&format!("  {}", out.paint(line, tone)));
    }
}

fn farewell(out: &Out, stage: &Stage) {
    say(out, "");
    heading(out, "where everything lies");
    say(out, &format!("  repository     {}", stage.repository().display()));
    say(
        out,
        &format!(
            "  remote         {}   (git -C there log --all --oneline)",
            stage.remote().display()
        ),
    );
    say(out, &format!("  issues         {}", stage.repository().join("issues").display()));
    say(
        out,
        &format!("  pull requests  {}", stage.repository().join("automation/pulls").display()),
    );
    say(out, &format!("  phase logs     {}", stage.repository().join("logs").display()));
    say(out, &format!("  daemon's log   {}", stage.state_dir().join("logs/adwd.log").display()));
    say(out, "");
    say(
        out,
        &format!(
            "go on there:  cd {} && adwd --config {} trigger 2 --wait",
            stage.repository().display(),
            stage.config_file().display()
        ),
    );
    say(
        out,
        &format!(
            "end of it:    adwd --config {} stop; rm -r {}",
            stage.config_file().display(),
            stage.root.display()
        ),
    );
}

async fn find_uv(plan: &Plan, out: &Out) -> anyhow::Result<PathBuf> {
    let path = plan.env.get("PATH").map(AsRef::as_ref);
    if let Some(uv) = uv::locate(None, path, &plan.state_dir) {
        return Ok(uv);
    }
    say(
        out,
        &format!(
            "no uv on PATH: installing one for adwd alone in {} (pip, some seconds)",
            plan.state_dir.join("uv").display()
        ),
    );
    let install = uv::provision(&plan.state_dir, &plan.env, async |step| {
        say(out, &format!("  {}", step.what));
        tool::run_step(step).await
    });
    Ok(install.await?)
}

fn title(out: &Out, text: &str) {
    say(out, "");
    if !out.is_json() {
        out.painted(&format!("== {} ==", out.paint(text, Tone::Busy)));
    }
}

fn heading(out: &Out, text: &str) {
    if !out.is_json() {
        out.painted(&format!("-- {} --", out.paint(text, Tone::Busy)));
    }
}

/// A line of the story; with `--json` only the report is told.
fn say(out: &Out, text: &str) {
    if !out.is_json() {
        out.line(text);
    }
}

/// Whether a folder may become the stage: absent, or empty.
fn is_free(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
