//! Connections that read. They are blocked while the log is reset, and can have a time limit for statements.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::{
    ACQUIRE_TIMEOUT,
    connection::{Connection, File},
    error::primary_code,
};
use crate::pool::{AcquireError, Connect, Connections, PooledConnection};

/// Lock that readers share. It excludes them while the log is reset. Its queue is fair, so that overlapping
/// reads cannot prevent the reset.
pub(super) type Gate = Arc<RwLock<()>>;

/// Number of virtual machine instructions between two checks of the deadline, about ten microseconds.
const INSTRUCTIONS_PER_LOOK: i32 = 1_000;

/// Pool of connections that read.
pub(super) struct Readers {
    connections: Connections<File>,
    gate: Gate,
}

/// Connection that reads. It returns to its pool when it is dropped.
pub(crate) struct Reader {
    connection: PooledConnection<File>,
    _pass: OwnedRwLockReadGuard<()>,
}

impl Connect for File {
    type Connection = Connection<'static>;
    type Error = sqlx::Error;
    const IS_REMOTE: bool = false;

    async fn connect(&self) -> sqlx::Result<Connection<'static>> {
        Self::connect(self).await
    }
}

impl Readers {
    pub(super) fn new(file: File, size: u32) -> Self {
        Self { connections: Connections::new(file, size, ACQUIRE_TIMEOUT), gate: Gate::default() }
    }

    pub(super) async fn acquire(&self) -> sqlx::Result<Reader> {
        // The connection comes first. A request that waits for a connection must not delay the reset of the
        // log.
        let connection = self.connections.acquire().await.map_err(|error| match error {
            AcquireError::NotOpened(error) => error,
            AcquireError::TimedOut => sqlx::Error::PoolTimedOut,
            AcquireError::Closed => sqlx::Error::PoolClosed,
        })?;
        let pass = Arc::clone(&self.gate).read_owned().await;
        Ok(Reader { connection, _pass: pass })
    }

    pub(super) fn gate(&self) -> Gate {
        Arc::clone(&self.gate)
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

impl Deref for Reader {
    type Target = Connection<'static>;

    fn deref(&self) -> &Connection<'static> {
        &self.connection
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Connection<'static> {
        &mut self.connection
    }
}

/// Time limit of the statements on a connection until the next limit is set. Dropping it interrupts the
/// running statement. The thread of the connection would otherwise continue for a canceled request.
pub(super) struct Deadline {
    is_over: Arc<AtomicBool>,
}

impl Deadline {
    /// Sets the time limit of all further statements on `connection`. Waits for the running statement first.
    pub(super) async fn set(connection: &mut Connection<'_>, timeout: Duration) -> sqlx::Result<Self> {
        let mut handle = connection.raw().lock_handle().await?;
        let is_over = Arc::new(AtomicBool::new(false));
        let deadline = Instant::now() + timeout;
        handle.set_progress_handler(INSTRUCTIONS_PER_LOOK, {
            let is_over = Arc::clone(&is_over);
            move || !is_over.load(Ordering::Relaxed) && Instant::now() < deadline
        });
        Ok(Self { is_over })
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Returns `true` if the statement was interrupted by a [`Deadline`].
pub(super) fn is_interrupted(error: &sqlx::Error) -> bool {
    const INTERRUPT: i32 = 9;
    error.as_database_error().and_then(primary_code) == Some(INTERRUPT)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use referral_core::{
        PageSize, Refusal, UserId,
        storage::{PageStart, UserFilter, UserQuery, UserStorage as _},
    };
    use sqlx::Row as _;
    use uuid::Uuid;

    use super::{
        super::open::tests::{COUNT, counted, execute, impatient_store},
        *,
    };

    /// Statement that never ends.
    const ENDLESS: &str = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) \
                           SELECT n FROM n WHERE n < 0";

    #[tokio::test]
    async fn a_deadline_interrupts_a_statement_but_not_the_next_one() {
        let (store, _options, _directory) = impatient_store().await;
        let mut reader = store.list_readers.acquire().await.expect("a reader");
        let _expired = Deadline::set(&mut reader, Duration::ZERO).await.expect("set");
        let error = reader.fetch_all(ENDLESS).await.expect_err("interrupted");
        assert!(is_interrupted(&error), "{error}");
        let _later = Deadline::set(&mut reader, Duration::from_hours(1)).await.expect("set");
        let sum = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 10000) SELECT max(n) FROM n";
        let row = reader.fetch_one(sum).await.expect("in time");
        assert_eq!(row.get::<i64, _>(0), 10_000);
    }

    #[tokio::test]
    async fn a_statement_of_a_canceled_request_is_interrupted() {
        let (store, _options, _directory) = impatient_store().await;
        let mut reader = store.list_readers.acquire().await.expect("a reader");
        let deadline = Deadline::set(&mut reader, Duration::from_hours(1)).await.expect("set");
        assert!(reader.fetch_all(ENDLESS).now_or_never().is_none());
        drop(deadline);
        // Waits for the running statement on the connection.
        Deadline::set(&mut reader, Duration::from_hours(1)).await.expect("set");
    }

    #[tokio::test]
    async fn a_list_that_takes_too_long_is_refused() {
        let (mut store, _options, _directory) = impatient_store().await;
        store.search_timeout = Duration::ZERO;
        let users = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1500) \
                     INSERT INTO referral_users (id, phone, invite_code, is_active, date_joined, \
                                        search_public, search_private) \
                     SELECT unhex(printf('%032d', n)), printf('+7960%07d', n), printf('A%06d', n), 1, 0, '', '' FROM n";
        execute(&store, users).await.expect("written");
        let numbers = "INSERT INTO referral_user_numbers (user_id) SELECT id FROM referral_users ORDER BY id";
        execute(&store, numbers).await.expect("written");
        let mut query = UserQuery {
            start: PageStart::Offset(1_001),
            limit: PageSize::default(),
            filter: UserFilter::default(),
            caller: UserId(Uuid::nil()),
        };
        let refused = store.users(&query).await.expect("a result");
        assert_eq!(refused, Err(Refusal::SearchTooBroad));
        store.search_timeout = Duration::from_hours(1);
        assert_eq!(store.users(&query).await.expect("a result").expect("in time").count, 1_500);
        query.start = PageStart::START;
        store.search_timeout = Duration::ZERO;
        let first = store.users(&query).await.expect("a result");
        assert!(first.is_ok(), "a list that is not expensive must not have this limit");
    }

    #[tokio::test]
    async fn expensive_lists_do_not_block_other_requests() {
        let (store, _options, _directory) = impatient_store().await;
        let _place = store.lists.enter(UserId(Uuid::nil())).await.expect("a place");
        let _reader = store.list_readers.acquire().await.expect("a reader");
        execute(&store, COUNT).await.expect("written");
        assert_eq!(counted(&store).await, 1);
        let first = UserQuery {
            start: PageStart::START,
            limit: PageSize::default(),
            filter: UserFilter::default(),
            caller: UserId(Uuid::nil()),
        };
        store.users(&first).await.expect("a result").expect("in time");
    }
}
