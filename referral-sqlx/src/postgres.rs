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

use std::sync::Arc;

use referral_core::storage::Result;
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, Postgres, SqlSafeStr, postgres::PgArguments,
    query::Query,
};

pub use self::open::PostgresOptions;
pub(crate) use self::{open::open, repeat::is_passing};
use crate::{
    bulkhead::{Bulkhead, Place},
    error::failure,
    pool::{Connections, Loan},
};

/// A PostgreSQL database.
pub(crate) struct PostgresStore {
    pool: Connections<PgConnection>,
    /// Whether another process hands out the connections, a different one for each transaction.
    behind_pooler: bool,
    /// What a transaction begins with.
    begin: Arc<str>,
    /// Beginning of a transaction with an expensive list.
    begin_list: Arc<str>,
    /// Places for expensive lists.
    lists: Bulkhead,
}

impl PostgresStore {
    /// A connection for statements that are each a transaction of their own; through a pooler they
    /// are one, since the next statement might reach another connection, which was not told of it.
    async fn lease(&self) -> Result<Lease> {
        if self.behind_pooler {
            return self.begin().await;
        }
        let connection = self.pool.acquire().await.map_err(failure)?;
        Ok(Lease {
            connection: Some(connection),
            in_transaction: false,
            is_settled: false,
            is_prepared: true,
            place: None,
        })
    }

    /// A transaction. Dropping it undoes it.
    async fn begin(&self) -> Result<Lease> {
        self.begin_with(&self.begin, None).await
    }

    /// Begins a transaction for an expensive list, which holds its place as long as the database works
    /// on it, even after its caller has gone.
    async fn begin_list(&self, place: Arc<Place>) -> Result<Lease> {
        self.begin_with(&self.begin_list, Some(place)).await
    }

    async fn begin_with(&self, begin: &str, place: Option<Arc<Place>>) -> Result<Lease> {
        let connection = self.pool.acquire().await.map_err(failure)?;
        // Begun as soon as the server is asked: the answer may come after nobody waits any more.
        let mut lease = Lease {
            connection: Some(connection),
            in_transaction: true,
            is_settled: false,
            is_prepared: !self.behind_pooler,
            place,
        };
        let begin = sqlx::raw_sql(AssertSqlSafe(begin));
        lease.connection().execute(begin).await.map_err(failure)?;
        Ok(lease)
    }
}

/// A connection for one request: all statements on it are one transaction, or each is.
struct Lease {
    /// There until it is dropped.
    connection: Option<Loan<PgConnection>>,
    /// Whether a transaction is open.
    in_transaction: bool,
    /// Whether all that was asked on it has been answered.
    is_settled: bool,
    /// Whether statements stay prepared from one transaction to the next.
    is_prepared: bool,
    /// Place of an expensive list.
    place: Option<Arc<Place>>,
}

impl Lease {
    fn query<'q>(&self, statement: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(statement).persistent(self.is_prepared)
    }

    fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is there until it is dropped")
    }

    /// Commits what is not committed yet, and gives the connection back.
    async fn finish(mut self) -> Result<()> {
        if self.in_transaction {
            self.connection().execute("COMMIT").await.map_err(repeat::not_written)?;
        }
        self.is_settled = true;
        Ok(())
    }
}

/// What was not finished is undone at once, and not when somebody needs the connection: others may
/// wait for its locks, and whoever came next would get its answers. It is no longer needed if that
/// fails.
impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take().filter(|_| !self.is_settled) else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            drop(Loan::take(connection));
            return;
        };
        let (in_transaction, place) = (self.in_transaction, self.place.take());
        runtime.spawn(async move {
            let settled = if in_transaction {
                connection.execute("ROLLBACK").await.map(drop)
            } else {
                connection.ping().await
            };
            if settled.is_err() {
                drop(Loan::take(connection));
            }
            drop(place);
        });
    }
}
