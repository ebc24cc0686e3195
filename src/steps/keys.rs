//! The keys that sign tokens: where they live, and how one is replaced.
//!
//! With SQLite they are in a file of mode 0600 in the state folder, beside the database and for the
//! same user's eyes. With PostgreSQL they are in a table: several hosts serve one database there,
//! and a step handed out by one is submitted to another. Whoever may read that table with the
//! daemon's own login may write the steps' rows as well, so nothing is given away that was not.
//!
//! A key is replaced at an age; the one before is kept for as long as a token of its may live. A key
//! file is written beside, synced, and put in place whole (a link for the first, which fails where
//! another process was first; a rename afterwards), so a crash leaves the old file or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::error::StepsError;
use super::output::sha256;
use super::sql;
use super::token::KEY_BYTES;
use crate::clock::Millis;
use crate::db::{Db, Engine};
use crate::ids::Rng;
use crate::limits::{STEPS_KEY_FILE_BYTES, STEPS_KEY_GRACE_MS, STEPS_KEY_RELOAD_MS};

/// Name of the key file in the state folder.
pub const KEY_FILE: &str = "steps.key";

/// Digits of a key's id.
const KID_CHARS: usize = 8;

/// One key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Grows by one with each replacement.
    pub generation: i64,
    /// Its id, made of it: it says nothing about it.
    pub kid: String,
    /// 32 bytes in base64.
    pub secret: String,
    /// When it was made.
    pub created_at: Millis,
}

/// Keys that are good for something: the last one signs, all of them verify.
#[derive(Clone, Debug)]
struct Ring(Vec<(Key, [u8; KEY_BYTES])>);

/// Secrets are not shown.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({} {})", self.generation, self.kid)
    }
}

impl Key {
    /// The key of these bytes.
    #[must_use]
    pub fn new(generation: i64, secret: [u8; KEY_BYTES], created_at: Millis) -> Key {
        let mut kid = sha256(&[b"adwd key id\0".as_slice(), &secret].concat());
        kid.truncate(KID_CHARS);
        Key { generation, kid, secret: STANDARD.encode(secret), created_at }
    }

    fn bytes(&self) -> Option<[u8; KEY_BYTES]> {
        STANDARD.decode(&self.secret).ok()?.try_into().ok()
    }
}

/// How old keys may become, in ms.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// Of a token.
    pub token_ms: i64,
    /// At which a key is replaced; 0: never.
    pub rotate_ms: i64,
}

/// The keys in use.
#[derive(Debug)]
pub struct Keys {
    store: Store,
    lifetimes: Lifetimes,
    ring: RwLock<Arc<Ring>>,
    looked: Mutex<Option<Instant>>,
}

#[derive(Debug)]
enum Store {
    File(PathBuf),
    Table(Db),
}

impl Keys {
    /// Reads the keys, or makes the first one.
    ///
    /// # Errors
    /// [`StepsError::Io`] where the file cannot be read or written, is not whole, or is readable by
    /// others; the database's.
    pub async fn open(
        db: &Db,
        state_dir: &Path,
        lifetimes: Lifetimes,
        rng: &dyn Rng,
        now: Millis,
    ) -> Result<Keys, StepsError> {
        let store = match db.engine() {
            Engine::Sqlite => Store::File(state_dir.join(KEY_FILE)),
            Engine::Postgres => Store::Table(db.clone()),
        };
        let mut keys = store.read().await?;
        if keys.is_empty() {
            store.add(&keys, &fresh(1, rng, now)).await?;
            keys = store.read().await?;
        }
        let ring = RwLock::new(Arc::new(Ring::new(keys)));
        Ok(Keys { store, lifetimes, ring, looked: Mutex::new(None) })
    }

    /// The key that signs: its id and its bytes.
    #[must_use]
    pub fn signing(&self) -> Option<(String, [u8; KEY_BYTES])> {
        self.ring().0.last().map(|(key, bytes)| (key.kid.clone(), *bytes))
    }

    /// The key of that id, if it is still good for something.
    #[must_use]
    pub fn find(&self, kid: &str) -> Option<[u8; KEY_BYTES]> {
        self.ring().0.iter().find(|(key, _)| key.kid == kid).map(|(_, bytes)| *bytes)
    }

    /// The same, looking once more where another daemon may have made one since; at most once a
    /// second, so that made-up ids cost nothing.
    ///
    /// # Errors
    /// As [`Keys::open`].
    pub async fn find_again(&self, kid: &str) -> Result<Option<[u8; KEY_BYTES]>, StepsError> {
        if let Some(bytes) = self.find(kid) {
            return Ok(Some(bytes));
        }
        if self.may_look() {
            self.reload().await?;
        }
        Ok(self.find(kid))
    }

