//! What was spent: stored once, summed, told by run, project, user and day.

use std::collections::{BTreeMap, BTreeSet};

use adwd::clock::Millis;
use adwd::db::Db;
use adwd::runs::RunStatus::{Completed, Queued, Running, Starting, Stopping};
use adwd::runs::spend::Spent;
use adwd::runs::sql::{self, Requeue, RunRow};
use adwd::runs::sql_spending::{
    self, GroupBy, SpendingFilter, SpendingKey, carry, not_carried, projects_text, record, spent,
    stop_for_budget,
};
use proptest::strategy::{Strategy as _, ValueTree as _};

use super::{NOW, failure, foreign, in_status, queued, ready, some, store, the};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    a_look_that_is_stored_twice_counts_once,
    of_8_looks_at_once_the_sum_is_the_largest,
    what_was_spent_is_kept_by_attempt_and_day,
    budgets_are_held_against_run_project_user_and_day,
    a_stop_for_a_budget_is_stored_once_and_forgotten_by_a_resume,
    a_table_has_a_line_for_each_of_what_was_asked_for,
    who_asks_sees_its_own_and_its_projects,
    what_runs_spent_before_is_carried_over_once,
);

fn key(adw_id: &str, phase: &str, attempt: i64, day: &str) -> SpendingKey {
    SpendingKey { adw_id: adw_id.into(), phase: phase.into(), attempt, day: day.into() }
}

fn usd(usd_micro: i64) -> Spent {
    Spent { agent_calls: 1, input_tokens: usd_micro / 10, usd_micro, ..Spent::default() }
}

async fn run_of(db: &Db, id: &str, seq: i64, project: &str, user: &str) {
    let row =
        RunRow { project: project.to_owned(), user_id: some(user), ..in_status(id, seq, Running) };
    store(db, &[row]).await;
}

async fn sum(db: &Db) -> i64 {
    let filter = SpendingFilter { everything: true, ..SpendingFilter::default() };
    sql_spending::spending_sum(db, &filter).await.unwrap().usd_micro
}

async fn a_look_that_is_stored_twice_counts_once(s: Scratch) {
    let s = ready(s).await;
    run_of(&s.db, "r1", 1, "app", "key:a").await;
    let plan = key("r1", "plan", 1, "2026-01-01");
    for seen in [100, 100, 250, 250] {
        let (total, _) = record(&s.db, &plan, &usd(seen), NOW).await.unwrap();
        assert_eq!(total, usd(seen));
    }
    let run = the(&s.db, "r1").await;
    assert_eq!(run.cost_usd, Some(0.000_25));
    let usage: serde_json::Value = serde_json::from_str(&run.run_usage.unwrap()).unwrap();
    assert_eq!(usage["plan"]["input_tokens"], 25);
    assert_eq!(usage["plan"], usage["total"]);
    let error = record(&s.db, &key("r9", "plan", 1, "d"), &usd(1), NOW).await.unwrap_err();
    assert!(matches!(error, adwd::db::DbError::NotFound { .. }), "{error}");
}

async fn of_8_looks_at_once_the_sum_is_the_largest(s: Scratch) {
    let s = ready(s).await;
    run_of(&s.db, "r1", 1, "app", "key:a").await;
    let looks = (1..=8).map(|n| {
        let db = s.db.clone();
        tokio::spawn(async move {
            record(&db, &key("r1", "plan", 1, "2026-01-01"), &usd(n * 100), NOW).await.unwrap();
        })
    });
    for look in looks.collect::<Vec<_>>() {
        look.await.unwrap();
    }
    assert_eq!(sum(&s.db).await, 800);
}

async fn what_was_spent_is_kept_by_attempt_and_day(s: Scratch) {
    let s = ready(s).await;
    run_of(&s.db, "r1", 1, "app", "key:a").await;
    for (phase, attempt, day, seen) in [
        ("plan", 1, "2026-01-01", 100),
        ("plan", 2, "2026-01-01", 150),
        ("plan", 2, "2026-01-02", 400),
        ("build", 1, "2026-01-02", 1_000),
    ] {
        record(&s.db, &key("r1", phase, attempt, day), &usd(seen), NOW).await.unwrap();
    }
    let sums = async |day: &str| spent(&s.db, "r1", "app", "key:a", day).await.unwrap();
    assert_eq!(sums("2026-01-01").await.day.usd_micro, 150);
    assert_eq!(sums("2026-01-02").await.day.usd_micro, 850);
    assert_eq!(sums("2026-01-03").await.run.usd_micro, 1_000);
    let usage = the(&s.db, "r1").await.run_usage.unwrap();
    let usage: serde_json::Value = serde_json::from_str(&usage).unwrap();
    assert_eq!(usage["plan"]["cost_usd"], 0.0004);
    assert_eq!(usage["build"]["cost_usd"], 0.0006);
}

