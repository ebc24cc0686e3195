//! Statements on gates, scenes and approvals.

use super::phase::GateFacts;
use super::sql::Read;
use super::sql_rows::{ApprovalRow, GateRow};
use crate::args;
use crate::clock::Millis;
use crate::db::{DbError, Tx};

macro_rules! gate_columns {
    () => {
        "id, workflow_id, visit_id, kind, score, passed, violations, book, chapter, scene, \
         executed_at"
    };
}
pub(super) use gate_columns;

/// Stores a gate.
///
/// # Errors
/// [`DbError`].
pub async fn insert_gate(tx: &mut Tx, g: &GateRow) -> Result<(), DbError> {
    let sql = concat!(
        "INSERT INTO writing_gates (",
        gate_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    );
    let args = args![
        g.id,
        g.workflow_id,
        g.visit_id,
        &g.kind,
        g.score,
        g.passed,
        &g.violations,
        g.book,
        g.chapter,
        g.scene,
        g.executed_at,
    ];
    tx.exec(sql, args).await.map(drop)
}

/// Stores what a scene's gate said.
///
/// # Errors
/// [`DbError`].
pub async fn put_scene(tx: &mut Tx, g: &GateRow) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO writing_scenes (workflow_id, book, chapter, scene, first_passed, first_at, \
         latest_passed, gates, gates_passed) VALUES ($1, $2, $3, $4, $5, $6, $5, 1, $7) \
         ON CONFLICT (workflow_id, book, chapter, scene) DO UPDATE SET \
         latest_passed = excluded.latest_passed, gates = writing_scenes.gates + 1, \
         gates_passed = writing_scenes.gates_passed + excluded.gates_passed",
        args![
            g.workflow_id,
            g.book,
            g.chapter,
            g.scene,
            g.passed,
            g.executed_at,
            i64::from(g.passed),
        ],
    )
    .await
    .map(drop)
}

/// Gates of a visit: how many, and of how many subjects the latest one failed.
///
/// # Errors
/// [`DbError`].
pub async fn gate_facts(
    read: &mut impl Read,
    visit: i64,
    kind: &str,
) -> Result<GateFacts, DbError> {
    let (recorded, failing): (i64, i64) = read
        .one(
            "SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN g.passed THEN 0 \
             WHEN EXISTS (SELECT 1 FROM writing_gates l WHERE l.visit_id = g.visit_id \
             AND l.kind = g.kind AND l.book = g.book AND l.chapter = g.chapter \
             AND l.scene = g.scene AND l.id > g.id) THEN 0 ELSE 1 END), 0) AS BIGINT) \
             FROM writing_gates g WHERE g.visit_id = $1 AND g.kind = $2",
            args![visit, kind],
        )
        .await?;
    Ok(GateFacts { recorded, failing })
}

/// The newest gates of a workflow, of one type or of all.
///
/// # Errors
/// [`DbError`].
pub async fn gates(
    read: &mut impl Read,
    workflow: i64,
    kind: Option<&str>,
    limit: i64,
) -> Result<Vec<GateRow>, DbError> {
    match kind {
        Some(kind) => {
            let sql = concat!(
                "SELECT ",
                gate_columns!(),
                " FROM writing_gates WHERE workflow_id = $1 AND kind = $2 \
                 ORDER BY id DESC LIMIT $3"
            );
            read.all(sql, args![workflow, kind, limit]).await
        }
        None => {
            let sql = concat!(
                "SELECT ",
                gate_columns!(),
                " FROM writing_gates WHERE workflow_id = $1 ORDER BY id DESC LIMIT $2"
            );
            read.all(sql, args![workflow, limit]).await
        }
    }
}

/// How many gates a workflow has, of one type or of all.
///
/// # Errors
/// [`DbError`].
pub async fn gate_count(
    read: &mut impl Read,
    workflow: i64,
    kind: Option<&str>,
) -> Result<i64, DbError> {
    let (n,): (i64,) = match kind {
        Some(kind) => {
            let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM writing_gates \
                       WHERE workflow_id = $1 AND kind = $2";
            read.one(sql, args![workflow, kind]).await?
        }
        None => {
            let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM writing_gates WHERE workflow_id = $1";
            read.one(sql, args![workflow]).await?
        }
    };
    Ok(n)
}

/// The newest gate of a visit.
///
/// # Errors
/// [`DbError`].
pub async fn last_gate(
    read: &mut impl Read,
    visit: i64,
    kind: &str,
) -> Result<Option<GateRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        gate_columns!(),
        " FROM writing_gates WHERE visit_id = $1 AND kind = $2 ORDER BY id DESC LIMIT 1"
    );
    read.optional(sql, args![visit, kind]).await
}

/// Scenes of a book that have a gate, and those whose latest one failed. Gates that name no scene
/// of any book are none.
///
/// # Errors
/// [`DbError`].
pub async fn scenes_of_book(
    read: &mut impl Read,
    workflow: i64,
    book: i64,
) -> Result<(i64, i64), DbError> {
    read.one(
        "SELECT CAST(COUNT(*) AS BIGINT), \
         CAST(COALESCE(SUM(CASE WHEN latest_passed THEN 0 ELSE 1 END), 0) AS BIGINT) \
         FROM writing_scenes WHERE workflow_id = $1 AND book = $2",
        args![workflow, book],
    )
    .await
}

