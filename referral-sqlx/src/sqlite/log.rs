//! The length of the write-ahead log.
//!
//! SQLite copies the log into the file now and then, and begins it anew when nothing reads from it. If
//! reads overlap all the time, that moment never comes, and the log grows without end. So the writer
//! measures the log, and if it is too long, holds readers back for as long as it takes to reset it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    sync::OwnedRwLockWriteGuard,
    time::{Instant, sleep_until, timeout},
};

use super::readers::Gate;

/// When the log is reset, and how long that may hold up others.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLimits {
    /// Length, in bytes, beyond which the log is reset. SQLite itself begins it anew at 4 MiB if it can,
    /// so that four times as much means that it cannot.
    pub(super) length: u64,
    /// Time to wait for lists that run. Other lists wait meanwhile.
    pub(super) lists: Duration,
    /// Time to wait for all other reads, which take milliseconds. Requests wait meanwhile.
    pub(super) readers: Duration,
    /// Time to wait for other processes that read or write. The writer and all readers wait meanwhile.
    pub(super) others: Duration,
    /// Pause after an attempt that failed, so that a backup does not slow down the service.
    pub(super) pause: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            length: 16 << 20,
            lists: Duration::from_secs(5),
            readers: Duration::from_millis(250),
            others: Duration::from_millis(100),
            pause: Duration::from_secs(10),
        }
    }
}

/// Pause between two looks at the log while nothing is written.
const IDLE_PAUSE: Duration = Duration::from_secs(10);

/// The write-ahead log beside the database.
pub(super) struct Log {
    path: PathBuf,
    limits: LogLimits,
    lists: Gate,
    readers: Gate,
    /// Wait for the moment in which nothing reads.
    waiting: Option<BoxFuture<'static, Option<Quiet>>>,
    next_look: Instant,
    not_before: Instant,
    /// Whether the last attempt failed.
    is_stuck: bool,
}

/// Moment in which nothing reads. Dropping it lets readers go on.
pub(super) struct Quiet {
    _lists: OwnedRwLockWriteGuard<()>,
    _readers: OwnedRwLockWriteGuard<()>,
}

impl Log {
    pub(super) fn new(options: &SqliteConnectOptions, limits: LogLimits, lists: Gate, readers: Gate) -> Self {
        // SQLite follows links, and puts the log beside the file itself.
        let file = options.get_filename();
        let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let mut path = OsString::from(file);
        path.push("-wal");
        let now = Instant::now();
        Self {
            path: path.into(),
            limits,
            lists,
            readers,
            waiting: None,
            next_look: now,
            not_before: now,
            is_stuck: false,
        }
    }

    /// Measures the log, and begins to hold readers back if it is too long.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        self.next_look = now + IDLE_PAUSE;
        if self.waiting.is_some() || now < self.not_before {
            return;
        }
        let length = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if length > self.limits.length {
            let (limits, lists, readers) = (self.limits, self.lists.clone(), self.readers.clone());
            self.waiting = Some(hold_back(limits, lists, readers).boxed());
        }
    }

    /// Waits until the log is too long and nothing reads. Loses nothing if it is dropped and called
    /// again.
    pub(super) async fn quiet(&mut self) -> Quiet {
        loop {
            if let Some(waiting) = &mut self.waiting {
                let quiet = waiting.await;
                self.waiting = None;
                match quiet {
                    Some(quiet) => return quiet,
                    None => self.put_off("reads take too long"),
                }
            }
            sleep_until(self.next_look).await;
            self.look();
        }
    }

    /// Copies the log into the file and empties it, by the connection that writes.
    pub(super) async fn reset(&mut self, connection: &mut SqliteConnection, quiet: Quiet) {
        let reset = truncate(connection, self.limits.others).await;
        drop(quiet);
        match reset {
            Ok(true) => {
                if self.is_stuck {
                    tracing::info!("reset the write-ahead log");
                }
                self.is_stuck = false;
            }
            Ok(false) => self.put_off("another process uses the database"),
            Err(error) => self.put_off(&error.to_string()),
        }
    }

    fn put_off(&mut self, cause: &str) {
        // One line for each time that the log gets stuck, not for each attempt.
        if !self.is_stuck {
            tracing::warn!(cause, "failed to reset the write-ahead log");
        }
        self.is_stuck = true;
        self.not_before = Instant::now() + self.limits.pause;
        self.next_look = self.not_before;
    }
}

/// Holds back lists first, since they take longest, and all other reads only for the last of them.
async fn hold_back(limits: LogLimits, lists: Gate, readers: Gate) -> Option<Quiet> {
    let lists = timeout(limits.lists, lists.write_owned()).await.ok()?;
    let readers = timeout(limits.readers, readers.write_owned()).await.ok()?;
    Some(Quiet { _lists: lists, _readers: readers })
}

