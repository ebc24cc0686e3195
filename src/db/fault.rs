//! A cut connection on demand, for tests of what a crash leaves. Not in release builds.
//!
//! [`after`] runs a future in which the transactions' statements are counted: the given number of
//! them are carried out, then the connection counts as cut, as if the process had been killed
//! there. Beginning and committing count as statements; a commit that is cut was not carried out.

use std::cell::Cell;

use super::DbError;

tokio::task_local! {
    /// Statements until the cut; below zero after it.
    static LEFT: Cell<i64>;
}

/// Runs `work` and cuts its transactions' connections after `statements` statements. Answers what
/// came of it and whether the cut was reached.
pub async fn after<F: Future>(statements: u32, work: F) -> (F::Output, bool) {
    LEFT.scope(Cell::new(i64::from(statements)), async move {
        let output = work.await;
        (output, LEFT.with(|left| left.get() < 0))
    })
    .await
}

/// Counts a statement; the error where the connection is cut.
pub(super) fn count(operation: impl FnOnce() -> String) -> Result<(), DbError> {
    let cut = LEFT.try_with(|left| {
        left.set(left.get() - 1);
        left.get() < 0
    });
    if !cut.unwrap_or(false) {
        return Ok(());
    }
    Err(DbError::Unavailable {
        operation: operation(),
        hint: "a test cut the connection",
        source: sqlx::Error::WorkerCrashed,
    })
}
