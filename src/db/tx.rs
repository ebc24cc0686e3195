//! Write transactions.

use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{Postgres, SqlSafeStr, Sqlite, SqlitePool, Transaction};

use super::error::{self, DbError, from_sqlx};
use super::{Arg, Db, Row, run};
use crate::metrics::Statements;

/// An open write transaction. Dropping it without [`Tx::commit`] rolls back.
///
/// After a statement that the engine refused (a unique violation, say) nothing more can be done
/// with it but roll back: PostgreSQL would turn a commit into a silent rollback, so both engines
/// answer [`DbError::Aborted`]. Where a conflict is expected, write `ON CONFLICT … DO NOTHING` and
/// look at the count.
#[derive(Debug)]
pub struct Tx {
    inner: Inner,
    meter: Statements,
    /// The statement that the engine refused.
    failed: Option<String>,
}

#[derive(Debug)]
enum Inner {
    /// On the one write connection.
    Sqlite(Transaction<'static, Sqlite>),
    /// On a connection of the pool.
    Postgres(Transaction<'static, Postgres>),
}

/// Whether a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    Full,
    Relaxed,
}

pub(super) async fn begin(db: &Db, durability: Durability) -> Result<Tx, DbError> {
    cut_here(|| "begin a transaction".to_owned())?;
    if let Db::Sqlite { file, .. } = db {
        file.check(|| "begin a transaction".to_owned())?;
    }
    let meter = db.meter().clone();
    let begun = async {
        match db {
            Db::Sqlite { write, relaxed, .. } => match durability {
                Durability::Full => write.begin_with("BEGIN IMMEDIATE").await,
                Durability::Relaxed => begin_relaxed(write, relaxed).await,
            }
            .map(Inner::Sqlite),
            Db::Postgres { pool, .. } => {
                let begun = pool.begin_with(match durability {
                    Durability::Full => "BEGIN ISOLATION LEVEL READ COMMITTED",
                    Durability::Relaxed => {
                        "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off"
                    }
                });
                run::answered(begun).await.map(Inner::Postgres)
            }
        }
    };
    let what = || "begin a transaction".to_owned();
    let inner = run::counted(&meter, "begin", what, begun).await.0?;
    Ok(Tx { inner, meter, failed: None })
}

async fn begin_relaxed(
    write: &SqlitePool,
    relaxed: &AtomicBool,
) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    let connection = write.acquire().await?;
    // While we hold the only connection, and before it is so: whoever gives it back, this
    // transaction or what is left of it, makes it wait for the disk again (`connect.rs`).
    relaxed.store(true, Ordering::SeqCst);
    let begin = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";
    Transaction::begin(connection, Some(begin.into_sql_str())).await
}

/// Where a test wants the connection cut; see `db::fault`. Nothing in release builds.
#[cfg(debug_assertions)]
fn cut_here(operation: impl Fn() -> String) -> Result<(), DbError> {
    super::fault::count(operation)
}

#[cfg(not(debug_assertions))]
fn cut_here(_operation: impl Fn() -> String) -> Result<(), DbError> {
    Ok(())
}

