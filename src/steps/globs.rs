//! Stand-in until the content branch is merged: exact paths and `prefix/**`.

/// Whether the pattern matches the path.
#[must_use]
pub fn matches(pattern: &str, path: &str) -> bool {
    pattern == "**"
        || pattern == path
        || pattern.strip_suffix("**").is_some_and(|start| path.starts_with(start))
}

/// The path as patterns see it.
#[must_use]
pub fn normalise(path: &str) -> String {
    path.trim_start_matches("./").replace('\\', "/")
}
