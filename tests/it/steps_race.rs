//! Four daemons on one database, and 32 callers with one token (`spec/steps.md` §10): one of them
//! wins, and the others learn that it was used, whichever process they asked.

// Tests may start processes; the ban is for the program.
#![allow(clippy::disallowed_methods)]

use std::process::{Child, Command, Stdio};

use adwd::clock::SystemClock;
use adwd::steps::{Hints, StartRequest};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::db::Scratch;
use crate::on_both_engines;
use crate::steps_crash::engine_for_good;
use crate::steps_support::{chain, done, token};

on_both_engines!(of_32_callers_of_four_processes_one_wins);

const URL: &str = "ADWD_TEST_STEPS_RACE_URL";
const STATE: &str = "ADWD_TEST_STEPS_RACE_STATE";
const RACER_TEST: &str = "steps_race::a_racer_submits_the_tokens_it_is_sent";
const SOCKET: &str = "race.sock";
const PROCESSES: usize = 4;
const CALLERS: usize = 8;
const ROUNDS: usize = 20;

/// No test by itself: one of the four processes. It is sent a token a line, submits it from all its
/// callers at once, and sends back what became of each.
#[tokio::test(flavor = "multi_thread")]
async fn a_racer_submits_the_tokens_it_is_sent() {
    let (Ok(url), Ok(state)) = (std::env::var(URL), std::env::var(STATE)) else { return };
    let (_, steps) = engine_for_good(&url, state.as_ref()).await;
    let socket = std::path::Path::new(&state).join(SOCKET);
    let (read, mut write) = UnixStream::connect(socket).await.expect("the parent").into_split();
    let mut tokens = BufReader::new(read).lines();
    while let Some(token) = tokens.next_line().await.expect("a token") {
        let calls = (0..CALLERS).map(|caller| {
            let (steps, token) = (steps.clone(), token.clone());
            let output = done(&format!("{caller} of process {}", std::process::id()));
            tokio::spawn(async move {
                match steps.submit(&token, output, Hints::default()).await {
                    Ok(_) => "won".to_owned(),
                    Err(error) => error.code().to_owned(),
                }
            })
        });
        let mut said = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            said.push(call.await.expect("a call ends"));
        }
        write.write_all(format!("{}\n", said.join(" ")).as_bytes()).await.expect("it is told");
    }
}

fn spawn_racer(url: &str, state: &TempDir) -> Child {
    Command::new(std::env::current_exe().expect("the test's own program"))
        .args([RACER_TEST, "--exact", "--nocapture"])
        .env(URL, url)
        .env(STATE, state.path())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("a racer starts")
}

async fn of_32_callers_of_four_processes_one_wins(s: Scratch) {
    s.db.migrate(&SystemClock).await.expect("migrates");
    let state = tempfile::tempdir().expect("a folder");
    let (db, steps) = engine_for_good(&s.url, state.path()).await;
    let listener = UnixListener::bind(state.path().join(SOCKET)).expect("a socket");
    let mut racers: Vec<Child> = (0..PROCESSES).map(|_| spawn_racer(&s.url, &state)).collect();
    let mut lines = Vec::new();
    for _ in 0..PROCESSES {
        let (stream, _) = listener.accept().await.expect("a racer connects");
        let (read, write) = stream.into_split();
        lines.push((BufReader::new(read).lines(), write));
    }
    for round in 0..ROUNDS {
        let handed = steps.start_snapshot(chain(), StartRequest::default()).await.unwrap();
        let line = format!("{}\n", token(&handed));
        for (_, write) in &mut lines {
            write.write_all(line.as_bytes()).await.expect("a racer hears it");
        }
        let mut said = Vec::new();
        for (read, _) in &mut lines {
            let answers = read.next_line().await.expect("a line").expect("a racer lives");
            said.extend(answers.split(' ').map(str::to_owned));
        }
        let count = |word: &str| said.iter().filter(|said| *said == word).count();
        assert_eq!(said.len(), PROCESSES * CALLERS);
        assert_eq!(count("won"), 1, "round {round}: {said:?}");
        assert_eq!(count("token_consumed"), said.len() - 1, "round {round}: {said:?}");
        let view = steps.execution(&handed.execution_id).await.unwrap();
        assert_eq!(view.current_steps, ["implement"], "round {round}");
        assert_eq!(view.steps[1].attempt, 1, "round {round}");
    }
    drop(lines);
    for racer in &mut racers {
        assert!(racer.wait().expect("a racer ends").success());
    }
    db.close().await;
}
