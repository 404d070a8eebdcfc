#![cfg_attr(feature = "sqlite", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "sqlite"),
    doc = "SQL storage for referral-core. Enable the feature of a database."
)]

mod error;
/// The project's README, whose example is a test.
#[cfg(all(doctest, feature = "sqlite"))]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(feature = "sqlite")]
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod values;

#[cfg(feature = "sqlite")]
use std::path::Path;
use std::sync::Arc;

use referral_core::storage::Storage;

pub use crate::error::ConnectError;

/// Opens the database that `url` names, and brings its schema up to date.
///
/// | URL | Database | Feature |
/// |---|---|---|
/// | `sqlite:referral.db`, `sqlite:///var/lib/referral/referral.db` | an SQLite file, made if there is none; `?mode=rw` refuses to make one | `sqlite` |
///
/// A file that is made here can be read by its owner only, since it holds phone numbers. Several
/// processes may open one file, on one machine.
///
/// # Errors
///
/// See [`ConnectError`].
#[cfg_attr(
    not(feature = "sqlite"),
    expect(clippy::unused_async, reason = "only a build without any database has nothing to wait for")
)]
pub async fn connect(url: &str) -> Result<Arc<dyn Storage>, ConnectError> {
    let (scheme, _) = url.split_once(':').ok_or(ConnectError::NoScheme)?;
    match scheme {
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Arc::new(sqlite::open_url(url).await?)),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(ConnectError::FeatureOff { feature: "sqlite" }),
        _ => Err(ConnectError::UnknownScheme { scheme: scheme.to_owned() }),
    }
}

/// Opens the SQLite file at `path`, as [`connect`] does, whatever characters the path has.
///
/// # Errors
///
/// See [`ConnectError`].
#[cfg(feature = "sqlite")]
pub async fn connect_sqlite(path: &Path) -> Result<Arc<dyn Storage>, ConnectError> {
    Ok(Arc::new(sqlite::open_path(path).await?))
}
