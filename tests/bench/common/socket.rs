//! A client on the daemon's socket: lines of JSON-RPC and nothing between.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection. It declares tasks, so a trigger is answered as soon as the run is stored.
pub struct Socket {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
    id: u64,
    notices: VecDeque<(String, SystemTime)>,
}

impl Socket {
    /// Connects and introduces itself.
    pub fn connect(path: &Path) -> Socket {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        let mut socket = Socket { stream, lines, id: 0, notices: VecDeque::new() };
        socket.ask(
            "initialize",
            json!({
                "protocolVersion": "2025-11-25",
                "capabilities": { "extensions": { "io.modelcontextprotocol/tasks": {} } },
                "clientInfo": { "name": "bench", "version": "1" },
            }),
        );
        socket.tell(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        socket
    }

    fn tell(&mut self, message: &Value) {
        let mut line = serde_json::to_vec(message).unwrap();
        line.push(b'\n');
        self.stream.write_all(&line).unwrap();
    }

    /// The next message, and when it came.
    fn next(&mut self) -> (Value, SystemTime) {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "the daemon hung up");
        let at = SystemTime::now();
        (serde_json::from_str(&line).unwrap(), at)
    }

    /// Sends a request, not waiting for its reply.
    pub fn send(&mut self, method: &str, params: &Value) {
        self.id += 1;
        let id = self.id;
        self.tell(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
    }

    /// The next reply; notices that come before it are kept.
    pub fn reply(&mut self) -> Value {
        loop {
            match self.next() {
                (message, _) if message.get("id").is_some() => {
                    assert!(message.get("error").is_none(), "{message}");
                    return message["result"].clone();
                }
                (message, at) => self.keep(&message, at),
            }
        }
    }

    fn keep(&mut self, message: &Value, at: SystemTime) {
        if message["method"] == "notifications/resources/updated" {
            let uri = message["params"]["uri"].as_str().unwrap_or_default().to_owned();
            self.notices.push_back((uri, at));
        }
    }

    /// Sends a request and waits for its reply.
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.send(method, &params);
        self.reply()
    }

    /// Calls a tool; its result, which must be none of an error.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        assert_ne!(result["isError"], true, "{tool}: {result}");
        result
    }

    /// Asks for notices of a resource.
    pub fn subscribe(&mut self, uri: &str) {
        self.ask("resources/subscribe", json!({ "uri": uri }));
    }

    /// Drops the notices that came by now.
    pub fn forget_notices(&mut self) {
        self.notices.clear();
    }

    /// The next notice: which resource reads differently, and when that was heard.
    pub fn notice(&mut self) -> (String, SystemTime) {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return notice;
            }
            let (message, at) = self.next();
            self.keep(&message, at);
        }
    }
}
