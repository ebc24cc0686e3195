//! Patterns of paths and the paths themselves.

use adwd::limits::CONTENT_GLOB_CHARS;
use adwd::steps::globs::{matches, normalise, remark};

use super::{halves, text};

/// What holds whatever the bytes are.
pub fn read(bytes: &[u8]) {
    let (pattern, path) = halves(bytes);
    let (Some(pattern), Some(path)) = (text(pattern), text(path)) else { return };
    if pattern.chars().count() > CONTENT_GLOB_CHARS {
        return;
    }
    let normal = normalise(path);
    assert_eq!(normalise(&normal), normal);
    let is = matches(pattern, &normal);
    let _ = matches(pattern, path);
    let positive = pattern.trim();
    // A leading `!` turns the answer round, except before what is a comment or too much.
    if !positive.starts_with(['#', '!']) && remark(positive).is_none() {
        assert_ne!(matches(&format!("!{positive}"), &normal), is, "{pattern:?} {normal:?}");
    }
}
