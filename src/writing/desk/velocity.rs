//! What the velocity figures are computed from, read.

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
const LAST_DAY: &str = "9999-12-31";

/// `get_workflow_velocity`.
pub async fn velocity(desk: &Desk, q: VelocityQuery) -> Answer<WorkflowVelocity> {
    let window = q.time_window.unwrap_or(TimeWindow::All);
    let now = desk.now();
    let db = &mut desk.db();
    let work = load(db, q.workflow_id).await?;
    let all = ledger::all(db, work.row.id).await?;
    let part = part(db, &work, window, now).await?;
    let since = part.as_ref().map_or(Millis(-OPEN), |part| part.since);
    let active_days = match &part {
        Some(part) => part.active_days,
        None => sql_metrics::active_days(db, work.row.id, ("", LAST_DAY)).await?,
    };
    let today = work.zone.day_of(now);
    let window_days = work.row.first_metric_at.map(|first| {
        let calendar = today.since(work.zone.day_of(Millis(first))) + 1;
        velocity::window_days(window, calendar, now.since_ms(Millis(first)))
    });
    let books = books(&work);
    let runs = runs(db, &work).await?;
    let facts = Facts {
        all: &all,
        window: part.as_ref().map_or(&all, |part| &part.sums),
        window_days,
        active_days,
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

/// A window that does not hold everything.
struct Part {
    since: Millis,
    sums: Sums,
    active_days: i64,
}

/// What lies inside the window: the part of its first day that does, and the days after it to the
/// open end, because nothing is recorded in the future and whole slices cost less.
async fn part(
    read: &mut impl Read,
    work: &Work,
    window: TimeWindow,
    now: Millis,
) -> Answer<Option<Part>> {
    let days = match window {
        TimeWindow::Day => 1,
        TimeWindow::Week => 7,
        TimeWindow::All => return Ok(None),
    };
    let since = now.plus_ms(-days * DAY_MS);
    let second = work.zone.day_of(since).plus(1);
    let cut = work.zone.start(second).0;
    let mut sums = ledger::range(read, work.row.id, (since.0, cut)).await?;
    let some = |name| of_type(&sums, name).is_some_and(|(total, _)| total > 0);
    let first = i64::from(some("words_written") || some("writing_time_minutes"));
    let whole = (second.to_string(), LAST_DAY);
    let whole = sql_metrics::active_days(read, work.row.id, (&whole.0, whole.1)).await?;
    ledger::add_sums(&mut sums, ledger::range(read, work.row.id, (cut, OPEN)).await?);
    Ok(Some(Part { since, sums, active_days: first + whole }))
}
