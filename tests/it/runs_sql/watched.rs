//! What those who watch the daemon ask: figures of what is active, and lives that ended.

use adwd::clock::{Millis, TestClock};
use adwd::db::migrations::ALL;
use adwd::runs::RunStatus::{self, Completed, Failed, Queued, Running};
use adwd::runs::sql::{self, Requeue, RunRow};
use adwd::runs::{sql_figures, sql_lives};

use super::{NOW, failure, foreign, in_status, queued, ready, store, the};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    active_runs_are_counted_by_status,
    live_attempts_are_counted_by_phase,
    a_requeue_keeps_the_life_before,
    a_requeue_that_loses_keeps_nothing,
    ended_runs_are_told_once_and_only_by_their_host,
    earlier_lives_are_told_too,
    old_marks_are_forgotten,
    runs_from_before_the_tables_are_told_too,
);

async fn active_runs_are_counted_by_status(s: Scratch) {
    let s = ready(s).await;
    assert_eq!(sql_figures::active(&s.db, "here").await.unwrap(), []);
    let elsewhere = RunRow { host: "there".to_owned(), ..queued("r5", 5) };
    store(
        &s.db,
        &[
            queued("r1", 1),
            queued("r2", 2),
            in_status("r3", 3, Running),
            in_status("r4", 4, Completed),
            elsewhere,
        ],
    )
    .await;
    let counted = sql_figures::active(&s.db, "here").await.unwrap();
    let expected = [("queued".to_owned(), 2, 1_001), ("running".to_owned(), 1, 1_003)];
    assert_eq!(counted, expected);
    assert_eq!(sql_figures::waited_s(1_001, Millis(3_501)), 2.5);
    assert_eq!(sql_figures::waited_s(1_001, Millis(0)), 0.0, "the clock was set back");
}

async fn live_attempts_are_counted_by_phase(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[in_status("r1", 1, Running), in_status("r2", 2, Running)]).await;
    for (id, phase) in [("r1", "plan"), ("r1", "build"), ("r2", "build")] {
        assert!(sql::begin_attempt(&s.db, id, phase, 1, "/d", NOW).await.unwrap());
    }
    let all = sql::attempts(&s.db, "r1").await.unwrap();
    let plan = all.iter().find(|a| a.phase == "plan").unwrap();
    let end = sql::AttemptEnd {
        status: Completed,
        exit_code: Some(0),
        exit_signal: None,
        failure: None,
        head_commit: None,
    };
    assert!(sql::end_attempt(&s.db, plan, &end, NOW).await.unwrap());
    let counted = sql_figures::attempts(&s.db, "here").await.unwrap();
    assert_eq!(counted, [("build".to_owned(), 2)]);
    assert_eq!(sql_figures::attempts(&s.db, "there").await.unwrap(), []);
}

fn again() -> Requeue {
    Requeue {
        phases: r#"["plan","build"]"#.to_owned(),
        todo: r#"["build"]"#.to_owned(),
        floors: r#"{"build":1}"#.to_owned(),
        model: None,
    }
}

async fn requeue(s: &Scratch, id: &str, from: RunStatus) -> bool {
    let mut tx = s.db.begin().await.unwrap();
    let moved = sql::requeue(&mut tx, id, from, &again(), NOW).await.unwrap();
    tx.commit().await.unwrap();
    moved
}

