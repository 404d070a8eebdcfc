//! Tests of the transaction hook, of a pool of the host, and of a schema with another name.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use referral_core::{
    Invitation, PhoneNumber, ReferralService, SendCode, User, UserId,
    conformance::run,
    policy::Policy,
    sms::DevelopmentSender,
    storage::{BoxError, MaintenanceStorage as _},
};
use referral_sqlx::{ConnectError, HookError, PostgresOptions, PostgresStorage, TransactionHook};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Postgres, postgres::PgPoolOptions,
};

use crate::{
    hook_cases, killed,
    server::Database,
    service,
    sign_in::{enter, phone, with_right_code},
};

/// Host with a profile for each user and a reward for each invitation.
#[derive(Default)]
struct Host {
    /// One of the constants below.
    behavior: AtomicU8,
}

const WORKS: u8 = 0;
/// The hook fails after it has written.
const FAILS: u8 = 1;
/// The hook ignores the error of a statement.
const IGNORES_FAILURES: u8 = 2;
/// The hook rolls back a transaction of its own on the connection.
const ROLLS_BACK_PART: u8 = 3;
/// The hook rolls back the whole transaction.
const ROLLS_BACK_ALL: u8 = 4;
/// The hook waits for longer than a statement may take.
const WAITS: u8 = 5;

const TABLES: &str = "\
    CREATE TABLE users (id int PRIMARY KEY); \
    CREATE TABLE profiles (user_id uuid PRIMARY KEY REFERENCES auth.users (id)); \
    CREATE TABLE phones (user_id uuid NOT NULL, old text NOT NULL, new text NOT NULL); \
    CREATE TABLE rewards (invitee uuid PRIMARY KEY, inviter uuid NOT NULL)";

