//! Opening an SQLite file: what its URL says, what each connection is told, and the wait for
//! others who open it at the same moment.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{
    SqliteStore,
    log::{Log, LogLimits},
    migrations,
    readers::Readers,
    writer::Writer,
};
use crate::{ConnectError, SEARCH_TIMEOUT, bulkhead::Bulkhead};

/// How many connections read. Reads are short, and a server's cores are few.
const READERS: u32 = 4;

/// Number of connections for expensive lists. Each keeps a core of this process busy.
const LIST_READERS: u32 = 1;

/// How long to wait for another process that writes, and for a connection that is in use. Clients
/// of an HTTP interface do not wait longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The pauses between attempts to open a file that is busy. SQLite waits by itself nearly
/// everywhere, but not while a file is switched to its write-ahead log.
const PAUSES: [Duration; 8] = {
    const fn pause(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }
    [pause(5), pause(10), pause(20), pause(50), pause(100), pause(250), pause(500), pause(1_000)]
};

/// How an SQLite file is used, beside what its URL says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// Time for a list that [is expensive](referral_core::storage::UserQuery::is_expensive), such as a
    /// search. By default 500 ms.
    pub search_timeout: Duration,
    /// Whether migrations that are missing are applied. By default true. If not, the schema must be up to
    /// date.
    pub migrate: bool,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { search_timeout: SEARCH_TIMEOUT, migrate: true }
    }
}

/// Opens the file that `url` names, and brings its schema up to date.
pub(crate) async fn open_url(url: &str, options: &SqliteOptions) -> Result<SqliteStore, ConnectError> {
    open(read_url(url)?, options).await
}

/// Opens the file at `path`, whatever is in its name, and brings its schema up to date.
pub(crate) async fn open_path(path: &Path, options: &SqliteOptions) -> Result<SqliteStore, ConnectError> {
    // As an absolute path no name is taken for anything but a name.
    let path = std::path::absolute(path).map_err(ConnectError::FileNotMade)?;
    make_file(&path, true)?;
    open(set_up(SqliteConnectOptions::new().filename(path)), options).await
}

async fn open(
    to_connect: SqliteConnectOptions,
    options: &SqliteOptions,
) -> Result<SqliteStore, ConnectError> {
    let mut pauses = PAUSES.iter();
    loop {
        match try_open(&to_connect, options, LogLimits::default()).await {
            Err(error) if is_busy(&error) => {
                let Some(pause) = pauses.next() else {
                    return Err(error);
                };
                tracing::debug!(?pause, "the database is busy; waiting to open it");
                tokio::time::sleep(*pause).await;
            }
            opened_or_not => return opened_or_not,
        }
    }
}

/// What to connect with. The file is made if it has to be.
fn read_url(url: &str) -> Result<SqliteConnectOptions, ConnectError> {
    let not_opened = |error: sqlx::Error| ConnectError::NotOpened(error.into());

    let (path, may_create) = match url.split_once('?') {
        None => (url, true),
        Some((path, "mode=rwc")) => (path, true),
        Some((path, "mode=rw")) => (path, false),
        Some((_, "mode=memory")) => return Err(ConnectError::InMemory),
        Some(_) => return Err(ConnectError::UnsupportedUrl),
    };
    if matches!(path, "sqlite::memory:" | "sqlite://:memory:") {
        return Err(ConnectError::InMemory);
    }
    let options: SqliteConnectOptions = path.parse().map_err(not_opened)?;
    // SQLite takes a name that begins with `file:` for a URL of its own, with parameters of its
    // own, and an empty name for a database that is gone at the end.
    match options.get_filename().to_str() {
        Some(":memory:") => return Err(ConnectError::InMemory),
        Some(name) if !name.is_empty() && !name.starts_with("file:") => {}
        _ => return Err(ConnectError::UnsupportedUrl),
    }
    make_file(options.get_filename(), may_create)?;
    Ok(set_up(options))
}

/// What every connection is told.
fn set_up(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What was committed survives a loss of power: nobody gets two sessions for one code.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE)
        // What SQLite leaves of the log when it begins it anew.
        .pragma("journal_size_limit", LogLimits::default().length.to_string())
}

