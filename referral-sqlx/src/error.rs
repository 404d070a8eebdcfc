//! Errors of a database, and their conversion to the errors of the core.

use std::path::PathBuf;

use referral_core::storage::BoxError;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::migrations::SchemaError;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use referral_core::storage::StorageError;

/// Error of opening a database. No message contains the URL, because the URL may contain a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The value is not a URL.
    #[error("the database must be given as a URL, such as `sqlite:referral.db`")]
    NoScheme,
    /// The crate does not support the scheme of the URL.
    #[error("databases of the scheme `{scheme}` are not supported; give a URL such as `sqlite:referral.db`")]
    UnknownScheme {
        /// Part of the URL before the first colon.
        scheme: String,
    },
    /// The crate was built without support for this database.
    #[error(
        "this program was built without the feature `{feature}` of `referral-sqlx`; build it with that feature"
    )]
    FeatureOff {
        /// Name of the missing feature.
        feature: &'static str,
    },
    /// The URL names a database in memory. Each connection would have a separate one.
    #[error(
        "an SQLite database in memory cannot be shared by several connections; name a file, or use \
         `MemoryStorage` of `referral-core`"
    )]
    InMemory,
    /// The URL of an SQLite file has an unsupported parameter or path.
    #[error(
        "the URL of an SQLite database must be a plain path, optionally followed by `?mode=rwc` (create the file \
         if it is missing, the default) or `?mode=rw`"
    )]
    UnsupportedUrl,
    /// The database file could not be created, or it is not writable.
    #[error(
        "the database file cannot be created or written to; check that its directory exists, and the permissions \
         of both"
    )]
    FileNotMade(#[source] std::io::Error),
    /// Other users can read or write the database file or one of the files that SQLite keeps next to it.
    #[error(
        "the database file {path} has mode {mode:04o}, so other users can read or write it; run: chmod 600 {path}",
        path = path.display()
    )]
    FileExposed {
        /// Path of the file.
        path: PathBuf,
        /// Permissions of the file.
        mode: u32,
    },
    /// The database file or one of the files that SQLite keeps next to it belongs to another user.
    #[error(
        "the database file {path} belongs to user {owner}, but this process runs as user {user}; run it as user \
         {owner}, or run: chown {user} {path}",
        path = path.display()
    )]
    FileOfOther {
        /// Path of the file.
        path: PathBuf,
        /// Id of the user that owns the file.
        owner: u32,
        /// Id of the user that the process runs as.
        user: u32,
    },
    /// The database could not be opened.
    #[error(
        "the database cannot be opened; check its path, its permissions and which other processes use it"
    )]
    NotOpened(#[source] BoxError),
    /// The URL is not a valid URL of its database.
    #[error("the URL of the database cannot be parsed; give one such as `postgres://user@host:5432/name`")]
    InvalidUrl(#[source] BoxError),
    /// The URL has an unknown parameter, which `sqlx` would ignore.
    #[error(
        "the URL of the database has the unknown parameter `{name}`; remove it, or use one of these: sslmode, \
         sslrootcert, sslcert, sslkey, target_session_attrs, host, hostaddr, port, dbname, user, password, \
         application_name, options and statement-cache-capacity"
    )]
    UnknownParameter {
        /// Name of the parameter.
        name: String,
    },
    /// The URL has an unknown value of `sslmode`.
    #[error(
        "the URL of the database has sslmode={value}; use disable, allow, prefer, require, verify-ca or verify-full \
         (`no-verify` of other programs is `require`)"
    )]
    UnknownSslMode {
        /// Value of the parameter.
        value: String,
    },
    /// The URL selects a server that may not accept writes.
    #[error(
        "the URL of the database has target_session_attrs={value}, but the service writes to the database; use \
         target_session_attrs=read-write, or remove the parameter, which has the same effect"
    )]
    StandbyWanted {
        /// Value of the parameter.
        value: String,
    },
    /// The name of the schema is not a plain identifier.
    #[error(
        "the name of the schema, `{name}`, is not valid; give 1 to 63 lowercase letters, digits and underscores that \
         do not start with a digit or `pg_`"
    )]
    InvalidSchemaName {
        /// Given name.
        name: String,
    },
    /// The prefix of the tables in SQLite is not the start of a plain identifier.
    #[error(
        "the prefix of the tables, `{prefix}`, is not valid; give 1 to 32 lowercase letters, digits and underscores \
         that start with a letter and not with `sqlite_`"
    )]
    InvalidTablePrefix {
        /// Given prefix.
        prefix: String,
    },
    /// The database could not be reached, or it rejected the user.
    #[error(
        "the database cannot be reached; check its URL, that it is running, and that it accepts this user"
    )]
    NotReached(#[source] BoxError),
    /// The database stores texts in an encoding that does not support most scripts.
    #[error(
        "the database has the encoding {encoding}, which does not support most scripts; create one with `CREATE \
         DATABASE … ENCODING 'UTF8' TEMPLATE template0`"
    )]
    NotUtf8 {
        /// Encoding of the database.
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

/// Converts an error of `sqlx` to an error of the core.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn failure(error: sqlx::Error) -> StorageError {
    if is_transient(&error) {
        StorageError::Unavailable(error.into())
    } else {
        StorageError::Failed(error.into())
    }
}

/// Returns `true` if the same operation may succeed later.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        #[cfg(feature = "sqlite")]
        error if crate::sqlite::error::is_transient(error) => true,
        #[cfg(feature = "postgres")]
        error if crate::postgres::error::is_transient(error) => true,
        _ => false,
    }
}

/// Creates the error for a stored value that is not valid.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn unreadable(error: impl Into<BoxError>) -> StorageError {
    StorageError::Failed(error.into())
}
