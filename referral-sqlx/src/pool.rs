//! Pools of connections, for either database.
//!
//! The pool of `sqlx` pings a connection each time that it is returned, which costs as much as the one
//! statement that most requests are. This pool pings only connections that were idle for a while. A
//! connection that broke fails its next statement, which is repeated on another one.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult, Timeouts},
};
use sqlx::Connection;

/// Time after which an idle connection is pinged before it is used: a firewall or balancer may have
/// dropped it.
const IDLE: Duration = Duration::from_secs(30);

/// Time after which a connection is replaced, so that the server frees the memory that it collected.
const LIFETIME: Duration = Duration::from_mins(30);

/// Opens the connections of a pool.
pub(crate) trait Connect: Send + Sync + 'static {
    /// The connections that it opens.
    type Connection: Connection;
    /// The error if it cannot.
    type Error: fmt::Debug + Send + From<sqlx::Error>;
    /// `true` if connections can break and must be replaced: those to a server, but not those to a file.
    const IS_REMOTE: bool;

    /// Opens a connection.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;
}

/// Connection on loan, which returns to its pool when it is dropped.
pub(crate) type Loan<C> = Object<Opener<C>>;

/// Connections that are opened when they are needed. Clones share them.
pub(crate) struct Connections<C: Connect> {
    pool: Pool<Opener<C>>,
}

impl<C: Connect> Clone for Connections<C> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone() }
    }
}

/// Error of a request for a connection.
#[derive(Debug)]
pub(crate) enum AcquireError<E> {
    /// All connections were in use, or none was opened in time.
    TimedOut,
    /// The pool has been closed.
    Closed,
    /// A connection could not be opened.
    NotOpened(E),
}

impl<E> From<PoolError<E>> for AcquireError<E> {
    fn from(error: PoolError<E>) -> Self {
        match error {
            PoolError::Backend(error) => Self::NotOpened(error),
            PoolError::Closed => Self::Closed,
            _ => Self::TimedOut,
        }
    }
}

impl<C: Connect> Connections<C> {
    /// Creates a pool of up to `size` connections. Waiting for one, opening it and pinging it take up to
    /// `patience` each.
    pub(crate) fn new(connect: C, size: u32, patience: Duration) -> Self {
        let pool = Pool::builder(Opener { connect, opened_after: Mutex::new(None) })
            // The connection that was returned last is the one whose memory is still in the caches.
            .queue_mode(QueueMode::Lifo)
            .max_size(usize::try_from(size).unwrap_or(usize::MAX))
            .wait_timeout(Some(patience))
            .create_timeout(Some(patience))
            .recycle_timeout(Some(patience))
            .runtime(Runtime::Tokio1)
            .build();
        Self { pool: pool.expect("a runtime is given for the timeouts") }
    }

    pub(crate) async fn acquire(&self) -> Result<Loan<C>, AcquireError<C::Error>> {
        self.pool.get().await.map_err(AcquireError::from)
    }

    /// Acquires a connection, but waits no longer than `patience` for one that is in use.
    #[cfg(feature = "postgres")]
    pub(crate) async fn acquire_within(&self, patience: Duration) -> Result<Loan<C>, AcquireError<C::Error>> {
        let timeouts = Timeouts { wait: Some(patience), ..self.pool.timeouts() };
        self.pool.timeout_get(&timeouts).await.map_err(AcquireError::from)
    }

    /// Drops the connections that were opened before `time`: the idle ones now, the others when they are
    /// returned. What broke one of them has most likely broken all.
    #[cfg(feature = "postgres")]
    pub(crate) fn drop_opened_before(&self, time: Instant) {
        let mut opened_after = self.pool.manager().opened_after();
        *opened_after = (*opened_after).max(Some(time));
        drop(opened_after);
        self.pool.retain(|_, metrics| metrics.created >= time);
    }

    /// Closes all connections, those on loan when they are returned, and lends no more.
    pub(crate) async fn close(&self) {
        loop {
            for connection in self.pool.retain(|_, _| false).removed {
                let _ = connection.close().await;
            }
            if self.pool.status().size == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.pool.close();
    }
}

/// Opens connections, and decides whether they are used again.
pub(crate) struct Opener<C> {
    connect: C,
    /// Connections that were opened before are not used again.
    opened_after: Mutex<Option<Instant>>,
}

impl<C> Opener<C> {
    fn opened_after(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.opened_after.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Connect> Manager for Opener<C> {
    type Type = C::Connection;
    type Error = C::Error;

    async fn create(&self) -> Result<C::Connection, C::Error> {
        self.connect.connect().await
    }

    async fn recycle(&self, connection: &mut C::Connection, metrics: &Metrics) -> RecycleResult<C::Error> {
        if !C::IS_REMOTE {
            return Ok(());
        }
        let is_suspect = self.opened_after().is_some_and(|time| metrics.created < time);
        if is_suspect || metrics.age() > LIFETIME {
            return Err(RecycleError::message("the connection is suspect or has reached its lifetime"));
        }
        if metrics.last_used() > IDLE {
            connection.ping().await.map_err(|error| RecycleError::Backend(error.into()))?;
        }
        Ok(())
    }
}
