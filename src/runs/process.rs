//! Starting programs from the daemon: short commands with an answer, and monitors that outlive it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::monitor;
use super::procfs;
use super::records::{MONITOR_COMMAND, Probe, probe};
use crate::crash::{self, Point};
use crate::limits;

/// A program that could not be started or watched.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("{program} could not be started{hint}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// What may help.
        hint: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// Its end could not be waited for.
    #[error("{program} could not be waited for: {source}")]
    Wait {
        /// The program.
        program: String,
        /// The system's word.
        source: io::Error,
    },
    /// The monitor went away without starting anything.
    #[error("the monitor of {dir} ended before it began: {said}")]
    Monitor {
        /// The attempt's folder.
        dir: String,
        /// How it ended, or the last line of its log.
        said: String,
        /// Whether a signal ended it: then another launch may go well.
        killed: bool,
    },
}

/// A short command. Nothing is inherited: `env` is its whole environment.
#[derive(Clone, Debug)]
pub struct Cmd {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its working folder; the daemon's own where absent.
    pub cwd: Option<PathBuf>,
    /// Its environment.
    pub env: BTreeMap<OsString, OsString>,
    /// What it reads.
    pub stdin: Vec<u8>,
    /// When it is ended, milliseconds.
    pub timeout_ms: u64,
    /// How much of each stream is kept, bytes; the rest is read and dropped.
    pub max_output_bytes: usize,
}

/// What a command answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Standard output, bounded.
    pub stdout: Vec<u8>,
    /// Standard error, bounded.
    pub stderr: Vec<u8>,
    /// It passed its limit and was ended.
    pub timed_out: bool,
    /// Something was dropped.
    pub truncated: bool,
}

impl Output {
    /// It exited with 0 within its limit.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0) && !self.timed_out
    }

    /// Standard output as text.
    #[must_use]
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The last line of standard error that says something; git's first line is often progress.
    #[must_use]
    pub fn last_error_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        text.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default().to_owned()
    }
}

/// A running command. Dropped before its end, it is ended with its whole group: TERM now, KILL a
/// little later. Never KILL first: a git that is killed in the middle leaves its repository
/// poisoned.
struct Running {
    child: Option<Child>,
    group: Pid,
}

impl Running {
    /// The end of the child, or `None` after `limit_ms`.
    async fn wait(&mut self, limit_ms: u64) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Err(io::Error::other("it was given up")) };
        match tokio::time::timeout(Duration::from_millis(limit_ms), child.wait()).await {
            Ok(Ok(status)) => {
                self.child = None;
                Ok(Some(status))
            }
            Ok(Err(e)) => Err(e),
            Err(_) => Ok(None),
        }
    }

    /// Ends the group and waits for the child.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        let _ = killpg(self.group, Signal::SIGTERM);
        let grace = Instant::now() + Duration::from_millis(limits::COMMAND_TERM_GRACE_MS);
        while is_running(self.group) && Instant::now() < grace {
            tokio::time::sleep(Duration::from_millis(limits::LOCK_POLL_MS)).await;
        }
        // Not reaped yet, so the number of the group still names it: what outlived the leader
        // goes now, and no stranger can be hit.
        let _ = killpg(self.group, Signal::SIGKILL);
        let Some(child) = &mut self.child else { return Err(io::Error::other("it was given up")) };
        let status = child.wait().await;
        self.child = None;
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        let group = self.group;
        let _ = killpg(group, Signal::SIGTERM);
        // A thread, because the runtime may be on its way out; the child is owned by it, so that
        // nobody reaps it before the last signal.
        std::thread::spawn(move || {
            let grace = Instant::now() + Duration::from_millis(limits::COMMAND_TERM_GRACE_MS);
            while is_running(group) && Instant::now() < grace {
                std::thread::sleep(Duration::from_millis(limits::LOCK_POLL_MS));
            }
            let _ = killpg(group, Signal::SIGKILL);
            // tokio reaps children that were dropped.
            drop(child);
        });
    }
}