async fn budgets_are_held_against_run_project_user_and_day(s: Scratch) {
    let s = ready(s).await;
    let day = "2026-01-01";
    for (id, seq, project, user, micro) in [
        ("r1", 1, "app", "key:a", 1),
        ("r2", 2, "app", "key:b", 20),
        ("r3", 3, "web", "key:a", 300),
        ("r4", 4, "web", "key:b", 4_000),
    ] {
        run_of(&s.db, id, seq, project, user).await;
        let seen = Spent { cache_read_tokens: 99, cache_creation_tokens: micro, ..usd(micro) };
        record(&s.db, &key(id, "plan", 1, day), &seen, NOW).await.unwrap();
    }
    let sums = spent(&s.db, "r1", "app", "key:a", day).await.unwrap();
    let micros = [sums.run, sums.project, sums.user, sums.day].map(|s| s.usd_micro);
    assert_eq!(micros, [1, 21, 301, 4_321]);
    assert_eq!(sums.project.tokens(), 21 + 2, "written to the cache counts, read from it does not");
    let none = spent(&s.db, "", "other", "", "2026-01-02").await.unwrap();
    assert_eq!(none, sql_spending::SpentSums::default());
}

async fn a_stop_for_a_budget_is_stored_once_and_forgotten_by_a_resume(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[in_status("r1", 1, Running), in_status("r2", 2, Starting)]).await;
    store(&s.db, &[queued("r3", 3), in_status("r4", 4, Stopping), in_status("r5", 5, Completed)])
        .await;
    for (id, stops) in [("r1", true), ("r2", true), ("r3", false), ("r4", false), ("r5", false)] {
        let before = the(&s.db, id).await;
        assert_eq!(stop_for_budget(&s.db, id, &failure("spent")).await.unwrap(), stops, "{id}");
        let run = the(&s.db, id).await;
        if stops {
            assert_eq!((run.status(), run.stop_requested), (Stopping, true));
            assert_eq!(run.budget_stop().unwrap().message, "spent");
        } else {
            assert_eq!(run, before);
        }
    }
    assert!(!stop_for_budget(&s.db, "r1", &failure("again")).await.unwrap(), "the first wins");
    assert!(
        sql::finish(&s.db, "r1", Stopping, adwd::runs::RunStatus::Failed, None, NOW).await.unwrap()
    );
    let mut tx = s.db.begin().await.unwrap();
    let plan = Requeue { phases: "[]".into(), todo: "[]".into(), floors: "{}".into(), model: None };
    assert!(sql::requeue(&mut tx, "r1", adwd::runs::RunStatus::Failed, &plan, NOW).await.unwrap());
    tx.commit().await.unwrap();
    let run = the(&s.db, "r1").await;
    assert_eq!((run.status(), run.budget_stop, run.stop_requested), (Queued, None, false));
}

/// Four runs of two projects and two users over two days.
async fn history(s: Scratch) -> Scratch {
    let s = ready(s).await;
    for (id, seq, project, user, day, micro) in [
        ("r1", 1, "app", "key:a", "2026-01-01", 500),
        ("r2", 2, "app", "key:b", "2026-01-02", 300),
        ("r3", 3, "a", "key:a", "2026-01-02", 300),
        ("r4", 4, "pp", "key:b", "2026-01-03", 40),
    ] {
        run_of(&s.db, id, seq, project, user).await;
        record(&s.db, &key(id, "plan", 1, day), &usd(micro), NOW).await.unwrap();
    }
    s
}

async fn lines(db: &Db, by: GroupBy, filter: &SpendingFilter) -> Vec<(String, i64)> {
    let rows = sql_spending::spending(db, by, filter, None, 100).await.unwrap();
    rows.into_iter().map(|row| (row.name, row.usd_micro)).collect()
}

fn named(lines: &[(&str, i64)]) -> Vec<(String, i64)> {
    lines.iter().map(|(name, micro)| ((*name).to_owned(), *micro)).collect()
}

