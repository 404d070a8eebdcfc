//! Connection pools for both databases.
//!
//! The pool of `sqlx` pings a connection each time that it is returned. Most requests are one statement, and
//! the ping costs as much as that statement. This pool pings only connections that were idle for a while. The
//! next statement on a broken connection fails and is repeated on another connection.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult},
};

/// Time after which an idle connection is pinged before it is used: a firewall or balancer may have
/// dropped it.
const IDLE: Duration = Duration::from_secs(30);

/// Time after which a connection is replaced, so that the server frees the memory that it collected.
const LIFETIME: Duration = Duration::from_mins(30);

/// Opens the connections of a pool.
pub(crate) trait Connect: Send + Sync + 'static {
    /// Type of the connections.
    type Connection: Pooled;
    /// Error of opening a connection.
    type Error: fmt::Debug + Send;
    /// `true` if connections can break and must be replaced. This applies to a server, but not to a file.
    const IS_REMOTE: bool;

    /// Opens a connection.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;
}

/// Connection that a pool can keep.
pub(crate) trait Pooled: Send + 'static {
    fn ping(&mut self) -> impl Future<Output = sqlx::Result<()>> + Send;

    fn close(self) -> impl Future<Output = sqlx::Result<()>> + Send;
}

#[cfg(feature = "postgres")]
impl Pooled for sqlx::PgConnection {
    async fn ping(&mut self) -> sqlx::Result<()> {
        sqlx::Connection::ping(self).await
    }

    async fn close(self) -> sqlx::Result<()> {
        sqlx::Connection::close(self).await
    }
}

/// Connection that returns to its pool when it is dropped.
pub(crate) type PooledConnection<C> = Object<Opener<C>>;

/// Pool of connections that are opened on demand. Clones share the pool.
pub(crate) struct Connections<C: Connect> {
    pool: Pool<Opener<C>>,
}

impl<C: Connect> Clone for Connections<C> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone() }
    }
}

/// Error of acquiring a connection.
#[derive(Debug)]
pub(crate) enum AcquireError<E> {
    /// All connections were in use, or no connection was opened in time.
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
    /// Creates a pool of up to `size` connections. `timeout` is the time limit for waiting for a connection,
    /// for opening it and for pinging it, each.
    pub(crate) fn new(connect: C, size: u32, timeout: Duration) -> Self {
        let pool = Pool::builder(Opener { connect, opened_after: Mutex::new(None) })
            // The memory of the connection that was returned last is most likely still in the CPU caches.
            .queue_mode(QueueMode::Lifo)
            .max_size(usize::try_from(size).unwrap_or(usize::MAX))
            .wait_timeout(Some(timeout))
            .create_timeout(Some(timeout))
            .recycle_timeout(Some(timeout))
            .runtime(Runtime::Tokio1)
            .build();
        Self { pool: pool.expect("the runtime that timeouts require is set") }
    }

    pub(crate) async fn acquire(&self) -> Result<PooledConnection<C>, AcquireError<C::Error>> {
        self.pool.get().await.map_err(AcquireError::from)
    }

    /// Acquires a connection, but waits no longer than `timeout` if all are in use.
    #[cfg(feature = "postgres")]
    pub(crate) async fn acquire_within(
        &self,
        timeout: Duration,
    ) -> Result<PooledConnection<C>, AcquireError<C::Error>> {
        let timeouts = deadpool::managed::Timeouts { wait: Some(timeout), ..self.pool.timeouts() };
        self.pool.timeout_get(&timeouts).await.map_err(AcquireError::from)
    }

    /// Drops the connections that were opened before `time`: idle connections immediately, connections in use
    /// when they are returned. The failure that broke one connection has most likely broken all of them.
    #[cfg(feature = "postgres")]
    pub(crate) fn drop_opened_before(&self, time: Instant) {
        let mut opened_after = self.pool.manager().opened_after();
        *opened_after = (*opened_after).max(Some(time));
        drop(opened_after);
        self.pool.retain(|_, metrics| metrics.created >= time);
    }

    /// Closes the pool and all connections. Connections in use are closed when they are returned.
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

/// Opens connections and decides whether they are reused.
pub(crate) struct Opener<C> {
    connect: C,
    /// Time before which connections were opened that are not reused.
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
            connection.ping().await.map_err(|_| RecycleError::message("the connection does not respond"))?;
        }
        Ok(())
    }
}
