//! Rate limits, stalls, abandonment, time limits, retention: what time does to an execution.

use adwd::config::{Rate, StepsConfig};
use adwd::limits::STEPS_GUESSES_COUNT;
use adwd::steps::{
    Complexity, ControlAction as A, EventFilter, ExecutionState as S, HandedStatus, Hints,
    StartRequest, StepsError,
};
use serde_json::json;

use crate::db::Scratch;
use crate::on_both_engines;
use crate::steps_support::{
    MINUTE_MS, chain, content, done, dump_state, eventually, open, open_with, phase, step, token,
    unlimited,
};

on_both_engines!(
    a_run_at_full_speed_is_limited_from_the_fourth_submission_on,
    an_agents_bucket_is_shared_by_all_executions,
    a_refused_call_takes_nothing_out_of_a_bucket,
    a_connection_that_guesses_at_tokens_is_told_to_wait_and_no_other_is,
    limits_can_be_switched_off,
    a_claim_takes_from_the_buckets_as_well,
    a_stall_is_told_once_an_episode_and_across_a_restart,
    a_paused_execution_never_stalls_and_is_given_up_after_a_day,
    a_held_execution_is_left_alone,
    abandonment_can_be_switched_off,
    a_time_limit_counts_neither_pauses_nor_other_states,
    old_telemetry_goes_and_new_stays,
    every_change_is_told_to_listeners,
);

fn limited() -> StepsConfig {
    StepsConfig { rate_limits: true, ..unlimited() }
}

fn long_chain() -> adwd::steps::Snapshot {
    let names: Vec<String> = (0..7).map(|n| format!("s{n}")).collect();
    let mut phases = vec![phase(&names[0], &[])];
    phases.extend(names.windows(2).map(|pair| phase(&pair[1], &[&pair[0]])));
    content(phases)
}

fn wait(error: &StepsError) -> (&'static str, i64) {
    match error {
        StepsError::RateLimited { scope, retry_after_ms, .. } => (scope, *retry_after_ms),
        other => panic!("{other}"),
    }
}

async fn a_run_at_full_speed_is_limited_from_the_fourth_submission_on(s: Scratch) {
    let world = open_with(s, limited()).await;
    let mut handed = world.start(long_chain()).await;
    for _ in 0..3 {
        handed = world.submit(&token(&handed), done("x")).await.unwrap();
    }
    let before = dump_state(&world.s.db).await;
    let fourth = token(&handed);
    let error = world.submit(&fourth, done("x")).await.unwrap_err();
    assert_eq!(wait(&error), ("task", 2_000));
    assert_eq!(error.code(), "rate_limited");
    // A quarter of a call has come back, at half a call a second: the seed's example.
    world.clock.advance(500);
    assert_eq!(wait(&world.submit(&fourth, done("x")).await.unwrap_err()), ("task", 1_500));
    world.clock.advance(1_499);
    assert_eq!(wait(&world.submit(&fourth, done("x")).await.unwrap_err()), ("task", 1));
    assert_eq!(dump_state(&world.s.db).await, before, "the token is not consumed");
    // A clock that goes back makes nobody wait longer than from nothing.
    world.clock.advance(-4_000);
    assert_eq!(wait(&world.submit(&fourth, done("x")).await.unwrap_err()).1, 2_000);
    world.clock.advance(4_001);
    assert_eq!(step(&world.submit(&fourth, done("x")).await.unwrap()), "s4");
    eventually("the refusals are told", || async { world.count("rate_limited").await == 4 }).await;
    let filter = EventFilter { event_type: Some("rate_limited".to_owned()), ..Default::default() };
    let event = &world.steps.events(&filter).await.unwrap()[0];
    assert_eq!(event.metadata["scope"], json!("task"));
    assert_eq!(event.step_name.as_deref(), Some("s3"));
}

async fn an_agents_bucket_is_shared_by_all_executions(s: Scratch) {
    let world = open_with(s, limited()).await;
    for _ in 0..10 {
        world.start(chain()).await;
    }
    let refused = world.steps.start_snapshot(chain(), StartRequest::default()).await;
    let error = refused.unwrap_err();
    assert_eq!(wait(&error), ("agent", 500));
    assert!(error.to_string().contains("agent:implementer"), "{error}");
    let mut other = chain();
    let supervisor = &mut other.workflow.phases[0];
    supervisor.agent = "supervisor".to_owned();
    world.start(other).await;
    world.clock.advance(500);
    world.start(chain()).await;
}

async fn a_refused_call_takes_nothing_out_of_a_bucket(s: Scratch) {
    let world = open_with(s, limited()).await;
    let handed = world.start(chain()).await;
    let consumed = token(&handed);
    world.submit(&consumed, done("x")).await.unwrap();
    let before = dump_state(&world.s.db).await;
    for _ in 0..5 {
        let error = world.submit(&consumed, done("y")).await.unwrap_err();
        assert_eq!(error.code(), "token_consumed");
        // Nor does a lost answer that is given again.
        world.submit(&consumed, done("x")).await.unwrap();
    }
    assert_eq!(dump_state(&world.s.db).await, before);
}

