//! Writer with a single connection and a queue.
//!
//! The writes in the queue are committed together in one transaction, because the commit, which waits for the
//! disk, is the most expensive part. Each write has its own savepoint. A failed write is undone without the
//! others. A caller gets its result only after the commit of its write.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use referral_core::storage::{BoxError, Result, StorageError};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};

use super::{
    ACQUIRE_TIMEOUT,
    wal::{Log, Quiet},
};
use crate::error::failure;

/// Starts a transaction for a group of writes, and the savepoint of the first write.
const BEGIN_GROUP: &str = "BEGIN IMMEDIATE; SAVEPOINT step";

/// Keeps a write of a group, and starts the savepoint of the next write.
const NEXT_STEP: &str = "RELEASE step; SAVEPOINT step";

/// Undoes a single write of a group. The savepoint remains for the next write.
const UNDO_STEP: &str = "ROLLBACK TO step";

/// Commits a group.
const COMMIT: &str = "COMMIT";

const ROLLBACK: &str = "ROLLBACK";

/// Maximum number of writes in one commit, so that the first write does not wait long.
const MAX_GROUP: usize = 64;

/// Maximum length of the queue. Further writes wait up to [`ACQUIRE_TIMEOUT`] for space in the queue.
const MAX_QUEUE: usize = 1_024;

/// Handle of the writer, which executes writes sequentially.
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
}

enum Message {
    Step(Box<dyn Step>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the writer. If `connection` breaks, the writer opens a new one with `options`. The writer also
    /// limits the length of `log`.
    pub(super) fn start(connection: SqliteConnection, options: SqliteConnectOptions, log: Log) -> Self {
        let (queue, steps) = mpsc::channel(MAX_QUEUE);
        tokio::spawn(Worker { steps, connection, options, log, closing: None }.work());
        Self { queue }
    }

    /// Executes a write that excludes all other writes, in this process and in others. Its changes are
    /// committed if `step` returns `Ok`, also for a refusal, and undone if it returns an error.
    pub(crate) async fn write<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let (response, outcome) = oneshot::channel();
        let step = Message::Step(Box::new(Pending { step, response }));
        let queued = self.queue.send_timeout(step, ACQUIRE_TIMEOUT).await;
        queued.map_err(|error| StorageError::Unavailable(error.to_string().into()))?;
        outcome.await.unwrap_or_else(|_| Err(failure(sqlx::Error::PoolClosed)))
    }

    /// Closes the connection after the queued writes.
    pub(crate) async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.queue.send(Message::Close(closed)).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// Queued write with the channel for its result.
struct Pending<T, F> {
    step: F,
    response: oneshot::Sender<Result<T>>,
}

/// [`Pending`] without its type parameters.
trait Step: Send {
    /// Returns `true` if the caller has dropped its request.
    fn is_abandoned(&self) -> bool;

    /// Executes the write. The result is sent to the caller later.
    fn run<'c>(self: Box<Self>, connection: &'c mut SqliteConnection) -> BoxFuture<'c, Done>
    where
        Self: 'c;

    /// Sends an error to the caller without executing the write.
    fn fail(self: Box<Self>, error: &Arc<sqlx::Error>);
}

/// Executed write that is not committed yet.
struct Done {
    is_sound: bool,
    respond: Respond,
}

/// Function that sends the result to the caller, or the error if the commit failed.
type Respond = Box<dyn FnOnce(Option<&Arc<sqlx::Error>>) + Send>;

impl<T, F> Step for Pending<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.response.is_closed()
    }

    fn run<'c>(self: Box<Self>, connection: &'c mut SqliteConnection) -> BoxFuture<'c, Done>
    where
        Self: 'c,
    {
        let Self { step, response } = *self;
        async move {
            // A panic in one write must not stop the writer.
            let outcome = AssertUnwindSafe(async { step(connection).await }).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| Err(StorageError::Failed("a write panicked".into())));
            Done {
                is_sound: outcome.is_ok(),
                respond: Box::new(move |not_committed| {
                    let outcome = match not_committed {
                        Some(error) if outcome.is_ok() => Err(shared_failure(error)),
                        _ => outcome,
                    };
                    // The caller may have dropped its request.
                    let _ = response.send(outcome);
                }),
            }
        }
        .boxed()
    }

    fn fail(self: Box<Self>, error: &Arc<sqlx::Error>) {
        let _ = self.response.send(Err(shared_failure(error)));
    }
}

