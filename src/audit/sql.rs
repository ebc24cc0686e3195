//! Every statement about the record of calls.

use std::sync::LazyLock;

use super::{Invocation, InvocationFilter, Status};
use crate::args;
use crate::auth::{Principal, Tier};
use crate::clock::Millis;
use crate::db::{Db, DbError, Tx, batches};
use crate::limits::{AUDIT_DELETE_COUNT, AUDIT_ROWS_COUNT};

crate::row! {
    /// A row of the record.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct InvocationRow {
        /// Begins with the moment, see [`id_at`].
        pub id: String,
        /// The run.
        pub adw_id: Option<String>,
        /// The tool.
        pub tool_name: String,
        /// Who.
        pub user_id: String,
        /// With which tier.
        pub tier: String,
        /// JSON.
        pub params: String,
        /// Epoch ms.
        pub created_at: Millis,
        /// Epoch ms.
        pub completed_at: Option<Millis>,
        /// How it stands.
        pub status: Status,
        /// In ms.
        pub duration_ms: Option<i64>,
        /// The word of what went wrong.
        pub error_code: Option<String>,
        /// The road.
        pub transport: String,
        /// The caller's name for the call.
        pub request_id: Option<String>,
        /// The daemon.
        pub host: String,
    }
}

impl InvocationRow {
    pub(super) fn view(self) -> Invocation {
        Invocation {
            params: serde_json::from_str(&self.params).unwrap_or_default(),
            created_at: self.created_at.rfc3339(),
            completed_at: self.completed_at.map(Millis::rfc3339),
            id: self.id,
            adw_id: self.adw_id,
            tool_name: self.tool_name,
            user_id: self.user_id,
            tier: self.tier,
            status: self.status,
            duration_ms: self.duration_ms,
            error_code: self.error_code,
            transport: self.transport,
            request_id: self.request_id,
            host: self.host,
        }
    }
}

/// The beginning of the ids of calls that came at this moment: fixed width, digits and small
/// letters alone, which every collation sorts alike.
pub(super) fn id_at(at: Millis) -> String {
    // A moment before 1970 is a broken clock; twelve digits last until the year 10889.
    format!("{:012x}", at.0.clamp(0, (1 << 48) - 1))
}

static INSERT: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let head = "INSERT INTO mcp_invocations (id, adw_id, tool_name, user_id, tier, params, \
                created_at, completed_at, status, duration_ms, error_code, transport, request_id, \
                host)";
    batches(head, 14, "", AUDIT_ROWS_COUNT)
});

/// Stores rows.
///
/// # Errors
/// [`DbError`].
pub(super) async fn insert(tx: &mut Tx, rows: &[InvocationRow]) -> Result<(), DbError> {
    for chunk in rows.chunks(AUDIT_ROWS_COUNT) {
        let cells = |row: &InvocationRow| {
            args![
                &row.id,
                &row.adw_id,
                &row.tool_name,
                &row.user_id,
                &row.tier,
                &row.params,
                row.created_at,
                row.completed_at,
                row.status.as_str(),
                row.duration_ms,
                &row.error_code,
                &row.transport,
                &row.request_id,
                &row.host
            ]
        };
        tx.exec(INSERT[chunk.len() - 1], chunk.iter().flat_map(cells).collect()).await?;
    }
    Ok(())
}

/// Closes an open row; one that is closed already stays as it is.
///
/// # Errors
/// [`DbError`].
pub(super) async fn close(tx: &mut Tx, close: &super::writer::Close) -> Result<u64, DbError> {
    tx.exec(
        "UPDATE mcp_invocations SET status = $2, completed_at = $3, duration_ms = $4, \
         error_code = $5, adw_id = COALESCE(adw_id, $6) WHERE id = $1 AND status = 'open'",
        args![
            &close.id,
            close.end.status.as_str(),
            close.at,
            close.took_ms,
            &close.end.error_code,
            &close.end.adw_id
        ],
    )
    .await
}

/// Marks what was left open on this host as interrupted; answers how many there were.
///
/// # Errors
/// [`DbError`].
pub(super) async fn interrupt(db: &Db, host: &str) -> Result<u64, DbError> {
    db.exec(
        "UPDATE mcp_invocations SET status = 'interrupted', error_code = 'daemon_ended' \
         WHERE host = $1 AND status = 'open'",
        args![host],
    )
    .await
}

