//! `adwd writing import`.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::ours::Ours;
use crate::cli::args::Import;
use crate::cli::fail::{Fail, chain, exit};
use crate::cli::link::Cx;
use crate::db::Db;
use crate::out::{Cell2, Out, Tone, cell, harmless, toned};
use crate::writing::import::{ImportOptions, ImportReport, News, Told};

/// Rows that the JSON document names; beyond them they are only counted.
const TOLD_MAX_COUNT: usize = 100_000;

/// The outcome, as JSON.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Whether it was a rehearsal.
    dry_run: bool,
    /// Rows read, imported, known, rejected, by table.
    #[serde(flatten)]
    report: ImportReport,
    /// Rows that were left out or mended.
    rows: Vec<Told>,
}

/// Does it.
pub async fn command(cx: &Cx, given: Import) -> Result<u8, Fail> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| given.from.starts_with(scheme)) {
        return Err(Fail::usage("--from: expected postgres://USER@HOST/NAME"));
    }
    let ours = if given.dry_run { Ours::rehearsal(cx).await? } else { Ours::claimed(cx).await? };
    let done = import(cx, &ours, &given).await;
    ours.close().await;
    let outcome = done?;
    let rejected = outcome.report.rejected();
    if cx.out.is_json() {
        cx.out.json(&outcome);
    } else {
        show(&cx.out, &outcome);
    }
    Ok(if rejected > 0 { exit::FAILED } else { exit::OK })
}

async fn import(cx: &Cx, ours: &Ours, given: &Import) -> Result<Outcome, Fail> {
    let theirs = Db::open(&given.from).await.map_err(|error| {
        Fail::new(exit::FAILED, "source_database", format!("--from: {}", chain(&error)))
    })?;
    let options =
        ImportOptions { time_zone: given.time_zone.clone(), source: given.source.clone() };
    let bar = bar(&cx.out);
    let mut rows = Vec::new();
    let mut tell = |news: News<'_>| match news {
        News::Page(table) => bar.set_message(format!("{}: {} rows", table.table, table.read)),
        News::Row(told) if !cx.out.is_json() => bar.suspend(|| cx.out.note(&sentence(told))),
        News::Row(told) if rows.len() < TOLD_MAX_COUNT => rows.push(told.clone()),
        News::Row(_) => {}
    };
    let report = ours.writing.import(&theirs, &options, &mut tell).await;
    bar.finish_and_clear();
    theirs.close().await;
    Ok(Outcome { dry_run: given.dry_run, report: report?, rows })
}

/// A row that was not taken as it is, in one line.
fn sentence(told: &Told) -> String {
    let what = if told.rejected { "left out" } else { "mended" };
    harmless(&format!("{} {}: {what}: {}", told.table, told.source_id, told.reason))
}

/// Moves where somebody looks, and is not there where nobody does.
fn bar(out: &Out) -> ProgressBar {
    if !out.can_animate() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

fn show(out: &Out, outcome: &Outcome) {
    let rows: Vec<Vec<Cell2>> = outcome
        .report
        .tables
        .iter()
        .map(|table| {
            let tone = if table.rejected > 0 { Tone::Bad } else { Tone::Plain };
            vec![
                cell(table.table.clone()),
                cell(table.read.to_string()),
                cell(table.imported.to_string()),
                cell(table.known.to_string()),
                toned(table.rejected.to_string(), tone),
            ]
        })
        .collect();
    out.table(&["TABLE", "READ", "IMPORTED", "KNOWN", "LEFT OUT"], &rows);
    if outcome.dry_run {
        out.note("a rehearsal: nothing of ours was changed");
    }
}
