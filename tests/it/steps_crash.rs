//! What a crash leaves: the old state or the new one, at every statement, and work that goes on.
//!
//! The first half cuts the connection at each statement of each change in turn. The second half
//! kills a process that submits, with SIGKILL, again and again.

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use adwd::args;
use adwd::changes::Changes;
use adwd::clock::SystemClock;
use adwd::db::{Db, fault};
use adwd::ids::OsRng;
use adwd::steps::{
    ArtifactFilter, ControlAction as A, ControlRequest, ExecutionFilter, ExecutionState as S,
    Hints, Library, LibraryDeps, Output, StartRequest, StepStatus, Steps, StepsDeps, StepsError,
};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::db::Scratch;
use crate::on_both_engines;
use crate::steps_support::{
    World, chain, content, dump, eventually, given, open_with, phase, request, token, unlimited,
};

on_both_engines!(
    a_start_that_is_cut_leaves_nothing,
    a_submission_that_is_cut_leaves_the_old_state,
    the_last_submission_that_is_cut_leaves_the_old_state,
    control_that_is_cut_leaves_the_old_state,
    a_claim_and_a_sweep_that_are_cut_leave_the_old_state,
    work_goes_on_after_kill_9,
);

/// Runs `call` with the connection cut at its first statement, its second, and so on; each time
/// everything stored must be as before. Then it runs through, and must succeed.
async fn cut_everywhere<T, F>(world: &World, what: &str, call: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, StepsError>>,
{
    let before = dump(&world.s.db).await;
    for statements in 0..200 {
        let (result, cut) = fault::after(statements, call()).await;
        if !cut {
            assert!(statements > 4, "{what}: only {statements} statements were cut");
            return result
                .unwrap_or_else(|error| panic!("{what} after {statements} cuts: {error}"));
        }
        let error =
            result.err().unwrap_or_else(|| panic!("{what} cut at {statements} is an error"));
        assert_eq!(error.code(), "busy", "{what} cut at {statements}: {error}");
        let after = dump(&world.s.db).await;
        let changed: Vec<_> = after.iter().filter(|row| !before.contains(row)).collect();
        assert!(after == before, "{what} cut at {statements}: {changed:?}");
    }
    panic!("{what} has no end");
}

/// With limits, so that their statements are cut as well, but none that is reached.
async fn world(s: Scratch) -> World {
    let mut config = adwd::config::StepsConfig { rate_limits: true, ..unlimited() };
    config.task_rate.burst = 1_000;
    config.agent_rate.burst = 1_000;
    open_with(s, config).await
}

fn full() -> Output {
    given(&json!({
        "summary": "s",
        "artifacts": [
            {"type": "adr", "title": "a", "content": "A"},
            {"type": "json", "title": "b", "content": {"x": 1}}
        ],
        "references": ["src/a.rs"],
        "blockers": ["b"],
        "confidence": 1
    }))
}

async fn a_start_that_is_cut_leaves_nothing(s: Scratch) {
    let world = world(s).await;
    for hold in [true, false] {
        let call = || {
            let request = StartRequest { hold, ..StartRequest::default() };
            world.steps.start_snapshot(chain(), request)
        };
        let handed = cut_everywhere(&world, "a start", call).await;
        assert_eq!(handed.step.is_some(), !hold);
    }
    let all = world.steps.executions(&ExecutionFilter::default()).await.unwrap();
    assert_eq!(all.len(), 2, "one of each, however often it was tried");
}

async fn a_submission_that_is_cut_leaves_the_old_state(s: Scratch) {
    let world = world(s).await;
    let wide = content(vec![phase("a", &[]), phase("b", &["a"]), phase("c", &["a"])]);
    let request = StartRequest { max_parallel: Some(2), ..StartRequest::default() };
    let first = token(&world.start_with(wide, request).await);
    let call = || world.steps.submit(&first, full(), Hints::default());
    let handed = cut_everywhere(&world, "a submission", call).await;
    assert_eq!(handed.parallel.len(), 1);
    let artifacts = world.steps.artifacts(&ArtifactFilter::default()).await.unwrap();
    assert_eq!(artifacts.len(), 2, "each once");
}

async fn the_last_submission_that_is_cut_leaves_the_old_state(s: Scratch) {
    let world = world(s).await;
    let only = token(&world.start(content(vec![phase("a", &[])])).await);
    let call = || world.steps.submit(&only, full(), Hints::default());
    let handed = cut_everywhere(&world, "the last submission", call).await;
    assert_eq!(handed.workflow_state, S::Completed);
    let artifacts = world.steps.artifacts(&ArtifactFilter::default()).await.unwrap();
    assert!(artifacts.len() == 3 && artifacts.iter().all(|artifact| artifact.is_final));
}

async fn control_that_is_cut_leaves_the_old_state(s: Scratch) {
    let world = world(s).await;
    let mut gated = chain();
    gated.workflow.phases[0].requires_approval = true;
    let held = StartRequest { hold: true, ..StartRequest::default() };
    let id = world.start_with(gated, held).await.execution_id;
    for (action, state) in [
        (A::Start, S::Paused),
        (A::Approve, S::Running),
        (A::Pause, S::Paused),
        (A::Resume, S::Running),
        (A::Reissue, S::Running),
        (A::Retry, S::Running),
        // The second retry finds no attempt left.
        (A::Retry, S::Failed),
    ] {
        let call = || world.control(&id, action);
        let controlled = cut_everywhere(&world, action.as_str(), call).await;
        assert_eq!(controlled.workflow_state, state, "{action}");
    }
    for action in [A::Abandon, A::Diverge, A::Fail] {
        let id = world.start(chain()).await.execution_id;
        let wanted = || ControlRequest { ..request(&id, action) };
        cut_everywhere(&world, action.as_str(), || world.steps.control(wanted())).await;
    }
}

async fn a_claim_and_a_sweep_that_are_cut_leave_the_old_state(s: Scratch) {
    let world = world(s).await;
    let wide = content(vec![phase("a", &[]), phase("b", &[])]);
    let handed =
        world.start_with(wide, StartRequest { max_parallel: Some(2), ..Default::default() }).await;
    let id = handed.execution_id.clone();
    let back = "UPDATE execution_steps SET status = 'pending', attempt = 0 WHERE step_name = 'b'";
    world.s.db.exec(back, args![]).await.unwrap();
    let call = || world.steps.claim(&id, Hints::default());
    assert_eq!(cut_everywhere(&world, "a claim", call).await.step.unwrap().step_name, "b");
    world.clock.advance(31 * 60_000);
    let swept = cut_everywhere(&world, "a stall", || world.steps.sweep()).await;
    assert_eq!(swept.stalled, 1);
    world.clock.advance(24 * 3_600_000);
    // What a sweep forgets, each by itself, is no part of an abandonment.
    world.s.db.exec("DELETE FROM rate_buckets", args![]).await.unwrap();
    let swept = cut_everywhere(&world, "an abandonment", || world.steps.sweep()).await;
    assert_eq!(swept.abandoned, 1);
}

// kill -9.

/// Names the database for the child; without it the child's test does nothing.
const CHILD_URL: &str = "ADWD_TEST_STEPS_CHILD_URL";
const CHILD_STATE: &str = "ADWD_TEST_STEPS_CHILD_STATE";
const CHILD_TEST: &str = "steps_crash::the_child_works_until_it_is_killed";
const ROUNDS: u64 = 12;

pub async fn engine_for_good(url: &str, state: &std::path::Path) -> (Db, Steps) {
    let db = Db::open(url).await.expect("the database opens");
    let (clock, changes, shutdown) =
        (Arc::new(SystemClock), Changes::new(), CancellationToken::new());
    let library = Library::open(LibraryDeps {
        db: db.clone(),
        clock: clock.clone(),
        changes: changes.clone(),
        host: "here".to_owned(),
        folders: vec![],
        shutdown: shutdown.clone(),
    });
    let deps = StepsDeps {
        db: db.clone(),
        clock,
        rng: Arc::new(OsRng),
        changes,
        library: library.await.expect("a library"),
        config: unlimited(),
        state_dir: state.to_owned(),
        shutdown,
    };
    let (steps, _) = Steps::open(deps).await.expect("an engine");
    (db, steps)
}

/// No test by itself: what the parent kills. It takes up what is open, then starts more.
#[tokio::test(flavor = "multi_thread")]
async fn the_child_works_until_it_is_killed() {
    let (Ok(url), Ok(state)) = (std::env::var(CHILD_URL), std::env::var(CHILD_STATE)) else {
        return;
    };
    let (_, steps) = engine_for_good(&url, state.as_ref()).await;
    let workers = (0..3).map(|worker| tokio::spawn(work(steps.clone(), worker)));
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("a worker works until it is killed");
    }
}

