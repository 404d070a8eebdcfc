//! Storage in Redis, as an example for authors of storages.
//!
//! The rules of the service are pure functions in `referral-core`, and a storage contains none of them. Its
//! task is to execute each method of the storage traits as one atomic operation. Read the documentation of
//! [`referral_core::storage`] first: it lists the guarantees.
//!
//! # How an operation works
//!
//! Each method has the same four steps. This is [`SessionStorage::refresh`], without one of its facts:
//!
//! ```text
//! self.transaction(|mut tx| async move {
//!     let facts = tx.get::<Session>(request.session).await?;              // 1. load the facts
//!     let Decision { writes, outcome } = request.decide(facts.as_ref())?; // 2. let the rule decide
//!     if let Some(session) = writes {
//!         tx.put(&session)?;                                              // 3. collect the writes
//!     }
//!     tx.commit(outcome).await                                            // 4. apply them, or start again
//! })
//! ```
//!
//! 1. **Facts.** The documentation of the method lists them, and the struct of the facts names each one. A
//!    missing user or counter is a fact as well: a concurrent operation must not add it unnoticed.
//! 2. **Decision.** `decide` of the request takes the facts, and returns the writes and the outcome. It has
//!    no side effects, so it may be called again with other facts.
//! 3. **Writes.** All fields of the writes are applied, also if the outcome is a refusal: a wrong code is
//!    counted.
//! 4. **Commit.** The writes are applied together, and only if the facts still hold. Otherwise the operation
//!    starts again with the first step.
//!
//! A storage can ensure the last step in two ways. It locks the facts when it loads them, or it detects
//! changed facts when it commits. This storage does the latter, in the module `transaction`:
//!
//! - `WATCH` before each read records the version of the key. Keys without a value have a version as well.
//! - `MULTI` and `EXEC` apply all writes, or none if a watched key has changed. Then the operation starts
//!   again. At least one of the conflicting operations is committed, so they cannot block each other.
//! - The watched keys belong to a connection, so each attempt uses a connection of its own from a pool. A
//!   connection that reconnects by itself is not suitable, because it would lose the watched keys.
//!
//! Facts that are read one after the other may be of different moments. `decide` then decides about a state
//! that never existed, but such a decision is never committed. For the same reason, operations that only read
//! are committed as well.
//!
//! # Guarantees
//!
//! The conformance suite checks these guarantees. It runs with several handles of the same data, as several
//! processes have them, so a storage cannot rely on a lock or a cache in the process.
//!
//! - A phone, an invite code and an email address have one owner: `owner/…` has the id of the user, and is
//!   watched also while it is missing.
//! - A code is redeemed once, and its attempts are counted exactly: the challenge is watched and written.
//! - Concurrent requests are granted no more codes and guesses than sequential ones: each counter of the
//!   request is watched, also the unchanged ones.
//! - A phone gets one code in a resend interval: `list/challenges/…`, which has the newest challenge, is
//!   watched.
//! - A refresh token is exchanged once, and an ended session is not continued: the session is watched and
//!   written.
//! - Invitations have no loops: each invitation of the ancestry is watched, also the missing one of the first
//!   inviter. A storage that locks its facts takes one lock for all late acceptances instead.
//! - An invite code of a deleted user is taken for ever: `owner/code/…` stays, with the id of a user that
//!   does not exist. The owner of a code is watched as well, so no invitation is added while its inviter is
//!   deleted.
//! - [`User::invited_count`] is exact: the inviter is watched and written.
//! - All sessions end when their user becomes staff: the user and `list/sessions/…` are watched.
//! - Retention deletes only what has ended: each document is watched, and its end is compared again.
//! - Times are exact: documents have microseconds as integers.
//!
//! Two kinds of reads are not watched, and the traits allow it: the counters of the whole service, which
//! every sign-in would change, and lists of users.
//!
//! # Keys
//!
//! Values are JSON, in the serialized form that `referral-core` defines. Each key starts with the prefix of
//! the storage.
//!
//! - `user/…`, `erased/…`, `invitation/…`, `challenge/…`, `session/…`, `counter/…`, `message/…`, `audit/…` and
//!   `code_request/…` are documents.
//! - `owner/phone/…`, `owner/code/…` and `owner/email/…` are the id of the user with this value.
//! - `list/…` is a sorted set of ids: all users with a phone, all without, all staff, all erased users, the
//!   invitees of a user, the challenges of a phone, the sessions of a user, the records of requests about a phone, or the entries of the
//!   audit log. The ids are UUIDs of version 7, which sort by their time.
//! - `ends/…` is a sorted set of the ids of one kind of document, by the time after which retention deletes
//!   them.
//! - `count/…` is the number of events of the whole service in a minute or an hour.
//! - `attack_until`, `keys`, `settings` and `ready` are single values.
//!
//! # Limits of this example
//!
//! - A search and each filter reads all users. A storage for many users has an index for each filter, and an
//!   index of n-grams for the search. It also limits the lists that [are expensive][expensive].
//! - A page by an offset takes longer the larger the offset is. Pages by a cursor do not.
//! - Writes are as durable as the configuration of Redis: `appendfsync always` loses none, the default loses
//!   about a second. Keys must not be evicted (`maxmemory-policy noeviction`).
//! - Redis Cluster is not supported, because a transaction uses keys of several slots. After a fail-over to a
//!   replica, the newest writes may be missing.
//!
//! [`SessionStorage::refresh`]: referral_core::storage::SessionStorage::refresh
//! [expensive]: referral_core::storage::UserQuery::is_expensive
//! [`User::invited_count`]: referral_core::User::invited_count