async fn a_connection_that_guesses_at_tokens_is_told_to_wait_and_no_other_is(s: Scratch) {
    let world = open_with(s, limited()).await;
    let good = token(&world.start(chain()).await);
    let (guesser, other) = (world.steps.of_connection(), world.steps.of_connection());
    let at = good.len() - 10;
    let letter = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
    let altered = format!("{}{letter}{}", &good[..at], &good[at + 1..]);
    for n in 0..STEPS_GUESSES_COUNT {
        let (guess, code) = match n % 2 {
            0 => ("v1.00.x.y", "token_malformed"),
            _ => (altered.as_str(), "token_signature"),
        };
        let error = guesser.submit(guess, done("x"), Hints::default()).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    for _ in 0..5 {
        let error = guesser.submit(&altered, done("x"), Hints::default()).await.unwrap_err();
        assert_eq!(wait(&error), ("connection", 1_000));
        assert_eq!(wait(&guesser.peek("guess").await.unwrap_err()), ("connection", 1_000));
    }
    // Nobody else is held up, and neither is a good token of the same connection.
    assert_eq!(other.peek(&altered).await.unwrap_err().code(), "token_signature");
    assert_eq!(step(&guesser.peek(&good).await.unwrap()), "design");
    let handed = guesser.submit(&good, done("x"), Hints::default()).await.unwrap();
    assert_eq!(step(&handed), "implement");
    world.clock.advance(1_000);
    assert_eq!(guesser.peek(&altered).await.unwrap_err().code(), "token_signature");
    assert_eq!(guesser.peek(&altered).await.unwrap_err().code(), "rate_limited");
    // What is beyond the bound is not stored any more.
    let rejected = usize::try_from(STEPS_GUESSES_COUNT).unwrap() + 2;
    eventually("all refusals are told", || async {
        world.count("token_rejected").await == rejected
    })
    .await;
    assert_eq!(world.count("rate_limited").await, 0);
}

async fn limits_can_be_switched_off(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(long_chain()).await;
    assert_eq!(world.finish(handed).await.workflow_state, S::Completed);
    assert!(!dump_state(&world.s.db).await.iter().any(|row| row.starts_with("rate_buckets")));
}

async fn a_claim_takes_from_the_buckets_as_well(s: Scratch) {
    let config = StepsConfig { task_rate: Rate { per_second: 1.0, burst: 1 }, ..limited() };
    let world = open_with(s, config).await;
    let mut phases = vec![phase("a", &[]), phase("b", &[]), phase("c", &["a"]), phase("d", &["a"])];
    phases[0].allow_parallel = false;
    phases[1].depends_on = vec!["a".to_owned()];
    let request = StartRequest { max_parallel: Some(3), ..StartRequest::default() };
    let handed = world.start_with(content(phases), request).await;
    let handed = world.submit(&token(&handed), done("a")).await.unwrap();
    assert_eq!(handed.parallel.len(), 2, "all of them at once");
    let none = world.steps.claim(&handed.execution_id, Hints::default()).await.unwrap();
    assert_eq!(none.status, HandedStatus::NoOp, "nothing to hand out is no call");
    let pending = "UPDATE execution_steps SET status = 'pending' WHERE step_name = 'd'";
    world.s.db.exec(pending, vec![]).await.unwrap();
    let error = world.steps.claim(&handed.execution_id, Hints::default()).await.unwrap_err();
    assert_eq!(wait(&error), ("task", 1_000));
    world.clock.advance(1_000);
    let handed = world.steps.claim(&handed.execution_id, Hints::default()).await.unwrap();
    assert_eq!(step(&handed), "d");
}

async fn a_stall_is_told_once_an_episode_and_across_a_restart(s: Scratch) {
    let mut world = open(s).await;
    let handed = world.start(chain()).await;
    let id = handed.execution_id.clone();
    let sweep = async |world: &crate::steps_support::World| {
        world.steps.sweep().await.unwrap();
        world.count("stall_detected").await
    };
    world.clock.advance(30 * MINUTE_MS - 1);
    assert_eq!(sweep(&world).await, 0);
    world.clock.advance(1);
    assert_eq!(sweep(&world).await, 1);
    for _ in 0..10 {
        world.clock.advance(MINUTE_MS);
        assert_eq!(sweep(&world).await, 1, "upstream told it every minute");
    }
    world.restart().await;
    assert_eq!(sweep(&world).await, 1);
    world.clock.advance(20 * MINUTE_MS);
    assert_eq!(sweep(&world).await, 2, "again at twice the time");
    world.restart().await;
    assert_eq!(sweep(&world).await, 2);
    let filter =
        EventFilter { event_type: Some("stall_detected".to_owned()), ..Default::default() };
    let event = &world.steps.events(&filter).await.unwrap()[0];
    assert_eq!(event.metadata["elapsed_minutes"], json!(60));
    assert_eq!(event.step_name.as_deref(), Some("design"));

    // Activity ends the episode; the next one is told anew.
    world.submit(&token(&handed), done("x")).await.unwrap();
    assert_eq!(sweep(&world).await, 2);
    world.clock.advance(30 * MINUTE_MS);
    assert_eq!(sweep(&world).await, 3);
    assert_eq!(world.state(&id).await, S::Running);
    world.clock.advance(24 * 60 * MINUTE_MS);
    assert_eq!(sweep(&world).await, 3);
    let view = world.steps.execution(&id).await.unwrap();
    assert_eq!(view.state, S::Abandoned);
    assert!(view.state_reason.unwrap().contains("1470 minutes"));
}

async fn a_paused_execution_never_stalls_and_is_given_up_after_a_day(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let id = handed.execution_id.clone();
    world.control(&id, A::Pause).await.unwrap();
    world.clock.advance(24 * 60 * MINUTE_MS - 1);
    let swept = world.steps.sweep().await.unwrap();
    assert_eq!((swept.stalled, swept.abandoned), (0, 0));
    world.clock.advance(1);
    assert_eq!(world.steps.sweep().await.unwrap().abandoned, 1);
    assert_eq!(world.state(&id).await, S::Abandoned);
    assert_eq!(world.steps.sweep().await.unwrap().abandoned, 0);
    let error = world.submit(&token(&handed), done("x")).await.unwrap_err();
    assert!(["token_revoked", "token_expired"].contains(&error.code()), "{error}");
}

async fn a_held_execution_is_left_alone(s: Scratch) {
    let world = open(s).await;
    let held = StartRequest { hold: true, ..StartRequest::default() };
    let id = world.start_with(chain(), held).await.execution_id;
    world.clock.advance(10 * 24 * 60 * MINUTE_MS);
    let swept = world.steps.sweep().await.unwrap();
    assert_eq!((swept.stalled, swept.abandoned), (0, 0));
    assert_eq!(world.state(&id).await, S::Idle);
}

async fn abandonment_can_be_switched_off(s: Scratch) {
    let world = open_with(s, StepsConfig { abandon_after_ms: 0, ..unlimited() }).await;
    let id = world.start(chain()).await.execution_id;
    world.clock.advance(100 * 24 * 60 * MINUTE_MS);
    let swept = world.steps.sweep().await.unwrap();
    assert_eq!((swept.stalled, swept.abandoned), (1, 0));
    assert_eq!(world.state(&id).await, S::Running);
}

async fn a_time_limit_counts_neither_pauses_nor_other_states(s: Scratch) {
    let limit = 15 * MINUTE_MS;
    let world = open_with(s, StepsConfig { time_limit_ms: limit as u64, ..unlimited() }).await;
    let mut simple = chain();
    simple.workflow.complexity = Complexity::Simple;
    let (quick, slow) =
        (world.start(simple).await.execution_id, world.start(chain()).await.execution_id);
    world.control(&quick, A::Pause).await.unwrap();
    world.clock.advance(limit);
    assert_eq!(world.steps.sweep().await.unwrap().timed_out, 0, "it is paused");
    world.control(&quick, A::Resume).await.unwrap();
    world.clock.advance(limit - 1);
    assert_eq!(world.steps.sweep().await.unwrap().timed_out, 0);
    world.clock.advance(2);
    assert_eq!(world.steps.sweep().await.unwrap().timed_out, 1);
    let view = world.steps.execution(&quick).await.unwrap();
    assert_eq!(view.state, S::Failed);
    assert!(view.state_reason.unwrap().contains("longer than its 15"));
    // A moderate workflow has four times as long.
    assert_eq!(world.state(&slow).await, S::Running);
    world.clock.advance(2 * limit);
    assert_eq!(world.steps.sweep().await.unwrap().timed_out, 1);
    assert_eq!(world.state(&slow).await, S::Failed);
}

async fn old_telemetry_goes_and_new_stays(s: Scratch) {
    let keep_ms = 10 * 60_000;
    let world = open_with(s, StepsConfig { telemetry_keep_ms: keep_ms, ..unlimited() }).await;
    let old = world.start(chain()).await.execution_id;
    world.clock.advance(10 * MINUTE_MS);
    let new = world.start(chain()).await.execution_id;
    assert_eq!(world.steps.sweep().await.unwrap().events_deleted, 0);
    world.clock.advance(1);
    assert_eq!(world.steps.sweep().await.unwrap().events_deleted, 5);
    assert_eq!(world.events(&old).await, Vec::<String>::new());
    assert_eq!(world.events(&new).await.len(), 5);
}

async fn every_change_is_told_to_listeners(s: Scratch) {
    let world = open(s).await;
    let mut heard = world.steps.changes();
    let handed = world.start(chain()).await;
    let id = handed.execution_id.clone();
    world.submit(&token(&handed), done("x")).await.unwrap();
    world.control(&id, A::Pause).await.unwrap();
    world.clock.advance(25 * 60 * MINUTE_MS);
    world.steps.sweep().await.unwrap();
    for change in ["start", "submission", "pause", "abandonment"] {
        let next = tokio::time::timeout(std::time::Duration::from_secs(10), heard.next()).await;
        let expected = adwd::changes::Changed::Execution(id.clone());
        assert_eq!(next.expect(change), Some(expected), "{change}");
    }
}
