//! Tokens: told apart when refused, which changes nothing; one winner of a race; a lost answer.

use std::collections::BTreeSet;
use std::sync::Arc;

use adwd::clock::Millis;
use adwd::db::Engine;
use adwd::steps::keys::Key;
use adwd::steps::token::{self, Claims};
use adwd::steps::{ControlAction as A, ExecutionState as S, HandedStatus, Hints, StartRequest};
use serde_json::json;
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

use crate::db::Scratch;
use crate::on_both_engines;
use crate::steps_support::{
    World, chain, content, done, dump_state, engine, eventually, given, open, phase, step, token,
};

on_both_engines!(
    refused_tokens_are_told_apart_and_change_nothing,
    of_32_that_submit_one_token_one_wins,
    of_32_that_submit_the_same_output_all_get_the_one_answer,
    a_lost_answer_is_given_again_with_the_same_tokens,
    the_last_answer_is_given_again_too,
    a_token_that_was_replaced_since_stays_replaced_in_an_answer_given_again,
    peek_shows_the_step_again_and_changes_nothing,
    another_daemon_takes_the_tokens_of_this_one,
    a_replaced_key_still_verifies_and_the_new_one_signs,
    no_token_is_stored,
);

fn altered(token: &str, at: usize) -> String {
    let mut bytes = token.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8(bytes).unwrap()
}

/// A token made by somebody who knows everything but the key.
fn forged(world: &World, id: &str, key: [u8; 32]) -> String {
    let kid = Key::new(1, key, Millis(0)).kid;
    let claims = Claims {
        execution_id: id.to_owned(),
        step_name: "design".to_owned(),
        issued_at: adwd::clock::Clock::now(&*world.clock),
        nonce: "x".to_owned(),
        attempt: 1,
    };
    token::mint(&kid, &key, &claims)
}

async fn refused_tokens_are_told_apart_and_change_nothing(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let (id, good) = (handed.execution_id.clone(), token(&handed));
    let middle = good.find('.').unwrap() + 60;
    let kid_of_good = forged(&world, &id, [9; 32]).replacen(
        &Key::new(1, [9; 32], Millis(0)).kid,
        good.split('.').nth(1).unwrap(),
        1,
    );
    // Signed by our key for a database that is not this one.
    let elsewhere = open(crate::db::sqlite().await).await;
    let foreign = if world.s.db.engine() == Engine::Sqlite {
        std::fs::copy(
            world.state.path().join("steps.key"),
            elsewhere.state.path().join("steps.key"),
        )
        .unwrap();
        let mut elsewhere = elsewhere;
        elsewhere.restart().await;
        Some(token(&elsewhere.start(chain()).await))
    } else {
        None
    };
    let before = dump_state(&world.s.db).await;
    let mut cases = vec![
        (String::new(), "token_malformed"),
        ("exec_001".to_owned(), "token_malformed"),
        (format!("{good}\n"), "token_malformed"),
        (good.replacen("v1.", "v9.", 1), "token_malformed"),
        (altered(&good, middle), "token_signature"),
        (altered(&good, good.len() - 10), "token_signature"),
        (forged(&world, &id, [9; 32]), "token_signature"),
        (kid_of_good, "token_signature"),
    ];
    cases.extend(foreign.map(|token| (token, "unknown_execution")));
    for (token, code) in &cases {
        let error = world.submit(token, done("x")).await.unwrap_err();
        assert_eq!(error.code(), *code, "{token}: {error}");
        assert_eq!(world.steps.peek(token).await.unwrap_err().code(), *code, "{token}");
    }
    world.clock.advance(24 * 3_600_000 + 1);
    let error = world.submit(&good, done("x")).await.unwrap_err();
    assert_eq!(error.code(), "token_expired");
    assert!(error.to_string().contains("1440 minutes ago"), "{error}");
    world.clock.set(crate::steps_support::START.plus_ms(-5_001));
    let error = world.submit(&good, done("x")).await.unwrap_err();
    assert!(error.to_string().contains("in the future"), "{error}");
    assert_eq!(dump_state(&world.s.db).await, before);
    world.clock.set(crate::steps_support::START);

    let handed = world.submit(&good, done("x")).await.unwrap();
    let before = dump_state(&world.s.db).await;
    let error = world.submit(&good, done("y")).await.unwrap_err();
    assert_eq!(error.code(), "token_consumed", "{error}");
    assert_eq!(world.steps.peek(&good).await.unwrap_err().code(), "token_consumed");
    assert_eq!(dump_state(&world.s.db).await, before);
    world.control(&id, A::Abandon).await.unwrap();
    assert_eq!(world.submit(&token(&handed), done("x")).await.unwrap_err().code(), "token_revoked");

    let rejected = cases.len() * 2 + 4;
    eventually("all refusals are told", || async {
        world.count("token_rejected").await == rejected && world.count("token_expired").await == 1
    })
    .await;
}

