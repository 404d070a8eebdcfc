//! Tests of the transaction hook, with tables of a host in the same file.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use referral_core::{
    Invitation, PhoneNumber, ReferralService, User, UserId, conformance::run, sms::DevelopmentSender,
    storage::BoxError,
};
use referral_sqlx::{SqliteOptions, SqliteStorage, TransactionHook};
use sqlx::{Executor as _, Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteConnectOptions};

use crate::{hook_cases, killed, service, sign_in::enter};

/// Host with a profile for each user and a reward for each invitation.
#[derive(Default)]
struct Host {
    /// `true` if the hook fails after it has written.
    fails: AtomicBool,
}

const TABLES: &str = "\
    CREATE TABLE users (id INTEGER PRIMARY KEY); \
    CREATE TABLE profiles (user_id BLOB PRIMARY KEY REFERENCES referral_users (id)) STRICT; \
    CREATE TABLE phones (user_id BLOB NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL) STRICT; \
    CREATE TABLE rewards (invitee BLOB PRIMARY KEY, inviter BLOB NOT NULL) STRICT";

impl Host {
    fn check(&self) -> Result<(), BoxError> {
        if self.fails.load(Ordering::Relaxed) { Err("the host is closed".into()) } else { Ok(()) }
    }
}

#[async_trait]
impl TransactionHook<Sqlite> for Host {
    async fn user_created(&self, connection: &mut SqliteConnection, user: &User) -> Result<(), BoxError> {
        let profile = sqlx::query("INSERT INTO profiles (user_id) VALUES ($1)").bind(user.id.0);
        profile.execute(connection).await?;
        self.check()
    }

    async fn user_deleted(&self, connection: &mut SqliteConnection, user: &User) -> Result<(), BoxError> {
        let profile = sqlx::query("DELETE FROM profiles WHERE user_id = $1").bind(user.id.0);
        assert_eq!(profile.execute(connection).await?.rows_affected(), 1, "the user had a row");
        self.check()
    }

    async fn phone_changed(
        &self,
        connection: &mut SqliteConnection,
        user: &User,
        old: &PhoneNumber,
    ) -> Result<(), BoxError> {
        let phones = sqlx::query("INSERT INTO phones (user_id, old, new) VALUES ($1, $2, $3)");
        phones.bind(user.id.0).bind(old.as_str()).bind(user.phone.as_str()).execute(connection).await?;
        self.check()
    }

    async fn phone_detached(&self, connection: &mut SqliteConnection, user: UserId) -> Result<(), BoxError> {
        let phones = "INSERT INTO phones (user_id, old, new) \
            SELECT user_id, 'any', 'none' FROM profiles WHERE user_id = $1 AND (SELECT count(*) FROM profiles) = 1";
        let phones = sqlx::query(phones);
        phones.bind(user.0).execute(connection).await?;
        self.check()
    }

    async fn invitation_accepted(
        &self,
        connection: &mut SqliteConnection,
        invitation: &Invitation,
    ) -> Result<(), BoxError> {
        let reward = sqlx::query("INSERT INTO rewards (invitee, inviter) VALUES ($1, $2)");
        reward.bind(invitation.invitee.0).bind(invitation.inviter.0).execute(connection).await?;
        self.check()
    }
}

const ERASED: &str = "referral_users WHERE erased_at IS NOT NULL";

/// Opens the file of the pool with the hook.
async fn storage(pool: &SqlitePool, host: Arc<Host>) -> SqliteStorage {
    let mut options = SqliteOptions::default();
    options.hook = Some(host);
    SqliteStorage::with_pool(pool, &options).await.expect("opened")
}

/// Service and pool of a host on a new file.
struct Setup {
    referral: ReferralService,
    host: Arc<Host>,
    pool: SqlitePool,
    _directory: tempfile::TempDir,
}

impl Setup {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options =
            SqliteConnectOptions::new().filename(directory.path().join("host.db")).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.expect("a new file");
        let host = Arc::new(Host::default());
        let storage = Arc::new(storage(&pool, Arc::clone(&host)).await);
        pool.execute(TABLES).await.expect("created");
        let builder = service::builder(storage, DevelopmentSender).policy(hook_cases::policy());
        Self { referral: builder.build().expect("valid"), host, pool, _directory: directory }
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.expect("a count")
    }
}

#[tokio::test]
async fn rows_of_the_host_are_written_with_the_user() {
    let setup = Setup::new().await;
    hook_cases::rows_are_written(&setup.referral, async |table| setup.count(table).await).await;
}

#[tokio::test]
async fn an_error_of_the_hook_undoes_the_sign_in_and_keeps_the_code_and_the_attempts() {
    let setup = Setup::new().await;
    let count = async |table: &str| setup.count(table).await;
    let set_failing = |fails| setup.host.fails.store(fails, Ordering::Relaxed);
    hook_cases::an_error_undoes_the_sign_in(&setup.referral, "referral_", count, set_failing).await;
}

