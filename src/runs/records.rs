//! The files of an attempt's folder, and what they say about where it stands.
//!
//! | file | writer | meaning |
//! |---|---|---|
//! | `spec.json` | daemon, before the launch | what to run and its limits; no secrets |
//! | `run.lock` | monitor | locked as long as the monitor lives |
//! | `execution.log` | the phase | stdout and stderr; locked, through the inherited open file, as long as anything of the tree lives |
//! | `start.json` | monitor | it began; with the child's identity once there is one |
//! | `stop.json` | anybody, first wins | a stop is asked for |
//! | `exit.json` | monitor | how it ended |

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::procfs;
use crate::clock::Millis;
use crate::crash::{self, Point};
use crate::limits;
use crate::lock::is_locked;

/// Name of the environment variable that marks every process of an attempt.
pub const MARK: &str = "ADWD_INTERNAL_ATTEMPT";

/// The hidden subcommand that is a monitor; the attempt's folder is its argument.
pub const MONITOR_COMMAND: &str = "__monitor";

/// What a monitor runs, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Working folder.
    pub cwd: PathBuf,
    /// Wall-clock limit, milliseconds.
    pub wall_ms: u64,
    /// From SIGINT to SIGTERM, milliseconds.
    pub int_grace_ms: u64,
    /// From SIGTERM to SIGKILL, milliseconds.
    pub term_grace_ms: u64,
    /// A larger log ends the attempt, bytes.
    pub log_cap_bytes: u64,
}

impl LaunchSpec {
    /// Writes `spec.json`. It is written anew before each launch, so it need not outlast a power
    /// cut.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        put(dir, "spec.json", self, Synced::Nothing)
    }

    /// Reads `spec.json`.
    ///
    /// # Errors
    /// The file system's, or a file that is none of ours.
    pub fn read(dir: &Path) -> io::Result<LaunchSpec> {
        read_json(&dir.join("spec.json"))?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "spec.json is missing"))
    }
}

/// A process that a pid alone would not identify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its pid.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks from boot to its start.
    pub start_ticks: u64,
}

/// `start.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// 1.
    pub schema: u32,
    /// The monitor; its pid is the session of the tree.
    pub monitor: Identity,
    /// The leader of the phase; absent between the decision to start it and its start.
    pub child: Option<Identity>,
    /// Folder of the control group that holds the tree, where one could be made.
    #[serde(default)]
    pub cgroup: Option<PathBuf>,
    /// Identity of the boot.
    pub boot_id: String,
    /// When.
    pub started_at: Millis,
}

impl StartRecord {
    /// How long ago the attempt began, by a clock that nobody sets; `None` where it began before
    /// the present boot.
    #[must_use]
    pub fn age_ms(&self) -> Option<i64> {
        (self.boot_id == procfs::boot_id()).then(|| procfs::age_ms(self.monitor))?
    }
}

/// The moment from which on what was written is an attempt's. `stored` is its start as it was
/// stored; where the clock was set back since, everything that it writes now bears an earlier time,
/// so it is the start on the present clock.
#[must_use]
pub fn since(stored: Millis, start: Option<&StartRecord>, now: Millis) -> Millis {
    let began = start.and_then(StartRecord::age_ms).map(|age_ms| now.plus_ms(-age_ms));
    began.filter(|began| stored.since_ms(*began) > limits::CLOCK_SET_BACK_MS).unwrap_or(stored)
}

/// Why a tree was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Somebody cancelled the run.
    Cancel,
    /// The wall-clock limit passed.
    WallLimit,
    /// Nothing was heard for the silence limit.
    Silence,
    /// The log outgrew its bound.
    LogLimit,
    /// A signal to the monitor.
    Signal,
    /// A budget is used up.
    Budget,
}

#[derive(Serialize, Deserialize)]
struct StopFile {
    reason: StopReason,
}