async fn a_table_has_a_line_for_each_of_what_was_asked_for(s: Scratch) {
    let s = history(s).await;
    let all = SpendingFilter { everything: true, ..SpendingFilter::default() };
    let by = async |by| lines(&s.db, by, &all).await;
    assert_eq!(by(GroupBy::Run).await, named(&[("r1", 500), ("r2", 300), ("r3", 300), ("r4", 40)]));
    assert_eq!(by(GroupBy::Project).await, named(&[("app", 800), ("a", 300), ("pp", 40)]));
    assert_eq!(by(GroupBy::User).await, named(&[("key:a", 800), ("key:b", 340)]));
    let days = named(&[("2026-01-03", 40), ("2026-01-02", 600), ("2026-01-01", 500)]);
    assert_eq!(by(GroupBy::Day).await, days);
    let some_days = SpendingFilter {
        since: some("2026-01-02"),
        until: some("2026-01-02"),
        user: some("key:a"),
        ..all.clone()
    };
    assert_eq!(lines(&s.db, GroupBy::Run, &some_days).await, named(&[("r3", 300)]));
    let of_one = SpendingFilter { adw_id: some("r2"), project: some("app"), ..all.clone() };
    assert_eq!(lines(&s.db, GroupBy::Day, &of_one).await, named(&[("2026-01-02", 300)]));
    // Page by page everything comes once, equal amounts too.
    for by in [GroupBy::Run, GroupBy::Project, GroupBy::User, GroupBy::Day] {
        let (mut seen, mut after) = (vec![], None);
        while let [row] = &sql_spending::spending(&s.db, by, &all, after, 1).await.unwrap()[..] {
            seen.push((row.name.clone(), row.usd_micro));
            after = Some((row.usd_micro, row.name.clone()));
        }
        assert_eq!(seen, lines(&s.db, by, &all).await, "{by:?}");
    }
    let total = sql_spending::spending_sum(&s.db, &all).await.unwrap();
    assert_eq!((total.usd_micro, total.runs, total.last_day.as_str()), (1_140, 4, "2026-01-03"));
    let nothing = SpendingFilter { adw_id: some("none"), ..all };
    assert_eq!(sql_spending::spending_sum(&s.db, &nothing).await.unwrap().usd_micro, 0);
}

async fn who_asks_sees_its_own_and_its_projects(s: Scratch) {
    let s = history(s).await;
    let seen = async |viewer: &str, projects: &[&str]| {
        let projects: BTreeSet<String> = projects.iter().map(|p| (*p).to_owned()).collect();
        let filter = SpendingFilter {
            viewer: viewer.into(),
            projects: projects_text(projects.iter()),
            ..SpendingFilter::default()
        };
        lines(&s.db, GroupBy::Run, &filter).await.into_iter().map(|l| l.0).collect::<Vec<_>>()
    };
    assert_eq!(seen("key:a", &[]).await, ["r1", "r3"]);
    assert_eq!(seen("key:c", &["a"]).await, ["r3"], "a name is not part of another");
    assert_eq!(seen("key:c", &["a", "pp"]).await, ["r3", "r4"]);
    assert_eq!(seen("key:c", &["APP", "a_p", "%"]).await, Vec::<String>::new());
    assert_eq!(seen("key:c", &[]).await, Vec::<String>::new());
}

async fn what_runs_spent_before_is_carried_over_once(s: Scratch) {
    let s = ready(s).await;
    let used = |row: RunRow| RunRow { run_usage: some("{}"), cost_usd: Some(1.0), ..row };
    let rows = [
        used(in_status("r1", 1, Completed)),
        used(in_status("r2", 2, Running)),
        in_status("r3", 3, Completed),
        used(foreign("r4", 4, Completed)),
    ];
    store(&s.db, &rows).await;
    let waiting = not_carried(&s.db).await.unwrap();
    assert_eq!(super::ids(&waiting), ["r1", "r4"], "one that runs is counted as it goes");
    let phases = |micro| BTreeMap::from([("plan".to_owned(), usd(micro)), (String::new(), usd(5))]);
    for run in &waiting {
        for micro in [100, 200] {
            carry(&s.db, run, "2026-01-01", &phases(micro), NOW).await.unwrap();
        }
    }
    assert_eq!(not_carried(&s.db).await.unwrap(), []);
    let all = SpendingFilter { everything: true, ..SpendingFilter::default() };
    let runs = lines(&s.db, GroupBy::Run, &all).await;
    assert_eq!(runs, named(&[("r4", 205), ("r1", 105)]), "a foreign run says anew what it spent");
    // A resumed run's earlier spending stays counted, and what is new comes on top.
    let (total, _) =
        record(&s.db, &key("r1", "build", 1, "2026-01-02"), &usd(175), NOW).await.unwrap();
    assert_eq!(total.usd_micro, 175);
    assert_eq!(spent(&s.db, "r1", "", "", "2026-01-02").await.unwrap().day.usd_micro, 70);
}

/// Both engines end with the same rows, whatever is seen in whatever order.
#[tokio::test(flavor = "multi_thread")]
async fn both_engines_count_alike() {
    let Some(postgres) = crate::db::postgres().await else { return };
    let dbs = [ready(crate::db::sqlite().await).await, ready(postgres).await];
    for s in &dbs {
        run_of(&s.db, "r1", 1, "app", "key:a").await;
    }
    let look = (0..3_i64, 0..2_usize, 0..1_000_i64, 0..=1_000_i64);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let looks = proptest::collection::vec(look, 40).new_tree(&mut runner).unwrap().current();
    for (attempt, day, micro, estimated) in looks {
        let seen = Spent { estimated_micro: estimated.min(micro), ..usd(micro) };
        let key = key("r1", "plan", attempt, ["2026-01-01", "2026-01-02"][day]);
        let mut totals = vec![];
        for s in &dbs {
            totals.push(record(&s.db, &key, &seen, Millis(7)).await.unwrap().0);
        }
        assert_eq!(totals[0], totals[1]);
    }
}
