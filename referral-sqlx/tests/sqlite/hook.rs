//! Tests of the transaction hook, with tables of a host in the same file.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use referral_core::{
    EditProfile, Error, Invitation, ProfileChange, ReferralService, SendCode, SignIn, User,
    conformance::run,
    policy::Policy,
    sms::DevelopmentSender,
    storage::{BoxError, StorageError},
};
use referral_sqlx::{HookError, SqliteOptions, SqliteStorage, TransactionHook};
use sqlx::{Executor as _, Sqlite, SqliteConnection, SqlitePool, sqlite::SqliteConnectOptions};

use crate::{
    killed, service,
    sign_in::{enter, phone, with_right_code, wrong_code},
};

/// Host with a profile for each user and a reward for each invitation.
#[derive(Default)]
struct Host {
    /// `true` if the hook fails after it has written.
    fails: AtomicBool,
}

const TABLES: &str = "\
    CREATE TABLE users (id INTEGER PRIMARY KEY); \
    CREATE TABLE profiles (user_id BLOB PRIMARY KEY REFERENCES referral_users (id)) STRICT; \
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
        let builder = service::builder(storage, DevelopmentSender).policy(Policy::development());
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
    let referral = &setup.referral;
    let anna = enter(referral, 1, None).await;
    enter(referral, 2, Some(&anna.user.invite_code)).await;
    let vera = enter(referral, 3, None).await;
    assert_eq!((setup.count("profiles").await, setup.count("rewards").await), (3, 1));
    // A second sign-in creates nothing, but it can accept an invitation.
    enter(referral, 3, Some(&anna.user.invite_code)).await;
    assert_eq!((setup.count("profiles").await, setup.count("rewards").await), (3, 2));
    let galya = enter(referral, 4, None).await;
    let current_user = referral.authenticate(&galya.tokens.access).await.expect("a user");
    let change = ProfileChange { invited_by_code: Some(vera.user.invite_code), ..ProfileChange::default() };
    referral.edit_profile(&current_user, EditProfile::new(change)).await.expect("edited");
    referral.make_staff(phone(5)).await.expect("made");
    assert_eq!((setup.count("profiles").await, setup.count("rewards").await), (5, 3));
}

#[tokio::test]
async fn an_error_of_the_hook_undoes_the_sign_in_and_keeps_the_code_and_the_attempts() {
    let setup = Setup::new().await;
    let referral = &setup.referral;
    let anna = enter(referral, 1, None).await;
    let sent = referral.send_code(SendCode::new(phone(2))).await.expect("sent");
    let wrong = SignIn::new(phone(2), wrong_code(&sent)).challenge(sent.challenge);
    referral.sign_in(wrong).await.expect_err("wrong");
    let attempts = "referral_challenges WHERE attempts_with_id = 1 AND redeemed_at IS NULL";
    assert_eq!(setup.count(attempts).await, 1);
    setup.host.fails.store(true, Ordering::Relaxed);
    let request = with_right_code(&sent).invited_by(Some(anna.user.invite_code));
    let error = referral.sign_in(request.clone()).await.expect_err("the hook fails");
    assert!(matches!(error, Error::Storage(StorageError::Failed(_))), "{error:?}");
    let source = HookError::source_of(&error).expect("an error of the hook").to_string();
    assert_eq!(source, "the host is closed");
    for (table, rows) in [("referral_users", 1), ("profiles", 1), ("rewards", 0), (attempts, 1)] {
        assert_eq!(setup.count(table).await, rows, "{table}");
    }
    setup.host.fails.store(false, Ordering::Relaxed);
    assert!(referral.sign_in(request).await.expect("signed in").created);
    assert_eq!((setup.count("profiles").await, setup.count("rewards").await), (2, 1));
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
    for migration in SqliteStorage::migrations() {
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
        assert_eq!(setup.count("profiles").await, users);
        assert!(setup.count("referral_challenges WHERE attempts_with_id = 1").await >= reported.wrong_codes);
    });
}
