//! Random sequences of all statements on both engines at once: the same answers, the same tables,
//! and what must always hold of them.

use adwd::args;
use adwd::clock::Millis;
use adwd::db::{Db, DbError};
use adwd::runs::RunStatus::{
    self, Cancelled, Completed, Failed, Lost, Queued, Running, Skipped, Starting, Stopping,
    TimedOut,
};
use adwd::runs::sql::{self, AttemptEnd, AttemptRow, Prepared, Requeue, RunRow, Told};
use adwd::runs::{Failure, FailureClass, ListFilter};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::{active, ids, queued, ready};

/// One statement. Those that make a run go on stand several times, so that sequences get far.
const STATEMENTS: &[&str] = &[
    "insert_run",
    "insert_run",
    "insert_run",
    "insert_foreign",
    "move",
    "move",
    "move",
    "move",
    "move",
    "move",
    "finish",
    "prepared",
    "worktree_removed",
    "begin",
    "begin",
    "begin",
    "begin",
    "attempt_running",
    "end_attempt",
    "end_attempt",
    "tell",
    "tell",
    "retry_at",
    "stop",
    "requeue",
    "requeue",
    "requeue",
    "insert_key",
    "insert_project",
    "delete_project",
    "update_external",
    "run",
    "active_of_issue",
    "newest_of_issue",
    "list",
    "list",
    "waiting",
    "active_of_project",
    "ended_with_worktree",
    "request_key",
    "projects",
];

const MOVES: &[(RunStatus, RunStatus)] =
    &[(Queued, Starting), (Starting, Running), (Running, Stopping)];
const ENDS: &[(RunStatus, RunStatus)] = &[
    (Queued, Cancelled),
    (Starting, Failed),
    (Running, Completed),
    (Running, Failed),
    (Running, Skipped),
    (Running, TimedOut),
    (Running, Lost),
    (Stopping, Cancelled),
];
const TEXTS: &[&str] = &["", "a", "A", "it's", "%_!\\", "émile \u{1f980}", "nul \0 nul", "{}"];

/// A statement with everything that any of them may ask for; few values, so that they meet.
#[derive(Clone, Debug)]
struct Step {
    what: &'static str,
    id: &'static str,
    issue: &'static str,
    project: &'static str,
    host: &'static str,
    phase: &'static str,
    number: i64,
    at: i64,
    flag: bool,
    fits: bool,
    text: Option<&'static str>,
    other: Option<&'static str>,
    status: Option<RunStatus>,
    step: (RunStatus, RunStatus),
    end: (RunStatus, RunStatus),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let maybe = || prop::option::of(select(TEXTS));
    let names = (
        select(STATEMENTS),
        select(&["k1", "K1", "k_1"][..]),
        select(&["1", "2"][..]),
        select(&["app", "app", "web"][..]),
        select(&["here", "here", "there"][..]),
        select(&["plan", "build"][..]),
    );
    let values = (1..4_i64, 0..6_i64, any::<bool>(), prop::bool::weighted(0.7), maybe(), maybe());
    let statuses = (prop::option::of(select(&RunStatus::ALL[..])), select(MOVES), select(ENDS));
    let step = (names, values, statuses).prop_map(|(names, values, statuses)| {
        let (what, id, issue, project, host, phase) = names;
        let (number, at, flag, fits, text, other) = values;
        let (status, step, end) = statuses;
        Step {
            what,
            id,
            issue,
            project,
            host,
            phase,
            number,
            at,
            flag,
            fits,
            text,
            other,
            status,
            step,
            end,
        }
    });
    prop::collection::vec(step, 20..100)
}

impl Step {
    fn text(&self) -> Option<String> {
        self.text.map(str::to_owned)
    }

    fn other(&self) -> Option<String> {
        self.other.map(str::to_owned)
    }

    fn failure(&self) -> Failure {
        Failure {
            class: FailureClass::Git,
            message: self.text().unwrap_or_default(),
            retryable: self.flag,
            phase: None,
            log_tail: vec![],
        }
    }

