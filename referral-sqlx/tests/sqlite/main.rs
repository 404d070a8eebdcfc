//! Tests of the storage in SQLite: the conformance suite of the core, raw SQL that bypasses the storage, and
//! several processes.
#![cfg(feature = "sqlite")]

mod cancellation;
mod conformance;
mod connect;
#[path = "../common/created_users.rs"]
mod created_users;
mod deletion;
#[path = "../common/erasure.rs"]
mod erasure;
mod hook;
#[path = "../common/hook_cases.rs"]
mod hook_cases;
mod host_transaction;
#[path = "../common/killed.rs"]
mod killed;
mod messages;
mod processes;
mod schema;
#[path = "../../../referral-core/tests/common/service.rs"]
mod service;
#[path = "../../../referral-core/tests/common/sign_in.rs"]
mod sign_in;
mod table_prefix;

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

/// Returns the URL of a database file in `directory`.
fn url_in(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("referral.db").display())
}

/// Opens a connection that bypasses the storage.
async fn raw(url: &str) -> SqliteConnection {
    let options: SqliteConnectOptions = url.parse().expect("a URL");
    SqliteConnection::connect_with(&options).await.expect("a connection")
}