#[tokio::test]
async fn rows_of_the_host_are_deleted_with_the_user_or_not_at_all() {
    let setup = Setup::new().await;
    let count = async |table: &str| setup.count(table).await;
    let set_failing = |fails| setup.host.fails.store(fails, Ordering::Relaxed);
    hook_cases::rows_are_deleted(&setup.referral, "referral_", count, set_failing).await;
}

#[tokio::test]
async fn rows_of_the_host_have_the_new_phone_or_nothing_is_changed() {
    let setup = Setup::new().await;
    let count = async |table: &str| setup.count(table).await;
    let set_failing = |fails| setup.host.fails.store(fails, Ordering::Relaxed);
    hook_cases::phones_are_changed(&setup.referral, "referral_", count, set_failing).await;
}

#[tokio::test]
async fn the_host_learns_that_a_silent_user_lost_the_phone() {
    let setup = Setup::new().await;
    let count = async |table: &str| setup.count(table).await;
    let set_failing = |fails| setup.host.fails.store(fails, Ordering::Relaxed);
    let silence = async || {
        let update = "UPDATE referral_users SET last_login = 0, last_active = 0";
        setup.pool.execute(update).await.expect("silent");
    };
    hook_cases::phones_are_detached(&setup.referral, silence, count, set_failing).await;
}

#[tokio::test]
async fn a_user_whose_deletion_fails_does_not_keep_others_after_their_grace_period() {
    let setup = Setup::new().await;
    let first = enter(&setup.referral, 1, None).await.user.id;
    for number in [2, 3] {
        enter(&setup.referral, number, None).await;
    }
    // The deletion of the first user is due before the others.
    setup.pool.execute("UPDATE referral_users SET deletion_at = rowid").await.expect("scheduled");
    let keep = format!(
        "CREATE TRIGGER kept BEFORE DELETE ON profiles WHEN old.user_id = x'{}' \
         BEGIN SELECT raise(ABORT, 'the host keeps the user'); END",
        first.0.simple()
    );
    setup.pool.execute(sqlx::AssertSqlSafe(keep)).await.expect("created");
    setup.referral.run_maintenance().await.expect("the storage responds");
    assert!(setup.referral.find_user(first).await.expect("the storage responds").is_some());
    assert_eq!((setup.count("profiles").await, setup.count(ERASED).await), (1, 2));

    setup.pool.execute("DROP TRIGGER kept").await.expect("dropped");
    setup.referral.run_maintenance().await.expect("the storage responds");
    assert_eq!((setup.count("profiles").await, setup.count(ERASED).await), (0, 3));
}

#[tokio::test]
async fn a_database_in_memory_cannot_be_shared() {
    for url in ["sqlite::memory:", "sqlite://app?mode=memory", "sqlite://app?mode=memory&cache=shared"] {
        let pool = SqlitePool::connect(url).await.expect("opened");
        let opened = SqliteStorage::with_pool(&pool, &SqliteOptions::default()).await;
        assert!(matches!(opened.err(), Some(referral_sqlx::ConnectError::InMemory)), "{url}");
    }
}

#[tokio::test]
async fn a_host_can_apply_the_migrations() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options =
        SqliteConnectOptions::new().filename(directory.path().join("host.db")).create_if_missing(true);
    let pool = SqlitePool::connect_with(options).await.expect("a new file");
    for migration in SqliteStorage::migrations("referral_").expect("a prefix") {
        pool.execute(sqlx::AssertSqlSafe(migration.sql)).await.expect("applied");
    }
    let mut never = SqliteOptions::default();
    never.migrate = false;
    let storage = Arc::new(SqliteStorage::with_pool(&pool, &never).await.expect("nothing is missing"));
    let referral = service::builder(storage, DevelopmentSender).build().expect("valid");
    referral.check_ready().await.expect("ready");
}

/// Runs the process that is killed. Does nothing in a normal test run.
#[test]
fn child() {
    let Some(url) = killed::url() else { return };
    run(async move {
        let pool = SqlitePool::connect(&url).await.expect("opened");
        killed::sign_up(Arc::new(storage(&pool, Arc::default()).await)).await;
    });
}

#[test]
fn each_user_has_its_row_of_the_host_after_the_process_is_killed() {
    run(async {
        let setup = Setup::new().await;
        let url = format!("sqlite:{}", setup.pool.connect_options().get_filename().display());
        let reported = killed::kill_often("hook::child", &url);
        let users = setup.count("referral_users").await;
        assert!(users >= reported.users, "{users}");
        let erased = setup.count("referral_users WHERE erased_at IS NOT NULL").await;
        assert!(erased >= reported.deleted_users, "{erased}");
        assert_eq!(setup.count("profiles").await, users - erased);
        let of_erased =
            "profiles WHERE user_id IN (SELECT id FROM referral_users WHERE erased_at IS NOT NULL)";
        assert_eq!(setup.count(of_erased).await, 0);
        killed::assert_phones_are_written(&reported, async |table| setup.count(table).await, "referral_")
            .await;
        // The challenges of a deleted user are deleted, too.
        let attempts = setup.count("referral_challenges WHERE attempts_with_id = 1").await;
        assert!(attempts + erased >= reported.wrong_codes, "{attempts}");
    });
}
