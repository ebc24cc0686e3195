//! Statements on request keys and on the projects that were added by command.

use crate::args;
use crate::clock::Millis;
use crate::db::{Db, DbError, Tx};

/// A stored request key: tool, digest of its arguments, run.
///
/// # Errors
/// [`DbError`].
pub async fn request_key(db: &Db, key: &str) -> Result<Option<(String, String, String)>, DbError> {
    db.optional("SELECT tool, digest, adw_id FROM request_keys WHERE request_key = $1", args![key])
        .await
}

/// Stores a request key together with the run it made.
///
/// # Errors
/// [`DbError`]; a key that is there already is a unique violation.
pub async fn insert_request_key(
    tx: &mut Tx,
    key: &str,
    tool: &str,
    digest: &str,
    adw_id: &str,
    now: Millis,
) -> Result<(), DbError> {
    tx.exec(
        "INSERT INTO request_keys (request_key, tool, digest, adw_id, created_at) \
         VALUES ($1, $2, $3, $4, $5)",
        args![key, tool, digest, adw_id, now],
    )
    .await
    .map(drop)
}

/// Projects added by command on this host: name and path.
///
/// # Errors
/// [`DbError`].
pub async fn projects(db: &Db, host: &str) -> Result<Vec<(String, String)>, DbError> {
    db.all("SELECT name, path FROM projects WHERE host = $1 ORDER BY added_at, name", args![host])
        .await
}

/// A run of this host's daemon that made a branch in a project.
///
/// # Errors
/// [`DbError`].
pub async fn run_of_branch(
    db: &Db,
    host: &str,
    project: &str,
    branch: &str,
) -> Result<Option<String>, DbError> {
    let found: Option<(String,)> = db
        .optional(
            "SELECT adw_id FROM runs WHERE host = $1 AND project = $2 AND branch = $3 \
             AND origin = 'daemon' ORDER BY seq DESC LIMIT 1",
            args![host, project, branch],
        )
        .await?;
    Ok(found.map(|(adw_id,)| adw_id))
}

/// Stores a project.
///
/// # Errors
/// [`DbError`]; a name or path that is there already is a unique violation.
pub async fn insert_project(
    db: &Db,
    name: &str,
    host: &str,
    path: &str,
    now: Millis,
) -> Result<(), DbError> {
    db.exec(
        "INSERT INTO projects (name, host, path, added_at) VALUES ($1, $2, $3, $4)",
        args![name, host, path, now],
    )
    .await
    .map(drop)
}

/// Forgets a project; `false` where there was none.
///
/// # Errors
/// [`DbError`].
pub async fn delete_project(db: &Db, name: &str, host: &str) -> Result<bool, DbError> {
    Ok(db.exec("DELETE FROM projects WHERE name = $1 AND host = $2", args![name, host]).await? == 1)
}
