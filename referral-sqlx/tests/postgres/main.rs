//! Tests of the storage in PostgreSQL: the conformance suite of the core, raw SQL that bypasses the storage,
//! and failures of the server.
#![cfg(feature = "postgres")]

mod conformance;
mod fail_over;
#[path = "../common/round_robin.rs"]
mod round_robin;
mod schema;
#[path = "../common/server.rs"]
mod server;
mod transient_errors;
