//! What the velocity figures are computed from, read.

use super::super::day::Zone;
use super::super::ledger;
use super::super::pass::FINAL_QA;
use super::super::request::{TimeWindow, VelocityQuery};
use super::super::sql::Read;
use super::super::sql_books;
use super::super::sql_gates;
use super::super::sql_metrics;
use super::super::sums::{OPEN, Sums, of_type};
use super::super::velocity::{self, Book, Facts};
use super::super::view::WorkflowVelocity;
use super::{Answer, Desk, Work, load};
use crate::clock::Millis;

const DAY_MS: i64 = 86_400_000;

/// `get_workflow_velocity`.
pub async fn velocity(desk: &Desk, q: VelocityQuery) -> Answer<WorkflowVelocity> {
    let window = q.time_window.unwrap_or(TimeWindow::All);
    let now = desk.now();
    let db = &mut desk.db();
    let work = load(db, q.workflow_id).await?;
    let since = match window {
        TimeWindow::Day => now.plus_ms(-DAY_MS),
        TimeWindow::Week => now.plus_ms(-7 * DAY_MS),
        TimeWindow::All => Millis(-OPEN),
    };
    let all = ledger::all(db, work.row.id).await?;
    let part = match window {
        TimeWindow::All => None,
        // To the open end: nothing is recorded in the future, and whole slices cost less.
        _ => Some(ledger::range(db, work.row.id, (since.0, OPEN)).await?),
    };
    let window_sums = part.as_ref().unwrap_or(&all);
    let today = work.zone.day_of(now);
    let window_days = work.row.first_metric_at.map(|first| {
        let calendar = today.since(work.zone.day_of(Millis(first))) + 1;
        velocity::window_days(window, calendar, now.since_ms(Millis(first)))
    });
    let books = books(&work);
    let runs = runs(db, &work).await?;
    let facts = Facts {
        all: &all,
        window: window_sums,
        window_days,
        active_days: active_days(db, &work, window, since).await?,
        books: &books,
        runs: &runs,
        tries: sql_gates::first_tries(db, work.row.id, since).await?,
        today,
    };
    Ok(WorkflowVelocity {
        workflow_id: work.row.id,
        time_window: window,
        velocity: velocity::velocity(&facts),
        efficiency: velocity::efficiency(&facts),
        projections: velocity::projections(&facts),
    })
}

fn books(work: &Work) -> Vec<Book> {
    (1..=work.row.total_books)
        .map(|number| {
            let known = work.books.iter().find(|book| book.book == number);
            Book {
                number,
                approved: known.is_some_and(|book| book.approved_at.is_some()),
                target: known.and_then(|book| book.target_words),
            }
        })
        .collect()
}

/// Completed runs of the passes 1 to 5, by book.
async fn runs(read: &mut impl Read, work: &Work) -> Answer<Vec<(i64, i64)>> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for pass in sql_books::passes(read, work.row.id, 0).await? {
        if pass.pass == FINAL_QA {
            continue;
        }
        match runs.last_mut().filter(|(book, _)| *book == pass.book) {
            Some((_, count)) => *count += pass.runs_completed,
            None => runs.push((pass.book, pass.runs_completed)),
        }
    }
    Ok(runs)
}

/// Days of the window on which something was written. Of its first day only what lies inside
/// counts.
async fn active_days(
    read: &mut impl Read,
    work: &Work,
    window: TimeWindow,
    since: Millis,
) -> Answer<i64> {
    let last = "9999-12-31";
    if window == TimeWindow::All {
        return Ok(sql_metrics::active_days(read, work.row.id, ("", last)).await?);
    }
    let zone: &Zone = &work.zone;
    let second = zone.day_of(since).plus(1);
    let whole = sql_metrics::active_days(read, work.row.id, (&second.to_string(), last)).await?;
    let edge = (since.0, zone.start(second).0);
    let sums: Sums = ledger::range(read, work.row.id, edge).await?;
    let some = |name| of_type(&sums, name).is_some_and(|(total, _)| total > 0);
    Ok(whole + i64::from(some("words_written") || some("writing_time_minutes")))
}