/// `exit.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// 1.
    pub schema: u32,
    /// Exit code of the leader.
    pub code: Option<i32>,
    /// Signal that ended the leader.
    pub signal: Option<i32>,
    /// Why the tree was ended, where it did not end by itself.
    pub stopped: Option<StopReason>,
    /// When it began.
    pub started_at: Millis,
    /// When nothing of it was left.
    pub ended_at: Millis,
    /// Time between, by a clock that does not jump, milliseconds.
    pub wall_ms: u64,
    /// CPU time in user mode of all its processes, milliseconds.
    pub user_ms: u64,
    /// CPU time in the kernel of all its processes, milliseconds.
    pub system_ms: u64,
    /// Largest resident size of any of its processes, KiB.
    pub max_rss_kb: u64,
    /// Processes that outlived the leader and were ended.
    pub swept: u32,
    /// Why it could not be started.
    pub spawn_error: Option<String>,
}

impl ExitRecord {
    /// The record of a phase that could not be started.
    #[must_use]
    pub fn never_began(why: &str, now: Millis) -> ExitRecord {
        ExitRecord {
            schema: 1,
            code: None,
            signal: None,
            stopped: None,
            started_at: now,
            ended_at: now,
            wall_ms: 0,
            user_ms: 0,
            system_ms: 0,
            max_rss_kb: 0,
            swept: 0,
            spawn_error: Some(why.to_owned()),
        }
    }
}

/// `start.json`, where it is there and can be read.
#[must_use]
pub fn started(dir: &Path) -> Option<StartRecord> {
    read_record(&dir.join("start.json")).ok().flatten()
}

/// Where an attempt stands, from its folder alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nothing was ever started.
    NotStarted,
    /// Something of it lives.
    Live {
        /// What was started, once it is written.
        start: Option<StartRecord>,
        /// Whether its monitor lives.
        monitor_alive: bool,
    },
    /// It ended, and how is recorded.
    Ended(ExitRecord),
    /// It was started, nothing of it lives, and nobody recorded how it ended.
    Vanished(Option<StartRecord>),
}

/// Looks where an attempt stands.
///
/// The order of the looks is what makes the answer true. The monitor takes `run.lock`, writes
/// `start.json`, and at last `exit.json`: so a start that was read before a free lock is one whose
/// monitor is gone, and an `exit.json` read after a free lock is final. One that appears while the
/// monitor lives is none of its own (an agent knows the folder).
///
/// # Errors
/// The file system's.
pub fn probe(dir: &Path) -> io::Result<Probe> {
    let start: Option<StartRecord> = read_record(&dir.join("start.json"))?;
    let monitor_alive = is_held(&dir.join("run.lock"))?;
    if monitor_alive {
        return Ok(Probe::Live { start, monitor_alive });
    }
    if let Some(record) = read_record(&dir.join("exit.json"))? {
        return Ok(Probe::Ended(record));
    }
    if is_held(&dir.join("execution.log"))? {
        return Ok(Probe::Live { start, monitor_alive });
    }
    Ok(if start.is_some() { Probe::Vanished(start) } else { Probe::NotStarted })
}

/// Asks for the end of an attempt. The first reason stays. Works with and without a monitor.
///
/// # Errors
/// The file system's.
pub fn request_stop(dir: &Path, reason: StopReason) -> io::Result<()> {
    let path = dir.join("stop.json");
    if path.exists() {
        return Ok(());
    }
    let temp = temp_name(dir, "stop.json");
    let written = std::fs::write(&temp, serde_json::to_vec(&StopFile { reason })?);
    crash::here(Point::StopWritten);
    // On a full disk an empty file can still be made, and asks for a cancel: a run that fills the
    // disk must not keep out the request that would end it.
    let asks = written.is_ok() || (reason == StopReason::Cancel && temp.exists());
    // A link, not a rename: it fails where a reason is already there.
    let linked = if asks { std::fs::hard_link(&temp, &path) } else { written };
    crash::here(Point::StopLinked);
    let _ = std::fs::remove_file(&temp);
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// The stop that was asked for, if one was. A request that cannot be read is one all the same:
/// it keeps every later one out. A look that fails, as where no file can be opened any more, is none.
#[must_use]
pub fn stop_requested(dir: &Path) -> Option<StopReason> {
    let path = dir.join("stop.json");
    match read_json::<StopFile>(&path) {
        Ok(file) => file.map(|s| s.reason),
        Err(_) => path.exists().then_some(StopReason::Cancel),
    }
}

/// A name for a file in the making that no other writer uses, neither a process nor a thread.
fn temp_name(dir: &Path, name: &str) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    dir.join(format!(".{name}.{}.{number}.tmp", std::process::id()))
}

