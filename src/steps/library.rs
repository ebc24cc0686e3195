//! Stand-in until the content branch is merged.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::error::StepsError;
use super::template::Snapshot;
use crate::changes::Changes;
use crate::clock::Clock;
use crate::db::Db;

/// What it is made of.
pub struct LibraryDeps {
    /// The database.
    pub db: Db,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Who is told.
    pub changes: Changes,
    /// The content folders.
    pub folders: Vec<PathBuf>,
    /// The end.
    pub shutdown: CancellationToken,
}

/// The content.
#[derive(Clone, Debug)]
pub struct Library;

impl Library {
    /// Opens it.
    ///
    /// # Errors
    /// None.
    #[allow(clippy::unused_async)]
    pub async fn open(_deps: LibraryDeps) -> Result<Library, StepsError> {
        Ok(Library)
    }

    /// What a workflow runs by.
    ///
    /// # Errors
    /// [`StepsError::UnknownWorkflow`].
    #[allow(clippy::unused_async)]
    pub async fn snapshot(&self, workflow: &str) -> Result<Snapshot, StepsError> {
        Err(StepsError::UnknownWorkflow { name: workflow.to_owned(), known: String::new() })
    }
}
