//! A hostile client of the unix socket: the same user, but perhaps a broken program of theirs.

use std::time::Duration;

use adwd::mcp::bounds::{MESSAGE_MAX_BYTES, UNIX_CONNECTIONS_COUNT};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::hostile_support::*;
use crate::mcp_support::{Client, ok};
use crate::world::{RUN, SOON, World, eventually};

async fn works(client: &Client) {
    ok(client, "list_adw_workflows", json!({})).await;
}

/// Sends lines that end the connection, or are passed over.
async fn sent(world: &World, piece: &[u8], times: usize) {
    let stream = UnixStream::connect(world.socket()).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let sending = async {
        for _ in 0..times {
            if write.write_all(piece).await.is_err() {
                break;
            }
        }
        drop(write);
    };
    let reading = async { while read.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {} };
    let both = async { tokio::join!(sending, reading) };
    tokio::time::timeout(Duration::from_secs(RUN), both).await.expect("the connection ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_its_answers_holds_up_nobody_else() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let other = daemon.client().await;
    let before = resident_kib(&daemon);
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string() + "\n";
    let many = ping.repeat(1_000);
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let stream = UnixStream::connect(world.socket()).await.unwrap();
        let mut sent = 0;
        // Until nothing more is taken for a while, or far beyond what buffers hold.
        let full = async {
            while sent < 200 {
                stream.writable().await.unwrap();
                match stream.try_write(many.as_bytes()) {
                    Ok(_) => sent += 1,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(300), full).await;
        deaf.push(stream);
        works(&other).await;
    }
    assert_flat(&daemon, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_lines_and_garbage_hurt_nobody_else() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let other = daemon.client().await;
    works(&other).await;
    let before = resident_kib(&daemon);
    // A line that never ends: more than a message may have, in pieces.
    sent(&world, &[b'x'; 1 << 20], 2 * MESSAGE_MAX_BYTES / (1 << 20)).await;
    works(&other).await;
    sent(&world, b"\x00\xff\xfe garbage \x80\n", 10_000).await;
    sent(&world, b"{\"jsonrpc\":\"2.0\"\n\n\n[]\nnull\n", 10_000).await;
    sent(&world, ("[".repeat(10_000) + "\n").as_bytes(), 100).await;
    works(&other).await;
    assert_flat(&daemon, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_lines_are_read_and_forgotten() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let other = daemon.client().await;
    let before = resident_kib(&daemon);
    let stream = UnixStream::connect(world.socket()).await.unwrap();
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let text = "x".repeat(MESSAGE_MAX_BYTES - 4_096);
    let mut seen = before;
    for id in 0..12 {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
            "name": "get_adw_state", "arguments": { "adw_id": text },
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "1" },
            } } });
        write.write_all((call.to_string() + "\n").as_bytes()).await.unwrap();
        let line = lines.next_line().await.unwrap().expect("an answer");
        let told: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(told["id"], id);
        assert!(line.len() < 16 * 1024, "{} bytes back", line.len());
        assert!(told["result"]["isError"] == true || told["error"].is_object(), "{line}");
        if id == 5 {
            // The heap keeps some messages' room; what counts is that it does not grow from here.
            seen = resident_kib(&daemon);
            assert!(seen <= before + 3 * GROWTH_KIB, "{before} to {seen} KiB");
        }
    }
    works(&other).await;
    assert_flat(&daemon, seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_leave_those_that_are_there() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let other = daemon.client().await;
    let before = resident_kib(&daemon);
    let mut streams = Vec::new();
    for _ in 0..1_000 {
        streams.push(UnixStream::connect(world.socket()).await.unwrap());
        if streams.len() % 100 == 0 {
            works(&other).await;
        }
    }
    let is_open = |stream: &UnixStream| {
        stream.try_read(&mut [0; 16]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    };
    eventually("only so many are held", SOON, async || {
        let open = streams.iter().filter(|stream| is_open(stream)).count();
        if open <= UNIX_CONNECTIONS_COUNT { Ok(()) } else { Err(format!("{open} are open")) }
    })
    .await;
    works(&other).await;
    assert_flat(&daemon, before);
    drop(streams);
    eventually("there is room again", SOON, async || {
        let Ok(stream) = UnixStream::connect(world.socket()).await else {
            return Err("none".into());
        };
        let (read, mut write) = stream.into_split();
        let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string() + "\n";
        let _ = write.write_all(ping.as_bytes()).await;
        let line = BufReader::new(read).lines().next_line().await;
        line.ok().flatten().ok_or_else(|| "turned away".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_too_many_values_ends_its_connection_alone() {
    let world = World::new().await;
    let daemon = world.daemon().await;
    let other = daemon.client().await;
    let before = resident_kib(&daemon);
    let zeros = "0,".repeat(4 << 20);
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"x","arguments":{{"x":[{zeros}0]}}}}}}"#
    );
    for _ in 0..4 {
        sent(&world, (call.clone() + "\n").as_bytes(), 1).await;
        works(&other).await;
    }
    assert_flat(&daemon, before);
}
