//! The storage, from outside: against the suite of the core, against raw SQL that goes
//! around it, and against other processes.
#![cfg(feature = "sqlite")]

mod conformance;
mod connect;
mod dropped;
#[path = "../common/in_turn.rs"]
mod in_turn;
mod messages;
mod processes;
mod schema;

use std::path::Path;

/// The URL of a file in `folder`.
fn url_in(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("referral.db").display())
}