/// Whether a child of ours has not ended, asked without reaping it.
fn is_running(child: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    matches!(waitid(Id::Pid(child), flags), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
}

/// Runs a command to its end, in a process group of its own, both streams read all the time. Where
/// a grandchild keeps a stream open after the end, what came by then is the answer.
///
/// # Errors
/// [`ProcessError`] where it could not be started or waited for. A code other than 0 is no error.
pub async fn output(cmd: &Cmd) -> Result<Output, ProcessError> {
    run(cmd, None).await
}

/// The same with an open file as standard input, which the command does not read: a lock on it
/// lasts as long as the command, also when this process is killed in the middle.
///
/// # Errors
/// As [`output`].
pub async fn output_holding(cmd: &Cmd, held: &File) -> Result<Output, ProcessError> {
    run(cmd, Some(held)).await
}

async fn run(cmd: &Cmd, held: Option<&File>) -> Result<Output, ProcessError> {
    let program = cmd.program.display().to_string();
    let mut child = match spawn(cmd, held) {
        Err(e) if is_passing(&e) => {
            tokio::time::sleep(Duration::from_millis(limits::SPAWN_RETRY_MS)).await;
            spawn(cmd, held)
        }
        done => done,
    }
    .map_err(|source| ProcessError::Spawn {
        program: program.clone(),
        hint: hint_for(&source),
        source,
    })?;
    crash::at(Point::CommandStarted, &crash::command_name(&cmd.program, &cmd.args));
    let stdout = Reader::start(child.stdout.take(), cmd.max_output_bytes);
    let stderr = Reader::start(child.stderr.take(), cmd.max_output_bytes);
    if let Some(mut stdin) = child.stdin.take() {
        let bytes = cmd.stdin.clone();
        tokio::spawn(async move { stdin.write_all(&bytes).await });
    }
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let failed = |source| ProcessError::Wait { program: program.clone(), source };
    let group = pid.ok_or_else(|| failed(io::Error::other("it has no process id")))?;
    let mut running = Running { child: Some(child), group };
    let waited = running.wait(cmd.timeout_ms).await.map_err(failed)?;
    let status = match waited {
        Some(status) => status,
        None => running.end().await.map_err(failed)?,
    };
    let (stdout, cut_out) = stdout.drained().await;
    let (stderr, cut_err) = stderr.drained().await;
    let signal = ExitStatusExt::signal(&status);
    Ok(Output {
        code: status.code(),
        signal,
        stdout,
        stderr,
        timed_out: waited.is_none(),
        truncated: cut_out || cut_err,
    })
}

fn spawn(cmd: &Cmd, held: Option<&File>) -> io::Result<Child> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts commands")]
    let mut command = Command::new(&cmd.program);
    command.args(&cmd.args).env_clear().envs(&cmd.env).process_group(0);
    if held.is_some() {
        command.env(procfs::OWNER, procfs::as_owner());
    }
    command.stdin(match held {
        Some(file) => Stdio::from(file.try_clone()?),
        None if cmd.stdin.is_empty() => Stdio::null(),
        None => Stdio::piped(),
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(cwd) = &cmd.cwd {
        command.current_dir(cwd);
    }
    command.spawn()
}

fn is_passing(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error().map(Errno::from_raw),
        Some(Errno::EAGAIN | Errno::ENOMEM | Errno::ETXTBSY)
    )
}

fn hint_for(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::NotFound => {
            " (is it installed, and is its folder on the PATH of the daemon?)"
        }
        io::ErrorKind::PermissionDenied => " (is it executable?)",
        _ => "",
    }
}

type Captured = Arc<Mutex<(Vec<u8>, bool)>>;

/// Reads a stream to its end and keeps the first bytes of it.
struct Reader {
    captured: Captured,
    task: JoinHandle<()>,
}

impl Reader {
    fn start(stream: Option<impl AsyncRead + Unpin + Send + 'static>, max: usize) -> Reader {
        let captured = Captured::default();
        let to = Arc::clone(&captured);
        let task = tokio::spawn(async move {
            let Some(mut stream) = stream else { return };
            let mut buffer = vec![0_u8; 16 * 1024];
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                let mut kept = to.lock().unwrap_or_else(PoisonError::into_inner);
                let room = max.saturating_sub(kept.0.len()).min(n);
                kept.0.extend_from_slice(&buffer[..room]);
                kept.1 |= room < n;
            }
        });
        Reader { captured, task }
    }

    /// What the stream gave and whether something is missing; waits only a little for an end that
    /// a grandchild may hold back.
    async fn drained(mut self) -> (Vec<u8>, bool) {
        let bound = Duration::from_millis(limits::COMMAND_DRAIN_MS);
        let cut = tokio::time::timeout(bound, &mut self.task).await.is_err();
        let mut kept = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut kept.0), kept.1 || cut)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Finds a program: as it is where it holds a slash, else on the search path.
