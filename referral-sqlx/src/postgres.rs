//! Storage in PostgreSQL, with optimistic concurrency control: one statement reads the facts, a second
//! statement writes the decision if the facts have not changed.
//!
//! A transaction that locks the rows that it reads would take several round trips: begin, lock, facts, write,
//! commit. Most requests here take two, and the second statement is a transaction of its own. It contains the
//! facts that the decision depends on, and writes nothing if they have changed. The request then starts
//! again.
//!
//! | Fact | Unchanged if |
//! |---|---|
//! | a challenge | it is not redeemed and has the same numbers of attempts |
//! | a session | it has the same refresh token and has not been ended |
//! | a counter | it has the same events |
//! | the newest challenge of a phone | the next number of the phone is free |
//! | the owner of a phone or an email address, the inviter of a user | the unique index accepts the new row |
//!
//! Two rules need a transaction with a lock: accepting an invitation late, because a loop of invitations can
//! include any number of users, and agreeing on keys. All statements are correct under READ COMMITTED. The
//! retries of [`repeat`] make them work on engines that abort transactions more often.

mod hosts;
mod list;
mod load;
mod migrations;
mod open;
#[cfg(test)]
mod query_plans;
mod retry;
mod rows;
mod statements;
mod store;
mod write;

use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use referral_core::storage::{Result, StorageError};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, Postgres, Row as _, SqlSafeStr,
    postgres::{PgArguments, PgQueryResult, PgRow},
    query::Query,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::open::PostgresOptions;
use self::{
    hosts::Hosts,
    retry::{is_broken, is_of_standby},
};
pub(crate) use self::{open::open, retry::is_transient};
use crate::{
    bulkhead::{Bulkhead, Place},
    error::failure,
    pool::{AcquireError, Connections, PooledConnection},
};

/// Time that a check waits for a connection while requests use all of them.
const SHORT_WAIT: Duration = Duration::from_millis(100);

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Storage in a PostgreSQL database.
pub(crate) struct PostgresStore {
    pool: Connections<Hosts>,
    /// `true` if a pooler may run each transaction on a different connection.
    behind_pooler: bool,
    /// First statements of a transaction.
    begin: Arc<str>,
    /// First statements of a transaction with an expensive list.
    begin_list: Arc<str>,
    /// Places for expensive lists.
    lists: Bulkhead,
    /// `true` if a write has failed because the disk of the database was full, until a check finds free space.
    is_full: AtomicBool,
    /// Places for requests that write. There are fewer places than connections, so that reads get a
    /// connection while commits wait for a standby that does not respond.
    writes: Arc<Semaphore>,
    /// Time that a request waits for a place to write.
    acquire_timeout: Duration,
    /// Time limit of a statement on the client side: the limit that the server enforces plus the time for the
    /// response. A server that does not respond enforces no limit.
    response_timeout: Duration,
}

impl PostgresStore {
    /// Returns a connection for statements that are separate transactions. Behind a pooler all of them are
    /// one transaction, because the next statement might reach another connection without the settings of the
    /// first.
    async fn lease(&self) -> Result<Lease> {
        self.lease_with(None).await
    }

    /// Returns a connection as [`lease`](Self::lease) does, for statements that write.
    async fn lease_to_write(&self) -> Result<Lease> {
        let place = self.place_to_write().await?;
        self.lease_with(Some(place)).await
    }

    async fn lease_with(&self, write: Option<OwnedSemaphorePermit>) -> Result<Lease> {
        if self.behind_pooler {
            self.begin_with(&self.begin, None, write).await
        } else {
            self.open(write).await
        }
    }

    /// Starts a transaction that writes. Dropping the lease rolls it back.
    async fn begin(&self) -> Result<Lease> {
        let place = self.place_to_write().await?;
        self.begin_with(&self.begin, None, Some(place)).await
    }

    /// Starts a transaction for an expensive list. The list keeps its place while the database works on it,
    /// even after the caller has dropped the request.
    async fn begin_list(&self, place: Arc<Place>) -> Result<Lease> {
        self.begin_with(&self.begin_list, Some(place), None).await
    }

    async fn begin_with(
        &self,
        begin: &str,
        list: Option<Arc<Place>>,
        write: Option<OwnedSemaphorePermit>,
    ) -> Result<Lease> {
        let mut lease = self.open(write).await?;
        // Set before the statement, because the server may start the transaction although its response is
        // late.
        lease.in_transaction = true;
        lease.is_prepared = !self.behind_pooler;
        lease.list = list;
        lease.execute_text(begin).await.map_err(failure)?;
        Ok(lease)
    }

    async fn open(&self, write: Option<OwnedSemaphorePermit>) -> Result<Lease> {
        let connection = self.pool.acquire().await.map_err(|error| match error {
            AcquireError::TimedOut => failure(sqlx::Error::PoolTimedOut),
            AcquireError::Closed => failure(sqlx::Error::PoolClosed),
            AcquireError::NotOpened(error) if error.is_transient() => StorageError::Unavailable(error.into()),
            AcquireError::NotOpened(error) => StorageError::Failed(error.into()),
        })?;
        Ok(Lease {
            pool: self.pool.clone(),
            connection: Some(connection),
            response_timeout: self.response_timeout,
            in_transaction: false,
            state: State::InUse,
            is_prepared: true,
            list: None,
            write,
        })
    }

    async fn place_to_write(&self) -> Result<OwnedSemaphorePermit> {
        let place = tokio::time::timeout(self.acquire_timeout, Arc::clone(&self.writes).acquire_owned());
        let place = place.await.map_err(|_| failure(sqlx::Error::PoolTimedOut))?;
        place.map_err(|_| failure(sqlx::Error::PoolClosed))
    }
}

