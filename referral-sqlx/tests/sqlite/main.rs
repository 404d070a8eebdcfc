//! Tests of the storage in SQLite: the conformance suite of the core, raw SQL that bypasses the storage, and
//! several processes.
#![cfg(feature = "sqlite")]

mod cancellation;
mod conformance;
mod connect;
mod messages;
mod processes;
#[path = "../common/round_robin.rs"]
mod round_robin;
mod schema;

use std::path::Path;

/// Returns the URL of a database file in `directory`.
fn url_in(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("referral.db").display())
}
