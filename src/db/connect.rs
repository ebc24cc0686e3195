//! Opening a database: URL, connections, file modes.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::pool::PoolOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, Sqlite, SqlitePool};

use super::Db;
use super::error::{DbError, from_sqlx};
use super::file::File;
use crate::limits::{
    DB_ACQUIRE_TIMEOUT_MS, DB_BUSY_TIMEOUT_MS, DB_IDLE_TIMEOUT_MS, DB_IDLE_TRANSACTION_MS,
    DB_OPEN_TIMEOUT_MS, DB_POSTGRES_CONNECTIONS_COUNT, DB_SQLITE_READERS_COUNT,
    DB_STATEMENT_CACHE_COUNT, DB_STATEMENT_MS, LOCK_POLL_MS,
};
use crate::metrics::Statements;

pub(super) async fn open(url: &str) -> Result<Db, DbError> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return open_sqlite(url, path).await;
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return open_postgres(url).await;
    }
    let problem = match url.split_once(':') {
        Some((scheme, _)) => format!("the scheme {scheme:?} is not supported"),
        None => "it has no scheme".to_owned(),
    };
    Err(DbError::Url { url: redact_url(url), problem })
}

/// The URL with its password, in the authority or as a `password=` parameter, replaced by `***`.
pub fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // Up to the last '@', because people forget to escape what a password holds: masking a little
    // too much is better than showing the end of one.
    let (login, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => match login.split_once(':') {
            Some((user, _)) => (format!("{user}:***@"), rest),
            None => (format!("{login}@"), rest),
        },
        None => (String::new(), rest),
    };
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    let mut out = format!("{scheme}://{login}{place}");
    for (index, parameter) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((key, _)) if key.to_ascii_lowercase().contains("password") => {
                out.push_str(key);
                out.push_str("=***");
            }
            _ => out.push_str(parameter),
        }
    }
    out
}

async fn open_sqlite(url: &str, path: &str) -> Result<Db, DbError> {
    if path.is_empty() || path.contains(":memory:") {
        let problem = "an in-memory database cannot keep what the daemon must never lose";
        return Err(DbError::Url { url: url.to_owned(), problem: problem.to_owned() });
    }
    let file = Path::new(path);
    make_private(file).map_err(|source| DbError::Open {
        url: url.to_owned(),
        hint: "its file cannot be made; check the folder's owner, mode and free space".to_owned(),
        source: source.into(),
    })?;
    let base = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(Duration::from_millis(DB_BUSY_TIMEOUT_MS))
        .statement_cache_capacity(DB_STATEMENT_CACHE_COUNT)
        .disable_statement_logging();
    // FULL, because an answer given to a caller must survive a power cut (invariant 1).
    let writer = base
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", "1000");
    let reader = base.read_only(true);
    let relaxed = Arc::new(AtomicBool::new(false));
    let write = connect_writer(url, writer, &relaxed).await?;
    let read = sqlite_pool(DB_SQLITE_READERS_COUNT).connect_lazy_with(reader);
    let opened = File::opened(file).map_err(|source| DbError::Open {
        url: url.to_owned(),
        hint: "its file cannot be looked at".to_owned(),
        source: source.into(),
    })?;
    Ok(Db::Sqlite { read, write, relaxed, file: Arc::new(opened), meter: Statements::default() })
}

/// Connects, again and again for a while when another process is just switching the new file to
/// WAL: SQLite does not wait for that by itself.
async fn connect_writer(
    url: &str,
    options: SqliteConnectOptions,
    relaxed: &Arc<AtomicBool>,
) -> Result<SqlitePool, DbError> {
    let deadline = Instant::now() + Duration::from_millis(DB_OPEN_TIMEOUT_MS);
    loop {
        let pool = strict_when_given_back(sqlite_pool(1), relaxed.clone());
        let error = match pool.connect_with(options.clone()).await {
            Ok(pool) => return Ok(pool),
            Err(error) => from_sqlx("open the database file".to_owned(), error),
        };
        if !matches!(error, DbError::Busy { .. }) || Instant::now() >= deadline {
            let hint = format!("{error}; is it an SQLite file that this user may read and write?");
            return Err(DbError::Open { url: url.to_owned(), hint, source: error.into() });
        }
        tokio::time::sleep(Duration::from_millis(LOCK_POLL_MS)).await;
    }
}

