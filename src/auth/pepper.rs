//! Where the pepper lives.
//!
//! With SQLite it is in a file of mode 0600 in the state folder, so that whoever gets hold of the
//! database alone (a backup, a copy) can neither check nor make keys. With PostgreSQL it is in a
//! table, as the keys that sign tokens are (`steps::keys`): several daemons serve one database there,
//! a key made through one is shown to another, and a file to be copied between hosts would part
//! them. A dump of such a database still gives no key away: a secret has 256 random bits.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::error::AccessError;
use super::keys::{Pepper, SECRET_BYTES, pepper_text, unhex};
use super::store;
use crate::clock::Millis;
use crate::db::{Db, Engine};
use crate::ids::Rng;
use crate::limits::ACCESS_PEPPER_BYTES;

/// Name of the file in the state folder.
pub const PEPPER_FILE: &str = "access.key";

/// Reads the pepper, or makes it.
///
/// # Errors
/// [`AccessError::Io`] where the file cannot be read or written, is not whole, or is readable by
/// others; the database's.
pub(super) async fn open(
    db: &Db,
    state_dir: &Path,
    rng: &dyn Rng,
    now: Millis,
) -> Result<Pepper, AccessError> {
    let fresh = || {
        let mut bytes = [0; SECRET_BYTES];
        rng.fill(&mut bytes);
        Pepper(bytes)
    };
    if db.engine() == Engine::Postgres {
        let mut stored = store::pepper(db).await?;
        if stored.is_none() {
            store::insert_pepper(db, &pepper_text(&fresh()), now).await?;
            stored = store::pepper(db).await?;
        }
        return stored.as_deref().and_then(unhex).map(Pepper).ok_or(AccessError::Pepper);
    }
    let path = state_dir.join(PEPPER_FILE);
    let io_error =
        |operation, source| AccessError::Io { operation, path: path.display().to_string(), source };
    if let Some(pepper) = read(&path).map_err(|error| io_error("read", error))? {
        return Ok(pepper);
    }
    write(&path, &fresh()).map_err(|error| io_error("write", error))?;
    if store::count_good(db, now).await? > 0 {
        let file = path.display();
        tracing::warn!(%file, "the file that keys are hashed with was gone: no key made before is good any more");
    }
    // Another process may have been first; its file is the one that counts.
    read(&path)
        .and_then(|pepper| pepper.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(|error| io_error("read", error))
}

fn read(path: &Path) -> io::Result<Option<Pepper>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        let problem = format!(
            "others may read it (mode {:04o}); chmod 600 it, or remove it, which makes all keys \
             made so far invalid",
            mode & 0o7777
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    let mut text = String::new();
    file.take(ACCESS_PEPPER_BYTES).read_to_string(&mut text)?;
    let pepper = unhex(text.trim()).map(Pepper).ok_or_else(|| {
        let problem = "it is not what adwd wrote; restore it, or remove it, which makes all keys \
                       made so far invalid";
        io::Error::new(io::ErrorKind::InvalidData, problem)
    })?;
    Ok(Some(pepper))
}

/// Puts the file in place whole, unless there is one; a temporary file has mode 0600.
fn write(path: &Path, pepper: &Pepper) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(PEPPER_FILE).tempfile_in(folder)?;
    writeln!(file, "{}", pepper_text(pepper))?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.error),
        Ok(_) => {}
    }
    File::open(folder)?.sync_all()
}
