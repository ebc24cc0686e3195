//! A hostile client that takes its time, sends too much, or takes nothing.

use std::time::{Duration, Instant};

use adwd::limits::{
    HTTP_BODIES_BYTES, HTTP_BODY_BYTES, HTTP_BODY_MS, HTTP_HEAD_MS, HTTP_SILENT_MS,
    HTTP_SMALL_BODY_BYTES, OUTSIDE_BODY_MS,
};
use adwd::mcp::bounds::BODY_MAX_BYTES;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hostile_support::*;
use crate::world::{RUN, SOON, World, eventually, quoted};

/// Sends a byte every now and then, until the server has had enough; what it said, and when.
async fn drip(address: &str, first: String) -> (String, Duration) {
    let began = Instant::now();
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    write.write_all(first.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_millis(200));
    let mut piece = [0; 4096];
    loop {
        tokio::select! {
            _ = beat.tick() => drop(write.write_all(b"x").await),
            count = read.read(&mut piece) => match count {
                Ok(count) if count > 0 => said.extend_from_slice(&piece[..count]),
                _ => break,
            },
        }
        assert!(began.elapsed() < Duration::from_secs(90), "the server has no end of patience");
    }
    (String::from_utf8_lossy(&said).into_owned(), began.elapsed())
}

fn head(address: &str, path: &str, framing: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{framing}\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_byte_by_byte_is_told_that_time_is_up() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let at = address(&world);
    let before = resident_kib(&daemon);
    let good = Good::start(&daemon);
    let slow_head = drip(&at, "POST /mcp HTTP/1.1\r\nX: ".to_owned());
    let slow_body = drip(&at, head(&at, "/mcp", "Content-Length: 100000\r\n"));
    let slow_chunk = drip(&at, head(&at, "/mcp", "Transfer-Encoding: chunked\r\n") + "ffff\r\n");
    let silent = async {
        let began = Instant::now();
        (say(&at, "").await, began.elapsed())
    };
    let (one, two, three, four) = tokio::join!(slow_head, slow_body, slow_chunk, silent);
    assert_eq!(status(&one.0), 408, "{}", one.0);
    assert!(one.1.as_millis() as u64 >= HTTP_HEAD_MS, "{:?}", one.1);
    for (answer, after) in [two, three] {
        assert_eq!(status(&answer), 408, "{answer}");
        assert!(after.as_millis() as u64 >= HTTP_BODY_MS, "{after:?}");
    }
    assert_eq!(four.0, "");
    assert!(four.1.as_millis() as u64 >= HTTP_SILENT_MS, "{:?}", four.1);
    good.end().await;
    assert_flat(&daemon, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_beyond_their_bound_are_refused_and_leave_nothing() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let at = address(&world);
    let before = resident_kib(&daemon);
    let good = Good::start(&daemon);
    for (path, max) in [("/mcp", BODY_MAX_BYTES), ("/none", HTTP_BODY_BYTES)] {
        let bytes = "x".repeat(max + 1);
        let declared = head(&at, path, &format!("Content-Length: {}\r\n", max + 1));
        let answer = say(&at, declared.clone() + &bytes).await;
        assert_eq!(status(&answer), 413, "{path}: {answer}");
        // Before a byte of it is sent.
        assert_eq!(status(&say(&at, declared).await), 413, "{path}");
    }
    for _ in 0..4 {
        let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
        let endless = head(&at, "/mcp", "Transfer-Encoding: chunked\r\n") + &chunk.repeat(16);
        let answer = say(&at, endless).await;
        assert_eq!(status(&answer), 413, "{answer}");
    }
    good.end().await;
    assert_flat(&daemon, before);
}

/// What a body costs is more than its bytes: an array of zeros is read as values of many bytes each.
#[tokio::test(flavor = "multi_thread")]
async fn many_expensive_bodies_at_once_cost_nobody_anything() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let at = address(&world);
    let before = resident_kib(&daemon);
    let good = Good::start(&daemon);
    expensive_bodies(&at).await;
    // The heap keeps room for the largest that it has seen, some bodies' worth of it; what counts is
    // that it does not grow with what comes after.
    let seen = resident_kib(&daemon);
    assert!(seen <= before + 3 * GROWTH_KIB, "{before} to {seen} KiB");
    for _ in 0..2 {
        expensive_bodies(&at).await;
    }
    good.end().await;
    eventually("the memory does not grow", SOON, async || {
        let now = resident_kib(&daemon);
        if now <= seen + GROWTH_KIB { Ok(()) } else { Err(format!("{seen} to {now} KiB")) }
    })
    .await;
}