#[must_use]
pub fn find_program(name: &str, path_var: &OsStr) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let usable =
        |p: &Path| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|p| usable(p));
    }
    std::env::split_paths(path_var)
        .filter(|d| d.is_absolute())
        .map(|d| d.join(name))
        .find(|p| usable(p))
}

/// A systemd scope of its own for an attempt, so that it survives a restart of the service
/// whatever its `KillMode` (`spec/platform.md` §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSpec {
    /// Name of the unit.
    pub unit: String,
    /// The program `systemd-run`.
    pub program: PathBuf,
    /// Ask the user's manager.
    pub user: bool,
}

impl ScopeSpec {
    /// A scope, where this daemon was started by systemd and may ask it for one.
    #[must_use]
    pub fn where_possible(env: &BTreeMap<String, String>, unit: &str) -> Option<ScopeSpec> {
        env.get("INVOCATION_ID")?;
        if !Path::new("/run/systemd/system").is_dir() {
            return None;
        }
        let program = find_program("systemd-run", OsStr::new(env.get("PATH")?))?;
        let user = !nix::unistd::geteuid().is_root();
        if user && !Path::new(env.get("XDG_RUNTIME_DIR")?).join("systemd/private").exists() {
            return None;
        }
        Some(ScopeSpec { unit: unit.to_owned(), program, user })
    }

    fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = if self.user { vec!["--user".into()] } else { vec![] };
        args.extend(["--scope", "--quiet", "--collect", "--slice=adw.slice"].map(OsString::from));
        args.push(format!("--unit={}", self.unit).into());
        args.push("--".into());
        args
    }
}

/// The program to start monitors with: `adwd-monitor` beside `exe`, where it is of this version, else
/// `exe` itself.
pub async fn monitor_program(exe: &Path) -> PathBuf {
    let beside = exe.with_file_name("adwd-monitor");
    if !beside.is_file() {
        return exe.to_path_buf();
    }
    let asked = Cmd {
        program: beside.clone(),
        args: vec![],
        cwd: None,
        env: BTreeMap::new(),
        stdin: vec![],
        timeout_ms: limits::MONITOR_VERSION_MS,
        max_output_bytes: 256,
    };
    match output(&asked).await {
        Ok(said) if said.success() && said.stdout_text().trim() == monitor::VERSION => beside,
        other => {
            let path = beside.display();
            tracing::warn!(%path, ?other, "no monitor of this version; this program is its own");
            exe.to_path_buf()
        }
    }
}

/// How a monitor is started. `env` is the phase's whole environment: it passes through the
/// monitor's own and is written nowhere.
#[derive(Clone, Debug)]
pub struct MonitorLaunch {
    /// This program.
    pub exe: PathBuf,
    /// The attempt's folder; `spec.json` is there.
    pub attempt_dir: PathBuf,
    /// Environment of the phase.
    pub env: BTreeMap<OsString, OsString>,
    /// A scope for it.
    pub scope: Option<ScopeSpec>,
}

/// Starts the monitor and waits until it has begun, ended, or somebody else's is there. One that is
/// killed before it has begun left nothing and is launched again, as a restarted daemon would.
///
/// # Errors
/// [`ProcessError`] where nothing was started.
pub async fn launch_monitor(launch: &MonitorLaunch) -> Result<(), ProcessError> {
    launch_monitor_for(launch, &Arc::default()).await
}

/// The same for somebody who looks at the attempt's folder: the monitor's end wakes him.
///
/// # Errors
/// As [`launch_monitor`].
pub async fn launch_monitor_for(
    launch: &MonitorLaunch,
    ended: &Arc<Notify>,
) -> Result<(), ProcessError> {
    for _ in 1..limits::MONITOR_LAUNCHES_COUNT {
        match launch_where_possible(launch, ended).await {
            Err(e @ ProcessError::Monitor { killed: true, .. }) => {
                tracing::warn!("launching it again: {e}")
            }
            done => return done,
        }
    }
    launch_where_possible(launch, ended).await
}

