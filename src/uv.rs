//! Where uv is, and how to get a private one without root, an installer script or a home folder.
//!
//! This layer starts no process itself: [`provision`] hands each [`Step`] to the runner it is
//! given, so that the order and the error messages can be tested with a fake one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The oldest uv that the phases are tried with (`UV_SYSTEM_CERTS` and `--script` are older).
pub const MIN_VERSION: (u32, u32, u32) = (0, 8, 0);
/// What is asked of pip: bounded above, because uv changes its options between 0.x releases.
const REQUIREMENT: &str = "uv>=0.8.0,<0.15";
/// The oldest Python that the scripts run on.
pub const MIN_PYTHON: (u32, u32) = (3, 11);

const VENV_LIMIT_MS: u64 = 120_000;
const PIP_LIMIT_MS: u64 = 600_000;
const PROBE_LIMIT_MS: u64 = 20_000;

/// Variables of the caller's environment that finding a Python and talking to an index need.
const PASSED: &[&str] = &[
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "PYENV_ROOT",
    "PYENV_VERSION",
];

/// One program to run, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is for, for a progress line.
    pub what: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// How long it may take.
    pub timeout_ms: u64,
}

/// How a step ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Exit code; absent when a signal or the limit ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Why there is no private uv.
#[derive(Debug, Error)]
pub enum UvError {
    /// No Python that could make one.
    #[error(
        "no Python {}.{} or newer with the venv module was found on PATH ({tried}); install one (on \
         Debian: apt install python3 python3-venv), or install uv yourself: \
         https://docs.astral.sh/uv/getting-started/installation/", MIN_PYTHON.0, MIN_PYTHON.1
    )]
    NoPython {
        /// The candidates and what was wrong with each.
        tried: String,
    },
    /// A step failed.
    #[error("{what} failed: {problem}{hint}")]
    Step {
        /// The step.
        what: &'static str,
        /// Its last words.
        problem: String,
        /// What to do about it; begins with a separator.
        hint: &'static str,
    },
    /// A folder could not be made or moved.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

/// Finds uv: the configured one, else the first on `path_var`, else the private one.
///
/// A configured path that does not exist is answered with `None`, never with another uv: whoever
/// configured it wants that one. Returns at once.
#[must_use]
pub fn locate(
    configured: Option<&Path>,
    path_var: Option<&OsStr>,
    state_dir: &Path,
) -> Option<PathBuf> {
    if let Some(wanted) = configured {
        if wanted.components().count() > 1 {
            return is_program(wanted).then(|| wanted.to_path_buf());
        }
        return on_path(wanted, path_var);
    }
    on_path(Path::new("uv"), path_var).or_else(|| {
        let private = private_path(state_dir);
        is_program(&private).then_some(private)
    })
}

/// Where [`provision`] puts uv.
#[must_use]
pub fn private_path(state_dir: &Path) -> PathBuf {
    state_dir.join("uv").join("bin").join("uv")
}

/// The version in the output of `uv --version`, such as `uv 0.13.8 (x86_64-…)`.
#[must_use]
pub fn parse_version(output: &str) -> Option<(u32, u32, u32)> {
    let word = output.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split(['.', '-', '+']).map(|n| n.parse::<u32>());
    Some((
        numbers.next()?.ok()?,
        numbers.next()?.ok()?,
        numbers.next().and_then(Result::ok).unwrap_or(0),
    ))
}

/// Makes `{state_dir}/uv`, a virtual environment that holds uv, and answers uv's path; a present
/// one is answered as it is. Takes seconds and the network (or a folder named by `PIP_FIND_LINKS`).
///
/// `env` is the caller's environment; `run` runs one step. It is made beside and then renamed, so
/// two at once, or a kill in the middle, leave no half-made one behind (the uv program does not
/// mind being moved).
pub async fn provision(
    state_dir: &Path,
    env: &BTreeMap<String, String>,
    run: impl AsyncFn(Step) -> Result<Ended, String>,
) -> Result<PathBuf, UvError> {
    let target = state_dir.join("uv");
    let uv = private_path(state_dir);
    if is_program(&uv) {
        return Ok(uv);
    }
    let env = passed(env);
    let python = find_python(&env, &run).await?;
    std::fs::create_dir_all(state_dir).map_err(io("make", state_dir))?;
    let temporary = state_dir.join(format!(".uv-{}", nix::unistd::getpid()));
    let _ = std::fs::remove_dir_all(&temporary);
    let made = fill(&temporary, &python, &env, &run).await;
    if let Err(error) = made {
        let _ = std::fs::remove_dir_all(&temporary);
        return Err(error);
    }
    // What is there is broken (no program in it) or the work of somebody who was faster.
    if !is_program(&uv) {
        let _ = std::fs::remove_dir_all(&target);
        if let Err(error) = std::fs::rename(&temporary, &target).map_err(io("rename", &temporary))
            && !is_program(&uv)
        {
            return Err(error);
        }
    }
    let _ = std::fs::remove_dir_all(&temporary);
    Ok(uv)
}

