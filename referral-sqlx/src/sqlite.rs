//! SQLite: one connection that writes, several that read.
//!
//! SQLite has one writer at a time, whatever one does. Queueing for the one connection that writes
//! is fair and cheap, where connections that compete for the file's lock only poll for it. Readers
//! never wait: with a write-ahead log they see what was committed last.
//!
//! Each transaction that writes begins with `BEGIN IMMEDIATE`, so it excludes every other one, in
//! this process and in others, from its first fact to its commit. That is the lock that all rules
//! about several rows rely on: the newest code of a phone, the lineage of an inviter. What waits
//! for it in this process is committed in groups, see [`writer`].

mod list;
mod load;
mod migrations;
mod open;
#[cfg(test)]
mod plans;
mod rows;
mod search;
mod statements;
mod store;
mod write;
mod writer;

use referral_core::storage::Result;
use sqlx::{SqliteConnection, error::DatabaseError};

pub(crate) use self::open::{open_path, open_url};
use self::writer::Writer;
use crate::{
    error::failure,
    pool::{Connections, Loan},
};

/// An SQLite file.
pub(crate) struct SqliteStore {
    writer: Writer,
    readers: Connections<SqliteConnection>,
}

impl SqliteStore {
    /// A connection to read with. Each read is one statement, which sees one moment.
    async fn reader(&self) -> Result<Loan<SqliteConnection>> {
        self.readers.acquire().await.map_err(failure)
    }
}

/// Whether the same may succeed later: another process has the file locked, the disk is full or
/// out of reach, the file may not be written to.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    const READ_ONLY: i32 = 8;
    const IO_ERROR: i32 = 10;
    const FULL: i32 = 13;
    const CANNOT_OPEN: i32 = 14;
    error.as_database_error().is_some_and(|error| {
        is_busy(error) || matches!(primary_code(error), Some(READ_ONLY | IO_ERROR | FULL | CANNOT_OPEN))
    })
}

/// Whether another process has the file locked, for longer than one waits.
fn is_busy(error: &dyn DatabaseError) -> bool {
    const BUSY: i32 = 5;
    /// The lock of the write-ahead log, fought for in vain.
    const PROTOCOL: i32 = 15;
    matches!(primary_code(error), Some(BUSY | PROTOCOL))
}

/// SQLite's result code without what extends it: 517, `SQLITE_BUSY_SNAPSHOT`, is a 5 as well.
fn primary_code(error: &dyn DatabaseError) -> Option<i32> {
    error.code()?.parse::<i32>().ok().map(|code| code & 0xff)
}
