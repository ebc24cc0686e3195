//! The monitor: one small process per attempt, between the daemon and the phase.
//!
//! It is this program's hidden subcommand, without an async runtime and with one thread, in a
//! session of its own and the subreaper of everything below it. It enforces the wall-clock limit
//! and takes stop requests also while no daemon runs, ends what outlives the phase, and records
//! the end. Launching it twice for one folder never runs the phase twice.
//!
//! What `kill -9` of the monitor leaves is tabled in [`crate::crash`].

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

use super::cgroup::{self, Cgroup};
use super::procfs;
pub use super::records::LaunchSpec;
use super::records::{
    ExitRecord, MARK, MONITOR_COMMAND, StartRecord, StopReason, replace, stop_requested,
    write_atomic,
};
use crate::clock::{Clock, Millis, SystemClock};
use crate::crash::{self, Point};
use crate::limits;
use crate::lock::FileLock;

/// What `adwd-monitor` says of itself, for the daemon: another version may read other files.
pub const VERSION: &str = concat!("adwd-monitor ", env!("CARGO_PKG_VERSION"));

/// Says [`VERSION`].
pub fn tell_version() {
    let _ = writeln!(io::stdout(), "{VERSION}");
}

/// Is the monitor where the arguments of a program (without its name) say so: `__monitor FOLDER`.
#[must_use]
pub fn from_words(mut words: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if words.next()? != MONITOR_COMMAND {
        return None;
    }
    let code = words.next().map_or(2, |dir| monitor_main(Path::new(&dir)));
    Some(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Runs the monitor of the attempt in `dir`; answers the exit code of this program.
#[must_use]
pub fn monitor_main(dir: &Path) -> i32 {
    match monitor(dir) {
        Ok(()) => 0,
        Err(e) => {
            // stderr is `monitor.log` in the attempt's folder.
            tell(format_args!("monitor of {}: {e}", dir.display()));
            1
        }
    }
}

/// Writes a line to `monitor.log`, where there is room for it: `eprintln!` would end the only witness
/// of the exit on the very disk whose fullness it reports.
fn tell(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn monitor(dir: &Path) -> io::Result<()> {
    // Already a leader where systemd-run started it: then its session is good enough.
    let _ = setsid();
    let signals = block_signals()?;
    crash::here(Point::MonitorUp);
    let Some(_alive) = FileLock::exclusive(&dir.join("run.lock"), limits::MONITOR_LOCK_MS)
        .map_err(io::Error::other)?
    else {
        return Ok(());
    };
    if dir.join("start.json").exists() || dir.join("exit.json").exists() {
        return Ok(());
    }
    crash::here(Point::MonitorLocked);
    let spec = LaunchSpec::read(dir)?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let clock = SystemClock;
    let log = open_log(dir)?;
    crash::here(Point::LogLocked);
    let monitor = own_identity()?;
    let group = Cgroup::make(monitor);
    let mut start = StartRecord {
        schema: 1,
        monitor,
        child: None,
        cgroup: group.as_ref().map(|g| g.dir().to_path_buf()),
        boot_id: procfs::boot_id(),
        started_at: clock.now(),
    };
    write_atomic(dir, "start.json", &start)?;
    tell_begun();
    if let Some(reason) = stop_requested(dir) {
        let exit = ExitRecord {
            stopped: Some(reason),
            spawn_error: None,
            ..ExitRecord::never_began("", clock.now())
        };
        return finish(dir, group.as_ref(), &exit);
    }
    crash::here(Point::PhaseUnspawned);
    let leader = match spawn(dir, &spec, &log, group.as_ref()) {
        Ok(pid) => pid,
        Err(why) => {
            return finish(dir, group.as_ref(), &ExitRecord::never_began(&why, clock.now()));
        }
    };
    crash::here(Point::PhaseSpawned);
    start.child = procfs::process(leader.as_raw()).map(|p| p.id);
    // Told for those who come after a kill of this process; the run itself does not need it, and
    // nobody needs it after a power cut.
    if let Err(e) = replace(dir, "start.json", &start) {
        tell(format_args!("start.json could not be completed: {e}"));
    }
    let mut tree = Tree::new(dir, spec, leader, log, group);
    tree.watch(&signals)?;
    let exit = tree.record(start.started_at, clock.now());
    crash::here(Point::PhaseEnded);
    finish(dir, tree.group.as_ref(), &exit)
}

/// Closes the pipe whose other end the daemon holds: it waits for this instead of looking again and
/// again. Where standard input cannot be replaced, the daemon's next look must do.
fn tell_begun() {
    if let Ok(null) = File::open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(null);
    }
}

/// Forks; the child is born in the control group of that folder and is answered `None`.
#[expect(unsafe_code, reason = "neither std nor nix has a fork into a control group")]
fn fork_into(folder: &File) -> io::Result<Option<Pid>> {
    let unused = 0;
    let args = libc::clone_args {
        flags: CLONE_INTO_CGROUP,
        pidfd: unused,
        child_tid: unused,
        parent_tid: unused,
        exit_signal: u64::from((Signal::SIGCHLD as i32).unsigned_abs()),
        stack: unused,
        stack_size: unused,
        tls: unused,
        set_tid: unused,
        set_tid_size: unused,
        cgroup: u64::from(folder.as_raw_fd().unsigned_abs()),
    };
    // SAFETY: without a stack and without shared memory this is a fork, and the monitor has one
    // thread, so nothing that the child does can wait for a thread that is not there. The kernel
    // reads the arguments, which outlive the call, and writes nothing.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    let pid = i32::try_from(Errno::result(pid)?).map_err(io::Error::other)?;
    Ok((pid > 0).then(|| Pid::from_raw(pid)))
}

/// Linux, `sched.h`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Ends a forked child without anything that the parent will do.
#[expect(unsafe_code, reason = "std has no end of a process that leaves everything as it is")]
fn leave(code: i32) -> ! {
    // SAFETY: it never returns, and touches nothing of this program.
    unsafe { libc::_exit(code) }
}

/// Starts a command in a control group: it is born there, so there is no moment at which it is
/// outside. Nobody moves: the kernel has who moves wait for a grace period (12 ms). `None` where
/// nothing can be born there; then descent, session and mark must do.
///
/// The child tells through a pipe that closes with its start why there was none.
fn spawn_born_in(group: &Cgroup, command: &mut Command) -> io::Result<Option<Pid>> {
    let (mut why, failure) = io::pipe()?;
    let child = match File::open(group.dir()).and_then(|folder| fork_into(&folder)) {
        Ok(Some(child)) => child,
        Ok(None) => {
            let error = command.exec();
            let code = error.raw_os_error().unwrap_or(Errno::EIO as i32);
            let _ = (&failure).write_all(&code.to_ne_bytes());
            leave(127)
        }
        Err(e) => {
            tell(format_args!("the control group of the phase goes unused: {e}"));
            return Ok(None);
        }
    };
    drop(failure);
    let mut code = [0; 4];
    match why.read_exact(&mut code) {
        Ok(()) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code))),
        Err(_) => Ok(Some(child)),
    }
}

