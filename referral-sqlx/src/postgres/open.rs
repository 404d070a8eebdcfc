//! Functions that open a PostgreSQL database, its options, and the settings of its connections.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, PgPool, Postgres, postgres::PgConnectOptions};
use tokio::sync::Semaphore;

use super::{
    PostgresStorage,
    connections::Connections,
    hosts::{self, Hosts},
    migrations,
    schema::{self, Schema},
};
use crate::{
    bulkhead::{Bulkhead, SEARCH_TIMEOUT},
    error::ConnectError,
    hook::TransactionHook,
    migrations::SchemaMigration,
    pool,
};

/// Time that a transaction may be idle. A frozen process would otherwise keep its locks.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Divisor of the number of connections that gives the maximum for expensive lists. Each list uses a core of
/// the database. Of the default ten connections, which are several for each core, lists may use one.
const LIST_CONNECTIONS_DIVISOR: u32 = 8;

/// Connections that are reserved for reads while all writes wait for their commit, in addition to those for
/// lists.
const READ_CONNECTIONS: u32 = 1;

/// Time for a response in addition to the time limit of its statement.
pub(super) const RESPONSE_TIME: Duration = Duration::from_secs(1);

/// Idle time after which the server sends a keepalive probe, and interval between the three probes.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Time limit of the statements of a migration: none.
const NO_TIMEOUT: Duration = Duration::ZERO;

const ENCODING: &str = "SELECT current_setting('server_encoding') AS encoding";

/// Options of a PostgreSQL database that are not part of its URL.
#[derive(Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// Maximum number of open connections. Default: 10. That is several for each core of a small database
    /// server, and fewer than the hundred that a server accepts, so that other processes can connect too.
    pub max_connections: u32,
    /// Time to wait for a connection if all are in use or the server is unavailable. Default: 3 s, because
    /// clients of an HTTP API do not wait longer.
    pub acquire_timeout: Duration,
    /// Time limit of a statement, including the wait for locks. Default: 5 s.
    pub statement_timeout: Duration,
    /// Time limit of a list that [is expensive](referral_core::storage::UserQuery::is_expensive), such as a
    /// search. Default: 500 ms.
    pub search_timeout: Duration,
    /// `true` if the URL leads to a pooler that may use a different connection for each transaction, such as
    /// `PgBouncer` with `pool_mode = transaction`. Each request is then one transaction. Prepared statements
    /// and settings do not outlive it, which costs two or more additional round trips. Default: `false`.
    pub transaction_pooler: bool,
    /// `true` if missing migrations are applied. If `false`, the schema must be up to date. Default: `true`.
    pub migrate: bool,
    /// URL for the migrations, if it differs from the URL of the database. It is necessary behind such a
    /// pooler, which migrations cannot use. Without it, the schema behind a pooler must be up to date.
    pub migration_url: Option<String>,
    /// `true` if migrations take an advisory lock. Some engines with the PostgreSQL protocol do not support
    /// advisory locks. Default: `true`.
    pub migration_lock: bool,
    /// Name of the schema that contains the tables: lowercase letters, digits and underscores. Default:
    /// `referral`.
    pub schema: Cow<'static, str>,
    /// Hook that runs in the transaction that adds a user. Such a transaction then takes four more round trips.
    /// Default: none.
    pub hook: Option<Arc<dyn TransactionHook<Postgres>>>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(5),
            search_timeout: SEARCH_TIMEOUT,
            transaction_pooler: false,
            migrate: true,
            migration_url: None,
            migration_lock: true,
            schema: schema::DEFAULT.into(),
            hook: None,
        }
    }
}

