//! Attempts: recorded before anything is spawned, in their order, ended once.

use adwd::clock::Millis;
use adwd::db::Db;
use adwd::runs::RunStatus::{self, Completed, Failed, Running, Starting, Stopping};
use adwd::runs::sql::{self, AttemptEnd, AttemptRow, RunRow};

use super::{NOW, failure, in_status, queued, ready, some, store, the};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    an_attempt_is_recorded_as_starting,
    an_attempt_begins_only_in_a_run_that_runs,
    an_attempt_is_recorded_once,
    attempts_come_in_the_order_they_were_made,
    the_attempts_of_a_page_are_those_of_its_active_runs,
    a_clock_set_back_does_not_make_an_old_attempt_the_last,
    an_attempt_runs_only_from_starting,
    an_attempt_ends_once,
    an_attempt_can_end_before_it_runs,
    every_change_of_an_attempt_is_a_change_of_its_run,
);

async fn begin(db: &Db, phase: &str, attempt: i64, at: i64) -> bool {
    let dir = format!("/agents/r1/{phase}-{attempt}");
    sql::begin_attempt(db, "r1", phase, attempt, &dir, Millis(at)).await.unwrap()
}

/// A running run `r1`.
async fn running(s: Scratch) -> Scratch {
    let s = ready(s).await;
    store(&s.db, &[in_status("r1", 1, Running)]).await;
    s
}