/// Makes an empty file that only its owner can read, where there is none and there may be one.
/// SQLite gives the files beside it the same permissions. A file that is there must be one that
/// may be written to: SQLite itself would open it all the same, and fail at the first write. And it must be
/// out of reach of other users.
fn make_file(path: &Path, may_create: bool) -> Result<(), ConnectError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(may_create).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(ConnectError::FileNotMade)?;
    #[cfg(unix)]
    private::check(path, &file)?;
    Ok(())
}

/// Files that no other user can read or write.
#[cfg(unix)]
mod private {
    use std::{
        ffi::OsString,
        fs::{self, File, Metadata},
        os::unix::fs::MetadataExt as _,
        path::{Path, PathBuf},
    };

    use crate::ConnectError;

    /// Checks a database file, and the log and the index of the log if they are beside it.
    pub(super) fn check(path: &Path, file: &File) -> Result<(), ConnectError> {
        let metadata = file.metadata().map_err(ConnectError::FileNotMade)?;
        check_metadata(path, &metadata)?;
        // SQLite keeps them beside the file that a link leads to.
        let real = path.canonicalize().map_err(ConnectError::FileNotMade)?;
        for suffix in ["-wal", "-shm"] {
            let beside = with_suffix(&real, suffix);
            if let Ok(metadata) = fs::metadata(&beside) {
                check_metadata(&beside, &metadata)?;
            }
        }
        Ok(())
    }

    fn check_metadata(path: &Path, metadata: &Metadata) -> Result<(), ConnectError> {
        check_owner_and_mode(path, metadata.uid(), metadata.mode(), rustix::process::geteuid().as_raw())
    }

    pub(super) fn check_owner_and_mode(
        path: &Path,
        owner: u32,
        mode: u32,
        user: u32,
    ) -> Result<(), ConnectError> {
        let mode = mode & 0o777;
        if owner != user {
            return Err(ConnectError::FileOfOther { path: path.to_owned(), owner, user });
        }
        if mode & 0o077 != 0 {
            return Err(ConnectError::FileExposed { path: path.to_owned(), mode });
        }
        Ok(())
    }

    fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
        let mut name: OsString = path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    }
}

async fn try_open(
    to_connect: &SqliteConnectOptions,
    options: &SqliteOptions,
    log: LogLimits,
) -> Result<SqliteStore, ConnectError> {
    let not_opened = |error: sqlx::Error| ConnectError::NotOpened(error.into());

    let mut first = to_connect.connect().await.map_err(not_opened)?;
    if options.migrate {
        migrations::run(&mut first).await?;
    } else {
        migrations::check_connection(&mut first).await?;
    }

    let writing = to_connect.connect().await.map_err(not_opened)?;
    // Not opened as read-only, since then they could not restore a log that a crash left behind.
    let reading = to_connect.clone().pragma("query_only", "ON");
    let readers = Readers::new(reading.clone(), READERS);
    let list_readers = Readers::new(reading, LIST_READERS);
    drop(readers.acquire().await.map_err(not_opened)?);

    // Only now: whoever closes the last connection also clears the log away, and locks the file.
    first.close().await.map_err(not_opened)?;
    let log = Log::new(to_connect, log, list_readers.gate(), readers.gate());
    Ok(SqliteStore {
        writer: Writer::start(writing, to_connect.clone(), log),
        readers,
        list_readers,
        lists: Bulkhead::new(LIST_READERS, PATIENCE),
        search_timeout: options.search_timeout,
        path: to_connect.get_filename().to_owned(),
    })
}

