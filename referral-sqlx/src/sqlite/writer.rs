//! The one connection that writes, and the queue in front of it.
//!
//! What waits in the queue is written in one transaction and committed together, since the commit,
//! which waits for the disk, is what costs. Each step is on its own all the same: one that fails is
//! undone alone, and nobody is answered before the commit that holds what they asked for.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use referral_core::storage::{BoxError, Result, StorageError};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};

use super::{
    log::{Log, Quiet},
    open::PATIENCE,
    statements,
};
use crate::error::failure;

/// How many steps are committed together at most, so that the first does not wait for long.
const MAX_GROUP: usize = 64;

/// How many steps wait at most; others wait to wait, for as long as one waits for a connection.
const MAX_QUEUE: usize = 1_024;

/// Takes steps that write, and does them one after another.
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
}

enum Message {
    Step(Box<dyn Step>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Begins to take steps. `connection` is opened anew with `options` if it breaks.
    /// Keeps `log` short.
    pub(super) fn start(connection: SqliteConnection, options: SqliteConnectOptions, log: Log) -> Self {
        let (queue, steps) = mpsc::channel(MAX_QUEUE);
        tokio::spawn(Worker { steps, connection, options, log, closing: None }.work());
        Self { queue }
    }

    /// Does one step that excludes all others that write, here and in other processes: whatever it
    /// wrote is committed if it ends well, refusals included, and undone if it fails.
    pub(crate) async fn write<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let step = Message::Step(Box::new(Pending { step, answer }));
        let queued = self.queue.send_timeout(step, PATIENCE).await;
        queued.map_err(|error| StorageError::Unavailable(error.to_string().into()))?;
        answered.await.unwrap_or_else(|_| Err(failure(sqlx::Error::PoolClosed)))
    }

    /// Closes the connection, after the steps that were begun.
    pub(crate) async fn close(&self) {
        let (closed, done) = oneshot::channel();
        if self.queue.send(Message::Close(closed)).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// A step with whoever waits for it.
struct Pending<T, F> {
    step: F,
    answer: oneshot::Sender<Result<T>>,
}

/// [`Pending`] without its type.
trait Step: Send {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;

    /// Does the step, and says what is left to do.
    fn run<'c>(self: Box<Self>, connection: &'c mut SqliteConnection) -> BoxFuture<'c, Done>
    where
        Self: 'c;

    /// Answers without having done anything.
    fn fail(self: Box<Self>, error: &Arc<sqlx::Error>);
}

/// A step that was done but is not committed yet.
struct Done {
    is_sound: bool,
    answer: Answer,
}

/// Tells whoever waits what was done, or why it could not be committed.
type Answer = Box<dyn FnOnce(Option<&Arc<sqlx::Error>>) + Send>;

impl<T, F> Step for Pending<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T>> + Send,
{
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run<'c>(self: Box<Self>, connection: &'c mut SqliteConnection) -> BoxFuture<'c, Done>
    where
        Self: 'c,
    {
        let Self { step, answer } = *self;
        async move {
            // A bug in one step must not take the writer from all others.
            let outcome = AssertUnwindSafe(async { step(connection).await }).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| Err(StorageError::Failed("a step panicked".into())));
            Done {
                is_sound: outcome.is_ok(),
                answer: Box::new(move |not_committed| {
                    let outcome = match not_committed {
                        Some(error) if outcome.is_ok() => Err(shared_failure(error)),
                        _ => outcome,
                    };
                    // Whoever asked may have gone.
                    let _ = answer.send(outcome);
                }),
            }
        }
        .boxed()
    }

    fn fail(self: Box<Self>, error: &Arc<sqlx::Error>) {
        let _ = self.answer.send(Err(shared_failure(error)));
    }
}

