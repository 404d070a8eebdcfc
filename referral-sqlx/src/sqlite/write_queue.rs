//! Writer with a single connection and a queue.
//!
//! The writes in the queue are committed together in one transaction, because the commit, which waits for the
//! disk, is the most expensive part. Each write has its own savepoint. A failed write is undone without the
//! others. A caller gets its result only after the commit of its write.
//!
//! The second most expensive part is the way to the thread of the connection and back. The statements of one
//! write are therefore sent together with the query for the facts of the next one.

use std::{iter, marker::PhantomData, mem, panic::AssertUnwindSafe, pin::pin, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use referral_core::storage::{BoxError, Result, StorageError};
use sqlx::sqlite::SqliteRow;
use tokio::sync::{mpsc, oneshot};

use super::{
    ACQUIRE_TIMEOUT,
    batch::{Batch, Executed},
    connection::{Connection, File},
    wal::{Log, Quiet},
};
use crate::{error::failure, pool::Pooled as _};

/// Starts a transaction for a group of writes, and the savepoint of the first write.
const BEGIN_GROUP: &str = "BEGIN IMMEDIATE; SAVEPOINT referral_write";

/// Keeps a write of a group.
const KEEP_STEP: &str = "RELEASE referral_write";

/// Starts the savepoint of the next write.
const NEXT_STEP: &str = "SAVEPOINT referral_write";

/// Undoes a single write of a group. The savepoint remains for the next write.
const UNDO_STEP: &str = "ROLLBACK TO referral_write";

/// Commits a group.
const COMMIT: &str = "COMMIT";

const ROLLBACK: &str = "ROLLBACK";

/// Maximum number of writes in one commit, so that the first write does not wait long.
const MAX_GROUP: usize = 64;

/// Maximum length of the queue. Further writes wait up to [`ACQUIRE_TIMEOUT`] for space in the queue.
const MAX_QUEUE: usize = 1_024;

/// Write that is decided from one row of facts. It excludes all other writes, in this process and in others.
pub(super) trait Decide: Send + 'static {
    type Outcome: Send + 'static;

    /// Adds the query for the facts.
    fn push_facts(&self, batch: &mut Batch);

    /// Decides, and adds the statements that write the decision. It can read further facts on `connection`. The
    /// writes are committed if it returns `Ok`, also for a refusal.
    fn decide(
        self,
        facts: Option<SqliteRow>,
        connection: &mut Connection<'_>,
        writes: &mut Batch,
    ) -> impl Future<Output = Result<Self::Outcome>> + Send;
}

/// Write without facts, which executes its statements itself.
struct Direct<T, F> {
    write: F,
    outcome: PhantomData<fn() -> T>,
}

impl<T, F> Decide for Direct<T, F>
where
    T: Send + 'static,
    F: for<'c, 'd> FnOnce(&'c mut Connection<'d>) -> BoxFuture<'c, Result<T>> + Send + 'static,
{
    type Outcome = T;

    fn push_facts(&self, _: &mut Batch) {}

    async fn decide(self, _: Option<SqliteRow>, connection: &mut Connection<'_>, _: &mut Batch) -> Result<T> {
        (self.write)(connection).await
    }
}

/// Handle of the writer, which executes writes sequentially.
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
}

enum Message {
    Step(Box<dyn Step>),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the writer. If `connection` breaks, the writer opens a new one with `file`. The writer also
    /// limits the length of `log`.
    pub(super) fn start(connection: Connection<'static>, file: File, log: Log) -> Self {
        let (queue, steps) = mpsc::channel(MAX_QUEUE);
        tokio::spawn(Worker { steps, connection, file, log, closing: None }.work());
        Self { queue }
    }