/// Connection for one request. Either all statements on it are one transaction, or each statement is one.
struct Lease {
    pool: Connections<Hosts>,
    /// Present until the lease is dropped.
    connection: Option<PooledConnection<Hosts>>,
    response_timeout: Duration,
    /// `true` if a transaction is open.
    in_transaction: bool,
    state: State,
    /// `true` if statements stay prepared from one transaction to the next.
    is_prepared: bool,
    /// Place of an expensive list.
    list: Option<Arc<Place>>,
    /// Place of a request that writes.
    write: Option<OwnedSemaphorePermit>,
}

/// State of the connection of a lease.
#[derive(PartialEq, Eq)]
enum State {
    /// A statement may run, or a transaction may be open.
    InUse,
    /// All statements have finished and are committed.
    Settled,
    /// The server did not respond in time. It is unavailable, or a commit waits for a standby.
    Silent,
    /// The connection cannot be used any more.
    Broken,
}

impl Lease {
    fn query<'q>(&self, statement: impl SqlSafeStr) -> Statement<'q> {
        sqlx::query(statement).persistent(self.is_prepared)
    }

    async fn fetch_all(&mut self, statement: Statement<'_>) -> sqlx::Result<Vec<PgRow>> {
        self.run(async |connection| statement.fetch_all(connection).await).await
    }

    async fn fetch_one(&mut self, statement: Statement<'_>) -> sqlx::Result<PgRow> {
        self.run(async |connection| statement.fetch_one(connection).await).await
    }

    async fn fetch_optional(&mut self, statement: Statement<'_>) -> sqlx::Result<Option<PgRow>> {
        self.run(async |connection| statement.fetch_optional(connection).await).await
    }

    async fn execute(&mut self, statement: Statement<'_>) -> sqlx::Result<PgQueryResult> {
        self.run(async |connection| statement.execute(connection).await).await
    }

    /// Executes statements without values.
    async fn execute_text(&mut self, statements: &str) -> sqlx::Result<()> {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements));
        self.run(async |connection| connection.execute(statements).await.map(drop)).await
    }

    /// Runs `work` with a time limit, and records whether the connection broke.
    async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let connection =
            self.connection.as_mut().expect("the connection is present until the lease is dropped");
        let done = within(self.response_timeout, work(connection)).await;
        self.state = match &done {
            Err(error) if is_timeout(error) => State::Silent,
            Err(error) if is_broken(error) || is_of_standby(error) => State::Broken,
            _ => State::InUse,
        };
        done
    }

    /// Commits the open transaction, if there is one, and returns the connection to the pool.
    async fn finish(mut self) -> Result<()> {
        if self.in_transaction {
            self.execute_text("COMMIT").await.map_err(retry::write_error)?;
        }
        self.state = State::Settled;
        Ok(())
    }
}

/// Waits up to `timeout` for a response of the database.
async fn within<T>(timeout: Duration, response: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match tokio::time::timeout(timeout, response).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the database did not respond in time").into()),
    }
}

fn is_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Rolls back immediately and not when the connection is used next, because other requests may wait for the
/// locks of the transaction, and the next statement would get its responses. Drops the connection if the
/// rollback fails.
impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take().filter(|_| self.state != State::Settled) else {
            return;
        };
        let runtime = tokio::runtime::Handle::try_current().ok().filter(|_| self.state != State::Broken);
        let Some(runtime) = runtime else {
            drop(PooledConnection::take(connection));
            return;
        };
        let unsettled = Unsettled {
            pool: self.pool.clone(),
            connection,
            response_timeout: self.response_timeout,
            in_transaction: self.in_transaction,
            is_silent: self.state == State::Silent,
            _list: self.list.take(),
            write: self.write.take(),
        };
        runtime.spawn(unsettled.settle());
    }
}

/// Connection whose lease was dropped before it was settled. It keeps its places until it is settled.
struct Unsettled {
    pool: Connections<Hosts>,
    connection: PooledConnection<Hosts>,
    response_timeout: Duration,
    in_transaction: bool,
    /// `true` if the server did not respond in time before.
    is_silent: bool,
    _list: Option<Arc<Place>>,
    write: Option<OwnedSemaphorePermit>,
}

impl Unsettled {
    async fn settle(mut self) {
        if !self.is_settled().await {
            drop(PooledConnection::take(self.connection));
        }
    }

    /// Waits for the server and rolls back. Returns `false` if the connection cannot be used any more.
    ///
    /// While commits wait for a standby, the connection and its place are kept. If the connection were
    /// dropped, the server would keep its side open, and each write would occupy another connection of the
    /// server.
    async fn is_settled(&mut self) -> bool {
        loop {
            if !self.is_silent {
                match within(self.response_timeout, self.roll_back()).await {
                    Ok(()) => return true,
                    Err(error) if !is_timeout(&error) => return false,
                    Err(_) => {}
                }
            }
            self.is_silent = false;
            if self.write.is_none() || !self.commits_wait().await {
                return false;
            }
        }
    }

    async fn roll_back(&mut self) -> sqlx::Result<()> {
        if self.in_transaction {
            self.connection.execute("ROLLBACK").await.map(drop)
        } else {
            self.connection.ping().await
        }
    }

    /// Returns `true` if the server can be reached and commits of this role wait for a standby.
    async fn commits_wait(&self) -> bool {
        let Ok(mut connection) = self.pool.acquire_within(SHORT_WAIT).await else { return false };
        let waiting = connection.fetch_one(sqlx::raw_sql(statements::COMMITS_WAIT));
        let waiting =
            within(self.response_timeout, waiting).await.and_then(|row| row.try_get("commits_wait"));
        waiting.unwrap_or_else(|_| {
            drop(PooledConnection::take(connection));
            false
        })
    }
}
