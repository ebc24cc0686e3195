//! Statements on books, their passes and their reports.

use super::sql::Read;
use super::sql_rows::{BookRow, PassRow, PassRunRow, ReportRow};
use crate::args;
use crate::clock::Millis;
use crate::db::{DbError, Tx};

macro_rules! book_columns {
    () => {
        "workflow_id, book, title, blurb, keywords, categories, cover, ku, target_words, revision, \
         changed_at, approved_at, ready_at, ready_revision, ready_evidence"
    };
}

/// The books of a workflow of which something is known.
///
/// # Errors
/// [`DbError`].
pub async fn books(read: &mut impl Read, workflow: i64) -> Result<Vec<BookRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        book_columns!(),
        " FROM writing_books WHERE workflow_id = $1 ORDER BY book"
    );
    read.all(sql, args![workflow]).await
}

/// One book.
///
/// # Errors
/// [`DbError`].
pub async fn book(
    read: &mut impl Read,
    workflow: i64,
    book: i64,
) -> Result<Option<BookRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        book_columns!(),
        " FROM writing_books WHERE workflow_id = $1 AND book = $2"
    );
    read.optional(sql, args![workflow, book]).await
}

/// Notes that a book has changed; makes its record where there is none.
///
/// # Errors
/// [`DbError`].
pub async fn touch_book(tx: &mut Tx, workflow: i64, book: i64, now: Millis) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO writing_books (workflow_id, book, keywords, categories, cover, ku, revision, \
         changed_at) VALUES ($1, $2, '[]', '[]', 'MISSING', TRUE, 1, $3) \
         ON CONFLICT (workflow_id, book) DO UPDATE SET revision = writing_books.revision + 1, \
         changed_at = excluded.changed_at",
        args![workflow, book, now],
    )
    .await
    .map(drop)
}

/// Stores what the shop needs to know of a book.
///
/// # Errors
/// [`DbError`].
pub async fn save_book(tx: &mut Tx, b: &BookRow) -> Result<(), DbError> {
    tx.exec(
        "UPDATE writing_books SET title = $3, blurb = $4, keywords = $5, categories = $6, \
         cover = $7, ku = $8, target_words = $9, approved_at = $10, ready_at = $11, \
         ready_revision = $12, ready_evidence = $13 WHERE workflow_id = $1 AND book = $2",
        args![
            b.workflow_id,
            b.book,
            &b.title,
            &b.blurb,
            &b.keywords,
            &b.categories,
            &b.cover,
            b.ku,
            b.target_words,
            b.approved_at,
            b.ready_at,
            b.ready_revision,
            b.ready_evidence,
        ],
    )
    .await
    .map(drop)
}

/// Notes that the completion of a book is approved.
///
/// # Errors
/// [`DbError`].
pub async fn approve_book(
    tx: &mut Tx,
    workflow: i64,
    book: i64,
    at: Millis,
) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO writing_books (workflow_id, book, keywords, categories, cover, ku, revision, \
         approved_at) VALUES ($1, $2, '[]', '[]', 'MISSING', TRUE, 0, $3) \
         ON CONFLICT (workflow_id, book) DO UPDATE SET approved_at = excluded.approved_at",
        args![workflow, book, at],
    )
    .await
    .map(drop)
}

macro_rules! pass_columns {
    () => {
        "workflow_id, book, pass, id, name, status, run_count, runs_completed, started_at, \
         ended_at, duration, findings, edits_made, user_approved, reason, report_id"
    };
}

/// The passes of a workflow, of one book or of all (0).
///
/// # Errors
/// [`DbError`].
pub async fn passes(
    read: &mut impl Read,
    workflow: i64,
    book: i64,
) -> Result<Vec<PassRow>, DbError> {
    let (low, high) = if book == 0 { (0, i64::MAX) } else { (book, book) };
    let sql = concat!(
        "SELECT ",
        pass_columns!(),
        " FROM writing_passes WHERE workflow_id = $1 AND book >= $2 AND book <= $3 \
         ORDER BY book, pass"
    );
    read.all(sql, args![workflow, low, high]).await
}

