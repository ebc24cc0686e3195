//! Applying migrations, one transaction each, safe against a second process doing the same.

use sha2::{Digest, Sha256};

use super::error::DbError;
use super::{Db, Engine, Migration, Tx};
use crate::args;
use crate::clock::Clock;

/// Held during a migration on PostgreSQL, where `CREATE TABLE IF NOT EXISTS` itself can collide.
/// (The rule against advisory locks is about the slices' SQL, which must run on both engines.)
/// A migration of a large table may take its time, and so may waiting for somebody else's.
const POSTGRES_LOCK: &str =
    "SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock(4702394921427289927)";

const CREATE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version BIGINT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    applied_at BIGINT NOT NULL
)";

/// SHA-256 of a script, in hexadecimal.
pub(super) fn checksum(script: &str) -> String {
    Sha256::digest(script.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn migrate(db: &Db, list: &[Migration], clock: &dyn Clock) -> Result<(), DbError> {
    while let Some(done) = apply_next(db, list, clock).await? {
        tracing::info!(version = done.version, name = done.name, "migrated the database");
    }
    Ok(())
}

/// Applies the first migration that is missing, if any. Everything is read inside the transaction
/// that writes, so a second process waits here and then finds nothing left to do.
async fn apply_next<'l>(
    db: &Db,
    list: &'l [Migration],
    clock: &dyn Clock,
) -> Result<Option<&'l Migration>, DbError> {
    let engine = db.engine();
    let mut tx = db.begin().await?;
    if engine == Engine::Postgres {
        tx.script("lock the schema".to_owned(), POSTGRES_LOCK).await?;
    }
    tx.script("create schema_migrations".to_owned(), CREATE).await?;
    let applied: Vec<(i64, String, String)> = tx
        .all("SELECT version, name, checksum FROM schema_migrations ORDER BY version", args![])
        .await?;
    check(engine, list, &applied)?;
    let missing = list.iter().find(|m| applied.iter().all(|(version, ..)| *version != m.version));
    let Some(next) = missing else {
        // The first start commits the empty table only together with the first migration.
        return Ok(None);
    };
    apply(&mut tx, engine, next, clock).await.map_err(|source| DbError::Migration {
        version: next.version,
        name: next.name.to_owned(),
        source: Box::new(source),
    })?;
    tx.commit().await?;
    Ok(Some(next))
}

async fn apply(
    tx: &mut Tx,
    engine: Engine,
    migration: &Migration,
    clock: &dyn Clock,
) -> Result<(), DbError> {
    let script = script(engine, migration);
    tx.script(format!("run the script of migration {:04}", migration.version), script).await?;
    tx.exec(
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) \
         VALUES ($1, $2, $3, $4)",
        args![migration.version, migration.name, checksum(script), clock.now()],
    )
    .await?;
    Ok(())
}

fn script(engine: Engine, migration: &Migration) -> &'static str {
    match engine {
        Engine::Sqlite => migration.sqlite,
        Engine::Postgres => migration.postgres,
    }
}

/// Refuses a database from a newer program, and one whose migrations were other ones.
fn check(
    engine: Engine,
    list: &[Migration],
    applied: &[(i64, String, String)],
) -> Result<(), DbError> {
    let newest = list.iter().map(|migration| migration.version).max().unwrap_or(-1);
    for (version, name, stored) in applied {
        let Some(known) = list.iter().find(|migration| migration.version == *version) else {
            return Err(DbError::TooNew { found: *version, name: name.clone(), newest });
        };
        if checksum(script(engine, known)) != *stored {
            return Err(DbError::Changed { version: *version, name: name.clone() });
        }
    }
    Ok(())
}
