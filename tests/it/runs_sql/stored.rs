//! What is stored and read one by one: runs, request keys, projects, what files tell.

use std::sync::Arc;

use adwd::clock::Millis;
use adwd::db::DbError;
use adwd::runs::RunStatus;
use adwd::runs::sql::{self, Prepared, RunRow, Told};
use tokio::sync::Barrier;

use super::{NOW, active, foreign, in_status, queued, ready, some, store, the, try_store};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    a_run_comes_back_as_it_went_in,
    an_id_and_a_number_are_given_once,
    an_issue_has_one_active_run_in_each_project,
    of_16_triggers_of_an_issue_one_is_stored,
    a_run_and_its_key_are_stored_together_or_not_at_all,
    a_request_key_is_spent_once,
    projects_are_listed_as_they_were_added,
    a_project_is_added_once_by_name_and_by_path,
    told_facts_replace_and_absent_ones_stay,
    the_first_worktree_told_stays,
    a_problem_of_the_state_file_is_set_kept_and_cleared,
    what_no_engine_can_store_is_replaced,
    preparing_records_the_worktree,
    a_prepared_run_begins_once_and_keeps_what_is_known_of_its_base,
    a_removed_worktree_is_recorded_once,
    a_foreign_run_is_described_anew_from_its_files,
    a_run_of_the_daemon_is_never_overwritten_as_foreign,
);

/// A run with something in every column.
fn full(adw_id: &str, seq: i64) -> RunRow {
    RunRow {
        model: some("opus"),
        skip_cleanup: true,
        stop_requested: true,
        request_id: some("rq-1"),
        user_id: some("émile; DROP TABLE runs; '\"\u{1f980}"),
        started_at: Some(11),
        ended_at: Some(12),
        retry_at: Some(13),
        issue_title: some("A title\nof two lines"),
        issue_class: some("/bug"),
        branch: some("bug-issue-1"),
        base_branch: some("main"),
        base_commit: some("abc"),
        worktree_path: some("/trees/r1"),
        worktree: some("present"),
        plan_file: some("specs/plan.md"),
        pr_url: some("https://forge/pr/1"),
        failure: some("{}"),
        run_usage: some("{\"total\":{}}"),
        cost_usd: Some(0.1),
        state: some("{\"adw_id\":\"r1\"}"),
        state_at: Some(i64::MAX),
        state_problem: some("torn"),
        budget_stop: some("{}"),
        ..queued(adw_id, seq)
    }
}

async fn a_run_comes_back_as_it_went_in(s: Scratch) {
    let s = ready(s).await;
    for row in [full("r1", 1), queued("r2", 2), foreign("r3", 3, RunStatus::Lost)] {
        store(&s.db, std::slice::from_ref(&row)).await;
        assert_eq!(the(&s.db, &row.adw_id).await, row);
    }
    assert!(sql::run(&s.db, "r4").await.unwrap().is_none());
    assert!(sql::run(&s.db, "R1").await.unwrap().is_none(), "ids differ by case");
}

async fn an_id_and_a_number_are_given_once(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[queued("r1", 1)]).await;
    let ended = in_status("r1", 2, RunStatus::Completed);
    let error = try_store(&s.db, &ended).await.unwrap_err();
    assert!(error.is_unique() && !error.is_transient(), "{error}");
    let error = try_store(&s.db, &queued("r2", 1)).await.unwrap_err();
    assert!(error.is_unique(), "{error}");
    assert!(sql::run(&s.db, "r2").await.unwrap().is_none());
    store(&s.db, &[queued("R1", 3)]).await;
    assert_eq!(the(&s.db, "r1").await, queued("r1", 1));
}