/// Removes files in the making whose writer, ours or the scripts', was killed before they had their
/// name. For when nobody writes any more: the attempt has ended, its monitor is gone.
pub(crate) fn remove_unfinished(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            // One that stays is in nobody's way.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// What waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Synced {
    /// Nothing: after a power cut the file may be absent, old, or empty.
    Nothing,
    /// What is in the file: after a power cut it is the old one or the new one, whole.
    Content,
    /// Its name as well: it is the new one from now on.
    All,
}

/// Writes a JSON file so that a reader sees all of it or nothing, and so that it is there also
/// after a power cut.
///
/// # Errors
/// The file system's.
pub fn write_atomic<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    put(dir, name, value, Synced::All)
}

/// Writes a JSON file over one that [`write_atomic`] wrote: a power cut leaves the one or the other.
///
/// # Errors
/// The file system's.
pub fn replace<T: Serialize>(dir: &Path, name: &str, value: &T) -> io::Result<()> {
    put(dir, name, value, Synced::Content)
}

fn put<T: Serialize>(dir: &Path, name: &str, value: &T, synced: Synced) -> io::Result<()> {
    let temp = temp_name(dir, name);
    let written = std::fs::File::create(&temp).and_then(|mut file| {
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        crash::at(Point::RecordWritten, name);
        if synced == Synced::Nothing { Ok(()) } else { file.sync_all() }
    });
    crash::at(Point::RecordSynced, name);
    let renamed = written.and_then(|()| std::fs::rename(&temp, dir.join(name)));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    renamed?;
    crash::at(Point::RecordRenamed, name);
    if synced == Synced::All { std::fs::File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Reads a record; one that is none of ours counts as absent, so that no file that somebody left
/// in the folder can hold a run up for ever.
fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match read_json(path) {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!("{e}");
            Ok(None)
        }
        other => other,
    }
}

/// Reads a JSON file of ours; `None` where it is not there.
fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let foreign = |e: &dyn std::fmt::Display| {
        let message = format!("{} is not a record of adwd: {e}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    match crate::plain::read(path, limits::RECORD_BYTES) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| foreign(&e)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => Err(foreign(&e)),
        Err(e) => Err(e),
    }
}

