#![cfg_attr(feature = "sqlite", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "sqlite"),
    doc = "SQL storage for referral-core. Enable the feature of a database."
)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod bulkhead;
mod error;
/// README of the project. Its example runs as a test.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod encoding;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod fragments;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod hook;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod identifier;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod migrations;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod pool;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod rows;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod search_index;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::sync::Arc;

use referral_core::storage::Storage;

pub use crate::error::ConnectError;
#[cfg(feature = "postgres")]
pub use crate::postgres::{PostgresOptions, PostgresStorage};
#[cfg(feature = "sqlite")]
pub use crate::sqlite::{SqliteOptions, SqliteStorage};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use crate::{
    hook::{HookError, TransactionHook},
    migrations::{SchemaError, SchemaMigration},
};
#[cfg(feature = "benchmark")]
#[doc(hidden)]
pub use crate::{postgres::statements, search_index::of_user as ngrams};

/// Opens the database at `url` and migrates its schema.
///
/// | URL | Database | Feature |
/// |---|---|---|
/// | `sqlite:referral.db`, `sqlite:///var/lib/referral/referral.db` | an SQLite file, which is created if it is missing; with `?mode=rw` a missing file is an error | `sqlite` |
/// | `postgres://user:password@host:5432/name` | a PostgreSQL database with the tables in its schema `referral`; the parameters of libpq such as `?sslmode=verify-full&sslrootcert=ca.pem` are supported, and an unknown parameter is an error; the URL may name several hosts, such as `one:5432,two:5432`, and the storage finds the primary among them, also after a fail-over | `postgres` |
///
/// Only the owner can read a file that is created here, because the file contains phone numbers. Several
/// processes on one machine may open the same file.
///
/// # Errors
///
/// [`ConnectError`] if the URL is not supported, the feature of its database is off, or the database cannot
/// be opened or migrated.
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    expect(clippy::unused_async, reason = "a build without any database has nothing to await")
)]
pub async fn connect(url: &str) -> Result<Arc<dyn Storage>, ConnectError> {
    let (scheme, _) = url.split_once(':').ok_or(ConnectError::NoScheme)?;
    match scheme {
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(SqliteStorage::connect(url, &SqliteOptions::default()).await?)),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            Ok(Arc::new(PostgresStorage::connect(url, &PostgresOptions::default()).await?))
        }
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => Err(ConnectError::FeatureOff { feature: "postgres" }),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(ConnectError::FeatureOff { feature: "sqlite" }),
        _ => Err(ConnectError::UnknownScheme { scheme: scheme.to_owned() }),
    }
}