async fn an_issue_has_one_active_run_in_each_project(s: Scratch) {
    let s = ready(s).await;
    let of_issue_7 = |id: &str, seq| RunRow { issue_number: "7".into(), ..queued(id, seq) };
    store(&s.db, &[of_issue_7("r1", 1)]).await;
    // Also on another host: hosts that share a database share its issues.
    let second = RunRow { host: "there".into(), ..of_issue_7("r2", 2) };
    let error = try_store(&s.db, &second).await.unwrap_err();
    assert!(error.is_unique(), "{error}");
    assert!(error.constraint().is_some_and(|c| c.contains("issue")), "{error:?}");
    let elsewhere = RunRow { project: "web".into(), ..of_issue_7("r3", 3) };
    let over = RunRow { issue_number: "7".into(), ..in_status("r4", 4, RunStatus::Failed) };
    let theirs = RunRow { issue_number: "7".into(), ..foreign("r5", 5, RunStatus::Running) };
    store(&s.db, &[elsewhere, over, theirs]).await;

    let active = |project, issue| sql::active_run_of_issue(&s.db, project, issue);
    assert_eq!(active("app", "7").await.unwrap().unwrap().adw_id, "r1");
    assert_eq!(active("web", "7").await.unwrap().unwrap().adw_id, "r3");
    assert!(active("app", "8").await.unwrap().is_none());
    let newest = |project, issue| sql::newest_run_of_issue(&s.db, project, issue);
    assert_eq!(newest("app", "7").await.unwrap().unwrap().adw_id, "r5");
    assert!(newest("app", "8").await.unwrap().is_none());

    // The end of a run makes room for the next one.
    let (from, to) = (RunStatus::Queued, RunStatus::Cancelled);
    assert!(sql::finish(&s.db, "r1", from, to, None, NOW).await.unwrap());
    assert!(active("app", "7").await.unwrap().is_none());
    store(&s.db, &[of_issue_7("r6", 6)]).await;
    assert_eq!(active("app", "7").await.unwrap().unwrap().adw_id, "r6");
}

async fn of_16_triggers_of_an_issue_one_is_stored(s: Scratch) {
    let s = ready(s).await;
    let start = Arc::new(Barrier::new(16));
    let triggers = (1..=16).map(|n| {
        let (db, start) = (s.db.clone(), Arc::clone(&start));
        tokio::spawn(async move {
            start.wait().await;
            let mut tx = db.begin().await.unwrap();
            let seq = tx.next_counter("runs").await.unwrap();
            let row = RunRow { issue_number: "7".into(), ..queued(&format!("r{n}"), seq) };
            match sql::insert_run(&mut tx, &row).await {
                Ok(()) => tx.commit().await.map(|()| true).unwrap(),
                Err(error) => !error.is_unique(),
            }
        })
    });
    let mut stored = 0;
    for trigger in triggers.collect::<Vec<_>>() {
        stored += usize::from(trigger.await.unwrap());
    }
    assert_eq!(stored, 1);
    let here = active(&s.db, "here").await;
    assert_eq!(here.len(), 1);
    assert_eq!(the(&s.db, &here[0]).await.seq, 1, "those that lost give their number back");
}

async fn a_run_and_its_key_are_stored_together_or_not_at_all(s: Scratch) {
    let s = ready(s).await;
    let mut tx = s.db.begin().await.unwrap();
    sql::insert_run(&mut tx, &queued("r1", 1)).await.unwrap();
    sql::insert_request_key(&mut tx, "k", "tool", "d", "r1", NOW).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = s.db.begin().await.unwrap();
    sql::insert_run(&mut tx, &queued("r2", 2)).await.unwrap();
    let error = sql::insert_request_key(&mut tx, "k", "tool", "d", "r2", NOW).await.unwrap_err();
    assert!(error.is_unique(), "{error}");
    assert!(matches!(tx.commit().await, Err(DbError::Aborted { .. })));
    assert!(sql::run(&s.db, "r2").await.unwrap().is_none());
}

