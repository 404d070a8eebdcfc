//! Tests of the storage in PostgreSQL: the conformance suite of the core, raw SQL that bypasses the storage,
//! and failures of the server.
#![cfg(feature = "postgres")]

mod conflicts;
mod conformance;
mod connect;
mod connections;
mod fail_over;
mod harness;
mod readiness;
#[path = "../common/round_robin.rs"]
mod round_robin;
mod schema;
mod searches;
#[path = "../common/server.rs"]
mod server;
mod statements;