/// Returns `false` if another process got in the way.
async fn truncate(connection: &mut SqliteConnection, patience: Duration) -> sqlx::Result<bool> {
    let row = sqlx::query("PRAGMA busy_timeout").fetch_one(&mut *connection).await?;
    let usual: i64 = row.get(0);
    set_busy_timeout(connection, patience.as_millis()).await?;
    let reset = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    set_busy_timeout(connection, usual).await?;
    Ok(reset?.get::<i64, _>(0) == 0)
}

async fn set_busy_timeout(
    connection: &mut SqliteConnection,
    milliseconds: impl std::fmt::Display,
) -> sqlx::Result<()> {
    let set = format!("PRAGMA busy_timeout = {milliseconds}");
    sqlx::query(AssertSqlSafe(set)).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

    use super::{
        super::{
            SqliteStore,
            open::tests::{execute, store_with},
            readers::{Reader, Readers},
        },
        *,
    };

    /// Waits for readers as long as it takes, and for other processes not at all.
    const LIMITS: LogLimits = LogLimits {
        length: 5 << 20,
        lists: Duration::from_hours(1),
        readers: Duration::from_hours(1),
        others: Duration::ZERO,
        pause: Duration::ZERO,
    };

    /// A quarter of a mebibyte.
    const WRITE: &str = "INSERT OR REPLACE INTO filler VALUES (1, randomblob(262144))";

    /// Writes that go beyond the length, by one.
    const WRITES: usize = 21;

    async fn new_store() -> (SqliteStore, SqliteConnectOptions, tempfile::TempDir) {
        let (store, options, folder) = store_with(LIMITS).await;
        execute(&store, "CREATE TABLE filler (id INTEGER PRIMARY KEY, bytes BLOB)").await.expect("made");
        (store, options, folder)
    }

    fn length(options: &SqliteConnectOptions) -> u64 {
        let mut path = options.get_filename().as_os_str().to_owned();
        path.push("-wal");
        std::fs::metadata(path).expect("a log").len()
    }

    /// Begins to read on a connection that is free, unless readers are held back.
    async fn begin_reading(readers: &Readers) -> Option<Reader> {
        let mut reader = readers.acquire().now_or_never()?.expect("a reader");
        reader.execute("BEGIN; SELECT users FROM totals").await.expect("begun");
        Some(reader)
    }

    #[tokio::test]
    async fn constant_reading_does_not_let_the_log_grow() {
        let (store, options, _folder) = new_store().await;
        // All connections are opened.
        let mut all = Vec::new();
        for readers in [&store.readers, &store.readers, &store.readers, &store.readers, &store.list_readers] {
            all.push((readers, Some(readers.acquire().await.expect("a reader"))));
        }
        for (_, reader) in &mut all {
            *reader = None;
        }
        let mut held_back = 0;
        for number in 1..=200 {
            // Each reads while some writes are committed, of different numbers, so that there is always
            // one that reads.
            for (index, (readers, reader)) in all.iter_mut().enumerate() {
                if number % (index + 2) == 0
                    && let Some(mut reader) = reader.take()
                {
                    reader.execute("ROLLBACK").await.expect("ended");
                }
                if reader.is_none() {
                    *reader = begin_reading(readers).await;
                    held_back += u32::from(reader.is_none());
                }
            }
            execute(&store, WRITE).await.expect("written");
            let length = length(&options);
            // It grows while those end that read: eleven writes at most.
            assert!(length <= LIMITS.length + (4 << 20), "{length} bytes after {number} writes");
        }
        assert!(held_back > 0);
    }

    #[tokio::test]
    async fn the_log_is_reset_when_the_last_reader_leaves_and_nothing_is_written() {
        let (store, options, _folder) = new_store().await;
        let mut reader = store.reader().await.expect("a reader");
        let mut reading = reader.begin().await.expect("begun");
        reading.execute("SELECT users FROM totals").await.expect("read");
        for _ in 0..=WRITES {
            execute(&store, WRITE).await.expect("written");
        }
        assert!(length(&options) > LIMITS.length);
        reading.rollback().await.expect("ended");
        drop(reader);
        // The next one is held back until the log is reset.
        drop(store.reader().await.expect("a reader"));
        assert_eq!(length(&options), 0);
    }

    #[tokio::test]
    async fn another_process_that_reads_keeps_nothing_from_being_written() {
        let (store, options, _folder) = new_store().await;
        let mut other = options.connect().await.expect("the same file");
        let mut reading = other.begin().await.expect("begun");
        reading.execute("SELECT users FROM totals").await.expect("read");
        for _ in 0..2 * WRITES {
            execute(&store, WRITE).await.expect("written");
        }
        drop(store.reader().await.expect("a reader"));
        assert!(length(&options) > LIMITS.length);
        reading.rollback().await.expect("ended");
        for _ in 0..2 {
            execute(&store, WRITE).await.expect("written");
        }
        drop(store.reader().await.expect("a reader"));
        assert!(length(&options) < LIMITS.length);
    }
}
