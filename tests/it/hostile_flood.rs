//! A hostile client with many connections.

use adwd::limits::HTTP_CONNECTIONS_COUNT;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::hostile_support::*;
use crate::world::{SOON, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_half_open_connections_keep_nobody_out() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let at = address(&world);
    let before = resident_kib(&daemon);
    let good = Good::start(&daemon);
    let half = format!("POST /mcp HTTP/1.1\r\nHost: {at}\r\nX: ");
    let silent = flood(&at, 1_000, b"").await;
    let begun = flood(&at, 1_000, half.as_bytes()).await;
    eventually("only so many are held", SOON, async || {
        let open = silent.iter().chain(&begun).filter(|stream| !is_closed(stream)).count();
        if open <= HTTP_CONNECTIONS_COUNT { Ok(()) } else { Err(format!("{open} are open")) }
    })
    .await;
    // The oldest went first.
    assert!(silent.iter().take(400).all(is_closed));
    good.end().await;
    let good = Good::start(&daemon);
    good.end().await;
    assert_flat(&daemon, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn resting_connections_make_room_and_answers_under_way_do_not() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let at = address(&world);
    // As many as there are places, each answered once and kept open.
    let whole = format!("GET /none HTTP/1.1\r\nHost: {at}\r\n\r\n");
    let resting = flood(&at, HTTP_CONNECTIONS_COUNT, whole.as_bytes()).await;
    let good = Good::start(&daemon);
    good.end().await;
    drop(resting);

    // As many requests whose bodies are still on their way: nobody may be cut off, and whoever comes
    // now is told to come again.
    let half = post(&at, &[], &rpc("tools/list", json!({})).to_string());
    let (first, last) = half.split_at(half.len() - 1);
    let mut busy = flood(&at, HTTP_CONNECTIONS_COUNT, first.as_bytes()).await;
    let refused = eventually("all places are taken", SOON, async || {
        // Some of the first came while the ones before them were still being closed.
        busy.extend(flood(&at, 1, first.as_bytes()).await);
        let answer = say(&at, &whole.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
        if status(&answer) == 503 { Ok(answer) } else { Err(answer) }
    })
    .await;
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    assert_eq!(body(&refused)["error"]["code"], "overloaded", "{refused}");
    busy.retain(|stream| !is_closed(stream));
    assert!(busy.len() >= HTTP_CONNECTIONS_COUNT, "{} are under way", busy.len());
    for mut stream in busy.drain(..20) {
        stream.write_all(last.as_bytes()).await.unwrap();
        let answer = say_over(stream, b"").await;
        assert_eq!(status(&answer), 200, "{answer}");
    }
    let good = Good::start(&daemon);
    good.end().await;
}
