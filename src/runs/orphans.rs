//! Ending processes that nobody looks after any more: those of an attempt whose monitor is dead, and
//! commands that hold a lock for a program that is.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::records::{Identity, StartRecord};
use super::{cgroup, procfs};
use crate::limits;

/// Ends the commands that hold a lock file for a program that is dead: SIGTERM, a little grace,
/// SIGKILL. Blocks the thread; answers how many there were.
pub fn end_orphaned_holders(lock: &Path) -> usize {
    let first = procfs::orphaned_holders(lock);
    signal_all(&first, &[Signal::SIGTERM, Signal::SIGCONT]);
    let grace = Instant::now() + Duration::from_millis(limits::COMMAND_TERM_GRACE_MS);
    let until = grace + Duration::from_millis(limits::COMMAND_TERM_GRACE_MS);
    loop {
        let left = procfs::orphaned_holders(lock);
        if left.is_empty() || Instant::now() > until {
            return first.len();
        }
        if Instant::now() > grace {
            signal_all(&left, &[Signal::SIGKILL]);
        }
        std::thread::sleep(Duration::from_millis(limits::LOCK_POLL_MS));
    }
}

/// Kills a process, if it is still the same one.
pub fn kill_process(who: Identity) {
    if procfs::process(who.pid).is_some_and(|p| p.id == who) {
        let _ = kill(Pid::from_raw(who.pid), Signal::SIGKILL);
    }
}

/// Ends what is left of an attempt whose monitor is dead: SIGINT to its leader, grace, SIGTERM to
/// all, grace, SIGKILL. Only processes that are proven to belong to it are touched. Answers how
/// many there were at first.
pub async fn end_orphans(attempt_dir: &Path, start: &StartRecord, term_grace_ms: u64) -> usize {
    let grace = Duration::from_millis(term_grace_ms);
    // Who was proven once stays so: what proved it may be gone by the next look.
    let known = Mutex::new(vec![]);
    let look = || {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = procfs::orphans(attempt_dir, start, &known);
        known.clone()
    };
    let first = look();
    // The leader alone, as its monitor would do it, so that Python can unwind.
    if let Some(leader) = first.iter().find(|p| Some(p.id) == start.child) {
        let _ = kill(Pid::from_raw(leader.id.pid), Signal::SIGINT);
        wait_until(grace, || procfs::process(leader.id.pid).is_none_or(|p| p.id != leader.id))
            .await;
    }
    signal_all(&look(), &[Signal::SIGTERM, Signal::SIGCONT]);
    let gone = || look().is_empty();
    if !wait_until(grace, gone).await {
        // Each round finds what was forked since the one before.
        wait_until(Duration::from_millis(limits::KILL_LIMIT_MS), || {
            let left = look();
            if let Some(dir) = procfs::cgroup_of(start).filter(|_| !left.is_empty()) {
                cgroup::kill(dir);
            }
            signal_all(&left, &[Signal::SIGKILL]);
            left.is_empty()
        })
        .await;
    }
    if let Some(dir) = procfs::cgroup_of(start).filter(|_| start.boot_id == procfs::boot_id()) {
        cgroup::remove(dir);
    }
    first.len()
}

fn signal_all(processes: &[procfs::Process], signals: &[Signal]) {
    for p in processes {
        for signal in signals {
            // Who is gone already needs no signal.
            let _ = kill(Pid::from_raw(p.id.pid), *signal);
        }
    }
}

/// Looks again and again until it is so; returns whether it became so within `limit`.
async fn wait_until(limit: Duration, so: impl Fn() -> bool) -> bool {
    let until = Instant::now() + limit;
    loop {
        if so() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(limits::LOCK_POLL_MS)).await;
    }
}
