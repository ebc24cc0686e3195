//! Who is there: processes as `/proc` tells them. A zombie counts as gone.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cgroup;
use super::records::{Identity, MARK, MONITOR_COMMAND, StartRecord};
use crate::clock::Millis;

/// Ticks in which the kernel tells the starts of processes: `USER_HZ`, 100 everywhere.
const TICKS_PER_S: i64 = 100;

/// A living process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Who.
    pub id: Identity,
    /// Its parent.
    pub parent: i32,
    /// Its session.
    pub session: i32,
}

/// Identity of this boot; a run of an earlier one has no living process.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Reads one `/proc/PID/stat`; `None` for a process that is gone or a zombie.
fn read_stat(pid: i32) -> Option<Process> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, blanks and parentheses too.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    if matches!(fields.first()?, &"Z" | &"X") {
        return None;
    }
    Some(Process {
        id: Identity { pid, start_ticks: fields.get(19)?.parse().ok()? },
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
    })
}

/// The living process of that pid.
#[must_use]
pub fn process(pid: i32) -> Option<Process> {
    read_stat(pid)
}

/// How long ago a process was started, by a clock that nobody sets and that goes on while the
/// machine sleeps, milliseconds; also after its end. `None` where the kernel does not say.
#[must_use]
pub fn age_ms(who: Identity) -> Option<i64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let now_ticks = seconds.parse::<i64>().ok()? * TICKS_PER_S + hundredths.parse::<i64>().ok()?;
    let age_ticks = now_ticks - i64::try_from(who.start_ticks).ok()?;
    Some(age_ticks.max(0) * 1_000 / TICKS_PER_S)
}

/// All living processes.
#[must_use]
pub fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| read_stat(e.file_name().to_str()?.parse().ok()?)).collect()
}

/// A living process whose working folder is `dir` or below it, where this user may see that.
/// `dir` is without symbolic links, as the kernel tells working folders.
#[must_use]
pub fn working_in(dir: &Path) -> Option<i32> {
    let there = |pid: i32| {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd"));
        cwd.is_ok_and(|cwd| cwd.starts_with(dir))
    };
    all().into_iter().map(|p| p.id.pid).find(|pid| there(*pid))
}

/// A living process whose name begins so, which has been there for that long at least, and which works
/// in one of these folders, or where this user may not see.
#[must_use]
pub fn at_work(name: &str, folders: &[PathBuf], age: Duration) -> Option<i32> {
    let fits = |process: &Process| {
        let folder = PathBuf::from(format!("/proc/{}", process.id.pid));
        let called = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
        // Starts are told in ticks: who may be as old is taken for as old.
        let age_ms = age_ms(process.id).unwrap_or(i64::MAX).saturating_add(2 * 1_000 / TICKS_PER_S);
        called.starts_with(name)
            && u128::try_from(age_ms).unwrap_or(0) >= age.as_millis()
            && std::fs::read_link(folder.join("cwd"))
                .map_or(true, |cwd| folders.iter().any(|there| cwd.starts_with(there)))
    };
    all().into_iter().find(fits).map(|process| process.id.pid)
}

/// Every living descendant of `root`, without `root`.
#[must_use]
pub fn descendants(root: i32) -> Vec<Process> {
    below(&all(), &BTreeSet::from([root]))
}

/// Every process of `all` that descends from one of `roots`, without these.
fn below(all: &[Process], roots: &BTreeSet<i32>) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for p in all {
        children.entry(p.parent).or_default().push(*p);
    }
    let mut found: Vec<Process> = vec![];
    let mut next: Vec<i32> = roots.iter().copied().collect();
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            next.push(child.id.pid);
            if !roots.contains(&child.id.pid) {
                found.push(child);
            }
        }
    }
    found
}

/// Whether a process carries the mark of an attempt in its environment.
fn is_marked(pid: i32, attempt: &Path) -> bool {
    variable(pid, MARK).is_some_and(|mark| mark == attempt.as_os_str().as_bytes())
}

/// The value of a variable that a process was started with.
fn variable(pid: i32, name: &str) -> Option<Vec<u8>> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value =
        |entry: &[u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
    environ.split(|b| *b == 0).find_map(value)
}

/// Name of the environment variable that says whose a short command is that holds a lock: the pid
/// and the start of the program that started it.
pub const OWNER: &str = "ADWD_INTERNAL_OWNER";

/// The value of [`OWNER`] for what this process starts.
#[must_use]
pub fn as_owner() -> String {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    process(me).map_or_else(String::new, |p| format!("{}.{}", p.id.pid, p.id.start_ticks))
}

/// Living processes that have an open lock file as their standard input, and whose owner is dead:
/// nobody bounds their time any more.
#[must_use]
pub fn orphaned_holders(lock: &Path) -> Vec<Process> {
    let file = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let Some(wanted) = file(lock) else { return vec![] };
    let holds = |pid: i32| file(Path::new(&format!("/proc/{pid}/fd/0"))) == Some(wanted);
    let is_orphan = |pid: i32| {
        let owner = variable(pid, OWNER).and_then(|v| String::from_utf8(v).ok());
        let owner = owner.as_deref().and_then(|v| {
            let (pid, ticks) = v.split_once('.')?;
            Some(Identity { pid: pid.parse().ok()?, start_ticks: ticks.parse().ok()? })
        });
        owner.is_some_and(|who| process(who.pid).is_none_or(|p| p.id != who))
    };
    all().into_iter().filter(|p| holds(p.id.pid) && is_orphan(p.id.pid)).collect()
}

