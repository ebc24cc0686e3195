//! How a stored run changes its status: each move names where it comes from, so that of two
//! writers one wins and the other learns it.

use std::sync::Arc;

use adwd::clock::Millis;
use adwd::db::{Db, DbError};
use adwd::runs::RunStatus::{
    self, Cancelled, Completed, Failed, Lost, Queued, Running, Skipped, Starting, Stopping,
    TimedOut,
};
use adwd::runs::sql::{self, Requeue, RunRow, Told};
use tokio::sync::Barrier;

use super::{NOW, failure, foreign, in_status, queued, ready, some, store, the};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    a_run_moves_only_from_the_status_named,
    the_first_start_is_the_start,
    of_two_movers_one_wins,
    of_a_start_and_a_cancel_exactly_one_happens,
    of_an_end_and_a_stop_exactly_one_happens,
    an_end_is_stored_once_with_its_reason,
    a_stop_ends_a_queued_run_at_once,
    a_stop_asks_a_started_run_to_stop,
    a_stop_leaves_ended_and_foreign_runs_alone,
    a_worktree_that_is_gone_may_be_made_again_in_the_next_life,
    an_ended_run_is_queued_again_with_a_clean_slate,
    only_the_daemons_own_ended_runs_are_queued_again,
    of_two_resumes_one_wins,
    a_resume_loses_to_another_active_run,
    the_next_retry_is_recorded_when_it_changes,
);

async fn a_run_moves_only_from_the_status_named(s: Scratch) {
    let s = ready(s).await;
    let steps = [(Queued, Starting), (Starting, Running), (Running, Stopping)];
    for (number, status) in (1..).zip(RunStatus::ALL) {
        let id = format!("r{number}");
        let row = in_status(&id, number, status);
        store(&s.db, std::slice::from_ref(&row)).await;
        for (from, to) in steps.into_iter().filter(|(from, _)| *from != status) {
            assert!(!sql::move_status(&s.db, &id, from, to, NOW).await.unwrap());
        }
        assert_eq!(the(&s.db, &id).await, row, "{status} stays");
        for (from, to) in steps.into_iter().filter(|(from, _)| *from == status) {
            assert!(sql::move_status(&s.db, &id, from, to, NOW).await.unwrap());
            let moved = the(&s.db, &id).await;
            assert_eq!((moved.status(), moved.active, moved.revision), (to, true, 2));
        }
    }
    assert!(!sql::move_status(&s.db, "nobody", Queued, Starting, NOW).await.unwrap());
}

async fn the_first_start_is_the_start(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[queued("r1", 1)]).await;
    for (from, to, at) in [(Queued, Starting, 10), (Starting, Running, 20)] {
        assert!(sql::move_status(&s.db, "r1", from, to, Millis(at)).await.unwrap());
        assert_eq!(the(&s.db, "r1").await.started_at, Some(10));
    }
}

/// Runs both at once, `second` through its own connections; answers what they answered.
async fn at_once<A, B, F, G>(s: &Scratch, first: A, second: B) -> (F::Output, G::Output)
where
    A: FnOnce(Db) -> F,
    B: FnOnce(Db) -> G,
    F: Future<Output: Send + 'static> + Send + 'static,
    G: Future<Output: Send + 'static> + Send + 'static,
{
    let start = Arc::new(Barrier::new(2));
    let other = Db::open(&s.url).await.unwrap();
    let (first, second) = (first(s.db.clone()), second(other));
    let wait = Arc::clone(&start);
    let first = tokio::spawn(async move {
        wait.wait().await;
        first.await
    });
    let second = tokio::spawn(async move {
        start.wait().await;
        second.await
    });
    (first.await.unwrap(), second.await.unwrap())
}

async fn of_two_movers_one_wins(s: Scratch) {
    let s = ready(s).await;
    for n in 1..=8 {
        store(&s.db, &[queued(&format!("r{n}"), n)]).await;
        let mover = move |at| {
            move |db: Db| async move {
                sql::move_status(&db, &format!("r{n}"), Queued, Starting, Millis(at)).await.unwrap()
            }
        };
        let (first, second) = at_once(&s, mover(10), mover(20)).await;
        assert!(first != second, "one wins and the other learns it");
        let row = the(&s.db, &format!("r{n}")).await;
        assert_eq!((row.started_at, row.revision), (Some(if first { 10 } else { 20 }), 2));
    }
}

async fn of_a_start_and_a_cancel_exactly_one_happens(s: Scratch) {
    let s = ready(s).await;
    for n in 1..=8 {
        store(&s.db, &[queued(&format!("r{n}"), n)]).await;
        let start = move |db: Db| async move {
            sql::move_status(&db, &format!("r{n}"), Queued, Starting, NOW).await.unwrap()
        };
        let cancel = move |db: Db| async move {
            sql::request_stop(&db, &format!("r{n}"), &failure("x"), NOW).await.unwrap();
        };
        let (started, ()) = at_once(&s, start, cancel).await;
        let row = the(&s.db, &format!("r{n}")).await;
        let expected = if started { (Stopping, true) } else { (Cancelled, false) };
        assert_eq!((row.status(), row.active), expected);
        assert!(row.stop_requested, "whichever was first, the stop is not lost");
    }
}

