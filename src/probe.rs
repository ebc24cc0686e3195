//! Looks at what runs need of a machine: programs, folders, the kernel's limits. One source of truth
//! for `adwd doctor`, which is asked by a person, and for `/mcp/health`, which is asked by machines.
//!
//! Nothing is mended here and nothing reaches out to the network but uv, where it has to find an
//! interpreter. What cannot be told is told as such, never as good.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use serde::Serialize;

use crate::runs::git::MIN_VERSION as MIN_GIT;
use crate::{tool, uv};

const DISK_WARN_BYTES: u64 = 2 << 30;
const DISK_FAIL_BYTES: u64 = 200 << 20;
const MIN_WATCHES_COUNT: u64 = 8_192;
const MIN_INSTANCES_COUNT: u64 = 16;
const UV_MEND: &str = "`adwd doctor --fix` installs one for adwd alone; or `pipx install uv`";
const DISK_MEND: &str =
    "make room: worktrees, logs and uv's cache (`uv cache prune`) are the usual places";

/// What a phase would see of Python, asked through uv with a phase's environment.
const SCRIPT: &str = "# /// script\n# requires-python = \">=3.11\"\n# dependencies = []\n# ///\nimport sys\nprint('probe', sys.version.split()[0], sys.executable)\n";

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, or works for most.
    Degraded,
    /// Runs will fail.
    Failed,
}

impl Status {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Degraded => "degraded",
            Status::Failed => "failed",
        }
    }
}

/// What one look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at, a stable word.
    pub name: String,
    /// How it stands.
    pub status: Status,
    /// What was found.
    pub message: String,
    /// The version, of a program that says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Check {
    /// As it should be.
    #[must_use]
    pub fn ok(name: &str, message: impl Into<String>) -> Check {
        let (name, message) = (name.to_owned(), message.into());
        Check { name, status: Status::Ok, message, version: None, hint: None }
    }

    /// Works, or works for most; with how to mend it.
    #[must_use]
    pub fn degraded(name: &str, message: impl Into<String>, hint: impl Into<String>) -> Check {
        Check { status: Status::Degraded, hint: Some(hint.into()), ..Check::ok(name, message) }
    }

    /// Runs will fail; with how to mend it.
    #[must_use]
    pub fn failed(name: &str, message: impl Into<String>, hint: impl Into<String>) -> Check {
        Check { status: Status::Failed, hint: Some(hint.into()), ..Check::ok(name, message) }
    }

    /// With the version that the program says it has.
    #[must_use]
    fn of_version(self, output: &str) -> Check {
        Check { version: version_in(output), ..self }
    }
}

/// The first word that begins with a number and has a dot.
fn version_in(output: &str) -> Option<String> {
    let is_version =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let words = output.split(|c: char| c.is_whitespace() || "(),".contains(c));
    words.map(|word| word.trim_start_matches('v')).find(is_version).map(str::to_owned)
}

/// Asks a program for its version.
async fn say_version(
    program: &Path,
    env: &BTreeMap<String, String>,
    limit_ms: u64,
) -> Result<String, String> {
    let said = tool::run(program, &["--version"], Path::new("/"), env, limit_ms).await?;
    match said.code {
        Some(0) => Ok(said.stdout.trim().lines().next().unwrap_or_default().to_owned()),
        _ if !said.stderr.is_empty() => Err(said.stderr),
        _ => Err("`--version` failed".to_owned()),
    }
}

/// uv, where there is none.
#[must_use]
pub fn uv_absent(configured: Option<&Path>) -> Check {
    let configured = configured.map(|path| format!(" (uv.path = {})", path.display()));
    Check::failed("uv", format!("not found{}", configured.unwrap_or_default()), UV_MEND)
}

/// uv at that path; the second is whether it can be worked with at all.
pub async fn uv(uv: &Path, env: &BTreeMap<String, String>, limit_ms: u64) -> (Check, bool) {
    let place = uv.display();
    let text = match say_version(uv, env, limit_ms).await {
        Ok(text) if uv::parse_version(&text).is_some() => text,
        Ok(text) | Err(text) => {
            let message = format!("{place} does not work: {text}");
            return (Check::failed("uv", message, "install it anew, or set uv.path"), false);
        }
    };
    let (major, minor, patch) = uv::MIN_VERSION;
    let check = match uv::parse_version(&text) {
        Some(version) if version >= uv::MIN_VERSION => {
            Check::ok("uv", format!("{text} at {place}"))
        }
        _ => Check::failed(
            "uv",
            format!("{text} at {place} is older than {major}.{minor}.{patch}"),
            "`uv self update`, or `pipx upgrade uv`",
        ),
    };
    (check.of_version(&text), true)
}

/// How [`python`] asks.
pub struct Script<'a> {
    /// uv.
    pub uv: &'a Path,
    /// The Python that is configured.
    pub python: Option<&'a str>,
    /// Where the script is written: one path for ever, because uv keeps an environment for each.
    pub file: PathBuf,
    /// A phase's environment.
    pub env: &'a BTreeMap<String, String>,
    /// How long it may take: the first one may build an environment, or look through every Python.
    pub limit_ms: u64,
}

