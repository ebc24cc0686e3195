//! A control group of its own for a phase, where the kernel grants one (cgroup2).
//!
//! Membership is kept by the kernel and inherited by every fork, so it proves what belongs to an
//! attempt even for a process that left its session, its parent and its environment behind, and
//! `cgroup.kill` ends all of them at once. Where none can be made (an ordinary user outside a
//! delegated tree), sessions, marks and descent must do.

use std::fs;
use std::path::{Path, PathBuf};

use super::procfs;
use super::records::Identity;
use crate::crash::{self, Point};

/// A control group that the monitor made below its own.
#[derive(Debug)]
pub struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// Makes one named after the monitor; `None` where that is not possible.
    #[must_use]
    pub fn make(monitor: Identity) -> Option<Cgroup> {
        let home = own_dir()?;
        remove_leftovers(&home);
        let dir = home.join(format!("adwd-{}-{}", monitor.pid, monitor.start_ticks));
        fs::create_dir(&dir).ok()?;
        crash::here(Point::GroupMade);
        // A kernel before 5.14 cannot kill a group. Better known before a phase is in it.
        if dir.join("cgroup.kill").exists() {
            return Some(Cgroup { dir });
        }
        remove(&dir);
        None
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Folder of the group this process is in, in the cgroup2 tree; that tree may be mounted anywhere.
fn own_dir() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|l| l.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    locate(&mounts, own)
}

/// Where the group `own` is to be found, after the table of mounts.
fn locate(mounts: &str, own: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        if after.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = before.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        // A mount of a part of the tree shows only what is below that part.
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(at).join(below))
    })
}

/// Removes the empty groups of monitors that are dead. One that was killed before its record named
/// the group has nobody else who would.
fn remove_leftovers(home: &Path) {
    for dir in folders(home) {
        let maker = dir.file_name().and_then(|name| maker_of(name.to_str()?));
        if maker.is_some_and(|who| procfs::process(who.pid).is_none_or(|p| p.id != who)) {
            remove(&dir);
        }
    }
}

/// The monitor that made a group of that name.
fn maker_of(name: &str) -> Option<Identity> {
    let (pid, start_ticks) = name.strip_prefix("adwd-")?.split_once('-')?;
    Some(Identity { pid: pid.parse().ok()?, start_ticks: start_ticks.parse().ok()? })
}

/// Every process in a group and in the groups below it, zombies excepted.
#[must_use]
pub fn members(dir: &Path) -> Vec<i32> {
    let mut all = vec![];
    let mut next = vec![dir.to_path_buf()];
    while let Some(dir) = next.pop() {
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        all.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
        next.extend(folders(&dir));
    }
    all
}

fn folders(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path())
}

/// SIGKILL to every process in a group and below it, at once.
pub fn kill(dir: &Path) {
    // A group that is gone has nobody left to kill.
    let _ = fs::write(dir.join("cgroup.kill"), "1");
}

/// Removes an empty group with those below it; one with members stays.
pub fn remove(dir: &Path) {
    for below in folders(dir) {
        remove(&below);
    }
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_found_wherever_it_is_mounted() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(locate(hybrid, "/a/b"), Some(PathBuf::from("/sys/fs/cgroup/unified/a/b")));
        let part = "41 31 0:38 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        assert_eq!(locate(part, "/docker/x/y"), Some(PathBuf::from("/sys/fs/cgroup/y")));
        assert_eq!(locate(part, "/elsewhere"), None);
        assert_eq!(locate("", "/"), None);
    }

    #[test]
    fn groups_of_dead_monitors_go_and_no_others() {
        let home = tempfile::tempdir().unwrap();
        let me = procfs::process(i32::try_from(std::process::id()).unwrap()).unwrap().id;
        let mine = format!("adwd-{}-{}", me.pid, me.start_ticks);
        let reused = format!("adwd-{}-{}", me.pid, me.start_ticks + 1);
        for name in [&mine, &reused, "adwd-x-1", "user.slice"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        remove_leftovers(home.path());
        assert!(!home.path().join(reused).exists());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_group_that_is_not_there_has_no_members() {
        let dir = tempfile::tempdir().unwrap();
        assert!(members(&dir.path().join("x")).is_empty());
        kill(&dir.path().join("x"));
        remove(&dir.path().join("x"));
    }
}
