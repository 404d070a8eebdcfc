//! Storage in an SQLite file, with one connection that writes and several that read.
//!
//! SQLite allows one writer at a time. A queue for a single writing connection is fair and cheap, while
//! several connections would poll for the lock of the file. Readers never wait: with a write-ahead log they
//! see the last commit.
//!
//! Each transaction that writes starts with `BEGIN IMMEDIATE`. It excludes all other writing transactions, in
//! this process and in others, from its first read to its commit. All rules about several rows rely on this
//! lock, such as the newest code of a phone and the ancestry of an inviter. Writes that wait in this process
//! are committed in groups, see [`write_queue`].
//!
//! A limit in a statement is written as `$1 + 0`. If it were `$1`, SQLite would plan the statement again for
//! each value, and planning takes longer than running.

mod add_user;
mod audit;
mod batch;
mod challenges;
mod change_user;
mod code_requests;
mod connection;
mod counters;
mod daily_counts;
mod deletion;
mod disk;
pub(crate) mod error;
mod host_transaction;
mod import;
mod invitations;
mod keys;
mod list;
mod maintenance;
mod messages;
mod migrations;
mod open;
mod phone_change;
mod profiles;
#[cfg(test)]
mod query_plans;
mod readers;
mod rows;
mod sessions;
mod sign_in;
mod store;
mod table_prefix;
mod users;
mod wal;
mod write_queue;

use std::{path::PathBuf, sync::Arc, time::Duration};

use referral_core::{
    Refusal, User,
    storage::{Decided, Result, StorageError, StoredPage, UserQuery},
};
use sqlx::Sqlite;

pub use self::open::SqliteOptions;
use self::{
    migrations::TableMigrations,
    readers::{Deadline, Reader, Readers, is_interrupted},
    write_queue::Writer,
};
use crate::{bulkhead::Bulkhead, error::failure, hook::TransactionHook};

/// Time to wait for another process that writes, and for a place: a connection, space in the queue of writes,
/// or an expensive list. Clients of an HTTP API do not wait longer.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Hook of the host.
type Hook = Arc<dyn TransactionHook<Sqlite>>;

/// Storage in an SQLite file. Create it with [`connect`](Self::connect), [`open`](Self::open) or
/// [`with_pool`](Self::with_pool).
pub struct SqliteStorage {
    hook: Option<Hook>,
    writer: Writer,
    readers: Readers,
    /// Connections for expensive lists.
    list_readers: Readers,
    /// Places for expensive lists, one for each connection.
    lists: Bulkhead,
    search_timeout: Duration,
    migrations: TableMigrations,
    /// Path of the database file.
    path: PathBuf,
}

impl SqliteStorage {
    /// Acquires a connection for reading. Each read is one statement, which sees one snapshot.
    async fn reader(&self) -> Result<Reader> {
        self.readers.acquire().await.map_err(failure)
    }

    /// Runs a list that may read many rows, on a separate connection and with a separate time limit.
    async fn expensive_list(&self, query: &UserQuery) -> Decided<StoredPage<User>> {
        let _place = self.lists.enter(query.caller).await?;
        let mut reader = self.list_readers.acquire().await.map_err(failure)?;
        let _deadline = Deadline::set(&mut reader, self.search_timeout).await.map_err(failure)?;
        match list::users(&mut reader, query).await {
            Err(error) if error_of(&error).is_some_and(is_interrupted) => Ok(Err(Refusal::SearchTooBroad)),
            found => found.map(Ok),
        }
    }
}

/// Returns the database error that caused a request to fail.
fn error_of(error: &StorageError) -> Option<&sqlx::Error> {
    match error {
        StorageError::Unavailable(source) | StorageError::Failed(source) => source.downcast_ref(),
        _ => None,
    }
}
