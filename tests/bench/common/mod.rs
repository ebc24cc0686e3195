//! What the benchmarks share: a daemon in a world of its own, a client that adds next to nothing,
//! and a table of figures with their floor beside them.
//!
//! The client writes lines of JSON-RPC into `adwd stdio` and reads lines back, so that what is
//! measured is the server over stdio and not a client library.

pub mod socket;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long the daemon may take to be ready.
const READY: Duration = Duration::from_secs(60);

/// A daemon with its own folders and database; ended and removed with this value.
pub struct World {
    dir: TempDir,
    daemon: Option<Child>,
}

impl World {
    /// Starts a daemon with this configuration, and waits until it is ready.
    pub fn start(config: &str) -> World {
        let dir = tempfile::Builder::new().prefix("adwd-bench-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let mut world = World { dir, daemon: None };
        world.serve();
        world
    }

    /// Folder of the world.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The embedded database.
    pub fn database(&self) -> PathBuf {
        self.dir().join("state/adwd.db")
    }

    /// Starts the daemon, after [`World::stop`].
    pub fn serve(&mut self) {
        let said = self.dir().join("serve.err");
        let stderr = std::fs::File::create(&said).unwrap();
        let mut command = self.command(&["serve"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0);
        self.daemon = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while !std::fs::read_to_string(&said).unwrap().contains(" ready: ") {
            let said = std::fs::read_to_string(&said).unwrap();
            assert!(begun.elapsed() < READY, "the daemon is not ready: {said}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the daemon, so that its database can be filled.
    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let dir = self.dir();
        let mut command = Command::new(env!("CARGO_BIN_EXE_adwd"));
        command.args(args).env_clear().current_dir(dir);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", dir);
        command.env("ADWD_STATE_DIR", dir.join("state")).env("XDG_RUNTIME_DIR", dir.join("run"));
        command.env("ADWD_HTTP_BIND", "127.0.0.1:0").arg("--config").arg(dir.join("config.toml"));
        command
    }

    /// Runs a command of the shell that must succeed; its standard output.
    pub fn run(&self, args: &[&str]) -> Vec<u8> {
        let ran = self.command(args).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        ran.stdout
    }

    /// Resident memory of the daemon, in MiB.
    pub fn resident_mib(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// Processor time of the daemon so far, in the kernel's ticks (10 ms each).
    pub fn processor_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // After the name, which may hold anything: user and system time are fields 14 and 15.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// Process id of the daemon.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid())).unwrap()
    }

    /// Where the daemon's socket is.
    pub fn socket(&self) -> PathBuf {
        self.dir().join("run/adwd/adwd.sock")
    }

    /// A client of its own connection.
    pub fn client(&self) -> Client {
        Client::of(self.command(&["stdio", "--no-start"]))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A client over `adwd stdio`.
pub struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    id: u64,
    line: String,
}

impl Client {
    /// Starts the command, which is `adwd stdio`, and introduces itself.
    pub fn of(mut command: Command) -> Client {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut client = Client { child, stdin, stdout, id: 0, line: String::new() };
        client.ask(
            "initialize",
            json!({
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": { "name": "bench", "version": "1" },
            }),
        );
        client.tell(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }

    fn tell(&mut self, message: &Value) {
        let mut line = serde_json::to_vec(message).unwrap();
        line.push(b'\n');
        self.stdin.write_all(&line).unwrap();
    }

    /// Sends a request and waits for its reply; notifications in between are passed over.
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        self.tell(&json!({ "jsonrpc": "2.0", "id": self.id, "method": method, "params": params }));
        let id = format!("\"id\":{}", self.id);
        loop {
            self.line.clear();
            assert!(self.stdout.read_line(&mut self.line).unwrap() > 0, "the daemon hung up");
            if self.line.contains(&id) {
                let reply: Value = serde_json::from_str(&self.line).unwrap();
                if reply["id"] == self.id {
                    return reply;
                }
            }
        }
    }

    /// Calls a tool; the structured answer of a call that must succeed.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let mut reply = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        let result = reply["result"].take();
        assert_ne!(result["isError"], true, "{tool}: {result}");
        assert!(result["structuredContent"].is_object(), "{tool}: {reply} {result}");
        result["structuredContent"].clone()
    }

    /// Calls a tool `count` times with `flight` calls on their way at any moment; the calls that
    /// were answered a second.
    #[allow(clippy::cast_precision_loss, reason = "counts")]
    pub fn flood(
        &mut self,
        tool: &str,
        (count, flight): (usize, usize),
        mut arguments: impl FnMut(usize) -> Value,
    ) -> f64 {
        let begun = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        while answered < count {
            while sent < count && sent - answered < flight {
                self.id += 1;
                let params = json!({ "name": tool, "arguments": arguments(sent) });
                let (id, method) = (self.id, "tools/call");
                let call =
                    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
                self.tell(&call);
                sent += 1;
            }
            self.line.clear();
            assert!(self.stdout.read_line(&mut self.line).unwrap() > 0, "the daemon hung up");
            let reply: Value = serde_json::from_str(&self.line).unwrap();
            if reply["id"].is_number() {
                assert!(reply["result"]["structuredContent"].is_object(), "{tool}: {reply}");
                answered += 1;
            }
        }
        count as f64 / begun.elapsed().as_secs_f64()
    }

    /// Reads a resource that must be there.
    pub fn read(&mut self, uri: &str) -> Value {
        let reply = self.ask("resources/read", json!({ "uri": uri }));
        assert!(reply["result"]["contents"][0]["text"].is_string(), "{uri}: {reply}");
        reply
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Times of one kind of call, in microseconds, sorted.
pub struct Times(Vec<f64>);

impl Times {
    /// Runs `call` `warm + count` times and keeps the times of the last `count`.
    pub fn of(warm: usize, count: usize, mut call: impl FnMut()) -> Times {
        let mut times = Vec::with_capacity(count);
        for at in 0..warm + count {
            let begun = Instant::now();
            call();
            if at >= warm {
                times.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
        Times::new(times)
    }

    /// Of times measured elsewhere, in microseconds.
    pub fn new(mut times: Vec<f64>) -> Times {
        times.sort_by(f64::total_cmp);
        Times(times)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Each of them, in microseconds.
    pub fn each(&self) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().copied()
    }

    /// The time that the part `q` of all calls stayed below, in milliseconds.
    pub fn quantile(&self, q: f64) -> f64 {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let at = ((self.0.len() - 1) as f64 * q).round() as usize;
        self.0[at] / 1e3
    }

    /// The median, in milliseconds.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

/// The table that is printed.
pub struct Table {
    floor: f64,
}

impl Table {
    /// Prints the head; `floor` is the cheapest call, measured in the same run.
    pub fn new(floor: &Times) -> Table {
        let floor_ms = floor.median();
        println!("floor: ping, median {floor_ms:.3} ms, p95 {:.3} ms", floor.quantile(0.95));
        println!("{:<44} {:>9} {:>9} {:>8} {:>11}", "", "median", "p95", "x floor", "target");
        Table { floor: floor_ms }
    }

    /// Prints a line; the target is for the median, in milliseconds.
    pub fn line(&self, what: &str, times: &Times, target_ms: f64) {
        self.row(what, times, times.median(), target_ms, "median");
    }

    /// Prints a line; the target is for the 95th percentile, in milliseconds.
    pub fn line_p95(&self, what: &str, times: &Times, target_ms: f64) {
        self.row(what, times, times.quantile(0.95), target_ms, "p95");
    }

    /// Prints how many a second there were; the target is the least there should be.
    pub fn rate(&self, what: &str, per_second: f64, target: f64) {
        let verdict = if per_second >= target { "" } else { "  MISSED" };
        println!("{what:<44} {per_second:>8.0}/s {:>18} least {target:>6.0}{verdict}", "");
    }

    /// Prints a ratio; the target is the most it should be.
    pub fn ratio(&self, what: &str, ratio: f64, target: f64) {
        let verdict = if ratio <= target { "" } else { "  MISSED" };
        println!("{what:<44} {ratio:>9.2}x {:>18} most {target:>7.2}{verdict}", "");
    }

    fn row(&self, what: &str, times: &Times, judged: f64, target: f64, of: &str) {
        let (median, p95) = (times.median(), times.quantile(0.95));
        let verdict = if judged <= target { "" } else { "  MISSED" };
        println!(
            "{what:<44} {median:>6.3} ms {p95:>6.3} ms {:>7.1}x {of:>6} {target:>5.1}{verdict}",
            median / self.floor
        );
    }
}