async fn of_32_that_submit_one_token_one_wins(s: Scratch) {
    let world = Arc::new(open(s).await);
    for _ in 0..3 {
        let handed = world.start(chain()).await;
        let token = token(&handed);
        let barrier = Arc::new(Barrier::new(32));
        let tasks: Vec<_> = (0..32)
            .map(|n| {
                let (world, token, barrier) =
                    (Arc::clone(&world), token.clone(), Arc::clone(&barrier));
                tokio::spawn(async move {
                    barrier.wait().await;
                    world.submit(&token, done(&format!("I am {n}"))).await
                })
            })
            .collect();
        let mut won = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(handed) => {
                    assert_eq!(step(&handed), "implement");
                    won += 1;
                }
                Err(error) => assert_eq!(error.code(), "token_consumed", "{error}"),
            }
        }
        assert_eq!(won, 1);
        let view = world.steps.execution(&handed.execution_id).await.unwrap();
        assert_eq!(view.current_steps, ["implement"]);
    }
}

async fn of_32_that_submit_the_same_output_all_get_the_one_answer(s: Scratch) {
    let world = Arc::new(open(s).await);
    let token = token(&world.start(chain()).await);
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let (world, token) = (Arc::clone(&world), token.clone());
            tokio::spawn(async move { world.submit(&token, done("same")).await.unwrap() })
        })
        .collect();
    let mut answers = BTreeSet::new();
    for task in tasks {
        answers.insert(serde_json::to_string(&task.await.unwrap()).unwrap());
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
}

async fn a_lost_answer_is_given_again_with_the_same_tokens(s: Scratch) {
    let mut world = open(s).await;
    let wide = content(vec![phase("a", &[]), phase("b", &["a"]), phase("c", &["a"])]);
    let request = StartRequest { max_parallel: Some(3), ..StartRequest::default() };
    let first = token(&world.start_with(wide, request).await);
    let output = given(&json!({
        "summary": "s",
        "artifacts": [{"type": "adr", "title": "t", "content": "c"}],
        "confidence": 2
    }));
    let answer = world.submit(&first, output.clone()).await.unwrap();
    assert_eq!(answer.parallel.len(), 1);
    assert!(!answer.warnings.is_empty());
    let before = dump_state(&world.s.db).await;
    world.restart().await;
    assert_eq!(world.submit(&first, output.clone()).await.unwrap(), answer);
    assert_eq!(dump_state(&world.s.db).await, before);
    // The answer stays the same when the work has gone on.
    world.submit(&token(&answer), done("b")).await.unwrap();
    assert_eq!(world.submit(&first, output).await.unwrap(), answer);
    assert_eq!(world.submit(&first, done("s")).await.unwrap_err().code(), "token_consumed");
}

async fn the_last_answer_is_given_again_too(s: Scratch) {
    let world = open(s).await;
    let only = token(&world.start(content(vec![phase("a", &[])])).await);
    let answer = world.submit(&only, done("all")).await.unwrap();
    assert_eq!((answer.status, answer.workflow_state), (HandedStatus::Closed, S::Completed));
    assert_eq!(world.submit(&only, done("all")).await.unwrap(), answer);
    assert_eq!(world.submit(&only, done("else")).await.unwrap_err().code(), "token_consumed");
}

