//! Every statement of the runs slice, on both engines: what it stores, what it answers, and what
//! it refuses.

mod attempts;
mod lists;
mod lives;
mod lockstep;
mod schema;
mod scope;
mod spending;
mod stored;
mod watched;

use adwd::clock::{Millis, TestClock};
use adwd::db::{Db, DbError};
use adwd::runs::sql::{self, RunRow};
use adwd::runs::sql_queue::{self, ActiveRow};
use adwd::runs::{Failure, FailureClass, RunStatus};

use crate::db::Scratch;

/// The moment at which the tests act.
const NOW: Millis = Millis(5_000);

/// A database with the program's own tables.
async fn ready(s: Scratch) -> Scratch {
    s.db.migrate(&TestClock::new(Millis(0))).await.expect("migrates");
    s
}

/// A queued run of the daemon on host `here`: issue `seq` of project `app`.
fn queued(adw_id: &str, seq: i64) -> RunRow {
    RunRow {
        adw_id: adw_id.to_owned(),
        seq,
        project: "app".to_owned(),
        issue_number: seq.to_string(),
        host: "here".to_owned(),
        origin: "daemon".to_owned(),
        profile: "adwd".to_owned(),
        status: "queued".to_owned(),
        active: true,
        stop_requested: false,
        revision: 1,
        priority: 0,
        phases: r#"["plan","build"]"#.to_owned(),
        todo: r#"["plan","build"]"#.to_owned(),
        floors: "{}".to_owned(),
        digest: "d".to_owned(),
        model: None,
        skip_cleanup: false,
        triggered_by: "mcp".to_owned(),
        transport: "stdio".to_owned(),
        request_id: None,
        user_id: Some("owner".to_owned()),
        created_at: 1_000 + seq,
        queued_at: 1_000 + seq,
        started_at: None,
        ended_at: None,
        retry_at: None,
        issue_title: None,
        issue_class: None,
        branch: None,
        base_branch: None,
        base_commit: None,
        worktree_path: None,
        worktree: None,
        plan_file: None,
        pr_url: None,
        failure: None,
        run_usage: None,
        cost_usd: None,
        state: None,
        state_at: None,
        state_problem: None,
        budget_stop: None,
    }
}

/// The same in another status, as active as that status is.
fn in_status(adw_id: &str, seq: i64, status: RunStatus) -> RunRow {
    let ended = status.is_terminal();
    RunRow {
        status: status.as_str().to_owned(),
        active: !ended,
        stop_requested: status == RunStatus::Stopping,
        ended_at: ended.then_some(2_000),
        ..queued(adw_id, seq)
    }
}

/// A run that somebody else started.
fn foreign(adw_id: &str, seq: i64, status: RunStatus) -> RunRow {
    RunRow { origin: "external".to_owned(), active: false, ..in_status(adw_id, seq, status) }
}

async fn try_store(db: &Db, row: &RunRow) -> Result<(), DbError> {
    let mut tx = db.begin().await.expect("begins");
    sql::insert_run(&mut tx, row).await?;
    tx.commit().await
}

async fn store(db: &Db, rows: &[RunRow]) {
    for row in rows {
        try_store(db, row).await.unwrap_or_else(|error| panic!("{}: {error}", row.adw_id));
    }
}

/// The stored run of that id, which must be there.
async fn the(db: &Db, adw_id: &str) -> RunRow {
    sql::run(db, adw_id).await.unwrap().unwrap_or_else(|| panic!("{adw_id} is stored"))
}

/// Runs of a host that have not ended, the next to leave the queue first.
async fn active(db: &Db, host: &str) -> Vec<String> {
    let mut rows = sql_queue::working(db, host).await.unwrap();
    let all = sql_queue::before(db, host, &last_place()).await.unwrap();
    for (project, count) in all {
        let limit = u32::try_from(count).unwrap();
        rows.extend(sql_queue::next_of_project(db, host, &project, limit).await.unwrap());
    }
    rows.sort_by_key(|row| (std::cmp::Reverse(row.priority), row.queued_at, row.seq));
    rows.into_iter().map(|row| row.adw_id).collect()
}

/// A place behind every run that waits.
fn last_place() -> ActiveRow {
    ActiveRow { priority: i64::MIN, ..ActiveRow::of(&queued("last", 0)) }
}

fn ids(rows: &[RunRow]) -> Vec<&str> {
    rows.iter().map(|row| row.adw_id.as_str()).collect()
}

fn failure(message: &str) -> Failure {
    Failure {
        class: FailureClass::Agent,
        message: message.to_owned(),
        retryable: true,
        phase: Some("plan".to_owned()),
        log_tail: vec!["last line".to_owned()],
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}
