//! Errors of the database in the program's own words.

use sqlx::error::ErrorKind;
use thiserror::Error;

/// Something the database could not do. The message names the operation and the object and says
/// what to do; the driver's own words are the source.
#[derive(Debug, Error)]
pub enum DbError {
    /// The URL is for no engine this program knows.
    #[error(
        "cannot open the database {url}: {problem}; use sqlite:PATH for an embedded database or \
         postgres://USER@HOST/NAME for a PostgreSQL server"
    )]
    Url {
        /// The URL without its password.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The database could not be opened.
    #[error("cannot open the database {url}: {hint}")]
    Open {
        /// The URL without its password.
        url: String,
        /// What to check.
        hint: String,
        /// The reason.
        #[source]
        source: Source,
    },
    /// A row with the same key is there already.
    #[error("cannot {operation}: such a row exists already ({constraint})")]
    Unique {
        /// What was tried, as in `insert into runs`.
        operation: String,
        /// PostgreSQL: the constraint's name; SQLite: `table.column, …`.
        constraint: String,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// Another rule of the schema was broken: a foreign key, NOT NULL or CHECK.
    #[error("cannot {operation}: it would break the {rule} rule {constraint}")]
    Constraint {
        /// What was tried.
        operation: String,
        /// `foreign key`, `not null` or `check`.
        rule: &'static str,
        /// The constraint's name, or what the engine says of it.
        constraint: String,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// Somebody else held the rows or the file for too long; the same call may succeed later.
    #[error("cannot {operation}: the database is busy with another writer; try again")]
    Busy {
        /// What was tried.
        operation: String,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// The database does not answer; the same call may succeed later.
    #[error("cannot {operation}: the database is not available ({hint})")]
    Unavailable {
        /// What was tried.
        operation: String,
        /// What to check.
        hint: &'static str,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// A row that must exist does not.
    #[error("cannot {operation}: there is no such row")]
    NotFound {
        /// What was tried.
        operation: String,
    },
    /// A stored value is not what the program stores there.
    #[error("cannot {operation}: the stored value of {column} is not one this program understands")]
    Decode {
        /// What was tried.
        operation: String,
        /// The column, when known.
        column: String,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// A statement got too few or too many arguments: a mistake in this program.
    #[error("cannot {operation}: the statement wants {expected} arguments and got {given}")]
    Arguments {
        /// What was tried.
        operation: String,
        /// The highest placeholder.
        expected: usize,
        /// The arguments handed over.
        given: usize,
    },
    /// An earlier statement of the same transaction was refused, so it can only be rolled back.
    #[error("cannot {operation}: the transaction has failed already ({failed})")]
    Aborted {
        /// What was tried.
        operation: String,
        /// The earlier error.
        failed: String,
    },
    /// The engine refused the statement.
    #[error("cannot {operation}: the database refused the statement; this is a defect of adwd")]
    Statement {
        /// What was tried.
        operation: String,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// The schema is newer than this program.
    #[error(
        "this database was migrated by a newer adwd (its migration {found:04} {name} is unknown \
         here, the newest known is {newest:04}); start that version, or restore a backup from \
         before it"
    )]
    TooNew {
        /// The unknown migration in the database.
        found: i64,
        /// Its name.
        name: String,
        /// The newest migration of this program.
        newest: i64,
    },
    /// A migration that has landed was edited afterwards.
    #[error(
        "migration {version:04} {name} differs from the one this database was migrated with; a \
         landed migration must never change: use the adwd that made the database"
    )]
    Changed {
        /// The migration.
        version: i64,
        /// Its name.
        name: String,
    },
    /// A migration failed and was rolled back.
    #[error("migration {version:04} {name} failed and was rolled back; the database is as before")]
    Migration {
        /// The migration.
        version: i64,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Box<DbError>,
    },
}

/// A reason from below.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

impl DbError {
    /// True when a row with the same key exists already.
    pub fn is_unique(&self) -> bool {
        matches!(self, DbError::Unique { .. })
    }

    /// True when the same call may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            DbError::Busy { .. } | DbError::Unavailable { .. } => true,
            DbError::Migration { source, .. } => source.is_transient(),
            _ => false,
        }
    }

    /// Why it failed and what to check, for callers: no statement, no table, nothing of the driver.
    /// `None` where only the log can help.
    pub fn why(&self) -> Option<&'static str> {
        match self {
            DbError::Busy { .. } => Some("it is busy with another writer"),
            DbError::Unavailable { hint, .. } => Some(hint),
            _ => None,
        }
    }

    /// The kind in one word, for whoever counts errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            DbError::Busy { .. } => "busy",
            DbError::Unavailable { .. } | DbError::Open { .. } => "unavailable",
            DbError::Unique { .. } | DbError::Constraint { .. } => "rule",
            _ => "other",
        }
    }

    /// True when the engine itself refused the statement, which ends a transaction.
    pub(super) fn aborts(&self) -> bool {
        !matches!(
            self,
            DbError::NotFound { .. } | DbError::Arguments { .. } | DbError::Decode { .. }
        )
    }

    /// The violated unique constraint (PostgreSQL: its name; SQLite: `table.column, …`).
    pub fn constraint(&self) -> Option<&str> {
        match self {
            DbError::Unique { constraint, .. } | DbError::Constraint { constraint, .. } => {
                Some(constraint)
            }
            _ => None,
        }
    }
}

