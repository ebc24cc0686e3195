//! Control: every action in every state, and what each one does.

use adwd::steps::execution::{ACTIONS, Effect, STATES, effect};
use adwd::steps::{
    ControlAction as A, ControlRequest, ExecutionState as S, StartRequest, StepStatus,
};

use crate::db::Scratch;
use crate::on_both_engines;
use crate::steps_support::{
    World, chain, content, done, dump_state, open, phase, request, step, token,
};

on_both_engines!(
    every_action_in_every_state_does_what_the_table_says,
    a_refused_action_names_those_that_would_be_taken,
    expected_state_is_compared_before_anything_is_done,
    pause_resume_and_finish_with_the_same_token,
    a_token_that_expired_in_the_pause_is_renewed_by_resume,
    reissue_revokes_the_old_token,
    retry_hands_out_a_new_attempt_until_none_is_left,
    diverge_needs_a_reason_and_the_others_keep_theirs,
    the_step_must_be_named_where_several_are_out,
    a_held_execution_starts_with_the_hints_of_its_start,
);

/// A new execution in that state.
async fn in_state(world: &World, state: S) -> String {
    let request = StartRequest { hold: state == S::Idle, ..StartRequest::default() };
    let handed = world.start_with(chain(), request).await;
    let id = handed.execution_id.clone();
    let by = |action| async move { world.control(&handed.execution_id, action).await.unwrap() };
    match state {
        S::Idle | S::Running => {}
        S::Paused => drop(by(A::Pause).await),
        S::Failed => drop(by(A::Fail).await),
        S::Abandoned => drop(by(A::Abandon).await),
        S::Diverged => drop(by(A::Diverge).await),
        S::Completed => {
            let handed = world.steps.current(&id).await.unwrap();
            world.finish(handed).await;
        }
    }
    assert_eq!(world.state(&id).await, state);
    id
}

async fn every_action_in_every_state_does_what_the_table_says(s: Scratch) {
    let world = open(s).await;
    for state in STATES {
        for action in ACTIONS {
            let id = in_state(&world, state).await;
            let before = dump_state(&world.s.db).await;
            let result = world.control(&id, action).await;
            // `approve` is for a step at its gate, and this workflow has none.
            let expected = match (effect(state, action), action) {
                (Effect::No, _) | (_, A::Approve) => None,
                (Effect::To(next), _) => Some(next),
                (Effect::Stays, _) => Some(state),
            };
            match expected {
                Some(next) => {
                    let controlled = result.unwrap_or_else(|e| panic!("{state} {action}: {e}"));
                    assert_eq!(controlled.previous_state, state, "{state} {action}");
                    assert_eq!(controlled.workflow_state, next, "{state} {action}");
                    assert_eq!(world.state(&id).await, next, "{state} {action}");
                }
                None => {
                    let error = result.expect_err("is refused");
                    assert_eq!(error.code(), "state_conflict", "{state} {action}: {error}");
                    assert_eq!(dump_state(&world.s.db).await, before, "{state} {action}");
                }
            }
        }
    }
}

async fn a_refused_action_names_those_that_would_be_taken(s: Scratch) {
    let world = open(s).await;
    for (state, part) in [
        (S::Idle, "actions it takes: start, abandon"),
        (S::Paused, "actions it takes: resume, abandon"),
        (S::Completed, "none: it has ended"),
    ] {
        let id = in_state(&world, state).await;
        let error = world.control(&id, A::Pause).await.unwrap_err().to_string();
        assert!(error.contains(part) && error.contains(&id), "{error}");
    }
    let error = world.control("nobody", A::Pause).await.unwrap_err();
    assert_eq!(error.code(), "unknown_execution");
}

async fn expected_state_is_compared_before_anything_is_done(s: Scratch) {
    let world = open(s).await;
    let id = in_state(&world, S::Running).await;
    let expecting =
        |state| ControlRequest { expected_state: Some(state), ..request(&id, A::Pause) };
    let error = world.steps.control(expecting(S::Idle)).await.unwrap_err();
    assert_eq!(error.code(), "state_conflict");
    assert!(error.to_string().contains("expected_state is idle"), "{error}");
    assert_eq!(world.state(&id).await, S::Running);
    world.steps.control(expecting(S::Running)).await.unwrap();
    assert_eq!(world.state(&id).await, S::Paused);
}

