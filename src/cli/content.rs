//! `adwd content`: what is wrong in a content folder. Needs neither a daemon nor settings.

use std::path::Path;

use serde_json::json;

use super::args::Content;
use super::fail::{Fail, exit};
use crate::out::{Out, Tone};
use crate::steps::Problem;
use crate::steps::library::{self, Checked};

/// Does it.
pub fn command(out: &Out, given: &Content) -> Result<u8, Fail> {
    let Content::Check { path } = given;
    check(out, path)
}

fn check(out: &Out, path: &Path) -> Result<u8, Fail> {
    if !path.is_dir() {
        let message = format!("{} is no folder", path.display());
        return Err(
            Fail::usage(message).hint("name a folder that holds agents, rules or workflows")
        );
    }
    let found = library::check(path);
    if out.is_json() {
        out.json(&json!({
            "path": path,
            "ok": found.is_usable(),
            "agents": found.agents,
            "rules": found.rules,
            "workflows": found.workflows,
            "problems": found.problems,
        }));
    } else {
        show(out, path, &found);
    }
    Ok(if found.is_usable() { exit::OK } else { exit::FAILED })
}

/// One line for each problem, in the form that editors jump to.
fn show(out: &Out, path: &Path, found: &Checked) {
    for problem in &found.problems {
        let (word, tone) =
            if problem.fatal { ("error", Tone::Bad) } else { ("remark", Tone::Busy) };
        let at = out.paint(&place(path, problem), Tone::Plain);
        let message = out.paint(&problem.message, Tone::Plain);
        out.painted(&format!("{at}: {}: {message}", out.paint(word, tone)));
    }
    let errors = found.problems.iter().filter(|problem| problem.fatal).count();
    out.line(&format!(
        "{}: {}, {}, {} can be used; {}, {}",
        path.display(),
        counted(found.agents, "agent"),
        counted(found.rules, "rule"),
        counted(found.workflows, "workflow"),
        counted(errors, "error"),
        counted(found.problems.len() - errors, "remark"),
    ));
}

fn place(folder: &Path, problem: &Problem) -> String {
    let file = folder.join(&problem.path);
    let file = file.to_string_lossy();
    let file = file.trim_end_matches('/');
    problem.line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"))
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