async fn launch_where_possible(
    launch: &MonitorLaunch,
    ended: &Arc<Notify>,
) -> Result<(), ProcessError> {
    if let Some(scope) = &launch.scope {
        match launch_once(launch, Some(scope), ended).await {
            Ok(()) => return Ok(()),
            Err(e) => {
                tracing::warn!(unit = scope.unit, "no scope could be had, starting without: {e}")
            }
        }
    }
    match launch_once(launch, None, ended).await {
        Err(ProcessError::Spawn { source, .. }) if is_passing(&source) => {
            tokio::time::sleep(Duration::from_millis(limits::SPAWN_RETRY_MS)).await;
            launch_once(launch, None, ended).await
        }
        done => done,
    }
}

async fn launch_once(
    launch: &MonitorLaunch,
    scope: Option<&ScopeSpec>,
    ended: &Arc<Notify>,
) -> Result<(), ProcessError> {
    let program = scope.map_or(&launch.exe, |s| &s.program);
    let failed = |source: io::Error| ProcessError::Spawn {
        program: program.display().to_string(),
        hint: hint_for(&source),
        source,
    };
    let log_path = launch.attempt_dir.join("monitor.log");
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log_path)
        .map_err(failed)?;
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts monitors")]
    let mut command = Command::new(program);
    if let Some(scope) = scope {
        command.args(scope.args()).arg(&launch.exe);
    }
    command.arg(MONITOR_COMMAND).arg(&launch.attempt_dir);
    // The monitor closes it when it has written `start.json`; nothing is ever read from it.
    let (begins, its_end) = std::io::pipe().map_err(failed)?;
    command.env_clear().envs(&launch.env).envs(crash::passed_on()).stdin(its_end);
    command.stdout(log.try_clone().map_err(failed)?).stderr(log);
    crash::here(Point::MonitorLogMade);
    let mut child = command.spawn().map_err(failed)?;
    crash::here(Point::MonitorLaunched);
    // It holds the other end of the pipe as well.
    drop(command);
    let ended = Arc::clone(ended);
    let gone = tokio::spawn(async move {
        let status = child.wait().await;
        ended.notify_one();
        status
    });
    begun(&launch.attempt_dir, &log_path, begins, gone).await
}

/// Returns when the other end of the pipe is closed everywhere.
async fn closed(pipe: io::PipeReader) -> io::Result<()> {
    let mut pipe = pipe::Receiver::from_owned_fd(pipe.into())?;
    let mut nothing = [0];
    while pipe.read(&mut nothing).await? > 0 {}
    Ok(())
}

async fn begun(
    dir: &Path,
    log: &Path,
    begins: io::PipeReader,
    ended: JoinHandle<io::Result<ExitStatus>>,
) -> Result<(), ProcessError> {
    let until = Instant::now() + Duration::from_millis(limits::MONITOR_BEGIN_MS);
    // A hint like every event: what is in the folder decides, also where no hint comes.
    let _ =
        tokio::time::timeout(Duration::from_millis(limits::MONITOR_BEGIN_MS), closed(begins)).await;
    loop {
        let gone = ended.is_finished();
        let there = match probe(dir) {
            Ok(Probe::Live { start, .. }) => start.is_some() || gone,
            Ok(Probe::Ended(_) | Probe::Vanished(_)) => true,
            Ok(Probe::NotStarted) | Err(_) => false,
        };
        if there {
            return Ok(());
        }
        if gone || Instant::now() > until {
            let status = if gone { ended.await.ok().and_then(Result::ok) } else { None };
            let signal = status.as_ref().and_then(ExitStatusExt::signal);
            let line = super::tail::last_lines(log, 1).ok().and_then(|l| l.into_iter().next());
            let said = match (signal, line.filter(|line| !line.is_empty())) {
                (Some(signal), _) => format!("it was killed by signal {signal}"),
                (None, Some(line)) => line,
                (None, None) => "it said nothing".into(),
            };
            let dir = dir.display().to_string();
            return Err(ProcessError::Monitor { dir, said, killed: signal.is_some() });
        }
        tokio::time::sleep(Duration::from_millis(limits::LOCK_POLL_MS)).await;
    }
}
