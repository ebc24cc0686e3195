//! A daemon of a world, and the roads to it.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rmcp::ClientServiceExt;
use rmcp::transport::TokioChildProcess;
use tokio::net::UnixStream;

use super::{ADWD, RUN, SOON, World, eventually};
use crate::mcp_support::{Client, Ear, Era, http_client, lifecycle};

/// A daemon; ended with its world.
pub struct Daemon<'w> {
    world: &'w World,
    child: Option<Child>,
    starts: u32,
    /// Words of the command that starts it, before its own.
    under: Vec<String>,
}

impl<'w> Daemon<'w> {
    pub(super) fn of(world: &'w World) -> Daemon<'w> {
        Daemon { world, child: None, starts: 0, under: vec![] }
    }

    pub(super) fn under(world: &'w World, words: &[&str]) -> Daemon<'w> {
        let mut daemon = Daemon::of(world);
        daemon.under = words.iter().map(|word| (*word).to_owned()).collect();
        daemon
    }

    /// Starts it and waits until it answers on its socket.
    pub async fn start(&mut self) {
        if let Err(said) = self.start_or_end().await {
            panic!("the daemon ended at once: {said}");
        }
    }

    /// Starts it and waits until it answers on its socket, or has ended; the error is what it said.
    pub async fn start_or_end(&mut self) -> Result<(), String> {
        self.launch();
        self.ready_or_ended().await
    }

    /// What it says in this life.
    fn said(&self) -> PathBuf {
        self.world.path(&format!("daemon-{}.err", self.starts))
    }

    /// Starts it.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.starts += 1;
        let stderr = fs::File::create(self.said()).unwrap();
        let words = self.world.serve_words();
        let words: Vec<&String> = self.under.iter().chain(&words).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .current_dir(&self.world.root)
            .env_clear()
            .envs(self.world.env())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stderr.try_clone().unwrap())
            .stderr(stderr)
            .spawn()
            .expect("the daemon starts");
        self.child = Some(child);
    }

    /// Waits until it answers on its socket.
    pub async fn ready(&mut self) {
        if let Err(said) = self.ready_or_ended().await {
            panic!("the daemon ended at once: {said}");
        }
    }

    async fn ready_or_ended(&mut self) -> Result<(), String> {
        let said = self.said();
        let child = self.child.as_mut().expect("it was started");
        // Its word, not the first connection: the socket is open before HTTP is.
        let ready = eventually("the daemon is ready", RUN, async || {
            let said = fs::read_to_string(&said).unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                return Ok(Err(format!("{status}: {said}")));
            }
            if said.contains(" ready: ") { Ok(Ok(())) } else { Err(said) }
        })
        .await;
        if ready.is_err() {
            self.child = None;
        }
        ready
    }

    /// How it ended, where it did by itself; then it can be started again.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("it runs").id().cast_signed()
    }

    /// Ends it as no daemon can prevent.
    pub async fn kill9(&mut self) {
        let status = self.end(Signal::SIGKILL).await;
        assert_eq!(status.signal(), Some(9), "{status}");
    }

    /// Ends it as a service manager would, and waits for its end.
    pub async fn terminate(&mut self) {
        let status = self.end(Signal::SIGTERM).await;
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// Starts it again, after [`Daemon::kill9`] or [`Daemon::terminate`]; or ends it softly first.
    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.terminate().await;
        }
        self.start().await;
    }

    async fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        eventually("the daemon ended", SOON, async || {
            child.try_wait().unwrap().ok_or_else(|| "it lives".to_owned())
        })
        .await
    }

    /// A client over the unix socket, of the protocol's newest revision.
    pub async fn client(&self) -> Client {
        self.unix_client(Era::Modern, Ear::named("test")).await
    }

    /// The same; `None` where the daemon does not live to greet it.
    pub async fn try_client(&self) -> Option<Client> {
        let stream = UnixStream::connect(self.world.socket()).await.ok()?;
        let greeted = Ear::named("test").serve_with_lifecycle(stream, lifecycle(Era::Modern));
        tokio::time::timeout(Duration::from_secs(SOON), greeted).await.ok()?.ok()
    }

    /// A client over the unix socket.
    pub async fn unix_client(&self, era: Era, ear: Ear) -> Client {
        let stream = UnixStream::connect(self.world.socket()).await.unwrap();
        ear.serve_with_lifecycle(stream, lifecycle(era)).await.unwrap()
    }

    /// The address of the MCP endpoint.
    pub fn url(&self) -> String {
        let address = fs::read_to_string(self.world.state_dir().join("http.addr")).unwrap();
        format!("http://{}/mcp", address.trim())
    }

    /// A client over HTTP.
    pub async fn http_client(&self, era: Era) -> Client {
        http_client(&self.url(), None, era, Ear::named("test")).await
    }

    /// A client over the standard streams of an `adwd stdio` child.
    pub async fn stdio_client(&self, era: Era) -> Client {
        stdio_client(self.world, era).await
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A client over the standard streams of an `adwd stdio` child, whether a daemon runs or not.
pub async fn stdio_client(world: &World, era: Era) -> Client {
    let mut command = world.command(&world.root, ADWD);
    command.arg("stdio");
    let transport = TokioChildProcess::new(command).expect("adwd stdio starts");
    let connected = Ear::named("test").serve_with_lifecycle(transport, lifecycle(era));
    tokio::time::timeout(Duration::from_secs(SOON), connected).await.expect("a greeting").unwrap()
}
