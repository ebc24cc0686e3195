//! Statements that answer for a scope: one run, and a page of runs.
//!
//! The scope stands in the statement and not behind it: what is outside is never fetched, so that
//! it costs what an unknown id costs, and pages and totals count what exists for whoever asks.

use super::sql_rows::RunRow;
use super::view::{ListFilter, RunStatus};
use crate::args;
use crate::auth::Scope;
use crate::db::{Db, DbError};

/// The names of a scope as one text, `/api/shop/`: neither engine binds lists in a way that the
/// other knows. No name of a project holds a slash. `None` is every project.
fn names(scope: &Scope) -> Option<String> {
    let names = scope.bound_to()?;
    Some(names.iter().fold("/".to_owned(), |all, name| all + name + "/"))
}

/// The run of that id, where it is in the scope.
///
/// # Errors
/// [`DbError`].
pub async fn run_within(db: &Db, scope: &Scope, adw_id: &str) -> Result<Option<RunRow>, DbError> {
    db.optional(
        "SELECT * FROM runs WHERE adw_id = $1 \
         AND ($2 IS NULL OR REPLACE($2, '/' || project || '/', '') <> $2)",
        args![adw_id, names(scope)],
    )
    .await
}

/// A page of runs, newest first, and how many match in all. `before_seq` is the cursor.
///
/// # Errors
/// [`DbError`].
pub async fn list(
    db: &Db,
    f: &ListFilter,
    before_seq: Option<i64>,
    limit: i64,
) -> Result<(Vec<RunRow>, i64), DbError> {
    let status = f.status.map(RunStatus::as_str);
    let scope = names(&f.scope);
    let rows = db
        .all(
            // Not LIKE: SQLite's takes upper and lower case for the same.
            "SELECT * FROM runs \
             WHERE ($1 IS NULL OR SUBSTR(adw_id, 1, LENGTH($1)) = $1) \
             AND ($2 IS NULL OR status = $2) AND ($3 IS NULL OR project = $3) \
             AND ($4 IS NULL OR issue_number = $4) AND ($5 IS NULL OR created_at >= $5) \
             AND (NOT $6 OR status IN ('queued', 'starting')) \
             AND ($7 IS NULL OR REPLACE($7, '/' || project || '/', '') <> $7) \
             AND ($8 IS NULL OR seq < $8) ORDER BY seq DESC LIMIT $9",
            args![
                &f.adw_id_prefix,
                status,
                &f.project,
                &f.issue_number,
                f.since_ms,
                f.pending,
                &scope,
                before_seq,
                limit
            ],
        )
        .await?;
    let (total,): (i64,) = db
        .one(
            "SELECT COUNT(*) FROM runs \
             WHERE ($1 IS NULL OR SUBSTR(adw_id, 1, LENGTH($1)) = $1) \
             AND ($2 IS NULL OR status = $2) AND ($3 IS NULL OR project = $3) \
             AND ($4 IS NULL OR issue_number = $4) AND ($5 IS NULL OR created_at >= $5) \
             AND (NOT $6 OR status IN ('queued', 'starting')) \
             AND ($7 IS NULL OR REPLACE($7, '/' || project || '/', '') <> $7)",
            args![
                &f.adw_id_prefix,
                status,
                &f.project,
                &f.issue_number,
                f.since_ms,
                f.pending,
                &scope
            ],
        )
        .await?;
    Ok((rows, total))
}