async fn expensive_bodies(at: &str) {
    let zeros = "0,".repeat((BODY_MAX_BYTES - 4096) / 2);
    let call = rpc("tools/call", json!({ "name": "list_adw_workflows", "arguments": { "x": [] } }));
    let body = call.to_string().replace("[]", &format!("[{}0]", zeros));
    let bytes = post(at, &[], &body);
    let calls = (0..12).map(|_| say(at, &bytes));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(status(&answer), 400, "{answer}");
        assert!(answer.contains("at most 100000 values"), "{answer}");
    }
    // As much as may be, as one text: it is read, and refused by its argument's name.
    let text = "x".repeat(BODY_MAX_BYTES - 4096);
    let call =
        rpc("tools/call", json!({ "name": "get_adw_state", "arguments": { "adw_id": text } }));
    let bytes = post(at, &[], &call.to_string());
    let calls = (0..12).map(|_| say(at, &bytes));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.len() < 16 * 1024);
    }
}

/// Bodies of strangers (a webhook's proves itself only once it is whole) share a room of their own:
/// however many are on their way, those who were let in to `/mcp` find theirs.
#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_of_strangers_take_no_room_from_those_who_were_let_in() {
    let world = World::new().await;
    world.set("github.webhook_secret", &quoted("0123456789abcdef0123456789abcdef"));
    let _daemon = world.daemon().await;
    let at = address(&world);
    let length = format!("Content-Length: {HTTP_BODY_BYTES}\r\n");
    let mut strangers = Vec::new();
    for _ in 0..HTTP_BODIES_BYTES / HTTP_BODY_BYTES + 1 {
        let mut stranger = TcpStream::connect(&at).await.unwrap();
        let first = head(&at, "/webhooks/github", &length) + &"x".repeat(1024);
        stranger.write_all(first.as_bytes()).await.unwrap();
        strangers.push(stranger);
    }
    let text = "x".repeat(2 * HTTP_SMALL_BODY_BYTES);
    let call =
        rpc("tools/call", json!({ "name": "get_adw_state", "arguments": { "adw_id": text } }));
    let began = Instant::now();
    let answer = say(&at, &post(&at, &[], &call.to_string())).await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(began.elapsed() < Duration::from_millis(OUTSIDE_BODY_MS / 2), "{:?}", began.elapsed());
    drop(strangers);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_its_answers_is_cut_off() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let at = address(&world);
    let before = resident_kib(&daemon);
    let good = Good::start(&daemon);
    let list = rpc("tools/list", json!({})).to_string();
    let length = format!("Content-Length: {}\r\n", list.len());
    let many = (head(&at, "/mcp", &length) + &list).repeat(100);
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(&at).await.unwrap();
        let bytes = many.clone();
        deaf.push(tokio::spawn(async move {
            // Comes to an end only when the server hangs up: its answers go nowhere, and it takes no
            // more requests than it can answer.
            while stream.write_all(bytes.as_bytes()).await.is_ok() {}
        }));
    }
    for one in deaf {
        let sent = tokio::time::timeout(Duration::from_secs(RUN), one).await;
        sent.expect("the server hangs up").unwrap();
    }
    good.end().await;
    assert_flat(&daemon, before);
}
