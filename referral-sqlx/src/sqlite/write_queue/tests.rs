//! Tests of groups of writes: failures of single writes and of commits.

use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use super::{
    super::{
        SqliteStorage,
        open::tests::{COUNT, counted, execute, impatient_store},
    },
    *,
};

/// Returns a write that blocks the writer until the sender is used or dropped.
fn blocking(store: &SqliteStorage) -> (oneshot::Sender<()>, impl Future<Output = Result<()>>) {
    let (open, gate) = oneshot::channel();
    let write = store.writer.write(move |_| gate.map(|_| Ok(())).boxed());
    (open, write)
}

/// Executes three statements as one group, because the writer is blocked until all three are in the queue.
async fn in_one_group(store: &SqliteStorage, statements: [&'static str; 3]) -> [Result<()>; 3] {
    let (open, blocking) = blocking(store);
    let [first, second, third] = statements.map(|statement| execute(store, statement));
    // A write is queued at its first poll.
    let (_, first, second, third, _) =
        tokio::join!(biased; blocking, first, second, third, async { open.send(()) });
    [first, second, third]
}

#[tokio::test]
async fn a_failed_write_does_not_affect_others_of_its_group() {
    let (store, _options, _directory) = impatient_store().await;
    let bad = "UPDATE referral_user_totals SET users = -1";
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

/// Write that reads the number of users, and executes a statement that must change one row.
struct Counted {
    facts: &'static str,
    update: &'static str,
}

impl Decide for Counted {
    type Outcome = i64;

    fn push_facts(&self, batch: &mut Batch) {
        batch.push(self.facts);
    }

    async fn decide(
        self,
        facts: Option<SqliteRow>,
        _: &mut Connection<'_>,
        writes: &mut Batch,
    ) -> Result<i64> {
        writes.push_update(self.update);
        Ok(facts.expect("a row").get(0))
    }
}

#[tokio::test]
async fn each_decision_of_a_group_sees_the_writes_before_it_and_is_undone_alone() {
    const USERS: &str = "SELECT users FROM referral_user_totals";
    let (store, _options, _directory) = impatient_store().await;
    let (open, blocking) = blocking(&store);
    let decide = |facts, update| store.writer.decide(Counted { facts, update });
    let (_, first, invalid, missing, unreadable, second, last, _) = tokio::join!(
        biased;
        blocking,
        decide(USERS, COUNT),
        decide(USERS, "UPDATE referral_user_totals SET users = -1"),
        decide(USERS, "UPDATE referral_user_totals SET users = 9 WHERE users = 8"),
        decide("SELECT missing FROM referral_user_totals", COUNT),
        decide(USERS, COUNT),
        decide(USERS, COUNT),
        async { open.send(()) },
    );
    for error in [invalid, missing, unreadable] {
        assert!(matches!(error, Err(StorageError::Failed(_))), "{error:?}");
    }
    let read = [first, second, last].map(|read| read.expect("written"));
    assert_eq!((read, counted(&store).await), ([0, 1, 2], 3));
}

#[tokio::test]
async fn the_next_write_has_a_transaction_after_facts_that_ended_one() {
    let (store, _options, _directory) = impatient_store().await;
    // As after an error while reading the file, the transaction is undone.
    let ended = Counted { facts: "ROLLBACK; SELECT missing FROM referral_user_totals", update: COUNT };
    let next = Counted { facts: "SELECT users FROM referral_user_totals", update: COUNT };
    let (ended, next) = tokio::join!(biased; store.writer.decide(ended), store.writer.decide(next));
    assert!(ended.is_err());
    assert_eq!((next.expect("written"), counted(&store).await), (0, 1));
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
            let pages = connection.fetch_one("PRAGMA page_count").await;
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

/// Step that queues another one when it fails, as a client that tries again immediately.
struct Repeated {
    queue: mpsc::Sender<Message>,
    next: Option<Box<dyn Step>>,
    error: oneshot::Sender<StorageError>,
}

impl Step for Repeated {
    fn is_abandoned(&self) -> bool {
        false
    }

    fn push_facts(&self, _: &mut Batch) {}

    fn decide<'c>(
        self: Box<Self>,
        _: Option<SqliteRow>,
        _: &'c mut Connection<'static>,
    ) -> BoxFuture<'c, Done>
    where
        Self: 'c,
    {
        unreachable!("the transaction does not start")
    }

    fn fail(self: Box<Self>, error: StorageError) {
        if let Some(next) = self.next {
            assert!(self.queue.try_send(Message::Step(next)).is_ok(), "space in the queue");
        }
        self.error.send(error).expect("the test waits");
    }
}

#[tokio::test]
async fn a_write_after_a_failure_is_tried_itself() {
    let (store, options, _directory) = impatient_store().await;
    let mut other = options.connect().await.expect("the same file");
    let _writing = other.begin_with("BEGIN IMMEDIATE").await.expect("started");
    let queue = store.writer.queue.clone();
    let (error, second) = oneshot::channel();
    let next = Box::new(Repeated { queue: queue.clone(), next: None, error });
    let (error, first) = oneshot::channel();
    let step = Repeated { queue: queue.clone(), next: Some(next), error };
    assert!(queue.send(Message::Step(Box::new(step))).await.is_ok(), "space in the queue");
    let causes = [first.await, second.await].map(|error| match error {
        Ok(StorageError::Unavailable(source)) => {
            source.downcast::<Arc<sqlx::Error>>().expect("a shared error")
        }
        other => panic!("{other:?}"),
    });
    assert!(!Arc::ptr_eq(&causes[0], &causes[1]), "the second write has the error of the first");
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
