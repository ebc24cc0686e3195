//! What can go wrong about keys and credentials.

use std::io;

use thiserror::Error;

use crate::db::DbError;

/// Why something about keys cannot be done.
#[derive(Debug, Error)]
pub enum AccessError {
    /// The caller may not do it.
    #[error("{message}")]
    NotAllowed {
        /// Why not.
        message: String,
        /// What would be right.
        hint: &'static str,
    },
    /// Something that was given is not of its form.
    #[error("{argument}: {problem}")]
    Invalid {
        /// The argument.
        argument: &'static str,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// There is no such key.
    #[error("there is no key {id:?}")]
    UnknownKey {
        /// The id that was asked for.
        id: String,
    },
    /// The key is not good any more, so it cannot be given another secret.
    #[error("key {id} is {state}, which cannot be undone; make a new one")]
    Ended {
        /// Its id.
        id: String,
        /// `revoked` or `expired`.
        state: &'static str,
    },
    /// Somebody else changed it at the same moment.
    #[error("key {id} was changed at the same moment")]
    Conflict {
        /// Its id.
        id: String,
    },
    /// There are too many keys.
    #[error("there are {count} good keys, which is the most; revoke some")]
    TooMany {
        /// How many.
        count: i64,
    },
    /// What is in the database's table is no pepper.
    #[error(
        "table access_pepper does not hold what adwd wrote; restore it, or empty it, which makes all keys made so far invalid"
    )]
    Pepper,
    /// A file.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl AccessError {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            AccessError::NotAllowed { .. } => "not_allowed",
            AccessError::Invalid { .. } => "invalid_argument",
            AccessError::UnknownKey { .. } => "unknown_key",
            AccessError::Ended { .. } | AccessError::Conflict { .. } => "conflict",
            AccessError::TooMany { .. } => "too_many",
            AccessError::Pepper | AccessError::Io { .. } => "io",
            AccessError::Db(_) => "database",
        }
    }
}

/// Why a credential is not taken. The text never holds the credential.
#[derive(Debug, Error)]
pub enum Denied {
    /// No key and no token of ours. Also a key whose secret is wrong: who cannot show the secret
    /// learns nothing of the key.
    #[error("the credential is not known here")]
    Unknown,
    /// The secret is right, and the key was revoked.
    #[error("the key was revoked")]
    Revoked,
    /// The secret is right, and the key has ended.
    #[error("the key has expired")]
    Expired,
    /// The secret was right before the key got another one.
    #[error("the key got another secret, and the time of this one is over")]
    Rotated,
    /// A token that is not good.
    #[error("{0}")]
    Token(String),
    /// A good token that allows nothing here.
    #[error("the token has none of the scopes adwd:read, adwd:run, adwd:admin")]
    Scope,
    /// The address showed too many bad credentials, and this one was bad too.
    #[error("too many bad credentials came from this address")]
    Throttled {
        /// How long it is shut out from now, in ms.
        retry_after_ms: i64,
    },
    /// The issuer's keys cannot be had, so nothing can be said about the token.
    #[error("the tokens' issuer cannot be reached, so no token can be checked now")]
    Issuer,
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}
