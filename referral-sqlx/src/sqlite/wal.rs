//! Limit of the length of the write-ahead log.
//!
//! SQLite regularly copies the log into the database file, and restarts the log when no connection reads from
//! it. If reads overlap all the time, this never happens, and the log grows without limit. The writer
//! therefore measures the log, and blocks readers while it resets a log that is too long.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    sync::OwnedRwLockWriteGuard,
    time::{Instant, sleep_until, timeout},
};

use super::readers::Gate;

/// Length from which the log is reset, and time limits for the reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLimits {
    /// Length in bytes from which the log is reset. If SQLite can, it restarts the log at 4 MiB. Four times
    /// this length means that it cannot.
    pub(super) length: u64,
    /// Time to wait for running lists. Other lists wait during this time.
    pub(super) lists: Duration,
    /// Time to wait for all other reads, which take milliseconds. Requests wait during this time.
    pub(super) readers: Duration,
    /// Time to wait for other processes that read or write. The writer and all readers wait during this time.
    pub(super) others: Duration,
    /// Pause after a failed attempt, so that a backup does not slow down the service.
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

/// Pause between two measurements of the log while nothing is written.
const IDLE_PAUSE: Duration = Duration::from_secs(10);

/// Write-ahead log next to the database file.
pub(super) struct Log {
    path: PathBuf,
    limits: LogLimits,
    lists: Gate,
    readers: Gate,
    /// Future that blocks new reads and waits for the running ones.
    waiting: Option<BoxFuture<'static, Option<Quiet>>>,
    next_look: Instant,
    not_before: Instant,
    /// `true` if the last attempt failed.
    is_stuck: bool,
}

/// Guard that blocks all readers. Dropping it unblocks them.
pub(super) struct Quiet {
    _lists: OwnedRwLockWriteGuard<()>,
    _readers: OwnedRwLockWriteGuard<()>,
}

impl Log {
    pub(super) fn new(options: &SqliteConnectOptions, limits: LogLimits, lists: Gate, readers: Gate) -> Self {
        // SQLite resolves symbolic links and puts the log next to the target.
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

    /// Measures the log, and starts to block readers if it is too long.
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

    /// Waits until the log is too long and no connection reads. The future is cancel safe.
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

    /// Copies the log into the database file and truncates it, on the connection that writes.
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
        // Logged once for a series of failed attempts.
        if !self.is_stuck {
            tracing::warn!(cause, "failed to reset the write-ahead log");
        }
        self.is_stuck = true;
        self.not_before = Instant::now() + self.limits.pause;
        self.next_look = self.not_before;
    }
}

/// Blocks readers and waits for running reads. Lists take longest, so they are blocked first, and all other
/// reads only after all lists have finished. Returns `None` if the reads take too long.
async fn hold_back(limits: LogLimits, lists: Gate, readers: Gate) -> Option<Quiet> {
    let lists = timeout(limits.lists, lists.write_owned()).await.ok()?;
    let readers = timeout(limits.readers, readers.write_owned()).await.ok()?;
    Some(Quiet { _lists: lists, _readers: readers })
}

/// Truncates the log. Returns `false` if another process prevented it.
async fn truncate(connection: &mut SqliteConnection, timeout: Duration) -> sqlx::Result<bool> {
    let row = sqlx::query("PRAGMA busy_timeout").fetch_one(&mut *connection).await?;
    let usual: i64 = row.get(0);
    set_busy_timeout(connection, timeout.as_millis()).await?;
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
            SqliteStorage,
            open::tests::{execute, store_with},
            readers::{Reader, Readers},
        },
        *,
    };

    /// Limits that wait for readers without a limit, and do not wait for other processes.
    const LIMITS: LogLimits = LogLimits {
        length: 5 << 20,
        lists: Duration::from_hours(1),
        readers: Duration::from_hours(1),
        others: Duration::ZERO,
        pause: Duration::ZERO,
    };

    /// Statement that writes a quarter of a mebibyte: a value, and zeros over the pages of the former value.
    const WRITE: &str = "INSERT OR REPLACE INTO filler VALUES (1, randomblob(131072))";

    /// Number of writes that exceed the length limit by one.
    const WRITES: usize = 21;

    async fn new_store() -> (SqliteStorage, SqliteConnectOptions, tempfile::TempDir) {
        let (store, options, directory) = store_with(LIMITS).await;
        execute(&store, "CREATE TABLE filler (id INTEGER PRIMARY KEY, bytes BLOB)").await.expect("created");
        (store, options, directory)
    }

    fn length(options: &SqliteConnectOptions) -> u64 {
        let mut path = options.get_filename().as_os_str().to_owned();
        path.push("-wal");
        std::fs::metadata(path).expect("a log").len()
    }

    /// Starts to read on a free connection. Returns `None` if readers are blocked.
    async fn start_reading(readers: &Readers) -> Option<Reader> {
        let mut reader = readers.acquire().now_or_never()?.expect("a reader");
        reader.execute("BEGIN; SELECT users FROM referral_user_totals").await.expect("started");
        Some(reader)
    }

    #[tokio::test]
    async fn the_log_stays_short_during_overlapping_reads() {
        let (store, options, _directory) = new_store().await;
        // Opens all connections.
        let mut all = Vec::new();
        for readers in [&store.readers, &store.readers, &store.readers, &store.readers, &store.list_readers] {
            all.push((readers, Some(readers.acquire().await.expect("a reader"))));
        }
        for (_, reader) in &mut all {
            *reader = None;
        }
        let mut blocked = 0;
        for number in 1..=200 {
            // Each connection reads during a different number of commits, so that there is always one that
            // reads.
            for (index, (readers, reader)) in all.iter_mut().enumerate() {
                if number % (index + 2) == 0
                    && let Some(mut reader) = reader.take()
                {
                    reader.execute("ROLLBACK").await.expect("ended");
                }
                if reader.is_none() {
                    *reader = start_reading(readers).await;
                    blocked += u32::from(reader.is_none());
                }
            }
            execute(&store, WRITE).await.expect("written");
            let length = length(&options);
            // The log grows by at most eleven writes until the running reads end.
            assert!(length <= LIMITS.length + (4 << 20), "{length} bytes after {number} writes");
        }
        assert!(blocked > 0);
    }

    #[tokio::test]
    async fn the_log_is_reset_without_writes_after_the_last_read() {
        let (store, options, _directory) = new_store().await;
        let mut reader = store.reader().await.expect("a reader");
        let mut reading = reader.raw().begin().await.expect("started");
        reading.execute("SELECT users FROM referral_user_totals").await.expect("read");
        for _ in 0..=WRITES {
            execute(&store, WRITE).await.expect("written");
        }
        assert!(length(&options) > LIMITS.length);
        reading.rollback().await.expect("ended");
        drop(reader);
        // The next reader is blocked until the log is reset.
        drop(store.reader().await.expect("a reader"));
        assert_eq!(length(&options), 0);
    }

    #[tokio::test]
    async fn reads_of_another_process_do_not_prevent_writes() {
        let (store, options, _directory) = new_store().await;
        let mut other = options.connect().await.expect("the same file");
        let mut reading = other.begin().await.expect("started");
        reading.execute("SELECT users FROM referral_user_totals").await.expect("read");
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
