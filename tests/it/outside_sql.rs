//! Every statement on the outside, on both engines.

use adwd::args;
use adwd::clock::{Millis, TestClock};
use adwd::db::migrations::ALL;
use adwd::outside::sql::{self, NoticeRow};

use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    a_delivery_is_known_by_its_id_and_by_its_body,
    a_schedule_begins_now_and_again_where_it_is_changed,
    an_end_is_told_once_to_each_hook,
    a_notice_is_attempted_by_one_and_ends_once,
    the_tables_come_to_a_database_that_holds_runs,
);

async fn ready(s: Scratch) -> Scratch {
    s.db.migrate(&TestClock::new(Millis(0))).await.expect("migrates");
    s
}

async fn a_delivery_is_known_by_its_id_and_by_its_body(s: Scratch) {
    let s = ready(s).await;
    let take = async |host: &str, id: &str, digest: &str| {
        sql::take_delivery(&s.db, host, id, "issues", digest, Millis(5)).await.unwrap()
    };
    let first = take("here", "d1", "aa").await;
    assert_eq!((first.delivery.as_str(), first.status), ("d1", None));
    assert_eq!(take("here", "d1", "aa").await, first, "cut, and handled again");
    assert!(sql::answer_delivery(&s.db, "here", "d1", 202, "{}").await.unwrap());
    assert!(!sql::answer_delivery(&s.db, "here", "d1", 500, "no").await.unwrap(), "one answer");
    let again = take("here", "d1", "aa").await;
    assert_eq!((again.status, again.answer.as_deref()), (Some(202), Some("{}")));
    assert_eq!(take("here", "d2", "aa").await, again, "the same body");
    assert_eq!(take("here", "d1", "bb").await.digest, "aa", "the id under another body");
    assert_eq!(take("there", "d1", "aa").await.status, None, "another daemon's");
    assert_eq!(sql::prune(&s.db, Millis(5)).await.unwrap(), 0);
    assert_eq!(sql::prune(&s.db, Millis(6)).await.unwrap(), 2);
    assert_eq!(take("here", "d1", "aa").await.status, None, "forgotten");
}

async fn a_schedule_begins_now_and_again_where_it_is_changed(s: Scratch) {
    let s = ready(s).await;
    let begin = async |spec: &str, now: i64| {
        sql::begin_schedule(&s.db, "here", "n", spec, Millis(now)).await.unwrap().handled_at.0
    };
    assert_eq!(begin("a UTC", 10).await, 10);
    assert_eq!(begin("a UTC", 20).await, 10, "a restart moves nothing");
    let fired = Some((Millis(15), "#1: run x"));
    let moved = async |from: i64, fired| {
        sql::move_schedule(&s.db, "here", "n", Millis(from), Millis(15), fired).await.unwrap()
    };
    assert!(moved(10, fired).await);
    assert!(!moved(10, fired).await, "somebody was first");
    assert!(moved(15, None).await);
    let rows = sql::schedules(&s.db, "here").await.unwrap();
    assert_eq!((rows[0].fired_at, rows[0].fired.as_deref()), (Some(Millis(15)), Some("#1: run x")));
    assert_eq!(begin("b UTC", 30).await, 30);
    sql::end_schedule(&s.db, "here", "n").await.unwrap();
    assert!(sql::schedules(&s.db, "here").await.unwrap().is_empty());
}

/// A run that has ended, or not (`None`).
async fn run(s: &Scratch, id: &str, seq: i64, host: &str, origin: &str, ended_at: Option<i64>) {
    let columns = "INSERT INTO runs (adw_id, seq, project, issue_number, host, origin, profile, status, \
        active, stop_requested, revision, priority, phases, todo, floors, digest, skip_cleanup, \
        triggered_by, transport, created_at, queued_at, ended_at) \
        VALUES ($1, $2, 'app', $1, $3, $4, 'adwd', 'failed', $5, FALSE, 1, 0, '[]', '[]', '{}', 'd', \
        FALSE, 'mcp', 'unix', 1, 1, $6)";
    let args = args![id, seq, host, origin, ended_at.is_none(), ended_at];
    s.db.exec(columns, args).await.unwrap();
}

fn notice(id: &str, hook: &str, adw_id: &str, ended_at: i64) -> NoticeRow {
    NoticeRow {
        id: id.to_owned(),
        hook: hook.to_owned(),
        adw_id: adw_id.to_owned(),
        run_ended_at: ended_at,
        event: "failed".to_owned(),
        state: "pending".to_owned(),
        body: "{}".to_owned(),
        attempts: 0,
        next_at: 100,
        created_at: 100,
        ended_at: None,
        last_status: None,
        last_error: None,
    }
}

