//! Totals, days and phases: what is read of figures, and days that are changed by hand.

use std::collections::BTreeSet;

use super::super::day::{Day, Zone, moment};
use super::super::ledger;
use super::super::metric::{self, Hundredths, MetricKind};
use super::super::phase;
use super::super::request::{AnalyticsQuery, DailyQuery, DateRange, MetricsQuery, UpdateDaily};
use super::super::sql::Take;
use super::super::sql_metrics;
use super::super::sql_rows::{DailyRow, PhaseRow};
use super::super::sums::{OPEN, Sums, of_book, of_type};
use super::super::velocity::{round, words_per_hour};
use super::super::view::{
    BookMetrics, DailyStat, DailyStats, DailyUpdated, Metrics, PhaseAnalytics, PhaseAnalyticsList,
    PhaseMetrics, TypeMetrics, WorkflowMetrics,
};
use super::{Answer, Desk, load, phase_number, row, time, zone};
use crate::clock::Millis;
use crate::limits::{WRITING_DAYS_MAX_COUNT, WRITING_TYPES_ASKED_COUNT};
use crate::writing::error::WritingError;

/// What was asked for: all types, or some.
struct Asked(Option<Vec<String>>);

impl Asked {
    fn read(types: Option<Vec<String>>) -> Answer<Asked> {
        let Some(types) = types.filter(|types| !types.is_empty()) else { return Ok(Asked(None)) };
        if types.len() > WRITING_TYPES_ASKED_COUNT {
            let expected = format!("at most {WRITING_TYPES_ASKED_COUNT} types");
            return Err(WritingError::invalid("metric_types", types.len(), expected));
        }
        if let Some(bad) = types.iter().find(|name| !metric::is_name(name)) {
            return Err(WritingError::invalid("metric_types", bad, "names of metric types"));
        }
        Ok(Asked(Some(types)))
    }

    fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|types| types.iter().any(|asked| asked == name))
    }
}

/// `get_workflow_metrics`.
pub async fn metrics(desk: &Desk, q: MetricsQuery) -> Answer<WorkflowMetrics> {
    let asked = Asked::read(q.metric_types)?;
    let db = &mut desk.db();
    let work = load(db, q.workflow_id).await?;
    let range = q.date_range.map(|range| moments(&range, &work.zone)).transpose()?;
    let mut sums = match range {
        None => ledger::all(db, work.row.id).await?,
        Some(range) => ledger::range(db, work.row.id, range).await?,
    };
    sums.retain(|(name, ..), _| asked.has(name));
    let (from, to) = range.unwrap_or((-OPEN, OPEN));
    let approved = work
        .books
        .iter()
        .filter(|book| book.approved_at.is_some_and(|at| (from..to).contains(&at)));
    let books: BTreeSet<i64> =
        sums.keys().map(|(_, book, _)| *book).filter(|book| *book != 0).collect();
    let total = |name: &str| {
        asked.has(name).then(|| Hundredths(of_type(&sums, name).map_or(0, |(total, _)| total)))
    };
    let pace = asked.has("words_written") && asked.has("writing_time_minutes");
    let metrics = Metrics {
        total_words_written: total("words_written"),
        total_chapters_completed: total("chapters_completed"),
        total_scenes_written: total("scenes_written"),
        total_scenes_validated: total("scenes_validated"),
        total_writing_time_minutes: total("writing_time_minutes"),
        avg_npe_score: of_type(&sums, "npe_score").and_then(mean),
        avg_commercial_score: of_type(&sums, "commercial_score").and_then(mean),
        books_completed: i64::try_from(approved.count()).unwrap_or(i64::MAX),
        books_with_activity: i64::try_from(books.len()).unwrap_or(i64::MAX),
        current_velocity: words_per_hour(&sums).filter(|_| pace),
    };
    let by_book = books.iter().map(|book| by_book(&asked, &sums, *book)).collect();
    Ok(WorkflowMetrics {
        workflow_id: work.row.id,
        metrics,
        by_book,
        by_phase: by_phase(&sums),
        by_type: by_type(&sums),
    })
}

#[allow(clippy::cast_precision_loss, reason = "hundredths below 2^53")]
fn mean((total, n): (i64, i64)) -> Option<f64> {
    (n > 0).then(|| round(total as f64 / 100.0 / n as f64, 2))
}

fn by_book(asked: &Asked, sums: &Sums, book: i64) -> BookMetrics {
    let figure =
        |name: &str| asked.has(name).then(|| Hundredths(of_book(sums, name, book).unwrap_or(0)));
    BookMetrics {
        book_number: book,
        words_written: figure("words_written"),
        chapters_completed: figure("chapters_completed"),
        writing_time_minutes: figure("writing_time_minutes"),
    }
}

