//! Statements on figures: metrics, their running sums, gauges, days, phases over all workflows.

use super::sql::Read;
use super::sql_rows::{DailyRow, GaugeRow, MetricRow, PhaseRow, SumRow};
use crate::args;
use crate::clock::Millis;
use crate::db::{DbError, Tx};

macro_rules! metric_columns {
    () => {
        "id, workflow_id, metric_type, value, phase, book, chapter, recorded_at, idempotency_key, \
         digest, metadata"
    };
}
pub(super) use metric_columns;

/// Stores a metric.
///
/// # Errors
/// [`DbError`].
pub async fn insert_metric(tx: &mut Tx, m: &MetricRow) -> Result<(), DbError> {
    let sql = concat!(
        "INSERT INTO writing_metrics (",
        metric_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    );
    let args = args![
        m.id,
        m.workflow_id,
        &m.metric_type,
        m.value,
        m.phase,
        m.book,
        m.chapter,
        m.recorded_at,
        &m.idempotency_key,
        &m.digest,
        &m.metadata,
    ];
    tx.exec(sql, args).await.map(drop)
}

/// The metric that was recorded under a key.
///
/// # Errors
/// [`DbError`].
pub async fn metric_of_key(
    read: &mut impl Read,
    workflow: i64,
    key: &str,
) -> Result<Option<MetricRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        metric_columns!(),
        " FROM writing_metrics WHERE workflow_id = $1 AND idempotency_key = $2"
    );
    read.optional(sql, args![workflow, key]).await
}

/// Where an amount is added: the subject, and the beginnings of the four slices of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SumKey {
    /// The type.
    pub metric_type: String,
    /// The book; 0 for none.
    pub book: i64,
    /// The phase; −2 where sums are not by phase.
    pub phase: i64,
    /// Beginnings of the slices of level 1 to 4, epoch ms.
    pub starts: [i64; 4],
}

/// Adds to the running sums of all five levels.
///
/// # Errors
/// [`DbError`].
pub async fn add_sums(
    tx: &mut Tx,
    workflow: i64,
    key: &SumKey,
    (total, n): (i64, i64),
) -> Result<(), DbError> {
    let [month, day, hours, quarter] = key.starts;
    tx.exec(
        "INSERT INTO writing_sums (workflow_id, level, start, metric_type, book, phase, total, n) \
         VALUES ($1, 0, 0, $2, $3, $4, $5, $6), ($1, 1, $7, $2, $3, $4, $5, $6), \
         ($1, 2, $8, $2, $3, $4, $5, $6), ($1, 3, $9, $2, $3, $4, $5, $6), \
         ($1, 4, $10, $2, $3, $4, $5, $6) \
         ON CONFLICT (workflow_id, level, start, metric_type, book, phase) DO UPDATE SET \
         total = writing_sums.total + excluded.total, n = writing_sums.n + excluded.n",
        args![
            workflow,
            &key.metric_type,
            key.book,
            key.phase,
            total,
            n,
            month,
            day,
            hours,
            quarter
        ],
    )
    .await
    .map(drop)
}

/// The running total of a type and book since ever.
///
/// # Errors
/// [`DbError`].
pub async fn total(
    read: &mut impl Read,
    workflow: i64,
    metric_type: &str,
    book: i64,
) -> Result<i64, DbError> {
    let (total,): (i64,) = read
        .one(
            "SELECT CAST(COALESCE(SUM(total), 0) AS BIGINT) FROM writing_sums \
             WHERE workflow_id = $1 AND level = 0 AND start = 0 AND metric_type = $2 AND book = $3",
            args![workflow, metric_type, book],
        )
        .await?;
    Ok(total)
}

/// How many types a workflow has, and whether one of them is this.
///
/// # Errors
/// [`DbError`].
pub async fn types(
    read: &mut impl Read,
    workflow: i64,
    metric_type: &str,
) -> Result<(i64, bool), DbError> {
    let (count, found): (i64, i64) = read
        .one(
            "SELECT CAST(COUNT(DISTINCT metric_type) AS BIGINT), \
             CAST(COALESCE(SUM(CASE WHEN metric_type = $2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
             FROM writing_sums WHERE workflow_id = $1 AND level = 0 AND start = 0",
            args![workflow, metric_type],
        )
        .await?;
    Ok((count, found > 0))
}

/// Sums of the slices of a level that begin in `[from, to)`; level 0 has the one that begins at 0.
///
/// # Errors
/// [`DbError`].
pub async fn sums(
    read: &mut impl Read,
    workflow: i64,
    level: i64,
    (from, to): (i64, i64),
) -> Result<Vec<SumRow>, DbError> {
    read.all(
        "SELECT metric_type, book, phase, CAST(SUM(total) AS BIGINT) AS total, \
         CAST(SUM(n) AS BIGINT) AS n FROM writing_sums WHERE workflow_id = $1 AND level = $2 \
         AND start >= $3 AND start < $4 GROUP BY metric_type, book, phase",
        args![workflow, level, from, to],
    )
    .await
}

/// Sums of the metrics themselves of `[from, to)`: for the ragged ends of a range only, which are
/// shorter than a quarter of an hour. The phase is told for every type.
///
/// # Errors
/// [`DbError`].
pub async fn raw_sums(
    read: &mut impl Read,
    workflow: i64,
    (from, to): (i64, i64),
) -> Result<Vec<SumRow>, DbError> {
    read.all(
        "SELECT metric_type, COALESCE(book, 0) AS book, COALESCE(phase, -2) AS phase, \
         CAST(SUM(value) AS BIGINT) AS total, CAST(COUNT(*) AS BIGINT) AS n \
         FROM writing_metrics WHERE workflow_id = $1 AND recorded_at >= $2 AND recorded_at < $3 \
         GROUP BY metric_type, COALESCE(book, 0), COALESCE(phase, -2)",
        args![workflow, from, to],
    )
    .await
}