    fn may_look(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = Duration::from_millis(STEPS_KEY_RELOAD_MS);
        let due = looked.is_none_or(|at| at.elapsed() >= pause);
        if due {
            *looked = Some(Instant::now());
        }
        due
    }

    /// Replaces the key where it is old enough, forgets those that no live token needs, and takes
    /// in what other hosts made. Answers whether a key was made.
    ///
    /// # Errors
    /// As [`Keys::open`]; the keys stay as they were.
    pub async fn rotate(&self, rng: &dyn Rng, now: Millis) -> Result<bool, StepsError> {
        let keys = self.store.read().await?;
        let newest = keys.last();
        let is_old = |key: &Key| now.since_ms(key.created_at) >= self.lifetimes.rotate_ms;
        let due = match newest {
            None => true,
            Some(key) => self.lifetimes.rotate_ms > 0 && is_old(key),
        };
        // A key is needed until the last token signed with it, at its successor's making, is old.
        let keep_ms = self.lifetimes.token_ms.saturating_add(STEPS_KEY_GRACE_MS);
        let needed = |pair: &[Key]| now.since_ms(pair[1].created_at) <= keep_ms;
        let gone = keys.windows(2).take_while(|pair| !needed(pair)).count();
        if gone > 0 {
            self.store.forget(&keys[gone..]).await?;
        }
        if due {
            let next = newest.map_or(1, |key| key.generation + 1);
            self.store.add(&keys[gone..], &fresh(next, rng, now)).await?;
        }
        self.reload().await?;
        Ok(due)
    }

    async fn reload(&self) -> Result<(), StepsError> {
        let keys = self.store.read().await?;
        if !keys.is_empty() {
            *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Ring::new(keys));
        }
        Ok(())
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ring {
    fn new(keys: Vec<Key>) -> Ring {
        let pair = |key: Key| {
            let bytes = key.bytes()?;
            Some((key, bytes))
        };
        Ring(keys.into_iter().filter_map(pair).collect())
    }
}

fn fresh(generation: i64, rng: &dyn Rng, now: Millis) -> Key {
    let mut secret = [0; KEY_BYTES];
    rng.fill(&mut secret);
    Key::new(generation, secret, now)
}

impl Store {
    /// All keys, oldest first; none where there is none yet.
    async fn read(&self) -> Result<Vec<Key>, StepsError> {
        match self {
            Store::Table(db) => Ok(sql::keys(db).await?),
            Store::File(path) => read_file(path).map_err(io_error("read", path)),
        }
    }

    /// Adds a key to those that are there, unless another process has just done so.
    async fn add(&self, keys: &[Key], key: &Key) -> Result<(), StepsError> {
        match self {
            Store::Table(db) => Ok(sql::insert_key(db, key).await?),
            Store::File(path) => {
                let all: Vec<Key> = keys.iter().chain([key]).cloned().collect();
                write_file(path, &all, keys.is_empty()).map_err(io_error("write", path))
            }
        }
    }

    /// Keeps only these.
    async fn forget(&self, keep: &[Key]) -> Result<(), StepsError> {
        match self {
            Store::Table(db) => {
                let first = keep.first().map_or(0, |key| key.generation);
                Ok(sql::delete_keys(db, first).await?)
            }
            Store::File(path) => write_file(path, keep, false).map_err(io_error("write", path)),
        }
    }
}

fn io_error(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> StepsError {
    let path = path.display().to_string();
    move |source| StepsError::Io { operation, path: path.clone(), source }
}

fn read_file(path: &Path) -> io::Result<Vec<Key>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        let problem = format!(
            "others may read it (mode {:04o}); chmod 600 it, or remove it, which makes all \
             outstanding tokens invalid",
            mode & 0o7777
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
    }
    let mut text = String::new();
    file.take(STEPS_KEY_FILE_BYTES).read_to_string(&mut text)?;
    let broken = || {
        let problem = "it is not a key file of adwd; restore it, or remove it, which makes all \
                       outstanding tokens invalid";
        io::Error::new(io::ErrorKind::InvalidData, problem)
    };
    let keys: Vec<Key> = serde_json::from_str(&text).map_err(|_| broken())?;
    if keys.is_empty() || keys.iter().any(|key| key.bytes().is_none()) {
        return Err(broken());
    }
    Ok(keys)
}

/// Writes the file whole; the `first` one only where there is none.
fn write_file(path: &Path, keys: &[Key], first: bool) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // The process id keeps two processes apart; what a crash left of the same id is replaced.
    let beside = folder.join(format!("{KEY_FILE}.{}", std::process::id()));
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(serde_json::to_string(keys).map_err(io::Error::other)?.as_bytes())?;
    file.sync_all()?;
    if first {
        let linked = fs::hard_link(&beside, path);
        fs::remove_file(&beside)?;
        match linked {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    } else {
        fs::rename(&beside, path)?;
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