/// Scenes whose first gate was recorded since, and those that passed at once; a gate without a
/// scene counts by itself.
///
/// # Errors
/// [`DbError`].
pub async fn first_tries(
    read: &mut impl Read,
    workflow: i64,
    since: Millis,
) -> Result<(i64, i64), DbError> {
    read.one(
        "SELECT CAST(COALESCE(SUM(CASE WHEN scene = 0 AND chapter = 0 AND book = 0 THEN gates \
         ELSE 1 END), 0) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN scene = 0 AND chapter = 0 \
         AND book = 0 THEN gates_passed WHEN first_passed THEN 1 ELSE 0 END), 0) AS BIGINT) \
         FROM writing_scenes WHERE workflow_id = $1 AND first_at >= $2",
        args![workflow, since],
    )
    .await
}

macro_rules! approval_columns {
    () => {
        "id, workflow_id, visit_id, phase, kind, book, chapter, artifacts, status, requested_at, \
         decided_at, decided_by, feedback"
    };
}
pub(super) use approval_columns;

/// Stores an approval that is asked for; false where one of the same is open.
///
/// # Errors
/// [`DbError`].
pub async fn insert_approval(tx: &mut Tx, a: &ApprovalRow) -> Result<bool, DbError> {
    let sql = concat!(
        "INSERT INTO writing_approvals (",
        approval_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING"
    );
    let args = args![
        a.id,
        a.workflow_id,
        a.visit_id,
        a.phase,
        &a.kind,
        a.book,
        a.chapter,
        &a.artifacts,
        &a.status,
        a.requested_at,
        a.decided_at,
        &a.decided_by,
        &a.feedback,
    ];
    Ok(tx.exec(sql, args).await? == 1)
}

/// An approval.
///
/// # Errors
/// [`DbError`].
pub async fn approval(read: &mut impl Read, id: i64) -> Result<Option<ApprovalRow>, DbError> {
    let sql = concat!("SELECT ", approval_columns!(), " FROM writing_approvals WHERE id = $1");
    read.optional(sql, args![id]).await
}

/// The open approval of that kind, book and chapter.
///
/// # Errors
/// [`DbError`].
pub async fn open_approval(
    read: &mut impl Read,
    (workflow, kind): (i64, &str),
    (book, chapter): (i64, i64),
) -> Result<Option<(i64,)>, DbError> {
    read.optional(
        "SELECT id FROM writing_approvals WHERE workflow_id = $1 AND kind = $2 AND book = $3 \
         AND chapter = $4 AND status = 'pending'",
        args![workflow, kind, book, chapter],
    )
    .await
}

/// The newest approval of a kind.
///
/// # Errors
/// [`DbError`].
pub async fn last_approval(
    read: &mut impl Read,
    workflow: i64,
    kind: &str,
) -> Result<Option<ApprovalRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        approval_columns!(),
        " FROM writing_approvals WHERE workflow_id = $1 AND kind = $2 ORDER BY id DESC LIMIT 1"
    );
    read.optional(sql, args![workflow, kind]).await
}

/// Decides an approval that is open; false where it was decided before.
///
/// # Errors
/// [`DbError`].
pub async fn decide(tx: &mut Tx, a: &ApprovalRow) -> Result<bool, DbError> {
    let n = tx
        .exec(
            "UPDATE writing_approvals SET status = $2, decided_at = $3, decided_by = $4, \
             feedback = $5 WHERE id = $1 AND status = 'pending'",
            args![a.id, &a.status, a.decided_at, &a.decided_by, &a.feedback],
        )
        .await?;
    Ok(n == 1)
}

/// How many approvals of a workflow are open.
///
/// # Errors
/// [`DbError`].
pub async fn open_count(read: &mut impl Read, workflow: i64) -> Result<i64, DbError> {
    let (n,): (i64,) = read
        .one(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM writing_approvals \
             WHERE workflow_id = $1 AND status = 'pending'",
            args![workflow],
        )
        .await?;
    Ok(n)
}

/// Open approvals, oldest first.
///
/// # Errors
/// [`DbError`].
pub async fn open_approvals(
    read: &mut impl Read,
    workflow: i64,
    limit: i64,
) -> Result<Vec<ApprovalRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        approval_columns!(),
        " FROM writing_approvals WHERE workflow_id = $1 AND status = 'pending' \
         ORDER BY id LIMIT $2"
    );
    read.all(sql, args![workflow, limit]).await
}

/// All approvals, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn approvals(
    read: &mut impl Read,
    workflow: i64,
    limit: i64,
) -> Result<Vec<ApprovalRow>, DbError> {
    let sql = concat!(
        "SELECT ",
        approval_columns!(),
        " FROM writing_approvals WHERE workflow_id = $1 ORDER BY id DESC LIMIT $2"
    );
    read.all(sql, args![workflow, limit]).await
}