async fn an_end_is_told_once_to_each_hook(s: Scratch) {
    let s = ready(s).await;
    run(&s, "old", 1, "here", "daemon", Some(9)).await;
    run(&s, "a", 2, "here", "daemon", Some(20)).await;
    run(&s, "b", 3, "here", "daemon", Some(10)).await;
    run(&s, "active", 4, "here", "daemon", None).await;
    run(&s, "foreign", 5, "here", "external", Some(30)).await;
    run(&s, "theirs", 6, "there", "daemon", Some(30)).await;
    assert_eq!(sql::begin_hook(&s.db, "here", "ops", Millis(10)).await.unwrap(), Millis(10));
    assert_eq!(sql::begin_hook(&s.db, "here", "ops", Millis(50)).await.unwrap(), Millis(10));
    let untold = async |hook: &str| {
        let rows = sql::untold(&s.db, "here", hook, Millis(10), 10).await.unwrap();
        rows.into_iter().map(|row| row.adw_id).collect::<Vec<_>>()
    };
    assert_eq!(untold("ops").await, ["b", "a"]);
    assert!(sql::insert_notice(&s.db, "here", &notice("m1", "ops", "a", 20)).await.unwrap());
    assert!(!sql::insert_notice(&s.db, "here", &notice("m2", "ops", "a", 20)).await.unwrap());
    assert_eq!(untold("ops").await, ["b"]);
    assert_eq!(untold("chat").await, ["b", "a"], "to each hook");
    s.db.exec("UPDATE runs SET ended_at = 40 WHERE adw_id = 'a'", args![]).await.unwrap();
    assert_eq!(untold("ops").await, ["b", "a"], "it was resumed, and ended again");
    assert_eq!(sql::hook_names(&s.db, "here").await.unwrap(), ["ops"]);
    sql::end_hook(&s.db, "here", "ops", Millis(60)).await.unwrap();
    assert!(sql::hook_names(&s.db, "here").await.unwrap().is_empty());
    let dead = sql::notices(&s.db, "here", "dead", 10).await.unwrap();
    assert_eq!(dead[0].last_error.as_deref(), Some("the hook is no longer configured"));
}

async fn a_notice_is_attempted_by_one_and_ends_once(s: Scratch) {
    let s = ready(s).await;
    assert!(sql::insert_notice(&s.db, "here", &notice("m1", "ops", "a", 20)).await.unwrap());
    let due = async |now: i64| {
        let rows = sql::due_notices(&s.db, "here", "ops", Millis(now), 10).await.unwrap();
        rows.len()
    };
    assert_eq!((due(99).await, due(100).await), (0, 1));
    assert!(sql::begin_attempt(&s.db, "m1", 0, Millis(200)).await.unwrap());
    assert!(!sql::begin_attempt(&s.db, "m1", 0, Millis(200)).await.unwrap(), "somebody was first");
    assert_eq!((due(199).await, due(200).await), (0, 1), "killed now, it comes again");
    let end = async |state: &str, status: Option<u16>, error: Option<&str>| {
        sql::end_attempt(&s.db, "m1", state, Millis(300), Millis(210), (status, error))
            .await
            .unwrap()
    };
    assert!(end("pending", Some(503), Some("HTTP 503")).await);
    let row = sql::notice(&s.db, "here", "m1").await.unwrap().unwrap();
    assert_eq!((row.attempts, row.next_at, row.ended_at), (1, 300, None));
    assert_eq!((row.last_status, row.last_error.as_deref()), (Some(503), Some("HTTP 503")));
    assert!(end("dead", None, Some("gone")).await);
    assert!(!end("delivered", Some(200), None).await, "it ends once");
    assert!(!sql::begin_attempt(&s.db, "m1", 1, Millis(1)).await.unwrap());
    assert!(!sql::retry_notice(&s.db, "there", "m1", Millis(400)).await.unwrap());
    assert!(sql::retry_notice(&s.db, "here", "m1", Millis(400)).await.unwrap());
    assert!(!sql::retry_notice(&s.db, "here", "m1", Millis(400)).await.unwrap());
    assert_eq!((due(399).await, due(400).await), (0, 1));
    assert!(end("delivered", Some(204), None).await);
    let counts = sql::notice_counts(&s.db, "here").await.unwrap();
    assert_eq!(counts, [("ops".to_owned(), "delivered".to_owned(), 1)]);
    let kept = notice("m2", "ops", "b", 20);
    assert!(sql::insert_notice(&s.db, "here", &kept).await.unwrap());
    assert_eq!(sql::prune(&s.db, Millis(101)).await.unwrap(), 1, "what is pending stays");
    assert!(sql::notice(&s.db, "here", "m2").await.unwrap().is_some());
}

async fn the_tables_come_to_a_database_that_holds_runs(s: Scratch) {
    let clock = TestClock::new(Millis(1));
    let at = ALL.iter().position(|migration| migration.name == "outside").unwrap();
    s.db.migrate_with(&ALL[..at], &clock).await.unwrap();
    run(&s, "r1", 1, "here", "daemon", Some(5)).await;
    s.db.migrate(&clock).await.unwrap();
    let rows = sql::untold(&s.db, "here", "ops", Millis(0), 10).await.unwrap();
    assert_eq!(rows.len(), 1, "what ended before is there: since when a hook is decides");
}
