//! Runs in words and tables.

use super::fail::tone;
use crate::clock::Millis;
use crate::out::{Cell2, Out, Tone, cell, toned};
use crate::runs::{PhaseView, ProjectView, RunPage, RunView, Triggered, Usage};

/// A trigger's answer: for a program id, status, project, issue and worktree in columns.
pub fn triggered(out: &Out, run: &Triggered) {
    if out.is_terminal() {
        out.line(&triggered_sentence(run));
        out.line(&format!("  watch: adwd wait {0}    log: adwd logs -f {0}", run.adw_id));
        return;
    }
    if run.already_running {
        out.note(&triggered_sentence(run));
    }
    let worktree = run.worktree_path.clone().unwrap_or_default();
    let row = [&run.adw_id, &run.status, &run.project, &run.issue_number, &worktree];
    out.table(&[], &[row.map(|text| cell(text.clone())).to_vec()]);
}

/// A trigger's answer in one sentence.
#[must_use]
pub fn triggered_sentence(run: &Triggered) -> String {
    let mut text = if run.already_running {
        format!(
            "run {} of issue {} in {} is active already: {}",
            run.adw_id, run.issue_number, run.project, run.status
        )
    } else {
        format!(
            "run {} accepted: issue {} in {}, phases {}, {}",
            run.adw_id,
            run.issue_number,
            run.project,
            run.phases.join(" → "),
            run.status
        )
    };
    if let Some(position) = run.queue_position {
        text.push_str(&format!(", {} in the queue", ordinal(position)));
    }
    if let Some(failure) = &run.failure {
        text.push_str(&format!("; {}: {}", failure.class.as_str(), failure.message));
    }
    text
}