async fn fill(
    folder: &Path,
    python: &Path,
    env: &BTreeMap<String, String>,
    run: &impl AsyncFn(Step) -> Result<Ended, String>,
) -> Result<(), UvError> {
    let venv = Step {
        what: "making a virtual environment",
        program: python.to_path_buf(),
        args: vec!["-m".into(), "venv".into(), folder.display().to_string()],
        env: env.clone(),
        timeout_ms: VENV_LIMIT_MS,
    };
    checked(venv, run).await?;
    let pip = Step {
        what: "installing uv with pip",
        program: folder.join("bin").join("python"),
        args: [
            "-m",
            "pip",
            "install",
            "--no-input",
            "--no-cache-dir",
            "--disable-pip-version-check",
            "--only-binary=:all:",
            REQUIREMENT,
        ]
        .map(String::from)
        .to_vec(),
        env: env.clone(),
        timeout_ms: PIP_LIMIT_MS,
    };
    checked(pip, run).await?;
    let probe = Step {
        what: "asking the new uv for its version",
        program: folder.join("bin").join("uv"),
        args: vec!["--version".into()],
        env: env.clone(),
        timeout_ms: PROBE_LIMIT_MS,
    };
    checked(probe, run).await.map(|_| ())
}

async fn find_python(
    env: &BTreeMap<String, String>,
    run: &impl AsyncFn(Step) -> Result<Ended, String>,
) -> Result<PathBuf, UvError> {
    let mut tried = Vec::new();
    for candidate in python_candidates(env.get("PATH").map(AsRef::as_ref)) {
        let step = Step {
            what: "asking Python for its version",
            program: candidate.clone(),
            // ensurepip is what Debian splits off: without it `-m venv` fails half-way.
            args: vec![
                "-c".into(),
                "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])".into(),
            ],
            env: env.clone(),
            timeout_ms: PROBE_LIMIT_MS,
        };
        let problem = match run(step).await {
            Ok(ended) if ended.code == Some(0) => match parse_version(&ended.stdout) {
                Some((major, minor, _)) if (major, minor) >= MIN_PYTHON => return Ok(candidate),
                _ => format!("is Python {}", ended.stdout.trim()),
            },
            Ok(ended) => last_line(&ended),
            Err(error) => error,
        };
        tried.push(format!("{}: {problem}", candidate.display()));
    }
    let tried = if tried.is_empty() { "there is none".to_owned() } else { tried.join("; ") };
    Err(UvError::NoPython { tried })
}

fn python_candidates(path_var: Option<&OsStr>) -> Vec<PathBuf> {
    let names = ["python3", "python3.14", "python3.13", "python3.12", "python3.11"];
    let mut found: Vec<PathBuf> =
        names.iter().filter_map(|n| on_path(Path::new(n), path_var)).collect();
    for fixed in ["/usr/bin/python3", "/usr/local/bin/python3"] {
        let fixed = PathBuf::from(fixed);
        if is_program(&fixed) && !found.contains(&fixed) {
            found.push(fixed);
        }
    }
    found
}

async fn checked(
    step: Step,
    run: &impl AsyncFn(Step) -> Result<Ended, String>,
) -> Result<Ended, UvError> {
    let what = step.what;
    let ended = run(step).await.map_err(|problem| UvError::Step { what, problem, hint: "" })?;
    if ended.code == Some(0) {
        return Ok(ended);
    }
    let problem = last_line(&ended);
    let unreachable = [
        "No matching distribution",
        "ConnectionError",
        "NewConnectionError",
        "Temporary failure",
        "Max retries",
        "Connection refused",
        "Network is unreachable",
        "CERTIFICATE_VERIFY",
    ]
    .iter()
    .any(|sign| ended.stderr.contains(sign) || ended.stdout.contains(sign));
    let hint = if unreachable {
        "; the package index could not be used: check the network, HTTPS_PROXY and PIP_CERT, or \
         install uv yourself and put it on PATH"
    } else {
        ""
    };
    Err(UvError::Step { what, problem, hint })
}