/// Stores a pass as it stands, new or not.
///
/// # Errors
/// [`DbError`].
pub async fn put_pass(tx: &mut Tx, p: &PassRow) -> Result<(), DbError> {
    let sql = concat!(
        "INSERT INTO writing_passes (",
        pass_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
         ON CONFLICT (workflow_id, book, pass) DO UPDATE SET status = excluded.status, \
         run_count = excluded.run_count, runs_completed = excluded.runs_completed, \
         started_at = excluded.started_at, ended_at = excluded.ended_at, \
         duration = excluded.duration, findings = excluded.findings, \
         edits_made = excluded.edits_made, user_approved = excluded.user_approved, \
         reason = excluded.reason, report_id = excluded.report_id"
    );
    let args = args![
        p.workflow_id,
        p.book,
        p.pass,
        p.id,
        &p.name,
        &p.status,
        p.run_count,
        p.runs_completed,
        p.started_at,
        p.ended_at,
        p.duration,
        &p.findings,
        p.edits_made,
        p.user_approved,
        &p.reason,
        p.report_id,
    ];
    tx.exec(sql, args).await.map(drop)
}

/// Keeps an ended run of a pass that a new one is about to replace.
///
/// # Errors
/// [`DbError`].
pub async fn keep_run(tx: &mut Tx, p: &PassRow) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO writing_pass_runs (workflow_id, book, pass, run, status, started_at, \
         ended_at, duration, findings, edits_made, user_approved) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (workflow_id, book, pass, run) DO NOTHING",
        args![
            p.workflow_id,
            p.book,
            p.pass,
            p.run_count,
            &p.status,
            p.started_at,
            p.ended_at,
            p.duration,
            &p.findings,
            p.edits_made,
            p.user_approved,
        ],
    )
    .await
    .map(drop)
}

/// Earlier runs of the passes of a book.
///
/// # Errors
/// [`DbError`].
pub async fn runs(
    read: &mut impl Read,
    workflow: i64,
    book: i64,
) -> Result<Vec<PassRunRow>, DbError> {
    read.all(
        "SELECT pass, run, status, started_at, ended_at, duration, findings, edits_made, \
         user_approved FROM writing_pass_runs WHERE workflow_id = $1 AND book = $2 \
         ORDER BY pass, run",
        args![workflow, book],
    )
    .await
}

/// Stores a QA report.
///
/// # Errors
/// [`DbError`].
pub async fn insert_report(tx: &mut Tx, r: &ReportRow) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO writing_reports (id, workflow_id, book, ready, revision, evidence, report, \
         created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        args![
            r.id,
            r.workflow_id,
            r.book,
            r.ready,
            r.revision,
            r.evidence,
            &r.report,
            r.created_at,
        ],
    )
    .await
    .map(drop)
}

/// The newest reports of a book.
///
/// # Errors
/// [`DbError`].
pub async fn reports(
    read: &mut impl Read,
    workflow: i64,
    book: i64,
    limit: i64,
) -> Result<Vec<ReportRow>, DbError> {
    read.all(
        "SELECT id, workflow_id, book, ready, revision, evidence, report, created_at \
         FROM writing_reports WHERE workflow_id = $1 AND book = $2 ORDER BY id DESC LIMIT $3",
        args![workflow, book, limit],
    )
    .await
}

/// How many reports a book has.
///
/// # Errors
/// [`DbError`].
pub async fn report_count(read: &mut impl Read, workflow: i64, book: i64) -> Result<i64, DbError> {
    let (n,): (i64,) = read
        .one(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM writing_reports \
             WHERE workflow_id = $1 AND book = $2",
            args![workflow, book],
        )
        .await?;
    Ok(n)
}
