//! Adding figures: the metric, its running sums, its gauge, its day and its book, in the caller's
//! transaction. Everything that records a figure comes through here, so totals cannot drift.

use std::collections::{BTreeMap, BTreeSet};

use super::day::Zone;
use super::metric::{self, Daily, MetricKind};
use super::sql::Read;
use super::sql_books;
use super::sql_metrics::{self, SumKey};
use super::sql_rows::{DailyRow, GaugeRow, MetricRow, SumRow, WorkflowRow};
use super::sums::{OPEN, RAW, SLICES_MS, Sums, floor, parts, sum_phase};
use crate::clock::Millis;
use crate::db::{DbError, Tx};

/// Figures of one workflow that are about to be stored together.
#[derive(Default)]
pub struct Ledger {
    sums: BTreeMap<SumKey, (i64, i64)>,
    gauges: BTreeMap<(i64, String, i64), (i64, i64)>,
    days: BTreeMap<String, DailyRow>,
    books: BTreeSet<i64>,
    rows: Vec<MetricRow>,
}

impl Ledger {
    /// Adds a metric; `zone` is the workflow's. What concerns the workflow itself is changed in
    /// `work`, which the caller stores.
    pub fn add(&mut self, work: &mut WorkflowRow, zone: &Zone, row: MetricRow) {
        let known = metric::known(&row.metric_type);
        let book = row.book.unwrap_or(0);
        let at = row.recorded_at;
        let key = SumKey {
            metric_type: row.metric_type.clone(),
            book,
            phase: sum_phase(&row.metric_type, row.phase),
            starts: SLICES_MS.map(|length| floor(at, length)),
        };
        let sum = self.sums.entry(key).or_default();
        *sum = (sum.0 + row.value, sum.1 + 1);
        if metric::kind(&row.metric_type) == MetricKind::Gauge {
            let subject = (book, row.metric_type.clone(), row.chapter.unwrap_or(0));
            let latest = self.gauges.entry(subject).or_insert((row.value, at));
            if at >= latest.1 {
                *latest = (row.value, at);
            }
        }
        if let Some(daily) = known.and_then(|known| known.daily) {
            let day = self.day(work.id, zone.day(Millis(at)));
            *match daily {
                Daily::Words => &mut day.words,
                Daily::Chapters => &mut day.chapters,
                Daily::Scenes => &mut day.scenes,
                Daily::Minutes => &mut day.minutes,
            } += row.value;
            work.first_metric_at = Some(work.first_metric_at.map_or(at, |first| first.min(at)));
        }
        if known.is_some_and(|known| known.changes_book) {
            match row.book {
                Some(book) => drop(self.books.insert(book)),
                None => work.evidence += 1,
            }
        }
        if row.book == Some(work.book) && row.chapter.is_some() {
            work.chapter = row.chapter;
        }
        self.rows.push(row);
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.days.is_empty()
    }

    /// Counts a completed phase on a day.
    pub fn phase_completed(&mut self, workflow: i64, day: String) {
        self.day(workflow, day).phases += 100;
    }

    /// Stores everything.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn store(&self, tx: &mut Tx, work: &WorkflowRow, now: Millis) -> Result<(), DbError> {
        for row in &self.rows {
            sql_metrics::insert_metric(tx, row).await?;
        }
        for (key, sum) in &self.sums {
            sql_metrics::add_sums(tx, work.id, key, *sum).await?;
        }
        for ((book, metric_type, chapter), (value, at)) in &self.gauges {
            let gauge = GaugeRow {
                book: *book,
                metric_type: metric_type.clone(),
                chapter: *chapter,
                value: *value,
            };
            sql_metrics::put_gauge(tx, work.id, &gauge, *at).await?;
        }
        for day in self.days.values() {
            sql_metrics::add_day(tx, work.author_id, day).await?;
        }
        for book in &self.books {
            sql_books::touch_book(tx, work.id, *book, now).await?;
        }
        Ok(())
    }

    fn day(&mut self, workflow_id: i64, day: String) -> &mut DailyRow {
        self.days.entry(day.clone()).or_insert(DailyRow {
            workflow_id,
            day,
            words: 0,
            chapters: 0,
            scenes: 0,
            minutes: 0,
            phases: 0,
        })
    }
}

/// Sums of everything that was ever recorded.
///
/// # Errors
/// [`DbError`].
pub async fn all(read: &mut impl Read, workflow: i64) -> Result<Sums, DbError> {
    let mut sums = Sums::new();
    merge(&mut sums, sql_metrics::sums(read, workflow, 0, (0, 1)).await?);
    Ok(sums)
}

/// Sums of what was recorded in `[from, to)`, exact to the millisecond: whole slices from the
/// running sums, and the ends that are shorter than the smallest slice from the metrics.
///
/// # Errors
/// [`DbError`].
pub async fn range(
    read: &mut impl Read,
    workflow: i64,
    (from, to): (i64, i64),
) -> Result<Sums, DbError> {
    let mut sums = Sums::new();
    for (level, (from, to)) in parts(from.max(-OPEN), to.min(OPEN)) {
        let rows = match level {
            RAW => sql_metrics::raw_sums(read, workflow, (from, to)).await?,
            level => sql_metrics::sums(read, workflow, level, (from, to)).await?,
        };
        merge(&mut sums, rows);
    }
    Ok(sums)
}

/// Adds sums to others, of another time.
pub fn add_sums(sums: &mut Sums, more: Sums) {
    for (key, (total, n)) in more {
        let sum = sums.entry(key).or_default();
        *sum = (sum.0 + total, sum.1 + n);
    }
}

fn merge(sums: &mut Sums, rows: Vec<SumRow>) {
    for row in rows {
        let phase = sum_phase(&row.metric_type, Some(row.phase));
        let sum = sums.entry((row.metric_type, row.book, phase)).or_default();
        *sum = (sum.0 + row.total, sum.1 + row.n);
    }
}