async fn work(steps: Steps, worker: usize) {
    loop {
        let open = ExecutionFilter { open_only: true, ..ExecutionFilter::default() };
        let mine = steps.executions(&open).await.expect("a list").into_iter();
        let mine = mine.map(|e| e.execution_id).find(|id| id.ends_with(&format!("-{worker}")));
        let handed = match mine {
            Some(id) => steps.current(&id).await.expect("the current step"),
            None => {
                let id = format!("{}-{worker}", adwd::ids::RunId::generate(&OsRng));
                let request = StartRequest { execution_id: Some(id), ..StartRequest::default() };
                steps.start_snapshot(chain(), request).await.expect("a start")
            }
        };
        let step = handed.step.expect("a running execution has a step out");
        steps.submit(&step.token, full(), Hints::default()).await.expect("a submission");
    }
}

fn spawn_child(url: &str, state: &TempDir) -> Child {
    Command::new(std::env::current_exe().expect("the test's own program"))
        .args([CHILD_TEST, "--exact", "--nocapture"])
        .env(CHILD_URL, url)
        .env(CHILD_STATE, state.path())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the child starts")
}

async fn completed_steps(db: &Db) -> i64 {
    let (n,): (i64,) = db
        .one(
            "SELECT CAST(COUNT(*) AS BIGINT) FROM execution_steps WHERE status = 'completed'",
            args![],
        )
        .await
        .expect("a count");
    n
}