async fn a_request_key_is_spent_once(s: Scratch) {
    let s = ready(s).await;
    assert_eq!(sql::request_key(&s.db, "u\u{1f}k").await.unwrap(), None);
    for (key, run) in [("u\u{1f}k", "r1"), ("u\u{1f}K", "r2"), ("v\u{1f}k", "r3")] {
        let mut tx = s.db.begin().await.unwrap();
        sql::insert_request_key(&mut tx, key, "trigger", "digest", run, NOW).await.unwrap();
        tx.commit().await.unwrap();
        let stored = sql::request_key(&s.db, key).await.unwrap();
        assert_eq!(stored, Some(("trigger".into(), "digest".into(), run.into())));
    }
    let mut tx = s.db.begin().await.unwrap();
    let again = sql::insert_request_key(&mut tx, "u\u{1f}k", "other", "x", "r9", NOW).await;
    assert!(again.unwrap_err().is_unique());
    drop(tx);
    assert_eq!(sql::request_key(&s.db, "u\u{1f}k").await.unwrap().unwrap().2, "r1");
}

async fn projects_are_listed_as_they_were_added(s: Scratch) {
    let s = ready(s).await;
    for (name, host, at) in
        [("a", "here", 9), ("c", "here", 3), ("b", "here", 3), ("far", "there", 1)]
    {
        let path = format!("/src/{name}");
        sql::insert_project(&s.db, name, host, &path, Millis(at)).await.unwrap();
    }
    let names = |rows: Vec<(String, String)>| rows.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
    assert_eq!(names(sql::projects(&s.db, "here").await.unwrap()), ["b", "c", "a"]);
    let there = sql::projects(&s.db, "there").await.unwrap();
    assert_eq!(there, [("far".to_owned(), "/src/far".to_owned())]);

    assert!(!sql::delete_project(&s.db, "a", "there").await.unwrap(), "each host forgets its own");
    assert!(sql::delete_project(&s.db, "a", "here").await.unwrap());
    assert!(!sql::delete_project(&s.db, "a", "here").await.unwrap());
    assert_eq!(names(sql::projects(&s.db, "here").await.unwrap()), ["b", "c"]);
}

async fn a_project_is_added_once_by_name_and_by_path(s: Scratch) {
    let s = ready(s).await;
    sql::insert_project(&s.db, "a", "here", "/src/a", NOW).await.unwrap();
    let same_name = sql::insert_project(&s.db, "a", "here", "/src/b", NOW).await;
    assert!(same_name.unwrap_err().is_unique());
    let same_path = sql::insert_project(&s.db, "b", "here", "/src/a", NOW).await;
    assert!(same_path.unwrap_err().is_unique());
    // The path of another machine is another path.
    sql::insert_project(&s.db, "b", "there", "/src/a", NOW).await.unwrap();
    assert!(sql::delete_project(&s.db, "a", "here").await.unwrap());
    sql::insert_project(&s.db, "a", "here", "/src/a", NOW).await.unwrap();
}

async fn told_facts_replace_and_absent_ones_stay(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[queued("r1", 1), queued("r2", 2)]).await;
    let all = Told {
        issue_title: some("title"),
        issue_class: some("/bug"),
        branch: some("branch"),
        worktree_path: some("/trees/r1"),
        plan_file: some("plan.md"),
        pr_url: some("https://forge/pr/1"),
        usage: some("{}"),
        cost_usd: Some(0.25),
        state: some("{\"a\":1}"),
        state_at: Some(Millis(77)),
        state_problem: None,
    };
    sql::tell(&s.db, "r1", &all).await.unwrap();
    let expected = RunRow {
        revision: 2,
        issue_title: some("title"),
        issue_class: some("/bug"),
        branch: some("branch"),
        worktree_path: some("/trees/r1"),
        worktree: some("present"),
        plan_file: some("plan.md"),
        pr_url: some("https://forge/pr/1"),
        run_usage: some("{}"),
        cost_usd: Some(0.25),
        state: some("{\"a\":1}"),
        state_at: Some(77),
        ..queued("r1", 1)
    };
    assert_eq!(the(&s.db, "r1").await, expected);
    sql::tell(&s.db, "r1", &Told::default()).await.unwrap();
    assert_eq!(the(&s.db, "r1").await, RunRow { revision: 3, ..expected.clone() });
    let some_news = Told { branch: some("other"), cost_usd: Some(0.0), ..Told::default() };
    sql::tell(&s.db, "r1", &some_news).await.unwrap();
    let expected =
        RunRow { revision: 4, branch: some("other"), cost_usd: Some(0.0), ..expected.clone() };
    assert_eq!(the(&s.db, "r1").await, expected);
    assert_eq!(the(&s.db, "r2").await, queued("r2", 2), "others are not told");
    sql::tell(&s.db, "nobody", &all).await.unwrap();
}