/// Records the end. A full disk may have room again a moment later, and this file is the only
/// witness of the exit.
fn finish(dir: &Path, group: Option<&Cgroup>, exit: &ExitRecord) -> io::Result<()> {
    if let Some(group) = group {
        cgroup::remove(group.dir());
    }
    let until = Instant::now() + Duration::from_millis(limits::EXIT_RECORD_MS);
    loop {
        match write_atomic(dir, "exit.json", exit) {
            Err(e) if Instant::now() < until && dir.is_dir() => {
                tell(format_args!("exit.json: {e}; trying again"))
            }
            done => return done,
        }
        std::thread::sleep(Duration::from_millis(limits::EXIT_RECORD_PAUSE_MS));
    }
}

/// Blocks what must not end the monitor. Children inherit the blocked set, so [`clear_mask`] gives
/// it back to them.
fn block_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGXFSZ,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

fn own_identity() -> io::Result<super::records::Identity> {
    let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    procfs::process(pid)
        .map(|p| p.id)
        .ok_or_else(|| io::Error::other("/proc does not show this process"))
}

/// Opens the log and locks its open file description, which the whole tree will inherit.
fn open_log(dir: &Path) -> io::Result<File> {
    let until = Instant::now() + Duration::from_millis(limits::MONITOR_LOCK_MS);
    loop {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(dir.join("execution.log"))?;
        if let Some(lock) = FileLock::from_file(file).map_err(io::Error::other)? {
            return Ok(lock.into_inherited());
        }
        if Instant::now() > until {
            return Err(io::Error::other(
                "execution.log stays locked: something of an earlier start lives",
            ));
        }
        std::thread::sleep(Duration::from_millis(limits::LOCK_POLL_MS));
    }
}

/// Lets a child start with no signal blocked. std hands the parent's mask on (since Rust 1.66),
/// and a phase that blocks SIGINT, SIGTERM and SIGCHLD can neither be stopped nor wait.
#[expect(unsafe_code, reason = "std has no safe form of giving a child a signal mask, nor has nix")]
fn clear_mask(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; `thread_set_mask` is
    // one `pthread_sigmask` on a set made on the stack, and an `Errno` converts without allocating.
    unsafe { command.pre_exec(|| SigSet::empty().thread_set_mask().map_err(io::Error::from)) }
}

