//! Keeps the picture in `ARCHITECTURE.md` true: layers, sizes, words that belong in one place.
//!
//! Reads the sources as text, with the standard library only. The reading is simple because the
//! code is formatted by rustfmt: items start at their indentation and end at the same one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_MAX_LINES: usize = 600;
const FUNCTION_MAX_LINES: usize = 70;

/// The top-level modules by layer. A module may name those of lower layers only.
const LAYERS: &[&[&str]] = &[
    &["clock", "crash", "cron", "ids", "limits", "lock", "changes", "plain"],
    &["config", "db", "telemetry", "metrics", "tls", "automation", "uv", "out", "watch"],
    &["auth", "audit", "quota"],
    &["runs", "steps", "writing"],
    &["mcp", "web", "outside", "traces", "probe", "client", "tool"],
    &["daemon", "cli", "demo", "doctor", "service"],
];

/// Siblings that may name each other: the words of the bottom layer build on one another, the log
/// and the configuration share the masking of secrets, and the top is one program in several files.
const SIBLINGS: &[(&str, &[&str])] = &[
    ("lock", &["limits", "plain"]),
    ("cron", &["clock"]),
    ("changes", &["ids", "limits"]),
    ("ids", &["clock", "limits"]),
    ("config", &["telemetry", "db"]),
    ("db", &["metrics"]),
    ("audit", &["auth", "quota"]),
    ("quota", &["auth"]),
    ("probe", &["tool"]),
    ("web", &["probe"]),
    ("cli", &["daemon", "demo", "doctor", "service"]),
    ("demo", &["daemon"]),
    ("daemon", &["doctor", "service"]),
    ("doctor", &["daemon", "service"]),
];

/// Files of the pure cores of the slices, and what they may not name.
const PURE: &[&str] = &[
    "auth/jwt.rs",
    "auth/keys.rs",
    "auth/throttle.rs",
    "auth/view.rs",
    "audit/params.rs",
    "crash/mod.rs",
    "cron.rs",
    "outside/github.rs",
    "outside/due.rs",
    "outside/notice.rs",
    "mcp/steps/dialect.rs",
    "mcp/steps/shapes.rs",
    "mcp/steps/uri.rs",
    "mcp/weight.rs",
    "web/names.rs",
    "traces/span.rs",
    "runs/budget.rs",
    "runs/run.rs",
    "runs/spend.rs",
    "runs/outcome.rs",
    "runs/marker.rs",
    "runs/state_file.rs",
    "runs/profile.rs",
    "steps/template.rs",
    "steps/view.rs",
    "steps/yaml.rs",
    "steps/front_matter.rs",
    "steps/front_matter/fields.rs",
    "steps/globs.rs",
    "steps/guardrails.rs",
    "steps/library/plan.rs",
    "steps/contract.rs",
    "steps/execution.rs",
    "steps/judge.rs",
    "steps/output.rs",
    "steps/ready.rs",
    "steps/token.rs",
    "writing/phase.rs",
    "writing/phase_list.rs",
    "writing/pass.rs",
    "writing/metric.rs",
    "writing/sums.rs",
    "writing/velocity.rs",
    "writing/qa.rs",
    "writing/day.rs",
    "writing/word.rs",
    "writing/request.rs",
    "writing/view.rs",
    "writing/view_figures.rs",
];
const IMPURE_WORDS: &[&str] = &["tokio", "sqlx", "std::fs", "std::process", "notify", "crate::db"];

/// A word and the only paths under `src/` that may hold it.
const CONFINED: &[(&str, &[&str])] = &[
    ("sqlx", &["db/"]),
    ("rmcp", &["mcp/", "mcp.rs", "client.rs"]),
    ("std::process::Command", PROCESS_FILES),
    ("process::Command", PROCESS_FILES),
    ("tokio::process", PROCESS_FILES),
    ("fs2", &["lock.rs"]),
];
const PROCESS_FILES: &[&str] = &["runs/process.rs", "runs/monitor.rs", "runs/detach.rs"];

/// What may be at the top level besides dot-files.
const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "README.md", "automation", "logs", "migrations", "src", "tests"];

/// What git ignores at the top level.
const IGNORED: &[&str] = &["target", "Cargo.lock"];

/// What fuzzing leaves, which git ignores too.
const FUZZED: &[&str] = &["target", "corpus", "artifacts", "coverage"];

