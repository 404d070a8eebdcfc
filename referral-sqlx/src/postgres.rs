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
//! | a message | it has the same status, and is still ours or not |
//! | the user who signs in | the phone, `is_active` and `staff_role` have the same values |
//! | the newest challenge of a phone | the next number of the phone is free |
//! | the owner of a phone or an email address, the inviter of a user | the unique index accepts the new row |
//! | the owner of an invite code, the user of a new session | it is not erased (triggers) |
//!
//! Six operations need a transaction with a lock: accepting an invitation late, because a loop of invitations
//! can include any number of users, editing a profile, changing a user for the host, deleting a user, making
//! a user staff, and agreeing on keys. All statements are correct under READ COMMITTED. The retries of
//! [`repeat`] make them work on engines that abort transactions more often.

mod add_user;
mod audit;
mod challenges;
mod change_user;
mod code_requests;
mod connections;
mod counters;
mod daily_counts;
mod deletion;
pub(crate) mod error;
mod host_transaction;
mod hosts;
mod import;
mod invitations;
mod keys;
mod lease;
mod list;
mod maintenance;
mod messages;
mod migrations;
mod open;
mod phone_change;
mod profiles;
#[cfg(test)]
mod query_plans;
mod retry;
mod rows;
mod schema;
mod sessions;
mod sign_in;
mod store;
mod users;
mod write;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use referral_core::storage::Result;
use sqlx::Postgres;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::open::PostgresOptions;

/// Statements that the benchmark runs without the server, to compare the speed.
#[cfg(feature = "benchmark")]
pub mod statements {
    use super::{challenges, counters, sessions, sign_in, users, write::Write};

    /// Facts for a request for a code.
    pub const CHALLENGE_FACTS: &str = challenges::CHALLENGE_FACTS;
    /// Facts for a sign-in with the id of a challenge.
    pub const SIGN_IN_FACTS_NAMED: &str = sign_in::SIGN_IN_FACTS_NAMED;
    /// Session with its user and the newest invitees.
    pub const SESSION_WITH_INVITED: &str = sessions::SESSION_WITH_INVITED;

    /// Returns the statement that adds a challenge and changes one counter.
    #[must_use]
    pub fn add_challenge() -> String {
        composed(&[challenges::KEEP_NEWEST, challenges::ADD_CHALLENGE, counters::PUT_COUNTER])
    }

    /// Returns the statement that signs a user in and keeps one counter.
    #[must_use]
    pub fn sign_in() -> String {
        let steps =
            [sign_in::CHANGE_CHALLENGE, counters::KEEP_COUNTER, sign_in::RECORD_LOGIN, sign_in::ADD_SESSION];
        composed(&steps)
    }

    /// Returns the statement that adds a user, signs the user in and keeps one counter.
    #[must_use]
    pub fn sign_up() -> String {
        composed(&[
            sign_in::CHANGE_CHALLENGE,
            counters::KEEP_COUNTER,
            users::ADD_USER,
            users::ADD_SEARCH_KEYS,
            sign_in::ADD_SESSION,
        ])
    }

    fn composed(steps: &[&str]) -> String {
        let mut write = Write::new();
        for (index, step) in steps.iter().enumerate() {
            // A step can refer to the newest challenge by its name.
            match *step {
                challenges::KEEP_NEWEST => write.optional_step("newest", step),
                _ => write.step(&format!("step_{index}"), step),
            };
        }
        write.finish().map(|statement| statement.sql).unwrap_or_default()
    }
}

use self::{
    connections::{Connection, Connections},
    lease::{AnyLease, Lease, State},
    schema::Schema,
};
use crate::{
    bulkhead::{Bulkhead, Place},
    error::failure,
    hook::TransactionHook,
    migrations::Migrations,
};

/// Storage in a PostgreSQL database. Create it with [`connect`](Self::connect) or
/// [`with_pool`](Self::with_pool).
pub struct PostgresStorage {
    pool: Connections,
    schema: Schema,
    migrations: Migrations,
    hook: Option<Arc<dyn TransactionHook<Postgres>>>,
    /// `true` if each request is a transaction with its own settings, because the connections have none.
    in_transactions: bool,
    /// `true` if statements stay prepared on a connection.
    is_prepared: bool,
    /// First statements of a transaction.
    begin: Arc<str>,
    /// First statements of a transaction with an expensive list.
    begin_list: Arc<str>,
    /// Places for expensive lists.
    lists: Bulkhead,
    /// `true` if a write has failed because the disk of the database was full, until a check finds free
    /// space.
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

impl PostgresStorage {
    /// Returns a connection for statements that are separate transactions. On connections without settings all
    /// of them are one transaction: behind a pooler the next statement might reach another connection, and the
    /// connections of a host keep its settings.
    async fn lease(&self) -> Result<Lease> {
        self.lease_with(None).await
    }

    /// Returns a connection as [`lease`](Self::lease) does, for statements that write.
    async fn lease_to_write(&self) -> Result<Lease> {
        let place = self.place_to_write().await?;
        self.lease_with(Some(place)).await
    }

    async fn lease_with(&self, write: Option<OwnedSemaphorePermit>) -> Result<Lease> {
        if self.in_transactions {
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
        lease.list = list;
        lease.begin(begin).await?;
        Ok(lease)
    }

    async fn open(&self, write: Option<OwnedSemaphorePermit>) -> Result<Lease> {
        let mut lease = self.lease_of(self.pool.acquire().await?);
        lease.write = write;
        Ok(lease)
    }

    /// Returns a lease of a connection, for statements that are separate transactions unless one is open.
    fn lease_of<'c>(&self, connection: Connection<'c>) -> AnyLease<'c> {
        AnyLease {
            pool: self.pool.clone(),
            connection: Some(connection),
            schema: self.schema.clone(),
            hook: self.hook.clone(),
            begin: Arc::clone(&self.begin),
            response_timeout: self.response_timeout,
            in_transaction: false,
            state: State::InUse,
            is_prepared: self.is_prepared,
            list: None,
            write: None,
        }
    }

    async fn place_to_write(&self) -> Result<OwnedSemaphorePermit> {
        let place = tokio::time::timeout(self.acquire_timeout, Arc::clone(&self.writes).acquire_owned());
        let place = place.await.map_err(|_| failure(sqlx::Error::PoolTimedOut))?;
        place.map_err(|_| failure(sqlx::Error::PoolClosed))
    }
}