impl PostgresStorage {
    /// Opens the database at `url` with connections of its own, and migrates its schema. [`connect`](crate::connect)
    /// describes the URL.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn connect(url: &str, options: &PostgresOptions) -> Result<Self, ConnectError> {
        let schema = Schema::parse(&options.schema)?;
        let migration_url = match &options.migration_url {
            _ if !options.migrate => None,
            None if options.transaction_pooler => None,
            given => Some(given.as_deref().unwrap_or(url)),
        };
        if let Some(url) = migration_url {
            let hosts = Hosts::new(direct(url, NO_TIMEOUT)?);
            let connection = hosts.connect_within(options.acquire_timeout).await;
            let mut connection = connection.map_err(|error| ConnectError::NotReached(error.into()))?;
            check_encoding(&mut connection).await?;
            migrations::run(&mut connection, &schema, options.migration_lock).await?;
            connection.close().await.map_err(not_opened)?;
        }
        let timeout = options.statement_timeout;
        let to_connect = if options.transaction_pooler { pooled(url)? } else { direct(url, timeout)? };
        let size = options.max_connections;
        let pool = pool::Connections::new(Hosts::new(to_connect), size, options.acquire_timeout);
        let settings = if options.transaction_pooler { local_settings(timeout, &[]) } else { String::new() };
        Self::start(Connections::Own(pool), size, schema, settings, migration_url.is_some(), options).await
    }

    /// Uses the connections of a pool of the host, and migrates the schema. The host closes the pool.
    ///
    /// The settings of the connections are kept. Each request is therefore a transaction with its own settings,
    /// which costs two more round trips than on connections of the storage. The options for the number of
    /// connections and the URL of the migrations have no effect. The pool may lead to a pooler: then set
    /// [`transaction_pooler`](PostgresOptions::transaction_pooler) and turn off
    /// [`migrate`](PostgresOptions::migrate).
    ///
    /// ```no_run
    /// # async fn open(pool: sqlx::PgPool) -> Result<(), referral_sqlx::ConnectError> {
    /// use referral_sqlx::{PostgresOptions, PostgresStorage};
    ///
    /// let storage = PostgresStorage::with_pool(pool, &PostgresOptions::default()).await?;
    /// # drop(storage);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    pub async fn with_pool(pool: PgPool, options: &PostgresOptions) -> Result<Self, ConnectError> {
        let schema = Schema::parse(&options.schema)?;
        if options.migrate {
            // The connection does not return to the pool: after a failed migration it would keep the lock.
            let mut connection = pool.acquire().await.map_err(not_opened)?.detach();
            check_encoding(&mut connection).await?;
            migrations::run(&mut connection, &schema, options.migration_lock).await?;
            connection.close().await.map_err(not_opened)?;
        }
        let size = pool.options().get_max_connections();
        let planner: &[_] = if options.transaction_pooler { &[] } else { &PLANNER_SETTINGS };
        let settings = local_settings(options.statement_timeout, planner);
        let pool = Connections::OfHost { pool, timeout: options.acquire_timeout, is_closed: Arc::default() };
        Self::start(pool, size, schema, settings, options.migrate, options).await
    }

    /// Returns the migrations of the tables in `schema`, for hosts that apply them with their own. Such a host
    /// turns off [`migrate`](PostgresOptions::migrate).
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidSchemaName`] if the name is not a plain identifier.
    pub fn migrations(schema: &str) -> Result<Vec<SchemaMigration>, ConnectError> {
        Ok(migrations::scripts(&Schema::parse(schema)?))
    }

    /// Creates the storage on `pool`, which has `size` connections. If they have no settings, `settings` are the
    /// statements that set them in each transaction.
    async fn start(
        pool: Connections,
        size: u32,
        schema: Schema,
        settings: String,
        is_migrated: bool,
        options: &PostgresOptions,
    ) -> Result<Self, ConnectError> {
        let begin = format!("BEGIN ISOLATION LEVEL READ COMMITTED{settings}");
        // Zero would mean no timeout. Parallel workers would use more cores than the limit of lists allows. The
        // fastest way to count a common term is a scan that stops at the limit.
        let begin_list = format!(
            "{begin}; SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {}; \
             SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_seqscan = on",
            options.search_timeout.as_millis().max(1)
        );
        let lists = (size / LIST_CONNECTIONS_DIVISOR).max(1);
        let writes = size.saturating_sub(lists + READ_CONNECTIONS).max(1);
        let storage = Self {
            pool,
            migrations: migrations::all(&schema),
            schema,
            hook: options.hook.clone(),
            in_transactions: !settings.is_empty(),
            is_prepared: !options.transaction_pooler,
            begin: begin.into(),
            begin_list: begin_list.into(),
            lists: Bulkhead::new(lists, options.acquire_timeout),
            is_full: AtomicBool::new(false),
            writes: Arc::new(Semaphore::new(usize::try_from(writes).unwrap_or(Semaphore::MAX_PERMITS))),
            acquire_timeout: options.acquire_timeout,
            response_timeout: options.statement_timeout.saturating_add(RESPONSE_TIME),
        };
        let mut lease = storage.lease().await.map_err(|error| ConnectError::NotReached(error.into()))?;
        if !is_migrated {
            migrations::check_connection(&mut lease).await?;
        }
        lease.finish().await.map_err(|error| ConnectError::NotReached(error.into()))?;
        Ok(storage)
    }
}

/// Limits the list of n-grams that wait to be added to the search index, in KiB, until the end of a transaction.
/// Each search reads the whole list.
pub(super) const LIMIT_PENDING_LIST: &str = "SET LOCAL gin_pending_list_limit = 256";

/// Returns statements that set the time limits, the limit of the pending list and these settings until the end of
/// a transaction.
fn local_settings(statement_timeout: Duration, settings: &[(&str, &str)]) -> String {
    let (timeout, idle) = (statement_timeout.as_millis(), IDLE_TRANSACTION_TIMEOUT.as_millis());
    let always = format!(
        "; SET LOCAL statement_timeout = {timeout}; SET LOCAL idle_in_transaction_session_timeout = {idle}; \
         {LIMIT_PENDING_LIST}"
    );
    settings.iter().fold(always, |text, (name, value)| format!("{text}; SET LOCAL {name} = {value}"))
}

/// Settings of the planner, for connections that are not shared through a pooler.
pub(super) const PLANNER_SETTINGS: [(&str, &str); 3] = [
    // Compiling a statement takes longer than running any of these statements.
    ("jit", "off"),
    // On an SSD and in memory, random reads cost little more than sequential ones. With this setting the planner
    // uses the indexes from the first thousand users on.
    ("random_page_cost", "1.1"),
    // A statement is planned once for each connection. While a table is almost empty, the planner would choose
    // to read all of it, and keep this plan while the table grows. A statement that cannot avoid a sequential
    // scan may get a bad plan with this setting, so each statement has an index scan.
    ("enable_seqscan", "off"),
];

/// Returns the options of connections that are not shared through a pooler.
fn direct(url: &str, statement_timeout: Duration) -> Result<Vec<PgConnectOptions>, ConnectError> {
    let timeout = |duration: Duration| duration.as_millis().to_string();
    let settings = [
        ("default_transaction_isolation", "read committed".to_owned()),
        ("statement_timeout", timeout(statement_timeout)),
        ("idle_in_transaction_session_timeout", timeout(IDLE_TRANSACTION_TIMEOUT)),
        // The connections and locks of a host that lost power would otherwise remain for two hours.
        ("tcp_keepalives_idle", KEEPALIVE.as_secs().to_string()),
        ("tcp_keepalives_interval", KEEPALIVE.as_secs().to_string()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", timeout(3 * KEEPALIVE)),
        // The same limit as in `LIMIT_PENDING_LIST`.
        ("gin_pending_list_limit", "256".to_owned()),
    ];
    let planner = PLANNER_SETTINGS.map(|(name, value)| (name, value.to_owned()));
    let settings: Vec<_> = settings.into_iter().chain(planner).collect();
    Ok(hosts::parse(url)?.into_iter().map(|host| host.options(settings.clone())).collect())
}

/// Returns the options of connections through a pooler that may use a different connection for each
/// transaction.
fn pooled(url: &str) -> Result<Vec<PgConnectOptions>, ConnectError> {
    Ok(hosts::parse(url)?.into_iter().map(|host| host.statement_cache_capacity(0)).collect())
}

/// Checks that the encoding of the database is UTF-8. Texts can be in any script.
async fn check_encoding(connection: &mut PgConnection) -> Result<(), ConnectError> {
    let encoding = sqlx::query_scalar(ENCODING).fetch_one(connection).await;
    let encoding: String = encoding.map_err(not_opened)?;
    if encoding == "UTF8" { Ok(()) } else { Err(ConnectError::NotUtf8 { encoding }) }
}

fn not_opened(error: sqlx::Error) -> ConnectError {
    ConnectError::NotReached(error.into())
}
