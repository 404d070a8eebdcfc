//! PostgreSQL: facts in one statement, and in one more what was decided, which holds only if the
//! facts still do.
//!
//! A transaction that locks what it reads would be five round trips: begin, facts, decision, write,
//! commit. Here most requests are two, and the second is a transaction of its own: it names the facts
//! that the decision hangs on and changes nothing where they have changed. Then all begins anew.
//!
//! | Facts of | are still true if |
//! |---|---|
//! | a challenge | it is not redeemed and has as many tries as it had |
//! | a session | its refresh token is the one it was, and it has not been ended |
//! | a counter | its stamps are what they were |
//! | the newest challenge of a phone | the number after it is free |
//! | who has a phone, an address, an inviter | the unique index lets the new one in |
//!
//! Two rules need more, and take a transaction with a lock: naming an inviter late, since a loop can
//! close over any number of users, and agreeing on keys. So each is right under READ COMMITTED, and
//! with the retries of [`repeat`] on engines that abort more readily too.

mod hosts;
mod list;
mod load;
mod migrations;
mod open;
#[cfg(test)]
mod plans;
mod repeat;
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
    repeat::{is_broken, is_of_standby},
};
pub(crate) use self::{open::open, repeat::is_passing};
use crate::{
    bulkhead::{Bulkhead, Place},
    error::failure,
    pool::{AcquireError, Connections, Loan},
};

/// Time that a check waits for a connection while requests use all of them.
const SHORT_WAIT: Duration = Duration::from_millis(100);

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A PostgreSQL database.
pub(crate) struct PostgresStore {
    pool: Connections<Hosts>,
    /// Whether another process hands out the connections, a different one for each transaction.
    behind_pooler: bool,
    /// First statements of a transaction.
    begin: Arc<str>,
    /// First statements of a transaction with an expensive list.
    begin_list: Arc<str>,
    /// Places for expensive lists.
    lists: Bulkhead,
    /// Whether the disk of the database was full when something was written last.
    is_full: AtomicBool,
    /// Places for requests that write: fewer than connections, so that reads find a connection while
    /// commits wait for a standby that does not answer.
    writes: Arc<Semaphore>,
    /// Time that a request waits for a place to write.
    acquire_timeout: Duration,
    /// Time that a statement may take as seen from here: the limit that the server enforces, and what the
    /// response takes. A server that has gone silent enforces nothing.
    response_timeout: Duration,
}

impl PostgresStore {
    /// Returns a connection for statements that are each a transaction of their own. Behind a pooler they
    /// are one transaction, since the next statement might reach another connection, without the settings
    /// of the first.
    async fn lease(&self) -> Result<Lease> {
        if self.behind_pooler {
            self.begin_with(&self.begin, None, None).await
        } else {
            self.open(None).await
        }
    }

    /// The same, for statements that write.
    async fn lease_to_write(&self) -> Result<Lease> {
        let place = self.place_to_write().await?;
        if self.behind_pooler {
            self.begin_with(&self.begin, None, Some(place)).await
        } else {
            self.open(Some(place)).await
        }
    }

    /// Begins a transaction that writes. Dropping it rolls it back.
    async fn begin(&self) -> Result<Lease> {
        let place = self.place_to_write().await?;
        self.begin_with(&self.begin, None, Some(place)).await
    }

    /// Begins a transaction for an expensive list, which holds its place as long as the database works
    /// on it, even after its caller has gone.
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
        // From here on, since the server may begin it although the response arrives too late.
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

/// A connection for one request: all statements on it are one transaction, or each is.
struct Lease {
    pool: Connections<Hosts>,
    /// There until it is dropped.
    connection: Option<Loan<Hosts>>,
    response_timeout: Duration,
    /// Whether a transaction is open.
    in_transaction: bool,
    state: State,
    /// Whether statements stay prepared from one transaction to the next.
    is_prepared: bool,
    /// Place of an expensive list.
    list: Option<Arc<Place>>,
    /// Place of a request that writes.
    write: Option<OwnedSemaphorePermit>,
}

/// State of a connection on loan.
#[derive(PartialEq, Eq)]
enum State {
    /// A statement may run, or a transaction may be open.
    InUse,
    /// All statements have been answered and committed.
    Settled,
    /// A statement was not answered in time. The server is gone, or a commit waits for a standby.
    Silent,
    /// It cannot be used any more.
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

    /// Waits for the database, but not for ever, and notes if the connection broke.
    async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let connection = self.connection.as_mut().expect("it is there until it is dropped");
        let done = within(self.response_timeout, work(connection)).await;
        self.state = match &done {
            Err(error) if is_timeout(error) => State::Silent,
            Err(error) if is_broken(error) || is_of_standby(error) => State::Broken,
            _ => State::InUse,
        };
        done
    }

    /// Commits what is not committed yet, and gives the connection back.
    async fn finish(mut self) -> Result<()> {
        if self.in_transaction {
            self.execute_text("COMMIT").await.map_err(repeat::not_written)?;
        }
        self.state = State::Settled;
        Ok(())
    }
}

/// Waits for a response of the database up to `timeout`.
async fn within<T>(timeout: Duration, response: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match tokio::time::timeout(timeout, response).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the database did not respond in time").into()),
    }
}

fn is_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Rolls back immediately, not when the connection is used next: other requests may wait for its locks, and
/// the next statement would get its responses. Drops the connection if that fails.
impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take().filter(|_| self.state != State::Settled) else {
            return;
        };
        let runtime = tokio::runtime::Handle::try_current().ok().filter(|_| self.state != State::Broken);
        let Some(runtime) = runtime else {
            drop(Loan::take(connection));
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

/// A connection whose lease was dropped before it was settled, with the places that it keeps until then.
struct Unsettled {
    pool: Connections<Hosts>,
    connection: Loan<Hosts>,
    response_timeout: Duration,
    in_transaction: bool,
    /// Whether the server was waited for in vain already.
    is_silent: bool,
    _list: Option<Arc<Place>>,
    write: Option<OwnedSemaphorePermit>,
}

impl Unsettled {
    async fn settle(mut self) {
        if !self.is_settled().await {
            drop(Loan::take(self.connection));
        }
    }

    /// Waits for the server. While commits wait for a standby, it keeps the connection and its place: the server
    /// would keep its side of a connection that was dropped, and so each write would cost it one more.
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

    /// Returns `true` if the server can be reached, and commits of this role wait for a standby there.
    async fn commits_wait(&self) -> bool {
        let Ok(mut connection) = self.pool.acquire_within(SHORT_WAIT).await else { return false };
        let waiting = connection.fetch_one(sqlx::raw_sql(statements::COMMITS_WAIT));
        let waiting =
            within(self.response_timeout, waiting).await.and_then(|row| row.try_get("commits_wait"));
        waiting.unwrap_or_else(|_| {
            drop(Loan::take(connection));
            false
        })
    }
}
