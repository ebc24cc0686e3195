//! The Python side's own checks, through uv: its tests, its types, its style.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli_support;

fn automation() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("automation")
}

/// Runs a tool of `automation/requirements.lock` in `automation/`.
#[expect(clippy::disallowed_methods, reason = "tests may start processes")]
fn tool(args: &[&str]) {
    let uv = cli_support::uv_folder().join("uv");
    let out = Command::new(uv)
        .args(["run", "--no-project", "--no-progress", "--with-requirements", "requirements.lock"])
        .args(args)
        .current_dir(automation())
        .env("UV_SYSTEM_CERTS", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("uv starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(out.status.success(), "{args:?}\n{}\n{}", text(&out.stdout), text(&out.stderr));
}

#[test]
fn the_python_suite_passes() {
    tool(&["python", "-m", "pytest", "-q", "-p", "no:cacheprovider"]);
}

#[test]
fn the_python_side_is_formatted_and_lint_free() {
    tool(&["ruff", "check", "--no-cache", "."]);
    tool(&["ruff", "format", "--check", "--no-cache", "."]);
}

#[test]
fn the_python_side_has_strict_types() {
    tool(&["mypy", "--cache-dir=/dev/null"]);
}