/// Phases of which a duration or a score is known.
fn by_phase(sums: &Sums) -> Vec<PhaseMetrics> {
    let of = |name: &str, number: i64| {
        let mine = sums.iter().filter(|((n, _, p), _)| n == name && *p == number);
        mine.map(|(_, sum)| *sum).reduce(|a, b| (a.0 + b.0, a.1 + b.1))
    };
    let known = |phase: &phase::Phase| {
        let duration = of("phase_duration_minutes", phase.number);
        let score = of("gate_score", phase.number);
        (duration.is_some() || score.is_some()).then(|| PhaseMetrics {
            phase_number: phase.number,
            phase_name: phase.name.to_owned(),
            duration_minutes: duration.map(|(total, _)| Hundredths(total)),
            quality_score: score.and_then(mean),
        })
    };
    phase::PHASES.iter().filter_map(known).collect()
}

fn by_type(sums: &Sums) -> Vec<TypeMetrics> {
    let names: BTreeSet<&str> = sums.keys().map(|(name, ..)| name.as_str()).collect();
    let view = |name: &str| {
        let (total, count) = of_type(sums, name)?;
        let kind = metric::kind(name);
        Some(TypeMetrics {
            metric_type: name.to_owned(),
            kind,
            known: metric::known(name).is_some(),
            count,
            total: (kind == MetricKind::Counter).then_some(Hundredths(total)),
            average: mean((total, count)).filter(|_| kind == MetricKind::Gauge),
        })
    };
    names.into_iter().filter_map(view).collect()
}

/// One end of a range: a day or a moment.
enum End {
    Day(Day),
    At(Millis),
}

fn end(field: &'static str, given: Option<&String>) -> Answer<Option<End>> {
    let Some(given) = given else { return Ok(None) };
    if let Some(day) = Day::parse(given) {
        return Ok(Some(End::Day(day)));
    }
    moment(given).map(|at| Some(End::At(at))).ok_or_else(|| {
        let expected = "a day (2026-01-31) or a moment (2026-01-31T12:00:00Z)";
        WritingError::invalid(field, given, expected)
    })
}

fn ends(range: &DateRange) -> Answer<(Option<End>, Option<End>)> {
    let start = end("date_range.start", range.start.as_ref())?;
    Ok((start, end("date_range.end", range.end.as_ref())?))
}

fn backwards(range: &DateRange) -> WritingError {
    let expected = "a moment that is not before date_range.start";
    WritingError::invalid("date_range.end", range.end.as_deref().unwrap_or_default(), expected)
}

/// A range as moments `[from, to)`; a day at the end counts in full.
fn moments(range: &DateRange, zone: &Zone) -> Answer<(i64, i64)> {
    let (start, end) = ends(range)?;
    let from = match start {
        None => -OPEN,
        Some(End::Day(day)) => zone.start(day).0,
        Some(End::At(at)) => at.0,
    };
    let to = match end {
        None => OPEN,
        Some(End::Day(day)) => zone.start(day.plus(1)).0,
        Some(End::At(at)) => at.plus_ms(1).0,
    };
    if from >= to { Err(backwards(range)) } else { Ok((from, to)) }
}

/// A range as days, both of which count.
fn days(range: &DateRange, zone: &Zone) -> Answer<(String, String)> {
    let (start, end) = ends(range)?;
    let day = |end: End| match end {
        End::Day(day) => day,
        End::At(at) => zone.day_of(at),
    };
    let (from, to) = (start.map(day), end.map(day));
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(backwards(range));
    }
    let text = |day: Option<Day>, open: &str| day.map_or(open.to_owned(), |day| day.to_string());
    Ok((text(from, ""), text(to, "9999-12-31")))
}

/// `get_daily_writing_stats`.
pub async fn daily(desk: &Desk, q: DailyQuery) -> Answer<DailyStats> {
    let db = &mut desk.db();
    let range = q.date_range.unwrap_or_default();
    let limit = WRITING_DAYS_MAX_COUNT + 1;
    let mut rows = match (q.workflow_id, q.author_id) {
        (None, None) => {
            let expected = "a workflow_id, an author_id, or both";
            return Err(WritingError::invalid("workflow_id", (), expected));
        }
        (Some(workflow), author) => {
            let row = row(db, workflow).await?;
            let (from, to) = days(&range, &zone(&row)?)?;
            if author.is_none_or(|author| author == row.author_id) {
                sql_metrics::days_of_workflow(db, workflow, (&from, &to), limit).await?
            } else {
                Vec::new()
            }
        }
        (None, Some(author)) => {
            let default = &desk.deps.config.time_zone;
            let zone = Zone::parse(default).map_err(|problem| WritingError::Stored {
                what: "the setting writing.time_zone",
                problem,
            })?;
            let (from, to) = days(&range, &zone)?;
            sql_metrics::days_of_author(db, author, (&from, &to), limit).await?
        }
    };
    let most = usize::try_from(WRITING_DAYS_MAX_COUNT).unwrap_or(usize::MAX);
    let truncated = rows.len() > most;
    rows.truncate(most);
    Ok(DailyStats { stats: rows.into_iter().map(stat).collect(), truncated })
}