async fn the_first_worktree_told_stays(s: Scratch) {
    let s = ready(s).await;
    let ended = RunRow { active: false, ..queued("r1", 1) };
    store(&s.db, &[ended, queued("r2", 2)]).await;
    let told = |path: &str| Told { worktree_path: some(path), ..Told::default() };
    sql::tell(&s.db, "r1", &told("/trees/first")).await.unwrap();
    sql::tell(&s.db, "r1", &told("/trees/second")).await.unwrap();
    let row = the(&s.db, "r1").await;
    assert_eq!(row.worktree_path.as_deref(), Some("/trees/first"));
    // A worktree that is gone does not come back because a file still names it.
    sql::worktree_removed(&s.db, "r1").await.unwrap();
    sql::tell(&s.db, "r1", &told("/trees/first")).await.unwrap();
    assert_eq!(the(&s.db, "r1").await.worktree.as_deref(), Some("removed"));
    // A run that goes on has made its worktree again in the meantime.
    sql::tell(&s.db, "r2", &told("/trees/third")).await.unwrap();
    sql::worktree_removed(&s.db, "r2").await.unwrap();
    assert_eq!(the(&s.db, "r2").await.worktree.as_deref(), Some("present"));
}

async fn a_problem_of_the_state_file_is_set_kept_and_cleared(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[queued("r1", 1)]).await;
    let problem = |text: Option<&str>| Told {
        state_problem: text.map(str::to_owned),
        branch: some("b"),
        ..Told::default()
    };
    for (told, expected) in [
        (Some(""), None),
        (Some("torn"), Some("torn")),
        (None, Some("torn")),
        (Some("empty"), Some("empty")),
        (Some(""), None),
        (None, None),
    ] {
        sql::tell(&s.db, "r1", &problem(told)).await.unwrap();
        assert_eq!(the(&s.db, "r1").await.state_problem.as_deref(), expected, "told {told:?}");
    }
}

/// PostgreSQL refuses the character NUL, and a state file may well hold one.
async fn what_no_engine_can_store_is_replaced(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[queued("r1", 1)]).await;
    let told = Told { issue_title: some("a\0b"), ..Told::default() };
    sql::tell(&s.db, "r1", &told).await.unwrap();
    assert_eq!(the(&s.db, "r1").await.issue_title.as_deref(), Some("a\u{fffd}b"));
    assert!(sql::run(&s.db, "r1\0").await.unwrap().is_none());
}

async fn preparing_records_the_worktree(s: Scratch) {
    let s = ready(s).await;
    let row = in_status("r1", 1, RunStatus::Starting);
    store(&s.db, std::slice::from_ref(&row)).await;
    let nothing = Prepared::default();
    assert!(sql::set_prepared(&s.db, "r1", &nothing).await.unwrap());
    assert_eq!(the(&s.db, "r1").await, RunRow { revision: 2, ..row.clone() });
    let made = Prepared {
        worktree_path: some("/trees/r1"),
        base_branch: some("main"),
        base_commit: some("abc"),
    };
    assert!(sql::set_prepared(&s.db, "r1", &made).await.unwrap());
    let expected = RunRow {
        revision: 3,
        worktree_path: some("/trees/r1"),
        worktree: some("present"),
        base_branch: some("main"),
        base_commit: some("abc"),
        ..row
    };
    assert_eq!(the(&s.db, "r1").await, expected);
    assert!(sql::set_prepared(&s.db, "r1", &nothing).await.unwrap());
    assert_eq!(the(&s.db, "r1").await, RunRow { revision: 4, ..expected });
    assert!(!sql::set_prepared(&s.db, "nobody", &made).await.unwrap());
}

