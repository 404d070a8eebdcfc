//! Connection for one request, with a time limit on each response of the server.

use std::{borrow::Cow, io, sync::Arc, time::Duration};

use referral_core::{Invitation, User, storage::Result};
use sqlx::{
    AssertSqlSafe, Connection as _, Execute as _, Executor as _, PgConnection, Postgres, QueryBuilder,
    Row as _, SqlSafeStr,
    postgres::{PgArguments, PgQueryResult, PgRow},
    query::Query,
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    connections::{Connection, Connections},
    error::{is_broken, is_of_standby},
    open::RESPONSE_TIME,
    retry::{self, WriteConflict},
    schema::Schema,
    write::Values,
};
use crate::{
    bulkhead::Place,
    error::failure,
    hook::{self, Changes, TransactionHook},
};

/// Time that a check waits for a connection while requests use all of them.
const SHORT_WAIT: Duration = Duration::from_millis(100);

const HOOK_SAVEPOINT: &str = "SAVEPOINT referral_hook";
const RELEASE_HOOK_SAVEPOINT: &str = "RELEASE SAVEPOINT referral_hook";

/// Selects whether a commit of this role waits for a synchronous standby.
const COMMITS_WAIT: &str = "\
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = current_user) \
    AS commits_wait";

pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Connection from a pool for one request.
pub(super) type Lease = AnyLease<'static>;

/// Connection for one request, or of a transaction of the host. Either all statements on it are one
/// transaction, or each statement is one.
pub(super) struct AnyLease<'c> {
    pub(super) pool: Connections,
    /// Present until the lease is dropped.
    pub(super) connection: Option<Connection<'c>>,
    pub(super) schema: Schema,
    pub(super) hook: Option<Arc<dyn TransactionHook<Postgres>>>,
    /// First statements of a transaction.
    pub(super) begin: Arc<str>,
    pub(super) response_timeout: Duration,
    /// `true` if a transaction is open.
    pub(super) in_transaction: bool,
    pub(super) state: State,
    /// `true` if statements stay prepared from one transaction to the next.
    pub(super) is_prepared: bool,
    /// Place of an expensive list.
    pub(super) list: Option<Arc<Place>>,
    /// Place of a request that writes.
    pub(super) write: Option<OwnedSemaphorePermit>,
}

/// State of the connection of a lease.
#[derive(PartialEq, Eq)]
pub(super) enum State {
    /// A statement may run, or a transaction may be open.
    InUse,
    /// All statements have finished and are committed.
    Settled,
    /// The server did not respond in time. It is unavailable, or a commit waits for a standby.
    Silent,
    /// The connection cannot be used any more.
    Broken,
}

impl AnyLease<'_> {
    pub(super) fn query<'q>(&self, statement: impl SqlSafeStr) -> Statement<'q> {
        sqlx::query(self.schema.rename_in(statement)).persistent(self.is_prepared)
    }

    pub(super) fn compose(&self, mut statement: Values) -> Result<Statement<'static>> {
        if let Cow::Owned(renamed) = self.schema.rename(&statement.sql) {
            statement.sql = renamed;
        }
        Ok(statement.into_query().map_err(failure)?.persistent(self.is_prepared))
    }

    pub(super) fn build(&self, mut statement: QueryBuilder<Postgres>) -> Result<Statement<'static>> {
        let values =
            statement.build().take_arguments().map_err(|error| failure(sqlx::Error::Encode(error)))?;
        let statement = self.schema.rename_in(statement.into_sql());
        Ok(sqlx::query_with(statement, values.unwrap_or_default()).persistent(self.is_prepared))
    }

    pub(super) async fn fetch_all(&mut self, statement: Statement<'_>) -> sqlx::Result<Vec<PgRow>> {
        self.run(async |connection| statement.fetch_all(connection).await).await
    }

    pub(super) async fn fetch_one(&mut self, statement: Statement<'_>) -> sqlx::Result<PgRow> {
        self.run(async |connection| statement.fetch_one(connection).await).await
    }

    pub(super) async fn fetch_optional(&mut self, statement: Statement<'_>) -> sqlx::Result<Option<PgRow>> {
        self.run(async |connection| statement.fetch_optional(connection).await).await
    }

    pub(super) async fn execute(&mut self, statement: Statement<'_>) -> sqlx::Result<PgQueryResult> {
        self.run(async |connection| statement.execute(connection).await).await
    }

    /// Executes a statement that writes one row, or no row if the facts have changed.
    pub(super) async fn write_row(&mut self, statement: Statement<'_>) -> Result<()> {
        match self.execute(statement).await.map_err(retry::write_error)?.rows_affected() {
            1 => Ok(()),
            _ => Err(WriteConflict::Stale.into()),
        }
    }

    /// Executes statements without values.
    pub(super) async fn execute_text(&mut self, statements: &str) -> sqlx::Result<()> {
        let statements = sqlx::raw_sql(AssertSqlSafe(self.schema.rename(statements).into_owned()));
        self.run(async |connection| connection.execute(statements).await.map(drop)).await
    }

    /// Runs `work` with a time limit, and records whether the connection broke. In a transaction of the host,
    /// its own time limits apply.
    pub(super) async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let connection =
            self.connection.as_mut().expect("the connection is present until the lease is dropped");
        let timeout = match connection {
            Connection::InTransaction(_) => Duration::MAX,
            _ => self.response_timeout,
        };
        let done = within(timeout, work(connection)).await;
        self.state = match &done {
            Err(error) if is_timeout(error) => State::Silent,
            Err(error) if is_broken(error) || is_of_standby(error) => State::Broken,
            _ => State::InUse,
        };
        done
    }

    /// Starts a transaction for the next statements, if a hook will run and there is no transaction. Dropping the
    /// lease rolls it back.
    pub(super) async fn begin_for_hook(
        &mut self,
        user: Option<&User>,
        invitation: Option<&Invitation>,
    ) -> Result<()> {
        if self.hook.is_some() && (user.is_some() || invitation.is_some()) && !self.in_transaction {
            let begin = Arc::clone(&self.begin);
            self.begin(&begin).await?;
        }
        Ok(())
    }

    /// Starts a transaction with these statements.
    pub(super) async fn begin(&mut self, begin: &str) -> Result<()> {
        // The flag is set before the statement, because the server may start the transaction although its
        // response is late.
        self.in_transaction = true;
        self.execute_text(begin).await.map_err(failure)
    }

    /// Runs the hook, if there is work for it, as the last part of the transaction, and commits. In a
    /// transaction of the host, it commits nothing.
    ///
    /// The savepoint shows whether the hook has ended the transaction, or has ignored an error that aborted it:
    /// then it cannot be released. `sqlx` counts it as the transaction, so a transaction that the hook starts on
    /// the connection is a savepoint too.
    pub(super) async fn run_hook(
        &mut self,
        user: Option<&User>,
        invitation: Option<&Invitation>,
    ) -> Result<()> {
        let changes = Changes { created: user, accepted: invitation, ..Changes::default() };
        self.run_hook_for(changes).await
    }

    /// Runs the hook for changes, as [`run_hook`](Self::run_hook) does.
    pub(super) async fn run_hook_for(&mut self, changes: Changes<'_>) -> Result<()> {
        let Some(hook) = self.hook.clone().filter(|_| !changes.is_empty()) else { return Ok(()) };
        let timeout = self.response_timeout.saturating_sub(RESPONSE_TIME);
        let is_of_host = matches!(self.connection, Some(Connection::InTransaction(_)));
        let ran = self.run(async |connection| {
            // In a transaction that `sqlx` knows, `begin` starts a savepoint, and `commit` releases it.
            let mut transaction = if is_of_host {
                connection.begin().await?
            } else {
                connection.begin_with(HOOK_SAVEPOINT).await?
            };
            let ran = hook::run(&*hook, &mut transaction, timeout, changes).await;
            if ran.is_ok() {
                if !is_of_host {
                    transaction.execute(RELEASE_HOOK_SAVEPOINT).await?;
                }
                transaction.commit().await?;
            } else {
                transaction.rollback().await?;
            }
            Ok(ran)
        });
        let ran = ran.await.map_err(retry::write_error)?;
        self.in_transaction = false;
        ran
    }

    /// Commits the open transaction, if there is one, and returns the connection to the pool.
    pub(super) async fn finish(mut self) -> Result<()> {
        if self.in_transaction {
            self.execute_text("COMMIT").await.map_err(retry::write_error)?;
        }
        self.state = State::Settled;
        Ok(())
    }
}

