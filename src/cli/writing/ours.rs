//! Our own database, opened without a daemon: for what is not a tool.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::changes::Changes;
use crate::cli::fail::{Fail, chain, exit};
use crate::cli::link::Cx;
use crate::clock::SystemClock;
use crate::daemon;
use crate::db::{Db, DbError};
use crate::ids::OsRng;
use crate::lock::{InstanceError, InstanceLock};
use crate::writing::{Writing, WritingDeps, WritingError};

/// The slice on an open database.
pub struct Ours {
    /// The slice.
    pub writing: Writing,
    db: Db,
    /// What is given back at the end: the claim on the state folder, or the rehearsal's folder.
    _held: Held,
}

enum Held {
    Nothing,
    Claim { _lock: InstanceLock },
    Rehearsal { _folder: TempDir },
}

impl Ours {
    /// To be written: nobody else writes meanwhile.
    pub async fn claimed(cx: &Cx) -> Result<Ours, Fail> {
        let lock = claim(&cx.config().paths.state_dir)?;
        let db = Db::open(&cx.config().paths.database_url).await.map_err(ours)?;
        db.migrate(&SystemClock).await.map_err(ours)?;
        Ok(Ours::on(cx, db, Held::Claim { _lock: lock }))
    }

    /// To be read, beside a daemon or without one.
    pub async fn beside(cx: &Cx) -> Result<Ours, Fail> {
        let state_dir = &cx.config().paths.state_dir;
        daemon::private_folder(state_dir).map_err(|error| folder(state_dir, &error))?;
        let db = Db::open(&cx.config().paths.database_url).await.map_err(ours)?;
        // A daemon has brought the schema up to date; without one that is ours to do.
        if InstanceLock::holder(state_dir).is_none() {
            let _lock = claim(state_dir)?;
            db.migrate(&SystemClock).await.map_err(ours)?;
        }
        Ok(Ours::on(cx, db, Held::Nothing))
    }

    /// A throw-away database.
    pub async fn rehearsal(cx: &Cx) -> Result<Ours, Fail> {
        let made = tempfile::Builder::new().prefix("adwd-rehearsal-").tempdir();
        let dir = made.map_err(|error| folder(&std::env::temp_dir(), &error))?;
        let url = format!("sqlite:{}", dir.path().join("db").display());
        let db = Db::open(&url).await.map_err(ours)?;
        db.migrate(&SystemClock).await.map_err(ours)?;
        Ok(Ours::on(cx, db, Held::Rehearsal { _folder: dir }))
    }

    fn on(cx: &Cx, db: Db, held: Held) -> Ours {
        let writing = Writing::open(WritingDeps {
            db: db.clone(),
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            changes: Changes::new(),
            config: cx.config().writing.clone(),
        });
        Ours { writing, db, _held: held }
    }

    /// Closes the database, and gives back what was held.
    pub async fn close(self) {
        self.db.close().await;
    }
}

fn claim(state_dir: &Path) -> Result<InstanceLock, Fail> {
    daemon::private_folder(state_dir).map_err(|error| folder(state_dir, &error))?;
    InstanceLock::acquire(state_dir, std::process::id()).map_err(|error| match error {
        InstanceError::Held { pid, .. } => {
            let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            Fail::new(
                exit::NO_DAEMON,
                "already_running",
                format!("a daemon{pid} runs on {} and writes there", state_dir.display()),
            )
            .hint("`adwd stop` ends it (runs live on); --dry-run needs no stop")
        }
        InstanceError::Io(error) => Fail::new(exit::FAILED, "io", chain(&error)),
    })
}

fn folder(path: &Path, error: &std::io::Error) -> Fail {
    Fail::new(exit::FAILED, "io", format!("cannot use {}: {error}", path.display()))
}

fn ours(error: DbError) -> Fail {
    Fail::new(exit::FAILED, "database", chain(&error)).hint("`adwd doctor` checks the database")
}

impl From<WritingError> for Fail {
    fn from(error: WritingError) -> Fail {
        let ends_with = match error.code() {
            "invalid_argument" => exit::USAGE,
            "unknown_workflow" | "unknown_book" | "unknown_approval" => exit::NOT_FOUND,
            "io" | "database" | "stored_data" | "stopping" => exit::FAILED,
            _ => exit::REFUSED,
        };
        let fail = Fail::new(ends_with, error.code(), chain(&error));
        match ends_with {
            exit::NOT_FOUND => fail.hint("`adwd writing list` shows those in work"),
            exit::FAILED => fail.hint("`adwd doctor` checks this machine"),
            _ => fail,
        }
    }
}
