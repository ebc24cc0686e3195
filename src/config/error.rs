//! What can be wrong with the configuration, said so that it can be put right.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// The configuration file, and the line when known.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Env(String),
    /// A command-line flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Source::File(path, None) => write!(f, "{}", path.display()),
            Source::Env(name) => write!(f, "environment variable {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not TOML, or an entry has the wrong shape.
    #[error("{source_at}: {problem}")]
    Syntax {
        /// File and line.
        source_at: Source,
        /// What is wrong.
        problem: String,
    },
    /// A key that does not exist.
    #[error("{source_at}: there is no setting {key:?}; did you mean {nearest:?}?")]
    UnknownKey {
        /// The key as given.
        key: String,
        /// File and line.
        source_at: Source,
        /// The existing key that is most like it.
        nearest: String,
    },
    /// An `ADWD_*` variable that does not exist.
    #[error("there is no environment variable {name} for adwd; did you mean {nearest}?")]
    UnknownEnv {
        /// The variable as given.
        name: String,
        /// The existing one that is most like it.
        nearest: String,
    },
    /// A value of the wrong type or out of its range.
    #[error("{source_at}: {key} = {given} is not valid: {problem}")]
    Invalid {
        /// The key.
        key: String,
        /// Where the value stands.
        source_at: Source,
        /// The value, masked if it may be secret.
        given: String,
        /// What is right.
        problem: String,
    },
    /// Two projects of one name.
    #[error("{source_at}: the project {name} is there twice; names must differ")]
    DuplicateProject {
        /// The name.
        name: String,
        /// The second one's place.
        source_at: Source,
    },
}

/// The candidate that is most like `given` (edit distance, then order).
pub(super) fn nearest<'c>(given: &str, candidates: impl Iterator<Item = &'c str>) -> String {
    let given = given.to_lowercase();
    let best = candidates.min_by_key(|candidate| {
        let candidate = candidate.to_lowercase();
        // A right word at a wrong place (`max_running` for `limits.max_running`) beats typos.
        let last = candidate.rsplit('.').next().unwrap_or_default();
        let misplaced = given.rsplit('.').next() == Some(last);
        (!misplaced, distance(&given, &candidate))
    });
    best.unwrap_or_default().to_owned()
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_a_person_meant() {
        let keys = ["http.bind", "limits.max_running", "logs.level", "socket"];
        let nearest = |given| nearest(given, keys.into_iter());
        assert_eq!(nearest("http.bnd"), "http.bind");
        assert_eq!(nearest("max_running"), "limits.max_running");
        assert_eq!(nearest("log.level"), "logs.level");
        assert_eq!(nearest("sockets"), "socket");
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
