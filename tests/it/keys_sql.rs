//! Every statement about keys and bad credentials, on both engines.

use adwd::auth::store::{self, KeyRow};
use adwd::clock::{Millis, TestClock};
use adwd::db::migrations::ALL;
use adwd::limits::{
    ACCESS_FAILURE_WINDOW_MS, ACCESS_FAILURES_COUNT, ACCESS_FORGIVE_MS, ACCESS_KEEP_MS,
    ACCESS_TOUCH_MS,
};

use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    the_migration_applies_to_a_database_that_holds_data,
    a_key_is_stored_once_and_read_back_whole,
    keys_are_listed_newest_first,
    a_key_is_revoked_once,
    a_rotation_wins_only_over_what_it_saw,
    the_use_of_a_key_is_written_once_a_minute,
    a_key_is_forgotten_long_after_its_end,
    only_good_keys_are_counted,
    the_first_pepper_stays,
    ten_failures_in_a_minute_shut_an_address_out,
    failures_that_are_far_apart_do_not,
    a_quiet_hour_begins_anew,
    thirty_two_failures_at_once_are_one_block,
    addresses_are_forgotten_when_they_are_quiet,
);

const NOW: Millis = Millis(1_795_000_000_000);

async fn migrated(s: &Scratch) {
    s.db.migrate(&TestClock::new(NOW)).await.unwrap();
}

fn key(id: &str) -> KeyRow {
    KeyRow {
        id: id.to_owned(),
        name: "dashboard".to_owned(),
        tier: "team".to_owned(),
        projects: Some("[\"shop\"]".to_owned()),
        hourly_tenths: Some(50),
        day_budget_usd: Some(2.5),
        secret_hash: "h1".to_owned(),
        old_hash: None,
        old_until: None,
        created_at: NOW,
        created_by: "uid:1000".to_owned(),
        expires_at: Some(NOW.plus_ms(1_000)),
        rotated_at: None,
        revoked_at: None,
        revoked_by: None,
        last_used_at: None,
    }
}

async fn read(s: &Scratch, id: &str) -> KeyRow {
    store::key(&s.db, id).await.unwrap().unwrap()
}

async fn the_migration_applies_to_a_database_that_holds_data(s: Scratch) {
    let clock = TestClock::new(NOW);
    s.db.migrate_with(&ALL[..5], &clock).await.unwrap();
    let project = "INSERT INTO projects (name, host, path, added_at) VALUES ('a', 'h', '/a', 1)";
    s.db.exec(project, vec![]).await.unwrap();
    s.db.migrate(&clock).await.unwrap();
    let (count,): (i64,) =
        s.db.one("SELECT CAST(COUNT(*) AS BIGINT) FROM projects", vec![]).await.unwrap();
    assert_eq!(count, 1);
    assert!(store::insert_key(&s.db, &key("a")).await.unwrap());
}

async fn a_key_is_stored_once_and_read_back_whole(s: Scratch) {
    migrated(&s).await;
    assert!(store::insert_key(&s.db, &key("a")).await.unwrap());
    assert!(!store::insert_key(&s.db, &KeyRow { name: "x".into(), ..key("a") }).await.unwrap());
    assert_eq!(read(&s, "a").await, key("a"));
    let bare = KeyRow {
        projects: None,
        hourly_tenths: None,
        day_budget_usd: None,
        expires_at: None,
        ..key("b")
    };
    assert!(store::insert_key(&s.db, &bare).await.unwrap());
    assert_eq!(read(&s, "b").await, bare);
    assert_eq!(store::key(&s.db, "c").await.unwrap(), None);
    let odd = KeyRow { tier: "owner".to_owned(), ..key("d") };
    assert!(store::insert_key(&s.db, &odd).await.is_err(), "no key is the owner");
}

async fn keys_are_listed_newest_first(s: Scratch) {
    migrated(&s).await;
    for (id, at) in [("a", 1), ("c", 3), ("b", 3), ("d", 2)] {
        let row = KeyRow { created_at: Millis(at), ..key(id) };
        store::insert_key(&s.db, &row).await.unwrap();
    }
    let ids: Vec<String> =
        store::keys(&s.db).await.unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(ids, ["b", "c", "d", "a"]);
}

