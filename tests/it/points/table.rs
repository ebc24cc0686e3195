//! The table of crash points is whole: each point stands in the code once, where the table says, and
//! has a test; nothing of a run is written, started, renamed or committed without one; and release
//! builds know nothing of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use adwd::crash::{Entry, TABLE, Who};

use super::{daemon, monitor, python, steer};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PYTHON: &str = "automation/adws/adw_modules";

/// Functions of a run that write, start, rename or commit and have no point of their own, and why.
const EXCUSED: &[(&str, &str, &str)] = &[
    // Rust: `src/runs`.
    ("detach.rs", "spawn_detached", "starts a daemon, not a run"),
    ("process.rs", "spawn", "its one caller has the point: `command-started`"),
    ("monitor.rs", "spawn", "its one caller has the point: `phase-spawned`"),
    ("cgroup.rs", "kill", "a signal"),
    ("monitor.rs", "spawn_born_in", "a word through a pipe; around it is `phase-spawned`"),
    ("worktree/mend.rs", "remove_tree", "its callers have points: it is done again"),
    ("sql_keys.rs", "insert_project", "a project is served; one statement"),
    ("sql_keys.rs", "delete_project", "a project is served no more; one statement"),
    ("sql_lives.rs", "mark_traced", "told to a collector, after the run; may be told twice"),
    ("sql_lives.rs", "forget_traced", "the same"),
    // Python.
    ("agent.py", "invoke", "moves the log of an older agent's refusal aside, between two calls"),
    ("crash.py", "here", "the switch itself"),
    ("git.py", "repo_lock", "an empty lock file; the kernel gives the lock back"),
    ("state.py", "flocked", "the same"),
    ("markers.py", "_write_all", "its caller's caller has the point: `marker-printed`"),
    ("phase.py", "open", "the files of a run by hand, which nobody resumes"),
    ("worktree.py", "_clear", "a run by hand; the daemon makes the worktrees of its own"),
];

/// The names of the points that a test arms, without their count.
fn armed() -> BTreeSet<String> {
    let mut all: Vec<&str> = vec![];
    all.extend(daemon::STATEMENTS.concat());
    all.extend(daemon::FILES.concat());
    all.extend(daemon::MENDED);
    all.extend(daemon::FOREIGN.concat());
    all.extend([steer::CANCEL, steer::RESUME, steer::RETRY, steer::BUDGET].concat());
    all.extend(monitor::BEFORE_THE_RECORD);
    all.extend(monitor::TOO_OFTEN);
    all.extend(monitor::BEFORE_THE_PHASE);
    all.extend(monitor::JUDGED.concat());
    all.extend(python::COURSES.iter().flat_map(|course| course.points));
    all.extend(python::GITHUB);
    all.into_iter().map(|point| point.split(['@', '.']).next().unwrap().to_owned()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let base = Path::new(ROOT).join(folder);
    let (mut found, mut folders) = (vec![], vec![base.clone()]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                let name = path.strip_prefix(&base).unwrap().to_string_lossy().into_owned();
                let text = read(&path);
                let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
                found.push((name, code));
            }
        }
    }
    found.sort();
    found
}

/// How the code names a point.
fn words(entry: &Entry) -> Vec<String> {
    match entry.who {
        Who::Python => vec![format!("crash.here(\"{}\"", entry.name)],
        _ => ["here", "at"].map(|call| format!("crash::{call}(Point::{:?}", entry.point)).to_vec(),
    }
}

#[test]
fn each_point_stands_in_the_code_once_and_where_the_table_says() {
    let (rust, python) = (files("src/runs", "rs"), files(PYTHON, "py"));
    let mut problems = vec![];
    for entry in TABLE {
        let sources = if entry.who == Who::Python { &python } else { &rust };
        let uses = |text: &str| -> usize {
            let ends = |rest: &str| !rest.starts_with(char::is_alphanumeric);
            let found = words(entry).into_iter().map(|word| {
                text.match_indices(&word).filter(|(at, _)| ends(&text[at + word.len()..])).count()
            });
            found.sum()
        };
        let found: Vec<(&str, usize)> = sources
            .iter()
            .map(|(name, text)| (name.as_str(), uses(text)))
            .filter(|(_, n)| *n > 0)
            .collect();
        if found != [(entry.file, 1)] {
            problems.push(format!("{}: {found:?}, and the table says {}", entry.name, entry.file));
        }
    }
    let text: String = [rust, python].concat().into_iter().map(|(_, text)| text).collect();
    let calls = ["crash::here(", "crash::at(", "crash.here("].map(|w| text.matches(w).count());
    assert_eq!(calls.iter().sum::<usize>(), TABLE.len(), "calls and rows");
    assert!(problems.is_empty(), "{problems:#?}");
    let names: BTreeSet<&str> = TABLE.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), TABLE.len(), "no name comes twice");
}

