//! Statements that read everything of a workflow in steps, oldest first; for exports.

use super::sql::{Read, visit_columns};
use super::sql_gates::{approval_columns, gate_columns};
use super::sql_metrics::metric_columns;
use super::sql_rows::{ApprovalRow, GateRow, MetricRow, ReportRow, VisitRow};
use crate::args;
use crate::db::DbError;

/// Metrics of a workflow in the order of time, after a place in it; for exports.
///
/// # Errors
/// [`DbError`].
pub async fn metrics_after(
    read: &mut impl Read,
    workflow: i64,
    (at, id): (i64, i64),
    limit: i64,
) -> Result<Vec<MetricRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        metric_columns!(),
        " FROM writing_metrics WHERE workflow_id = $1 AND recorded_at >= $2 \
         AND (recorded_at > $2 OR id > $3) ORDER BY recorded_at, id LIMIT $4"
    );
    read.all(sql, args![workflow, at, id, limit]).await
}

/// Visits of phases after an id.
///
/// # Errors
/// [`DbError`].
pub async fn visits_after(
    read: &mut impl Read,
    workflow: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<VisitRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        visit_columns!(),
        " FROM writing_visits WHERE workflow_id = $1 AND id > $2 ORDER BY id LIMIT $3"
    );
    read.all(sql, args![workflow, after, limit]).await
}

/// Approvals after an id.
///
/// # Errors
/// [`DbError`].
pub async fn approvals_after(
    read: &mut impl Read,
    workflow: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<ApprovalRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        approval_columns!(),
        " FROM writing_approvals WHERE workflow_id = $1 AND id > $2 ORDER BY id LIMIT $3"
    );
    read.all(sql, args![workflow, after, limit]).await
}

/// Gates after an id.
///
/// # Errors
/// [`DbError`].
pub async fn gates_after(
    read: &mut impl Read,
    workflow: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<GateRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        gate_columns!(),
        " FROM writing_gates WHERE workflow_id = $1 AND id > $2 ORDER BY id LIMIT $3"
    );
    read.all(sql, args![workflow, after, limit]).await
}

/// QA reports of a book after an id.
///
/// # Errors
/// [`DbError`].
pub async fn reports_after(
    read: &mut impl Read,
    (workflow, book): (i64, i64),
    after: i64,
    limit: i64,
) -> Result<Vec<ReportRow>, DbError> {
    read.all(
        "SELECT id, workflow_id, book, ready, revision, evidence, report, created_at \
         FROM writing_reports WHERE workflow_id = $1 AND book = $2 AND id > $3 \
         ORDER BY id LIMIT $4",
        args![workflow, book, after, limit],
    )
    .await
}
