//! A hostile client's tools: raw bytes over TCP, a look at the daemon's memory, and a good client
//! that has to be served throughout.

use std::fs;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{Daemon, SOON, World};

/// How long an answer may take at most: longer than every limit of the server.
const ANSWER: Duration = Duration::from_secs(60);
/// What the daemon may grow by under any attack, in KiB.
pub const GROWTH_KIB: u64 = 64 * 1024;

/// The daemon's `HOST:PORT`.
pub fn address(world: &World) -> String {
    fs::read_to_string(world.state_dir().join("http.addr")).unwrap().trim().to_owned()
}

/// A request that is in order but for what the test puts into it: its connection ends with it.
pub fn request(address: &str, line: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{line} HTTP/1.1\r\n");
    if !headers.iter().any(|header| header.to_ascii_lowercase().starts_with("host:")) {
        text += &format!("Host: {address}\r\n");
    }
    for header in headers {
        text += &format!("{header}\r\n");
    }
    text + "Connection: close\r\n\r\n" + body
}

/// A call over `POST /mcp`, with further headers.
pub fn post(address: &str, headers: &[&str], body: &str) -> String {
    let length = format!("Content-Length: {}", body.len());
    let mut all = vec![
        "Accept: application/json, text/event-stream",
        "Content-Type: application/json",
        length.as_str(),
    ];
    all.extend(headers);
    request(address, "POST /mcp", &all, body)
}

/// A JSON-RPC request.
pub fn rpc(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

/// Sends bytes and gives everything that is answered until the connection is closed.
pub async fn say(address: &str, bytes: impl AsRef<[u8]>) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    say_over(stream, bytes.as_ref()).await
}

/// The same over any stream. Sending goes on while the answer is read; a reset is an end.
pub async fn say_over(stream: impl AsyncRead + AsyncWrite, bytes: &[u8]) -> String {
    let (mut read, mut write) = tokio::io::split(stream);
    let sent = async {
        let _ = write.write_all(bytes).await;
        let _ = write.flush().await;
    };
    let mut answer = Vec::new();
    let heard = async {
        let _ = tokio::time::timeout(ANSWER, read.read_to_end(&mut answer))
            .await
            .expect("an answer, or the end of the connection");
    };
    tokio::join!(sent, heard);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of the first answer; 0 where there is none.
pub fn status(answer: &str) -> u16 {
    answer
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| answer.strip_prefix("HTTP/1.0 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .unwrap_or(0)
}

/// How many answers there are.
pub fn answers(answer: &str) -> usize {
    answer.matches("HTTP/1.1 ").count()
}

/// The JSON body of an answer.
pub fn body(answer: &str) -> Value {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("no JSON ({error}): {answer}"))
}

/// The daemon's resident memory, in KiB.
pub fn resident_kib(daemon: &Daemon<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Insists that the daemon is not much larger than it was.
#[track_caller]
pub fn assert_flat(daemon: &Daemon<'_>, before_kib: u64) {
    let now = resident_kib(daemon);
    assert!(now <= before_kib + GROWTH_KIB, "the daemon grew from {before_kib} to {now} KiB");
}

/// A client that calls again and again, each time on a connection of its own, and insists on being
/// answered soon.
pub struct Good {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Good {
    /// Begins to call.
    pub fn start(daemon: &Daemon<'_>) -> Good {
        adwd::tls::install();
        let (url, stop) = (daemon.url(), CancellationToken::new());
        let ended = stop.clone();
        let web = reqwest::Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(SOON))
            .build()
            .unwrap();
        let task = tokio::spawn(async move {
            let mut calls = 0_u32;
            while calls == 0 || !ended.is_cancelled() {
                let body = rpc("tools/call", json!({ "name": "list_adw_workflows" }));
                let reply = web
                    .post(&url)
                    .header("accept", "application/json, text/event-stream")
                    .json(&body)
                    .send()
                    .await
                    .unwrap_or_else(|error| panic!("call {calls} was not served: {error:?}"));
                assert_eq!(reply.status(), 200);
                let told: Value = reply.json().await.unwrap();
                assert_eq!(told["result"]["isError"], false, "{told}");
                calls += 1;
            }
        });
        Good { stop, task }
    }

    /// Ends, and insists that every call was answered.
    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("every call of the good client is answered");
    }
}

/// Many connections to one address.
pub async fn flood(address: &str, count: usize, first: &[u8]) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if !first.is_empty() {
            let _ = stream.write_all(first).await;
        }
        streams.push(stream);
    }
    streams
}

/// Whether the peer has closed a stream, as far as can be seen now.
pub fn is_closed(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0; 1024]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}
