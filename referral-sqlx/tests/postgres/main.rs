//! The storage in PostgreSQL, from outside: against the suite of the core, against raw SQL that
//! goes around it, and against what goes wrong with a server.
#![cfg(feature = "postgres")]

mod conformance;
mod fail_over;
#[path = "../common/in_turn.rs"]
mod in_turn;
mod schema;
#[path = "../common/server.rs"]
mod server;
mod trouble;