/// A script through uv with a phase's own environment finds what nothing else does: TLS roots, an
/// unwritable cache, no interpreter. `None` where it cannot be written: that is another check's.
pub async fn python(ask: &Script<'_>) -> Option<Check> {
    std::fs::write(&ask.file, SCRIPT).ok()?;
    let path = ask.file.display().to_string();
    let mut args = vec!["run", "--no-progress"];
    if let Some(python) = ask.python {
        args.extend(["--python", python]);
    }
    args.extend(["--script", &path]);
    let ran = tool::run(ask.uv, &args, Path::new("/"), ask.env, ask.limit_ms).await;
    let _ = std::fs::remove_file(&ask.file);
    Some(match ran {
        Ok(done) if done.code == Some(0) => {
            let text = done.stdout.trim().trim_start_matches("probe ").replacen(' ', " at ", 1);
            Check::ok("python", format!("a script ran through uv: Python {text}")).of_version(&text)
        }
        Ok(done) => Check::failed(
            "python",
            format!("a script did not run through uv: {}", done.stderr),
            "install Python 3.11 or newer (or let uv: `uv python install 3.12`), or set uv.python; for certificates set SSL_CERT_FILE",
        ),
        Err(error) => {
            Check::failed("python", error, "see whether uv works in a shell: `uv run -c pass`")
        }
    })
}

/// Git on the search path.
pub async fn git(env: &BTreeMap<String, String>, limit_ms: u64) -> Check {
    const MEND: &str = "install git 2.39 or newer";
    let Some(git) = tool::find("git", env) else {
        return Check::failed("git", "not found on PATH", MEND);
    };
    let text = say_version(&git, env, limit_ms).await.unwrap_or_else(|error| error);
    match uv::parse_version(&text) {
        Some((major, minor, _)) if (major, minor) >= MIN_GIT => {
            Check::ok("git", text.clone()).of_version(&text)
        }
        Some(_) => Check::failed("git", format!("{text} is older than 2.39"), "upgrade git")
            .of_version(&text),
        None => Check::failed("git", text, MEND),
    }
}

/// A program that somebody may need, by name or path. Its version is told, not judged.
pub async fn program(
    name: &str,
    program: &str,
    env: &BTreeMap<String, String>,
    limit_ms: u64,
) -> Check {
    let Some(path) = tool::find(program, env) else {
        return Check::failed(
            name,
            format!("{program} is not on the daemon's PATH"),
            format!("install {program}, or take it into the daemon's PATH"),
        );
    };
    match say_version(&path, env, limit_ms).await {
        Ok(text) => Check::ok(name, format!("{text} at {}", path.display())).of_version(&text),
        Err(error) => Check::degraded(
            name,
            format!("{} does not say its version: {error}", path.display()),
            format!("see what `{program} --version` says in a shell"),
        ),
    }
}

/// Whether a folder can be written, by writing: access(2) does not know every kind of mount.
///
/// # Errors
/// The system's.
pub fn written(folder: &Path, name: &str) -> io::Result<()> {
    let probe = folder.join(format!(".{name}-{}", nix::unistd::getpid()));
    let written = std::fs::write(&probe, b"x");
    let _ = std::fs::remove_file(&probe);
    written
}

/// Room on the disk of a folder; `None` where the kernel does not say.
#[must_use]
pub fn disk(folder: &Path) -> Option<Check> {
    let facts = statvfs(folder).ok()?;
    let free = facts.blocks_available().saturating_mul(facts.fragment_size());
    let text = format!("{} MiB free at {}", free >> 20, folder.display());
    Some(match free {
        free if free < DISK_FAIL_BYTES => Check::failed("disk", text, DISK_MEND),
        free if free < DISK_WARN_BYTES => Check::degraded("disk", text, DISK_MEND),
        _ => Check::ok("disk", text),
    })
}

/// The kernel's limits on watches.
#[must_use]
pub fn inotify() -> Check {
    let read = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
    };
    match (read("max_user_watches"), read("max_user_instances")) {
        (Some(watches), Some(instances))
            if watches < MIN_WATCHES_COUNT || instances < MIN_INSTANCES_COUNT =>
        {
            Check::degraded(
                "inotify",
                format!(
                    "{watches} watches and {instances} instances: few; changes are then found by looking, more slowly"
                ),
                "sysctl fs.inotify.max_user_watches=65536 fs.inotify.max_user_instances=128",
            )
        }
        (Some(watches), Some(instances)) => {
            Check::ok("inotify", format!("{watches} watches, {instances} instances"))
        }
        _ => Check::degraded(
            "inotify",
            "the kernel does not say its limits",
            "changes are then found by looking",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_say_them() {
        for (said, version) in [
            ("git version 2.47.3", Some("2.47.3")),
            ("uv 0.13.8 (abc 2026-01-01)", Some("0.13.8")),
            ("2.0.14 (Claude Code)", Some("2.0.14")),
            ("gh version 2.46.0 (2024-03-01)\nhttps://x", Some("2.46.0")),
            ("tool v1.2", Some("1.2")),
            ("no number", None),
        ] {
            assert_eq!(version_in(said).as_deref(), version, "{said}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_with_how_to_mend_it() {
        let nothing = BTreeMap::from([("PATH".to_owned(), "/nonexistent".to_owned())]);
        let check = git(&nothing, 1_000).await;
        assert_eq!((check.status, check.message.as_str()), (Status::Failed, "not found on PATH"));
        let check = program("agent", "claude", &nothing, 1_000).await;
        assert!(check.hint.unwrap().contains("install claude"));
        let (check, works) = uv(Path::new("/nonexistent/uv"), &nothing, 1_000).await;
        assert!(check.message.contains("does not work") && !works, "{check:?}");
        let check = uv_absent(Some(Path::new("/a/uv")));
        assert_eq!(check.message, "not found (uv.path = /a/uv)");
        assert!(written(Path::new("/proc"), "x").is_err());
        assert!(disk(Path::new("/nonexistent")).is_none());
    }
}