    fn row(&self, seq: i64) -> RunRow {
        RunRow {
            issue_number: self.issue.to_owned(),
            project: self.project.to_owned(),
            host: self.host.to_owned(),
            priority: self.number % 2,
            queued_at: self.at,
            created_at: self.at,
            model: self.text(),
            skip_cleanup: self.flag,
            cost_usd: self.flag.then_some(0.1),
            ..queued(self.id, seq)
        }
    }

    fn foreign(&self, seq: i64) -> RunRow {
        let status = self.status.unwrap_or(Running);
        RunRow {
            origin: "external".to_owned(),
            status: status.as_str().to_owned(),
            active: false,
            ended_at: status.is_terminal().then_some(self.at),
            issue_title: self.other(),
            worktree: self.flag.then(|| "present".to_owned()),
            ..self.row(seq)
        }
    }

    fn attempt(&self) -> AttemptRow {
        AttemptRow {
            adw_id: self.id.to_owned(),
            phase: self.phase.to_owned(),
            attempt: self.number,
            status: String::new(),
            dir: String::new(),
            started_at: 0,
            ended_at: None,
            exit_code: None,
            exit_signal: None,
            failure: None,
            head_commit: None,
        }
    }

    fn told(&self) -> Told {
        Told {
            issue_title: self.text(),
            branch: self.other(),
            worktree_path: self.flag.then(|| "/trees/a".to_owned()),
            cost_usd: self.text.map(|t| t.len() as f64 / 3.0),
            state: self.other(),
            state_at: self.flag.then_some(Millis(self.at)),
            state_problem: self.text(),
            ..Told::default()
        }
    }

    /// The answer, as text; a refusal by its kind.
    async fn on(&self, db: &Db) -> String {
        let answer = match self.what {
            "run"
            | "active_of_issue"
            | "newest_of_issue"
            | "list"
            | "waiting"
            | "active_of_project"
            | "ended_with_worktree"
            | "request_key"
            | "projects" => self.read(db).await,
            "begin" | "attempt_running" | "end_attempt" => self.change_attempt(db).await,
            "insert_run" | "insert_foreign" | "insert_key" | "requeue" => self.in_tx(db).await,
            _ => self.change_run(db).await,
        };
        match answer {
            Ok(answer) => answer,
            Err(DbError::Unique { .. }) => "refused: unique".to_owned(),
            Err(DbError::Constraint { rule, .. }) => format!("refused: {rule}"),
            Err(error) => panic!("{self:?} on {}: {error:?}", db.engine().name()),
        }
    }

    async fn read(&self, db: &Db) -> Result<String, DbError> {
        let said = match self.what {
            "run" => format!("{:?}", sql::run(db, self.id).await?),
            "active_of_issue" => {
                format!("{:?}", sql::active_run_of_issue(db, self.project, self.issue).await?)
            }
            "newest_of_issue" => {
                format!("{:?}", sql::newest_run_of_issue(db, self.project, self.issue).await?)
            }
            "list" => {
                let filter = ListFilter {
                    adw_id_prefix: self.flag.then(|| self.id[..2].to_owned()),
                    status: self.status,
                    project: (self.at % 2 == 0).then(|| self.project.to_owned()),
                    issue_number: (self.number == 1).then(|| self.issue.to_owned()),
                    since_ms: (self.at > 2).then_some(self.at - 2),
                    ..ListFilter::default()
                };
                let before = self.text.map(|_| self.at + 1);
                let (rows, total) = sql::list(db, &filter, before, self.number).await?;
                format!("{:?} of {total}", ids(&rows))
            }
            "waiting" => format!("{}", sql::waiting(&mut db.begin().await?, self.host).await?),
            "active_of_project" => {
                format!("{}", sql::active_of_project(db, self.host, self.project).await?)
            }
            "ended_with_worktree" => {
                format!("{:?}", ids(&sql::ended_with_worktree(db, self.host, self.at).await?))
            }
            "request_key" => format!("{:?}", sql::request_key(db, self.id).await?),
            _ => format!("{:?}", sql::projects(db, self.host).await?),
        };
        Ok(said)
    }

