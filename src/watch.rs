//! Hints of the file system: something below this path may have changed. Never data.
//!
//! The callback does no I/O and holds a bounded set of dirty paths (`spec/platform.md` §4): reading
//! a file in reaction to its being read would feed the watcher with itself, and a queue that
//! overflows becomes one hint to look at everything. Where inotify's limits are reached, polling
//! takes over and says so. A missed hint costs time, never truth: whoever waits for hints also
//! looks by himself now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind};
use notify::{Config, Event, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::limits;

/// Which means of watching is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// inotify, and polling where its limits are reached.
    Auto,
    /// Polling.
    Poll,
}

/// A hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Something at or below this path.
    Path(PathBuf),
    /// Events were lost: look at everything.
    RescanAll,
}

#[derive(Default)]
struct Dirty {
    paths: BTreeSet<PathBuf>,
    /// New folders: 178 of 200 files written right after a `mkdir` were never seen, because the
    /// watch came later than they did.
    young: BTreeSet<PathBuf>,
    all: bool,
    /// The kernel gave no further watch for a folder that came later.
    exhausted: bool,
}

impl Dirty {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.all
    }
}

#[derive(Default)]
struct Shared {
    dirty: Mutex<Dirty>,
    wake: Notify,
    rescans: AtomicU64,
    overflows: AtomicU64,
}

impl Shared {
    /// What the watcher's thread calls: no I/O, no waiting, bounded.
    fn mark(&self, event: notify::Result<Event>) {
        let mut dirty = self.lock();
        match event {
            Ok(event) if event.need_rescan() => {
                self.overflows.fetch_add(1, Ordering::Relaxed);
                dirty.all = true;
            }
            Ok(event) if is_change(event.kind) => {
                if is_new_folder(event.kind) {
                    dirty.young.extend(event.paths.iter().cloned());
                }
                dirty.paths.extend(event.paths);
            }
            Ok(_) => return,
            Err(e) => {
                tracing::debug!("watcher: {e}");
                dirty.exhausted |= is_exhausted(&e);
                dirty.all = true;
            }
        }
        if dirty.paths.len() > limits::WATCH_DIRTY_COUNT {
            self.overflows.fetch_add(1, Ordering::Relaxed);
            dirty.paths.clear();
            dirty.young.clear();
            dirty.all = true;
        }
        drop(dirty);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is dirty; new folders become dirty once more a little later.
    fn take(self: &Arc<Self>) -> Dirty {
        let mut dirty = std::mem::take(&mut *self.lock());
        let young = std::mem::take(&mut dirty.young);
        if !young.is_empty() && !dirty.all {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(limits::WATCH_AGAIN_MS)).await;
                shared.lock().paths.extend(young);
                shared.wake.notify_one();
            });
        }
        dirty
    }
}

/// Only inotify can tell a folder; polling has no such race.
fn is_new_folder(kind: EventKind) -> bool {
    matches!(kind, EventKind::Create(CreateKind::Folder))
}

/// Whether inotify's limits are reached; a path that cannot be watched is another matter.
fn is_exhausted(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::MaxFilesWatch => true,
        notify::ErrorKind::Io(e) => e.raw_os_error().is_some_and(|n| {
            [Errno::EMFILE, Errno::ENFILE, Errno::ENOSPC].contains(&Errno::from_raw(n))
        }),
        _ => false,
    }
}

/// Opening and reading a file is no change; closing one that was written is.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

enum Backend {
    Inotify(RecommendedWatcher),
    Poll(PollWatcher),
    /// Neither could be had; the looks without hints must do.
    Nothing,
}

impl Backend {
    fn watch(&mut self, path: &Path) -> notify::Result<()> {
        match self {
            Backend::Inotify(w) => w.watch(path, RecursiveMode::Recursive),
            Backend::Poll(w) => w.watch(path, RecursiveMode::Recursive),
            Backend::Nothing => Ok(()),
        }
    }

    fn unwatch(&mut self, path: &Path) {
        // A folder that is gone has no watch any more; there is nothing to mend.
        let _ = match self {
            Backend::Inotify(w) => w.unwatch(path),
            Backend::Poll(w) => w.unwatch(path),
            Backend::Nothing => Ok(()),
        };
    }
}

struct State {
    backend: Backend,
    /// Watched folders and how many want them.
    wanted: BTreeMap<PathBuf, usize>,
}

/// The watcher; cheap to clone.
#[derive(Clone)]
pub struct Watcher {
    shared: Arc<Shared>,
    state: Arc<Mutex<State>>,
    queue: Arc<tokio::sync::Mutex<Vec<Hint>>>,
}

/// Watches some folders as long as it lives.
pub struct Watched {
    watcher: Watcher,
    paths: Vec<PathBuf>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        for path in &self.paths {
            self.watcher.release(path);
        }
    }
}

