//! One statement on one executor: binding, timing and error mapping, once for each engine.

use std::future::Future;
use std::time::{Duration, Instant};

use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Executor, Postgres, Sqlite};

use super::arg::{Arg, for_postgres, for_sqlite, placeholders};
use super::error::{DbError, describe, from_sqlx};
use super::row::Row;
use crate::limits::{DB_ANSWER_MS, DB_SLOW_MS};
use crate::metrics::Statements;

/// Waits for PostgreSQL within [`DB_ANSWER_MS`]: a server behind a network that went away would
/// otherwise be waited for until the kernel gives up, many minutes later.
pub(super) async fn answered<T>(
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(Duration::from_millis(DB_ANSWER_MS), work).await {
        Ok(done) => done,
        Err(elapsed) => Err(sqlx::Error::Io(elapsed.into())),
    }
}

/// Counts what a piece of work took, and how it failed.
pub(super) async fn counted<T>(
    meter: &Statements,
    kind: &'static str,
    operation: impl Fn() -> String,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> (Result<T, DbError>, Duration) {
    let start = Instant::now();
    // On the heap: the driver's futures are large, and callers await statements many levels deep.
    let result = Box::pin(work).await.map_err(|error| from_sqlx(operation(), error));
    let took = start.elapsed();
    meter.took(kind, took);
    if let Err(error) = &result {
        meter.failed(error.kind());
    }
    (result, took)
}

/// What kind of statement it is, for whoever counts.
fn kind(sql: &str) -> &'static str {
    let first = sql.split_whitespace().next().unwrap_or_default();
    let kinds = ["select", "insert", "update", "delete"];
    kinds.into_iter().find(|kind| kind.eq_ignore_ascii_case(first)).unwrap_or("other")
}

/// Runs a statement's future, counts it, reports it when slow and maps its error.
async fn timed<T>(
    meter: &Statements,
    sql: &'static str,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, DbError> {
    let (result, took) = counted(meter, kind(sql), || describe(sql), work).await;
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if took >= Duration::from_millis(DB_SLOW_MS) {
        tracing::warn!(operation = %describe(sql), took_ms, "slow statement");
    } else {
        tracing::trace!(sql, took_ms, "statement");
    }
    result
}

fn check(sql: &'static str, args: &[Arg]) -> Result<(), DbError> {
    let expected = placeholders(sql);
    if expected == args.len() {
        return Ok(());
    }
    Err(DbError::Arguments { operation: describe(sql), expected, given: args.len() })
}

macro_rules! engine {
    ($db:ty, $arguments:ty, $bind:ident, $all:ident, $optional:ident, $exec:ident, $wait:path) => {
        pub(super) async fn $all<'e, R: Row>(
            executor: impl Executor<'e, Database = $db>,
            meter: &Statements,
            sql: &'static str,
            args: Vec<Arg>,
        ) -> Result<Vec<R>, DbError> {
            check(sql, &args)?;
            let bound: $arguments = $bind(args).map_err(|e| from_sqlx(describe(sql), e))?;
            let query = sqlx::query_as_with::<$db, R, _>(sql, bound);
            timed(meter, sql, $wait(query.fetch_all(executor))).await
        }

        pub(super) async fn $optional<'e, R: Row>(
            executor: impl Executor<'e, Database = $db>,
            meter: &Statements,
            sql: &'static str,
            args: Vec<Arg>,
        ) -> Result<Option<R>, DbError> {
            check(sql, &args)?;
            let bound: $arguments = $bind(args).map_err(|e| from_sqlx(describe(sql), e))?;
            let query = sqlx::query_as_with::<$db, R, _>(sql, bound);
            timed(meter, sql, $wait(query.fetch_optional(executor))).await
        }

        pub(super) async fn $exec<'e>(
            executor: impl Executor<'e, Database = $db>,
            meter: &Statements,
            sql: &'static str,
            args: Vec<Arg>,
        ) -> Result<u64, DbError> {
            check(sql, &args)?;
            let bound: $arguments = $bind(args).map_err(|e| from_sqlx(describe(sql), e))?;
            let query = sqlx::query_with::<$db, _>(sql, bound);
            let done = timed(meter, sql, $wait(query.execute(executor))).await?;
            Ok(done.rows_affected())
        }
    };
}

// SQLite's own busy timeout bounds its waiting.
engine!(
    Sqlite,
    SqliteArguments,
    for_sqlite,
    sqlite_all,
    sqlite_optional,
    sqlite_exec,
    std::convert::identity
);
engine!(
    Postgres,
    PgArguments,
    for_postgres,
    postgres_all,
    postgres_optional,
    postgres_exec,
    answered
);
