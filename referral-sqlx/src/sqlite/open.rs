//! Functions that open an SQLite file, its options, the settings of its connections, and the retries while
//! other processes open it.

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Connection, Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{
    ACQUIRE_TIMEOUT, SqliteStorage,
    connection::File,
    migrations::TableMigrations,
    readers::Readers,
    table_prefix::{self, TablePrefix},
    wal::{Log, LogLimits},
    write_queue::Writer,
};
use crate::{
    bulkhead::{Bulkhead, SEARCH_TIMEOUT},
    error::ConnectError,
    hook::TransactionHook,
    migrations::SchemaMigration,
};

/// Number of connections that read. Reads are short, and a server has few cores.
const READERS: u32 = 4;

/// Number of connections for expensive lists. Each uses a core of this process.
const LIST_READERS: u32 = 1;

/// Pauses between attempts to open a busy file. SQLite waits for most locks itself, but not while another
/// connection switches the file to its write-ahead log.
const PAUSES: [Duration; 8] = {
    const fn pause(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }
    [pause(5), pause(10), pause(20), pause(50), pause(100), pause(250), pause(500), pause(1_000)]
};

/// Options of an SQLite file that are not part of its URL.
#[derive(Clone)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// Time limit of a list that [is expensive](referral_core::storage::UserQuery::is_expensive), such as a
    /// search. Default: 500 ms.
    pub search_timeout: Duration,
    /// `true` if missing migrations are applied. If `false`, the schema must be up to date. Default: `true`.
    pub migrate: bool,
    /// Prefix of the names of all tables, indexes and triggers of the storage: 1 to 32 lowercase letters,
    /// digits and underscores that start with a letter and not with `sqlite_`. Storages can share a
    /// file if no prefix starts with another one. All processes of a storage must have the same prefix. With
    /// another prefix than the default, the text of each statement is replaced before it is executed, which
    /// takes one to four microseconds. Default: `referral_`.
    pub table_prefix: String,
    /// Size in KiB of the page cache of the connection that writes. Pages that a transaction changes and that
    /// do not fit are written and read again before its end. Imports of large files are faster with a larger
    /// cache. The cache takes only as much memory as it has pages. Default: 2000, as in SQLite.
    pub write_cache: u32,
    /// Hook that runs in the transaction that adds a user. Default: none.
    pub hook: Option<Arc<dyn TransactionHook<Sqlite>>>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            search_timeout: SEARCH_TIMEOUT,
            migrate: true,
            table_prefix: table_prefix::DEFAULT.to_owned(),
            write_cache: 2_000,
            hook: None,
        }
    }
}