/// The only attempt of `r1`.
async fn only(db: &Db) -> AttemptRow {
    let mut all = sql::attempts(db, "r1").await.unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn started(phase: &str, attempt: i64, at: i64) -> AttemptRow {
    AttemptRow {
        adw_id: "r1".to_owned(),
        phase: phase.to_owned(),
        attempt,
        status: "starting".to_owned(),
        dir: format!("/agents/r1/{phase}-{attempt}"),
        started_at: at,
        ended_at: None,
        exit_code: None,
        exit_signal: None,
        failure: None,
        head_commit: None,
    }
}

fn end(status: RunStatus) -> AttemptEnd {
    AttemptEnd {
        status,
        exit_code: Some(1),
        exit_signal: Some(9),
        failure: Some(failure("why")),
        head_commit: some("abc"),
    }
}

async fn an_attempt_is_recorded_as_starting(s: Scratch) {
    let s = running(s).await;
    sql::set_retry_at(&s.db, "r1", NOW).await.unwrap();
    assert!(sql::attempts(&s.db, "r1").await.unwrap().is_empty());
    assert!(begin(&s.db, "plan", 1, 7).await);
    assert_eq!(only(&s.db).await, started("plan", 1, 7));
    let run = the(&s.db, "r1").await;
    assert_eq!(run, RunRow { revision: 3, ..in_status("r1", 1, Running) }, "no retry is due");
    assert!(sql::attempts(&s.db, "r2").await.unwrap().is_empty());
}

async fn an_attempt_begins_only_in_a_run_that_runs(s: Scratch) {
    let s = ready(s).await;
    let asked = RunRow { stop_requested: true, ..in_status("asked", 100, Running) };
    let others = RunStatus::ALL.into_iter().filter(|status| *status != Running);
    let mut rows: Vec<RunRow> =
        (1..).zip(others).map(|(n, status)| in_status(&format!("r{n}"), n, status)).collect();
    rows.push(asked);
    store(&s.db, &rows).await;
    for row in &rows {
        let begun = sql::begin_attempt(&s.db, &row.adw_id, "plan", 1, "/d", NOW).await.unwrap();
        assert!(!begun, "{} {}", row.adw_id, row.status);
        assert_eq!(&the(&s.db, &row.adw_id).await, row);
        assert!(sql::attempts(&s.db, &row.adw_id).await.unwrap().is_empty());
    }
    assert!(!sql::begin_attempt(&s.db, "nobody", "plan", 1, "/d", NOW).await.unwrap());
}

async fn an_attempt_is_recorded_once(s: Scratch) {
    let s = running(s).await;
    assert!(begin(&s.db, "plan", 1, 7).await);
    let before = the(&s.db, "r1").await;
    let error = sql::begin_attempt(&s.db, "r1", "plan", 1, "/other", NOW).await.unwrap_err();
    assert!(error.is_unique(), "{error}");
    assert_eq!(only(&s.db).await, started("plan", 1, 7));
    assert_eq!(the(&s.db, "r1").await, before, "nothing is half done");
    assert!(begin(&s.db, "plan", 2, 8).await);
    assert!(begin(&s.db, "build", 1, 9).await);
}

async fn order(db: &Db) -> Vec<(String, i64)> {
    let all = sql::attempts(db, "r1").await.unwrap();
    all.into_iter().map(|a| (a.phase, a.attempt)).collect()
}

fn expected(order: &[(&str, i64)]) -> Vec<(String, i64)> {
    order.iter().map(|(phase, attempt)| ((*phase).to_owned(), *attempt)).collect()
}

async fn the_attempts_of_a_page_are_those_of_its_active_runs(s: Scratch) {
    let s = ready(s).await;
    let rows: Vec<RunRow> = (1..=5).map(|n| in_status(&format!("r{n}"), n, Running)).collect();
    store(&s.db, &rows).await;
    for row in &rows {
        for (phase, attempt, at) in [("plan", 1, 10), ("plan", 2, 5), ("build", 1, 20)] {
            let dir = format!("/agents/{}/{phase}-{attempt}", row.adw_id);
            let begun =
                sql::begin_attempt(&s.db, &row.adw_id, phase, attempt, &dir, Millis(at)).await;
            assert!(begun.unwrap());
        }
    }
    sql::finish(&s.db, "r3", Running, Completed, None, Millis(30)).await.unwrap();
    let page = sql::attempts_of_active(&s.db, 2..=4).await.unwrap();
    let of =
        |id: &str| -> Vec<AttemptRow> { page.iter().filter(|a| a.adw_id == id).cloned().collect() };
    for id in ["r2", "r4"] {
        assert_eq!(of(id), sql::attempts(&s.db, id).await.unwrap());
    }
    assert_eq!(page.len(), 6, "none of the ended one, none beyond the range");
}

async fn attempts_come_in_the_order_they_were_made(s: Scratch) {
    let s = running(s).await;
    store(&s.db, &[RunRow { issue_number: "2".into(), ..in_status("r2", 2, Running) }]).await;
    let made = [("plan", 1), ("plan", 2), ("build", 1), ("review", 1), ("build", 2), ("plan", 3)];
    for (at, (phase, attempt)) in (10..).zip(made) {
        assert!(begin(&s.db, phase, attempt, at).await);
        assert!(
            sql::begin_attempt(&s.db, "r2", phase, attempt, "/d", Millis(50 - at)).await.unwrap()
        );
    }
    assert_eq!(order(&s.db).await, expected(&made));
    // More than nine of a phase within one millisecond.
    for attempt in 3..=12 {
        assert!(begin(&s.db, "build", attempt, 99).await);
    }
    let tail: Vec<i64> = order(&s.db).await[6..].iter().map(|(_, attempt)| *attempt).collect();
    assert_eq!(tail, (3..=12).collect::<Vec<_>>());
}

async fn a_clock_set_back_does_not_make_an_old_attempt_the_last(s: Scratch) {
    let s = running(s).await;
    let made = [("plan", 1, 1_000), ("build", 1, 2_000), ("build", 2, 500), ("build", 3, 600)];
    for (phase, attempt, at) in made {
        assert!(begin(&s.db, phase, attempt, at).await);
    }
    let made = [("plan", 1), ("build", 1), ("build", 2), ("build", 3)];
    assert_eq!(order(&s.db).await, expected(&made));
}

async fn an_attempt_runs_only_from_starting(s: Scratch) {
    let s = running(s).await;
    begin(&s.db, "plan", 1, 7).await;
    begin(&s.db, "plan", 2, 8).await;
    let attempt = started("plan", 1, 7);
    sql::attempt_running(&s.db, &attempt).await.unwrap();
    let stored = |db: Db| async move { sql::attempts(&db, "r1").await.unwrap() };
    let now = AttemptRow { status: "running".into(), ..attempt.clone() };
    assert_eq!(stored(s.db.clone()).await, [now, started("plan", 2, 8)]);
    assert!(sql::end_attempt(&s.db, &attempt, &end(Completed), NOW).await.unwrap());
    let before = stored(s.db.clone()).await;
    sql::attempt_running(&s.db, &attempt).await.unwrap();
    assert_eq!(stored(s.db.clone()).await, before, "what has ended does not run");
    let never = AttemptRow { attempt: 9, ..attempt };
    sql::attempt_running(&s.db, &never).await.unwrap();
    assert_eq!(stored(s.db.clone()).await, before);
}

async fn an_attempt_ends_once(s: Scratch) {
    let s = running(s).await;
    begin(&s.db, "plan", 1, 7).await;
    let attempt = only(&s.db).await;
    sql::attempt_running(&s.db, &attempt).await.unwrap();
    assert!(sql::end_attempt(&s.db, &attempt, &end(Failed), NOW).await.unwrap());
    let ended = only(&s.db).await;
    assert_eq!(ended.failure(), Some(failure("why")));
    let expected = AttemptRow {
        status: "failed".into(),
        ended_at: Some(NOW.0),
        exit_code: Some(1),
        exit_signal: Some(9),
        failure: ended.failure.clone(),
        head_commit: some("abc"),
        ..attempt.clone()
    };
    assert_eq!(ended, expected);
    let other = AttemptEnd { exit_code: None, exit_signal: None, failure: None, ..end(Completed) };
    assert!(!sql::end_attempt(&s.db, &attempt, &other, Millis(9_999)).await.unwrap());
    assert_eq!(only(&s.db).await, expected);
    let never = AttemptRow { attempt: 9, ..attempt };
    assert!(!sql::end_attempt(&s.db, &never, &other, NOW).await.unwrap());
}

/// A stop while nothing is spawned yet, and an end in a run that is stopping.
async fn an_attempt_can_end_before_it_runs(s: Scratch) {
    let s = running(s).await;
    begin(&s.db, "plan", 1, 7).await;
    sql::request_stop(&s.db, "r1", &failure("x"), NOW).await.unwrap();
    let attempt = only(&s.db).await;
    assert!(sql::end_attempt(&s.db, &attempt, &end(RunStatus::Cancelled), NOW).await.unwrap());
    assert_eq!(only(&s.db).await.status(), RunStatus::Cancelled);
    assert_eq!(the(&s.db, "r1").await.status(), Stopping);
}

async fn every_change_of_an_attempt_is_a_change_of_its_run(s: Scratch) {
    let s = running(s).await;
    store(&s.db, &[queued("r2", 2), in_status("r3", 3, Starting)]).await;
    let mut last = the(&s.db, "r1").await.revision;
    let mut grew = async |what: &str, grows: bool| {
        let now = the(&s.db, "r1").await.revision;
        assert_eq!(now > last, grows, "{what}: {last} and then {now}");
        last = now;
    };
    begin(&s.db, "plan", 1, 7).await;
    grew("begun", true).await;
    let attempt = only(&s.db).await;
    sql::attempt_running(&s.db, &attempt).await.unwrap();
    grew("runs", true).await;
    sql::attempt_running(&s.db, &attempt).await.unwrap();
    grew("runs already", false).await;
    sql::end_attempt(&s.db, &attempt, &end(Failed), NOW).await.unwrap();
    grew("ended", true).await;
    sql::end_attempt(&s.db, &attempt, &end(Failed), NOW).await.unwrap();
    grew("ended already", false).await;
    assert_eq!((the(&s.db, "r2").await.revision, the(&s.db, "r3").await.revision), (1, 1));
}