    /// Decides and writes. The writer may run `write` after the caller has dropped its request.
    pub(super) async fn decide<D: Decide>(&self, write: D) -> Result<D::Outcome> {
        let (response, outcome) = oneshot::channel();
        let step = Message::Step(Box::new(Pending { write, response }));
        let queued = self.queue.send_timeout(step, ACQUIRE_TIMEOUT).await;
        queued.map_err(|error| StorageError::Unavailable(error.to_string().into()))?;
        outcome.await.unwrap_or_else(|_| Err(failure(sqlx::Error::PoolClosed)))
    }

    /// Executes a write without facts. Its changes are committed if `write` returns `Ok`, and undone if it
    /// returns an error.
    pub(crate) async fn write<T, F>(&self, write: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'c, 'd> FnOnce(&'c mut Connection<'d>) -> BoxFuture<'c, Result<T>> + Send + 'static,
    {
        self.decide(Direct { write, outcome: PhantomData }).await
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
struct Pending<D: Decide> {
    write: D,
    response: oneshot::Sender<Result<D::Outcome>>,
}

/// [`Pending`] without its type parameters.
trait Step: Send {
    /// Returns `true` if the caller has dropped its request.
    fn is_abandoned(&self) -> bool;

    fn push_facts(&self, batch: &mut Batch);

    /// Decides. The writes are executed, and the result is sent to the caller, later.
    fn decide<'c>(
        self: Box<Self>,
        facts: Option<SqliteRow>,
        connection: &'c mut Connection<'static>,
    ) -> BoxFuture<'c, Done>
    where
        Self: 'c;

    /// Sends an error to the caller without executing the write.
    fn fail(self: Box<Self>, error: StorageError);
}

/// Decided write that is not committed yet.
struct Done {
    /// Statements that are not executed yet.
    writes: Batch,
    is_sound: bool,
    /// Error of the writes.
    error: Option<StorageError>,
    respond: Respond,
}

/// Function that sends the result to the caller, or the error if there is one.
type Respond = Box<dyn FnOnce(Option<StorageError>) + Send>;

impl<D: Decide> Step for Pending<D> {
    fn is_abandoned(&self) -> bool {
        self.response.is_closed()
    }

    fn push_facts(&self, batch: &mut Batch) {
        self.write.push_facts(batch);
    }

    fn decide<'c>(
        self: Box<Self>,
        facts: Option<SqliteRow>,
        connection: &'c mut Connection<'static>,
    ) -> BoxFuture<'c, Done>
    where
        Self: 'c,
    {
        let Self { write, response } = *self;
        async move {
            let mut writes = Batch::new();
            // A panic in one write must not stop the writer.
            let deciding = AssertUnwindSafe(write.decide(facts, connection, &mut writes)).catch_unwind();
            let outcome = deciding.await;
            let outcome = outcome.unwrap_or_else(|_| Err(StorageError::Failed("a write panicked".into())));
            let is_sound = outcome.is_ok();
            Done {
                writes: if is_sound { writes } else { Batch::new() },
                is_sound,
                error: None,
                respond: Box::new(move |error| {
                    // The caller may have dropped its request.
                    let _ = response.send(outcome.and_then(|outcome| error.map_or(Ok(outcome), Err)));
                }),
            }
        }
        .boxed()
    }

    fn fail(self: Box<Self>, error: StorageError) {
        let _ = self.response.send(Err(error));
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
    connection: Connection<'static>,
    file: File,
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
                Next::Reset(quiet) => self.log.reset(self.connection.raw(), quiet).await,
                Next::Message(None) => break,
                Next::Message(Some(Message::Close(closed))) => self.closing = Some(closed),
                Next::Message(Some(Message::Step(step))) if step.is_abandoned() => {}
                Next::Message(Some(Message::Step(step))) => {
                    let mut first = Some(step);
                    while let Some(step) = first {
                        first = self.commit_group(step).await;
                    }
                    self.log.look();
                }
            }
        }
        let _ = self.connection.close().await;
        if let Some(closed) = self.closing {
            let _ = closed.send(());
        }
    }

    /// Executes `first` and the writes in the queue, and commits them together. Returns the next write, if it
    /// was already taken from the queue when the transaction failed.
    async fn commit_group(&mut self, first: Box<dyn Step>) -> Option<Box<dyn Step>> {
        if let Err(error) = self.begin().await {
            // Otherwise each write in the queue would wait for the same error sequentially.
            let error = Arc::new(error);
            let mut waiting = vec![first];
            waiting.extend(iter::from_fn(|| self.take_step()));
            // The queue is empty before the first caller knows the error. If it tries again, it gets an attempt
            // of its own.
            for step in waiting {
                step.fail(shared_failure(&error));
            }
            return None;
        }
        let mut group = Vec::new();
        let mut next = Some(first);
        let committed = loop {
            let facts = self.write_and_read(group.last_mut(), next.as_deref_mut()).await;
            match (facts, next.take()) {
                (Ok(Ok(facts)), Some(step)) => group.push(step.decide(facts, &mut self.connection).await),
                (Ok(Err(error)), Some(step)) => {
                    step.fail(failure(error));
                    // The error may have ended the transaction. Further writes would then be committed alone.
                    if let Err(error) = self.undo().await {
                        break Err(Arc::new(error));
                    }
                }
                (Ok(_), None) => break Ok(()),
                (Err(error), step) => {
                    next = step;
                    break Err(Arc::new(error));
                }
            }
            if group.len() < MAX_GROUP {
                next = self.take_step();
            }
        };
        if committed.is_err() {
            // This fails if SQLite has rolled the transaction back itself.
            let _ = self.execute(ROLLBACK).await;
        }
        for step in group {
            (step.respond)(step.error.or_else(|| committed.as_ref().err().map(shared_failure)));
        }
        next
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

    /// Executes the writes of the step `last`, and reads the facts of the step `next`, or commits if there is
    /// none. If the writes fail, they are undone and their error is recorded. The inner error is that of the
    /// facts, and the outer one is that of the transaction.
    async fn write_and_read(
        &mut self,
        mut last: Option<&mut Done>,
        mut next: Option<&mut (dyn Step + 'static)>,
    ) -> sqlx::Result<sqlx::Result<Option<SqliteRow>>> {
        loop {
            let mut batch = Batch::new();
            if let Some(last) = &mut last {
                if last.is_sound {
                    mem::swap(&mut batch, &mut last.writes);
                } else {
                    self.undo().await?;
                }
            }
            let writes = batch.len();
            let has_savepoint = last.as_ref().is_none_or(|last| !last.is_sound);
            if next.is_none() {
                batch.push(COMMIT);
            } else if !has_savepoint {
                batch.push(KEEP_STEP);
                batch.push(NEXT_STEP);
            }
            let before_facts = batch.len();
            if let Some(next) = &mut next {
                next.push_facts(&mut batch);
            }
            let Executed { completed, row, error } = batch.execute(&mut self.connection).await;
            match (error, &mut last) {
                (None, _) => return Ok(Ok(row)),
                (Some(error), Some(last)) if completed < writes => {
                    last.is_sound = false;
                    last.error = Some(failure(error));
                }
                (Some(error), _) if completed < before_facts => return Err(error),
                (Some(error), _) => return Ok(Err(error)),
            }
        }
    }

    /// Undoes the last write of a group. This fails if the write has ended the transaction, for example because
    /// the disk is full. The other writes of the group then get a transient error.
    async fn undo(&mut self) -> sqlx::Result<()> {
        let undone = self.execute(UNDO_STEP).await;
        undone.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))
    }

    async fn begin(&mut self) -> sqlx::Result<()> {
        match self.execute(BEGIN_GROUP).await {
            Err(sqlx::Error::WorkerCrashed) => {
                tracing::warn!("replacing the broken connection that writes");
                self.connection = self.file.connect().await?;
                self.execute(BEGIN_GROUP).await
            }
            result => result,
        }
    }

    async fn execute(&mut self, statement: &'static str) -> sqlx::Result<()> {
        self.connection.execute(sqlx::query(statement)).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
