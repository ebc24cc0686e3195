//! What keeps the daemon from listening to the outside, or from telling it.

use std::path::PathBuf;

use crate::db::DbError;

/// Why this part of the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// A secret cannot be used.
    #[error("{setting}: {}: {problem}", path.display())]
    SecretFile {
        /// The setting that names the file.
        setting: String,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A secret is not of its form.
    #[error("{setting}: {problem}")]
    Secret {
        /// The setting that holds it.
        setting: String,
        /// What would be right.
        problem: String,
    },
    /// There can be no client.
    #[error("hooks: there can be no HTTP client")]
    Client(#[source] reqwest::Error),
    /// The database's.
    #[error(transparent)]
    Db(#[from] DbError),
}