/// One error for several who wait.
fn shared_failure(error: &Arc<sqlx::Error>) -> StorageError {
    let source: BoxError = Arc::clone(error).into();
    if crate::error::is_passing(error) {
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
    /// Whoever waits for the end.
    closing: Option<oneshot::Sender<()>>,
}

impl Worker {
    async fn work(mut self) {
        while self.closing.is_none() {
            // The log first, since readers are held back until it is reset.
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

    /// Does `first` and what waits behind it, and commits all together.
    async fn commit_group(&mut self, first: Box<dyn Step>) {
        if let Err(error) = self.begin().await {
            // Whoever waits would wait for the same again, each in turn.
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
                // The transaction is gone, and with it all that was done in it.
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
        let committed = self.execute(statements::COMMIT).await;
        self.end(group, committed).await;
    }

    /// The next step that waits, if one does.
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

    /// Does a step, in the savepoint that waits for it, so that it can be undone alone.
    async fn run_alone(&mut self, step: Box<dyn Step>) -> std::result::Result<Done, (Done, sqlx::Error)> {
        let done = step.run(&mut self.connection).await;
        let settle = if done.is_sound { statements::NEXT_STEP } else { statements::UNDO_STEP };
        match self.execute(settle).await {
            Ok(()) => Ok(done),
            // A step that failed has ended the transaction: the disk is full, say. To the others of
            // the group that is no fault of theirs, and passes.
            Err(error) if !done.is_sound => Err((done, sqlx::Error::Io(std::io::Error::other(error)))),
            Err(error) => Err((done, error)),
        }
    }

    /// Answers all of a group.
    async fn end(&mut self, group: Vec<Done>, committed: sqlx::Result<()>) {
        let error = committed.err().map(Arc::new);
        if error.is_some() {
            // Where SQLite has undone the transaction itself, there is nothing left to undo.
            let _ = self.execute(statements::ROLLBACK).await;
        }
        for done in group {
            (done.answer)(error.as_ref());
        }
    }

    async fn begin(&mut self) -> sqlx::Result<()> {
        match self.execute(statements::BEGIN_GROUP).await {
            Err(sqlx::Error::WorkerCrashed) => {
                tracing::warn!("the connection that writes is replaced");
                self.connection = self.options.connect().await?;
                self.execute(statements::BEGIN_GROUP).await
            }
            begun => begun,
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

    /// Does all at once: the first blocks the writer until the others wait behind it, so that
    /// these are one group.
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
            // It is queued at its first poll, as those before it were.
            let (written, _) = tokio::join!(written, async { open.send(()) });
            written
        };
        let (_, first, second, third) =
            tokio::join!(biased; blocking, execute(store, first), execute(store, second), last);
        [first, second, third]
    }

    #[tokio::test]
    async fn a_step_that_fails_in_a_group_hurts_no_other() {
        let (store, _options, _folder) = impatient_store().await;
        let bad = "UPDATE totals SET users = -1";
        let [first, second, third] = in_one_group(&store, [COUNT, bad, COUNT]).await;
        assert!(first.is_ok() && third.is_ok());
        assert!(matches!(second, Err(StorageError::Failed(_))));
        assert_eq!(counted(&store).await, 2);
    }

    #[tokio::test]
    async fn nobody_of_a_group_that_is_not_committed_is_told_that_all_is_well() {
        let (store, _options, _folder) = impatient_store().await;
        // As if the disk were full: the transaction is gone, and with it what was done in it.
        let outcomes = in_one_group(&store, [COUNT, "ROLLBACK", COUNT]).await;
        assert!(matches!(outcomes, [Err(_), Err(_), Ok(())]), "the third begins a group of its own");
        assert_eq!(counted(&store).await, 1);
    }

    #[tokio::test]
    async fn a_step_that_panics_is_undone_and_takes_no_other_with_it() {
        let (store, _options, _folder) = impatient_store().await;
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
    async fn a_transaction_that_sqlite_undid_does_not_keep_others_from_beginning() {
        let (store, _options, _folder) = impatient_store().await;
        // As if the disk were full: the file may not grow.
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
    async fn what_waits_is_written_before_the_end_and_what_comes_later_is_refused() {
        let (store, _options, _folder) = impatient_store().await;
        let (first, second, ()) =
            tokio::join!(biased; execute(&store, COUNT), execute(&store, COUNT), store.writer.close());
        assert!(first.is_ok() && second.is_ok());
        assert!(matches!(execute(&store, COUNT).await, Err(StorageError::Unavailable(_))));
        assert_eq!(counted(&store).await, 2);
    }
}