/// Links are not followed: an agent's link to `/` would have the whole machine walked through and
/// watched.
fn config() -> Config {
    Config::default().with_follow_symlinks(false)
}

fn poll_backend(shared: &Arc<Shared>) -> Backend {
    let config = config()
        .with_poll_interval(Duration::from_millis(limits::WATCH_POLL_MS))
        .with_compare_contents(false);
    let to = Arc::clone(shared);
    match PollWatcher::new(move |event| to.mark(event), config) {
        Ok(watcher) => Backend::Poll(watcher),
        Err(e) => {
            tracing::warn!(
                "neither inotify nor polling can be had; changes are seen at the periodic looks only: {e}"
            );
            Backend::Nothing
        }
    }
}

impl Watcher {
    /// A watcher of nothing yet. Never fails: without any means the periodic looks remain.
    #[must_use]
    pub fn start(mode: Mode) -> Watcher {
        let shared = Arc::<Shared>::default();
        let to = Arc::clone(&shared);
        let backend = match mode {
            Mode::Poll => poll_backend(&shared),
            Mode::Auto => match RecommendedWatcher::new(move |event| to.mark(event), config()) {
                Ok(watcher) => Backend::Inotify(watcher),
                Err(e) => {
                    tracing::warn!("inotify cannot be had, polling instead: {e}");
                    poll_backend(&shared)
                }
            },
        };
        let state = State { backend, wanted: BTreeMap::new() };
        Watcher { shared, state: Arc::new(Mutex::new(state)), queue: Arc::default() }
    }