/// Waits up to `timeout` for a response of the database.
async fn within<T>(timeout: Duration, response: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match tokio::time::timeout(timeout, response).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the database did not respond in time").into()),
    }
}

fn is_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Rolls back immediately and not when the connection is used next, because other requests may wait for the
/// locks of the transaction, and the next statement would get its responses. Drops the connection if the
/// rollback fails.
impl Drop for AnyLease<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take().filter(|_| self.state != State::Settled);
        let Some(connection) = connection.and_then(Connection::pooled) else { return };
        let runtime = tokio::runtime::Handle::try_current().ok().filter(|_| self.state != State::Broken);
        let Some(runtime) = runtime else {
            connection.discard();
            return;
        };
        let unsettled = Unsettled {
            pool: self.pool.clone(),
            connection,
            response_timeout: self.response_timeout,
            in_transaction: self.in_transaction,
            is_silent: self.state == State::Silent,
            _list: self.list.take(),
            write: self.write.take(),
        };
        runtime.spawn(unsettled.settle());
    }
}

/// Connection whose lease was dropped before it was settled. It keeps its places until it is settled.
struct Unsettled {
    pool: Connections,
    connection: Connection<'static>,
    response_timeout: Duration,
    in_transaction: bool,
    /// `true` if the server did not respond in time before.
    is_silent: bool,
    _list: Option<Arc<Place>>,
    write: Option<OwnedSemaphorePermit>,
}

impl Unsettled {
    async fn settle(mut self) {
        if !self.is_settled().await {
            self.connection.discard();
        }
    }

    /// Waits for the server and rolls back. Returns `false` if the connection cannot be used any more.
    ///
    /// While commits wait for a standby, the connection and its place are kept. If the connection were
    /// dropped, the server would keep its side open, and each write would occupy another connection of the
    /// server.
    async fn is_settled(&mut self) -> bool {
        loop {
            if !self.is_silent {
                match within(self.response_timeout, self.roll_back()).await {
                    Ok(()) => return true,
                    Err(error) if !is_timeout(&error) => return false,
                    Err(_) => {}
                }
            }
            self.is_silent = false;
            if self.write.is_none() || !self.commits_wait().await {
                return false;
            }
        }
    }

    async fn roll_back(&mut self) -> sqlx::Result<()> {
        if self.in_transaction {
            self.connection.execute("ROLLBACK").await.map(drop)
        } else {
            self.connection.ping().await
        }
    }

    /// Returns `true` if the server can be reached and commits of this role wait for a standby.
    async fn commits_wait(&self) -> bool {
        let Ok(mut connection) = self.pool.acquire_within(SHORT_WAIT).await else { return false };
        let waiting = connection.fetch_one(sqlx::raw_sql(COMMITS_WAIT));
        let waiting =
            within(self.response_timeout, waiting).await.and_then(|row| row.try_get("commits_wait"));
        waiting.unwrap_or_else(|_| {
            connection.discard();
            false
        })
    }
}
