//! Statements of the supervisor: who works, and who is next. They read what it decides by and
//! nothing else, because they run for each run that begins or ends.

use super::sql::RunRow;
use super::view::RunStatus;
use crate::args;
use crate::db::{Db, DbError};

crate::row! {
    /// A run that has not ended, as far as the supervisor needs it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ActiveRow {
        /// Its id.
        pub adw_id: String,
        /// Its project.
        pub project: String,
        /// Its status.
        pub status: String,
        /// Higher leaves the queue first.
        pub priority: i64,
        /// When it was queued; the earlier leaves first.
        pub queued_at: i64,
        /// Its number; the lower leaves first.
        pub seq: i64,
    }
}

impl ActiveRow {
    /// The status; a word that this program does not know reads as lost.
    #[must_use]
    pub fn status(&self) -> RunStatus {
        RunStatus::parse(&self.status).unwrap_or(RunStatus::Lost)
    }

    /// What the queue needs to know of a run.
    #[must_use]
    pub fn of(run: &RunRow) -> ActiveRow {
        ActiveRow {
            adw_id: run.adw_id.clone(),
            project: run.project.clone(),
            status: run.status.clone(),
            priority: run.priority,
            queued_at: run.queued_at,
            seq: run.seq,
        }
    }
}

/// Runs of this host that have left the queue and have not ended, in the order of the queue.
///
/// # Errors
/// [`DbError`].
pub async fn working(db: &Db, host: &str) -> Result<Vec<ActiveRow>, DbError> {
    db.all(
        "SELECT adw_id, project, status, priority, queued_at, seq FROM runs \
         WHERE host = $1 AND active AND status <> 'queued' ORDER BY priority DESC, queued_at, seq",
        args![host],
    )
    .await
}

/// The first runs of a project in the queue of this host, at most `limit`.
///
/// # Errors
/// [`DbError`].
pub async fn next_of_project(
    db: &Db,
    host: &str,
    project: &str,
    limit: u32,
) -> Result<Vec<ActiveRow>, DbError> {
    db.all(
        "SELECT adw_id, project, status, priority, queued_at, seq FROM runs \
         WHERE host = $1 AND project = $2 AND active AND status = 'queued' \
         ORDER BY priority DESC, queued_at, seq LIMIT $3",
        args![host, project, limit],
    )
    .await
}

/// How many runs of each project are before this one in the queue of its host.
///
/// # Errors
/// [`DbError`].
pub async fn before(db: &Db, host: &str, run: &ActiveRow) -> Result<Vec<(String, i64)>, DbError> {
    db.all(
        "SELECT project, COUNT(*) FROM runs \
         WHERE host = $1 AND active AND status = 'queued' AND (priority > $2 OR (priority = $2 \
         AND (queued_at < $3 OR (queued_at = $3 AND seq < $4)))) GROUP BY project",
        args![host, run.priority, run.queued_at, run.seq],
    )
    .await
}