impl Host {
    async fn check(&self, connection: &mut PgConnection) -> Result<(), BoxError> {
        match self.behavior.load(Ordering::Relaxed) {
            FAILS => Err("the host is closed".into()),
            IGNORES_FAILURES => {
                connection.execute("SELECT 1 / 0").await.expect_err("a division by zero");
                Ok(())
            }
            ROLLS_BACK_PART => {
                let mut part = connection.begin().await?;
                part.execute("DELETE FROM profiles").await?;
                Ok(part.rollback().await?)
            }
            ROLLS_BACK_ALL => {
                connection.execute("ROLLBACK").await?;
                Ok(())
            }
            WAITS => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl TransactionHook<Postgres> for Host {
    async fn user_created(&self, connection: &mut PgConnection, user: &User) -> Result<(), BoxError> {
        let profile = sqlx::query("INSERT INTO profiles (user_id) VALUES ($1)").bind(user.id.0);
        profile.execute(&mut *connection).await?;
        self.check(connection).await
    }

    async fn user_deleted(&self, connection: &mut PgConnection, user: &User) -> Result<(), BoxError> {
        let profile = sqlx::query("DELETE FROM profiles WHERE user_id = $1").bind(user.id.0);
        assert_eq!(profile.execute(&mut *connection).await?.rows_affected(), 1, "the user had a row");
        self.check(connection).await
    }

    async fn phone_changed(
        &self,
        connection: &mut PgConnection,
        user: &User,
        old: &PhoneNumber,
    ) -> Result<(), BoxError> {
        let phones = sqlx::query("INSERT INTO phones (user_id, old, new) VALUES ($1, $2, $3)");
        let phones = phones.bind(user.id.0).bind(old.as_str()).bind(user.phone.as_str());
        phones.execute(&mut *connection).await?;
        self.check(connection).await
    }

    async fn phone_detached(&self, connection: &mut PgConnection, user: UserId) -> Result<(), BoxError> {
        let phones = "INSERT INTO phones (user_id, old, new) \
            SELECT user_id, 'any', 'none' FROM profiles WHERE user_id = $1 AND (SELECT count(*) FROM profiles) = 1";
        let phones = sqlx::query(phones);
        phones.bind(user.0).execute(&mut *connection).await?;
        self.check(connection).await
    }

    async fn invitation_accepted(
        &self,
        connection: &mut PgConnection,
        invitation: &Invitation,
    ) -> Result<(), BoxError> {
        let reward = sqlx::query("INSERT INTO rewards (invitee, inviter) VALUES ($1, $2)");
        reward.bind(invitation.invitee.0).bind(invitation.inviter.0).execute(connection).await?;
        Ok(())
    }
}

/// Opens a storage on the pool, in the schema `auth`, with the hook.
async fn storage(pool: &PgPool, host: Arc<Host>) -> PostgresStorage {
    let mut options = PostgresOptions::default();
    options.schema = "auth".into();
    options.hook = Some(host);
    PostgresStorage::with_pool(pool.clone(), &options).await.expect("opened")
}

/// Service and pool of a host on a new database.
struct Setup {
    referral: ReferralService,
    host: Arc<Host>,
    pool: PgPool,
    database: Database,
}

impl Setup {
    async fn new() -> Option<Self> {
        let database = Database::create().await?;
        let pool = PgPoolOptions::new().max_connections(4).connect(&database.url).await.expect("connected");
        let host = Arc::new(Host::default());
        let storage = Arc::new(storage(&pool, Arc::clone(&host)).await);
        pool.execute(TABLES).await.expect("created");
        let builder = service::builder(storage, DevelopmentSender).policy(hook_cases::policy());
        Some(Self { referral: builder.build().expect("valid"), host, pool, database })
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.expect("a count")
    }
}

#[tokio::test]
async fn rows_of_the_host_are_written_with_the_user() {
    let Some(setup) = Setup::new().await else { return };
    hook_cases::rows_are_written(&setup.referral, async |table| setup.count(table).await).await;
}

#[tokio::test]
async fn an_error_of_the_hook_undoes_the_sign_in_and_keeps_the_code_and_the_attempts() {
    let Some(setup) = Setup::new().await else { return };
    let count = async |table: &str| setup.count(table).await;
    let set_failing = |fails| setup.host.behavior.store(if fails { FAILS } else { WORKS }, Ordering::Relaxed);
    hook_cases::an_error_undoes_the_sign_in(&setup.referral, "auth.", count, set_failing).await;
}

#[tokio::test]
async fn rows_of_the_host_are_deleted_with_the_user_or_not_at_all() {
    let Some(setup) = Setup::new().await else { return };
    let count = async |table: &str| setup.count(table).await;
    let set_failing = |fails| setup.host.behavior.store(if fails { FAILS } else { WORKS }, Ordering::Relaxed);
    hook_cases::rows_are_deleted(&setup.referral, "auth.", count, set_failing).await;
}

#[tokio::test]
async fn rows_of_the_host_have_the_new_phone_or_nothing_is_changed() {
    let Some(setup) = Setup::new().await else { return };
    let count = async |table: &str| setup.count(table).await;
    let set_failing = |fails| setup.host.behavior.store(if fails { FAILS } else { WORKS }, Ordering::Relaxed);
    hook_cases::phones_are_changed(&setup.referral, "auth.", count, set_failing).await;
}

#[tokio::test]
async fn the_host_learns_that_a_silent_user_lost_the_phone() {
    let Some(setup) = Setup::new().await else { return };
    let count = async |table: &str| setup.count(table).await;
    let set_failing = |fails| setup.host.behavior.store(if fails { FAILS } else { WORKS }, Ordering::Relaxed);
    let silence = async || {
        let update = "UPDATE auth.users SET last_login = to_timestamp(0), last_active = to_timestamp(0)";
        setup.pool.execute(update).await.expect("silent");
    };
    hook_cases::phones_are_detached(&setup.referral, silence, count, set_failing).await;
}

#[tokio::test]
async fn a_sign_in_fails_if_its_hook_has_ended_the_transaction() {
    let Some(setup) = Setup::new().await else { return };
    let sent = setup.referral.send_code(SendCode::new(phone(1))).await.expect("sent");
    for behavior in [IGNORES_FAILURES, ROLLS_BACK_ALL] {
        setup.host.behavior.store(behavior, Ordering::Relaxed);
        setup.referral.sign_in(with_right_code(&sent)).await.expect_err("the transaction is rolled back");
        assert_eq!((setup.count("auth.users").await, setup.count("profiles").await), (0, 0));
    }
    setup.host.behavior.store(WORKS, Ordering::Relaxed);
    setup.referral.sign_in(with_right_code(&sent)).await.expect("signed in");
}

#[tokio::test]
async fn a_transaction_of_the_hook_is_a_part_of_the_sign_in() {
    let Some(setup) = Setup::new().await else { return };
    setup.host.behavior.store(ROLLS_BACK_PART, Ordering::Relaxed);
    for number in 1..=20 {
        enter(&setup.referral, number, None).await;
    }
    assert_eq!((setup.count("auth.users").await, setup.count("profiles").await), (20, 20));
}

#[tokio::test]
async fn a_hook_has_the_time_limit_of_a_statement() {
    let Some(database) = Database::create().await else { return };
    let host = Arc::new(Host { behavior: WAITS.into() });
    let mut options = PostgresOptions::default();
    options.statement_timeout = Duration::from_millis(200);
    options.schema = "auth".into();
    options.hook = Some(host.clone());
    let storage = PostgresStorage::connect(&database.url, &options).await.expect("a new database");
    let pool = PgPool::connect(&database.url).await.expect("connected");
    pool.execute(TABLES).await.expect("created");
    let builder = service::builder(Arc::new(storage), DevelopmentSender).policy(Policy::development());
    let referral = builder.build().expect("valid");
    let sent = referral.send_code(SendCode::new(phone(1))).await.expect("sent");
    let error = referral.sign_in(with_right_code(&sent)).await.expect_err("the hook takes too long");
    assert!(HookError::source_of(&error).is_some(), "{error:?}");
    host.behavior.store(WORKS, Ordering::Relaxed);
    assert!(referral.sign_in(with_right_code(&sent)).await.expect("signed in").created);
}

#[tokio::test]
async fn the_pool_of_the_host_keeps_its_settings_and_stays_open() {
    let Some(setup) = Setup::new().await else { return };
    enter(&setup.referral, 1, None).await;
    let changed = "SELECT name FROM pg_settings WHERE source = 'session' \
                   AND name IN ('enable_seqscan', 'jit', 'statement_timeout', 'random_page_cost')";
    for _ in 0..4 {
        let names: Vec<String> = sqlx::query_scalar(changed).fetch_all(&setup.pool).await.expect("settings");
        assert_eq!(names, Vec::<String>::new());
    }
    setup.referral.check_ready().await.expect("ready");
    setup.referral.close().await;
    assert_eq!(setup.count("auth.users").await, 1);
    assert_eq!(setup.count("pg_namespace WHERE nspname = 'referral'").await, 0);
}

#[tokio::test]
async fn a_host_can_apply_the_migrations() {
    let Some(database) = Database::create().await else { return };
    let pool = PgPool::connect(&database.url).await.expect("connected");
    let mut never = PostgresOptions::default();
    (never.migrate, never.schema) = (false, "auth".into());
    let error = PostgresStorage::with_pool(pool.clone(), &never).await.err().expect("no tables");
    assert!(matches!(error, ConnectError::Schema(_)), "{error}");
    for migration in PostgresStorage::migrations("auth").expect("a name") {
        pool.execute(AssertSqlSafe(migration.sql)).await.expect("applied");
    }
    let storage = PostgresStorage::with_pool(pool, &never).await.expect("nothing is missing");
    storage.check_ready().await.into_result().expect("ready");
    let storage = PostgresStorage::connect(&database.url, &never).await.expect("nothing is missing");
    storage.check_ready().await.into_result().expect("ready");
}

#[tokio::test]
async fn the_name_of_a_schema_must_be_a_plain_identifier() {
    let mut options = PostgresOptions::default();
    options.schema = "a\"; DROP TABLE users; --".into();
    let error = PostgresStorage::connect("postgres://localhost/none", &options).await.err().expect("refused");
    assert!(matches!(error, ConnectError::InvalidSchemaName { .. }), "{error}");
}

/// Runs the process that is killed. Does nothing in a normal test run.
#[test]
fn child() {
    let Some(url) = killed::url() else { return };
    run(async move {
        let pool = PgPool::connect(&url).await.expect("connected");
        killed::sign_up(Arc::new(storage(&pool, Arc::default()).await)).await;
    });
}

#[test]
fn each_user_has_its_row_of_the_host_after_the_process_is_killed() {
    run(async {
        let Some(setup) = Setup::new().await else { return };
        let reported = killed::kill_often("hook::child", &setup.database.url);
        // Connections of killed processes may still execute their last statement.
        let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                      AND state <> 'idle' AND pid <> pg_backend_pid()";
        while sqlx::query_scalar::<_, i64>(others).fetch_one(&setup.pool).await.expect("a count") > 0 {}
        let users = setup.count("auth.users").await;
        assert!(users >= reported.users, "{users}");
        let erased = setup.count("auth.users WHERE erased_at IS NOT NULL").await;
        assert!(erased >= reported.deleted_users, "{erased}");
        assert_eq!(setup.count("profiles").await, users - erased);
        let of_erased = "profiles WHERE user_id IN (SELECT id FROM auth.users WHERE erased_at IS NOT NULL)";
        assert_eq!(setup.count(of_erased).await, 0);
        killed::assert_phones_are_written(&reported, async |table| setup.count(table).await, "auth.").await;
        // The challenges of a deleted user are deleted, too.
        let attempts = setup.count("auth.challenges WHERE attempts_with_id = 1").await;
        assert!(attempts + erased >= reported.wrong_codes, "{attempts}");
    });
}
