//! Tests of operations in a transaction of the host, whose table `orders` is in the same database.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use referral_core::{
    CreateUser, ReferralService, User, UserId,
    conformance::run,
    policy::Policy,
    sms::DevelopmentSender,
    storage::{BoxError, StorageError},
};
use referral_sqlx::{PostgresOptions, PostgresStorage, TransactionHook};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Postgres, Transaction};

use crate::{
    created_users::CreatedUsers, harness::wait_for_locks, server::Database, service, sign_in::phone,
};

#[path = "../common/host_transaction_cases.rs"]
mod cases;

const TABLES: &str = "\
    CREATE TABLE orders (user_id uuid NOT NULL); \
    CREATE TABLE profiles (user_id uuid PRIMARY KEY REFERENCES auth.users (id))";

/// Transaction hook that adds a profile for each user.
#[derive(Default)]
struct Profiles {
    /// `true` if the hook fails after it has written.
    fails: AtomicBool,
}

#[async_trait]
impl TransactionHook<Postgres> for Profiles {
    async fn user_created(&self, connection: &mut PgConnection, user: &User) -> Result<(), BoxError> {
        let profile = sqlx::query("INSERT INTO profiles (user_id) VALUES ($1)").bind(user.id.0);
        profile.execute(connection).await?;
        if self.fails.load(Ordering::Relaxed) { Err("the host is closed".into()) } else { Ok(()) }
    }
}

/// Service, storage and pool of a host.
struct Setup {
    referral: ReferralService,
    storage: Arc<PostgresStorage>,
    profiles: Arc<Profiles>,
    events: CreatedUsers,
    pool: PgPool,
    database: Database,
}

impl Setup {
    async fn new() -> Option<Self> {
        let database = Database::create().await?;
        let pool = PgPool::connect(&database.url).await.expect("connected");
        let (profiles, events) = (Arc::new(Profiles::default()), CreatedUsers::default());
        let mut options = PostgresOptions::default();
        options.schema = "auth".into();
        options.hook = Some(Arc::clone(&profiles) as _);
        let storage = Arc::new(PostgresStorage::with_pool(pool.clone(), &options).await.expect("opened"));
        pool.execute(TABLES).await.expect("created");
        let builder = service::builder(Arc::clone(&storage) as _, DevelopmentSender);
        let builder = builder.policy(Policy::development()).hook(Arc::new(events.clone()));
        let referral = builder.build().expect("valid");
        Some(Self { referral, storage, profiles, events, pool, database })
    }

    async fn begin(&self) -> Transaction<'static, Postgres> {
        self.pool.begin().await.expect("started")
    }

    async fn count(&self, table: &str) -> i64 {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(count).fetch_one(&self.pool).await.expect("a number")
    }

    async fn users(&self) -> i64 {
        self.count("auth.users").await
    }
}

/// Adds a row of the host.
async fn order(transaction: &mut Transaction<'static, Postgres>, user: UserId) {
    let order = sqlx::query("INSERT INTO orders (user_id) VALUES ($1)").bind(user.0);
    order.execute(&mut **transaction).await.expect("the transaction is not aborted");
}

/// Of two transactions that add one phone, the second waits for the first.
#[test]
fn concurrent_transactions_add_a_phone_once() {
    run(async {
        let Some(setup) = Setup::new().await else { return };
        let mut observer = PgConnection::connect(&setup.database.url).await.expect("a connection");
        for (number, commits) in [(1, true), (2, false)] {
            let create =
                || setup.referral.create_user_request(CreateUser::new(phone(number))).expect("mobile");
            let (first, second) = (create(), create());
            let mut transaction = setup.begin().await;
            let added =
                setup.storage.add_user_in(&mut transaction, &first).await.expect("added").expect("new");
            let (mut other, storage) = (setup.begin().await, Arc::clone(&setup.storage));
            let adding = tokio::spawn(async move {
                let added = storage.add_user_in(&mut other, &second).await.expect("added or found");
                let added = added.expect("no refusal");
                order(&mut other, added.user.id).await;
                other.commit().await.expect("committed");
                (second, added)
            });
            wait_for_locks(&mut observer, 1).await;
            if commits {
                transaction.commit().await.expect("committed");
            } else {
                transaction.rollback().await.expect("rolled back");
            }
            let (second, other) = adding.await.expect("no panic");
            assert_eq!(other.user.id == added.user.id, commits);
            assert_eq!(setup.referral.emit_user_created(&second, other).await.created, !commits);
            assert_eq!([setup.users().await, setup.count("orders").await], [i64::from(number); 2]);
        }
    });
}

/// A transaction that an ignored error has aborted stays aborted: no row of it is committed.
#[test]
fn aborted_transaction_commits_nothing() {
    run(async {
        let Some(setup) = Setup::new().await else { return };
        let request = setup.referral.create_user_request(CreateUser::new(phone(1))).expect("mobile");
        let mut transaction = setup.begin().await;
        order(&mut transaction, request.new_user.id).await;
        transaction.execute("SELECT 1 / 0").await.expect_err("division by zero");
        setup.storage.add_user_in(&mut transaction, &request).await.expect_err("aborted");
        transaction.execute("SELECT 1").await.expect_err("still aborted");
        // PostgreSQL rolls back an aborted transaction that is to be committed.
        let _ = transaction.commit().await;
        assert_eq!([setup.users().await, setup.count("orders").await], [0, 0]);
    });
}

/// In this isolation level the transaction never sees a user that was added after its start.
#[test]
fn hidden_user_is_an_error_that_keeps_the_transaction_open() {
    run(async {
        let Some(setup) = Setup::new().await else { return };
        let request = setup.referral.create_user_request(CreateUser::new(phone(1))).expect("mobile");
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
        let mut transaction = setup.pool.begin_with(begin).await.expect("started");
        transaction.execute("SELECT FROM auth.users").await.expect("a snapshot");
        setup.referral.create_user(CreateUser::new(phone(1))).await.expect("created");
        let failed = setup.storage.add_user_in(&mut transaction, &request).await.expect_err("hidden");
        assert!(matches!(failed, StorageError::Unavailable(_)), "{failed}");
        order(&mut transaction, request.new_user.id).await;
        transaction.commit().await.expect("committed");
        assert_eq!([setup.users().await, setup.count("orders").await], [1, 1]);
    });
}