impl Tx {
    /// All rows of a statement, `UPDATE … RETURNING` included.
    pub async fn all<R: Row>(
        &mut self,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> Result<Vec<R>, DbError> {
        self.check(|| error::describe(sql))?;
        let done = match &mut self.inner {
            Inner::Sqlite(tx) => run::sqlite_all(&mut **tx, &self.meter, sql, args).await,
            Inner::Postgres(tx) => run::postgres_all(&mut **tx, &self.meter, sql, args).await,
        };
        self.watch(done)
    }

    /// The first row of a statement, if there is one. For a compare-and-swap `UPDATE …
    /// RETURNING` on a key: `None` means that somebody else was first.
    pub async fn optional<R: Row>(
        &mut self,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> Result<Option<R>, DbError> {
        self.check(|| error::describe(sql))?;
        let done = match &mut self.inner {
            Inner::Sqlite(tx) => run::sqlite_optional(&mut **tx, &self.meter, sql, args).await,
            Inner::Postgres(tx) => run::postgres_optional(&mut **tx, &self.meter, sql, args).await,
        };
        self.watch(done)
    }

    /// The first row of a statement that always has one.
    ///
    /// Errors: [`DbError::NotFound`] when there is none.
    pub async fn one<R: Row>(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<R, DbError> {
        self.optional(sql, args).await?.ok_or_else(|| error::not_found(sql))
    }

    /// Runs a statement; answers the rows it touched.
    pub async fn exec(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<u64, DbError> {
        self.check(|| error::describe(sql))?;
        let done = match &mut self.inner {
            Inner::Sqlite(tx) => run::sqlite_exec(&mut **tx, &self.meter, sql, args).await,
            Inner::Postgres(tx) => run::postgres_exec(&mut **tx, &self.meter, sql, args).await,
        };
        self.watch(done)
    }

    /// The next number of the counter `name`: 1, 2, 3… Numbers of transactions that roll back are
    /// given again.
    pub async fn next_counter(&mut self, name: &str) -> Result<i64, DbError> {
        self.next_counters(name, 1).await
    }

    /// The next `count` numbers of the counter `name`, in a row; answers the first of them.
    ///
    /// On PostgreSQL the counter's row is locked until the end of the transaction, so take numbers
    /// late in it, and of several counters in the order of their names.
    pub async fn next_counters(&mut self, name: &str, count: u32) -> Result<i64, DbError> {
        let (last,): (i64,) = self
            .one(
                "INSERT INTO counters (name, value) VALUES ($1, $2) ON CONFLICT (name) \
                 DO UPDATE SET value = counters.value + excluded.value RETURNING value",
                vec![Arg::from(name), Arg::from(count)],
            )
            .await?;
        Ok(last + 1 - i64::from(count))
    }

    /// Makes the transaction's changes durable and visible.
    pub async fn commit(self) -> Result<(), DbError> {
        self.check(|| "commit a transaction".to_owned())?;
        let committed = async {
            match self.inner {
                Inner::Sqlite(tx) => tx.commit().await,
                Inner::Postgres(tx) => run::answered(tx.commit()).await,
            }
        };
        let what = || "commit a transaction".to_owned();
        run::counted(&self.meter, "commit", what, committed).await.0
    }

    /// Undoes the transaction and waits until it is undone (dropping it does not wait).
    pub async fn rollback(self) -> Result<(), DbError> {
        let undone = match self.inner {
            Inner::Sqlite(tx) => tx.rollback().await,
            Inner::Postgres(tx) => run::answered(tx.rollback()).await,
        };
        undone.map_err(|error| from_sqlx("roll back a transaction".to_owned(), error))
    }

    /// Runs a script of several statements without arguments. For migrations.
    pub(super) async fn script(
        &mut self,
        operation: String,
        sql: &'static str,
    ) -> Result<(), DbError> {
        let done = match &mut self.inner {
            Inner::Sqlite(tx) => sqlx::raw_sql(sql).execute(&mut **tx).await.map(drop),
            Inner::Postgres(tx) => sqlx::raw_sql(sql).execute(&mut **tx).await.map(drop),
        };
        self.watch(done.map_err(|error| from_sqlx(operation, error)))
    }

    fn check(&self, operation: impl Fn() -> String) -> Result<(), DbError> {
        match &self.failed {
            Some(failed) => {
                Err(DbError::Aborted { operation: operation(), failed: failed.clone() })
            }
            None => cut_here(operation),
        }
    }

    /// Remembers that the engine refused a statement.
    fn watch<T>(&mut self, result: Result<T, DbError>) -> Result<T, DbError> {
        if let Err(error) = &result
            && error.aborts()
        {
            self.failed = Some(error.to_string());
        }
        result
    }
}
