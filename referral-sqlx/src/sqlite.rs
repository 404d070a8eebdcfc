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

mod disk;
mod list;
mod load;
mod log;
mod migrations;
mod open;
#[cfg(test)]
mod plans;
mod readers;
mod rows;
mod search;
mod statements;
mod store;
mod write;
mod writer;

use std::{path::PathBuf, time::Duration};

use referral_core::{
    Refusal,
    storage::{Decided, FoundUsers, Result, StorageError, UserQuery},
};
use sqlx::error::DatabaseError;

pub use self::open::SqliteOptions;
pub(crate) use self::open::{open_path, open_url};
use self::{
    readers::{Deadline, Reader, Readers, is_interrupted},
    writer::Writer,
};
use crate::{bulkhead::Bulkhead, error::failure};

/// An SQLite file.
pub(crate) struct SqliteStore {
    writer: Writer,
    readers: Readers,
    /// Connections for expensive lists.
    list_readers: Readers,
    /// Places for expensive lists, as many as connections.
    lists: Bulkhead,
    search_timeout: Duration,
    /// The database file.
    path: PathBuf,
}

impl SqliteStore {
    /// A connection to read with. Each read is one statement, which sees one moment.
    async fn reader(&self) -> Result<Reader> {
        self.readers.acquire().await.map_err(failure)
    }

    /// Answers a list that may read many rows, on a connection and within a time of its own.
    async fn expensive_list(&self, query: &UserQuery) -> Decided<FoundUsers> {
        let _place = self.lists.enter(query.caller).await?;
        let mut reader = self.list_readers.acquire().await.map_err(failure)?;
        let _deadline = Deadline::set(&mut reader, self.search_timeout).await.map_err(failure)?;
        match list::users(&mut reader, query).await {
            Err(error) if error_of(&error).is_some_and(is_interrupted) => Ok(Err(Refusal::SearchTooBroad)),
            found => found.map(Ok),
        }
    }
}

/// Returns the error of the database that made a request fail.
fn error_of(error: &StorageError) -> Option<&sqlx::Error> {
    match error {
        StorageError::Unavailable(source) | StorageError::Failed(source) => source.downcast_ref(),
        _ => None,
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
