//! Opening a PostgreSQL database: what its URL says, and what each connection is told.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::sync::Semaphore;

use super::{
    PostgresStore,
    hosts::{self, Hosts},
    migrations, statements,
};
use crate::{ConnectError, SEARCH_TIMEOUT, bulkhead::Bulkhead, pool::Connections};

/// How long a transaction may be open while its process does nothing: frozen, it would hold its
/// locks.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Part of the connections that expensive lists may use at most. Each keeps a core of the database busy:
/// one of the ten connections that are the default, which are several for each core.
const LIST_CONNECTIONS_DIVISOR: u32 = 8;

/// Connections that are kept for reads while all writes wait for their commit, beside those of lists.
const READ_CONNECTIONS: u32 = 1;

/// Time that a response may take in addition to the time limit of its statement.
const RESPONSE_TIME: Duration = Duration::from_secs(1);

/// Time after which the server asks whether the host of an idle connection is still there, three times.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What a statement may take when the schema is brought up to date: as long as it takes.
const NO_TIMEOUT: Duration = Duration::ZERO;

/// How a PostgreSQL database is used, beside what its URL says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// Connections that are open at most. By default 10: several for each core of a small database
    /// server, fewer than the hundred that it lets in, so that there is room for other processes.
    pub max_connections: u32,
    /// How long to wait for a connection when all are in use, or the server is away. By default 3 s:
    /// clients of an HTTP interface do not wait longer.
    pub acquire_timeout: Duration,
    /// How long the database may take for a statement, locks included. By default 5 s.
    pub statement_timeout: Duration,
    /// Time that the database has for a list that [is
    /// expensive](referral_core::storage::UserQuery::is_expensive), such as a search. By default 500 ms.
    pub search_timeout: Duration,
    /// Whether the URL leads to a pooler that hands out another connection for each transaction, such
    /// as `PgBouncer` with `pool_mode = transaction`. Then each request is one transaction, and nothing
    /// is prepared or set for longer, which costs two round trips and more. By default false.
    pub transaction_pooler: bool,
    /// Whether migrations that are missing are applied. By default true. If not, the schema must be up to date.
    pub migrate: bool,
    /// Where the schema is brought up to date, if not at the URL: through such a pooler it cannot be.
    /// Without it, behind a pooler, the schema must be up to date.
    pub migration_url: Option<String>,
    /// Whether an advisory lock is taken while the schema is brought up to date. By default true;
    /// some engines that speak PostgreSQL's protocol have no such locks.
    pub migration_lock: bool,
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
        }
    }
}

/// Opens the database that `url` names, and brings its schema up to date.
pub(crate) async fn open(url: &str, options: &PostgresOptions) -> Result<PostgresStore, ConnectError> {
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
        migrations::run(&mut connection, options.migration_lock).await?;
        connection.close().await.map_err(not_opened)?;
    }

    let timeout = options.statement_timeout;
    let to_connect = if options.transaction_pooler { pooled(url)? } else { direct(url, timeout)? };
    let size = options.max_connections;
    let hosts = Hosts::new(to_connect);
    let pool = Connections::new(hosts, size, options.acquire_timeout);
    let mut begin = "BEGIN ISOLATION LEVEL READ COMMITTED".to_owned();
    if options.transaction_pooler {
        let (timeout, idle) = (timeout.as_millis(), IDLE_TRANSACTION_TIMEOUT.as_millis());
        begin = format!(
            "{begin}; SET LOCAL statement_timeout = {timeout}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle}"
        );
    }
    // Zero would be no timeout at all. Parallel workers would use cores that the limit does not count.
    let begin_list = format!(
        "{begin}; SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {}; \
         SET LOCAL max_parallel_workers_per_gather = 0",
        options.search_timeout.as_millis().max(1)
    );
    let lists = (size / LIST_CONNECTIONS_DIVISOR).max(1);
    let writes = size.saturating_sub(lists + READ_CONNECTIONS).max(1);
    let store = PostgresStore {
        pool,
        behind_pooler: options.transaction_pooler,
        begin: begin.into(),
        begin_list: begin_list.into(),
        lists: Bulkhead::new(lists, options.acquire_timeout),
        is_full: AtomicBool::new(false),
        writes: Arc::new(Semaphore::new(usize::try_from(writes).unwrap_or(Semaphore::MAX_PERMITS))),
        acquire_timeout: options.acquire_timeout,
        response_timeout: timeout.saturating_add(RESPONSE_TIME),
    };
    let mut lease = store.lease().await.map_err(|error| ConnectError::NotReached(error.into()))?;
    if migration_url.is_none() {
        migrations::check_connection(&mut lease).await?;
    }
    lease.finish().await.map_err(|error| ConnectError::NotReached(error.into()))?;
    Ok(store)
}

/// A connection that is ours for as long as it lasts.
fn direct(url: &str, statement_timeout: Duration) -> Result<Vec<PgConnectOptions>, ConnectError> {
    let timeout = |duration: Duration| duration.as_millis().to_string();
    let settings = [
        ("default_transaction_isolation", "read committed".to_owned()),
        ("statement_timeout", timeout(statement_timeout)),
        ("idle_in_transaction_session_timeout", timeout(IDLE_TRANSACTION_TIMEOUT)),
        // A host that has lost its power would otherwise hold its connections and locks for two hours.
        ("tcp_keepalives_idle", KEEPALIVE.as_secs().to_string()),
        ("tcp_keepalives_interval", KEEPALIVE.as_secs().to_string()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", timeout(3 * KEEPALIVE)),
        // Compiling a statement takes longer than any of these runs.
        ("jit", "off".to_owned()),
        // Where a page is read matters little, on a disk without moving parts and in memory: so the
        // indexes are used from the first thousand users on.
        ("random_page_cost", "1.1".to_owned()),
    ];
    Ok(hosts::parse(url)?.into_iter().map(|host| host.options(settings.clone())).collect())
}

/// A connection of which each transaction may get another.
fn pooled(url: &str) -> Result<Vec<PgConnectOptions>, ConnectError> {
    Ok(hosts::parse(url)?.into_iter().map(|host| host.statement_cache_capacity(0)).collect())
}

/// Texts are in any script, which not every encoding has.
async fn check_encoding(connection: &mut PgConnection) -> Result<(), ConnectError> {
    let encoding = sqlx::query_scalar(statements::ENCODING).fetch_one(connection).await;
    let encoding: String = encoding.map_err(not_opened)?;
    if encoding == "UTF8" { Ok(()) } else { Err(ConnectError::NotUtf8 { encoding }) }
}

fn not_opened(error: sqlx::Error) -> ConnectError {
    ConnectError::NotReached(error.into())
}