fn is_busy(error: &ConnectError) -> bool {
    let (ConnectError::NotOpened(source) | ConnectError::NotMigrated(source)) = error else {
        return false;
    };
    let error = source.downcast_ref::<sqlx::Error>();
    error.and_then(sqlx::Error::as_database_error).is_some_and(super::is_busy)
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::FutureExt as _;
    use referral_core::storage::StorageError;
    use sqlx::{Executor as _, Row as _};

    use super::*;
    use crate::error::failure;

    /// A store that waits for nobody.
    pub(in super::super) async fn impatient_store() -> (SqliteStore, SqliteConnectOptions, tempfile::TempDir)
    {
        store_with(LogLimits::default()).await
    }

    /// The same, with these limits of its log.
    pub(in super::super) async fn store_with(
        log: LogLimits,
    ) -> (SqliteStore, SqliteConnectOptions, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite:{}", folder.path().join("referral.db").display());
        let options = read_url(&url).expect("a URL").busy_timeout(Duration::ZERO);
        let store = try_open(&options, &SqliteOptions::default(), log).await;
        (store.expect("a new file"), options, folder)
    }

    pub(in super::super) const COUNT: &str = "UPDATE totals SET users = users + 1";

    pub(in super::super) async fn execute(
        store: &SqliteStore,
        sql: &'static str,
    ) -> Result<(), StorageError> {
        store
            .writer
            .write(move |connection| {
                async move { connection.execute(sql).await.map(drop).map_err(failure) }.boxed()
            })
            .await
    }

    pub(in super::super) async fn counted(store: &SqliteStore) -> i64 {
        let row = sqlx::query("SELECT users FROM totals")
            .fetch_one(&mut *store.reader().await.expect("a reader"))
            .await;
        row.expect("a count").get(0)
    }

    #[tokio::test]
    async fn a_file_that_somebody_else_writes_to_is_out_of_reach() {
        let (store, options, _folder) = impatient_store().await;
        let mut other = options.connect().await.expect("the same file");

        let writing = other.begin_with("BEGIN IMMEDIATE").await.expect("begun");
        assert!(matches!(execute(&store, COUNT).await, Err(StorageError::Unavailable(_))));
        assert_eq!(counted(&store).await, 0, "readers do not wait for writers");
        writing.commit().await.expect("committed");
        execute(&store, COUNT).await.expect("written");
    }

    #[tokio::test]
    async fn a_snapshot_that_is_too_old_to_be_written_on_is_out_of_reach() {
        let (store, options, _folder) = impatient_store().await;
        let mut other = options.connect().await.expect("the same file");

        let mut old = other.begin().await.expect("begun without the lock");
        sqlx::query("SELECT users FROM totals").execute(&mut *old).await.expect("read");
        execute(&store, COUNT).await.expect("written");
        let error = sqlx::query(COUNT).execute(&mut *old).await.expect_err("too old");
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some("517"));
        assert!(matches!(failure(error), StorageError::Unavailable(_)));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_private_if_it_is_ours_and_for_nobody_else() {
        let check = |owner, mode: u32, user| {
            private::check_owner_and_mode(Path::new("a.db"), owner, 0o100_000 | mode, user)
        };
        for mode in [0o600, 0o400, 0o700] {
            assert!(check(7, mode, 7).is_ok(), "{mode:o}");
            let error = check(0, mode, 7).expect_err("of another owner").to_string();
            assert!(
                error.contains("a.db") && error.contains("user 0") && error.contains("user 7"),
                "{error}"
            );
            assert!(check(7, mode, 0).is_err(), "root is no exception");
        }
        for mode in [0o640, 0o620, 0o604, 0o602, 0o610, 0o601, 0o666, 0o777] {
            let error = check(7, mode, 7).expect_err("exposed").to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600 a.db"), "{error}");
        }
    }

    #[tokio::test]
    async fn readers_do_not_write() {
        let (store, _options, _folder) = impatient_store().await;
        let written = sqlx::query(COUNT).execute(&mut *store.reader().await.expect("a reader")).await;
        assert!(written.is_err());
    }

    #[tokio::test]
    async fn every_connection_is_set_up() {
        let (store, _options, _folder) = impatient_store().await;
        for (pragma, value) in
            [("PRAGMA foreign_keys", "1"), ("PRAGMA journal_mode", "wal"), ("PRAGMA synchronous", "2")]
        {
            let read = sqlx::query(pragma)
                .fetch_one(&mut *store.reader().await.expect("a reader"))
                .await
                .expect("a pragma");
            let written = store.writer.write(move |connection| {
                async move {
                    let row = sqlx::query(pragma).fetch_one(connection).await.map_err(failure)?;
                    Ok(row.get_unchecked::<String, _>(0))
                }
                .boxed()
            });
            assert_eq!(written.await.expect("a pragma"), value, "{pragma}");
            assert_eq!(read.get_unchecked::<String, _>(0), value, "{pragma}");
        }
    }
}