#[test]
fn each_point_has_a_test() {
    let known: BTreeSet<String> = TABLE.iter().map(|entry| entry.name.to_owned()).collect();
    assert_eq!(armed(), known);
}

/// The functions of a source: name and text. Formatted code: one ends where a line is back at its
/// indentation (Rust: and closes it).
fn functions(text: &str, python: bool) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let word = if python { "def " } else { "fn " };
    let mut found = vec![];
    for (start, line) in lines.iter().enumerate() {
        let Some(at) = line.find(word) else { continue };
        let before = line[..at].trim();
        let item = before.split_whitespace().all(|w| matches!(w, "async") || w.starts_with("pub"));
        if !item {
            continue;
        }
        let name: String = line[at + word.len()..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let back = |other: &&str| {
            let level = indent(other) <= indent(line) && !other.trim().is_empty();
            if python {
                level && !other.trim().starts_with(')')
            } else {
                level && other.trim() == "}"
            }
        };
        let end = lines[start + 1..].iter().position(back).unwrap_or(lines.len());
        let end = (start + 1 + end).min(lines.len());
        found.push((name, lines[start..end].join("\n")));
    }
    found
}

#[test]
fn nothing_of_a_run_is_written_started_renamed_or_committed_without_a_point() {
    const RUST: &[&str] = &[
        "fs::write(",
        "fs::rename(",
        "hard_link(",
        "write_all(",
        "create_dir(",
        "remove_dir_all(",
        ".spawn()",
        ".commit()",
        "db.exec(",
        "db().exec(",
    ];
    const PY: &[&str] = &["os.rename(", "Popen(", "O_CREAT", ", \"w\"", ", \"a\"", "os.write("];
    let mut problems = vec![];
    let mut excused: BTreeSet<&str> = EXCUSED.iter().map(|(_, function, _)| *function).collect();
    for (folder, ending, words, point) in
        [("src/runs", "rs", RUST, "crash::"), (PYTHON, "py", PY, "crash.here(")]
    {
        for (file, text) in files(folder, ending) {
            for (name, body) in functions(&text, ending == "py") {
                // However it is broken into lines.
                let packed: String = body.split_whitespace().collect();
                let there = |word: &&&str| packed.contains(&word.replace(' ', ""));
                let Some(word) = words.iter().find(there) else { continue };
                if EXCUSED.iter().any(|(f, function, _)| *f == file && *function == name) {
                    excused.remove(name.as_str());
                } else if !body.contains(point) {
                    problems.push(format!("{folder}/{file}: {name} has {word} and no point"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "add a point to src/crash, or say why not:\n{problems:#?}");
    assert!(excused.is_empty(), "excused, and not there: {excused:?}");
}

/// The table is compiled alone, as in a release build and as in a debug one.
#[test]
#[expect(clippy::disallowed_methods, reason = "tests may start processes")]
fn a_release_build_has_no_switch() {
    let folder = tempfile::tempdir().unwrap();
    let holds_it = |name: &str, flag: &str| {
        let out: PathBuf = folder.path().join(name);
        let done = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition", "2024", "--crate-type", "lib", "--crate-name", "crash", flag, "-o"])
            .arg(&out)
            .arg(Path::new(ROOT).join("src/crash/mod.rs"))
            .output()
            .expect("rustc starts: cargo is here");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let bytes = fs::read(out).unwrap();
        bytes.windows(b"TEST_CRASH".len()).any(|part| part == b"TEST_CRASH")
    };
    assert!(!holds_it("release.rlib", "-Copt-level=3"), "a release build can be told to die");
    assert!(holds_it("debug.rlib", "-Cdebug-assertions=on"), "or this test sees nothing");
}
