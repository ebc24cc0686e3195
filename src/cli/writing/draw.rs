//! A book series drawn for a terminal: words say everything, colour only repeats it.

use super::picture::{Day, Picture};
use crate::cli::render::{clip, span};
use crate::clock::Millis;
use crate::out::{Out, Tone, cell};
use crate::writing::phase::PHASES;
use crate::writing::{Hundredths, Pass, Visit, VisitStatus};

/// A line in parts, each with its meaning.
pub type Line = Vec<(String, Tone)>;

/// Rows of the plot.
const PLOT_ROWS: usize = 6;
/// Columns left of the plot: a number and the axis.
const AXIS_COLUMNS: usize = 9;
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The colour of a status.
#[must_use]
pub fn tone(status: &str) -> Tone {
    match status {
        "completed" | "complete" | "passed" | "READY_TO_PUBLISH" => Tone::Good,
        "failed" | "NOT_READY" => Tone::Bad,
        "in_progress" | "started" | "waiting_approval" | "waiting_quality_gate" => Tone::Busy,
        "pending" | "skipped" => Tone::Dim,
        _ => Tone::Plain,
    }
}

fn mark(status: &str) -> char {
    match status {
        "completed" | "complete" | "passed" => '✓',
        "failed" => '✗',
        "skipped" => '–',
        "pending" => '·',
        _ => '▶',
    }
}

/// The picture, in lines of at most `width` columns.
#[must_use]
pub fn lines(picture: &Picture, width: usize, now: Millis) -> Vec<Line> {
    let mut lines = head(picture, now);
    lines.push(heading("PHASES"));
    lines.extend(phases(picture));
    lines.push(heading(&format!("REVISION OF BOOK {}", picture.revision.book_number)));
    lines.extend(picture.revision.passes.iter().map(pass));
    lines.push(qa(picture));
    lines.push(heading("GATES"));
    lines.extend(gates(picture));
    if !picture.approvals.approvals.is_empty() {
        lines.push(heading("WAITING FOR A DECISION"));
        lines.extend(picture.approvals.approvals.iter().map(|approval| {
            let text = format!(
                "  {} {}, asked for {}",
                approval.approval_id, approval.approval_type, approval.requested_at
            );
            vec![(text, Tone::Busy)]
        }));
    }
    lines.push(heading(&format!("WORDS BY DAY, {}", picture.state.time_zone)));
    lines.extend(plot(&picture.days, width).into_iter().map(|row| vec![(row, Tone::Plain)]));
    lines.extend(pace(picture));
    lines.into_iter().map(|line| fit(line, width)).collect()
}

fn heading(text: &str) -> Line {
    vec![(text.to_owned(), Tone::Dim)]
}

/// Cuts a line where the terminal ends.
fn fit(line: Line, width: usize) -> Line {
    let mut left = width;
    let mut fitted = Line::new();
    for (text, tone) in line {
        let shown = clip(&text, left);
        left -= shown.chars().count();
        fitted.push((shown, tone));
        if left == 0 {
            break;
        }
    }
    fitted
}

fn head(picture: &Picture, now: Millis) -> Vec<Line> {
    let (state, progress) = (&picture.state, &picture.progress);
    let title = state.series_title.clone().unwrap_or_else(|| format!("series {}", state.series_id));
    let changed = Millis::parse_rfc3339(&state.updated_at)
        .map_or_else(|| state.updated_at.clone(), |at| span(now.since_ms(at).max(0)) + " ago");
    let status = state.phase_status.as_str();
    let mut lines = vec![
        vec![(format!("Book series {}: {title}", state.workflow_id), Tone::Plain)],
        vec![
            (format!("phase {} {}, ", state.current_phase, state.phase_name), Tone::Plain),
            (status.to_owned(), tone(status)),
            (
                format!(
                    "; book {} of {}, {} approved, {} %; changed {changed}",
                    state.current_book,
                    state.total_books,
                    progress.books_completed,
                    progress.percent_complete
                ),
                Tone::Plain,
            ),
        ],
    ];
    lines.extend(state.unmet.iter().map(|what| vec![(format!("  missing: {what}"), Tone::Busy)]));
    lines
}