async fn of_an_end_and_a_stop_exactly_one_happens(s: Scratch) {
    let s = ready(s).await;
    for n in 1..=8 {
        store(&s.db, &[in_status(&format!("r{n}"), n, Running)]).await;
        let end = move |db: Db| async move {
            sql::finish(&db, &format!("r{n}"), Running, Completed, None, NOW).await.unwrap()
        };
        let stop = move |db: Db| async move {
            sql::request_stop(&db, &format!("r{n}"), &failure("x"), NOW).await.unwrap();
        };
        let (ended, ()) = at_once(&s, end, stop).await;
        let row = the(&s.db, &format!("r{n}")).await;
        let expected = if ended { (Completed, false, false) } else { (Stopping, true, true) };
        assert_eq!((row.status(), row.active, row.stop_requested), expected);
    }
}

async fn an_end_is_stored_once_with_its_reason(s: Scratch) {
    let s = ready(s).await;
    let ends = [
        (Queued, Cancelled),
        (Starting, Failed),
        (Running, Completed),
        (Running, Failed),
        (Running, Skipped),
        (Running, TimedOut),
        (Running, Lost),
        (Stopping, Cancelled),
    ];
    for (n, (from, to)) in (1..).zip(ends) {
        let id = format!("r{n}");
        let row = in_status(&id, n, from);
        store(&s.db, std::slice::from_ref(&row)).await;
        sql::set_retry_at(&s.db, &id, Millis(99)).await.unwrap();
        let why = (to != Completed).then(|| failure("why"));
        assert!(sql::finish(&s.db, &id, from, to, why.as_ref(), NOW).await.unwrap());
        let ended = the(&s.db, &id).await;
        assert_eq!(ended.failure(), why);
        let expected = RunRow {
            status: to.as_str().to_owned(),
            active: false,
            revision: 3,
            ended_at: Some(NOW.0),
            failure: ended.failure.clone(),
            retry_at: None,
            ..row
        };
        assert_eq!(ended, expected);
        let again = sql::finish(&s.db, &id, from, to, Some(&failure("other")), Millis(9_999)).await;
        assert!(!again.unwrap(), "{to} is the end");
        assert_eq!(the(&s.db, &id).await, expected);
    }
    assert!(!sql::finish(&s.db, "nobody", Running, Lost, None, NOW).await.unwrap());
}

async fn a_stop_ends_a_queued_run_at_once(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[queued("r1", 1), queued("r2", 2)]).await;
    let reason = failure("cancelled by owner before it began");
    sql::request_stop(&s.db, "r1", &reason, NOW).await.unwrap();
    let row = the(&s.db, "r1").await;
    assert_eq!(row.failure(), Some(reason));
    let expected = RunRow {
        status: "cancelled".into(),
        active: false,
        stop_requested: true,
        revision: 2,
        ended_at: Some(NOW.0),
        failure: row.failure.clone(),
        ..queued("r1", 1)
    };
    assert_eq!(row, expected);
    assert_eq!(the(&s.db, "r2").await, queued("r2", 2), "others go on");
    sql::request_stop(&s.db, "nobody", &failure("x"), NOW).await.unwrap();
}

async fn a_stop_asks_a_started_run_to_stop(s: Scratch) {
    let s = ready(s).await;
    for (n, status) in [(1, Starting), (2, Running)] {
        let id = format!("r{n}");
        store(&s.db, &[in_status(&id, n, status)]).await;
        let expected = RunRow { revision: 2, ..in_status(&id, n, Stopping) };
        for _ in 0..2 {
            sql::request_stop(&s.db, &id, &failure("x"), NOW).await.unwrap();
            assert_eq!(the(&s.db, &id).await, expected, "asking again changes nothing");
        }
    }
}

async fn a_stop_leaves_ended_and_foreign_runs_alone(s: Scratch) {
    let s = ready(s).await;
    let ended = RunStatus::ALL.into_iter().filter(|status| status.is_terminal());
    for (n, status) in (1..).zip(ended) {
        let row = in_status(&format!("r{n}"), n, status);
        store(&s.db, std::slice::from_ref(&row)).await;
        sql::request_stop(&s.db, &row.adw_id, &failure("x"), NOW).await.unwrap();
        assert_eq!(the(&s.db, &row.adw_id).await, row);
    }
    let theirs = foreign("x1", 100, Running);
    store(&s.db, std::slice::from_ref(&theirs)).await;
    sql::request_stop(&s.db, "x1", &failure("x"), NOW).await.unwrap();
    assert_eq!(the(&s.db, "x1").await, theirs);
}

fn plan(model: Option<&str>) -> Requeue {
    Requeue {
        phases: r#"["plan","build","review"]"#.to_owned(),
        todo: r#"["review"]"#.to_owned(),
        floors: r#"{"review":2}"#.to_owned(),
        model: model.map(str::to_owned),
    }
}

async fn requeue(db: &Db, id: &str, from: RunStatus, plan: &Requeue) -> Result<bool, DbError> {
    let mut tx = db.begin().await?;
    let moved = sql::requeue(&mut tx, id, from, plan, NOW).await?;
    tx.commit().await?;
    Ok(moved)
}

