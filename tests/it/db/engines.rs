//! Reads, writes, transactions and errors.

use std::os::unix::fs::PermissionsExt;

use adwd::args;
use adwd::clock::Millis;
use adwd::db::{Db, DbError, Engine, Migration};
use adwd::ids::RunId;

use super::{Scratch, with_things};
use crate::on_both_engines;

on_both_engines!(
    values_come_back_as_they_went_in,
    placeholders_may_repeat_and_stand_in_any_order,
    all_optional_and_one_return_what_they_say,
    a_dropped_transaction_leaves_nothing,
    a_transaction_reads_its_own_writes_and_others_do_not,
    broken_rules_are_told_apart,
    a_transaction_with_a_refused_statement_cannot_commit,
    defects_are_named_without_the_librarys_words_alone,
    counters_count_and_give_numbers_back,
    of_32_spenders_one_wins,
    a_closed_database_is_unavailable,
    aggregates_have_the_same_types,
);

adwd::row! {
    #[derive(Debug, Clone, PartialEq)]
    struct Thing {
        id: RunId,
        state: String,
        owner: Option<String>,
        size: u32,
        weight: Option<f64>,
        good: bool,
        made_at: Millis,
    }
}

const ALL_COLUMNS: &str =
    "SELECT id, state, owner, size, weight, good, made_at FROM things WHERE id = $1";
const INSERT: &str = "INSERT INTO things (id, state, owner, size, weight, good, made_at) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7)";

async fn values_come_back_as_they_went_in(s: Scratch) {
    with_things(&s).await;
    let id = RunId::parse("r1").unwrap();
    let owner = "émile; DROP TABLE things; '\"\u{1f980}\n";
    let made = Millis(i64::MAX);
    let n = s.db.exec(INSERT, args![&id, "taken", owner, 4_000_000_000_u32, 0.1, true, made]).await;
    assert_eq!(n.unwrap(), 1);
    let thing: Thing = s.db.one(ALL_COLUMNS, args![&id]).await.unwrap();
    assert_eq!(
        thing,
        Thing {
            id,
            state: "taken".to_owned(),
            owner: Some(owner.to_owned()),
            size: 4_000_000_000,
            weight: Some(0.1),
            good: true,
            made_at: made,
        }
    );
    let none = args!["r2", "taken", None::<String>, 0, None::<f64>, false, Millis(-1)];
    s.db.exec(INSERT, none).await.unwrap();
    let thing: Thing = s.db.one(ALL_COLUMNS, args!["r2"]).await.unwrap();
    assert_eq!((thing.owner, thing.weight, thing.made_at), (None, None, Millis(-1)));
}

async fn placeholders_may_repeat_and_stand_in_any_order(s: Scratch) {
    with_things(&s).await;
    let sql = "SELECT $2, $1, $2, $1 || $2 FROM things WHERE id = 'seed' AND $1 = $1";
    let row: (String, String, String, String) = s.db.one(sql, args!["a", "b"]).await.unwrap();
    assert_eq!(row, ("b".into(), "a".into(), "b".into(), "ab".into()));
    // An optional filter, the form that lists use.
    let sql = "SELECT id FROM things WHERE ($1 IS NULL OR state = $1) ORDER BY id LIMIT $2";
    let rows: Vec<(String,)> = s.db.all(sql, args![None::<&str>, 5]).await.unwrap();
    assert_eq!(rows.len(), 1);
    let rows: Vec<(String,)> = s.db.all(sql, args!["taken", 5]).await.unwrap();
    assert!(rows.is_empty());
    for args in [args![], args!["a"], args!["a", 1, 2]] {
        let error = s.db.all::<(String,)>(sql, args).await.unwrap_err();
        assert!(matches!(error, DbError::Arguments { expected: 2, .. }), "{error}");
    }
}

