//! Connections of the storage: those of its own pool, or those of a pool of the host.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use referral_core::storage::{Result, StorageError};
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};

use super::hosts::Hosts;
use crate::{
    error::failure,
    pool::{self, AcquireError, PooledConnection},
};

/// Pool of connections. Clones share the pool.
#[derive(Clone)]
pub(super) enum Connections {
    Own(pool::Connections<Hosts>),
    /// Pool of the host, which closes it and replaces broken connections.
    OfHost {
        pool: PgPool,
        /// Time to wait for a connection.
        timeout: Duration,
        /// `true` after the storage was closed.
        is_closed: Arc<AtomicBool>,
    },
}

impl Connections {
    pub(super) async fn acquire(&self) -> Result<Connection<'static>> {
        match self {
            Self::Own(pool) => pool.acquire().await.map(Connection::Own).map_err(own_failure),
            Self::OfHost { timeout, .. } => self.acquire_within(*timeout).await,
        }
    }

    /// Acquires a connection, but waits no longer than `timeout` if all are in use.
    pub(super) async fn acquire_within(&self, timeout: Duration) -> Result<Connection<'static>> {
        match self {
            Self::Own(pool) => pool.acquire_within(timeout).await.map(Connection::Own).map_err(own_failure),
            Self::OfHost { is_closed, .. } if is_closed.load(Ordering::Relaxed) => {
                Err(failure(sqlx::Error::PoolClosed))
            }
            Self::OfHost { pool, .. } => {
                let acquired = tokio::time::timeout(timeout, pool.acquire()).await;
                let acquired = acquired.unwrap_or(Err(sqlx::Error::PoolTimedOut));
                acquired.map(Connection::OfHost).map_err(failure)
            }
        }
    }

    /// Drops the connections that were opened before `time`, because the failure that broke one of them has most
    /// likely broken all. The pool of a host checks each connection when it is acquired.
    pub(super) fn drop_opened_before(&self, time: Instant) {
        if let Self::Own(pool) = self {
            pool.drop_opened_before(time);
        }
    }

    /// Closes the pool. That of the host stays open, but no connection is acquired any more.
    pub(super) async fn close(&self) {
        match self {
            Self::Own(pool) => pool.close().await,
            Self::OfHost { is_closed, .. } => is_closed.store(true, Ordering::Relaxed),
        }
    }
}

fn own_failure(error: AcquireError<super::hosts::NotConnected>) -> StorageError {
    match error {
        AcquireError::TimedOut => failure(sqlx::Error::PoolTimedOut),
        AcquireError::Closed => failure(sqlx::Error::PoolClosed),
        AcquireError::NotOpened(error) if error.is_transient() => StorageError::Unavailable(error.into()),
        AcquireError::NotOpened(error) => StorageError::Failed(error.into()),
    }
}

/// Connection that returns to its pool when it is dropped, or that belongs to a transaction of the host.
pub(super) enum Connection<'c> {
    Own(PooledConnection<Hosts>),
    OfHost(PoolConnection<Postgres>),
    InTransaction(&'c mut PgConnection),
}

impl Connection<'_> {
    /// Returns the connection if it is from a pool.
    pub(super) fn pooled(self) -> Option<Connection<'static>> {
        match self {
            Self::Own(connection) => Some(Connection::Own(connection)),
            Self::OfHost(connection) => Some(Connection::OfHost(connection)),
            Self::InTransaction(_) => None,
        }
    }

    /// Closes the connection, which does not return to its pool. The host ends its transaction itself.
    pub(super) fn discard(self) {
        match self {
            Self::Own(connection) => drop(PooledConnection::take(connection)),
            Self::OfHost(connection) => drop(connection.detach()),
            Self::InTransaction(_) => {}
        }
    }
}

impl Deref for Connection<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Own(connection) => connection,
            Self::OfHost(connection) => connection,
            Self::InTransaction(connection) => connection,
        }
    }
}

impl DerefMut for Connection<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Own(connection) => connection,
            Self::OfHost(connection) => connection,
            Self::InTransaction(connection) => connection,
        }
    }
}
