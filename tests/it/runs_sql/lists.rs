//! Answers about many runs: the queue, the pages of the list, what is left to clean up.

use std::collections::BTreeSet;

use adwd::clock::Millis;
use adwd::db::Db;
use adwd::runs::ListFilter;
use adwd::runs::RunStatus::{self, Cancelled, Completed, Failed, Queued, Running, Starting};
use adwd::runs::sql::{self, Prepared, RunRow};
use adwd::runs::sql_queue::{self, ActiveRow};

use super::{NOW, active, foreign, ids, in_status, queued, ready, some, store};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    the_queue_is_ordered_by_priority_and_then_by_age,
    the_head_of_a_queue_is_that_of_one_project,
    a_place_in_the_queue_is_counted_by_project,
    each_host_counts_its_own,
    an_empty_list_has_no_total,
    filters_narrow_alone_and_together,
    a_prefix_is_taken_literally,
    pages_have_no_gaps_and_no_repeats_while_runs_are_added,
    pages_of_any_length_make_up_the_list,
    worktrees_of_ended_runs_are_found_page_by_page,
);

async fn the_queue_is_ordered_by_priority_and_then_by_age(s: Scratch) {
    let s = ready(s).await;
    let at = |id: &str, seq, priority, queued_at| RunRow { priority, queued_at, ..queued(id, seq) };
    let rows = [
        at("low", 1, -100, 1),
        at("second", 2, 0, 50),
        // Resumed: an old number, queued late.
        at("fourth", 3, 0, 70),
        at("third", 4, 0, 50),
        at("first", 5, 100, 99),
        in_status("ended", 6, Completed),
        foreign("theirs", 7, Running),
        RunRow { host: "there".into(), ..at("far", 8, 100, 1) },
        RunRow { priority: 0, queued_at: 60, ..in_status("running", 9, Running) },
    ];
    store(&s.db, &rows).await;
    assert_eq!(
        active(&s.db, "here").await,
        ["first", "second", "third", "running", "fourth", "low"]
    );
    assert_eq!(active(&s.db, "there").await, ["far"]);
    assert!(active(&s.db, "nowhere").await.is_empty());
}

async fn the_head_of_a_queue_is_that_of_one_project(s: Scratch) {
    let s = ready(s).await;
    let of = |id: &str, seq, project: &str, priority| RunRow {
        project: project.into(),
        priority,
        queued_at: 5,
        ..queued(id, seq)
    };
    let rows = [of("a1", 1, "a", 0), of("b1", 2, "b", 9), of("a2", 3, "a", 1), of("a3", 4, "a", 0)];
    store(&s.db, &rows).await;
    let head = async |project, limit| {
        let rows = sql_queue::next_of_project(&s.db, "here", project, limit).await.unwrap();
        rows.into_iter().map(|row| row.adw_id).collect::<Vec<_>>()
    };
    assert_eq!(head("a", 2).await, ["a2", "a1"]);
    assert_eq!(head("a", 9).await, ["a2", "a1", "a3"]);
    assert_eq!(head("b", 9).await, ["b1"]);
    assert!(head("c", 9).await.is_empty());
    assert!(sql_queue::working(&s.db, "here").await.unwrap().is_empty());
}

