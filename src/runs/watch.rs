//! Hints of the file system: something below this path may have changed. Never data.
//!
//! The callback does no I/O and holds a bounded set of dirty paths (`spec/platform.md` §4): reading
//! a file in reaction to its being read would feed the watcher with itself, and a queue that
//! overflows becomes one hint to look at everything. Where inotify's limits are reached, polling
//! takes over and says so. A missed hint costs time, never truth: whoever waits for hints also
//! looks by himself now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
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
    all: bool,
}

struct Shared {
    dirty: Mutex<Dirty>,
    wake: Notify,
}

impl Shared {
    fn mark(&self, event: notify::Result<Event>) {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(event) if event.need_rescan() => dirty.all = true,
            Ok(event) if is_change(event.kind) => dirty.paths.extend(event.paths),
            Ok(_) => return,
            Err(e) => {
                tracing::debug!("watcher: {e}");
                dirty.all = true;
            }
        }
        if dirty.paths.len() > limits::WATCH_DIRTY_COUNT {
            dirty.paths.clear();
            dirty.all = true;
        }
        drop(dirty);
        self.wake.notify_one();
    }

    fn take(&self) -> Dirty {
        std::mem::take(&mut *self.dirty.lock().unwrap_or_else(PoisonError::into_inner))
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

fn poll_backend(shared: &Arc<Shared>) -> Backend {
    let config = Config::default()
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
        let shared = Arc::new(Shared { dirty: Mutex::default(), wake: Notify::new() });
        let to = Arc::clone(&shared);
        let backend = match mode {
            Mode::Poll => poll_backend(&shared),
            Mode::Auto => match notify::recommended_watcher(move |event| to.mark(event)) {
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

    /// Watches the folders of a run, made where they are absent, until the guard is dropped.
    #[must_use]
    pub fn watch_run(&self, folders: &[PathBuf]) -> Watched {
        let mut paths = vec![];
        for path in folders {
            if std::fs::create_dir_all(path).is_ok() {
                self.want(path);
                paths.push(path.clone());
            }
        }
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
            if matches!(state.backend, Backend::Inotify(_)) {
                tracing::warn!(path = %path.display(), "inotify's limits are reached, polling from now on: {e}");
                state.backend = poll_backend(&self.shared);
                let all: Vec<PathBuf> = state.wanted.keys().cloned().collect();
                for path in all {
                    let _ = state.backend.watch(&path);
                }
            } else {
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

    /// The next hint. Hints that come close together are one.
    pub async fn next(&self) -> Option<Hint> {
        let mut queue = self.queue.lock().await;
        loop {
            if let Some(hint) = queue.pop() {
                return Some(hint);
            }
            self.shared.wake.notified().await;
            // A fixed pause from the first event on: a steady writer cannot put it off.
            tokio::time::sleep(Duration::from_millis(limits::WATCH_DEBOUNCE_MS)).await;
            let dirty = self.shared.take();
            if dirty.all {
                queue.push(Hint::RescanAll);
            } else {
                queue.extend(dirty.paths.into_iter().map(Hint::Path));
            }
        }
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
        let shared = Shared { dirty: Mutex::default(), wake: Notify::new() };
        for i in 0..=limits::WATCH_DIRTY_COUNT {
            let event = Event::new(EventKind::Any).add_path(PathBuf::from(format!("/x/{i}")));
            shared.mark(Ok(event));
        }
        let dirty = shared.take();
        assert!(dirty.all && dirty.paths.is_empty());
    }
}