/// Each phase with its newest visit.
fn phases(picture: &Picture) -> Vec<Line> {
    PHASES
        .iter()
        .map(|phase| {
            let visits: Vec<&Visit> = picture
                .history
                .phases
                .iter()
                .filter(|visit| visit.phase_number == phase.number)
                .collect();
            let status = match visits.last() {
                None => "pending",
                Some(visit) if visit.status == VisitStatus::Started => {
                    picture.state.phase_status.as_str()
                }
                Some(visit) => visit.status.as_str(),
            };
            let took: i64 = visits.iter().filter_map(|v| v.duration_minutes).map(|m| m.0).sum();
            let mut facts = Vec::new();
            if took > 0 {
                facts.push(minutes(Hundredths(took)));
            }
            if visits.len() > 1 {
                facts.push(format!("{} visits", visits.len()));
            }
            if let Some(score) = visits.iter().rev().find_map(|v| v.validation_score) {
                facts.push(format!("score {}", score.text()));
            }
            vec![
                (format!("  {} ", mark(status)), tone(status)),
                (format!("{:>2} {:<24} ", phase.number, phase.name), Tone::Plain),
                (format!("{status:<21}"), tone(status)),
                (facts.join(", "), Tone::Plain),
            ]
        })
        .collect()
}

fn minutes(figure: Hundredths) -> String {
    match figure.0 {
        ..6_000 => format!("{} min", figure.text()),
        _ => span(figure.0.saturating_mul(600)),
    }
}

fn pass(pass: &Pass) -> Line {
    let status = pass.status.as_str();
    let mut facts = Vec::new();
    facts.extend(pass.duration_minutes.map(minutes));
    if pass.run_count > 1 {
        facts.push(format!("run {}", pass.run_count));
    }
    facts.extend(pass.edits_made.filter(|made| *made).map(|_| "edited".to_owned()));
    facts.extend(pass.user_approved.filter(|agreed| *agreed).map(|_| "agreed".to_owned()));
    facts.extend(pass.skip_reason.clone());
    vec![
        (format!("  {} ", mark(status)), tone(status)),
        (format!("{:>2} {:<24} ", pass.pass_number, pass.pass_name), Tone::Plain),
        (format!("{status:<21}"), tone(status)),
        (facts.join(", "), Tone::Plain),
    ]
}

fn qa(picture: &Picture) -> Line {
    let Some(report) = picture.qa.reports.first() else {
        return vec![("  QA: no report yet".to_owned(), Tone::Dim)];
    };
    let status = report.status.as_str();
    let mut text = format!(", {} blocker(s)", report.blocker_count);
    if report.blocker_count > 0 {
        text.push_str(&format!(", {} h to ready", report.estimated_time_to_ready_hours));
    }
    text.push_str(&format!(", of {}", report.date));
    if !picture.qa.current {
        text.push_str(", older than the book's last change");
    }
    if picture.qa.ready_at.is_some() {
        text.push_str("; marked ready");
    }
    vec![("  QA: ".to_owned(), Tone::Plain), (status.to_owned(), tone(status)), (text, Tone::Plain)]
}

fn gates(picture: &Picture) -> Vec<Line> {
    let told = picture.gates.iter().filter_map(|of| {
        let kind = of.gate.gate_type?;
        let status = match (of.gate.recorded, of.gate.passed) {
            (0, _) => "pending",
            (_, Some(true)) => "passed",
            _ => "failed",
        };
        let mut facts = Vec::new();
        facts
            .extend(of.gate.score.map(|score| format!("score {} of {}", score.text(), kind.max())));
        if !of.gate.violations.is_empty() {
            facts.push(format!("{} violation(s)", of.gate.violations.len()));
        }
        Some(vec![
            (format!("  {} ", mark(status)), tone(status)),
            (format!("{:>2} {:<24} ", of.phase_number, kind.as_str()), Tone::Plain),
            (format!("{status:<21}"), tone(status)),
            (facts.join(", "), Tone::Plain),
        ])
    });
    told.collect()
}