fn ordinal(n: i64) -> String {
    let ending = match (n % 10, n % 100) {
        (1, t) if t != 11 => "st",
        (2, t) if t != 12 => "nd",
        (3, t) if t != 13 => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

/// A page of runs.
pub fn list(out: &Out, page: &RunPage, now: Millis) {
    let person = out.is_terminal();
    if person && page.workflows.is_empty() {
        out.line("no runs");
        return;
    }
    let rows: Vec<Vec<Cell2>> = page
        .workflows
        .iter()
        .map(|run| {
            let phase = run.current_phase.clone().unwrap_or_default();
            let note =
                run.pr_url.clone().or_else(|| run.failure_message.clone()).unwrap_or_default();
            let when = if person { ago(&run.created_at, now) } else { run.created_at.clone() };
            let title = run.issue_title.clone().unwrap_or_default();
            vec![
                cell(&run.adw_id),
                toned(run.status.as_str(), tone(run.status.as_str())),
                cell(phase),
                cell(&run.project),
                cell(&run.issue_number),
                cell(if person { clip(&title, 40) } else { title }),
                cell(when),
                cell(if person { clip(&note, 60) } else { note }),
            ]
        })
        .collect();
    out.table(&["ID", "STATUS", "PHASE", "PROJECT", "ISSUE", "TITLE", "ACCEPTED", "RESULT"], &rows);
    let shown = page.workflows.len() as i64;
    if let Some(cursor) = page.next_cursor.as_ref().filter(|_| person) {
        out.line(&format!("{shown} of {}; more: --cursor {cursor}", page.total));
    }
}

/// Everything about a run.
pub fn run(out: &Out, run: &RunView, now: Millis) {
    let person = out.is_terminal();
    let mut rows: Vec<(&str, String, Tone)> = vec![
        ("run", run.adw_id.clone(), Tone::Plain),
        ("status", run.status.to_string(), tone(run.status.as_str())),
        ("project", run.project.clone(), Tone::Plain),
        ("issue", issue(run), Tone::Plain),
        ("triggered by", format!("{} ({})", run.triggered_by, run.origin), Tone::Plain),
        ("accepted", when(&run.created_at, now, person), Tone::Plain),
    ];
    let mut add = |name, value: Option<String>, tone| {
        if let Some(value) = value {
            rows.push((name, value, tone));
        }
    };
    add("ended", run.ended_at.as_deref().map(|at| when(at, now, person)), Tone::Plain);
    add("queue position", run.queue_position.map(|n| n.to_string()), Tone::Busy);
    add("next try", run.retry_at.clone(), Tone::Busy);
    add(
        "branch",
        run.branch.as_ref().map(|b| match &run.base_branch {
            Some(base) => format!("{b} (from {base})"),
            None => b.clone(),
        }),
        Tone::Plain,
    );
    add(
        "worktree",
        run.worktree_path.as_ref().map(|path| match run.worktree.as_deref() {
            Some("removed") => format!("{path} (removed)"),
            _ => path.clone(),
        }),
        Tone::Plain,
    );
    add("plan", run.plan_file.clone(), Tone::Plain);
    add("pull request", run.pr_url.clone(), Tone::Good);
    add("usage", run.usage.as_ref().map(usage), Tone::Plain);
    for budget in &run.budgets {
        add("budget", Some(super::usage::left_of(budget)), Tone::Plain);
    }
    if let Some(failure) = &run.failure {
        let phase = failure.phase.as_ref().map(|p| format!(" in {p}")).unwrap_or_default();
        add(
            "failure",
            Some(format!("{}{phase}: {}", failure.class.as_str(), failure.message)),
            Tone::Bad,
        );
        if failure.retryable && run.status.is_terminal() {
            add(
                "",
                Some(format!("trying again can help: adwd resume {}", run.adw_id)),
                Tone::Plain,
            );
        }
    }
    add("skipped", run.skip_reason.clone(), Tone::Plain);
    add("state file", run.state_problem.clone(), Tone::Bad);
    for (name, value, tone) in &rows {
        if person {
            out.painted(&format!("{:<15} {}", name, out.paint(value, *tone)));
        } else if !name.is_empty() {
            out.table(&[], &[vec![cell(*name), cell(value.as_str())]]);
        }
    }
    phases(out, run);
    tail(out, run);
}

fn phases(out: &Out, run: &RunView) {
    let rows: Vec<Vec<Cell2>> = run.phases.iter().map(|phase| phase_row(out, phase)).collect();
    out.table(&["PHASE", "STATUS", "ATTEMPTS", "TOOK", "COST", "LOG"], &rows);
}

fn phase_row(out: &Out, phase: &PhaseView) -> Vec<Cell2> {
    let last = phase.attempts.last();
    let took = last.and_then(|a| span_ms(&a.started_at, a.ended_at.as_deref()?));
    let cost = phase.usage.filter(|u| u.cost_usd > 0.0).map(|u| format!("${:.2}", u.cost_usd));
    let mut row = vec![
        cell(&phase.phase),
        toned(&phase.status, tone(&phase.status)),
        cell(phase.attempts.len().to_string()),
        cell(took.map(span).unwrap_or_default()),
        cell(cost.unwrap_or_default()),
        cell(last.map(|a| a.dir.clone()).unwrap_or_default()),
    ];
    if !out.is_terminal() {
        row.insert(0, cell("phase"));
    }
    row
}

fn tail(out: &Out, run: &RunView) {
    let Some(failure) = run.failure.as_ref().filter(|f| !f.log_tail.is_empty()) else { return };
    if !out.is_terminal() {
        return;
    }
    out.line("last lines of the log:");
    for line in &failure.log_tail {
        out.painted(&format!("  {}", out.paint(line, Tone::Dim)));
    }
}

/// Where a run stands, on one line that changes only when the run does.
#[must_use]
pub fn progress_line(run: &RunView) -> String {
    let phases: Vec<String> = run
        .phases
        .iter()
        .map(|p| match (p.status.as_str(), p.attempts.len()) {
            ("pending", _) => p.phase.clone(),
            (status, n) if n > 1 => format!("{} {status} (attempt {n})", p.phase),
            (status, _) => format!("{} {status}", p.phase),
        })
        .collect();
    let mut line = format!("{} {}", run.adw_id, run.status);
    if let Some(position) = run.queue_position {
        line.push_str(&format!(", {} in the queue", ordinal(position)));
    }
    if !phases.is_empty() {
        line.push_str(&format!(": {}", phases.join(" · ")));
    }
    if let Some(at) = &run.retry_at {
        line.push_str(&format!("; next try at {at}"));
    }
    line
}

/// The served projects.
pub fn projects(out: &Out, projects: &[ProjectView]) {
    if out.is_terminal() && projects.is_empty() {
        out.line("no projects; `adwd project add PATH` serves one");
        return;
    }
    let rows: Vec<Vec<Cell2>> = projects
        .iter()
        .map(|p| {
            let base = p.base_branch.clone().unwrap_or_default();
            vec![
                cell(&p.name),
                cell(&p.path),
                cell(&p.profile),
                cell(format!("{}/{base}", p.remote)),
                cell(&p.agent),
                cell(&p.forge),
                cell(&p.source),
                cell(p.active_runs.to_string()),
                cell(
                    p.problem.as_ref().map(|why| format!("not served: {why}")).unwrap_or_default(),
                ),
            ]
        })
        .collect();
    out.table(
        &["NAME", "PATH", "PROFILE", "BASE", "AGENT", "FORGE", "FROM", "ACTIVE", "PROBLEM"],
        &rows,
    );
}

fn issue(run: &RunView) -> String {
    let title = run.issue_title.as_ref().map(|t| format!(" {t}")).unwrap_or_default();
    let class = run.issue_class.as_ref().map(|c| format!(" ({c})")).unwrap_or_default();
    format!("{}{title}{class}", run.issue_number)
}

fn usage(usage: &Usage) -> String {
    let least = if usage.lower_bound { "at least " } else { "" };
    let priced = if usage.estimated_usd.is_some() { " (in part an estimate)" } else { "" };
    format!(
        "{} agent calls, {} tokens in, {} out, {least}${:.2}{priced}",
        usage.agent_calls, usage.input_tokens, usage.output_tokens, usage.cost_usd
    )
}

/// A moment: for a person also how long ago.
#[must_use]
pub fn when(at: &str, now: Millis, person: bool) -> String {
    if person { format!("{at} ({})", ago(at, now)) } else { at.to_owned() }
}

/// How long ago it was.
#[must_use]
pub fn ago(at: &str, now: Millis) -> String {
    match Millis::parse_rfc3339(at) {
        Some(then) => format!("{} ago", span(now.since_ms(then).max(0))),
        None => at.to_owned(),
    }
}

fn span_ms(from: &str, to: &str) -> Option<i64> {
    Some(Millis::parse_rfc3339(to)?.since_ms(Millis::parse_rfc3339(from)?))
}

/// A span in its two greatest units.
#[must_use]
pub fn span(ms: i64) -> String {
    let s = ms / 1_000;
    match s {
        ..=9 => format!("{s}.{}s", (ms % 1_000) / 100),
        10..=59 => format!("{s}s"),
        60..=3_599 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..=86_399 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// The text in at most `max` characters.
#[must_use]
pub fn clip(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_two_greatest_units() {
        let shown: Vec<String> = [400, 12_000, 65_000, 3_700_000, 90_000_000].map(span).to_vec();
        assert_eq!(shown, ["0.4s", "12s", "1m05s", "1h01m", "1d01h"]);
        assert_eq!(clip("überlang", 4), "übe…");
        assert_eq!([1, 2, 3, 4, 11, 22].map(ordinal).join(" "), "1st 2nd 3rd 4th 11th 22nd");
    }
}