async fn all_optional_and_one_return_what_they_say(s: Scratch) {
    with_things(&s).await;
    let sql = "SELECT state FROM things WHERE id = $1";
    let rows: Vec<(String,)> = s.db.all(sql, args!["seed"]).await.unwrap();
    assert_eq!(rows, [("free;".to_owned(),)]);
    assert_eq!(s.db.optional::<(String,)>(sql, args!["x"]).await.unwrap(), None);
    let error = s.db.one::<(String,)>(sql, args!["x"]).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read from things: there is no such row");
    let mut tx = s.db.begin().await.unwrap();
    assert_eq!(tx.all::<(String,)>(sql, args!["seed"]).await.unwrap().len(), 1);
    assert!(tx.optional::<(String,)>(sql, args!["x"]).await.unwrap().is_none());
    assert!(matches!(tx.one::<(String,)>(sql, args!["x"]).await, Err(DbError::NotFound { .. })));
    let swap = "UPDATE things SET state = 'taken' WHERE id = $1 AND state = $2 RETURNING id";
    assert!(tx.optional::<(String,)>(swap, args!["seed", "free;"]).await.unwrap().is_some());
    assert!(tx.optional::<(String,)>(swap, args!["seed", "free;"]).await.unwrap().is_none());
    tx.rollback().await.unwrap();
    let (state,): (String,) = s.db.one(sql, args!["seed"]).await.unwrap();
    assert_eq!(state, "free;");
}

async fn a_dropped_transaction_leaves_nothing(s: Scratch) {
    with_things(&s).await;
    for _ in 0..3 {
        let mut tx = s.db.begin().await.unwrap();
        let n = tx.exec("UPDATE things SET size = size + 1", args![]).await.unwrap();
        assert_eq!(n, 1);
        drop(tx);
    }
    let mut tx = s.db.begin().await.unwrap();
    let (size,): (i64,) = tx.one("SELECT size FROM things", args![]).await.unwrap();
    assert_eq!(size, 0);
    tx.exec("UPDATE things SET size = 5", args![]).await.unwrap();
    tx.commit().await.unwrap();
    let (size,): (i64,) = s.db.one("SELECT size FROM things", args![]).await.unwrap();
    assert_eq!(size, 5);
}

async fn a_transaction_reads_its_own_writes_and_others_do_not(s: Scratch) {
    with_things(&s).await;
    let sql = "SELECT size FROM things WHERE id = 'seed'";
    let mut tx = s.db.begin().await.unwrap();
    tx.exec("UPDATE things SET size = 9 WHERE id = 'seed'", args![]).await.unwrap();
    assert_eq!(tx.one::<(i64,)>(sql, args![]).await.unwrap(), (9,));
    // Readers neither wait nor see it.
    assert_eq!(s.db.one::<(i64,)>(sql, args![]).await.unwrap(), (0,));
    tx.commit().await.unwrap();
    assert_eq!(s.db.one::<(i64,)>(sql, args![]).await.unwrap(), (9,));
}

async fn broken_rules_are_told_apart(s: Scratch) {
    with_things(&s).await;
    let seed = args!["seed", "taken", None::<&str>, 0, None::<f64>, false, 0];
    let error = s.db.exec(INSERT, seed).await.unwrap_err();
    assert!(error.is_unique() && !error.is_transient(), "{error}");
    assert!(error.to_string().starts_with("cannot insert into things: such a row"), "{error}");
    assert!(error.constraint().unwrap().contains("things"), "{error}");
    let bad = args!["x", "neither", None::<&str>, 0, None::<f64>, false, 0];
    let error = s.db.exec(INSERT, bad).await.unwrap_err();
    assert!(matches!(error, DbError::Constraint { rule: "check", .. }), "{error}");
    let error =
        s.db.exec("INSERT INTO parts (thing, n) VALUES ('nope', 1)", args![]).await.unwrap_err();
    assert!(matches!(error, DbError::Constraint { rule: "foreign key", .. }), "{error}");
    let error = s.db.exec("UPDATE things SET made_at = NULL", args![]).await.unwrap_err();
    assert!(matches!(error, DbError::Constraint { rule: "not null", .. }), "{error}");
    s.db.exec("UPDATE things SET size = -1", args![]).await.unwrap();
    let error = s.db.one::<Thing>(ALL_COLUMNS, args!["seed"]).await.unwrap_err();
    assert!(matches!(&error, DbError::Decode { column, .. } if column == "size"), "{error}");
}