async fn pause_resume_and_finish_with_the_same_token(s: Scratch) {
    // Upstream's pause destroyed the run (`spec/steps.md` §8, R5).
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let (id, first) = (handed.execution_id.clone(), token(&handed));
    world.control(&id, A::Pause).await.unwrap();
    let error = world.submit(&first, done("x")).await.unwrap_err();
    assert_eq!(error.code(), "state_conflict");
    assert!(error.to_string().contains("resume"), "{error}");
    let peeked = world.steps.peek(&first).await.unwrap();
    assert_eq!((step(&peeked), peeked.workflow_state), ("design", S::Paused));
    assert_eq!(token(&world.steps.current(&id).await.unwrap()), first);

    let resumed = world.control(&id, A::Resume).await.unwrap();
    assert_eq!(resumed.current_steps, ["design"]);
    assert!(resumed.step.is_none(), "no token is new");
    let handed = world.submit(&first, done("designed")).await.unwrap();
    assert_eq!(step(&handed), "implement");
    let end = world.finish(handed).await;
    assert_eq!(end.workflow_state, S::Completed);
}

async fn a_token_that_expired_in_the_pause_is_renewed_by_resume(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let (id, old) = (handed.execution_id.clone(), token(&handed));
    world.control(&id, A::Pause).await.unwrap();
    world.clock.advance(25 * 3_600_000);
    let current = world.steps.current(&id).await.unwrap();
    assert_eq!(token(&current), "", "a read makes no token");
    let resumed = world.control(&id, A::Resume).await.unwrap();
    let new = resumed.step.expect("a token is new");
    assert_eq!(new.step_name, "design");
    assert_eq!(world.submit(&old, done("x")).await.unwrap_err().code(), "token_expired");
    assert_eq!(step(&world.submit(&new.token, done("x")).await.unwrap()), "implement");
}

async fn reissue_revokes_the_old_token(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let (id, old) = (handed.execution_id.clone(), token(&handed));
    world.clock.advance(25 * 3_600_000);
    assert_eq!(world.submit(&old, done("x")).await.unwrap_err().code(), "token_expired");
    let new = world.control(&id, A::Reissue).await.unwrap().step.unwrap();
    assert_eq!((new.step_name.as_str(), new.attempt), ("design", 1));
    assert_eq!(new.persona, "\nYou are the implementer.\n");
    assert_eq!(new.contract, handed.step.unwrap().contract);
    let newer = world.control(&id, A::Reissue).await.unwrap().step.unwrap();
    let error = world.submit(&new.token, done("x")).await.unwrap_err();
    assert_eq!(error.code(), "token_revoked", "{error}");
    assert_eq!(token(&world.steps.current(&id).await.unwrap()), newer.token);
    assert_eq!(step(&world.submit(&newer.token, done("x")).await.unwrap()), "implement");
    assert_eq!(world.submit(&new.token, done("x")).await.unwrap_err().code(), "token_revoked");
}

async fn retry_hands_out_a_new_attempt_until_none_is_left(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let (id, first) = (handed.execution_id.clone(), token(&handed));
    let again = world.control(&id, A::Retry).await.unwrap();
    assert_eq!(again.workflow_state, S::Running);
    let second = again.step.unwrap();
    assert_eq!(second.attempt, 2);
    let error = world.submit(&first, done("late")).await.unwrap_err();
    assert_eq!(error.code(), "token_revoked");
    assert!(error.to_string().contains("attempt 2"), "{error}");

    // A moderate workflow has two attempts a step.
    let ended = world.control(&id, A::Retry).await.unwrap();
    assert_eq!(ended.workflow_state, S::Failed);
    let view = world.steps.execution(&id).await.unwrap();
    let reason = view.state_reason.unwrap();
    assert!(reason.contains("attempt 2 of 2") && reason.contains("said so"), "{reason}");
    let statuses: Vec<StepStatus> = view.steps.iter().map(|step| step.status).collect();
    assert_eq!(statuses, [StepStatus::Failed, StepStatus::Skipped, StepStatus::Skipped]);
    assert_eq!(world.submit(&second.token, done("x")).await.unwrap_err().code(), "token_revoked");
    let events = world.events(&id).await;
    assert_eq!(events.iter().filter(|e| *e == "step_failed").count(), 2, "{events:?}");
    assert!(events.contains(&"workflow_failed".to_owned()), "{events:?}");
}

