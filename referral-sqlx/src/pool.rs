//! Pools of connections, whichever the database.
//!
//! The pool of `sqlx` asks a connection for a sign of life each time it comes back, which costs as
//! much as the one statement that most requests are. This one asks only what has not been in use
//! for a while; that a connection broke shows in its next statement, which is tried again.

use std::time::Duration;

use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult},
};
use sqlx::{ConnectOptions as _, Connection};

/// How long a connection may be idle before it is asked whether it still works: what stands between
/// may have dropped it.
const IDLE: Duration = Duration::from_secs(30);

/// How long a connection lives, so that a server which gives it memory gets that back.
const LIFETIME: Duration = Duration::from_mins(30);

/// Connects with the same options each time.
pub(crate) struct Connector<C: Connection> {
    options: C::Options,
    /// Whether a connection may break or must be renewed: to a server, not to a file.
    is_remote: bool,
}

/// A connection on loan.
pub(crate) type Loan<C> = Object<Connector<C>>;

/// Connections that are opened when they are needed.
pub(crate) struct Connections<C: Connection> {
    pool: Pool<Connector<C>>,
}

impl<C: Connection> Connections<C> {
    pub(crate) fn new(options: C::Options, is_remote: bool, size: u32, patience: Duration) -> Self {
        let pool = Pool::builder(Connector { options, is_remote })
            // The one that came back last is the one whose memory is still at hand.
            .queue_mode(QueueMode::Lifo)
            .max_size(usize::try_from(size).unwrap_or(usize::MAX))
            .wait_timeout(Some(patience))
            .create_timeout(Some(patience))
            .recycle_timeout(Some(patience))
            .runtime(Runtime::Tokio1)
            .build();
        Self { pool: pool.expect("it has a runtime for its timeouts") }
    }

    pub(crate) async fn acquire(&self) -> sqlx::Result<Loan<C>> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Closed => sqlx::Error::PoolClosed,
            _ => sqlx::Error::PoolTimedOut,
        })
    }

    /// Forgets the connections that nobody uses: where one broke, so have the others, most likely.
    #[cfg(feature = "postgres")]
    pub(crate) fn forget_idle(&self) {
        self.pool.retain(|_, _| false);
    }

    /// Closes all connections, those on loan when they are back, and lends no more.
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

impl<C: Connection> Manager for Connector<C> {
    type Type = C;
    type Error = sqlx::Error;

    async fn create(&self) -> sqlx::Result<C> {
        self.options.connect().await
    }

    async fn recycle(&self, connection: &mut C, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        if self.is_remote && metrics.age() > LIFETIME {
            return Err(RecycleError::message("it is as old as connections get"));
        }
        if self.is_remote && metrics.last_used() > IDLE {
            connection.ping().await?;
        }
        Ok(())
    }
}