async fn a_key_is_revoked_once(s: Scratch) {
    migrated(&s).await;
    store::insert_key(&s.db, &key("a")).await.unwrap();
    store::rotate(&s.db, &key("a"), "h2", Some(NOW.plus_ms(9)), NOW).await.unwrap();
    assert!(store::revoke(&s.db, "a", "uid:1", NOW).await.unwrap());
    assert!(!store::revoke(&s.db, "a", "uid:2", NOW.plus_ms(1)).await.unwrap());
    assert!(!store::revoke(&s.db, "b", "uid:1", NOW).await.unwrap());
    let row = read(&s, "a").await;
    assert_eq!((row.revoked_at, row.revoked_by.as_deref()), (Some(NOW), Some("uid:1")));
    assert_eq!((row.old_hash, row.old_until), (None, None), "the secret before ends with it");
}

async fn a_rotation_wins_only_over_what_it_saw(s: Scratch) {
    migrated(&s).await;
    store::insert_key(&s.db, &key("a")).await.unwrap();
    let seen = read(&s, "a").await;
    let until = NOW.plus_ms(5_000);
    assert!(store::rotate(&s.db, &seen, "h2", Some(until), NOW).await.unwrap());
    assert!(!store::rotate(&s.db, &seen, "h3", None, NOW).await.unwrap(), "it was changed since");
    let row = read(&s, "a").await;
    assert_eq!((row.secret_hash.as_str(), row.old_hash.as_deref()), ("h2", Some("h1")));
    assert_eq!((row.old_until, row.rotated_at), (Some(until), Some(NOW)));
    assert!(store::rotate(&s.db, &row, "h3", None, NOW).await.unwrap());
    let row = read(&s, "a").await;
    assert_eq!((row.old_hash, row.old_until), (None, None));
    store::revoke(&s.db, "a", "x", NOW).await.unwrap();
    let row = read(&s, "a").await;
    assert!(!store::rotate(&s.db, &row, "h4", None, NOW).await.unwrap());
}

async fn the_use_of_a_key_is_written_once_a_minute(s: Scratch) {
    migrated(&s).await;
    store::insert_key(&s.db, &key("a")).await.unwrap();
    assert!(store::touch(&s.db, "a", NOW).await.unwrap());
    assert!(!store::touch(&s.db, "a", NOW.plus_ms(ACCESS_TOUCH_MS - 1)).await.unwrap());
    assert_eq!(read(&s, "a").await.last_used_at, Some(NOW));
    assert!(store::touch(&s.db, "a", NOW.plus_ms(ACCESS_TOUCH_MS)).await.unwrap());
    assert!(!store::touch(&s.db, "b", NOW).await.unwrap());
}

async fn a_key_is_forgotten_long_after_its_end(s: Scratch) {
    migrated(&s).await;
    let long_ago = NOW.plus_ms(-ACCESS_KEEP_MS - 1);
    store::insert_key(&s.db, &KeyRow { expires_at: None, ..key("good") }).await.unwrap();
    store::insert_key(&s.db, &KeyRow { expires_at: Some(NOW), ..key("new") }).await.unwrap();
    store::insert_key(&s.db, &KeyRow { expires_at: Some(long_ago), ..key("old") }).await.unwrap();
    store::insert_key(&s.db, &KeyRow { expires_at: None, ..key("revoked") }).await.unwrap();
    store::revoke(&s.db, "revoked", "x", long_ago).await.unwrap();
    assert_eq!(store::forget_keys(&s.db, NOW).await.unwrap(), 2);
    let mut ids: Vec<String> =
        store::keys(&s.db).await.unwrap().into_iter().map(|row| row.id).collect();
    ids.sort();
    assert_eq!(ids, ["good", "new"]);
}

async fn only_good_keys_are_counted(s: Scratch) {
    migrated(&s).await;
    assert_eq!(store::count_good(&s.db, NOW).await.unwrap(), 0);
    for (id, end) in [("a", None), ("b", Some(NOW)), ("c", Some(NOW.plus_ms(1))), ("d", None)] {
        store::insert_key(&s.db, &KeyRow { expires_at: end, ..key(id) }).await.unwrap();
    }
    store::revoke(&s.db, "d", "x", NOW).await.unwrap();
    assert_eq!(store::count_good(&s.db, NOW).await.unwrap(), 2);
}