/// A script that makes its own worktree makes it again; what is told of it then must count, or
/// nobody would ever take it away.
async fn a_worktree_that_is_gone_may_be_made_again_in_the_next_life(s: Scratch) {
    let s = ready(s).await;
    let tree = some("/trees/r1");
    let ended = |id: &str, seq, worktree: &str| RunRow {
        worktree_path: tree.clone(),
        worktree: some(worktree),
        ..in_status(id, seq, Failed)
    };
    store(&s.db, &[ended("r1", 1, "removed"), ended("r2", 2, "present")]).await;
    for (id, before) in [("r1", None), ("r2", Some("present"))] {
        assert!(requeue(&s.db, id, Failed, &plan(None)).await.unwrap());
        assert_eq!(the(&s.db, id).await.worktree.as_deref(), before);
        let told = Told { worktree_path: tree.clone(), ..Told::default() };
        sql::tell(&s.db, id, &told).await.unwrap();
        assert_eq!(the(&s.db, id).await.worktree.as_deref(), Some("present"));
    }
}

async fn an_ended_run_is_queued_again_with_a_clean_slate(s: Scratch) {
    let s = ready(s).await;
    let ended = RunRow {
        stop_requested: true,
        failure: some("{}"),
        retry_at: Some(9),
        started_at: Some(8),
        model: some("opus"),
        ..in_status("r1", 1, Cancelled)
    };
    store(&s.db, std::slice::from_ref(&ended)).await;
    assert!(requeue(&s.db, "r1", Cancelled, &plan(None)).await.unwrap());
    let expected = RunRow {
        status: "queued".into(),
        active: true,
        stop_requested: false,
        revision: 2,
        phases: plan(None).phases,
        todo: plan(None).todo,
        floors: plan(None).floors,
        queued_at: NOW.0,
        ended_at: None,
        failure: None,
        retry_at: None,
        ..ended
    };
    assert_eq!(the(&s.db, "r1").await, expected);
    assert_eq!(expected.facts(&[]).floors["review"], 2);

    assert!(sql::finish(&s.db, "r1", Queued, Cancelled, None, NOW).await.unwrap());
    assert!(requeue(&s.db, "r1", Cancelled, &plan(Some("haiku"))).await.unwrap());
    assert_eq!(the(&s.db, "r1").await.model.as_deref(), Some("haiku"));
}

async fn only_the_daemons_own_ended_runs_are_queued_again(s: Scratch) {
    let s = ready(s).await;
    let rows = [in_status("r1", 1, Failed), foreign("x1", 2, Failed), queued("r2", 3)];
    store(&s.db, &rows).await;
    assert!(!requeue(&s.db, "r1", Cancelled, &plan(None)).await.unwrap());
    assert!(!requeue(&s.db, "x1", Failed, &plan(None)).await.unwrap());
    assert!(!requeue(&s.db, "r2", Failed, &plan(None)).await.unwrap());
    assert!(!requeue(&s.db, "nobody", Failed, &plan(None)).await.unwrap());
    for row in &rows {
        assert_eq!(&the(&s.db, &row.adw_id).await, row);
    }
}

async fn of_two_resumes_one_wins(s: Scratch) {
    let s = ready(s).await;
    for n in 1..=8 {
        store(&s.db, &[in_status(&format!("r{n}"), n, Failed)]).await;
        let resume = move |model: &'static str| {
            move |db: Db| async move {
                requeue(&db, &format!("r{n}"), Failed, &plan(Some(model))).await.unwrap()
            }
        };
        let (first, second) = at_once(&s, resume("first"), resume("second")).await;
        assert!(first != second, "one wins and the other learns it");
        let winner = if first { "first" } else { "second" };
        let row = the(&s.db, &format!("r{n}")).await;
        assert_eq!((row.model.as_deref(), row.revision), (Some(winner), 2));
    }
}

async fn a_resume_loses_to_another_active_run(s: Scratch) {
    let s = ready(s).await;
    let newer = RunRow { issue_number: "1".into(), ..queued("r2", 2) };
    store(&s.db, &[in_status("r1", 1, Failed), newer]).await;
    let error = requeue(&s.db, "r1", Failed, &plan(None)).await.unwrap_err();
    assert!(error.is_unique(), "{error}");
    assert_eq!(the(&s.db, "r1").await, in_status("r1", 1, Failed));
    assert!(sql::finish(&s.db, "r2", Queued, Cancelled, None, NOW).await.unwrap());
    assert!(requeue(&s.db, "r1", Failed, &plan(None)).await.unwrap());
}

async fn the_next_retry_is_recorded_when_it_changes(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[in_status("r1", 1, Running)]).await;
    for (at, revision) in [(50, 2), (50, 2), (60, 3), (40, 4), (40, 4)] {
        sql::set_retry_at(&s.db, "r1", Millis(at)).await.unwrap();
        let row = the(&s.db, "r1").await;
        assert_eq!((row.retry_at, row.revision), (Some(at), revision));
    }
}