/// The control group of an attempt, where the record names one that its monitor may have made.
#[must_use]
pub fn cgroup_of(start: &StartRecord) -> Option<&Path> {
    let name = format!("adwd-{}-{}", start.monitor.pid, start.monitor.start_ticks);
    start.cgroup.as_deref().filter(|dir| dir.file_name().is_some_and(|n| n == name.as_str()))
}

/// Living processes of an attempt whose monitor is dead or cannot be asked any more, each proven to
/// belong to it: by its control group, by its mark, by an earlier look (`known`), by the session that
/// the monitor led, as a child of the monitor, or by descent from one of these.
///
/// The number of a session stays taken while it has members, and is given anew after that: to a
/// stranger, who may leave a session of that number behind (every daemon begins so). So a session
/// is the attempt's only as long as somebody in it is proven otherwise.
#[must_use]
pub fn orphans(attempt: &Path, start: &StartRecord, known: &[Process]) -> Vec<Process> {
    // No monitor has such a number. Session 0 is that of the kernel, of init and of whatever init
    // (or a parent outside this container) started without a session of its own: a damaged record
    // must not make all of these ours.
    let impossible = start.monitor.pid <= 1;
    if impossible || start.boot_id != boot_id() {
        return vec![];
    }
    let all = all();
    let grouped: BTreeSet<i32> =
        cgroup_of(start).map(cgroup::members).unwrap_or_default().into_iter().collect();
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let can_be = |p: &&Process| {
        p.id.pid > 1 && p.id.pid != me && p.id.start_ticks >= start.monitor.start_ticks
    };
    let monitor_lives = all.iter().any(|p| p.id == start.monitor);
    let is_proven = |p: &&Process| {
        (monitor_lives && p.parent == start.monitor.pid)
            || grouped.contains(&p.id.pid)
            || Some(p.id) == start.child
            || known.iter().any(|k| k.id == p.id)
            || is_marked(p.id.pid, attempt)
    };
    let mut found: BTreeMap<i32, Process> =
        all.iter().filter(can_be).filter(is_proven).map(|p| (p.id.pid, *p)).collect();
    if found.values().any(|p| p.session == start.monitor.pid) {
        let members = all.iter().filter(can_be);
        let members = members.filter(|p| p.session == start.monitor.pid && p.id != start.monitor);
        found.extend(members.map(|p| (p.id.pid, *p)));
    }
    let roots: BTreeSet<i32> = found.keys().copied().collect();
    for p in below(&all, &roots).into_iter().filter(|p| p.id.pid != me) {
        found.insert(p.id.pid, p);
    }
    found.into_values().collect()
}

/// A record for an attempt whose own one is gone: its monitor is known by its arguments, and where it
/// is dead too, marks are what is left.
#[must_use]
pub fn unrecorded(attempt: &Path) -> StartRecord {
    let is_monitor = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|b| *b == 0).skip(1);
        words.next() == Some(MONITOR_COMMAND.as_bytes())
            && words.next() == Some(attempt.as_os_str().as_bytes())
    };
    let monitor = all().into_iter().map(|p| p.id).find(|id| is_monitor(id.pid));
    StartRecord {
        schema: 1,
        // No process has that number.
        monitor: monitor.unwrap_or(Identity { pid: i32::MAX, start_ticks: 0 }),
        child: None,
        cgroup: None,
        boot_id: boot_id(),
        started_at: Millis(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_there_and_descends_from_its_parent() {
        let me = i32::try_from(std::process::id()).unwrap();
        let own = process(me).unwrap();
        assert!(descendants(own.parent).iter().any(|p| p.id == own.id));
        assert!(!descendants(me).iter().any(|p| p.id == own.id));
        assert!(!boot_id().is_empty());
    }

    #[test]
    fn who_works_in_a_folder_is_found_by_its_working_folder() {
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert!(working_in(&here).is_some());
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(working_in(&dir.path().canonicalize().unwrap()), None);
    }

    fn record(monitor: i32, boot_id: String) -> StartRecord {
        StartRecord {
            schema: 1,
            monitor: Identity { pid: monitor, start_ticks: 0 },
            child: None,
            cgroup: None,
            boot_id,
            started_at: Millis(0),
        }
    }

    #[test]
    fn nothing_of_another_boot_lives() {
        let me = process(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(orphans(Path::new("/x"), &record(me.session, "another".into()), &[]).is_empty());
    }

    #[test]
    fn a_session_is_ours_only_while_somebody_in_it_is_proven_so() {
        // This process' own session, as if a monitor of that number had been here before.
        let me = process(i32::try_from(std::process::id()).unwrap()).unwrap();
        let parent = process(me.parent).filter(|p| p.session == me.session && p.id.pid > 1);
        let record = record(me.session, boot_id());
        let of_session = |found: Vec<Process>| found.iter().any(|p| p.session == me.session);
        assert!(!of_session(orphans(Path::new("/x"), &record, &[])));
        if let Some(parent) = parent.filter(|_| me.session > 1) {
            assert!(of_session(orphans(Path::new("/x"), &record, &[parent])));
        }
    }

    #[test]
    fn a_record_with_a_number_that_no_monitor_has_claims_nobody() {
        // Kernel threads and init are in session 0, and so is CI where init starts it.
        assert!(all().iter().any(|p| p.session == 0 || p.id.pid == 1));
        for monitor in [-1, 0, 1] {
            assert!(
                orphans(Path::new("/x"), &record(monitor, boot_id()), &[]).is_empty(),
                "{monitor}"
            );
        }
    }
}
