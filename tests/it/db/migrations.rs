//! Migrating: once, in order, by whoever comes first, and never backwards.

use adwd::args;
use adwd::db::{Db, DbError, Migration};

use super::{FOUNDATION, Scratch, THINGS, clock};
use crate::on_both_engines;

on_both_engines!(
    the_programs_own_migrations_apply_twice_without_effect,
    a_later_migration_applies_to_a_database_that_holds_data,
    a_failing_migration_is_rolled_back_whole,
    a_newer_database_is_refused,
    a_changed_migration_is_refused,
    eight_processes_migrate_at_once,
);

const GROW_SQL: &str = "ALTER TABLE things ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';\n\
                        CREATE INDEX things_by_colour ON things (colour);";
const GROW: Migration =
    Migration { version: 2, name: "grow", sqlite: GROW_SQL, postgres: GROW_SQL };

const BROKEN_SQL: &str = "CREATE TABLE half (a BIGINT);\nINSERT INTO nowhere VALUES (1);";
const BROKEN: Migration =
    Migration { version: 2, name: "broken", sqlite: BROKEN_SQL, postgres: BROKEN_SQL };

async fn versions(db: &Db) -> Vec<(i64, String, i64)> {
    let sql = "SELECT version, name, applied_at FROM schema_migrations ORDER BY version";
    db.all(sql, args![]).await.unwrap()
}

async fn the_programs_own_migrations_apply_twice_without_effect(s: Scratch) {
    s.db.migrate(&clock()).await.unwrap();
    let first = versions(&s.db).await;
    assert_eq!(first[0], (0, "foundation".to_owned(), 1_000));
    assert_eq!(first.len(), adwd::db::migrations::ALL.len());
    s.db.migrate(&clock()).await.unwrap();
    assert_eq!(versions(&s.db).await, first);
}

async fn a_later_migration_applies_to_a_database_that_holds_data(s: Scratch) {
    s.db.migrate_with(&[FOUNDATION, THINGS], &clock()).await.unwrap();
    s.db.migrate_with(&[FOUNDATION, THINGS, GROW], &clock()).await.unwrap();
    let (colour,): (String,) = s.db.one("SELECT colour FROM things", args![]).await.unwrap();
    assert_eq!(colour, "red");
}

async fn a_failing_migration_is_rolled_back_whole(s: Scratch) {
    let error = s.db.migrate_with(&[FOUNDATION, THINGS, BROKEN], &clock()).await.unwrap_err();
    assert!(error.to_string().starts_with("migration 0002 broken failed"), "{error}");
    assert!(!error.is_transient());
    assert_eq!(versions(&s.db).await.len(), 2);
    assert!(s.db.all::<(i64,)>("SELECT a FROM half", args![]).await.is_err());
    s.db.migrate_with(&[FOUNDATION, THINGS, GROW], &clock()).await.unwrap();
}

async fn a_newer_database_is_refused(s: Scratch) {
    s.db.migrate_with(&[FOUNDATION, THINGS], &clock()).await.unwrap();
    let error = s.db.migrate_with(&[FOUNDATION], &clock()).await.unwrap_err();
    assert!(matches!(error, DbError::TooNew { found: 1, newest: 0, .. }), "{error}");
    assert!(error.to_string().contains("newer adwd"), "{error}");
}

async fn a_changed_migration_is_refused(s: Scratch) {
    s.db.migrate_with(&[FOUNDATION, THINGS], &clock()).await.unwrap();
    let edited = Migration { sqlite: GROW_SQL, postgres: GROW_SQL, ..THINGS };
    let error = s.db.migrate_with(&[FOUNDATION, edited], &clock()).await.unwrap_err();
    assert!(matches!(error, DbError::Changed { version: 1, .. }), "{error}");
}

async fn eight_processes_migrate_at_once(s: Scratch) {
    let tasks = (0..8).map(|_| {
        let url = s.url.clone();
        tokio::spawn(async move {
            let db = Db::open(&url).await.unwrap();
            db.migrate_with(&[FOUNDATION, THINGS, GROW], &clock()).await.unwrap();
            db.close().await;
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(versions(&s.db).await.len(), 3);
}