async fn a_place_in_the_queue_is_counted_by_project(s: Scratch) {
    let s = ready(s).await;
    let of = |id: &str, seq, project: &str, priority, queued_at| RunRow {
        project: project.into(),
        priority,
        queued_at,
        ..queued(id, seq)
    };
    let rows = [
        of("urgent", 1, "a", 1, 9),
        of("early", 2, "b", 0, 4),
        of("same", 3, "b", 0, 5),
        of("me", 4, "a", 0, 5),
        of("later", 5, "a", 0, 5),
        of("idle", 6, "b", -1, 1),
        RunRow { project: "a".into(), priority: 9, ..in_status("works", 7, Running) },
        RunRow { host: "there".into(), ..of("far", 8, "a", 9, 1) },
    ];
    store(&s.db, &rows).await;
    let mut before = sql_queue::before(&s.db, "here", &ActiveRow::of(&rows[3])).await.unwrap();
    before.sort();
    assert_eq!(before, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert!(sql_queue::before(&s.db, "here", &ActiveRow::of(&rows[0])).await.unwrap().is_empty());
}

async fn waiting(db: &Db, host: &str) -> i64 {
    let mut tx = db.begin().await.unwrap();
    sql::waiting(&mut tx, host).await.unwrap()
}

async fn each_host_counts_its_own(s: Scratch) {
    let s = ready(s).await;
    assert_eq!(waiting(&s.db, "here").await, 0);
    assert_eq!(sql::active_of_project(&s.db, "here", "app").await.unwrap(), 0);
    let rows = [
        queued("r1", 1),
        queued("r2", 2),
        in_status("r3", 3, Starting),
        in_status("r4", 4, Failed),
        foreign("x1", 5, Running),
        foreign("x2", 6, Queued),
        RunRow { host: "there".into(), ..queued("r5", 7) },
        RunRow { project: "web".into(), ..queued("r6", 8) },
    ];
    store(&s.db, &rows).await;
    let mut counted = Vec::new();
    for (host, project) in [("here", "app"), ("here", "web"), ("there", "app"), ("there", "web")] {
        counted.push(sql::active_of_project(&s.db, host, project).await.unwrap());
    }
    assert_eq!(counted, [3, 1, 1, 0]);
    assert_eq!((waiting(&s.db, "here").await, waiting(&s.db, "there").await), (3, 1));
    // Inside a transaction what it stored itself counts.
    let mut tx = s.db.begin().await.unwrap();
    sql::insert_run(&mut tx, &queued("r7", 9)).await.unwrap();
    assert_eq!(sql::waiting(&mut tx, "here").await.unwrap(), 4);
}

async fn an_empty_list_has_no_total(s: Scratch) {
    let s = ready(s).await;
    let (rows, total) = sql::list(&s.db, &ListFilter::default(), None, 10).await.unwrap();
    assert!(rows.is_empty());
    assert_eq!(total, 0);
}

/// The rule in words: what a list must answer.
fn chosen<'a>(rows: &'a [RunRow], f: &ListFilter) -> Vec<&'a str> {
    let mut rows: Vec<&RunRow> = rows
        .iter()
        .filter(|r| f.adw_id_prefix.as_ref().is_none_or(|p| r.adw_id.starts_with(p.as_str())))
        .filter(|r| f.status.is_none_or(|status| r.status() == status))
        .filter(|r| !f.pending || [Queued, Starting].contains(&r.status()))
        .filter(|r| f.project.as_ref().is_none_or(|p| &r.project == p))
        .filter(|r| f.issue_number.as_ref().is_none_or(|n| &r.issue_number == n))
        .filter(|r| f.since_ms.is_none_or(|since| r.created_at >= since))
        .collect();
    rows.sort_by_key(|r| std::cmp::Reverse(r.seq));
    rows.into_iter().map(|r| r.adw_id.as_str()).collect()
}

/// Twenty-four runs in which every filter finds some and leaves some.
fn many() -> Vec<RunRow> {
    let row = |n: i64| {
        let status = match n % 8 {
            0 => Starting,
            n => [Queued, Completed, Failed, Cancelled][usize::try_from(n % 4).unwrap()],
        };
        RunRow {
            project: if n % 3 == 0 { "web" } else { "app" }.to_owned(),
            issue_number: if status.is_terminal() { (n % 2).to_string() } else { n.to_string() },
            created_at: 1_000 + n / 2,
            ..in_status(
                &format!("{}{n}", ["a", "ab", "b"][usize::try_from(n % 5 % 3).unwrap()]),
                n,
                status,
            )
        }
    };
    (1..=24).map(row).collect()
}

async fn filters_narrow_alone_and_together(s: Scratch) {
    let s = ready(s).await;
    let rows = many();
    store(&s.db, &rows).await;
    let mut sizes = BTreeSet::new();
    // Each bit of the number turns one filter on.
    for bits in 0..128_u32 {
        let on = |bit: u32| bits & (1 << bit) != 0;
        let status = if on(5) { Completed } else { Failed };
        let filter = ListFilter {
            adw_id_prefix: on(0).then(|| "a".to_owned()),
            status: (on(1) || on(5)).then_some(status),
            project: on(2).then(|| "app".to_owned()),
            issue_number: on(3).then(|| "1".to_owned()),
            since_ms: on(4).then_some(1_004),
            pending: on(6),
            ..ListFilter::default()
        };
        let expected = chosen(&rows, &filter);
        let (found, total) = sql::list(&s.db, &filter, None, 100).await.unwrap();
        assert_eq!(ids(&found), expected, "{filter:?}");
        assert_eq!(usize::try_from(total), Ok(expected.len()), "{filter:?}");
        // The total is of all that match, wherever the page begins and however short it is.
        let (page, total) = sql::list(&s.db, &filter, Some(13), 2).await.unwrap();
        let older =
            expected.iter().filter(|id| rows.iter().any(|r| r.adw_id == **id && r.seq < 13));
        assert_eq!(ids(&page), older.take(2).copied().collect::<Vec<_>>(), "{filter:?}");
        assert_eq!(usize::try_from(total), Ok(expected.len()), "{filter:?}");
        sizes.insert(expected.len());
    }
    assert!(sizes.len() > 5, "the filters differ: {sizes:?}");
    for nothing in [
        ListFilter { project: some("nowhere"), ..ListFilter::default() },
        ListFilter { issue_number: some("01"), ..ListFilter::default() },
        ListFilter { status: Some(RunStatus::TimedOut), ..ListFilter::default() },
        ListFilter { since_ms: Some(i64::MAX), ..ListFilter::default() },
    ] {
        let (found, total) = sql::list(&s.db, &nothing, None, 100).await.unwrap();
        assert_eq!((found.len(), total), (0, 0), "{nothing:?}");
    }
}