    /// The means in use: `inotify`, `poll` or `none`.
    #[must_use]
    pub fn means(&self) -> &'static str {
        match self.state.lock().unwrap_or_else(PoisonError::into_inner).backend {
            Backend::Inotify(_) => "inotify",
            Backend::Poll(_) => "poll",
            Backend::Nothing => "none",
        }
    }

    /// How often everything was to be looked at, and how often because events were lost.
    #[must_use]
    pub fn rescans(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.shared.rescans), count(&self.shared.overflows))
    }

    /// Watches the folders of a run, made where they are absent, until the guard is dropped.
    #[must_use]
    pub fn watch_run(&self, folders: &[PathBuf]) -> Watched {
        let made = |path: &&PathBuf| std::fs::create_dir_all(path).is_ok();
        self.watch_those(folders.iter().filter(made))
    }

    /// Watches those of the folders that are there, until the guard is dropped.
    #[must_use]
    pub fn watch_present(&self, folders: &[PathBuf]) -> Watched {
        self.watch_those(folders.iter().filter(|path| path.is_dir()))
    }

    fn watch_those<'p>(&self, folders: impl Iterator<Item = &'p PathBuf>) -> Watched {
        let paths: Vec<PathBuf> = folders.cloned().collect();
        paths.iter().for_each(|path| self.want(path));
        Watched { watcher: self.clone(), paths }
    }

    fn want(&self, path: &Path) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = state.wanted.entry(path.to_path_buf()).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        if let Err(e) = state.backend.watch(path) {
            if matches!(state.backend, Backend::Inotify(_)) && is_exhausted(&e) {
                tracing::warn!(path = %path.display(), "inotify's limits are reached: {e}");
                self.poll_instead(&mut state);
            } else {
                tracing::debug!(path = %path.display(), "cannot be watched: {e}");
            }
        }
    }

    /// Gives the watches back and looks at everything now and then.
    fn poll_instead(&self, state: &mut State) {
        tracing::warn!(
            "polling for changes from now on; fs.inotify.max_user_watches can be raised"
        );
        state.backend = poll_backend(&self.shared);
        for path in state.wanted.keys() {
            if let Err(e) = state.backend.watch(path) {
                tracing::debug!(path = %path.display(), "cannot be watched: {e}");
            }
        }
    }

    fn release(&self, path: &Path) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = state.wanted.get_mut(path) else { return };
        *count -= 1;
        if *count == 0 {
            state.wanted.remove(path);
            state.backend.unwatch(path);
        }
    }

    /// The next hint. Hints that come close together are one. Nothing is lost when the wait is
    /// given up.
    pub async fn next(&self) -> Option<Hint> {
        let mut queue = self.queue.lock().await;
        loop {
            if let Some(hint) = queue.pop() {
                return Some(hint);
            }
            while self.shared.lock().is_empty() {
                self.shared.wake.notified().await;
            }
            // A fixed pause from the first event on: a steady writer cannot put it off.
            tokio::time::sleep(Duration::from_millis(limits::WATCH_DEBOUNCE_MS)).await;
            let dirty = self.shared.take();
            if dirty.exhausted {
                self.degrade().await;
            }
            if dirty.all {
                self.shared.rescans.fetch_add(1, Ordering::Relaxed);
                queue.push(Hint::RescanAll);
            } else {
                queue.extend(dirty.paths.into_iter().map(Hint::Path));
            }
        }
    }

    /// Turns to polling where that has not happened yet.
    async fn degrade(&self) {
        let watcher = self.clone();
        // Polling begins with a look at everything, which is not for an async thread. If it
        // panics, the looks without hints remain.
        let _ = tokio::task::spawn_blocking(move || {
            let mut state = watcher.state.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(state.backend, Backend::Inotify(_)) {
                watcher.poll_instead(&mut state);
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hint_below(watcher: &Watcher, dir: &Path) {
        let found = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                match watcher.next().await {
                    Some(Hint::Path(p)) if p.starts_with(dir) => return,
                    Some(Hint::RescanAll) => return,
                    _ => {}
                }
            }
        });
        found.await.expect("a hint comes");
    }

    #[tokio::test]
    async fn a_renamed_state_file_gives_a_hint_by_either_means() {
        for (mode, means) in [(Mode::Auto, "inotify"), (Mode::Poll, "poll")] {
            let dir = tempfile::tempdir().unwrap();
            let watcher = Watcher::start(mode);
            assert_eq!(watcher.means(), means);
            let _guard = watcher.watch_run(&[dir.path().to_path_buf()]);
            std::fs::write(dir.path().join("tmp"), "{}").unwrap();
            std::fs::rename(dir.path().join("tmp"), dir.path().join("adw_state.json")).unwrap();
            hint_below(&watcher, dir.path()).await;
        }
    }

    #[test]
    fn reading_is_no_change() {
        assert!(!is_change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(is_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
    }

    #[test]
    fn too_many_dirty_paths_become_one_hint_for_everything() {
        let shared = Arc::<Shared>::default();
        for i in 0..=limits::WATCH_DIRTY_COUNT {
            let event = Event::new(EventKind::Any).add_path(PathBuf::from(format!("/x/{i}")));
            shared.mark(Ok(event));
        }
        let dirty = shared.take();
        assert!(dirty.all && dirty.paths.is_empty());
    }

    #[tokio::test]
    async fn what_is_written_right_into_a_new_folder_is_hinted_at() {
        let dir = tempfile::tempdir().unwrap();
        let watcher = Watcher::start(Mode::Auto);
        let _guard = watcher.watch_run(&[dir.path().to_path_buf()]);
        // A hint that comes after the file was written says so at least for its folder.
        let deep = dir.path().join("a/b/c");
        std::fs::create_dir_all(&deep).unwrap();
        hint_below(&watcher, dir.path()).await;
        std::fs::write(deep.join("f"), "x").unwrap();
        hint_below(&watcher, &dir.path().join("a")).await;
    }

    #[tokio::test]
    async fn a_given_up_wait_loses_no_hint() {
        let dir = tempfile::tempdir().unwrap();
        let watcher = Watcher::start(Mode::Auto);
        let _guard = watcher.watch_run(&[dir.path().to_path_buf()]);
        std::fs::write(dir.path().join("f"), "x").unwrap();
        while watcher.shared.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let brief = Duration::from_millis(limits::WATCH_DEBOUNCE_MS / 5);
        for _ in 0..3 {
            assert!(tokio::time::timeout(brief, watcher.next()).await.is_err());
        }
        hint_below(&watcher, dir.path()).await;
    }

    #[tokio::test]
    async fn a_new_folder_is_hinted_at_again() {
        let shared = Arc::<Shared>::default();
        let folder = PathBuf::from("/x/new");
        let event = Event::new(EventKind::Create(CreateKind::Folder)).add_path(folder.clone());
        shared.mark(Ok(event));
        assert_eq!(shared.take().paths, BTreeSet::from([folder.clone()]));
        shared.wake.notified().await;
        while shared.lock().is_empty() {
            shared.wake.notified().await;
        }
        assert_eq!(shared.take().paths, BTreeSet::from([folder]));
        assert!(shared.lock().young.is_empty());
    }

    #[tokio::test]
    async fn exhausted_watches_turn_to_polling_and_a_bad_path_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let watcher = Watcher::start(Mode::Auto);
        let _guard = watcher.watch_run(&[dir.path().to_path_buf(), "/proc/nonexistent".into()]);
        watcher.want(&dir.path().join("gone"));
        assert_eq!(watcher.means(), "inotify");
        watcher.shared.mark(Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)));
        assert_eq!(watcher.next().await, Some(Hint::RescanAll));
        assert_eq!(watcher.means(), "poll");
        std::fs::write(dir.path().join("f"), "x").unwrap();
        hint_below(&watcher, dir.path()).await;
    }
}