/// Converts an error that is sent to several callers.
fn shared_failure(error: &Arc<sqlx::Error>) -> StorageError {
    let source: BoxError = Arc::clone(error).into();
    if crate::error::is_transient(error) {
        StorageError::Unavailable(source)
    } else {
        StorageError::Failed(source)
    }
}

/// Next task of the writer.
enum Next {
    Reset(Quiet),
    Message(Option<Message>),
}

struct Worker {
    steps: mpsc::Receiver<Message>,
    connection: SqliteConnection,
    options: SqliteConnectOptions,
    log: Log,
    /// Channel for the caller that waits until the writer is closed.
    closing: Option<oneshot::Sender<()>>,
}

impl Worker {
    async fn work(mut self) {
        while self.closing.is_none() {
            // The log comes first, because readers are blocked until it is reset.
            let next = match select(pin!(self.log.quiet()), pin!(self.steps.recv())).await {
                Either::Left((quiet, _)) => Next::Reset(quiet),
                Either::Right((message, _)) => Next::Message(message),
            };
            match next {
                Next::Reset(quiet) => self.log.reset(&mut self.connection, quiet).await,
                Next::Message(None) => break,
                Next::Message(Some(Message::Close(closed))) => self.closing = Some(closed),
                Next::Message(Some(Message::Step(step))) if step.is_abandoned() => {}
                Next::Message(Some(Message::Step(step))) => {
                    self.commit_group(step).await;
                    self.log.look();
                }
            }
        }
        let _ = self.connection.close().await;
        if let Some(closed) = self.closing {
            let _ = closed.send(());
        }
    }

    /// Executes `first` and the writes in the queue, and commits them together.
    async fn commit_group(&mut self, first: Box<dyn Step>) {
        if let Err(error) = self.begin().await {
            // Otherwise each write in the queue would wait for the same error sequentially.
            let error = Arc::new(error);
            first.fail(&error);
            while let Some(step) = self.take_step() {
                step.fail(&error);
            }
            return;
        }
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(step) = next.take() {
            match self.run_alone(step).await {
                Ok(done) => group.push(done),
                // The transaction and all its writes are undone.
                Err((done, error)) => {
                    group.push(done);
                    self.end(group, Err(error)).await;
                    return;
                }
            }
            if group.len() < MAX_GROUP {
                next = self.take_step();
            }
        }
        let committed = self.execute(COMMIT).await;
        self.end(group, committed).await;
    }

    /// Takes the next write from the queue, if there is one.
    fn take_step(&mut self) -> Option<Box<dyn Step>> {
        loop {
            match self.steps.try_recv().ok()? {
                Message::Step(step) if step.is_abandoned() => {}
                Message::Step(step) => return Some(step),
                Message::Close(closed) => {
                    self.closing = Some(closed);
                    return None;
                }
            }
        }
    }

    /// Executes a write in the savepoint that was prepared for it, so that it can be undone without the
    /// others.
    async fn run_alone(&mut self, step: Box<dyn Step>) -> std::result::Result<Done, (Done, sqlx::Error)> {
        let done = step.run(&mut self.connection).await;
        let settle = if done.is_sound { NEXT_STEP } else { UNDO_STEP };
        match self.execute(settle).await {
            Ok(()) => Ok(done),
            // The failed write has ended the transaction, for example because the disk is full. The other
            // writes of the group get a transient error.
            Err(error) if !done.is_sound => Err((done, sqlx::Error::Io(std::io::Error::other(error)))),
            Err(error) => Err((done, error)),
        }
    }

    /// Sends their results to all callers of a group.
    async fn end(&mut self, group: Vec<Done>, committed: sqlx::Result<()>) {
        let error = committed.err().map(Arc::new);
        if error.is_some() {
            // This fails if SQLite has rolled the transaction back itself.
            let _ = self.execute(ROLLBACK).await;
        }
        for done in group {
            (done.respond)(error.as_ref());
        }
    }