mod audit;
mod challenges;
mod code_requests;
mod counters;
mod daily_counts;
mod deletion;
mod documents;
mod import;
mod maintenance;
mod phone_change;
#[cfg(test)]
#[path = "../tests/conformance/server.rs"]
mod server;
mod sessions;
mod transaction;
mod users;

use std::{sync::Arc, time::Duration};

use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleResult};
use redis::{AsyncConnectionConfig, Client, RedisError, RetryMethod, aio::MultiplexedConnection};
use referral_core::storage::{Result, StorageError};

use self::transaction::Transaction;

/// Connections of one storage, and so the number of operations that it executes concurrently.
const CONNECTIONS: usize = 8;

/// Time limit of Redis to accept a connection and to respond to a command. It is long, because an outcome is
/// unknown after it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts after which an operation fails because its facts changed each time. Each conflict means that
/// another operation was committed, so only an overloaded storage reaches this number. With a hundred
/// concurrent operations on the same facts, the conformance suite needs about 30 attempts.
const MAX_ATTEMPTS: u32 = 1_000;

/// Storage in Redis.
#[derive(Debug)]
pub struct RedisStorage {
    pool: Pool<Connector>,
    /// Text before each key.
    prefix: Arc<str>,
}

impl RedisStorage {
    /// Creates a storage in the database at a URL such as `redis://127.0.0.1:6379/0`. The key of each value
    /// starts with `prefix`.
    ///
    /// # Errors
    ///
    /// [`StorageError::Failed`] if the URL is invalid. The first operations open the connections.
    pub fn new(url: &str, prefix: &str) -> Result<Self> {
        let client = Client::open(url).map_err(failure)?;
        let pool = Pool::builder(Connector { client }).max_size(CONNECTIONS).build();
        Ok(Self { pool: pool.map_err(|error| StorageError::Failed(error.into()))?, prefix: prefix.into() })
    }

    /// Starts a transaction on a connection of its own.
    async fn start(&self) -> Result<Transaction> {
        let connection = self.pool.get().await.map_err(|error| StorageError::Unavailable(error.into()))?;
        Ok(Transaction::new(connection, Arc::clone(&self.prefix)))
    }

    /// Executes an operation, and repeats it until no facts change between its reads and its commit.
    async fn transaction<T, F>(&self, attempt: impl Fn(Transaction) -> F) -> Result<T>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        for _ in 0..MAX_ATTEMPTS {
            if let Some(outcome) = attempt(self.start().await?).await? {
                return Ok(outcome);
            }
        }
        Err(StorageError::Unavailable("other operations changed the facts at each attempt".into()))
    }
}

/// Connection that only one operation uses at a time, since the watched keys belong to the connection.
type Connection = Object<Connector>;

/// Opener of the connections of a pool.
#[derive(Debug)]
struct Connector {
    client: Client,
}

impl Manager for Connector {
    type Type = MultiplexedConnection;
    type Error = RedisError;

    async fn create(&self) -> std::result::Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new();
        let config = config.set_connection_timeout(Some(TIMEOUT)).set_response_timeout(Some(TIMEOUT));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Discards the watched keys of an operation that was not committed, and detects a lost connection.
    async fn recycle(
        &self,
        connection: &mut MultiplexedConnection,
        _: &Metrics,
    ) -> RecycleResult<RedisError> {
        Ok(redis::cmd("UNWATCH").exec_async(connection).await?)
    }
}

/// Converts an error of Redis. A later attempt may succeed, unless Redis rejects the command itself.
fn failure(error: RedisError) -> StorageError {
    match error.retry_method() {
        RetryMethod::NoRetry => StorageError::Failed(error.into()),
        _ => StorageError::Unavailable(error.into()),
    }
}