/// A page, newest first. An empty text stands for no filter, because a NULL has no type.
///
/// # Errors
/// [`DbError`].
pub(super) async fn list(
    db: &Db,
    filter: &InvocationFilter,
    limit: u32,
) -> Result<Vec<InvocationRow>, DbError> {
    let text = |given: &Option<String>| given.clone().unwrap_or_default();
    // After every id: letters sort behind digits.
    let before = filter.cursor.clone().unwrap_or_else(|| "z".to_owned());
    let since = filter.since_ms.map_or_else(String::new, |at| id_at(Millis(at)));
    let arguments = args![
        before,
        since,
        text(&filter.tool_name),
        text(&filter.user_id),
        text(&filter.adw_id),
        filter.status.map_or("", Status::as_str),
        limit
    ];
    if filter.adw_id.is_some() {
        // By the run's index: the calls about one run are few.
        return db
            .all(
                "SELECT * FROM mcp_invocations WHERE adw_id = $5 AND id < $1 AND id >= $2 \
                 AND ($3 = '' OR tool_name = $3) AND ($4 = '' OR user_id = $4) \
                 AND ($6 = '' OR status = $6) ORDER BY id DESC LIMIT $7",
                arguments,
            )
            .await;
    }
    db.all(
        "SELECT * FROM mcp_invocations WHERE id < $1 AND id >= $2 \
         AND ($3 = '' OR tool_name = $3) AND ($4 = '' OR user_id = $4) \
         AND ($5 = '' OR adw_id = $5) AND ($6 = '' OR status = $6) ORDER BY id DESC LIMIT $7",
        arguments,
    )
    .await
}

/// The newest id that is one too many where so many are kept.
///
/// # Errors
/// [`DbError`].
pub(super) async fn surplus(db: &Db, keep: i64) -> Result<Option<String>, DbError> {
    let sql = "SELECT id FROM mcp_invocations ORDER BY id DESC LIMIT 1 OFFSET $1";
    Ok(db.optional::<(String,)>(sql, args![keep]).await?.map(|(id,)| id))
}

/// Deletes the oldest rows through this id, [`AUDIT_DELETE_COUNT`] at most; answers how many.
///
/// # Errors
/// [`DbError`].
pub(super) async fn delete(db: &Db, through: &str) -> Result<u64, DbError> {
    let mut tx = db.begin_relaxed().await?;
    let gone = tx
        .exec(
            "DELETE FROM mcp_invocations WHERE id IN (SELECT id FROM mcp_invocations \
             WHERE id <= $1 ORDER BY id LIMIT $2)",
            args![through, AUDIT_DELETE_COUNT],
        )
        .await?;
    tx.commit().await?;
    Ok(gone)
}

/// The newest id of a read without a key that is one too many where so many of those are kept.
///
/// # Errors
/// [`DbError`].
pub(super) async fn anonymous_surplus(db: &Db, keep: i64) -> Result<Option<String>, DbError> {
    let sql = "SELECT id FROM mcp_invocations WHERE user_id = $1 AND tier = $2 \
               ORDER BY id DESC LIMIT 1 OFFSET $3";
    let args = args![Principal::LOOPBACK, Tier::Free.as_str(), keep];
    Ok(db.optional::<(String,)>(sql, args).await?.map(|(id,)| id))
}

/// The last id of the next [`AUDIT_DELETE_COUNT`] of those; none where fewer are left.
///
/// # Errors
/// [`DbError`].
pub(super) async fn anonymous_step(
    db: &Db,
    after: &str,
    through: &str,
) -> Result<Option<String>, DbError> {
    let sql = "SELECT id FROM mcp_invocations WHERE user_id = $1 AND tier = $2 AND id > $3 \
               AND id <= $4 ORDER BY id LIMIT 1 OFFSET $5";
    let args =
        args![Principal::LOOPBACK, Tier::Free.as_str(), after, through, AUDIT_DELETE_COUNT - 1];
    Ok(db.optional::<(String,)>(sql, args).await?.map(|(id,)| id))
}

/// Deletes those between two ids, the latter included; answers how many.
///
/// # Errors
/// [`DbError`].
pub(super) async fn delete_anonymous(db: &Db, after: &str, until: &str) -> Result<u64, DbError> {
    let mut tx = db.begin_relaxed().await?;
    let sql = "DELETE FROM mcp_invocations WHERE user_id = $1 AND tier = $2 AND id > $3 \
               AND id <= $4";
    let gone = tx.exec(sql, args![Principal::LOOPBACK, Tier::Free.as_str(), after, until]).await?;
    tx.commit().await?;
    Ok(gone)
}