struct Source {
    /// Relative to `src/`.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(folder: &Path, skip: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if skip(&path) {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn rust_files(folder: &str) -> Vec<Source> {
    let base = root().join(folder);
    let rust = |path: &PathBuf| path.extension().is_some_and(|e| e == "rs");
    let read = |path: PathBuf| Source {
        text: fs::read_to_string(&path).expect("a source file is readable"),
        path: path.strip_prefix(&base).expect("it is below").to_string_lossy().into_owned(),
    };
    files_under(&base, &is_fuzzed).into_iter().filter(rust).map(read).collect()
}

fn is_fuzzed(path: &Path) -> bool {
    FUZZED.iter().any(|folder| path.starts_with(root().join("tests/fuzz").join(folder)))
}

/// The line without comments and, roughly, without the content of string literals.
fn code(line: &str) -> String {
    let mut out = String::new();
    let mut chars = line.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '\'' if !quoted && chars.peek() == Some(&'"') => {
                // The character literal '"'.
                chars.next();
                chars.next();
            }
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            c if !quoted => out.push(c),
            _ => {}
        }
    }
    out
}

/// The module a file belongs to: `db` for `db/tx.rs`, `clock` for `clock.rs`.
fn module(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The names that follow `crate::` in a text, `crate::{a, b::c}` included.
fn named_modules(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().map(|line| code(line) + "\n").collect();
    let mut names = BTreeSet::new();
    let ident = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    for (at, found) in code.match_indices("crate::") {
        // `$crate::` in a macro is the same crate; `mycrate::` is not.
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + found.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(ident(rest));
            continue;
        };
        let (mut depth, mut start) = (0_i32, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    names.insert(ident(&group[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn fail_if_any(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn modules_name_lower_layers_only() {
    let mut problems = Vec::new();
    for source in rust_files("src") {
        let own = module(&source.path);
        if matches!(own, "lib" | "main" | "bin") {
            continue;
        }
        let Some(own_layer) = layer(own) else {
            problems.push(format!("src/{}: {own} is in no layer; add it to LAYERS", source.path));
            continue;
        };
        for name in named_modules(&source.text) {
            let Some(other) = layer(&name) else { continue };
            let siblings = SIBLINGS.iter().find(|(module, _)| *module == own);
            let allowed = name == own
                || other < own_layer
                || siblings.is_some_and(|(_, names)| names.contains(&name.as_str()));
            if !allowed {
                problems.push(format!("src/{}: may not name crate::{name}", source.path));
            }
        }
    }
    fail_if_any(problems);
}

#[test]
fn the_pure_cores_do_no_input_or_output() {
    let sources = rust_files("src");
    let is_there = |path: &&&str| sources.iter().any(|source| source.path == **path);
    let absent = PURE.iter().filter(|path| !is_there(path));
    let mut problems: Vec<String> =
        absent.map(|path| format!("src/{path}: is listed as pure and is not there")).collect();
    for source in &sources {
        if !PURE.contains(&source.path.as_str()) {
            continue;
        }
        // Tests of pure code may read fixtures.
        let text = source.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let code = code(line);
            for word in IMPURE_WORDS.iter().filter(|word| names_word(&code, word)) {
                problems.push(format!("src/{}:{}: names {word}", source.path, number + 1));
            }
        }
    }
    fail_if_any(problems);
}

/// Whether the code names this path: not as a part of a longer word.
fn names_word(code: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        let after = code[at + word.len()..].chars().next();
        !inside(code[..at].chars().next_back()) && !inside(after)
    })
}

#[test]
fn some_words_belong_in_one_place() {
    let mut problems = Vec::new();
    for source in rust_files("src") {
        for (word, places) in CONFINED {
            if places.iter().any(|place| source.path.starts_with(place)) {
                continue;
            }
            for (number, line) in source.text.lines().enumerate() {
                if names_word(&code(line), word) {
                    let at = format!("src/{}:{}", source.path, number + 1);
                    problems.push(format!("{at}: only {} may name {word}", places.join(", ")));
                }
            }
        }
    }
    fail_if_any(problems);
}

#[test]
fn files_say_what_they_are_and_are_short() {
    let mut problems = Vec::new();
    for folder in ["src", "tests"] {
        for source in rust_files(folder) {
            let at = format!("{folder}/{}", source.path);
            if !source.text.starts_with("//!") && !source.text.starts_with("#![doc") {
                problems.push(format!("{at}: does not start with //!"));
            }
            let lines = source.text.lines().count();
            if lines > FILE_MAX_LINES {
                problems.push(format!("{at}: {lines} lines, at most {FILE_MAX_LINES}"));
            }
        }
    }
    fail_if_any(problems);
}

#[test]
fn functions_are_short() {
    let mut problems = Vec::new();
    for folder in ["src", "tests"] {
        for source in rust_files(folder) {
            for (name, line, lines) in functions(&source.text) {
                if lines > FUNCTION_MAX_LINES {
                    let at = format!("{folder}/{}:{line}", source.path);
                    problems.push(format!(
                        "{at}: {name} has {lines} lines, at most {FUNCTION_MAX_LINES}"
                    ));
                }
            }
        }
    }
    fail_if_any(problems);
}

/// Functions of rustfmt-formatted code: name, first line (from 1), number of lines.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = code(line);
        let Some(at) = code.find("fn ") else { continue };
        let is_item = code[..at].split_whitespace().all(|word| {
            word.starts_with("pub")
                || matches!(word, "async" | "const" | "unsafe" | "in" | "extern")
        });
        let name: String =
            code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if !is_item || name.is_empty() {
            continue;
        }
        // The end is the first line back at the same indentation: `}`, or `;` without a body.
        let end = (start..lines.len()).find(|&end| {
            let last = lines[end].trim_end();
            let closes = last.trim_start().starts_with('}') && !last.ends_with('{');
            let one_line = end == start && (last.ends_with('}') || last.ends_with(';'));
            let declared = end > start && last.trim_start().starts_with(')') && last.ends_with(';');
            one_line || (indent(last) == indent(line) && (closes || declared))
        });
        found.push((name, start + 1, end.unwrap_or(lines.len() - 1) - start + 1));
    }
    found
}

#[test]
fn the_top_level_is_the_users_card() {
    let mut problems = Vec::new();
    for entry in fs::read_dir(root()).expect("the top level is readable").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = name.starts_with('.')
            || TOP_LEVEL.contains(&name.as_str())
            || IGNORED.contains(&name.as_str());
        if !known {
            problems.push(format!("{name} does not belong at the top level"));
        }
    }
    fail_if_any(problems);
}

/// Package indexes are named by the tools' own configuration on each machine, never here. Put
/// together from parts, so that this file does not name them either.
fn registry_hosts() -> Vec<String> {
    let hosts: &[&[&str]] = &[
        &["index.", "crates", ".io"],
        &["static.", "crates", ".io"],
        &["py", "pi.org"],
        &["files.python", "hosted.org"],
        &["registry.", "npm", "js.org"],
        &["deb.", "debian.org"],
        &["archive.", "ubuntu.com"],
        &["proxy.", "golang.org"],
        &["rubygems", ".org"],
    ];
    hosts.iter().map(|parts| parts.concat()).collect()
}

#[test]
fn no_file_names_a_package_registry() {
    let ignored = |path: &Path| {
        let relative = path.strip_prefix(root()).unwrap_or(path);
        let run_time = ["target", ".git", "logs", "automation/agents", "automation/trees"];
        run_time.iter().any(|folder| relative.starts_with(folder))
            || is_fuzzed(path)
            || path.components().any(|part| {
                let name = part.as_os_str().to_string_lossy();
                matches!(&*name, ".venv" | "__pycache__" | "node_modules")
                    || name.ends_with("_cache")
            })
    };
    let hosts = registry_hosts();
    let mut problems = Vec::new();
    for path in files_under(root(), &ignored) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for host in hosts.iter().filter(|host| text.contains(host.as_str())) {
            problems.push(format!("{}: names {host}", path.display()));
        }
    }
    fail_if_any(problems);
}

#[test]
fn the_reader_reads() {
    let names = named_modules(
        "use crate::{a, b::{c, d}, e};\nuse crate::f::g; // crate::h\n\"crate::i\"; $crate::j!()",
    );
    let expected = ["a", "b", "e", "f", "j"].map(str::to_owned).into();
    assert_eq!(names, expected);
    assert!(names_word("use sqlx::Row", "sqlx") && !names_word("sqlx_error", "sqlx"));
    let text = "pub async fn a(\n    b: u8,\n) -> u8 {\n    1\n}\n\nfn b();\nfn c() {}\n";
    let expected = [("a", 1, 5), ("b", 7, 1), ("c", 8, 1)].map(|(n, l, c)| (n.to_owned(), l, c));
    assert_eq!(functions(text), expected);
}