async fn work_goes_on_after_kill_9(s: Scratch) {
    s.db.migrate(&SystemClock).await.expect("migrates");
    let state = tempfile::tempdir().expect("a folder");
    for round in 0..ROUNDS {
        let before = completed_steps(&s.db).await;
        let mut child = spawn_child(&s.url, &state);
        // A few submissions after its start, at another place each time.
        let enough = before + 3 + i64::try_from(round % 5).unwrap();
        eventually("the child submits", || async { completed_steps(&s.db).await >= enough }).await;
        tokio::time::sleep(Duration::from_micros(round * 317 % 1_900)).await;
        child.kill().expect("SIGKILL");
        child.wait().expect("it is gone");
        check(&s, &state).await;
    }
}

/// Every execution stands somewhere where it may stand, and every fact is there once.
async fn check(s: &Scratch, state: &TempDir) {
    let (db, steps) = engine_for_good(&s.url, state.path()).await;
    let all = ExecutionFilter { limit: Some(1_000), ..ExecutionFilter::default() };
    for summary in steps.executions(&all).await.unwrap() {
        let id = summary.execution_id;
        let view = steps.history(&id).await.unwrap();
        let completed: Vec<_> =
            view.steps.iter().filter(|s| s.status == StepStatus::Completed).collect();
        for step in &completed {
            assert_eq!(step.output.as_ref().map(|o| o.summary.as_str()), Some("s"), "{id}");
            assert_eq!(step.artifacts.len(), 2, "{id}");
        }
        let events = |kind: &'static str| {
            let (db, id) = (db.clone(), id.clone());
            async move {
                let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM step_events \
                           WHERE execution_id = $1 AND event_type = $2";
                let (n,): (i64,) = db.one(sql, args![&id, kind]).await.unwrap();
                usize::try_from(n).unwrap()
            }
        };
        assert_eq!(events("step_completed").await, completed.len(), "{id}");
        match view.state {
            S::Running => {
                assert_eq!(view.current_steps.len(), 1, "{id}: {view:?}");
                let current = steps.current(&id).await.unwrap();
                let peeked = steps.peek(&token(&current)).await.unwrap();
                assert_eq!(peeked.step, current.step, "{id}: its token is good");
                assert_eq!(events("token_generated").await, completed.len() + 1, "{id}");
            }
            S::Completed => {
                assert_eq!((completed.len(), view.synthesis.is_some()), (3, true), "{id}");
                let filter =
                    ArtifactFilter { execution_id: Some(id.clone()), ..ArtifactFilter::default() };
                let artifacts = steps.artifacts(&filter).await.unwrap();
                assert_eq!(artifacts.iter().filter(|a| a.is_final).count(), 7, "{id}");
                assert_eq!(events("workflow_completed").await, 1, "{id}");
            }
            other => panic!("{id} is {other}"),
        }
    }
    db.close().await;
}
