//! What can go wrong with a database, and what that means to whoever asked.

use std::path::PathBuf;

use referral_core::storage::BoxError;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::SchemaError;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use referral_core::storage::StorageError;

/// Why a database could not be opened. No message repeats the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// What was given is no URL.
    #[error("the database is named by a URL; give one such as `sqlite:referral.db`")]
    NoScheme,
    /// The URL names a database that this crate does not know.
    #[error("no database is known as `{scheme}`; give a URL such as `sqlite:referral.db`")]
    UnknownScheme {
        /// What stands before the first colon of the URL.
        scheme: String,
    },
    /// The crate was built without this database.
    #[error(
        "this program was built without the feature `{feature}` of `referral-sqlx`; build it with that feature"
    )]
    FeatureOff {
        /// The feature.
        feature: &'static str,
    },
    /// The URL names a database in memory, of which each connection would have its own.
    #[error(
        "each connection to an SQLite database in memory has one of its own; name a file, or use `MemoryStorage` of `referral-core`"
    )]
    InMemory,
    /// The URL asks for something that the storage cannot do with.
    #[error(
        "after the path of an SQLite file only `?mode=rwc` (make it if there is none, the default) or `?mode=rw` may follow, and the path is a plain one"
    )]
    UnsupportedUrl,
    /// The database file could not be made, or may not be written to.
    #[error(
        "the database file cannot be made or written to; check that its folder exists, and the permissions of both"
    )]
    FileNotMade(#[source] std::io::Error),
    /// The database file, or one of those that SQLite keeps beside it, can be read or written by other users.
    #[error(
        "the database file {path} has mode {mode:04o}, so other users can read or write it; run: chmod 600 {path}",
        path = path.display()
    )]
    FileExposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The database file, or one of those that SQLite keeps beside it, belongs to another user.
    #[error(
        "the database file {path} belongs to user {owner}, but this process runs as user {user}; run it as user \
         {owner}, or run: chown {user} {path}",
        path = path.display()
    )]
    FileOfOther {
        /// The file.
        path: PathBuf,
        /// The id of the user whom it belongs to.
        owner: u32,
        /// The id of the user that the process runs as.
        user: u32,
    },
    /// The database could not be opened.
    #[error("the database cannot be opened; check its path, its permissions and who else uses it")]
    NotOpened(#[source] BoxError),
    /// The URL is not one of its database's.
    #[error("the URL of the database cannot be read; give one such as `postgres://user@host:5432/name`")]
    InvalidUrl(#[source] BoxError),
    /// The URL has a parameter that is not known, and that would be ignored.
    #[error(
        "the URL of the database has the unknown parameter `{name}`; correct or remove it: known are sslmode, \
         sslrootcert, sslcert, sslkey, target_session_attrs, host, hostaddr, port, dbname, user, password, \
         application_name, options and statement-cache-capacity"
    )]
    UnknownParameter {
        /// The name of the parameter.
        name: String,
    },
    /// The URL asks for a server that need not accept writes.
    #[error(
        "the URL of the database has target_session_attrs={value}, but the service writes; give \
         target_session_attrs=read-write or leave it out, which means the same"
    )]
    StandbyWanted {
        /// The value of the parameter.
        value: String,
    },
    /// The database could not be reached, or does not let in whoever asks.
    #[error("the database cannot be reached; check its URL, and that it runs and lets this user in")]
    NotReached(#[source] BoxError),
    /// The database keeps texts in an encoding that lacks most scripts.
    #[error(
        "the database is encoded in {encoding}, which lacks most scripts; make one with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`"
    )]
    NotUtf8 {
        /// The encoding.
        encoding: String,
    },
    /// The schema of the database does not work with this version of the program.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A migration failed.
    #[error("failed to migrate the database")]
    NotMigrated(#[source] BoxError),
}

/// The error as the core knows it.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn failure(error: sqlx::Error) -> StorageError {
    if is_passing(&error) {
        StorageError::Unavailable(error.into())
    } else {
        StorageError::Failed(error.into())
    }
}

/// Whether the same may succeed later.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        #[cfg(feature = "sqlite")]
        error if crate::sqlite::is_passing(error) => true,
        #[cfg(feature = "postgres")]
        error if crate::postgres::is_passing(error) => true,
        _ => false,
    }
}

/// The error for a stored value that cannot be.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn unreadable(error: impl Into<BoxError>) -> StorageError {
    StorageError::Failed(error.into())
}
