//! Tests of the storage in PostgreSQL: the conformance suite of the core, raw SQL that bypasses the storage,
//! and failures of the server.
#![cfg(feature = "postgres")]

mod conflicts;
mod conformance;
mod connect;
mod connections;
#[path = "../common/created_users.rs"]
mod created_users;
mod deletion;
#[path = "../common/erasure.rs"]
mod erasure;
mod fail_over;
mod harness;
mod hook;
#[path = "../common/hook_cases.rs"]
mod hook_cases;
mod host_transaction;
#[path = "../common/killed.rs"]
mod killed;
mod readiness;
mod schema;
mod searches;
#[path = "../common/server.rs"]
mod server;
#[path = "../../../referral-core/tests/common/service.rs"]
mod service;
#[path = "../../../referral-core/tests/common/sign_in.rs"]
mod sign_in;
mod statements;