    async fn in_tx(&self, db: &Db) -> Result<String, DbError> {
        let mut tx = db.begin().await?;
        let said = match self.what {
            "insert_run" => {
                let row = self.row(tx.next_counter("runs").await?);
                format!("{:?}", sql::insert_run(&mut tx, &row).await?)
            }
            "insert_foreign" => {
                let row = self.foreign(tx.next_counter("runs").await?);
                format!("{:?}", sql::insert_run(&mut tx, &row).await?)
            }
            "insert_key" => {
                let (tool, digest) = (self.project, self.text.unwrap_or_default());
                let at = Millis(self.at);
                sql::insert_request_key(&mut tx, self.id, tool, digest, self.id, at).await?;
                String::new()
            }
            _ => {
                let plan = Requeue {
                    phases: "[]".to_owned(),
                    todo: self.phase.to_owned(),
                    floors: "{}".to_owned(),
                    model: self.text(),
                };
                let from = self.end.1;
                sql::requeue(&mut tx, self.id, from, &plan, Millis(self.at)).await?.to_string()
            }
        };
        tx.commit().await?;
        Ok(said)
    }

    async fn change_attempt(&self, db: &Db) -> Result<String, DbError> {
        let (attempt, at) = (self.attempt(), Millis(self.at));
        let said = match self.what {
            "begin" => sql::begin_attempt(db, self.id, self.phase, self.number, "/d", at).await?,
            "attempt_running" => sql::attempt_running(db, &attempt).await.map(|()| true)?,
            _ => {
                let end = AttemptEnd {
                    status: self.end.1,
                    exit_code: self.flag.then_some(self.number),
                    exit_signal: (!self.flag).then_some(9),
                    failure: self.flag.then(|| self.failure()),
                    head_commit: self.text(),
                };
                sql::end_attempt(db, &attempt, &end, at).await?
            }
        };
        Ok(said.to_string())
    }

    async fn change_run(&self, db: &Db) -> Result<String, DbError> {
        let (id, at) = (self.id, Millis(self.at));
        let done = |()| true;
        let said = match self.what {
            "move" => sql::move_status(db, id, self.step.0, self.step.1, at).await?,
            "finish" => {
                let failure = self.flag.then(|| self.failure());
                sql::finish(db, id, self.end.0, self.end.1, failure.as_ref(), at).await?
            }
            "prepared" => {
                let prepared = Prepared {
                    worktree_path: self.text(),
                    base_branch: self.other(),
                    base_commit: self.text(),
                };
                if self.flag {
                    sql::begin_running(db, id, &prepared, at).await?
                } else {
                    sql::set_prepared(db, id, &prepared).await?
                }
            }
            "worktree_removed" => sql::worktree_removed(db, id).await.map(done)?,
            "tell" => sql::tell(db, id, &self.told()).await.map(done)?,
            "retry_at" => sql::set_retry_at(db, id, at).await.map(done)?,
            "stop" => sql::request_stop(db, id, &self.failure(), at).await.map(|_| true)?,
            "insert_project" => {
                sql::insert_project(db, id, self.host, self.project, at).await.map(done)?
            }
            "delete_project" => sql::delete_project(db, id, self.host).await?,
            "update_external" => sql::update_external(db, &self.foreign(0)).await?,
            other => unreachable!("{other}"),
        };
        Ok(said.to_string())
    }
}

/// The step made to fit what is stored, so that sequences get far; blind ones test the refusals.
async fn fitted(step: &Step, db: &Db) -> Step {
    let mut fit = step.clone();
    let Some(run) = sql::run(db, step.id).await.unwrap() else { return fit };
    let from = run.status();
    if let Some(step) = MOVES.iter().find(|step| step.0 == from) {
        fit.step = *step;
    }
    if step.what == "requeue" && from.is_terminal() {
        fit.end.1 = from;
    } else if let Some(end) = ENDS.iter().filter(|end| end.0 == from).nth(step.at as usize % 2) {
        fit.end = *end;
    }
    let attempts = sql::attempts(db, step.id).await.unwrap();
    let last = attempts.iter().rfind(|attempt| attempt.phase == step.phase);
    fit.number = last.map_or(1, |last| last.attempt + i64::from(step.what == "begin"));
    fit
}