async fn a_prepared_run_begins_once_and_keeps_what_is_known_of_its_base(s: Scratch) {
    let s = ready(s).await;
    let row = in_status("r1", 1, RunStatus::Starting);
    store(&s.db, &[row.clone(), in_status("r2", 2, RunStatus::Stopping)]).await;
    let known =
        Prepared { worktree_path: None, base_branch: some("main"), base_commit: some("abc") };
    assert!(sql::begin_running(&s.db, "r1", &known, NOW).await.unwrap());
    let expected = RunRow {
        status: "running".into(),
        revision: 2,
        started_at: row.started_at.or(Some(NOW.0)),
        base_branch: some("main"),
        base_commit: some("abc"),
        ..row
    };
    assert_eq!(the(&s.db, "r1").await, expected);
    for id in ["r1", "r2", "nobody"] {
        assert!(!sql::begin_running(&s.db, id, &known, NOW).await.unwrap(), "{id}");
    }
    assert_eq!(the(&s.db, "r1").await, expected);
}

async fn a_removed_worktree_is_recorded_once(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[in_status("r1", 1, RunStatus::Failed)]).await;
    sql::worktree_removed(&s.db, "r1").await.unwrap();
    assert_eq!(the(&s.db, "r1").await.worktree, None, "there was none");
    let made = Prepared { worktree_path: some("/trees/r1"), ..Prepared::default() };
    sql::set_prepared(&s.db, "r1", &made).await.unwrap();
    for _ in 0..2 {
        sql::worktree_removed(&s.db, "r1").await.unwrap();
        let row = the(&s.db, "r1").await;
        assert_eq!((row.worktree.as_deref(), row.revision), (Some("removed"), 3));
        assert_eq!(row.worktree_path.as_deref(), Some("/trees/r1"));
    }
    // A resumed run makes its worktree again.
    sql::set_prepared(&s.db, "r1", &made).await.unwrap();
    assert_eq!(the(&s.db, "r1").await.worktree.as_deref(), Some("present"));
}

async fn a_foreign_run_is_described_anew_from_its_files(s: Scratch) {
    let s = ready(s).await;
    let first = foreign("x1", 1, RunStatus::Running);
    store(&s.db, std::slice::from_ref(&first)).await;
    let seen = RunRow {
        status: "completed".into(),
        active: false,
        origin: "external".into(),
        issue_number: "9".into(),
        triggered_by: "cron".into(),
        phases: r#"["plan"]"#.into(),
        todo: r#"["plan"]"#.into(),
        ..full("x1", 1)
    };
    assert!(sql::update_external(&s.db, &seen).await.unwrap());
    let expected = RunRow {
        revision: 2,
        // Who has it and since when is known from the first look.
        stop_requested: first.stop_requested,
        skip_cleanup: first.skip_cleanup,
        request_id: first.request_id.clone(),
        user_id: first.user_id.clone(),
        started_at: first.started_at,
        retry_at: None,
        failure: None,
        budget_stop: None,
        ..seen.clone()
    };
    assert_eq!(the(&s.db, "x1").await, expected);
    // What the files do not say any more is gone.
    assert!(sql::update_external(&s.db, &first).await.unwrap());
    assert_eq!(the(&s.db, "x1").await, RunRow { revision: 3, ..first });
}

async fn a_run_of_the_daemon_is_never_overwritten_as_foreign(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[queued("r1", 1), in_status("r2", 2, RunStatus::Failed)]).await;
    for (id, seq) in [("r1", 1), ("r2", 2), ("r3", 3)] {
        let claim = foreign(id, seq, RunStatus::Completed);
        assert!(!sql::update_external(&s.db, &claim).await.unwrap());
    }
    assert_eq!(the(&s.db, "r1").await, queued("r1", 1));
    assert_eq!(the(&s.db, "r2").await, in_status("r2", 2, RunStatus::Failed));
    assert_eq!(active(&s.db, "here").await, ["r1"]);
}
