//! What exists for a caller that is bound to projects: one run, pages and totals.

use std::collections::BTreeSet;
use std::sync::Arc;

use adwd::auth::Scope;
use adwd::runs::ListFilter;
use adwd::runs::sql::{self, RunRow};

use super::{ids, queued, ready, some, store};
use crate::db::Scratch;
use crate::on_both_engines;

on_both_engines!(
    a_run_outside_the_scope_is_none,
    pages_and_totals_count_what_is_in_scope,
    names_are_whole_and_differ_by_case,
);

fn bound(names: &[&str]) -> Scope {
    Scope::Projects(Arc::new(names.iter().map(|name| (*name).to_owned()).collect()))
}

fn of(project: &str, seq: i64) -> RunRow {
    RunRow { project: project.to_owned(), ..queued(&format!("r{seq}"), seq) }
}

async fn a_run_outside_the_scope_is_none(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[of("app", 1), of("web", 2)]).await;
    let seen = async |scope: Scope, id: &str| {
        sql::run_within(&s.db, &scope, id).await.unwrap().map(|run| run.adw_id)
    };
    assert_eq!(seen(Scope::All, "r2").await, some("r2"));
    assert_eq!(seen(bound(&["app"]), "r1").await, some("r1"));
    assert_eq!(seen(bound(&["app"]), "r2").await, None);
    assert_eq!(seen(bound(&["app", "web"]), "r2").await, some("r2"));
    assert_eq!(seen(bound(&[]), "r1").await, None, "bound to nothing sees nothing");
    assert_eq!(seen(Scope::All, "r3").await, None);
}

async fn pages_and_totals_count_what_is_in_scope(s: Scratch) {
    let s = ready(s).await;
    let rows: Vec<RunRow> =
        (1..=30).map(|n| of(["app", "web", "lib"][usize::try_from(n % 3).unwrap()], n)).collect();
    store(&s.db, &rows).await;
    for names in [vec![], vec!["app"], vec!["lib", "web"], vec!["app", "lib", "web"]] {
        let set: BTreeSet<&str> = names.iter().copied().collect();
        let mut expected: Vec<&str> = rows
            .iter()
            .filter(|row| set.contains(row.project.as_str()))
            .map(|row| row.adw_id.as_str())
            .collect();
        expected.reverse();
        let filter = ListFilter { scope: bound(&names), ..ListFilter::default() };
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let (page, total) = sql::list(&s.db, &filter, before, 4).await.unwrap();
            assert_eq!(usize::try_from(total), Ok(expected.len()), "{names:?}");
            let Some(last) = page.last() else { break };
            before = Some(last.seq);
            found.extend(page.iter().map(|row| row.adw_id.clone()));
        }
        assert_eq!(found, expected, "every page is full until the last: {names:?}");
        let other = ListFilter { project: some("app"), ..filter };
        let (page, total) = sql::list(&s.db, &other, None, 100).await.unwrap();
        let count = if set.contains("app") { 10 } else { 0 };
        assert_eq!((page.len(), total), (count, i64::try_from(count).unwrap()), "{names:?}");
    }
}

async fn names_are_whole_and_differ_by_case(s: Scratch) {
    let s = ready(s).await;
    store(&s.db, &[of("app", 1), of("App", 2), of("app-x", 3), of("ap", 4), of("x.app", 5)]).await;
    let filter = ListFilter { scope: bound(&["app", "nowhere"]), ..ListFilter::default() };
    let (page, total) = sql::list(&s.db, &filter, None, 10).await.unwrap();
    assert_eq!((ids(&page), total), (vec!["r1"], 1));
}
