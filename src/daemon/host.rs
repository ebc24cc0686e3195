//! The name under which runs belong to this daemon.
//!
//! A run's processes, folders and locks are where its state folder is, so the name stays with that
//! folder: a laptop whose name changes with the network, or a container that gets a new one at
//! each start, finds its runs again. And two daemons on one database, each with a state folder of
//! its own, never take each other's runs for theirs, whatever their machines are called.

use std::io::{self, Write as _};
use std::path::Path;

use crate::ids::{Rng, RunId};

/// Name of the file in the state folder.
const FILE: &str = "host";
/// The embedded database, where it usually lies.
const DATABASE: &str = "adwd.db";
const NAME_MAX_CHARS: usize = 128;

/// The name of the daemon whose state folder this is; none where none ever ran there.
#[must_use]
pub fn recorded(state_dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(state_dir.join(FILE)).ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The name; made at the first start from the machine's, with a part that no other has.
///
/// # Errors
/// The file system's, or a file that holds no name.
pub(super) fn name(state_dir: &Path, rng: &dyn Rng) -> io::Result<String> {
    let machine = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    of(state_dir, &machine.unwrap_or_default(), rng)
}

fn of(state_dir: &Path, machine: &str, rng: &dyn Rng) -> io::Result<String> {
    let path = state_dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let machine: String = machine
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
                .take(64)
                .collect();
            let machine = if machine.is_empty() { "localhost".to_owned() } else { machine };
            // Runs of a daemon that kept no such file belong to the machine's name.
            let text = if state_dir.join(DATABASE).exists() {
                format!("{machine}\n")
            } else {
                format!("{machine}-{}\n", RunId::generate(rng))
            };
            // Whole or not at all: half a name would be a daemon without its runs.
            let temp = state_dir.join(format!(".{FILE}.tmp"));
            let mut file = std::fs::File::create(&temp)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temp, &path)?;
            std::fs::File::open(state_dir)?.sync_all()?;
            text
        }
        Err(e) => return Err(e),
    };
    let name = text.trim();
    let good = !name.is_empty()
        && name.chars().count() <= NAME_MAX_CHARS
        && !name.chars().any(|c| c.is_control() || c.is_whitespace());
    if good {
        return Ok(name.to_owned());
    }
    let problem = format!(
        "{} holds no name; restore it, or remove it and lose sight of the runs of before",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::OsRng;

    #[test]
    fn a_machine_that_is_renamed_keeps_its_runs_and_two_folders_are_two_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let first = of(dir.path(), "box", &OsRng).unwrap();
        assert!(first.starts_with("box-"), "{first}");
        assert_eq!(of(dir.path(), "renamed", &OsRng).unwrap(), first);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(of(other.path(), "box", &OsRng).unwrap(), first);
        let odd = tempfile::tempdir().unwrap();
        assert!(of(odd.path(), "\u{7} /", &OsRng).unwrap().starts_with("localhost-"));
    }

    #[test]
    fn a_folder_from_before_there_were_such_names_keeps_the_machines() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(DATABASE), "").unwrap();
        assert_eq!(of(dir.path(), "box", &OsRng).unwrap(), "box");
        assert_eq!(of(dir.path(), "renamed", &OsRng).unwrap(), "box");
    }

    #[test]
    fn a_damaged_name_is_an_error_and_not_another_host() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "\n", "a b", "a\u{0}b"] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let error = of(dir.path(), "box", &OsRng).unwrap_err().to_string();
            assert!(error.contains("holds no name"), "{error}");
        }
    }
}