/// The write connection waits for the disk again after a transaction that did not
/// ([`Db::begin_relaxed`]), also after one that was dropped: its rollback is done by then.
fn strict_when_given_back(
    pool: PoolOptions<Sqlite>,
    relaxed: Arc<AtomicBool>,
) -> PoolOptions<Sqlite> {
    pool.after_release(move |connection, _| {
        let was_relaxed = relaxed.swap(false, Ordering::SeqCst);
        Box::pin(async move {
            if connection.is_in_transaction() {
                // A rollback is on its way, or there was nothing left to roll back: on a full or
                // failing disk SQLite does that by itself, and the driver then counts an open
                // transaction for ever and begins no other. Such a connection is of no more use.
                connection.ping().await?;
                if connection.is_in_transaction() {
                    return Ok(false);
                }
            }
            if was_relaxed {
                // An error closes the connection; a new one is strict from the start.
                sqlx::raw_sql("PRAGMA synchronous = FULL").execute(connection).await?;
            }
            Ok(true)
        })
    })
}

fn sqlite_pool(connections: u32) -> PoolOptions<Sqlite> {
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_millis(DB_ACQUIRE_TIMEOUT_MS))
        // A connection to a file does not go stale; closing one only throws away its cache.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Makes the file (0600) and its folder (0700) unless they are there: the database holds prompts,
/// answers and key hashes. SQLite gives the WAL files the mode of the main one.
fn make_private(file: &Path) -> io::Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(file)?;
    Ok(())
}

/// Bounds for what the server does on our behalf, where nobody has set any. Said in SQL, because a
/// pooler in between refuses such settings at the start of a connection.
fn limits_of_session() -> sqlx::AssertSqlSafe<String> {
    let bounds = [
        ("statement_timeout", DB_STATEMENT_MS),
        ("idle_in_transaction_session_timeout", DB_IDLE_TRANSACTION_MS),
    ];
    let set = |(name, ms)| {
        format!("SELECT set_config('{name}', '{ms}', false) WHERE current_setting('{name}') = '0';")
    };
    sqlx::AssertSqlSafe(bounds.map(set).concat())
}

async fn open_postgres(url: &str) -> Result<Db, DbError> {
    let shown = redact_url(url);
    let options = PgConnectOptions::from_str(url).map_err(|error| DbError::Url {
        url: shown.clone(),
        // The parser's words may repeat parts of the URL, so they are kept out of the message.
        problem: match error {
            sqlx::Error::Configuration(_) => "it is not a valid URL".to_owned(),
            _ => "it cannot be read".to_owned(),
        },
    })?;
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("adwd"),
    };
    let options =
        options.statement_cache_capacity(DB_STATEMENT_CACHE_COUNT).disable_statement_logging();
    let pool = PoolOptions::new()
        .max_connections(DB_POSTGRES_CONNECTIONS_COUNT)
        .acquire_timeout(Duration::from_millis(DB_ACQUIRE_TIMEOUT_MS))
        .idle_timeout(Duration::from_millis(DB_IDLE_TIMEOUT_MS))
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(limits_of_session()).execute(connection).await.map(drop)
            })
        })
        .connect_lazy_with(options.clone());
    // One connection by hand, because the pool goes on trying and then only says "timed out".
    let timeout = Duration::from_millis(DB_OPEN_TIMEOUT_MS);
    let (hint, source) = match tokio::time::timeout(timeout, options.connect()).await {
        Ok(Ok(connection)) => {
            let _ = sqlx::Connection::close(connection).await;
            return Ok(Db::Postgres { pool, meter: Statements::default() });
        }
        Ok(Err(error)) => {
            let error = from_sqlx("connect to the server".to_owned(), error);
            (error.to_string(), error.into())
        }
        Err(elapsed) => {
            let hint = format!("the server did not answer within {DB_OPEN_TIMEOUT_MS} ms");
            (hint, elapsed.into())
        }
    };
    Err(DbError::Open { url: shown, hint, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn passwords_are_replaced_wherever_they_stand() {
        for (url, expected) in [
            ("postgres://u:secret@h:5432/db", "postgres://u:***@h:5432/db"),
            ("postgres://u:p@ss@h/db", "postgres://u:***@h/db"),
            ("postgres://u:p/ss@h/db", "postgres://u:***@h/db"),
            ("postgres://u@h/db", "postgres://u@h/db"),
            ("postgres:///db?host=/tmp/x&user=u", "postgres:///db?host=/tmp/x&user=u"),
            ("postgres://h/db?password=secret&a=b", "postgres://h/db?password=***&a=b"),
            ("sqlite:/a/b.db", "sqlite:/a/b.db"),
        ] {
            assert_eq!(redact_url(url), expected);
        }
    }

    #[tokio::test]
    async fn other_schemes_are_refused_with_the_ones_that_work() {
        for url in ["mysql://u:secret@h/db", "adwd.db", "", "sqlite::memory:", "sqlite:"] {
            let error = open(url).await.unwrap_err().to_string();
            assert!(error.contains("use sqlite:PATH"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_password_survives(password in "[a-zA-Z0-9:/?#@!%]{4,20}") {
            let password = format!("zq{password}qz");
            let shown = redact_url(&format!("postgres://user:{password}@host/db"));
            prop_assert!(!shown.contains("qz@") , "{}", shown);
        }
    }
}
