//! A project's own `.adw.toml`: the settings that its scripts read too, refused here where they
//! would refuse it, before anything has been paid for.

use std::collections::BTreeMap;
use std::path::Path;

use super::profile::ScriptsFrom;

/// How many bytes of a `.adw.toml` are read.
const PROJECT_FILE_BYTES: u64 = 256 * 1024;

/// Every key that the automation knows (`adw_modules/config.py`), and what its value must be.
const KEYS: [(&str, Kind); 25] = [
    ("agents_dir", Kind::Text),
    ("trees_dir", Kind::Text),
    ("log_root", Kind::Text),
    ("pulls_dir", Kind::Text),
    ("issues_dir", Kind::Text),
    ("base_branch", Kind::Text),
    ("remote", Kind::Text),
    ("agent", Kind::Text),
    ("agent_command", Kind::Command),
    ("agent_timeout_s", Kind::Number),
    ("agent_budget_usd", Kind::Number),
    ("model", Kind::Text),
    ("claude_code_path", Kind::Text),
    ("codex_path", Kind::Text),
    ("forge", Kind::Text),
    ("forge_repo", Kind::Text),
    ("gh_path", Kind::Text),
    ("check_command", Kind::Text),
    ("check_timeout_s", Kind::Number),
    ("env", Kind::Text),
    ("cleanup_worktrees", Kind::Flag),
    ("persona", Kind::Text),
    ("persona_plan", Kind::Text),
    ("persona_build", Kind::Text),
    ("persona_review", Kind::Text),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
    Command,
}

/// Reads the file; empty where there is none. The keys of scripts that are the project's own are
/// theirs to know.
///
/// # Errors
/// A sentence that names the file, and the line or the key.
pub(super) fn read(root: &Path, scripts: ScriptsFrom) -> Result<BTreeMap<String, String>, String> {
    let path = root.join(".adw.toml");
    let Ok(meta) = std::fs::metadata(&path) else {
        return Ok(BTreeMap::new());
    };
    if !meta.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    if meta.len() > PROJECT_FILE_BYTES {
        return Err(format!(
            "{} has {} bytes; at most {PROJECT_FILE_BYTES} are read",
            path.display(),
            meta.len()
        ));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&path, &text, scripts)
}

/// Reads the file's text; `path` is named in what is wrong with it. Public for the fuzz target.
///
/// # Errors
/// A sentence that names the file, and the line or the key.
pub fn parse(
    path: &Path,
    text: &str,
    scripts: ScriptsFrom,
) -> Result<BTreeMap<String, String>, String> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        // Its own display draws the place over several lines.
        let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        format!("{} line {line}: {}", path.display(), e.message())
    })?;
    if scripts == ScriptsFrom::Embedded {
        for (key, value) in &table {
            check(key, value).map_err(|problem| format!("{}: {problem}", path.display()))?;
        }
    }
    Ok(table.into_iter().map(|(k, v)| (k, plain(&v))).collect())
}

fn check(key: &str, value: &toml::Value) -> Result<(), String> {
    let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == key) else {
        let known: Vec<&str> = KEYS.iter().map(|(known, _)| *known).collect();
        return Err(format!("unknown key {key:?}; known are {}", known.join(" ")));
    };
    let text = plain(value);
    let fits = match (kind, value) {
        // Set but empty is as good as absent.
        (_, toml::Value::String(s)) if s.is_empty() => true,
        (Kind::Command, toml::Value::Array(words)) => words.iter().all(toml::Value::is_str),
        (_, toml::Value::Array(_) | toml::Value::Table(_) | toml::Value::Datetime(_)) => false,
        (Kind::Number, _) => text.parse::<f64>().is_ok_and(|n| n > 0.0 && n < 1e9),
        (Kind::Flag, _) => ["1", "true", "yes", "on", "0", "false", "no", "off"]
            .contains(&text.to_lowercase().as_str()),
        _ => true,
    };
    let wanted = match kind {
        Kind::Text => "a string",
        Kind::Number => "a positive number",
        Kind::Flag => "true or false",
        Kind::Command => "a string, or a list of strings",
    };
    if fits { Ok(()) } else { Err(format!("{key} is {text:?}; it must be {wanted}")) }
}

fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(s) => s.clone(),
        toml::Value::Array(_) => serde_json::to_string(value).unwrap_or_default(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, scripts: ScriptsFrom) -> Result<BTreeMap<String, String>, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".adw.toml"), text).unwrap();
        read(dir.path(), scripts)
    }

    #[test]
    fn the_scripts_know_the_same_keys() {
        let python = include_str!("../../automation/adws/adw_modules/config.py");
        let table = python.split("_KEYS: dict").nth(1).unwrap().split("\n}").next().unwrap();
        let theirs: Vec<&str> =
            table.lines().filter_map(|l| l.trim().strip_prefix('"')?.split('"').next()).collect();
        assert_eq!(theirs, KEYS.map(|(key, _)| key));
    }

    #[test]
    fn what_the_scripts_would_refuse_is_refused_by_name() {
        for (text, words) in [
            ("agnet = \"claude\"", ["agnet", "agent"]),
            ("agent_timeout_s = 0", ["agent_timeout_s", "positive"]),
            ("check_timeout_s = \"soon\"", ["check_timeout_s", "soon"]),
            ("cleanup_worktrees = \"perhaps\"", ["cleanup_worktrees", "true or false"]),
            ("agent_command = [\"a\", 1]", ["agent_command", "list of strings"]),
            ("model = [\"x\"]", ["model", "a string"]),
            ("[agent]\nx = 1", ["agent", "a string"]),
            ("a = ", ["line 1", ".adw.toml"]),
        ] {
            let problem = of(text, ScriptsFrom::Embedded).unwrap_err();
            assert!(words.iter().all(|w| problem.contains(w)), "{text}: {problem}");
        }
        let good = "agent_command = [\"a\", \"b\"]\nagent_timeout_s = 5\nagent_budget_usd = \"\"\n\
                    check_command = true\ncleanup_worktrees = \"ON\"\n";
        assert_eq!(of(good, ScriptsFrom::Embedded).unwrap()["agent_command"], "[\"a\",\"b\"]");
        // Scripts of the project's own may know more.
        assert_eq!(of("more = 1", ScriptsFrom::Project).unwrap()["more"], "1");
    }
}
