//! The database: one SQL text, two engines.
//!
//! [`Db`] runs on SQLite (embedded, one file) or on PostgreSQL (shared). Slices write SQL once,
//! with `$1` placeholders, and never see which engine is below; the `match` over the engines is in
//! this folder only, and so are timing and the mapping of errors.
//!
//! What SQL may be used is in `ARCHITECTURE.md`: TEXT, BIGINT, DOUBLE PRECISION, BOOLEAN; state
//! changes as compare-and-swap `UPDATE … WHERE … RETURNING`; `COALESCE(SUM(x), 0.0)`;
//! `CAST(SUM(bigint) AS BIGINT)`; no `NOW()`, no `FOR UPDATE`, no engine functions. Integers that are
//! no BIGINT columns, such as literals and `LENGTH`, are selected as `CAST(… AS BIGINT)`.

mod arg;
mod batch;
mod connect;
mod error;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod fault;
mod file;
mod migrate;
pub mod migrations;
mod row;
mod run;
mod tx;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sqlx::{PgPool, SqlitePool};

pub use arg::Arg;
pub use batch::batches;
pub use connect::redact_url;
pub use error::DbError;
pub use migrations::Migration;
pub use row::{Column, ColumnError, Row};
pub use tx::Tx;

use crate::clock::Clock;
use crate::metrics::Statements;

/// What [`crate::row!`] expands to needs these names; slices use the macro instead.
#[doc(hidden)]
pub mod __row {
    pub use super::row::read;
    pub use sqlx::postgres::PgRow;
    pub use sqlx::sqlite::SqliteRow;
    pub use sqlx::{Error, FromRow};
}

/// Which engine is below.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Embedded: one file.
    Sqlite,
    /// A server, perhaps shared with daemons on other machines.
    Postgres,
}

impl Engine {
    /// The engine's name as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Sqlite => "SQLite",
            Engine::Postgres => "PostgreSQL",
        }
    }
}

/// An open database; clones share its connections.
#[derive(Clone, Debug)]
pub enum Db {
    /// One write connection, because SQLite has one writer anyway and a queue in the process is
    /// fairer than its busy loop; several read-only ones, which never wait for the writer (WAL).
    #[non_exhaustive]
    Sqlite {
        /// Read-only connections.
        read: SqlitePool,
        /// The write connection.
        write: SqlitePool,
        /// Whether a transaction that does not wait for the disk has used the write connection
        /// since it was last given back; see [`Db::begin_relaxed`].
        relaxed: Arc<AtomicBool>,
        /// What was opened.
        file: Arc<file::File>,
        /// Where statements are counted.
        meter: Statements,
    },
    /// One pool for everything.
    #[non_exhaustive]
    Postgres {
        /// All connections.
        pool: PgPool,
        /// Where statements are counted.
        meter: Statements,
    },
}

impl Db {
    /// Opens `sqlite:PATH` (made with mode 0600 if absent, its folder with 0700) or
    /// `postgres://…`, and makes sure that it answers.
    ///
    /// Errors: another scheme, a file or server that cannot be reached. Passwords never appear.
    pub async fn open(url: &str) -> Result<Db, DbError> {
        connect::open(url).await
    }

    /// The same database, counting its statements there from now on.
    #[must_use]
    pub fn measured(mut self, statements: Statements) -> Db {
        match &mut self {
            Db::Sqlite { meter, .. } | Db::Postgres { meter, .. } => *meter = statements,
        }
        self
    }

    fn meter(&self) -> &Statements {
        match self {
            Db::Sqlite { meter, .. } | Db::Postgres { meter, .. } => meter,
        }
    }

    /// Brings the schema up to date with this program's migrations.
    ///
    /// Safe when two processes do it at once. Errors: a database that a newer program has
    /// migrated, a landed migration that has changed, a migration that fails (rolled back).
    pub async fn migrate(&self, clock: &dyn Clock) -> Result<(), DbError> {
        migrate::migrate(self, migrations::ALL, clock).await
    }

    /// Like [`Db::migrate`], with another list of migrations. For tests of the mechanism and of
    /// single migrations on a database that holds data.
    pub async fn migrate_with(&self, list: &[Migration], clock: &dyn Clock) -> Result<(), DbError> {
        migrate::migrate(self, list, clock).await
    }

    /// Which engine is below.
    pub fn engine(&self) -> Engine {
        match self {
            Db::Sqlite { .. } => Engine::Sqlite,
            Db::Postgres { .. } => Engine::Postgres,
        }
    }

    /// All rows of a query. Reads only: on SQLite the connection refuses to write.
    pub async fn all<R: Row>(&self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<R>, DbError> {
        match self {
            Db::Sqlite { read, meter, file, .. } => {
                file.check(|| error::describe(sql))?;
                run::sqlite_all(read, meter, sql, args).await
            }
            Db::Postgres { pool, meter } => run::postgres_all(pool, meter, sql, args).await,
        }
    }

    /// The first row of a query, if there is one. Reads only.
    pub async fn optional<R: Row>(
        &self,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> Result<Option<R>, DbError> {
        match self {
            Db::Sqlite { read, meter, file, .. } => {
                file.check(|| error::describe(sql))?;
                run::sqlite_optional(read, meter, sql, args).await
            }
            Db::Postgres { pool, meter } => run::postgres_optional(pool, meter, sql, args).await,
        }
    }

    /// The first row of a query that always has one. Reads only.
    ///
    /// Errors: [`DbError::NotFound`] when there is none.
    pub async fn one<R: Row>(&self, sql: &'static str, args: Vec<Arg>) -> Result<R, DbError> {
        self.optional(sql, args).await?.ok_or_else(|| error::not_found(sql))
    }

    /// Runs one statement in a transaction of its own, durably; answers the rows it touched.
    pub async fn exec(&self, sql: &'static str, args: Vec<Arg>) -> Result<u64, DbError> {
        match self {
            Db::Sqlite { write, meter, file, .. } => {
                file.check(|| error::describe(sql))?;
                run::sqlite_exec(write, meter, sql, args).await
            }
            Db::Postgres { pool, meter } => run::postgres_exec(pool, meter, sql, args).await,
        }
    }

    /// Begins a write transaction; dropping it rolls back.
    ///
    /// On SQLite it holds the one write connection and the write lock from here on (`BEGIN
    /// IMMEDIATE`), so do no other I/O inside. On PostgreSQL it is READ COMMITTED: guard state
    /// changes with a compare-and-swap `WHERE`, not with a read before.
    pub async fn begin(&self) -> Result<Tx, DbError> {
        tx::begin(self, tx::Durability::Full).await
    }

    /// Begins a write transaction whose commit does not wait for the disk.
    ///
    /// The end of this process loses nothing of it. A power cut may lose the last of what was
    /// committed so, never a part of a transaction, and nothing that came before a commit of
    /// [`Db::begin`] or [`Db::exec`]: both engines write one log in order. For records *about* what
    /// happened, which are many and small; never for facts that somebody builds on.
    pub async fn begin_relaxed(&self) -> Result<Tx, DbError> {
        tx::begin(self, tx::Durability::Relaxed).await
    }

    /// Waits for running statements and closes every connection. Later calls fail as unavailable.
    pub async fn close(&self) {
        match self {
            Db::Sqlite { read, write, .. } => {
                read.close().await;
                write.close().await;
            }
            Db::Postgres { pool, .. } => pool.close().await,
        }
    }
}
