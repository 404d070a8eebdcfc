//! Tests of operations in a transaction of the host, whose table `orders` is in the same file.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use referral_core::{
    CreateUser, ReferralService, User, UserId, conformance::run, policy::Policy, sms::DevelopmentSender,
    storage::BoxError,
};
use referral_sqlx::{SqliteOptions, SqliteStorage, TransactionHook};
use sqlx::{
    AssertSqlSafe, Executor as _, Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::SqliteConnectOptions,
};

use crate::{created_users::CreatedUsers, service, sign_in::phone};

#[path = "../common/host_transaction_cases.rs"]
mod cases;

const TABLES: &str = "\
    CREATE TABLE orders (user_id BLOB NOT NULL); \
    CREATE TABLE profiles (user_id BLOB PRIMARY KEY REFERENCES auth_users (id))";

/// Transaction hook that adds a profile for each user.
#[derive(Default)]
struct Profiles {
    /// `true` if the hook fails after it has written.
    fails: AtomicBool,
}

#[async_trait]
impl TransactionHook<Sqlite> for Profiles {
    async fn user_created(&self, connection: &mut SqliteConnection, user: &User) -> Result<(), BoxError> {
        let profile = sqlx::query("INSERT INTO profiles (user_id) VALUES ($1)").bind(user.id.0);
        profile.execute(connection).await?;
        if self.fails.load(Ordering::Relaxed) { Err("the host is closed".into()) } else { Ok(()) }
    }
}

/// Service, storage and pool of a host.
struct Setup {
    referral: ReferralService,
    storage: Arc<SqliteStorage>,
    profiles: Arc<Profiles>,
    events: CreatedUsers,
    pool: SqlitePool,
    _directory: tempfile::TempDir,
}

impl Setup {
    async fn new() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file =
            SqliteConnectOptions::new().filename(directory.path().join("host.db")).create_if_missing(true);
        let pool = SqlitePool::connect_with(file).await.expect("a new file");
        let (profiles, events) = (Arc::new(Profiles::default()), CreatedUsers::default());
        let mut options = SqliteOptions::default();
        options.hook = Some(Arc::clone(&profiles) as _);
        options.table_prefix = "auth_".into();
        let storage = Arc::new(SqliteStorage::with_pool(&pool, &options).await.expect("opened"));
        pool.execute(TABLES).await.expect("created");
        let builder = service::builder(Arc::clone(&storage) as _, DevelopmentSender);
        let builder = builder.policy(Policy::development()).hook(Arc::new(events.clone()));
        let referral = builder.build().expect("valid");
        Some(Self { referral, storage, profiles, events, pool, _directory: directory })
    }

    async fn begin(&self) -> Transaction<'static, Sqlite> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.expect("started")
    }

    async fn count(&self, table: &str) -> i64 {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(count).fetch_one(&self.pool).await.expect("a number")
    }

    async fn users(&self) -> i64 {
        self.count("auth_users").await
    }
}

/// Adds a row of the host.
async fn order(transaction: &mut Transaction<'static, Sqlite>, user: UserId) {
    let order = sqlx::query("INSERT INTO orders (user_id) VALUES ($1)").bind(user.0);
    order.execute(&mut **transaction).await.expect("the transaction is not aborted");
}

/// The writes of the service wait for the transaction, and then see its user.
#[test]
fn concurrent_requests_wait_for_the_transaction() {
    run(async {
        let Some(setup) = Setup::new().await else { return };
        let request = setup.referral.create_user_request(CreateUser::new(phone(1))).expect("mobile");
        let mut transaction = setup.begin().await;
        let added = setup.storage.add_user_in(&mut transaction, &request).await.expect("added").expect("new");
        let referral = setup.referral.clone();
        let creating = tokio::spawn(async move { referral.create_user(CreateUser::new(phone(1))).await });
        order(&mut transaction, added.user.id).await;
        transaction.commit().await.expect("committed");
        let found = creating.await.expect("no panic").expect("found");
        assert_eq!((found.user, found.created), (added.user, false));
        assert_eq!(setup.users().await, 1);
    });
}