/// Stores the latest value of a gauge, unless a later one is stored.
///
/// # Errors
/// [`DbError`].
pub async fn put_gauge(
    tx: &mut Tx,
    workflow: i64,
    g: &GaugeRow,
    recorded_at: i64,
) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO writing_gauges (workflow_id, book, metric_type, chapter, value, recorded_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (workflow_id, book, metric_type, chapter) \
         DO UPDATE SET value = excluded.value, recorded_at = excluded.recorded_at \
         WHERE excluded.recorded_at >= writing_gauges.recorded_at",
        args![workflow, g.book, &g.metric_type, g.chapter, g.value, recorded_at],
    )
    .await
    .map(drop)
}

/// Gauges of a book and of the series (book 0).
///
/// # Errors
/// [`DbError`].
pub async fn gauges(
    read: &mut impl Read,
    workflow: i64,
    book: i64,
) -> Result<Vec<GaugeRow>, DbError> {
    read.all(
        "SELECT book, metric_type, chapter, value FROM writing_gauges \
         WHERE workflow_id = $1 AND book IN (0, $2) ORDER BY book, metric_type, chapter",
        args![workflow, book],
    )
    .await
}

/// Adds to a day.
///
/// # Errors
/// [`DbError`].
pub async fn add_day(tx: &mut Tx, author: i64, d: &DailyRow) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO writing_daily (workflow_id, day, author_id, words, chapters, scenes, minutes, \
         phases) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (workflow_id, day) \
         DO UPDATE SET words = writing_daily.words + excluded.words, \
         chapters = writing_daily.chapters + excluded.chapters, \
         scenes = writing_daily.scenes + excluded.scenes, \
         minutes = writing_daily.minutes + excluded.minutes, \
         phases = writing_daily.phases + excluded.phases",
        args![d.workflow_id, &d.day, author, d.words, d.chapters, d.scenes, d.minutes, d.phases],
    )
    .await
    .map(drop)
}

/// Days of a workflow within `[from, to]`, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn days_of_workflow(
    read: &mut impl Read,
    workflow: i64,
    (from, to): (&str, &str),
    limit: i64,
) -> Result<Vec<DailyRow>, DbError> {
    read.all(
        "SELECT workflow_id, day, words, chapters, scenes, minutes, phases FROM writing_daily \
         WHERE workflow_id = $1 AND day >= $2 AND day <= $3 ORDER BY day DESC LIMIT $4",
        args![workflow, from, to, limit],
    )
    .await
}

/// Days of an author within `[from, to]`, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn days_of_author(
    read: &mut impl Read,
    author: i64,
    (from, to): (&str, &str),
    limit: i64,
) -> Result<Vec<DailyRow>, DbError> {
    read.all(
        "SELECT workflow_id, day, words, chapters, scenes, minutes, phases FROM writing_daily \
         WHERE author_id = $1 AND day >= $2 AND day <= $3 \
         ORDER BY day DESC, workflow_id DESC LIMIT $4",
        args![author, from, to, limit],
    )
    .await
}

/// Days of `[from, to]` on which something was written.
///
/// # Errors
/// [`DbError`].
pub async fn active_days(
    read: &mut impl Read,
    workflow: i64,
    (from, to): (&str, &str),
) -> Result<i64, DbError> {
    let (n,): (i64,) = read
        .one(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM writing_daily WHERE workflow_id = $1 \
             AND day >= $2 AND day <= $3 AND (words > 0 OR minutes > 0)",
            args![workflow, from, to],
        )
        .await?;
    Ok(n)
}

/// Adds the end of a visit to its phase over all workflows.
///
/// # Errors
/// [`DbError`].
pub async fn add_visit(
    tx: &mut Tx,
    phase: i64,
    success: bool,
    duration_ms: i64,
    at: Millis,
) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO writing_phases (phase, successful, failed, sum_duration_ms, timed, \
         sum_quality, scored, last_at) VALUES ($1, $2, $3, $4, 1, 0, 0, $5) \
         ON CONFLICT (phase) DO UPDATE SET \
         successful = writing_phases.successful + excluded.successful, \
         failed = writing_phases.failed + excluded.failed, \
         sum_duration_ms = writing_phases.sum_duration_ms + excluded.sum_duration_ms, \
         timed = writing_phases.timed + 1, last_at = excluded.last_at",
        args![phase, i64::from(success), i64::from(!success), duration_ms, at],
    )
    .await
    .map(drop)
}

/// Adds the score of a gate, 0 to 100 in hundredths, to its phase over all workflows.
///
/// # Errors
/// [`DbError`].
pub async fn add_quality(tx: &mut Tx, phase: i64, score: i64) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO writing_phases (phase, successful, failed, sum_duration_ms, timed, \
         sum_quality, scored) VALUES ($1, 0, 0, 0, 0, $2, 1) ON CONFLICT (phase) DO UPDATE SET \
         sum_quality = writing_phases.sum_quality + excluded.sum_quality, \
         scored = writing_phases.scored + 1",
        args![phase, score],
    )
    .await
    .map(drop)
}

/// Phases over all workflows.
///
/// # Errors
/// [`DbError`].
pub async fn phases(read: &mut impl Read) -> Result<Vec<PhaseRow>, DbError> {
    read.all(
        "SELECT phase, successful, failed, sum_duration_ms, timed, sum_quality, scored, last_at \
         FROM writing_phases ORDER BY phase",
        args![],
    )
    .await
}