async fn the_first_pepper_stays(s: Scratch) {
    migrated(&s).await;
    assert_eq!(store::pepper(&s.db).await.unwrap(), None);
    store::insert_pepper(&s.db, "one", NOW).await.unwrap();
    store::insert_pepper(&s.db, "two", NOW).await.unwrap();
    assert_eq!(store::pepper(&s.db).await.unwrap().as_deref(), Some("one"));
}

/// So many failures at that moment; the answer to the last.
async fn fail(s: &Scratch, times: i64, now: Millis) -> Option<Millis> {
    let mut last = None;
    for _ in 0..times {
        last = store::failed(&s.db, "192.0.2.7", now).await.unwrap();
    }
    last
}

async fn ten_failures_in_a_minute_shut_an_address_out(s: Scratch) {
    migrated(&s).await;
    let blocked = async |now| store::blocked_until(&s.db, "192.0.2.7", now).await.unwrap();
    assert_eq!(fail(&s, ACCESS_FAILURES_COUNT - 1, NOW).await, None);
    assert_eq!(blocked(NOW).await, None);
    let mut now = NOW;
    for seconds in [30, 60, 120, 240, 480, 900, 900] {
        let needed = if seconds == 30 { 1 } else { ACCESS_FAILURES_COUNT };
        let until = now.plus_ms(seconds * 1_000);
        assert_eq!(fail(&s, needed, now).await, Some(until), "{seconds}");
        assert_eq!(blocked(until.plus_ms(-1)).await, Some(until));
        assert_eq!(blocked(until).await, None);
        now = until.plus_ms(1);
    }
    assert_eq!(store::blocked_until(&s.db, "192.0.2.8", NOW).await.unwrap(), None);
}

async fn failures_that_are_far_apart_do_not(s: Scratch) {
    migrated(&s).await;
    for n in 0..3 * ACCESS_FAILURES_COUNT {
        let at = NOW.plus_ms(n * ACCESS_FAILURE_WINDOW_MS / (ACCESS_FAILURES_COUNT - 1));
        assert_eq!(fail(&s, 1, at).await, None, "{n}");
    }
}

async fn a_quiet_hour_begins_anew(s: Scratch) {
    migrated(&s).await;
    let first = fail(&s, ACCESS_FAILURES_COUNT, NOW).await.unwrap();
    let second = fail(&s, ACCESS_FAILURES_COUNT, first).await.unwrap();
    assert_eq!(second.since_ms(first), 60_000);
    let later = second.plus_ms(ACCESS_FORGIVE_MS + 1);
    let third = fail(&s, ACCESS_FAILURES_COUNT, later).await.unwrap();
    assert_eq!(third.since_ms(later), 30_000);
}

async fn thirty_two_failures_at_once_are_one_block(s: Scratch) {
    migrated(&s).await;
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let db = s.db.clone();
            tokio::spawn(async move { store::failed(&db, "192.0.2.7", NOW).await.unwrap() })
        })
        .collect();
    let mut blocked = 0;
    for task in tasks {
        if let Some(until) = task.await.unwrap() {
            assert_eq!(until.since_ms(NOW), 30_000, "nobody doubled it");
            blocked += 1;
        }
    }
    assert_eq!(blocked, 32 - ACCESS_FAILURES_COUNT + 1);
}

async fn addresses_are_forgotten_when_they_are_quiet(s: Scratch) {
    migrated(&s).await;
    store::failed(&s.db, "192.0.2.1", NOW.plus_ms(-ACCESS_FORGIVE_MS - 1)).await.unwrap();
    store::failed(&s.db, "192.0.2.2", NOW).await.unwrap();
    assert_eq!(store::forget_addresses(&s.db, NOW).await.unwrap(), 1);
    let left: Vec<(String,)> =
        s.db.all("SELECT address FROM access_failures", vec![]).await.unwrap();
    assert_eq!(left, [("192.0.2.2".to_owned(),)]);
}
