//! What was found out before, kept as long as nothing that it rests on has changed.
//!
//! A preflight asks uv and git the same questions for each run; each of them is a process of some
//! milliseconds, and its answer is the same until a file changes. So an answer is kept with the
//! stamps of the files that it rests on, taken *before* the question was asked. It holds while all
//! of them are as they were, and never longer than [`limits::KNOWN_MS`]: not everything that an
//! answer rests on is a file that is known here. A file that changed a moment before it was looked
//! at may change again without a new time, so nothing is kept that rests on such a one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::limits;

/// What tells a file from what it was before: it changes whenever the file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    bytes: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of what is at the end of all links; `None` where nothing is there.
    fn of(path: &Path) -> Option<Stamp> {
        let meta = fs::metadata(path).ok()?;
        Some(Stamp {
            file: (meta.dev(), meta.ino()),
            bytes: meta.len(),
            written: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Whether its times are so near to `now` (or behind it) that a further change may not show.
    fn is_young(&self, now: SystemTime) -> bool {
        let now_s = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let settled_s = i64::try_from(now_s).unwrap_or(0) - limits::KNOWN_SETTLED_S;
        self.written.0.max(self.changed.0) >= settled_s
    }
}

/// Files and folders as they were when they were looked at; also that they were absent.
#[derive(Clone, Debug, Default)]
pub struct Look {
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    young: bool,
}

impl Look {
    /// Looks at these. `now` is the wall clock that files are stamped with.
    #[must_use]
    pub fn at(paths: impl IntoIterator<Item = PathBuf>, now: SystemTime) -> Look {
        let mut look = Look::default();
        look.also(paths, now);
        look
    }

    /// Looks at further ones.
    pub fn also(&mut self, paths: impl IntoIterator<Item = PathBuf>, now: SystemTime) {
        for path in paths {
            let stamp = Stamp::of(&path);
            self.young |= stamp.is_some_and(|s| s.is_young(now));
            self.stamps.push((path, stamp));
        }
    }

    /// Looks at everything that the names, commits and remotes of a repository rest on, whether its
    /// references are loose, packed or in tables; `None` where these are more than
    /// [`limits::KNOWN_REFS_COUNT`], or cannot be read.
    #[must_use]
    pub fn at_references(common: &Path, home: Option<&Path>, now: SystemTime) -> Option<Look> {
        let mut paths: Vec<PathBuf> =
            ["HEAD", "config", "packed-refs", "reftable", "reftable/tables.list"]
                .map(|name| common.join(name))
                .to_vec();
        paths.push(PathBuf::from("/etc/gitconfig"));
        paths
            .extend(home.iter().flat_map(|h| [h.join(".gitconfig"), h.join(".config/git/config")]));
        let mut folders = vec![common.join("refs")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).ok()? {
                let entry = entry.ok()?;
                if paths.len() >= limits::KNOWN_REFS_COUNT {
                    return None;
                }
                if entry.file_type().ok()?.is_dir() {
                    folders.push(entry.path());
                } else {
                    paths.push(entry.path());
                }
            }
            paths.push(folder);
        }
        Some(Look::at(paths, now))
    }

    fn still_holds(&self) -> bool {
        self.stamps.iter().all(|(path, stamp)| Stamp::of(path) == *stamp)
    }
}

struct Fact {
    look: Look,
    found: Instant,
    value: String,
}

/// What was found out before, by question.
#[derive(Default)]
pub struct Known(Mutex<BTreeMap<String, Fact>>);

impl Known {
    /// The answer to a question, where it still holds.
    #[must_use]
    pub fn get(&self, question: &str) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fact = all.get(question)?;
        let fresh = fact.found.elapsed() < Duration::from_millis(limits::KNOWN_MS);
        (fresh && fact.look.still_holds()).then(|| fact.value.clone())
    }

    /// Keeps an answer that was asked for after `look`.
    pub fn put(&self, question: String, look: Look, value: String) {
        if look.young {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= limits::KNOWN_COUNT {
            all.retain(|_, fact| fact.found.elapsed() < Duration::from_millis(limits::KNOWN_MS));
        }
        if all.len() < limits::KNOWN_COUNT {
            all.insert(question, Fact { look, found: Instant::now(), value });
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the stamps of real files are compared with it")]
mod tests {
    use super::*;

    /// A moment at which everything written now is long settled.
    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    #[test]
    fn an_answer_holds_until_a_file_under_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, "a").unwrap();
        let known = Known::default();
        let keep = || {
            let look = Look::at([one.clone(), two.clone()], later());
            known.put("q".into(), look, "answer".into());
        };
        assert_eq!(known.get("q"), None);
        keep();
        assert_eq!(known.get("q").as_deref(), Some("answer"));
        fs::write(&two, "").unwrap();
        assert_eq!(known.get("q"), None, "what was absent has come");
        keep();
        assert!(known.get("q").is_some());
        fs::write(dir.path().join("new"), "a").unwrap();
        fs::rename(dir.path().join("new"), &one).unwrap();
        assert_eq!(known.get("q"), None, "replaced by a file that says the same");
        keep();
        fs::remove_file(&one).unwrap();
        assert_eq!(known.get("q"), None);
    }

    #[test]
    fn nothing_is_kept_that_rests_on_a_file_just_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        let known = Known::default();
        known.put("q".into(), Look::at([file], SystemTime::now()), "answer".into());
        assert_eq!(known.get("q"), None);
    }

    #[test]
    fn references_are_looked_at_wherever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let (common, home) = (dir.path().join("git"), dir.path().join("home"));
        fs::create_dir_all(common.join("refs/heads/feat")).unwrap();
        fs::create_dir_all(common.join("reftable")).unwrap();
        fs::create_dir_all(&home).unwrap();
        fs::write(common.join("refs/heads/feat/x"), "1").unwrap();
        let changes: [(&str, &dyn Fn()); 5] = [
            ("a loose one", &|| fs::write(common.join("refs/heads/feat/x"), "22").unwrap()),
            ("a new one", &|| fs::write(common.join("refs/heads/main"), "1").unwrap()),
            ("packed ones", &|| fs::write(common.join("packed-refs"), "").unwrap()),
            ("tables", &|| fs::write(common.join("reftable/tables.list"), "").unwrap()),
            ("a remote for all", &|| fs::write(home.join(".gitconfig"), "").unwrap()),
        ];
        for (what, change) in changes {
            let look = Look::at_references(&common, Some(&home), later()).unwrap();
            assert!(look.still_holds(), "{what}");
            change();
            assert!(!look.still_holds(), "{what}");
        }
        for n in 0..limits::KNOWN_REFS_COUNT {
            fs::write(common.join(format!("refs/heads/{n}")), "").unwrap();
        }
        assert!(Look::at_references(&common, None, later()).is_none(), "too many to look at");
    }
}