async fn diverge_needs_a_reason_and_the_others_keep_theirs(s: Scratch) {
    let world = open(s).await;
    let id = in_state(&world, S::Running).await;
    for reason in [None, Some(" ".to_owned())] {
        let wanted = ControlRequest { reason, ..request(&id, A::Diverge) };
        let error = world.steps.control(wanted).await.unwrap_err();
        assert_eq!(error.code(), "invalid_arguments");
        assert!(error.to_string().starts_with("reason:"), "{error}");
    }
    let long = ControlRequest { reason: Some("x".repeat(2_001)), ..request(&id, A::Diverge) };
    assert_eq!(world.steps.control(long).await.unwrap_err().code(), "invalid_arguments");
    let token = token(&world.steps.current(&id).await.unwrap());
    world.control(&id, A::Diverge).await.unwrap();
    let view = world.steps.execution(&id).await.unwrap();
    assert_eq!((view.state, view.state_reason.as_deref()), (S::Diverged, Some("said so")));
    assert!(view.steps.iter().all(|step| step.status == StepStatus::Skipped));
    assert!(view.completed_at.is_some() && view.allowed_actions.is_empty());
    let error = world.submit(&token, done("x")).await.unwrap_err();
    assert_eq!(error.code(), "token_revoked");
    assert!(error.to_string().contains("diverged"), "{error}");
}

async fn the_step_must_be_named_where_several_are_out(s: Scratch) {
    let world = open(s).await;
    let wide = content(vec![phase("a", &[]), phase("b", &[]), phase("c", &["a", "b"])]);
    let parallel = StartRequest { max_parallel: Some(2), ..StartRequest::default() };
    let handed = world.start_with(wide, parallel).await;
    let id = handed.execution_id.clone();
    let error = world.control(&id, A::Reissue).await.unwrap_err();
    assert!(error.to_string().contains("a, b"), "{error}");
    let named = |name: &str| ControlRequest {
        step_name: Some(name.to_owned()),
        ..request(&id, A::Reissue)
    };
    assert_eq!(world.steps.control(named("b")).await.unwrap().step.unwrap().step_name, "b");
    assert_eq!(world.steps.control(named("c")).await.unwrap_err().code(), "step_not_ready");
    let error = world.steps.control(named("d")).await.unwrap_err();
    assert_eq!(error.code(), "invalid_arguments");
    assert!(error.to_string().contains("one of a, b, c"), "{error}");
    assert!(world.submit(&token(&handed), done("x")).await.is_ok(), "a's token was left alone");
}

async fn a_held_execution_starts_with_the_hints_of_its_start(s: Scratch) {
    let world = open(s).await;
    let wide = content(vec![phase("a", &[]), phase("b", &[])]);
    let hints =
        adwd::steps::Hints { requested_step_name: Some("b".to_owned()), ..Default::default() };
    let held = StartRequest { hold: true, hints, ..StartRequest::default() };
    let handed = world.start_with(wide, held).await;
    assert_eq!((handed.workflow_state, handed.step.is_none()), (S::Idle, true));
    let error = world.steps.claim(&handed.execution_id, Default::default()).await.unwrap_err();
    assert_eq!(error.code(), "state_conflict");
    let started = world.control(&handed.execution_id, A::Start).await.unwrap();
    assert_eq!(started.step.unwrap().step_name, "b");
    let mut events = world.events(&handed.execution_id).await;
    // The claim was refused; that is told when the sweeper's task comes to it.
    events.retain(|event| event != "error");
    assert_eq!(
        events,
        [
            "workflow_created",
            "workflow_state_transition",
            "workflow_started",
            "step_started",
            "token_generated"
        ]
    );
}
