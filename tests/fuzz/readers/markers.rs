//! Lines of a phase script's stdout, as markers.

use std::path::Path;

use adwd::runs::marker::{Markers, is_below, parse_line};

use super::text;

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let trees = Path::new("/p/automation/trees");
    let (mut once, mut twice) = (Markers::default(), Markers::default());
    for line in text.lines() {
        assert_eq!(once.take(line), parse_line(line).is_some());
        let _ = twice.take(line);
    }
    assert_eq!(once, twice);
    for id in ["a1b2c3d4", "x"] {
        if let Some(path) = once.believable_worktree(id, trees) {
            assert!(is_below(path, trees) && once.adw_id.as_deref().is_none_or(|own| own == id));
        }
    }
    for value in [&once.adw_id, &once.worktree_path, &once.phase, &once.branch, &once.pr_url] {
        let plain = |v: &String| !v.is_empty() && !v.chars().any(char::is_control);
        assert!(value.as_ref().is_none_or(plain));
    }
}