#[allow(clippy::cast_precision_loss, reason = "hundredths below 2^53")]
fn stat(row: DailyRow) -> DailyStat {
    let pace = if row.minutes > 0 { row.words as f64 * 60.0 / row.minutes as f64 } else { 0.0 };
    DailyStat {
        workflow_id: row.workflow_id,
        stat_date: row.day,
        words_written: Hundredths(row.words),
        chapters_completed: Hundredths(row.chapters),
        scenes_written: Hundredths(row.scenes),
        writing_time_minutes: Hundredths(row.minutes),
        phases_completed: Hundredths(row.phases),
        avg_words_per_hour: round(pace, 2),
    }
}

/// `update_daily_stats`.
pub async fn update_daily(desk: &Desk, q: UpdateDaily) -> Answer<DailyUpdated> {
    let expected = "a day that is not in the future, as in 2026-01-31";
    let invalid = || WritingError::invalid("date", &q.date, expected);
    let day = Day::parse(&q.date).ok_or_else(invalid)?;
    let u = &q.updates;
    let fields = [
        ("updates.words_written", u.words_written),
        ("updates.chapters_completed", u.chapters_completed),
        ("updates.scenes_written", u.scenes_written),
        ("updates.writing_time_minutes", u.writing_time_minutes),
        ("updates.phases_completed", u.phases_completed),
    ];
    if fields.iter().all(|(_, value)| value.is_none()) {
        let expected = "at least one of words_written, chapters_completed, scenes_written, \
                        writing_time_minutes, phases_completed";
        return Err(WritingError::invalid("updates", (), expected));
    }
    for (field, value) in fields {
        if let Some(value) = value.filter(|value| value.0 < 0) {
            let expected = "0 or more: it is added; record_production_metric takes corrections";
            return Err(WritingError::invalid(field, format_args!("{}", value.text()), expected));
        }
    }
    let (mut tx, _) = desk.begin(Take::default()).await?;
    let work = load(&mut tx, q.workflow_id).await?;
    if day > work.zone.day_of(desk.now()) {
        return Err(invalid());
    }
    let value = |field: Option<Hundredths>| field.map_or(0, |value| value.0);
    let row = DailyRow {
        workflow_id: work.row.id,
        day: day.to_string(),
        words: value(u.words_written),
        chapters: value(u.chapters_completed),
        scenes: value(u.scenes_written),
        minutes: value(u.writing_time_minutes),
        phases: value(u.phases_completed),
    };
    sql_metrics::add_day(&mut tx, work.row.author_id, &row).await?;
    desk.commit(tx, work.row).await?;
    Ok(DailyUpdated { updated: true, stat_date: row.day })
}

/// `get_phase_analytics`.
pub async fn analytics(desk: &Desk, q: AnalyticsQuery) -> Answer<PhaseAnalyticsList> {
    let only = q
        .phase_number
        .map(|number| phase_number("phase_number", number, phase::NOT_STARTED))
        .transpose()?;
    let rows = sql_metrics::phases(&mut desk.db()).await?;
    let wanted = phase::PHASES.iter().filter(|phase| only.is_none_or(|n| n == phase.number));
    let view =
        |phase: &phase::Phase| analysed(phase, rows.iter().find(|row| row.phase == phase.number));
    Ok(PhaseAnalyticsList { phases: wanted.map(view).collect() })
}

#[allow(clippy::cast_precision_loss, reason = "counts and ms")]
fn analysed(phase: &phase::Phase, row: Option<&PhaseRow>) -> PhaseAnalytics {
    let count = |of: fn(&PhaseRow) -> i64| row.map_or(0, of);
    let (successful, failed) = (count(|row| row.successful), count(|row| row.failed));
    let total = successful + failed;
    let rate = if total > 0 { 100.0 * successful as f64 / total as f64 } else { 0.0 };
    let timed = count(|row| row.timed);
    let duration = count(|row| row.sum_duration_ms) as f64 / 60_000.0;
    PhaseAnalytics {
        phase_number: phase.number,
        phase_name: phase.name.to_owned(),
        total_executions: total,
        successful_executions: successful,
        failed_executions: failed,
        success_rate: round(rate, 2),
        avg_duration_minutes: (timed > 0).then(|| round(duration / timed as f64, 2)),
        avg_quality_score: mean((count(|row| row.sum_quality), count(|row| row.scored))),
        last_execution: row.and_then(|row| row.last_at).map(time),
    }
}
