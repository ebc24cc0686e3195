//! Every statement about content. One text for both engines.

use super::template::{Kind, Problem};
use crate::args;
use crate::clock::Millis;
use crate::db::{Column, ColumnError, Db, DbError, Tx};

crate::row! {
    /// One piece of content as it is stored.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ContentRow {
        /// Agent, rule or workflow.
        pub kind: Kind,
        /// Its name, unique among its kind.
        pub name: String,
        /// The content folder.
        pub folder: String,
        /// The file below it.
        pub path: String,
        /// SHA-256 of the file as it is on disk, hexadecimal.
        pub hash: String,
        /// The last good version without its body; `None` where there never was one.
        pub json: Option<String>,
        /// Its body.
        pub body: Option<String>,
        /// Whether the file as it is on disk is in order.
        pub valid: bool,
        /// What is wrong with it, and remarks.
        pub problems: Problems,
    }
}

/// Problems as one column: a JSON array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Column for Problems {
    type Raw = String;
    fn from_raw(raw: String) -> Result<Problems, ColumnError> {
        Ok(Problems(serde_json::from_str(&raw)?))
    }
}

impl Column for Kind {
    type Raw = String;
    fn from_raw(raw: String) -> Result<Kind, ColumnError> {
        Kind::parse(&raw).ok_or_else(|| format!("{raw:?} is no kind of content").into())
    }
}

/// Everything of a host, in one statement and so of one moment.
///
/// # Errors
/// [`DbError`].
pub async fn all(db: &Db, host: &str) -> Result<Vec<ContentRow>, DbError> {
    db.all("SELECT * FROM content WHERE host = $1", args![host]).await
}

/// Everything of one kind.
///
/// # Errors
/// [`DbError`].
pub async fn of_kind(db: &Db, host: &str, kind: Kind) -> Result<Vec<ContentRow>, DbError> {
    db.all("SELECT * FROM content WHERE host = $1 AND kind = $2", args![host, kind.as_str()]).await
}

/// One piece by its name.
///
/// # Errors
/// [`DbError`].
pub async fn one(
    db: &Db,
    host: &str,
    kind: Kind,
    name: &str,
) -> Result<Option<ContentRow>, DbError> {
    db.optional(
        "SELECT * FROM content WHERE host = $1 AND kind = $2 AND name = $3",
        args![host, kind.as_str(), name],
    )
    .await
}

/// Stores a piece, whether it is new or not.
///
/// # Errors
/// [`DbError`].
pub async fn put(tx: &mut Tx, host: &str, r: &ContentRow, now: Millis) -> Result<(), DbError> {
    let problems = serde_json::to_string(&r.problems.0).unwrap_or_else(|_| "[]".to_owned());
    tx.exec(
        "INSERT INTO content (host, kind, name, folder, path, hash, json, body, valid, problems, \
         changed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
         ON CONFLICT (host, kind, name) DO UPDATE SET folder = excluded.folder, \
         path = excluded.path, hash = excluded.hash, json = excluded.json, body = excluded.body, \
         valid = excluded.valid, problems = excluded.problems, changed_at = excluded.changed_at",
        args![
            host,
            r.kind.as_str(),
            &r.name,
            &r.folder,
            &r.path,
            &r.hash,
            &r.json,
            &r.body,
            r.valid,
            problems,
            now,
        ],
    )
    .await
    .map(drop)
}

/// Forgets a piece; one that is not there is no error.
///
/// # Errors
/// [`DbError`].
pub async fn delete(tx: &mut Tx, host: &str, kind: Kind, name: &str) -> Result<(), DbError> {
    tx.exec(
        "DELETE FROM content WHERE host = $1 AND kind = $2 AND name = $3",
        args![host, kind.as_str(), name],
    )
    .await
    .map(drop)
}