async fn a_transaction_with_a_refused_statement_cannot_commit(s: Scratch) {
    with_things(&s).await;
    let mut tx = s.db.begin().await.unwrap();
    tx.exec("UPDATE things SET size = 3", args![]).await.unwrap();
    // No row is an answer, not a refusal.
    assert!(tx.one::<(i64,)>("SELECT size FROM things WHERE id = 'x'", args![]).await.is_err());
    tx.exec("UPDATE things SET size = 4", args![]).await.unwrap();
    let seed = args!["seed", "taken", None::<&str>, 0, None::<f64>, false, 0];
    assert!(tx.exec(INSERT, seed).await.unwrap_err().is_unique());
    let error = tx.exec("UPDATE things SET size = 5", args![]).await.unwrap_err();
    assert!(matches!(error, DbError::Aborted { .. }), "{error}");
    let error = tx.commit().await.unwrap_err();
    assert!(error.to_string().contains("such a row exists already"), "{error}");
    let (size,): (i64,) = s.db.one("SELECT size FROM things", args![]).await.unwrap();
    assert_eq!(size, 0);
    let mut tx = s.db.begin().await.unwrap();
    let gentle = "INSERT INTO things (id, state, made_at) VALUES ('seed', 'taken', 0) \
                  ON CONFLICT (id) DO NOTHING";
    assert_eq!(tx.exec(gentle, args![]).await.unwrap(), 0);
    tx.commit().await.unwrap();
}

async fn defects_are_named_without_the_librarys_words_alone(s: Scratch) {
    let error = s.db.all::<(i64,)>("SELECT a FROM nowhere", args![]).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("cannot read from nowhere"), "{text}");
    assert!(!text.contains("SELECT"), "{text}");
    assert!(std::error::Error::source(&error).is_some());
    // After an error the connections still work.
    assert_eq!(s.db.one::<(String,)>("SELECT 'x'", args![]).await.unwrap().0, "x");
}

async fn counters_count_and_give_numbers_back(s: Scratch) {
    with_things(&s).await;
    let mut tx = s.db.begin().await.unwrap();
    assert_eq!(tx.next_counter("a").await.unwrap(), 1);
    assert_eq!(tx.next_counter("a").await.unwrap(), 2);
    assert_eq!(tx.next_counter("b").await.unwrap(), 1);
    tx.commit().await.unwrap();
    let mut tx = s.db.begin().await.unwrap();
    assert_eq!(tx.next_counter("a").await.unwrap(), 3);
    tx.rollback().await.unwrap();
    let mut tx = s.db.begin().await.unwrap();
    assert_eq!(tx.next_counter("a").await.unwrap(), 3);
}

