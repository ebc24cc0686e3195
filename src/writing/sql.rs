//! Statements on workflows and visits of phases; those on books are in [`super::sql_books`], on
//! gates and approvals in [`super::sql_gates`], on figures in [`super::sql_metrics`].
//!
//! Everything takes a [`Read`] where it only reads, so that it can be asked inside a transaction
//! and outside of one.

use std::future::Future;

use super::sql_rows::{VisitRow, WorkflowRow};
use crate::args;
use crate::clock::Millis;
use crate::db::{Arg, Db, DbError, Row, Tx};

/// Something that can be read from: the database, or an open transaction.
pub trait Read: Send {
    /// All rows.
    fn all<R: Row>(
        &mut self,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> impl Future<Output = Result<Vec<R>, DbError>> + Send;
    /// The first row, if there is one.
    fn optional<R: Row>(
        &mut self,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> impl Future<Output = Result<Option<R>, DbError>> + Send;
    /// The first row of a query that always has one.
    fn one<R: Row>(
        &mut self,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> impl Future<Output = Result<R, DbError>> + Send;
}

macro_rules! read {
    ($type:ty, $path:path) => {
        impl Read for $type {
            async fn all<R: Row>(
                &mut self,
                sql: &'static str,
                args: Vec<Arg>,
            ) -> Result<Vec<R>, DbError> {
                use $path as Of;
                Of::all(self, sql, args).await
            }
            async fn optional<R: Row>(
                &mut self,
                sql: &'static str,
                args: Vec<Arg>,
            ) -> Result<Option<R>, DbError> {
                use $path as Of;
                Of::optional(self, sql, args).await
            }
            async fn one<R: Row>(
                &mut self,
                sql: &'static str,
                args: Vec<Arg>,
            ) -> Result<R, DbError> {
                use $path as Of;
                Of::one(self, sql, args).await
            }
        }
    };
}
read!(&Db, crate::db::Db);
read!(Tx, crate::db::Tx);

/// How many ids of each kind a transaction needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kinds are the tables")]
pub struct Take {
    pub workflow: i64,
    pub visit: i64,
    pub approval: i64,
    pub gate: i64,
    pub pass: i64,
    pub metric: i64,
    pub report: i64,
}

crate::row! {
    /// The last id of each kind that was taken.
    #[derive(Clone, Copy, Debug)]
    #[allow(missing_docs, reason = "the kinds are the tables")]
    pub struct Ids {
        pub workflow: i64,
        pub visit: i64,
        pub approval: i64,
        pub gate: i64,
        pub pass: i64,
        pub metric: i64,
        pub report: i64,
    }
}

/// Takes ids, and with them the place at the head of all writers of the slice until the end of the
/// transaction. The first statement of each.
///
/// # Errors
/// [`DbError`].
pub async fn take(tx: &mut Tx, t: Take) -> Result<Ids, DbError> {
    tx.one(
        "UPDATE writing_ids SET workflow = workflow + $1, visit = visit + $2, \
         approval = approval + $3, gate = gate + $4, pass = pass + $5, metric = metric + $6, \
         report = report + $7 WHERE one = 1 \
         RETURNING workflow, visit, approval, gate, pass, metric, report",
        args![t.workflow, t.visit, t.approval, t.gate, t.pass, t.metric, t.report],
    )
    .await
}

macro_rules! workflow_columns {
    () => {
        "id, series_id, series_title, author_id, concept, total_books, time_zone, phase, status, \
         active, book, chapter, visit_id, revision, evidence, first_metric_at, metadata, \
         created_at, updated_at, completed_at"
    };
}

/// A workflow.
///
/// # Errors
/// [`DbError`].
pub async fn workflow(read: &mut impl Read, id: i64) -> Result<Option<WorkflowRow>, DbError> {
    let sql = concat!("SELECT ", workflow_columns!(), " FROM writing_workflows WHERE id = $1");
    read.optional(sql, args![id]).await
}

/// Stores a new workflow.
///
/// # Errors
/// [`DbError`].
pub async fn insert_workflow(tx: &mut Tx, w: &WorkflowRow) -> Result<(), DbError> {
    let sql = concat!(
        "INSERT INTO writing_workflows (",
        workflow_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
         $18, $19, $20)"
    );
    let args = args![
        w.id,
        w.series_id,
        &w.series_title,
        w.author_id,
        &w.concept,
        w.total_books,
        &w.time_zone,
        w.phase,
        &w.status,
        w.active,
        w.book,
        w.chapter,
        w.visit_id,
        w.revision,
        w.evidence,
        w.first_metric_at,
        &w.metadata,
        w.created_at,
        w.updated_at,
        w.completed_at,
    ];
    tx.exec(sql, args).await.map(drop)
}

/// Stores what has become of a workflow, unless somebody else changed it since it was read; its
/// revision grows. False: somebody did.
///
/// # Errors
/// [`DbError`].
pub async fn save_workflow(tx: &mut Tx, w: &WorkflowRow) -> Result<bool, DbError> {
    let n = tx
        .exec(
            "UPDATE writing_workflows SET phase = $3, status = $4, active = $5, book = $6, \
             chapter = $7, visit_id = $8, evidence = $9, first_metric_at = $10, updated_at = $11, \
             completed_at = $12, revision = revision + 1 WHERE id = $1 AND revision = $2",
            args![
                w.id,
                w.revision,
                w.phase,
                &w.status,
                w.active,
                w.book,
                w.chapter,
                w.visit_id,
                w.evidence,
                w.first_metric_at,
                w.updated_at,
                w.completed_at,
            ],
        )
        .await?;
    Ok(n == 1)
}

/// Active workflows with ids below `before`, newest first, and how many there are.
///
/// # Errors
/// [`DbError`].
pub async fn active_workflows(
    read: &mut impl Read,
    author: Option<i64>,
    before: i64,
    limit: i64,
) -> Result<(Vec<WorkflowRow>, i64), DbError> {
    // Two texts, because an index is used only where the author is named outright.
    let Some(author) = author else {
        let sql = concat!(
            "SELECT ",
            workflow_columns!(),
            " FROM writing_workflows WHERE active = TRUE AND id < $1 ORDER BY id DESC LIMIT $2"
        );
        let rows = read.all(sql, args![before, limit]).await?;
        let count = "SELECT CAST(COUNT(*) AS BIGINT) FROM writing_workflows WHERE active = TRUE";
        let (total,): (i64,) = read.one(count, args![]).await?;
        return Ok((rows, total));
    };
    let sql = concat!(
        "SELECT ",
        workflow_columns!(),
        " FROM writing_workflows WHERE author_id = $1 AND active = TRUE AND id < $2 \
         ORDER BY id DESC LIMIT $3"
    );
    let rows = read.all(sql, args![author, before, limit]).await?;
    let count = "SELECT CAST(COUNT(*) AS BIGINT) FROM writing_workflows \
                 WHERE author_id = $1 AND active = TRUE";
    let (total,): (i64,) = read.one(count, args![author]).await?;
    Ok((rows, total))
}

/// Ids of workflows below `before`, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn workflow_ids(
    read: &mut impl Read,
    before: i64,
    limit: i64,
) -> Result<Vec<(i64,)>, DbError> {
    let sql = "SELECT id FROM writing_workflows WHERE id < $1 ORDER BY id DESC LIMIT $2";
    read.all(sql, args![before, limit]).await
}

macro_rules! visit_columns {
    () => {
        "id, workflow_id, phase, book, status, started_at, ended_at, input, summary, artifacts, \
         output, score"
    };
}
pub(super) use visit_columns;

/// Stores a visit of a phase.
///
/// # Errors
/// [`DbError`].
pub async fn insert_visit(tx: &mut Tx, v: &VisitRow) -> Result<(), DbError> {
    let sql = concat!(
        "INSERT INTO writing_visits (",
        visit_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
    );
    let args = args![
        v.id,
        v.workflow_id,
        v.phase,
        v.book,
        &v.status,
        v.started_at,
        v.ended_at,
        &v.input,
        &v.summary,
        &v.artifacts,
        &v.output,
        v.score,
    ];
    tx.exec(sql, args).await.map(drop)
}

/// What is said at the end of a visit.
#[derive(Clone, Debug, Default)]
pub struct VisitEnd {
    /// How it ended.
    pub status: &'static str,
    /// In words.
    pub summary: Option<String>,
    /// What it made, a JSON list.
    pub artifacts: String,
    /// Anything else, a JSON object.
    pub output: Option<String>,
}

/// Ends a visit that is open; answers its phase and when it began.
///
/// # Errors
/// [`DbError`].
pub async fn end_visit(
    tx: &mut Tx,
    id: i64,
    end: &VisitEnd,
    now: Millis,
) -> Result<Option<(i64, i64)>, DbError> {
    tx.optional(
        "UPDATE writing_visits SET status = $2, ended_at = $3, summary = $4, artifacts = $5, \
         output = $6 WHERE id = $1 AND status = 'started' RETURNING phase, started_at",
        args![id, end.status, now, &end.summary, &end.artifacts, &end.output],
    )
    .await
}

/// Stores what a visit was given.
///
/// # Errors
/// [`DbError`].
pub async fn set_visit_input(tx: &mut Tx, id: i64, input: &str) -> Result<(), DbError> {
    let sql = "UPDATE writing_visits SET input = $2 WHERE id = $1";
    tx.exec(sql, args![id, input]).await.map(drop)
}

/// Stores the score of a visit's latest gate.
///
/// # Errors
/// [`DbError`].
pub async fn set_visit_score(tx: &mut Tx, id: i64, score: i64) -> Result<(), DbError> {
    let sql = "UPDATE writing_visits SET score = $2 WHERE id = $1";
    tx.exec(sql, args![id, score]).await.map(drop)
}

/// Visits of a workflow (of one phase, where given), newest first.
///
/// # Errors
/// [`DbError`].
pub async fn visits(
    read: &mut impl Read,
    workflow: i64,
    phase: Option<i64>,
    limit: i64,
) -> Result<Vec<VisitRow>, DbError> {
    match phase {
        Some(phase) => {
            let sql = concat!(
                "SELECT ",
                visit_columns!(),
                " FROM writing_visits WHERE workflow_id = $1 AND phase = $2 \
                 ORDER BY id DESC LIMIT $3"
            );
            read.all(sql, args![workflow, phase, limit]).await
        }
        None => {
            let sql = concat!(
                "SELECT ",
                visit_columns!(),
                " FROM writing_visits WHERE workflow_id = $1 ORDER BY id DESC LIMIT $2"
            );
            read.all(sql, args![workflow, limit]).await
        }
    }
}

/// Visits in all, and the milliseconds of those that ended.
///
/// # Errors
/// [`DbError`].
pub async fn visit_sums(
    read: &mut impl Read,
    workflow: i64,
    phase: Option<i64>,
) -> Result<(i64, i64), DbError> {
    let (low, high) = phase.map_or((i64::MIN, i64::MAX), |phase| (phase, phase));
    read.one(
        "SELECT CAST(COUNT(*) AS BIGINT), \
         CAST(COALESCE(SUM(COALESCE(ended_at, started_at) - started_at), 0) AS BIGINT) \
         FROM writing_visits WHERE workflow_id = $1 AND phase >= $2 AND phase <= $3",
        args![workflow, low, high],
    )
    .await
}

/// The newest visit of a phase up to `phase`.
///
/// # Errors
/// [`DbError`].
pub async fn last_visit_up_to(
    read: &mut impl Read,
    workflow: i64,
    phase: i64,
) -> Result<Option<i64>, DbError> {
    let (id,): (Option<i64>,) = read
        .one(
            "SELECT MAX(id) FROM writing_visits WHERE workflow_id = $1 AND phase <= $2 \
             AND phase >= 0",
            args![workflow, phase],
        )
        .await?;
    Ok(id)
}