/// One column a day, two where there is room; the newest days where there is not enough.
#[must_use]
pub fn plot(days: &[Day], width: usize) -> Vec<String> {
    let room = width.saturating_sub(AXIS_COLUMNS).max(1);
    let days = &days[days.len().saturating_sub(room)..];
    let (Some(first), Some(last)) = (days.first(), days.last()) else { return Vec::new() };
    let most = days.iter().map(|day| day.words).fold(0.0, f64::max);
    if most <= 0.0 {
        return vec![format!("  no words from {} to {}", first.date, last.date)];
    }
    let step = if days.len() * 2 <= room { 2 } else { 1 };
    let heights: Vec<usize> = days.iter().map(|day| height(day.words, most)).collect();
    let mut rows: Vec<String> = (0..PLOT_ROWS)
        .map(|row| {
            let label = if row == 0 { grouped(most) } else { String::new() };
            let floor = (PLOT_ROWS - 1 - row) * 8;
            let bars: String = heights
                .iter()
                .flat_map(|h| {
                    let bar = EIGHTHS[h.saturating_sub(floor).min(8)];
                    std::iter::once(bar).chain(std::iter::repeat_n(' ', step - 1))
                })
                .collect();
            format!("{label:>7} │{bars}").trim_end().to_owned()
        })
        .collect();
    let span = days.len() * step;
    rows.push(format!("{:>7} └{}", 0, "─".repeat(span)));
    let gap = span.saturating_sub(first.date.len() + last.date.len());
    rows.push(if gap == 0 {
        format!("{:AXIS_COLUMNS$}{}", "", last.date)
    } else {
        format!("{:AXIS_COLUMNS$}{}{}{}", "", first.date, " ".repeat(gap), last.date)
    });
    rows
}

/// Eighths of a row; what is there at all is seen.
fn height(words: f64, most: f64) -> usize {
    #[allow(clippy::cast_precision_loss, reason = "a small constant")]
    let full = (PLOT_ROWS * 8) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 48")]
    let height = (words.max(0.0) / most * full).round() as usize;
    if words > 0.0 { height.max(1) } else { 0 }
}

/// A whole number with commas.
fn grouped(figure: f64) -> String {
    let digits = format!("{:.0}", figure.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if figure < 0.0 && digits != "0" { format!("-{text}") } else { text }
}

fn pace(picture: &Picture) -> Vec<Line> {
    let (pace, to) = (&picture.velocity.velocity, &picture.velocity.projections);
    let told = |figure: Option<f64>, what: &str| figure.map(|f| format!("{} {what}", grouped(f)));
    let speed: Vec<String> =
        [told(pace.words_per_hour, "words an hour"), told(pace.words_per_day, "words a day")]
            .into_iter()
            .flatten()
            .collect();
    let speed = if speed.is_empty() { "nothing recorded yet".to_owned() } else { speed.join(", ") };
    let mut ahead = vec![format!("{} book(s) to go", to.books_remaining)];
    ahead.extend(told(to.estimated_total_words, "words in all"));
    ahead.extend(told(to.hours_remaining, "hours left"));
    ahead.extend(to.estimated_completion_date.as_ref().map(|day| format!("done by {day}")));
    vec![
        vec![(format!("  pace: {speed}"), Tone::Plain)],
        vec![(format!("  ahead: {}", ahead.join(", ")), Tone::Plain)],
    ]
}

/// The picture for a program: a word that says what a row is, then columns.
pub fn columns(out: &Out, picture: &Picture) {
    let row = |cells: Vec<String>| out.table(&[], &[cells.into_iter().map(cell).collect()]);
    let state = &picture.state;
    row(vec![
        "series".to_owned(),
        state.workflow_id.to_string(),
        state.phase_status.to_string(),
        state.current_phase.to_string(),
        state.current_book.to_string(),
        state.total_books.to_string(),
        picture.progress.percent_complete.to_string(),
    ]);
    state.unmet.iter().for_each(|what| row(vec!["missing".to_owned(), what.clone()]));
    for visit in &picture.history.phases {
        row(vec![
            "phase".to_owned(),
            visit.phase_number.to_string(),
            visit.status.to_string(),
            visit.duration_minutes.map(Hundredths::text).unwrap_or_default(),
            visit.started_at.clone(),
        ]);
    }
    for pass in &picture.revision.passes {
        let status = pass.status.to_string();
        row(vec!["pass".to_owned(), pass.pass_number.to_string(), pass.pass_name.clone(), status]);
    }
    for of in &picture.gates {
        row(vec![
            "gate".to_owned(),
            of.phase_number.to_string(),
            of.gate.gate_type.map(|kind| kind.to_string()).unwrap_or_default(),
            of.gate.passed.map(|passed| passed.to_string()).unwrap_or_default(),
            of.gate.score.map(Hundredths::text).unwrap_or_default(),
        ]);
    }
    for approval in &picture.approvals.approvals {
        let kind = approval.approval_type.to_string();
        row(vec!["approval".to_owned(), approval.approval_id.to_string(), kind]);
    }
    for day in &picture.days {
        row(vec!["day".to_owned(), day.date.clone(), day.words.to_string()]);
    }
}

#[cfg(test)]
mod tests;
