//! Markers: whole lines `KEY=value` that a phase script prints (`spec/adw.md` §2).
//!
//! A marker is an untrusted hint. Agent text and file names can reach stdout too, so nothing here
//! decides an outcome; it only lets a run show its worktree or pull request before the state file
//! says so, and only where the value can be checked.

use std::path::{Component, Path};

use crate::limits;

/// The word of a `STATUS=` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusMarker {
    /// The script began.
    Started,
    /// It says that it did its work.
    Completed,
    /// It says that it failed.
    Failed,
    /// It says that the issue is out of scope.
    Skipped,
}

/// One recognised line.
#[derive(Clone, Debug, PartialEq)]
pub enum Marker {
    /// `ADW_ID=`
    AdwId(String),
    /// `WORKTREE_PATH=`
    WorktreePath(String),
    /// `PHASE=`
    Phase(String),
    /// `STATUS=`
    Status(StatusMarker),
    /// `PLAN_FILE=`
    PlanFile(String),
    /// `BRANCH=`
    Branch(String),
    /// `PR_URL=`
    PrUrl(String),
    /// `TOKEN_EVENT:{json}`
    TokenEvent(serde_json::Value),
}

/// Reads one line without its line end. Anything that is not exactly a marker is `None`.
#[must_use]
pub fn parse_line(line: &str) -> Option<Marker> {
    if line.len() > limits::MARKER_BYTES {
        return None;
    }
    if let Some(json) = line.strip_prefix("TOKEN_EVENT:") {
        let value: serde_json::Value = serde_json::from_str(json).ok()?;
        return value.is_object().then_some(Marker::TokenEvent(value));
    }
    let (key, value) = line.split_once('=')?;
    if value.is_empty() || value.chars().any(char::is_control) {
        return None;
    }
    let value = value.to_owned();
    Some(match key {
        "ADW_ID" => Marker::AdwId(value),
        "WORKTREE_PATH" => Marker::WorktreePath(value),
        "PHASE" => Marker::Phase(value),
        "PLAN_FILE" => Marker::PlanFile(value),
        "BRANCH" => Marker::Branch(value),
        "PR_URL" => Marker::PrUrl(value),
        "STATUS" => Marker::Status(match value.as_str() {
            "started" => StatusMarker::Started,
            "completed" => StatusMarker::Completed,
            "failed" => StatusMarker::Failed,
            "skipped" => StatusMarker::Skipped,
            _ => return None,
        }),
        _ => return None,
    })
}

/// What the markers of one attempt said: the first of each kind, the last `STATUS` and `PHASE`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Markers {
    /// `ADW_ID`, first.
    pub adw_id: Option<String>,
    /// `WORKTREE_PATH`, first.
    pub worktree_path: Option<String>,
    /// `PHASE`, last.
    pub phase: Option<String>,
    /// `STATUS`, last.
    pub status: Option<StatusMarker>,
    /// `PLAN_FILE`, first.
    pub plan_file: Option<String>,
    /// `BRANCH`, first.
    pub branch: Option<String>,
    /// `PR_URL`, first.
    pub pr_url: Option<String>,
    /// How many `TOKEN_EVENT` lines came.
    pub token_events: u64,
}

impl Markers {
    /// Takes one line into account; returns whether it was a marker.
    pub fn take(&mut self, line: &str) -> bool {
        let Some(marker) = parse_line(line) else {
            return false;
        };
        match marker {
            Marker::AdwId(v) => first(&mut self.adw_id, v),
            Marker::WorktreePath(v) => first(&mut self.worktree_path, v),
            Marker::PlanFile(v) => first(&mut self.plan_file, v),
            Marker::Branch(v) => first(&mut self.branch, v),
            Marker::PrUrl(v) => first(&mut self.pr_url, v),
            Marker::Phase(v) => self.phase = Some(v),
            Marker::Status(v) => self.status = Some(v),
            Marker::TokenEvent(_) => self.token_events += 1,
        }
        true
    }

    /// The worktree that the markers name, where it may be believed: the id is the one that was
    /// passed (or none was printed) and the path lies under the project's tree folder. Whether it
    /// really is a worktree of the project is for git to say.
    #[must_use]
    pub fn believable_worktree(&self, run_id: &str, trees_dir: &Path) -> Option<&Path> {
        if self.adw_id.as_deref().is_some_and(|id| id != run_id) {
            return None;
        }
        let path = Path::new(self.worktree_path.as_deref()?);
        is_below(path, trees_dir).then_some(path)
    }
}

fn first(slot: &mut Option<String>, value: String) {
    if slot.is_none() {
        *slot = Some(value);
    }
}

/// Whether `path` is absolute, free of `..`, and strictly below `root`.
#[must_use]
pub fn is_below(path: &Path, root: &Path) -> bool {
    path.is_absolute()
        && path != root
        && path.starts_with(root)
        && !path.components().any(|c| matches!(c, Component::ParentDir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_whole_lines_with_known_keys_are_markers() {
        assert_eq!(parse_line("ADW_ID=abc"), Some(Marker::AdwId("abc".into())));
        for not in [
            "  ADW_ID=abc",
            "x ADW_ID=abc",
            "ADW_ID =abc",
            "ADW_ID=",
            "adw_id=abc",
            "STATUS=done",
            "STATUS=completed ",
            "OTHER=1",
            "TOKEN_EVENT:[1]",
            "TOKEN_EVENT:{",
            "PR_URL=a\u{7}b",
        ] {
            assert_eq!(parse_line(not), None, "{not:?}");
        }
    }

    #[test]
    fn first_wins_except_status_and_phase() {
        let mut m = Markers::default();
        for line in [
            "ADW_ID=a",
            "STATUS=started",
            "ADW_ID=evil",
            "STATUS=completed",
            "PHASE=plan",
            "PHASE=build",
        ] {
            assert!(m.take(line));
        }
        assert_eq!(m.adw_id.as_deref(), Some("a"));
        assert_eq!(m.status, Some(StatusMarker::Completed));
        assert_eq!(m.phase.as_deref(), Some("build"));
    }

    #[test]
    fn a_worktree_is_believed_only_under_the_tree_folder_and_for_the_own_id() {
        let trees = Path::new("/p/automation/trees");
        let mut m = Markers::default();
        m.take("ADW_ID=run1");
        m.take("WORKTREE_PATH=/p/automation/trees/x");
        assert!(m.believable_worktree("run1", trees).is_some());
        assert!(m.believable_worktree("run2", trees).is_none());
        for bad in
            ["/p/automation/trees", "/p/automation/trees/../../etc", "/etc", "automation/trees/x"]
        {
            let m = Markers { worktree_path: Some(bad.into()), ..Markers::default() };
            assert!(m.believable_worktree("run1", trees).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_overlong_line_is_no_marker() {
        assert_eq!(parse_line(&format!("ADW_ID={}", "a".repeat(limits::MARKER_BYTES))), None);
    }

    proptest! {
        #[test]
        fn indented_text_is_never_a_marker(text in "\\PC*") {
            prop_assert_eq!(parse_line(&format!("  {text}")), None);
        }

        #[test]
        fn no_line_makes_it_panic(text in ".*") {
            let _ = parse_line(&text);
        }
    }
}