/// The caller's environment, narrowed: no secrets and no `VIRTUAL_ENV` or `PYTHONPATH` of a shell.
fn passed(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut narrowed: BTreeMap<String, String> = env
        .iter()
        .filter(|(key, _)| PASSED.contains(&key.as_str()) || key.starts_with("PIP_"))
        .filter(|(key, _)| {
            !matches!(
                key.as_str(),
                "PIP_TARGET" | "PIP_USER" | "PIP_PREFIX" | "PIP_REQUIRE_VIRTUALENV"
            )
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let path = env.get("PATH").filter(|p| !p.is_empty()).cloned();
    narrowed.insert("PATH".into(), path.unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()));
    // An empty HOME makes pip write into the current folder.
    if narrowed.get("HOME").is_some_and(String::is_empty) {
        narrowed.remove("HOME");
    }
    narrowed
}

fn last_line(ended: &Ended) -> String {
    let words = [&ended.stderr, &ended.stdout]
        .into_iter()
        .filter_map(|text| {
            let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines()
                .rfind(|line| line.to_ascii_lowercase().contains("error"))
                .or_else(|| lines().next_back())
        })
        .next()
        .unwrap_or("it said nothing");
    match ended.code {
        Some(code) => format!("{words} (exit code {code})"),
        None => format!("{words} (it was killed or took too long)"),
    }
}

fn on_path(name: &Path, path_var: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path_var?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> UvError {
    let path = path.to_path_buf();
    move |source| UvError::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn program(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn ended(code: i32, stdout: &str, stderr: &str) -> Result<Ended, String> {
        Ok(Ended { code: Some(code), stdout: stdout.into(), stderr: stderr.into() })
    }

    #[test]
    fn versions_are_read_from_what_uv_and_python_print() {
        assert_eq!(parse_version("uv 0.13.8 (x86_64-unknown-linux-gnu)"), Some((0, 13, 8)));
        assert_eq!(parse_version("3.11"), Some((3, 11, 0)));
        assert_eq!(parse_version("uv 1.0.0-rc.1"), Some((1, 0, 0)));
        assert_eq!(parse_version("nothing here"), None);
    }

    #[test]
    fn the_configured_uv_wins_then_path_then_the_private_one() {
        let dir = tempfile::tempdir().unwrap();
        let (state, bin) = (dir.path().join("state"), dir.path().join("bin"));
        let path = bin.clone().into_os_string();
        assert_eq!(locate(None, Some(&path), &state), None);
        program(&private_path(&state));
        assert_eq!(locate(None, Some(&path), &state), Some(private_path(&state)));
        program(&bin.join("uv"));
        assert_eq!(locate(None, Some(&path), &state), Some(bin.join("uv")));
        assert_eq!(locate(Some(Path::new("uv")), Some(&path), &state), Some(bin.join("uv")));
        assert_eq!(locate(Some(Path::new("/nowhere/uv")), Some(&path), &state), None);
    }

    #[tokio::test]
    async fn provisioning_makes_a_venv_installs_and_renames() {
        let dir = tempfile::tempdir().unwrap();
        program(&dir.path().join("bin/python3"));
        let env = BTreeMap::from([
            ("PATH".to_owned(), dir.path().join("bin").display().to_string()),
            ("PYTHONPATH".to_owned(), "/evil".to_owned()),
            ("GH_TOKEN".to_owned(), "secret".to_owned()),
        ]);
        let seen = RefCell::new(Vec::new());
        let run = async |step: Step| {
            assert!(!step.env.contains_key("GH_TOKEN") && !step.env.contains_key("PYTHONPATH"));
            seen.borrow_mut().push(step.what);
            if step.args[0] == "-c" {
                return ended(0, "3.12\n", "");
            }
            if step.args.get(1).is_some_and(|a| a == "venv") {
                program(&Path::new(&step.args[2]).join("bin/uv"));
            }
            ended(0, "", "")
        };
        let state = dir.path().join("state");
        let uv = provision(&state, &env, run).await.unwrap();
        assert!(is_program(&uv));
        assert_eq!(seen.borrow().len(), 4);
        let again = provision(&state, &env, async |_| Err("must not run".into())).await.unwrap();
        assert_eq!(again, uv);
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn without_network_the_message_says_so_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        program(&dir.path().join("bin/python3"));
        let env =
            BTreeMap::from([("PATH".to_owned(), dir.path().join("bin").display().to_string())]);
        let run = async |step: Step| match step.args.get(1).map(String::as_str) {
            Some("pip") => ended(1, "", "ERROR: No matching distribution found for uv\n"),
            Some("venv") => {
                std::fs::create_dir_all(&step.args[2]).unwrap();
                ended(0, "", "")
            }
            _ => ended(0, "3.11\n", ""),
        };
        let state = dir.path().join("state");
        let error = provision(&state, &env, run).await.unwrap_err().to_string();
        assert!(error.contains("No matching distribution") && error.contains("network"), "{error}");
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn an_old_or_broken_python_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let env = BTreeMap::from([("PATH".to_owned(), dir.path().display().to_string())]);
        let run = async |_| ended(0, "3.8\n", "");
        let error = provision(dir.path(), &env, run).await.unwrap_err().to_string();
        assert!(error.contains("Python 3.11 or newer"), "{error}");
    }
}
