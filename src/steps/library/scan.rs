//! Reading a content folder, within bounds.
//!
//! What counts (`spec/steps.md` §1.2.6, §1.3): `.md` files below `agents`, `rules` and `workflows`;
//! names that begin with `_` or `.` are passed over at every level. A link is followed to a file
//! inside the folder only, so that a folder from elsewhere cannot make the daemon read, and show to
//! a model, what lies outside of it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::plan::{File, Scan};
use crate::automation;
use crate::limits;
use crate::steps::front_matter;
use crate::steps::template::{Kind, Problem};

/// Reads a folder. Blocks. Never fails: what cannot be read is told.
#[must_use]
pub fn scan(folder: &Path) -> Scan {
    let name = folder.to_string_lossy().into_owned();
    let mut reader = Reader {
        root: folder.to_path_buf(),
        scan: Scan { folder: name, complete: true, ..Scan::default() },
        entries: 0,
        full: false,
    };
    match std::fs::canonicalize(folder).and_then(|root| {
        // An answer here: it is a folder, and it may be listed.
        std::fs::read_dir(&root).map(|_| root)
    }) {
        Ok(root) => reader.root = root,
        Err(error) => {
            reader.scan.complete = false;
            let kept = "what was read from it before stays in force";
            let message = format!("the content folder cannot be read: {error}; {kept}");
            reader.tell("", message, true);
            return reader.scan;
        }
    }
    let mut there = false;
    for kind in Kind::ALL {
        let below = reader.root.join(kind.folder());
        match std::fs::symlink_metadata(&below) {
            Ok(meta) if meta.is_dir() => {
                there = true;
                reader.folder(kind, &below, kind.folder(), 0);
            }
            Ok(_) => {
                let message = "this is no folder (links to folders are not followed)".to_owned();
                reader.tell(kind.folder(), message, true);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => reader.unreadable(kind.folder(), &error),
        }
    }
    if !there && reader.scan.problems.is_empty() {
        let inner = reader.root.join("content").is_dir();
        let hint = if inner { "; did you mean its folder content?" } else { "" };
        let message = format!("there is no folder agents, rules or workflows in it{hint}");
        reader.tell("", message, true);
    }
    reader.scan.files.sort_by(|a, b| a.path.cmp(&b.path));
    reader.scan
}

/// The content that the program carries, as if it had been read from a folder.
#[must_use]
pub fn embedded() -> Scan {
    let file = |file: &automation::Embedded| {
        let path = file.path.strip_prefix("content/")?;
        let kind = Kind::ALL.into_iter().find(|kind| {
            path.strip_prefix(kind.folder()).is_some_and(|rest| rest.starts_with('/'))
        })?;
        let parsed = front_matter::parse(kind, path, file.text.as_bytes());
        Some(File { kind, path: path.to_owned(), parsed })
    };
    Scan {
        folder: "built-in".to_owned(),
        files: automation::FILES.iter().filter_map(file).collect(),
        problems: vec![],
        complete: true,
    }
}

struct Reader {
    /// The folder without links in its path.
    root: PathBuf,
    scan: Scan,
    entries: usize,
    /// A bound was reached, and that was said.
    full: bool,
}

impl Reader {
    fn tell(&mut self, path: &str, message: String, fatal: bool) {
        if self.scan.problems.len() < limits::CONTENT_PROBLEMS_COUNT {
            let problem = Problem { path: path.to_owned(), line: None, message, fatal };
            self.scan.problems.push(problem);
        }
    }

    /// What cannot be read is not gone.
    fn unreadable(&mut self, path: &str, error: &std::io::Error) {
        self.scan.complete = false;
        let kept = "what was read from it before stays in force";
        self.tell(path, format!("this cannot be read: {error}; {kept}"), true);
    }

    /// Whether one more entry is within the bound; says it once when it is not.
    fn admits(&mut self, path: &str) -> bool {
        let (files, entries) = (limits::CONTENT_FILES_COUNT, limits::CONTENT_ENTRIES_COUNT);
        self.entries += 1;
        let admitted = self.entries <= entries && self.scan.files.len() < files;
        if !admitted && !self.full {
            self.full = true;
            let message = format!(
                "the folder holds too much: {files} files and {entries} names are looked at; the \
                 rest, from here on, is not used"
            );
            self.tell(path, message, true);
        }
        admitted
    }

    fn folder(&mut self, kind: Kind, folder: &Path, path: &str, depth: usize) {
        let mut names = match std::fs::read_dir(folder) {
            Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>(),
            Err(error) => return self.unreadable(path, &error),
        };
        names.sort();
        for name in names {
            let shown = name.to_string_lossy();
            if shown.starts_with(['_', '.']) {
                continue;
            }
            let path = format!("{path}/{shown}");
            if !self.admits(&path) {
                return;
            }
            let full = folder.join(&name);
            match std::fs::symlink_metadata(&full) {
                Ok(meta) if meta.is_dir() && depth == limits::CONTENT_DEPTH_COUNT => {
                    let max = limits::CONTENT_DEPTH_COUNT;
                    let message = format!("deeper than {max} folders is not looked at");
                    self.tell(&path, message, true);
                }
                Ok(meta) if meta.is_dir() => self.folder(kind, &full, &path, depth + 1),
                Ok(meta) if meta.is_symlink() => self.link(kind, &full, &path),
                Ok(meta) if shown.ends_with(".md") => {
                    if meta.is_file() {
                        self.file(kind, &full, path);
                    } else {
                        self.tell(&path, "this is no file, and not used".to_owned(), false);
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => self.unreadable(&path, &error),
            }
        }
    }

    fn link(&mut self, kind: Kind, full: &Path, path: &str) {
        let target = std::fs::canonicalize(full);
        match target {
            Ok(target) if target.is_dir() => {
                let message = "a link to a folder is not followed".to_owned();
                self.tell(path, message, false);
            }
            _ if !path.ends_with(".md") => {}
            Ok(target) if target.is_file() && target.starts_with(&self.root) => {
                self.file(kind, &target, path.to_owned());
            }
            Ok(_) => {
                let message = "a link out of the content folder is not followed; copy the file \
                               here"
                    .to_owned();
                self.tell(path, message, true);
            }
            Err(error) => self.tell(path, format!("a link to nothing: {error}"), true),
        }
    }

    fn file(&mut self, kind: Kind, full: &Path, path: String) {
        let max = limits::CONTENT_FILE_BYTES;
        let mut bytes = Vec::new();
        let read =
            std::fs::File::open(full).and_then(|file| file.take(max + 1).read_to_end(&mut bytes));
        let problem = match read {
            Ok(_) if bytes.len() as u64 <= max => {
                let parsed = front_matter::parse(kind, &path, &bytes);
                self.scan.files.push(File { kind, path, parsed });
                return;
            }
            Ok(_) => format!("the file is larger than {max} bytes and is not read"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => format!("the file cannot be read: {error}"),
        };
        let hash = front_matter::hash(&bytes);
        let problems =
            vec![Problem { path: path.clone(), line: None, message: problem, fatal: true }];
        let parsed =
            front_matter::Parsed { name: None, item: None, problems, phases: vec![], hash };
        self.scan.files.push(File { kind, path, parsed });
    }
}