async fn a_token_that_was_replaced_since_stays_replaced_in_an_answer_given_again(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let first = token(&handed);
    let answer = world.submit(&first, done("x")).await.unwrap();
    let new = world.control(&handed.execution_id, A::Reissue).await.unwrap().step.unwrap();
    let again = world.submit(&first, done("x")).await.unwrap();
    assert_eq!(token(&again), token(&answer), "whoever reissued it meant to shut this one out");
    assert_eq!(world.submit(&token(&again), done("y")).await.unwrap_err().code(), "token_revoked");
    assert!(world.submit(&new.token, done("y")).await.is_ok());
}

async fn peek_shows_the_step_again_and_changes_nothing(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let before = dump_state(&world.s.db).await;
    let peeked = world.steps.peek(&token(&handed)).await.unwrap();
    assert_eq!(peeked.status, HandedStatus::NoOp);
    assert_eq!(peeked.step, handed.step);
    let current = world.steps.current(&handed.execution_id).await.unwrap();
    assert_eq!((current.status, current.step), (HandedStatus::Ok, handed.step));
    assert_eq!(dump_state(&world.s.db).await, before);
}

async fn another_daemon_takes_the_tokens_of_this_one(s: Scratch) {
    let world = open(s).await;
    let token = token(&world.start(chain()).await);
    // On PostgreSQL another host has another state folder.
    let own = tempfile::tempdir().unwrap();
    let shared = world.s.db.engine() == Engine::Sqlite;
    let state = if shared { &world.state } else { &own };
    let shutdown = CancellationToken::new();
    let (other, _) = engine(&world.s.db, &world.clock, &world.config, state, &[], &shutdown).await;
    assert_eq!(step(&other.peek(&token).await.unwrap()), "design");
    let handed = other.submit(&token, done("x"), Hints::default()).await.unwrap();
    assert_eq!(world.finish(handed).await.workflow_state, S::Completed);
    assert_eq!(shared, world.state.path().join("steps.key").exists());

    // A key that the other one makes is found when a token of its comes.
    world.clock.advance(31 * 24 * 3_600_000);
    assert!(other.sweep().await.unwrap().key_rotated);
    let handed = other.start_snapshot(chain(), StartRequest::default()).await.unwrap();
    let token = crate::steps_support::token(&handed);
    let current = world.steps.current(&handed.execution_id).await.unwrap();
    assert_eq!(crate::steps_support::token(&current), token, "a read finds the key as well");
    assert_eq!(step(&world.steps.peek(&token).await.unwrap()), "design");
    shutdown.cancel();
}

async fn a_replaced_key_still_verifies_and_the_new_one_signs(s: Scratch) {
    let world = open(s).await;
    world.clock.advance(30 * 24 * 3_600_000 - 1_000);
    let handed = world.start(chain()).await;
    let old = token(&handed);
    world.clock.advance(1_000);
    assert!(world.steps.sweep().await.unwrap().key_rotated);
    assert!(!world.steps.sweep().await.unwrap().key_rotated);
    assert_eq!(token(&world.steps.current(&handed.execution_id).await.unwrap()), old);
    let handed = world.submit(&old, done("x")).await.unwrap();
    let kid = |token: &str| token.split('.').nth(1).unwrap().to_owned();
    assert_ne!(kid(&old), kid(&token(&handed)));
    // A day and the grace later nothing is left that the old key could have signed.
    world.clock.advance(24 * 3_600_000 + 600_001);
    world.steps.sweep().await.unwrap();
    assert_eq!(world.submit(&old, done("x")).await.unwrap_err().code(), "token_signature");
}

async fn no_token_is_stored(s: Scratch) {
    let world = open(s).await;
    let handed = world.start(chain()).await;
    let first = token(&handed);
    let second = token(&world.submit(&first, done("x")).await.unwrap());
    let stored = crate::steps_support::dump(&world.s.db).await.join("\n");
    for token in [first, second] {
        let (signed, mac) = token.rsplit_once('.').unwrap();
        assert!(!stored.contains(mac) && !stored.contains(signed));
    }
}
