//! PostgreSQL: facts in one statement, and in one more what was decided, which holds only if the
//! facts still do.
//!
//! A transaction that locks what it reads would be five round trips: begin, facts, decision, write,
//! commit. Here a request is two, and the second is a transaction of its own: it names the facts
//! that the decision hangs on and changes nothing where they have changed. Then all begins anew.
//!
//! | Facts of | are still true if |
//! |---|---|
//! | a challenge | it is not redeemed and has as many tries as it had |
//! | a session | its refresh token is the one it was |
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

use referral_core::storage::Result;
use sqlx::{
    PgConnection, PgPool, Postgres, SqlSafeStr, Transaction, pool::PoolConnection, postgres::PgArguments,
    query::Query,
};

pub use self::open::PostgresOptions;
pub(crate) use self::{open::open, repeat::is_passing};
use crate::error::failure;

/// A PostgreSQL database.
pub(crate) struct PostgresStore {
    pool: PgPool,
    /// Whether another process hands out the connections, a different one for each transaction.
    behind_pooler: bool,
    /// What a transaction begins with.
    begin: String,
}

impl PostgresStore {
    /// A connection for statements that are each a transaction of their own; through a pooler they
    /// are one, since the next statement might reach another connection, which was not told of it.
    async fn lease(&self) -> Result<Lease> {
        if self.behind_pooler {
            return self.begin().await;
        }
        Ok(Lease::Single(self.pool.acquire().await.map_err(failure)?))
    }

    /// A transaction. Dropping it undoes it.
    async fn begin(&self) -> Result<Lease> {
        let begin = sqlx::AssertSqlSafe(self.begin.clone());
        let transaction = self.pool.begin_with(begin).await.map_err(failure)?;
        Ok(Lease::Transaction { transaction, is_prepared: !self.behind_pooler })
    }
}

/// A connection for one request.
enum Lease {
    /// On which each statement is a transaction.
    Single(PoolConnection<Postgres>),
    /// On which all statements are one.
    Transaction {
        transaction: Transaction<'static, Postgres>,
        /// Whether statements stay prepared from one transaction to the next.
        is_prepared: bool,
    },
}

impl Lease {
    fn query<'q>(&self, statement: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(statement).persistent(self.is_prepared())
    }

    fn is_prepared(&self) -> bool {
        match self {
            Self::Single(_) => true,
            Self::Transaction { is_prepared, .. } => *is_prepared,
        }
    }

    fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::Single(connection) => connection,
            Self::Transaction { transaction, .. } => transaction,
        }
    }

    /// Commits what is not committed yet.
    async fn finish(self) -> Result<()> {
        match self {
            Self::Single(_) => Ok(()),
            Self::Transaction { transaction, .. } => transaction.commit().await.map_err(repeat::not_written),
        }
    }
}