async fn a_requeue_keeps_the_life_before(s: Scratch) {
    let s = ready(s).await;
    let why = serde_json::to_string(&failure("it broke")).unwrap();
    let usage = r#"{"total":{}}"#.to_owned();
    let row = RunRow {
        failure: Some(why.clone()),
        run_usage: Some(usage.clone()),
        ..in_status("r1", 1, Failed)
    };
    store(&s.db, &[row]).await;
    assert!(requeue(&s, "r1", Failed).await);
    let lives = sql_lives::lives(&s.db, "r1").await.unwrap();
    assert_eq!(lives.len(), 1);
    let life = &lives[0];
    assert_eq!((life.queued_at, life.ended_at, life.status.as_str()), (1_001, 2_000, "failed"));
    assert_eq!((life.failure.as_ref(), life.run_usage.as_ref()), (Some(&why), Some(&usage)));
    assert_eq!((life.todo.as_str(), life.floors.as_str()), (r#"["plan","build"]"#, "{}"));
    assert_eq!(the(&s.db, "r1").await.queued_at, NOW.0);
}

async fn a_requeue_that_loses_keeps_nothing(s: Scratch) {
    let s = ready(s).await;
    let rows = [in_status("r1", 1, Running), foreign("r2", 2, Failed)];
    store(&s.db, &rows).await;
    for (id, from) in [("r1", Failed), ("r1", Running), ("r2", Failed), ("nobody", Failed)] {
        // A running run is no ended one: its row moves, and nothing of it is over.
        requeue(&s, id, from).await;
        assert_eq!(sql_lives::lives(&s.db, id).await.unwrap(), [], "{id} from {from}");
    }
}

async fn untraced(s: &Scratch, host: &str, since: i64) -> Vec<String> {
    let rows = sql_lives::untraced_runs(&s.db, host, Millis(since), 10).await.unwrap();
    rows.into_iter().map(|row| row.adw_id).collect()
}

async fn ended_runs_are_told_once_and_only_by_their_host(s: Scratch) {
    let s = ready(s).await;
    let ended = |id: &str, seq, at| RunRow { ended_at: Some(at), ..in_status(id, seq, Completed) };
    let elsewhere = RunRow { host: "there".to_owned(), ..ended("r4", 4, 2_000) };
    store(
        &s.db,
        &[
            ended("r1", 1, 3_000),
            ended("r2", 2, 2_000),
            in_status("r3", 3, Queued),
            elsewhere,
            foreign("r5", 5, Completed),
            ended("r6", 6, 100),
        ],
    )
    .await;
    assert_eq!(untraced(&s, "here", 1_000).await, ["r2", "r1"], "the first to end first");
    let mark = async |id, queued_at| {
        sql_lives::mark_traced(&s.db, id, queued_at, "sent", NOW).await.unwrap()
    };
    assert!(mark("r2", 1_002).await);
    assert!(!mark("r2", 1_002).await, "once");
    assert!(mark("r1", 7).await, "another life than the one that ended");
    assert_eq!(untraced(&s, "here", 1_000).await, ["r1"]);
    assert_eq!(untraced(&s, "there", 1_000).await, ["r4"]);
    let one = sql_lives::untraced_runs(&s.db, "here", Millis(0), 1).await.unwrap();
    assert_eq!(one[0].adw_id, "r6", "a page");
}

async fn earlier_lives_are_told_too(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[in_status("r1", 1, Failed)]).await;
    assert!(requeue(&s, "r1", Failed).await);
    let lives = async |host, since| {
        sql_lives::untraced_lives(&s.db, host, Millis(since), 10).await.unwrap()
    };
    assert_eq!(lives("here", 0).await, [("r1".to_owned(), 1_001)]);
    assert_eq!(lives("there", 0).await, []);
    assert_eq!(lives("here", 2_001).await, []);
    assert_eq!(untraced(&s, "here", 0).await, Vec::<String>::new(), "the new life goes on");
    sql_lives::mark_traced(&s.db, "r1", 1_001, "refused", NOW).await.unwrap();
    assert_eq!(lives("here", 0).await, []);
}

async fn old_marks_are_forgotten(s: Scratch) {
    let s = ready(s).await;
    for (id, at) in [("r1", 10), ("r2", 20)] {
        sql_lives::mark_traced(&s.db, id, 1, "sent", Millis(at)).await.unwrap();
    }
    assert_eq!(sql_lives::forget_traced(&s.db, Millis(20)).await.unwrap(), 1);
    assert_eq!(sql_lives::forget_traced(&s.db, Millis(20)).await.unwrap(), 0);
}

async fn runs_from_before_the_tables_are_told_too(s: Scratch) {
    let clock = TestClock::new(Millis(0));
    let before = ALL.iter().position(|migration| migration.name == "traces").unwrap();
    s.db.migrate_with(&ALL[..before], &clock).await.unwrap();
    store(&s.db, &[in_status("r1", 1, Failed)]).await;
    s.db.migrate_with(ALL, &clock).await.unwrap();
    assert_eq!(untraced(&s, "here", 0).await, ["r1"]);
    assert!(requeue(&s, "r1", Failed).await);
    assert_eq!(sql_lives::lives(&s.db, "r1").await.unwrap().len(), 1);
}