/// Starts the phase. The error is a sentence for people.
fn spawn(dir: &Path, spec: &LaunchSpec, log: &File, group: Option<&Cgroup>) -> Result<Pid, String> {
    let Some((program, args)) = spec.argv.split_first() else {
        return Err("the launch specification names no program".into());
    };
    if !spec.cwd.is_dir() {
        return Err(format!("its working folder {} is not there", spec.cwd.display()));
    }
    let attempt = || -> io::Result<Pid> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that starts phases")]
        let mut command = Command::new(program);
        command.args(args).current_dir(&spec.cwd).env(MARK, dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        let command = clear_mask(command.process_group(0));
        if let Some(group) = group
            && let Some(child) = spawn_born_in(group, command)?
        {
            return Ok(child);
        }
        // Reaped later with everything else, by pid.
        Ok(Pid::from_raw(i32::try_from(command.spawn()?.id()).unwrap_or(i32::MAX)))
    };
    let child = attempt().or_else(|e| {
        // A spawn that fails for a passing reason is tried once more.
        if matches!(
            e.raw_os_error(),
            Some(libc_codes::EAGAIN | libc_codes::ENOMEM | libc_codes::ETXTBSY)
        ) {
            std::thread::sleep(Duration::from_millis(limits::SPAWN_RETRY_MS));
            return attempt();
        }
        Err(e)
    });
    child.map_err(|e| format!("{program} could not be started: {e}"))
}

/// The three errno values of a passing reason.
mod libc_codes {
    pub const EAGAIN: i32 = nix::errno::Errno::EAGAIN as i32;
    pub const ENOMEM: i32 = nix::errno::Errno::ENOMEM as i32;
    pub const ETXTBSY: i32 = nix::errno::Errno::ETXTBSY as i32;
}

/// How far the ending of a tree has come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ladder {
    /// Nobody is asked to end.
    Up,
    /// The leader was sent SIGINT; SIGTERM to all follows at that time.
    Interrupted(Instant),
    /// All were sent SIGTERM; SIGKILL follows at that time.
    Terminated(Instant),
    /// SIGKILL to whatever is left, again and again, until that time.
    Killing(Instant),
}

struct Tree {
    dir: PathBuf,
    spec: LaunchSpec,
    leader: Pid,
    log: File,
    began: Instant,
    ended: Option<(Option<i32>, Option<i32>)>,
    stopped: Option<StopReason>,
    ladder: Ladder,
    swept: BTreeSet<i32>,
    group: Option<Cgroup>,
}

impl Tree {
    fn new(dir: &Path, spec: LaunchSpec, leader: Pid, log: File, group: Option<Cgroup>) -> Tree {
        Tree {
            dir: dir.to_path_buf(),
            spec,
            leader,
            log,
            began: Instant::now(),
            ended: None,
            stopped: None,
            ladder: Ladder::Up,
            swept: BTreeSet::new(),
            group,
        }
    }

    /// Waits until nothing of the tree is left.
    fn watch(&mut self, signals: &SignalFd) -> io::Result<()> {
        loop {
            let childless = self.reap();
            if self.look_for_stop() {
                self.interrupt();
            }
            let ending = self.ended.is_some() || self.ladder != Ladder::Up;
            // The whole of /proc is read for this: not four times a second while nobody is to end.
            let left = if ending { self.left(childless) } else { BTreeSet::new() };
            if self.ended.is_some() {
                // A look at /proc can miss a process that forks meanwhile. Having no child cannot:
                // whoever lives descends from a child of this subreaper.
                if childless && left.is_empty() {
                    return Ok(());
                }
                self.swept.extend(&left);
            }
            if self.climb(&left) {
                return Ok(());
            }
            self.pause(
                signals,
                if ending { limits::MONITOR_FAST_TICK_MS } else { limits::MONITOR_TICK_MS },
            )?;
        }
    }