async fn a_prefix_is_taken_literally(s: Scratch) {
    let s = ready(s).await;
    let names =
        ["a_b", "a-b", "axb", "ab", "a%b", "a!b", "a!_b", "AXB", "%", "!", "a\\b", "é1", "É1"];
    let rows: Vec<RunRow> = (1..).zip(names).map(|(seq, id)| queued(id, seq)).collect();
    store(&s.db, &rows).await;
    let prefixes = [
        "",
        "a",
        "a_",
        "a%",
        "a!",
        "a!_",
        "a!!",
        "_",
        "%",
        "!",
        "!%",
        "%%",
        "A",
        "ax",
        "AX",
        "é",
        "a\\",
        "a_b",
        "a_bc",
        "'",
        "a' OR '1'='1",
        "*",
        "[a]",
    ];
    for prefix in prefixes {
        let filter = ListFilter { adw_id_prefix: some(prefix), ..ListFilter::default() };
        let (found, total) = sql::list(&s.db, &filter, None, 100).await.unwrap();
        let expected = chosen(&rows, &filter);
        assert_eq!(ids(&found), expected, "{prefix:?}");
        assert_eq!(usize::try_from(total), Ok(expected.len()), "{prefix:?}");
    }
}

async fn pages_have_no_gaps_and_no_repeats_while_runs_are_added(s: Scratch) {
    let s = ready(s).await;
    let run = |seq| RunRow {
        project: ["app", "web"][usize::from(seq % 3 == 0)].into(),
        ..queued(&format!("r{seq}"), seq)
    };
    store(&s.db, &(1..=30).map(run).collect::<Vec<_>>()).await;
    let filter = ListFilter { project: some("app"), ..ListFilter::default() };
    let (mut seen, mut before, mut next) = (Vec::new(), None, 31);
    loop {
        let (page, total) = sql::list(&s.db, &filter, before, 4).await.unwrap();
        assert_eq!(total, (1..next).filter(|seq| seq % 3 != 0).count() as i64);
        let Some(last) = page.last() else { break };
        before = Some(last.seq);
        seen.extend(page.iter().map(|row| row.seq));
        // Between two pages some runs are added and one goes on.
        store(&s.db, &[run(next), run(next + 1)]).await;
        next += 2;
        sql::move_status(&s.db, &format!("r{}", last.seq), Queued, Starting, NOW).await.unwrap();
    }
    let expected: Vec<i64> = (1..=30).rev().filter(|seq| seq % 3 != 0).collect();
    assert_eq!(seen, expected);
}

async fn pages_of_any_length_make_up_the_list(s: Scratch) {
    let s = ready(s).await;
    let rows = many();
    store(&s.db, &rows).await;
    let filter = ListFilter { adw_id_prefix: some("a"), ..ListFilter::default() };
    let expected = chosen(&rows, &filter);
    for limit in 1..=expected.len() + 1 {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let limit = i64::try_from(limit).unwrap();
            let (page, _) = sql::list(&s.db, &filter, before, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.seq);
            seen.extend(page.iter().map(|row| row.adw_id.clone()));
        }
        assert_eq!(seen, expected, "pages of {limit}");
    }
}

async fn worktrees_of_ended_runs_are_found_page_by_page(s: Scratch) {
    let s = ready(s).await;
    let with_tree = |row: RunRow| RunRow { worktree: some("present"), ..row };
    let others = [
        with_tree(in_status("active", 1, Running)),
        with_tree(foreign("theirs", 2, Completed)),
        with_tree(RunRow { host: "there".into(), ..in_status("far", 3, Failed) }),
        RunRow { worktree: some("removed"), ..in_status("removed", 4, Failed) },
        in_status("never", 5, Failed),
    ];
    store(&s.db, &others).await;
    // More than one page of them, all kept for ever: the last is found all the same.
    let mut tx = s.db.begin().await.unwrap();
    for seq in 6..=455 {
        let row = with_tree(in_status(&format!("r{seq}"), seq, Completed));
        sql::insert_run(&mut tx, &row).await.unwrap();
    }
    tx.commit().await.unwrap();
    let (mut found, mut after, mut pages) = (Vec::new(), 0, 0);
    loop {
        let page = sql::ended_with_worktree(&s.db, "here", after).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        pages += 1;
        found.extend(page.iter().map(|row| row.seq));
    }
    assert_eq!(found, (6..=455).collect::<Vec<_>>());
    assert!(pages > 1, "a page is bounded");

    sql::worktree_removed(&s.db, "r6").await.unwrap();
    let ended = sql::finish(&s.db, "active", Running, Failed, None, Millis(9)).await.unwrap();
    assert!(ended);
    let page = sql::ended_with_worktree(&s.db, "here", 0).await.unwrap();
    assert_eq!(ids(&page)[..2], ["active", "r7"]);
    let made = Prepared { worktree_path: some("/trees/x"), ..Prepared::default() };
    sql::set_prepared(&s.db, "never", &made).await.unwrap();
    let page = sql::ended_with_worktree(&s.db, "here", 1).await.unwrap();
    assert_eq!(ids(&page)[..2], ["never", "r7"]);
}
