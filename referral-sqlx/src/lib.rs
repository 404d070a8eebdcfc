#![cfg_attr(feature = "sqlite", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "sqlite"),
    doc = "SQL storage for referral-core. Enable the feature of a database."
)]

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod bulkhead;
mod error;
/// The project's README, whose example is a test.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod migrations;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod values;

#[cfg(feature = "sqlite")]
use std::path::Path;
use std::sync::Arc;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::time::Duration;

use referral_core::storage::Storage;

pub use crate::error::ConnectError;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use crate::migrations::SchemaError;
#[cfg(feature = "postgres")]
pub use crate::postgres::PostgresOptions;
#[cfg(feature = "sqlite")]
pub use crate::sqlite::SqliteOptions;

/// Default time for an expensive list. Searches for what users look for take a few milliseconds with a
/// million users; one that takes half a second finds what its author did not mean, and is a core that
/// sign-ins do not have.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
const SEARCH_TIMEOUT: Duration = Duration::from_millis(500);

/// Opens the database that `url` names, and brings its schema up to date.
///
/// | URL | Database | Feature |
/// |---|---|---|
/// | `sqlite:referral.db`, `sqlite:///var/lib/referral/referral.db` | an SQLite file, made if there is none; `?mode=rw` refuses to make one | `sqlite` |
/// | `postgres://user:password@host:5432/name` | a PostgreSQL database, in whose schema `referral` the tables are; `?sslmode=verify-full&sslrootcert=ca.pem` and other parameters of libpq are known, and unknown ones are an error; of several hosts, as in `one:5432,two:5432`, the primary is found and followed | `postgres` |
///
/// A file that is made here can be read by its owner only, since it holds phone numbers. Several
/// processes may open one file, on one machine.
///
/// # Errors
///
/// See [`ConnectError`].
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    expect(clippy::unused_async, reason = "only a build without any database has nothing to wait for")
)]
pub async fn connect(url: &str) -> Result<Arc<dyn Storage>, ConnectError> {
    let (scheme, _) = url.split_once(':').ok_or(ConnectError::NoScheme)?;
    match scheme {
        #[cfg(feature = "sqlite")]
        "sqlite" => connect_sqlite_url(url, &SqliteOptions::default()).await,
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(postgres::open(url, &PostgresOptions::default()).await?)),
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => Err(ConnectError::FeatureOff { feature: "postgres" }),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(ConnectError::FeatureOff { feature: "sqlite" }),
        _ => Err(ConnectError::UnknownScheme { scheme: scheme.to_owned() }),
    }
}

/// Opens the SQLite file that `url` names, as [`connect`] does, with other options than the usual.
///
/// # Errors
///
/// See [`ConnectError`].
#[cfg(feature = "sqlite")]
pub async fn connect_sqlite_url(
    url: &str,
    options: &SqliteOptions,
) -> Result<Arc<dyn Storage>, ConnectError> {
    Ok(Arc::new(sqlite::open_url(url, options).await?))
}

/// Opens the SQLite file at `path`, as [`connect_sqlite_url`] does, whatever characters the path has.
///
/// # Errors
///
/// See [`ConnectError`].
#[cfg(feature = "sqlite")]
pub async fn connect_sqlite(path: &Path, options: &SqliteOptions) -> Result<Arc<dyn Storage>, ConnectError> {
    Ok(Arc::new(sqlite::open_path(path, options).await?))
}

/// Opens the PostgreSQL database that `url` names, as [`connect`] does, with other options than the
/// usual.
///
/// # Errors
///
/// See [`ConnectError`].
#[cfg(feature = "postgres")]
pub async fn connect_postgres(
    url: &str,
    options: &PostgresOptions,
) -> Result<Arc<dyn Storage>, ConnectError> {
    Ok(Arc::new(postgres::open(url, options).await?))
}