async fn of_32_spenders_one_wins(s: Scratch) {
    with_things(&s).await;
    // Half of them through a second opening of the same database, like a second process.
    let second = Db::open(&s.url).await.unwrap();
    let spenders = (0..32).map(|n: i32| {
        let db = if n % 2 == 0 { s.db.clone() } else { second.clone() };
        tokio::spawn(async move {
            let mut tx = db.begin().await.unwrap();
            let won: Option<(String,)> = tx
                .optional(
                    "UPDATE things SET state = 'taken', owner = $1 \
                     WHERE id = 'seed' AND state = 'free;' RETURNING id",
                    args![n.to_string()],
                )
                .await
                .unwrap();
            tx.commit().await.unwrap();
            won.is_some().then_some(n)
        })
    });
    let mut winners = Vec::new();
    for spender in spenders.collect::<Vec<_>>() {
        winners.extend(spender.await.unwrap());
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    let (owner,): (String,) =
        s.db.one("SELECT owner FROM things WHERE id = 'seed'", args![]).await.unwrap();
    assert_eq!(owner, winners[0].to_string());
}

async fn a_closed_database_is_unavailable(s: Scratch) {
    s.db.close().await;
    let error = s.db.one::<(String,)>("SELECT 'x'", args![]).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(s.db.begin().await.is_err());
}

async fn aggregates_have_the_same_types(s: Scratch) {
    with_things(&s).await;
    let row: (i64, f64, i64, Option<i64>) =
        s.db.one(
            "SELECT COUNT(*), COALESCE(SUM(weight), 0.0), \
             CAST(COALESCE(SUM(size), 0) AS BIGINT), MAX(made_at) FROM things",
            args![],
        )
        .await
        .unwrap();
    assert_eq!(row, (1, 0.0, 0, Some(7)));
    let row: (bool, bool, i64) =
        s.db.one(
            "SELECT EXISTS (SELECT 1 FROM things), good, CAST(LENGTH(id) AS BIGINT) FROM things",
            args![],
        )
        .await
        .unwrap();
    assert_eq!(row, (true, false, 4));
}

#[tokio::test]
async fn sqlite_files_are_private_and_reads_cannot_write() {
    let s = super::sqlite().await;
    with_things(&s).await;
    let path = std::path::Path::new(s.url.strip_prefix("sqlite:").unwrap());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(path) & 0o777, 0o600);
    assert_eq!(mode(&path.with_extension("db-wal")) & 0o777, 0o600);
    assert_eq!(mode(path.parent().unwrap()) & 0o777, 0o700);
    assert_eq!(s.db.engine(), Engine::Sqlite);
    let write = "UPDATE things SET size = 1 RETURNING id";
    let error = s.db.all::<(String,)>(write, args![]).await.unwrap_err();
    assert!(error.to_string().contains("a write was sent as a read"), "{error}");
    let mut tx = s.db.begin().await.unwrap();
    for (pragma, expected) in [("PRAGMA synchronous", 2), ("PRAGMA foreign_keys", 1)] {
        assert_eq!(tx.one::<(i64,)>(pragma, args![]).await.map(|r| r.0).ok(), Some(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relaxed_transaction_leaves_the_write_connection_strict() {
    let s = super::sqlite().await;
    with_things(&s).await;
    let level = async |tx: &mut adwd::db::Tx| -> i64 {
        tx.one::<(i64,)>("PRAGMA synchronous", args![]).await.unwrap().0
    };
    for how in ["committed", "rolled back", "dropped"] {
        let mut tx = s.db.begin_relaxed().await.unwrap();
        assert_eq!(level(&mut tx).await, 1, "{how}");
        match how {
            "committed" => tx.commit().await.unwrap(),
            "rolled back" => tx.rollback().await.unwrap(),
            _ => drop(tx),
        }
        let mut tx = s.db.begin().await.unwrap();
        assert_eq!(level(&mut tx).await, 2, "after one that was {how}");
        tx.rollback().await.unwrap();
    }
    // Both kinds at once, over one connection: each has what it asked for.
    let mut tasks = Vec::new();
    for n in 0..64 {
        let db = s.db.clone();
        tasks.push(tokio::spawn(async move {
            let relaxed = n % 2 == 0;
            let begun = if relaxed { db.begin_relaxed().await } else { db.begin().await };
            let mut tx = begun.unwrap();
            let level = tx.one::<(i64,)>("PRAGMA synchronous", args![]).await.unwrap().0;
            tx.commit().await.unwrap();
            assert_eq!(level, if relaxed { 1 } else { 2 });
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn on_postgres_only_a_relaxed_commit_does_not_wait_for_the_disk() {
    let Some(s) = super::postgres().await else { return };
    let level = async |mut tx: adwd::db::Tx| -> String {
        let sql = "SELECT current_setting('synchronous_commit')";
        let (level,) = tx.one::<(String,)>(sql, args![]).await.unwrap();
        tx.commit().await.unwrap();
        level
    };
    // The tests' own server does not wait by itself.
    let strict = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on', \
                  current_database()); END $$";
    s.db.exec(strict, args![]).await.unwrap();
    let db = Db::open(&s.url).await.unwrap();
    for _ in 0..3 {
        assert_eq!(level(db.begin_relaxed().await.unwrap()).await, "off");
        assert_eq!(level(db.begin().await.unwrap()).await, "on");
    }
}

#[tokio::test]
async fn what_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("not-a-database");
    std::fs::write(&file, "x".repeat(4096)).unwrap();
    let error = Db::open(&format!("sqlite:{}", file.display())).await.unwrap_err().to_string();
    assert!(error.contains("not-a-database") && error.contains("is it an SQLite file"), "{error}");
    let error = Db::open("sqlite:/proc/nope/x.db").await.unwrap_err().to_string();
    assert!(error.contains("cannot be made"), "{error}");
    let url = "postgres://u:hunter22@127.0.0.1:1/db";
    let error = Db::open(url).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("postgres://u:***@127.0.0.1:1/db"), "{text}");
    assert!(text.contains("is the server running"), "{text}");
}

#[tokio::test]
async fn postgres_says_when_a_database_is_missing() {
    let Some(s) = super::postgres().await else { return };
    assert_eq!(s.db.engine(), Engine::Postgres);
    let url = s.url.replacen("postgres:///t", "postgres:///missing_t", 1);
    let error = Db::open(&url).await.unwrap_err().to_string();
    assert!(error.contains("createdb"), "{error}");
}

#[tokio::test]
async fn postgres_is_reached_over_tls_and_proven_where_asked() {
    let started = tokio::task::spawn_blocking(crate::support::postgres::with_tls);
    let Some(server) = started.await.unwrap() else { return };
    const IS_ENCRYPTED: &str =
        "SELECT ssl FROM pg_stat_ssl WHERE pid = (SELECT pg_backend_pid() LIMIT 1)";
    let root = server.certificate.display();
    let open = async |query: String| Db::open(&format!("{}?{query}", server.url)).await;
    // What is said of nothing is encrypted where the server can.
    for query in
        ["".into(), "sslmode=require".into(), format!("sslmode=verify-full&sslrootcert={root}")]
    {
        let db = open(query).await.unwrap();
        let (encrypted,): (bool,) = db.one(IS_ENCRYPTED, args![]).await.unwrap();
        assert!(encrypted);
    }
    let (encrypted,): (bool,) =
        open("sslmode=disable".into()).await.unwrap().one(IS_ENCRYPTED, args![]).await.unwrap();
    assert!(!encrypted);
    // One that nobody vouches for is not believed.
    let error = open("sslmode=verify-full".into()).await.unwrap_err().to_string();
    assert!(error.contains("sslmode and certificates"), "{error}");
}

#[tokio::test]
async fn postgres_works_on_one_statement_for_a_bounded_time() {
    let Some(s) = super::postgres().await else { return };
    let setting = async |db: &Db, sql: &'static str| {
        let (value,): (String,) = db.one(sql, args![]).await.unwrap();
        value
    };
    const STATEMENT: &str = "SELECT current_setting('statement_timeout')";
    const IDLE: &str = "SELECT current_setting('idle_in_transaction_session_timeout')";
    assert_eq!(setting(&s.db, STATEMENT).await, "30s");
    assert_eq!(setting(&s.db, IDLE).await, "1min");
    // What the URL says stands, and what it cuts off can be tried again.
    let url = format!("{}&options=-c%20statement_timeout%3D50", s.url);
    let db = Db::open(&url).await.unwrap();
    assert_eq!(setting(&db, STATEMENT).await, "50ms");
    let slow = db.all::<(String,)>("SELECT CAST(pg_sleep(20) AS TEXT)", args![]).await;
    let error = slow.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("busy"), "{error}");
    // A migration may take longer.
    db.migrate_with(&[super::FOUNDATION, SLEEPY], &super::clock()).await.unwrap();
}

const SLEEPY: Migration = Migration {
    version: 1,
    name: "sleepy",
    sqlite: "SELECT 1;",
    postgres: "SELECT pg_sleep(0.2);",
};
