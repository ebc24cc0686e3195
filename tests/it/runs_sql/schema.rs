//! The tables of the runs slice come to a database that is already in use.

use adwd::args;
use adwd::clock::{Millis, TestClock};
use adwd::db::migrations::ALL;
use adwd::runs::sql;

use super::{queued, the};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    the_tables_come_to_a_database_that_counts_already,
    data_survives_the_start_of_the_same_program,
);

async fn the_tables_come_to_a_database_that_counts_already(s: Scratch) {
    let clock = TestClock::new(Millis(1));
    s.db.migrate_with(&ALL[..1], &clock).await.unwrap();
    let mut tx = s.db.begin().await.unwrap();
    for _ in 0..41 {
        tx.next_counter("runs").await.unwrap();
    }
    tx.commit().await.unwrap();
    let missing = sql::run(&s.db, "r1").await.unwrap_err();
    assert!(missing.to_string().contains("runs"), "{missing}");

    clock.set(Millis(2));
    s.db.migrate_with(ALL, &clock).await.unwrap();
    let mut tx = s.db.begin().await.unwrap();
    let seq = tx.next_counter("runs").await.unwrap();
    sql::insert_run(&mut tx, &queued("r1", seq)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(the(&s.db, "r1").await.seq, 42, "what was counted before still counts");
    let applied: Vec<(i64, i64)> =
        s.db.all("SELECT version, applied_at FROM schema_migrations ORDER BY version", args![])
            .await
            .unwrap();
    assert_eq!(applied[0], (0, 1), "the first is not applied again");
    assert!(applied[1..].iter().all(|(_, at)| *at == 2), "{applied:?}");
    assert_eq!(applied.len(), ALL.len());
}

async fn data_survives_the_start_of_the_same_program(s: Scratch) {
    let s = super::ready(s).await;
    super::store(&s.db, &[queued("r1", 1)]).await;
    let s = super::ready(s).await;
    assert_eq!(the(&s.db, "r1").await, queued("r1", 1));
}