impl SqliteStorage {
    /// Opens the file at `url` and migrates its schema. [`connect`](crate::connect) describes the URL.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect(url: &str, options: &SqliteOptions) -> Result<Self, ConnectError> {
        let prefix = TablePrefix::parse(&options.table_prefix)?;
        open(File { options: read_url(url)?, prefix }, options).await
    }

    /// Opens the file at `path`, which may have any characters, and migrates its schema.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn open(path: &Path, options: &SqliteOptions) -> Result<Self, ConnectError> {
        let prefix = TablePrefix::parse(&options.table_prefix)?;
        // SQLite interprets some relative names, such as `:memory:`, but no absolute path.
        let path = std::path::absolute(path).map_err(ConnectError::FileNotMade)?;
        make_file(&path, true)?;
        open(File { options: set_up(SqliteConnectOptions::new().filename(path)), prefix }, options).await
    }

    /// Opens the file of a pool of the host, and migrates the schema.
    ///
    /// The storage has connections of its own with the options of the pool, because writes must wait for each
    /// other in one queue. It switches the file to a write-ahead log. The connections of the host should wait
    /// for the lock of the file ([`busy_timeout`](SqliteConnectOptions::busy_timeout)), and their
    /// transactions should be short. The host is responsible for the permissions of the file, which contains
    /// phone numbers.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InMemory`] if the database is not a file. See [`ConnectError`] for others.
    pub async fn with_pool(pool: &SqlitePool, options: &SqliteOptions) -> Result<Self, ConnectError> {
        let to_connect = SqliteConnectOptions::clone(&pool.connect_options());
        let prefix = TablePrefix::parse(&options.table_prefix)?;
        open(File { options: set_up(to_connect), prefix }, options).await
    }

    /// Returns the migrations of the tables with a [prefix](SqliteOptions::table_prefix), for hosts that
    /// apply them with their own. Such a host turns off [`migrate`](SqliteOptions::migrate).
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidTablePrefix`] if the prefix is not valid.
    pub fn migrations(table_prefix: &str) -> Result<Vec<SchemaMigration>, ConnectError> {
        Ok(TableMigrations::new(TablePrefix::parse(table_prefix)?).scripts())
    }
}

async fn open(file: File, options: &SqliteOptions) -> Result<SqliteStorage, ConnectError> {
    let mut pauses = PAUSES.iter();
    loop {
        match try_open(&file, options, LogLimits::default()).await {
            Err(error) if is_busy(&error) => {
                let Some(pause) = pauses.next() else {
                    return Err(error);
                };
                tracing::debug!(?pause, "failed to open the busy database; retrying");
                tokio::time::sleep(*pause).await;
            }
            opened_or_not => return opened_or_not,
        }
    }
}

/// Parses a URL to the options of its connections. Creates the file if it is missing.
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
    // SQLite interprets a name that starts with `file:` as a URL with parameters, and an empty name as a
    // temporary database.
    match options.get_filename().to_str() {
        Some(":memory:") => return Err(ConnectError::InMemory),
        Some(name) if !name.is_empty() && !name.starts_with("file:") => {}
        _ => return Err(ConnectError::UnsupportedUrl),
    }
    make_file(options.get_filename(), may_create)?;
    Ok(set_up(options))
}

/// Number of statements that stay prepared on a connection. A batch is one statement: there are about twenty
/// kinds of writes, each followed by one of seven queries for facts.
const STATEMENTS: usize = 256;

/// Adds the settings of all connections.
fn set_up(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit survives a power failure, so that no code is redeemed twice.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(ACQUIRE_TIMEOUT)
        .statement_cache_capacity(STATEMENTS)
        // Deleted values are overwritten, so that the file keeps no data of a deleted user in unused space.
        .pragma("secure_delete", "ON")
        // Length to which SQLite truncates the log when it restarts it.
        .pragma("journal_size_limit", LogLimits::default().length.to_string())
}

/// Creates an empty file that only its owner can read, if the file is missing and `may_create` is `true`.
/// SQLite creates the files next to it with the same permissions.
///
/// Returns an error if an existing file is not writable, because SQLite would open it and fail at the first
/// write. Also returns an error if another user owns the file or has permissions for it.
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

/// Checks of the owner and the permissions of files.
#[cfg(unix)]
mod private {
    use std::{
        ffi::OsString,
        fs::{self, File, Metadata},
        os::unix::fs::MetadataExt as _,
        path::{Path, PathBuf},
    };

    use crate::error::ConnectError;

    /// Checks the owner and the permissions of a database file. Also checks the write-ahead log (`-wal`) and
    /// its index (`-shm`) if these files exist.
    pub(super) fn check(path: &Path, file: &File) -> Result<(), ConnectError> {
        let metadata = file.metadata().map_err(ConnectError::FileNotMade)?;
        check_metadata(path, &metadata)?;
        // SQLite resolves symbolic links: it keeps these files next to the target of the link.
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

/// Selects the path of the database file. It is empty for a database in memory.
const FILE: &str = "SELECT file FROM pragma_database_list WHERE name = 'main'";

async fn try_open(
    database: &File,
    options: &SqliteOptions,
    log: LogLimits,
) -> Result<SqliteStorage, ConnectError> {
    let not_opened = |error: sqlx::Error| ConnectError::NotOpened(error.into());

    let mut first = database.options.connect().await.map_err(not_opened)?;
    let file: String = sqlx::query_scalar(FILE).fetch_one(&mut first).await.map_err(not_opened)?;
    if file.is_empty() {
        return Err(ConnectError::InMemory);
    }
    let migrations = TableMigrations::new(database.prefix.clone());
    if options.migrate {
        migrations.run(&mut first).await?;
    } else {
        migrations.check_connection(&mut first).await?;
    }

    // A negative number is a size in KiB, and a positive one a number of pages.
    let cache = format!("-{}", options.write_cache);
    let writing = File { options: database.options.clone().pragma("cache_size", cache), ..database.clone() };
    let writer = writing.connect().await.map_err(not_opened)?;
    // Readers do not open the file as read-only, because a read-only connection cannot recover the log after
    // a crash. The pragma rejects their writes instead.
    let reading = File { options: database.options.clone().pragma("query_only", "ON"), ..database.clone() };
    let readers = Readers::new(reading.clone(), READERS);
    let list_readers = Readers::new(reading, LIST_READERS);
    drop(readers.acquire().await.map_err(not_opened)?);

    // The first connection is closed after the others are open, because SQLite deletes the log and locks the
    // file when the last connection is closed.
    first.close().await.map_err(not_opened)?;
    let log = Log::new(&database.options, log, list_readers.gate(), readers.gate());
    Ok(SqliteStorage {
        hook: options.hook.clone(),
        writer: Writer::start(writer, writing, log),
        readers,
        list_readers,
        lists: Bulkhead::new(LIST_READERS, ACQUIRE_TIMEOUT),
        search_timeout: options.search_timeout,
        migrations,
        path: database.options.get_filename().to_owned(),
    })
}

fn is_busy(error: &ConnectError) -> bool {
    let (ConnectError::NotOpened(source) | ConnectError::NotMigrated(source)) = error else {
        return false;
    };
    let error = source.downcast_ref::<sqlx::Error>();
    error.and_then(sqlx::Error::as_database_error).is_some_and(super::error::is_busy)
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::FutureExt as _;
    use referral_core::storage::StorageError;
    use sqlx::Row as _;

    use super::*;
    use crate::error::failure;

    /// Creates a store that does not wait for locks of other connections.
    pub(in super::super) async fn impatient_store() -> (SqliteStorage, SqliteConnectOptions, tempfile::TempDir)
    {
        store_with(LogLimits::default()).await
    }

    /// Creates a store that does not wait for locks, with the given limits of its log.
    pub(in super::super) async fn store_with(
        log: LogLimits,
    ) -> (SqliteStorage, SqliteConnectOptions, tempfile::TempDir) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite:{}", directory.path().join("referral.db").display());
        let options = read_url(&url).expect("a URL").busy_timeout(Duration::ZERO);
        let prefix = TablePrefix::parse(table_prefix::DEFAULT).expect("a prefix");
        let database = File { options: options.clone(), prefix };
        let store = try_open(&database, &SqliteOptions::default(), log).await;
        (store.expect("a new file"), options, directory)
    }

    pub(in super::super) const COUNT: &str = "UPDATE referral_user_totals SET users = users + 1";

    pub(in super::super) async fn execute(
        store: &SqliteStorage,
        sql: &'static str,
    ) -> Result<(), StorageError> {
        store
            .writer
            .write(move |connection| {
                async move { connection.execute(sql).await.map(drop).map_err(failure) }.boxed()
            })
            .await
    }

    pub(in super::super) async fn counted(store: &SqliteStorage) -> i64 {
        let mut reader = store.reader().await.expect("a reader");
        let row = reader.fetch_one("SELECT users FROM referral_user_totals").await;
        row.expect("a count").get(0)
    }

    #[tokio::test]
    async fn a_write_during_the_write_of_another_connection_is_unavailable() {
        let (store, options, _directory) = impatient_store().await;
        let mut other = options.connect().await.expect("the same file");

        let writing = other.begin_with("BEGIN IMMEDIATE").await.expect("started");
        assert!(matches!(execute(&store, COUNT).await, Err(StorageError::Unavailable(_))));
        assert_eq!(counted(&store).await, 0, "readers must not wait for writers");
        writing.commit().await.expect("committed");
        execute(&store, COUNT).await.expect("written");
    }

    #[tokio::test]
    async fn a_write_on_an_outdated_snapshot_is_unavailable() {
        let (store, options, _directory) = impatient_store().await;
        let mut other = options.connect().await.expect("the same file");

        let mut old = other.begin().await.expect("started without the lock");
        sqlx::query("SELECT users FROM referral_user_totals").execute(&mut *old).await.expect("read");
        execute(&store, COUNT).await.expect("written");
        let error = sqlx::query(COUNT).execute(&mut *old).await.expect_err("outdated snapshot");
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        assert_eq!(code.as_deref(), Some("517"));
        assert!(matches!(failure(error), StorageError::Unavailable(_)));
    }

    #[cfg(unix)]
    #[test]
    fn only_files_of_this_user_without_access_for_others_are_accepted() {
        let check = |owner, mode: u32, user| {
            private::check_owner_and_mode(Path::new("a.db"), owner, 0o100_000 | mode, user)
        };
        for mode in [0o600, 0o400, 0o700] {
            assert!(check(7, mode, 7).is_ok(), "{mode:o}");
            let error = check(0, mode, 7).expect_err("another owner").to_string();
            assert!(
                error.contains("a.db") && error.contains("user 0") && error.contains("user 7"),
                "{error}"
            );
            assert!(check(7, mode, 0).is_err(), "root must own the file too");
        }
        for mode in [0o640, 0o620, 0o604, 0o602, 0o610, 0o601, 0o666, 0o777] {
            let error = check(7, mode, 7).expect_err("exposed").to_string();
            assert!(error.contains(&format!("{mode:04o}")) && error.contains("chmod 600 a.db"), "{error}");
        }
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let (store, _options, _directory) = impatient_store().await;
        let written = store.reader().await.expect("a reader").execute(COUNT).await;
        assert!(written.is_err());
    }

    #[tokio::test]
    async fn only_the_connection_that_writes_has_the_larger_cache() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = SqliteOptions { write_cache: 5_000, ..SqliteOptions::default() };
        let store = SqliteStorage::open(&directory.path().join("referral.db"), &options).await;
        let store = store.expect("a new file");
        let written = store.writer.write(move |connection| {
            async move {
                let row = connection.fetch_one("PRAGMA cache_size").await.map_err(failure)?;
                Ok(row.get::<i64, _>(0))
            }
            .boxed()
        });
        let written = written.await.expect("a pragma");
        let mut reader = store.reader().await.expect("a reader");
        let read: i64 = reader.fetch_one("PRAGMA cache_size").await.expect("a pragma").get(0);
        assert_eq!([written, read], [-5_000, -2_000]);
    }

    #[tokio::test]
    async fn all_connections_have_the_settings() {
        let (store, _options, _directory) = impatient_store().await;
        for (pragma, value) in [
            ("PRAGMA foreign_keys", "1"),
            ("PRAGMA journal_mode", "wal"),
            ("PRAGMA synchronous", "2"),
            ("PRAGMA secure_delete", "1"),
        ] {
            let mut reader = store.reader().await.expect("a reader");
            let read = reader.fetch_one(pragma).await.expect("a pragma");
            let written = store.writer.write(move |connection| {
                async move {
                    let row = connection.fetch_one(pragma).await.map_err(failure)?;
                    Ok(row.get_unchecked::<String, _>(0))
                }
                .boxed()
            });
            assert_eq!(written.await.expect("a pragma"), value, "{pragma}");
            assert_eq!(read.get_unchecked::<String, _>(0), value, "{pragma}");
        }
    }
}