/// The error of a query that had to return a row and did not.
pub(super) fn not_found(sql: &str) -> DbError {
    DbError::NotFound { operation: describe(sql) }
}

/// Names a statement by its verb and its first table: `insert into runs`, `read from runs`.
pub(super) fn describe(sql: &str) -> String {
    let is_separator = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | ';');
    let words: Vec<&str> = sql.split(is_separator).filter(|word| !word.is_empty()).collect();
    let after = |key: &str| {
        let at = words.iter().position(|word| word.eq_ignore_ascii_case(key))?;
        words.get(at + 1).copied()
    };
    let has = |key: &str| words.iter().any(|word| word.eq_ignore_ascii_case(key));
    // A `WITH` is named by the verb inside that writes, if one does.
    let found = if has("insert") {
        after("into").map(|table| format!("insert into {table}"))
    } else if has("delete") {
        after("from").map(|table| format!("delete from {table}"))
    } else if has("update") {
        after("update").map(|table| format!("update {table}"))
    } else if has("select") {
        after("from").map(|table| format!("read from {table}"))
    } else {
        None
    };
    let verb = || words.first().map_or_else(|| "run".to_owned(), |word| word.to_lowercase());
    found.unwrap_or_else(|| format!("run a {} statement", verb()))
}

/// SQLite result codes (primary, or extended where the primary one says too little).
mod sqlite_code {
    pub const BUSY: i64 = 5;
    pub const LOCKED: i64 = 6;
    pub const READONLY: i64 = 8;
    pub const IOERR: i64 = 10;
    pub const FULL: i64 = 13;
    pub const CANTOPEN: i64 = 14;
}

const TLS_HINT: &str = "the encrypted connection failed: check sslmode and certificates";

/// Whether the machine, or a limit of this process, had nothing left to give.
fn is_short(error: &std::io::Error) -> bool {
    use nix::errno::Errno;
    let short = [Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|code| short.contains(&Errno::from_raw(code)))
}

/// Maps the driver's error.
pub(super) fn from_sqlx(operation: String, source: sqlx::Error) -> DbError {
    use sqlx::Error as E;
    let hint = match &source {
        E::Database(_) => return from_database(operation, source),
        E::RowNotFound => return DbError::NotFound { operation },
        E::ColumnDecode { index, .. } => {
            let column = index.clone();
            return DbError::Decode { operation, column, source };
        }
        E::Decode(_) => {
            let column = "a column".to_owned();
            return DbError::Decode { operation, column, source };
        }
        // How a certificate that cannot be believed comes up through the handshake.
        E::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => TLS_HINT,
        E::Io(e) if is_short(e) => {
            "the machine has no file, thread or process left for it: raise the limits"
        }
        E::Io(_) => "the connection broke: is the server running and reachable?",
        E::Tls(_) => TLS_HINT,
        E::PoolTimedOut => "no connection became free in time: it is overloaded or unreachable",
        E::PoolClosed => "it is being closed",
        E::WorkerCrashed => "its worker thread ended",
        _ => return DbError::Statement { operation, source },
    };
    DbError::Unavailable { operation, hint, source }
}

