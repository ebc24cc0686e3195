//! The database layer on both engines: every test is a function of a [`Db`], run once on each.

mod engines;
mod migrations;

use adwd::clock::{Millis, TestClock};
use adwd::db::{Db, Migration};
use tempfile::TempDir;

use crate::support::postgres;

/// A database that goes away with the test.
pub struct Scratch {
    /// The open database.
    pub db: Db,
    /// Its URL, to open it once more.
    pub url: String,
    _folder: TempDir,
}

/// An empty SQLite database.
pub async fn sqlite() -> Scratch {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("state/test.db").display());
    let db = Db::open(&url).await.expect("SQLite opens");
    Scratch { db, url, _folder: folder }
}

/// An empty PostgreSQL database, where there is PostgreSQL.
pub async fn postgres() -> Option<Scratch> {
    // The first call starts a server and takes a second: not on the runtime's thread.
    let url = tokio::task::spawn_blocking(postgres::fresh_database).await.expect("no panic")?;
    let db = Db::open(&url).await.expect("PostgreSQL opens");
    Some(Scratch { db, url, _folder: tempfile::tempdir().expect("a folder") })
}

pub const FOUNDATION: Migration = Migration {
    version: 0,
    name: "foundation",
    sqlite: include_str!("../../../migrations/0000_foundation.sql"),
    postgres: include_str!("../../../migrations/0000_foundation.sql"),
};

const THINGS_SQL: &str = "-- Two statements; a semicolon in text: ';'
CREATE TABLE things (
    id TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('free;', 'taken')),
    owner TEXT,
    size BIGINT NOT NULL DEFAULT 0,
    weight DOUBLE PRECISION,
    good BOOLEAN NOT NULL DEFAULT FALSE,
    made_at BIGINT NOT NULL
);
CREATE TABLE parts (
    thing TEXT NOT NULL REFERENCES things (id),
    n BIGINT NOT NULL,
    PRIMARY KEY (thing, n)
);
INSERT INTO things (id, state, made_at) VALUES ('seed', 'free;', 7);
";

pub const THINGS: Migration =
    Migration { version: 1, name: "things", sqlite: THINGS_SQL, postgres: THINGS_SQL };

pub fn clock() -> TestClock {
    TestClock::new(Millis(1_000))
}

/// A database with the tables of the tests.
pub async fn with_things(scratch: &Scratch) {
    scratch.db.migrate_with(&[FOUNDATION, THINGS], &clock()).await.expect("migrates");
}

/// Declares a test for each engine from one `async fn(Scratch)`.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name($crate::db::sqlite().await).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                if let Some(scratch) = $crate::db::postgres().await {
                    super::$name(scratch).await;
                }
            })+
        }
    };
}