/// Not there; or something else stands where its folder would be.
fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether somebody holds a lock of the folder. What was put in the place of the file is not it.
fn is_held(path: &Path) -> io::Result<bool> {
    match is_locked(path) {
        Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::InvalidData => Ok(false),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stop_request_wins() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(stop_requested(dir.path()), None);
        request_stop(dir.path(), StopReason::Silence).unwrap();
        request_stop(dir.path(), StopReason::Cancel).unwrap();
        assert_eq!(stop_requested(dir.path()), Some(StopReason::Silence));
    }

    #[test]
    fn of_many_stop_requests_at_once_one_wins_and_none_fails() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let ask = |reason| request_stop(dir.path(), reason).unwrap();
            for reason in [StopReason::Cancel, StopReason::Silence, StopReason::WallLimit].repeat(8)
            {
                scope.spawn(move || ask(reason));
            }
        });
        assert!(stop_requested(dir.path()).is_some());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    fn start_now() -> StartRecord {
        let me = procfs::process(std::process::id().cast_signed()).unwrap();
        StartRecord {
            schema: 1,
            monitor: me.id,
            child: None,
            cgroup: None,
            boot_id: procfs::boot_id(),
            started_at: Millis(1),
        }
    }

    #[test]
    fn the_start_of_an_attempt_follows_a_clock_that_was_set_back() {
        const DAY_MS: i64 = 86_400_000;
        let start = start_now();
        let age_ms = start.age_ms().unwrap();
        assert!((0..DAY_MS).contains(&age_ms), "{age_ms}");
        let (stored, now) = (Millis(10 * DAY_MS), Millis(10 * DAY_MS + age_ms));
        assert_eq!(since(stored, Some(&start), now), stored, "nobody set it");
        assert_eq!(since(stored, Some(&start), now.plus_ms(2 * DAY_MS)), stored, "set forward");
        let back = since(stored, Some(&start), now.plus_ms(-2 * DAY_MS));
        assert!((0..5_000).contains(&stored.plus_ms(-2 * DAY_MS).since_ms(back)), "{back:?}");
        let before = StartRecord { boot_id: "another".into(), ..start };
        assert_eq!(since(stored, Some(&before), now.plus_ms(-2 * DAY_MS)), stored);
        assert_eq!(since(stored, None, now), stored);
    }

    #[test]
    fn an_empty_folder_is_an_attempt_that_never_started() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(probe(dir.path()).unwrap(), Probe::NotStarted);
        std::fs::write(dir.path().join("execution.log"), "").unwrap();
        assert_eq!(probe(dir.path()).unwrap(), Probe::NotStarted);
        let inside_a_file = dir.path().join("execution.log/1");
        assert_eq!(probe(&inside_a_file).unwrap(), Probe::NotStarted);
    }

    #[test]
    fn a_stop_request_that_cannot_be_read_still_asks() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("stop.json"), "{}").unwrap();
        request_stop(dir.path(), StopReason::Cancel).unwrap();
        assert_eq!(stop_requested(dir.path()), Some(StopReason::Cancel));
    }

    #[test]
    fn files_of_somebody_else_are_no_records() {
        let dir = tempfile::tempdir().unwrap();
        // As a run by hand writes them, with times as text.
        std::fs::write(dir.path().join("start.json"), r#"{"pid": 7}"#).unwrap();
        std::fs::write(dir.path().join("exit.json"), r#"{"code": 0, "status": "completed"}"#)
            .unwrap();
        assert_eq!(probe(dir.path()).unwrap(), Probe::NotStarted);
    }

    /// A pipe in the place of a record or a lock would keep the daemon waiting for ever.
    #[test]
    fn pipes_and_links_are_no_records_and_no_locks() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["start.json", "run.lock"] {
            nix::unistd::mkfifo(&at(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        for name in ["exit.json", "execution.log"] {
            std::os::unix::fs::symlink("/dev/zero", at(name)).unwrap();
        }
        assert_eq!(probe(dir.path()).unwrap(), Probe::NotStarted);
        std::fs::remove_file(at("start.json")).unwrap();
        std::fs::write(at("start.json"), vec![b' '; 2 << 20]).unwrap();
        assert_eq!(probe(dir.path()).unwrap(), Probe::NotStarted);
        nix::unistd::mkfifo(&at("stop.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(stop_requested(dir.path()), Some(StopReason::Cancel));
    }

    #[test]
    fn an_end_counts_only_when_its_monitor_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let exit = ExitRecord::never_began("x", Millis(2));
        write_atomic(dir.path(), "exit.json", &exit).unwrap();
        let alive = crate::lock::FileLock::try_exclusive(&dir.path().join("run.lock")).unwrap();
        let live = Probe::Live { start: None, monitor_alive: true };
        assert_eq!(probe(dir.path()).unwrap(), live);
        drop(alive);
        assert_eq!(probe(dir.path()).unwrap(), Probe::Ended(exit));
    }

    #[test]
    fn what_a_killed_writer_left_unfinished_goes_and_all_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let temp = temp_name(dir.path(), "spec.json");
        let others = ["spec.json", "execution.log", "own.tmp", ".spec.json.bak"];
        std::fs::write(&temp, "{").unwrap();
        others.iter().for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
        remove_unfinished(dir.path());
        assert!(!temp.exists());
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
    }

    #[test]
    fn a_start_without_life_or_end_has_vanished() {
        let dir = tempfile::tempdir().unwrap();
        let start = StartRecord {
            schema: 1,
            monitor: Identity { pid: 1, start_ticks: 1 },
            child: None,
            cgroup: None,
            boot_id: "b".into(),
            started_at: Millis(1),
        };
        write_atomic(dir.path(), "start.json", &start).unwrap();
        assert_eq!(probe(dir.path()).unwrap(), Probe::Vanished(Some(start)));
        let exit = ExitRecord::never_began("x", Millis(2));
        write_atomic(dir.path(), "exit.json", &exit).unwrap();
        assert_eq!(probe(dir.path()).unwrap(), Probe::Ended(exit));
    }
}