fn from_database(operation: String, source: sqlx::Error) -> DbError {
    let Some(error) = source.as_database_error() else {
        return DbError::Statement { operation, source };
    };
    let constraint = || match error.constraint() {
        Some(name) => name.to_owned(),
        // SQLite: "UNIQUE constraint failed: runs.adw_id, runs.phase".
        None => match error.message().split_once("failed: ") {
            Some((_, columns)) => columns.to_owned(),
            None => "unnamed".to_owned(),
        },
    };
    let code = error.code().unwrap_or_default().into_owned();
    let rule = match error.kind() {
        ErrorKind::UniqueViolation => {
            let constraint = constraint();
            return DbError::Unique { operation, constraint, source };
        }
        ErrorKind::ForeignKeyViolation => Some("foreign key"),
        ErrorKind::NotNullViolation => Some("not null"),
        ErrorKind::CheckViolation => Some("check"),
        _ => None,
    };
    if let Some(rule) = rule {
        let constraint = constraint();
        return DbError::Constraint { operation, rule, constraint, source };
    }
    // SQLSTATEs have five characters, SQLite codes are numbers of at most four digits.
    if code.len() == 5 {
        return from_sqlstate(operation, &code, source);
    }
    let primary = code.parse::<i64>().unwrap_or(0) & 0xff;
    let hint = match primary {
        sqlite_code::BUSY | sqlite_code::LOCKED => return DbError::Busy { operation, source },
        sqlite_code::IOERR => "reading or writing its file failed: check the disk",
        sqlite_code::FULL => "the disk is full: free some space",
        sqlite_code::CANTOPEN => "its file cannot be opened: check that it exists and its mode",
        sqlite_code::READONLY => "its file is read-only, or a write was sent as a read",
        _ => return DbError::Statement { operation, source },
    };
    DbError::Unavailable { operation, hint, source }
}

fn from_sqlstate(operation: String, code: &str, source: sqlx::Error) -> DbError {
    let hint = match code {
        // Serialization failure, deadlock, lock not available, statement cancelled by a timeout.
        "40001" | "40P01" | "55P03" | "57014" => return DbError::Busy { operation, source },
        "53100" => "the server's disk is full: free some space",
        "53300" => "the server has no connection left: raise max_connections",
        _ if code.starts_with("53") => "the server is short of resources",
        _ if code.starts_with("57P") => "the server is starting or stopping",
        _ if code.starts_with("08") => "the connection broke",
        _ if code.starts_with("28") => "the server refused the login: check user and password",
        "3D000" => "no such database on the server: create it with createdb",
        "42501" => "the user lacks a permission: check its grants",
        "25006" => "the server is read-only: connect to the primary",
        _ => return DbError::Statement { operation, source },
    };
    DbError::Unavailable { operation, hint, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_named_by_verb_and_table() {
        for (sql, expected) in [
            ("SELECT a FROM runs WHERE b = $1", "read from runs"),
            ("INSERT INTO runs(a) SELECT 1 FROM other", "insert into runs"),
            ("UPDATE runs SET a = 1 RETURNING a", "update runs"),
            ("DELETE FROM runs", "delete from runs"),
            ("INSERT INTO c (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2", "insert into c"),
            ("WITH x AS (SELECT 1) UPDATE runs SET a = 1", "update runs"),
            ("PRAGMA x", "run a pragma statement"),
            ("SELECT 1", "run a select statement"),
            ("", "run a run statement"),
        ] {
            assert_eq!(describe(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_pool_timeout_is_transient_and_says_what_to_do() {
        let error = from_sqlx("read from runs".to_owned(), sqlx::Error::PoolTimedOut);
        assert!(error.is_transient() && !error.is_unique());
        let text = error.to_string();
        assert!(text.starts_with("cannot read from runs: the database is not available"), "{text}");
    }
}