    async fn begin(&mut self) -> sqlx::Result<()> {
        match self.execute(BEGIN_GROUP).await {
            Err(sqlx::Error::WorkerCrashed) => {
                tracing::warn!("replacing the broken connection that writes");
                self.connection = self.options.connect().await?;
                self.execute(BEGIN_GROUP).await
            }
            result => result,
        }
    }

    async fn execute(&mut self, statement: &'static str) -> sqlx::Result<()> {
        sqlx::query(statement).execute(&mut self.connection).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Executor as _, Row as _};

    use super::{
        super::{
            SqliteStore,
            open::tests::{COUNT, counted, execute, impatient_store},
        },
        *,
    };

    /// Executes three statements as one group. Another write blocks the writer until all three are in the
    /// queue.
    async fn in_one_group(store: &SqliteStore, statements: [&'static str; 3]) -> [Result<()>; 3] {
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        let blocking = store.writer.write(move |_| {
            async move {
                let _ = gate.await;
                Ok(())
            }
            .boxed()
        });
        let [first, second, third] = statements;
        let last = async {
            let written = execute(store, third);
            // The write is queued at its first poll, like the ones before it.
            let (written, _) = tokio::join!(written, async { open.send(()) });
            written
        };
        let (_, first, second, third) =
            tokio::join!(biased; blocking, execute(store, first), execute(store, second), last);
        [first, second, third]
    }

    #[tokio::test]
    async fn a_failed_write_does_not_affect_others_of_its_group() {
        let (store, _options, _directory) = impatient_store().await;
        let bad = "UPDATE user_totals SET users = -1";
        let [first, second, third] = in_one_group(&store, [COUNT, bad, COUNT]).await;
        assert!(first.is_ok() && third.is_ok());
        assert!(matches!(second, Err(StorageError::Failed(_))));
        assert_eq!(counted(&store).await, 2);
    }

    #[tokio::test]
    async fn all_writes_of_a_group_fail_if_it_is_not_committed() {
        let (store, _options, _directory) = impatient_store().await;
        // As on a full disk, the transaction and its writes are undone.
        let outcomes = in_one_group(&store, [COUNT, "ROLLBACK", COUNT]).await;
        assert!(matches!(outcomes, [Err(_), Err(_), Ok(())]), "the third must be in another group");
        assert_eq!(counted(&store).await, 1);
    }

    #[tokio::test]
    async fn a_panicking_write_is_undone_and_the_writer_continues() {
        let (store, _options, _directory) = impatient_store().await;
        let bug = store.writer.write::<(), _>(|connection| {
            async move {
                connection.execute(COUNT).await.expect("written");
                panic!("a bug")
            }
            .boxed()
        });
        assert!(matches!(bug.await, Err(StorageError::Failed(_))));
        execute(&store, COUNT).await.expect("written");
        assert_eq!(counted(&store).await, 1);
    }

    #[tokio::test]
    async fn the_writer_continues_after_sqlite_rolls_back_a_transaction() {
        let (store, _options, _directory) = impatient_store().await;
        // As on a full disk, the file cannot grow.
        let fill = store.writer.write::<(), _>(|connection| {
            async move {
                let pages = sqlx::query("PRAGMA page_count").fetch_one(&mut *connection).await;
                let pages: i64 = pages.map_err(failure)?.get(0);
                let limit = format!("PRAGMA max_page_count = {pages}");
                connection.execute(sqlx::AssertSqlSafe(limit)).await.map_err(failure)?;
                let fill = "CREATE TABLE filler AS SELECT zeroblob(1000000)";
                connection.execute(fill).await.map(drop).map_err(failure)
            }
            .boxed()
        });
        assert!(matches!(fill.await, Err(StorageError::Unavailable(_))));
        for _ in 0..2 {
            execute(&store, COUNT).await.expect("written");
        }
    }

    #[tokio::test]
    async fn queued_writes_are_committed_before_close_and_later_ones_are_rejected() {
        let (store, _options, _directory) = impatient_store().await;
        let (first, second, ()) =
            tokio::join!(biased; execute(&store, COUNT), execute(&store, COUNT), store.writer.close());
        assert!(first.is_ok() && second.is_ok());
        assert!(matches!(execute(&store, COUNT).await, Err(StorageError::Unavailable(_))));
        assert_eq!(counted(&store).await, 2);
    }
}