    /// Takes the status of every child that has ended, adopted orphans too; returns whether none
    /// is left, living or dead.
    fn reap(&mut self) -> bool {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.leader => {
                    self.ended = Some((Some(code), None))
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.leader => {
                    self.ended = Some((None, Some(signal as i32)))
                }
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::EINTR) => {}
                Ok(_) => return false,
                // A child that died of a real-time signal is reaped, and nix has no name for it.
                Err(Errno::EINVAL) => self.notice_lost_leader(),
                Err(_) => {
                    self.notice_lost_leader();
                    return true;
                }
            }
        }
    }

    /// Notes an end of the leader whose status could not be read.
    fn notice_lost_leader(&mut self) {
        if self.ended.is_none() && kill(self.leader, None) == Err(Errno::ESRCH) {
            self.ended = Some((None, None));
        }
    }

    /// Who of the run lives: descendants, because every orphan comes to the subreaper, and members
    /// of the control group. Who has no child has no descendant: then `/proc` need not be read.
    fn left(&self, childless: bool) -> BTreeSet<i32> {
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        let descendants = if childless { vec![] } else { procfs::descendants(me) };
        let mut left: BTreeSet<i32> = descendants.into_iter().map(|p| p.id.pid).collect();
        let members = self.group.as_ref().map(|g| cgroup::members(g.dir())).unwrap_or_default();
        left.extend(
            members.into_iter().filter(|pid| *pid != me && procfs::process(*pid).is_some()),
        );
        left
    }

    /// Whether a stop has become due just now.
    fn look_for_stop(&mut self) -> bool {
        if self.stopped.is_some() || self.ended.is_some() {
            return false;
        }
        let too_long = self.began.elapsed() > Duration::from_millis(self.spec.wall_ms);
        let too_large = self.log.metadata().is_ok_and(|m| m.len() > self.spec.log_cap_bytes);
        self.stopped = stop_requested(&self.dir)
            .or(too_long.then_some(StopReason::WallLimit))
            .or(too_large.then_some(StopReason::LogLimit));
        if self.stopped == Some(StopReason::LogLimit) {
            // Who floods the disk has no use for a long grace; the disk has none for it either.
            self.spec.int_grace_ms = self.spec.int_grace_ms.min(limits::FLOOD_GRACE_MS);
            self.spec.term_grace_ms = self.spec.term_grace_ms.min(limits::FLOOD_GRACE_MS);
        }
        self.stopped.is_some()
    }

    fn send(left: &BTreeSet<i32>, signal: Signal) {
        for pid in left {
            // Who is gone already needs no signal.
            let _ = kill(Pid::from_raw(*pid), signal);
        }
    }

    fn terminate(left: &BTreeSet<i32>) {
        Self::send(left, Signal::SIGTERM);
        // Who is stopped cannot unwind.
        Self::send(left, Signal::SIGCONT);
    }

    fn kill_all(&self, left: &BTreeSet<i32>) {
        if let Some(group) = &self.group {
            cgroup::kill(group.dir());
        }
        Self::send(left, Signal::SIGKILL);
    }

    /// First step: SIGINT to the leader alone. uv hands it on once, and Python unwinds; a signal
    /// to the group would reach Python twice and cost it its exit code.
    fn interrupt(&mut self) {
        let _ = kill(self.leader, Signal::SIGINT);
        self.ladder =
            Ladder::Interrupted(Instant::now() + Duration::from_millis(self.spec.int_grace_ms));
    }

    /// Next steps, when they are due; `true` when killing has been given up.
    fn climb(&mut self, left: &BTreeSet<i32>) -> bool {
        let now = Instant::now();
        let term_grace = Duration::from_millis(self.spec.term_grace_ms);
        match self.ladder {
            // The leader is gone and left somebody behind: nothing outlives a phase.
            Ladder::Up if self.ended.is_some() => {
                Self::terminate(left);
                self.ladder = Ladder::Terminated(
                    now + term_grace.min(Duration::from_millis(limits::STRAGGLER_GRACE_MS)),
                );
            }
            Ladder::Interrupted(due) if now >= due || self.ended.is_some() => {
                Self::terminate(left);
                self.ladder = Ladder::Terminated(now + term_grace);
            }
            Ladder::Terminated(due) if now >= due => {
                self.kill_all(left);
                self.ladder = Ladder::Killing(now + Duration::from_millis(limits::KILL_LIMIT_MS));
            }
            Ladder::Killing(until) => {
                self.kill_all(left);
                // Only a process stuck inside the kernel gets here; its lock tells the daemon.
                return now >= until && self.ended.is_some();
            }
            _ => {}
        }
        false
    }

    fn pause(&mut self, signals: &SignalFd, tick_ms: u16) -> io::Result<()> {
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut fds, PollTimeout::from(tick_ms)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        while let Ok(Some(info)) = signals.read_signal() {
            let asked = i32::try_from(info.ssi_signo).ok() == Some(Signal::SIGTERM as i32);
            if asked && self.stopped.is_none() && self.ended.is_none() {
                self.stopped = Some(StopReason::Signal);
                self.interrupt();
            }
        }
        Ok(())
    }

    fn record(&self, started_at: Millis, ended_at: Millis) -> ExitRecord {
        let (code, signal) = self.ended.unwrap_or((None, None));
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let ms = |t: nix::sys::time::TimeVal| u64::try_from(t.num_milliseconds()).unwrap_or(0);
        ExitRecord {
            schema: 1,
            code,
            signal,
            stopped: self.stopped,
            started_at,
            ended_at,
            wall_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            user_ms: usage.as_ref().map_or(0, |u| ms(u.user_time())),
            system_ms: usage.as_ref().map_or(0, |u| ms(u.system_time())),
            max_rss_kb: usage.as_ref().map_or(0, |u| u64::try_from(u.max_rss()).unwrap_or(0)),
            swept: u32::try_from(self.swept.len()).unwrap_or(u32::MAX),
            spawn_error: None,
        }
    }
}