/// Everything that is stored of runs, in the answers' own order.
async fn everything(db: &Db) -> (Vec<RunRow>, Vec<AttemptRow>, Vec<String>) {
    let (rows, total) = sql::list(db, &ListFilter::default(), None, 1_000).await.unwrap();
    assert_eq!(usize::try_from(total), Ok(rows.len()));
    let (mut attempts, mut queues) = (Vec::new(), Vec::new());
    for row in &rows {
        attempts.extend(sql::attempts(db, &row.adw_id).await.unwrap());
    }
    for host in ["here", "there"] {
        queues.extend(active(db, host).await);
    }
    (rows, attempts, queues)
}

/// What holds after every statement, whatever came before.
fn holds(rows: &[RunRow], attempts: &[AttemptRow]) -> Result<(), TestCaseError> {
    for row in rows.iter().filter(|row| row.origin == "daemon") {
        let ended = row.status().is_terminal();
        prop_assert_eq!(row.active, !ended, "{:?}", row);
        prop_assert_eq!(row.ended_at.is_some(), ended, "{:?}", row);
        prop_assert!(row.state_problem.as_deref() != Some(""), "{:?}", row);
        let same = |other: &&RunRow| {
            other.active
                && (&other.project, &other.issue_number) == (&row.project, &row.issue_number)
        };
        prop_assert!(!row.active || rows.iter().filter(same).count() == 1, "{:?}", row);
    }
    for row in rows.iter().filter(|row| row.origin != "daemon") {
        prop_assert!(!row.active, "{:?}", row);
    }
    for (n, attempt) in attempts.iter().enumerate() {
        prop_assert_eq!(attempt.ended_at.is_some(), attempt.status().is_terminal());
        let same = |later: &&AttemptRow| {
            (&later.adw_id, &later.phase) == (&attempt.adw_id, &attempt.phase)
        };
        let ascend = attempts[n + 1..].iter().filter(same).all(|a| a.attempt > attempt.attempt);
        prop_assert!(ascend, "{:?}", attempts);
    }
    Ok(())
}

async fn wipe(db: &Db) {
    for table in [
        "DELETE FROM attempts",
        "DELETE FROM run_lives",
        "DELETE FROM run_traces",
        "DELETE FROM request_keys",
        "DELETE FROM projects",
        "DELETE FROM runs",
        "DELETE FROM counters",
    ] {
        db.exec(table, args![]).await.unwrap();
    }
}

async fn both_agree(sqlite: &Db, postgres: &Db, steps: &[Step]) -> Result<(), TestCaseError> {
    wipe(sqlite).await;
    wipe(postgres).await;
    for step in steps {
        let step = if step.fits { &fitted(step, sqlite).await } else { step };
        let (here, there) = (step.on(sqlite).await, step.on(postgres).await);
        prop_assert_eq!(here, there, "SQLite and PostgreSQL answer {:?}", step);
        let (here, there) = (everything(sqlite).await, everything(postgres).await);
        prop_assert_eq!(&here, &there, "SQLite and PostgreSQL hold after {:?}", step);
        holds(&here.0, &here.1)?;
    }
    Ok(())
}

#[test]
fn sqlite_and_postgres_answer_the_same_to_any_sequence() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let Some(postgres) = runtime.block_on(crate::db::postgres()) else { return };
    let sqlite = runtime.block_on(async { ready(crate::db::sqlite().await).await });
    let postgres = runtime.block_on(ready(postgres));
    // PROPTEST_CASES asks for more.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24);
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    runner
        .run(&steps(), |steps| runtime.block_on(both_agree(&sqlite.db, &postgres.db, &steps)))
        .unwrap_or_else(|failed| panic!("{failed}"));
}
