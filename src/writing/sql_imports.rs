//! Statements on what was imported from where.

use super::sql::Read;
use crate::args;
use crate::db::{DbError, Tx};

/// Everything of a table: source id and our id.
///
/// # Errors
/// [`DbError`].
pub async fn all(
    read: &mut impl Read,
    source: &str,
    table: &str,
) -> Result<Vec<(i64, i64)>, DbError> {
    let sql = "SELECT source_id, our_id FROM writing_imports \
               WHERE source = $1 AND source_table = $2 ORDER BY source_id";
    read.all(sql, args![source, table]).await
}

/// Source ids of `[first, last]` that were imported.
///
/// # Errors
/// [`DbError`].
pub async fn known(
    read: &mut impl Read,
    source: &str,
    table: &str,
    (first, last): (i64, i64),
) -> Result<Vec<(i64,)>, DbError> {
    let sql = "SELECT source_id FROM writing_imports WHERE source = $1 AND source_table = $2 \
               AND source_id >= $3 AND source_id <= $4";
    read.all(sql, args![source, table, first, last]).await
}

/// Remembers a row: its table, its id there and its id here.
///
/// # Errors
/// [`DbError`].
pub async fn insert(
    tx: &mut Tx,
    source: &str,
    (table, source_id, our_id): (&str, i64, i64),
) -> Result<(), DbError> {
    let sql = "INSERT INTO writing_imports (source, source_table, source_id, our_id) \
               VALUES ($1, $2, $3, $4)";
    tx.exec(sql, args![source, table, source_id, our_id]).await.map(drop)
}

/// The newest visit of a workflow that had begun at a moment.
///
/// # Errors
/// [`DbError`].
pub async fn visit_at(
    read: &mut impl Read,
    workflow: i64,
    at: i64,
) -> Result<Option<i64>, DbError> {
    let (id,): (Option<i64>,) = read
        .one(
            "SELECT MAX(id) FROM writing_visits WHERE workflow_id = $1 AND started_at <= $2",
            args![workflow, at],
        )
        .await?;
    Ok(id)
}

/// Workflows of a series that were imported from a source.
///
/// # Errors
/// [`DbError`].
pub async fn workflows_of_series(
    read: &mut impl Read,
    source: &str,
    series: i64,
) -> Result<Vec<(i64, i64)>, DbError> {
    read.all(
        "SELECT w.id, w.total_books FROM writing_imports i JOIN writing_workflows w \
         ON w.id = i.our_id WHERE i.source = $1 AND i.source_table = 'workflow_instances' \
         AND w.series_id = $2 ORDER BY w.id",
        args![source, series],
    )
    .await
}
