//! Tests of conflicts, deadlocks, restarts and other transient failures of a server.

use std::{sync::Arc, time::Duration};

use referral_core::{
    Client, CodeInput, CurrentUser, Error, FilterInput, InviteCode, ListUsers, Name, Peppers, PhoneNumber,
    Policy, ProfileChange, ReferralService, Refusal, SendCode, SentCode, SignIn, SignedIn, SigningKeys,
    UserList,
    clock::{Clock, SystemClock},
    sms::DevelopmentSender,
    storage::Retention,
};
use referral_sqlx::{ConnectError, PostgresOptions, SchemaError, connect, connect_postgres};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use time::OffsetDateTime;

use crate::server::Database;

/// Service with a separate connection of an operator to its database.
pub(crate) struct Harness {
    pub(crate) referral: ReferralService,
    pub(crate) operator: PgConnection,
    pub(crate) database: Database,
}

impl Harness {
    pub(crate) async fn new() -> Option<Self> {
        Self::with(10).await
    }

    /// Creates a service with a maximum number of connections.
    async fn with(connections: u32) -> Option<Self> {
        let mut options = PostgresOptions::default();
        options.max_connections = connections;
        Self::with_options(&options).await
    }

    pub(crate) async fn with_options(options: &PostgresOptions) -> Option<Self> {
        let database = Database::create().await?;
        let url = database.url.clone();
        Some(Self::at(&url, database, options).await)
    }

    /// Creates a service that connects to `database` through `url`.
    pub(crate) async fn at(url: &str, database: Database, options: &PostgresOptions) -> Self {
        let storage = connect_postgres(url, options).await.expect("a new database");
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
        let referral = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
        let referral = referral.policy(Policy::development()).build().expect("valid policy and keys");
        let operator = PgConnection::connect(&database.url).await.expect("a connection");
        Self { referral, operator, database }
    }

    /// Sends a code to the phone with this number.
    async fn sent(&self, number: u32) -> (SentCode, CodeInput) {
        let sent = self.referral.send_code(SendCode::new(phone(number))).await.expect("sent");
        let code = sent.revealed_code.as_ref().expect("the development sender reveals it");
        let code = CodeInput::parse(code.reveal()).expect("digits");
        (sent, code)
    }

    pub(crate) async fn enter(
        &self,
        number: u32,
        invited_by: Option<&InviteCode>,
    ) -> Result<SignedIn, Error> {
        let sent = self.referral.send_code(SendCode::new(phone(number))).await?;
        let code = sent.revealed_code.expect("the development sender reveals it");
        let code = CodeInput::parse(code.reveal()).expect("digits");
        let request = SignIn::new(sent.phone, code).challenge(sent.challenge);
        self.referral.sign_in(request.invited_by(invited_by.cloned())).await
    }

    /// Installs a trigger that executes `statement` for the next `times` rows that are written to `table`.
    async fn sabotage(&mut self, table: &str, times: u32, statement: &str) {
        let sql = format!(
            "CREATE SEQUENCE attempts; \
             CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 IF nextval('attempts') <= {times} THEN {statement}; END IF; RETURN NEW; \
             END $$; \
             CREATE TRIGGER sabotage BEFORE INSERT OR UPDATE ON referral.{table} \
             FOR EACH ROW EXECUTE FUNCTION sabotage();"
        );
        self.operator.execute(AssertSqlSafe(sql)).await.expect("created");
    }

    async fn attempts(&mut self) -> i64 {
        let row = self.operator.fetch_one("SELECT last_value FROM attempts").await.expect("a row");
        row.get(0)
    }

    async fn count(&mut self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM referral.{table}");
        self.operator.fetch_one(AssertSqlSafe(sql)).await.expect("a row").get(0)
    }

    /// Ends all connections of the service, like a restart of the server.
    pub(crate) async fn cut_off(&mut self) {
        let cut_off = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
        self.operator.execute(cut_off).await.expect("ended");
    }
}

fn phone(number: u32) -> PhoneNumber {
    PhoneNumber::parse(&format!("+79608{number:06}"), None).expect("a mobile number")
}

#[tokio::test]
async fn aborted_transactions_are_retried() {
    for abort in ["serialization_failure", "deadlock_detected"] {
        for table in ["challenges", "counters", "users", "invitations", "sessions", "user_search"] {
            let Some(mut harness) = Harness::new().await else { return };
            let anna = harness.enter(1, None).await.expect("signed in").user;
            harness.sabotage(table, 2, &format!("RAISE {abort}")).await;
            let signed_in = harness.enter(2, Some(&anna.invite_code)).await;
            assert!(signed_in.expect("signed in").created, "{abort} {table}");
            assert!(harness.attempts().await > 2, "{abort} {table}");
            assert_eq!(harness.count("users").await, 2);
            assert_eq!(harness.count("invitations").await, 1);
            assert_eq!(harness.count("sessions").await, 2);
        }
    }
}

#[tokio::test]
async fn an_aborted_edit_of_a_profile_is_retried() {
    let Some(mut harness) = Harness::new().await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    let boris = harness.enter(2, None).await.expect("signed in");
    harness.sabotage("invitations", 2, "RAISE deadlock_detected").await;
    let bearer = harness.referral.authenticate(&boris.tokens.access).await.expect("valid");
    let change = ProfileChange { invited_by_code: Some(anna.user.invite_code), ..ProfileChange::default() };
    harness.referral.edit_profile(&bearer, change, &Client::default()).await.expect("accepted");
    assert_eq!(harness.count("invitations").await, 1);
}

#[tokio::test]
async fn a_request_fails_after_repeated_aborts() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.sabotage("sessions", 1_000, "RAISE serialization_failure").await;
    let error = harness.enter(1, None).await.expect_err("repeated aborts");
    assert_eq!(error.code(), "unavailable");
    assert!((3..=20).contains(&harness.attempts().await));
    assert_eq!(harness.count("users").await, 0, "all changes must be undone");
}

#[tokio::test]
async fn real_deadlocks_are_resolved() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.enter(1, None).await.expect("signed in");
    // The operator locks the user. The service locks the challenge and waits for the user. Then the operator
    // waits for the challenge.
    let (sent, code) = harness.sent(1).await;
    let request = SignIn::new(sent.phone, code).challenge(sent.challenge);
    let short = "SET deadlock_timeout = '10s'; BEGIN; SELECT 1 FROM referral.users FOR UPDATE";
    harness.operator.execute(short).await.expect("locked");
    let referral = harness.referral.clone();
    let signing_in = tokio::spawn(async move { referral.sign_in(request).await });
    let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
    wait_for_locks(&mut observer, 1).await;
    // The service has the shorter deadlock timeout. Its transaction is aborted and retried.
    let challenge =
        format!("UPDATE referral.challenges SET attempts_with_id = 0 WHERE id = '{}'", sent.challenge);
    harness
        .operator
        .execute(AssertSqlSafe(challenge))
        .await
        .expect("the transaction of the service is aborted");
    harness.operator.execute("COMMIT").await.expect("committed");
    signing_in.await.expect("no panic").expect("signed in");
}

#[tokio::test]
async fn a_concurrent_edit_and_late_acceptance_are_both_in_the_search_index() {
    for acceptance_first in [true, false] {
        let Some(mut harness) = Harness::new().await else { return };
        let anna = harness.enter(1, None).await.expect("signed in").user;
        let boris = harness.enter(2, None).await.expect("signed in");
        let bearer = harness.referral.authenticate(&boris.tokens.access).await.expect("valid");
        // The operator locks the user. Both requests wait for the lock in the order of their arrival.
        let lock = format!("BEGIN; SELECT 1 FROM referral.users WHERE id = '{}' FOR UPDATE", boris.user.id);
        harness.operator.execute(AssertSqlSafe(lock)).await.expect("locked");
        let (sent, code) = harness.sent(2).await;
        let request = SignIn::new(sent.phone, code).challenge(sent.challenge);
        let request = request.invited_by(Some(anna.invite_code.clone()));
        let change =
            ProfileChange { first_name: Some(Name::parse("Bohdan").ok()), ..ProfileChange::default() };
        let accepting = || {
            let (referral, request) = (harness.referral.clone(), request.clone());
            tokio::spawn(async move { referral.sign_in(request).await.map(drop) })
        };
        let editing = || {
            let (referral, bearer, change) = (harness.referral.clone(), bearer.clone(), change.clone());
            tokio::spawn(
                async move { referral.edit_profile(&bearer, change, &Client::default()).await.map(drop) },
            )
        };
        let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
        let first = if acceptance_first { accepting() } else { editing() };
        wait_for_locks(&mut observer, 1).await;
        let second = if acceptance_first { editing() } else { accepting() };
        wait_for_locks(&mut observer, 2).await;
        harness.operator.execute("COMMIT").await.expect("released");
        first.await.expect("no panic").expect("done");
        second.await.expect("no panic").expect("done");

        for term in ["bohdan", anna.invite_code.as_str()] {
            let filter = FilterInput { search: Some(term), ..FilterInput::default() };
            let list = ListUsers { filter, ..ListUsers::default() };
            let found = harness.referral.users(&bearer, list).await.expect("a page");
            assert!(found.users.iter().any(|user| user.id == boris.user.id), "{term}");
        }
    }
}

/// Waits until at least `count` connections wait for a lock.
async fn wait_for_locks(observer: &mut PgConnection, count: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while observer.fetch_one(waiting).await.expect("a row").get::<i64, _>(0) < count {}
}

/// Searches for users.
async fn search(referral: ReferralService, bearer: CurrentUser) -> Result<UserList, Error> {
    let filter = FilterInput { search: Some("+79608"), ..FilterInput::default() };
    referral.users(&bearer, ListUsers { filter, ..ListUsers::default() }).await
}

#[tokio::test]
async fn slow_searches_do_not_block_other_requests() {
    let mut options = PostgresOptions::default();
    options.max_connections = 2;
    [options.acquire_timeout, options.statement_timeout, options.search_timeout] =
        [Duration::from_mins(10); 3];
    let Some(mut harness) = Harness::with_options(&options).await else { return };
    let mut bearers = Vec::new();
    for number in 1..4 {
        let user = harness.enter(number, None).await.expect("signed in");
        bearers.push(harness.referral.authenticate(&user.tokens.access).await.expect("valid"));
    }
    // All searches wait for this lock. Of all other requests, only sign-ups need the table.
    harness.operator.execute("BEGIN; LOCK referral.user_search").await.expect("locked");
    let searches = bearers.iter().chain(&bearers);
    let searches: Vec<_> =
        searches.map(|bearer| tokio::spawn(search(harness.referral.clone(), bearer.clone()))).collect();
    let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
    wait_for_locks(&mut observer, 1).await;

    let again = harness.enter(1, None).await.expect("signed in");
    harness.referral.current_user(&again.tokens.access).await.expect("valid");
    harness.referral.users(&bearers[0], ListUsers::default()).await.expect("a page");

    harness.operator.execute("COMMIT").await.expect("released");
    for search in searches {
        assert_eq!(search.await.expect("no panic").expect("a page").count, 3);
    }
}

#[tokio::test]
async fn a_search_that_exceeds_its_time_limit_is_refused_and_releases_its_place() {
    let mut options = PostgresOptions::default();
    options.search_timeout = Duration::from_millis(1);
    let Some(mut harness) = Harness::with_options(&options).await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    let bearer = harness.referral.authenticate(&anna.tokens.access).await.expect("valid");
    harness.operator.execute("BEGIN; LOCK referral.user_search").await.expect("locked");
    for _ in 0..3 {
        let refused = search(harness.referral.clone(), bearer.clone()).await;
        assert!(matches!(refused, Err(Error::Refused(Refusal::SearchTooBroad))), "{refused:?}");
    }
    harness.operator.execute("COMMIT").await.expect("released");
}

#[tokio::test]
async fn a_canceled_search_keeps_its_place_until_the_database_ends_it() {
    let mut options = PostgresOptions::default();
    options.acquire_timeout = Duration::from_secs(2);
    [options.statement_timeout, options.search_timeout] = [Duration::from_mins(10); 2];
    let Some(mut harness) = Harness::with_options(&options).await else { return };
    let mut bearers = Vec::new();
    for number in 1..3 {
        let user = harness.enter(number, None).await.expect("signed in");
        bearers.push(harness.referral.authenticate(&user.tokens.access).await.expect("valid"));
    }
    harness.operator.execute("BEGIN; LOCK referral.user_search").await.expect("locked");
    let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
    let canceled = tokio::spawn(search(harness.referral.clone(), bearers[0].clone()));
    wait_for_locks(&mut observer, 1).await;
    canceled.abort();
    canceled.await.expect_err("aborted");
    let next = search(harness.referral.clone(), bearers[1].clone()).await;
    assert_eq!(next.expect_err("no place").code(), "unavailable");
    harness.operator.execute("COMMIT").await.expect("released");
    let next = search(harness.referral.clone(), bearers[1].clone()).await;
    assert_eq!(next.expect("a page").count, 2);
}

#[tokio::test]
async fn a_canceled_request_does_not_affect_the_next_one() {
    let Some(mut harness) = Harness::with(1).await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    let bearer = harness.referral.authenticate(&anna.tokens.access).await.expect("valid");
    harness.operator.execute("BEGIN; SELECT 1 FROM referral.users FOR UPDATE").await.expect("locked");
    // Cancels a request with a transaction, and then one with a single statement, on the only connection.
    let referral = harness.referral.clone();
    let editing = tokio::spawn(async move {
        let change = ProfileChange { first_name: Some(Name::parse("Anna").ok()), ..ProfileChange::default() };
        referral.edit_profile(&bearer, change, &Client::default()).await
    });
    let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
    wait_for_locks(&mut observer, 1).await;
    editing.abort();
    harness.operator.execute("COMMIT").await.expect("released");
    let user = harness.referral.current_user(&anna.tokens.access).await.expect("valid").user;
    assert_eq!(user.first_name, None, "the edit must be undone");

    harness.operator.execute("BEGIN; LOCK referral.users").await.expect("locked");
    let (referral, id) = (harness.referral.clone(), anna.user.id);
    let changing = tokio::spawn(async move { referral.set_active(id, false).await });
    wait_for_locks(&mut observer, 1).await;
    changing.abort();
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                  AND datname = current_database()";
    observer.execute(cancel).await.expect("canceled");
    harness.operator.execute("COMMIT").await.expect("released");
    // The next statement must not get the error of the canceled one.
    harness.referral.current_user(&anna.tokens.access).await.expect("valid");
}

#[tokio::test]
async fn a_sweep_deletes_one_batch_with_outdated_statistics() {
    let Some(mut harness) = Harness::new().await else { return };
    // The statistics are those of a table that was almost empty when it was analyzed.
    harness.operator.execute("ANALYZE referral.challenges").await.expect("analyzed");
    let storage = connect(&harness.database.url).await.expect("opened");
    let insert = "INSERT INTO referral.challenges (id, phone, number, code_length, code_hash, pepper_id, sent_at, \
                  expires_at, attempts_with_id, attempts_without_id) \
                  SELECT gen_random_uuid(), '+79608543001', n, 4, decode(repeat('00', 32), 'hex'), 'p1', \
                         to_timestamp(0), to_timestamp(0), 0, 0 FROM generate_series(1, 500) n";
    harness.operator.execute(insert).await.expect("inserted");
    let now = referral_core::clock::Clock::now(&referral_core::clock::SystemClock);
    let delete_expired =
        Retention { ended_before: now, global_counters_before: now, messages_before: now, batch: 7 };
    for _ in 0..10 {
        assert_eq!(storage.delete_expired(&delete_expired).await.expect("deleted"), 7);
    }
}

#[tokio::test]
async fn requests_after_a_restart_of_the_server_succeed() {
    let Some(mut harness) = Harness::new().await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    for number in 2..6 {
        harness.cut_off().await;
        harness.referral.current_user(&anna.tokens.access).await.expect("valid");
        harness.cut_off().await;
        harness.enter(number, Some(&anna.user.invite_code)).await.expect("signed in");
        harness.cut_off().await;
        harness.referral.refresh(&anna.tokens.refresh).await.expect("the same tokens again");
        harness.cut_off().await;
        harness.referral.run_maintenance().await.expect("deleted");
    }
}

#[tokio::test]
async fn a_write_with_an_unknown_outcome_is_not_retried() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.sabotage("sessions", 1_000, "PERFORM pg_terminate_backend(pg_backend_pid())").await;
    let error = harness.enter(1, None).await.expect_err("the connection broke");
    assert_eq!(error.code(), "unavailable");
    assert_eq!(harness.attempts().await, 1);
    assert_eq!(harness.count("users").await, 0, "all changes must be undone");
}

#[tokio::test]
async fn concurrent_startup_on_an_empty_database_succeeds() {
    for migration_lock in [true, false] {
        let Some(database) = Database::create().await else { return };
        let starts = (0..6).map(|_| {
            let url = database.url.clone();
            tokio::spawn(async move {
                let mut options = PostgresOptions::default();
                options.migration_lock = migration_lock;
                options.max_connections = 2;
                connect_postgres(&url, &options).await
            })
        });
        for start in starts.collect::<Vec<_>>() {
            let storage = start.await.expect("no panic").expect("opened");
            storage.check_ready().await.into_result().expect("ready");
        }
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_an_error_with_its_reason() {
    let Some(database) = Database::create().await else { return };
    let refused = async |url: &str, options: &PostgresOptions| match connect_postgres(url, options).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => error,
    };
    let usual = PostgresOptions::default();
    assert!(matches!(refused("postgres://[", &usual).await, ConnectError::InvalidUrl(_)));
    let secret = "postgres://postgres:hunter2@127.0.0.1:1/nowhere";
    let error = refused(secret, &usual).await;
    assert!(matches!(error, ConnectError::NotReached(_)));
    assert!(!format!("{error} {error:?}").contains("hunter2"));

    let mut pooled = usual.clone();
    pooled.transaction_pooler = true;
    let mut unmigrated = usual.clone();
    unmigrated.migrate = false;
    for options in [pooled, unmigrated] {
        let error = refused(&database.url, &options).await;
        assert!(matches!(error, ConnectError::Schema(SchemaError::Missing { version: 1, .. })), "{error}");
    }

    let mut operator = PgConnection::connect(&database.url).await.expect("a connection");
    let latin = format!("{}_latin", database.url.rsplit('/').next().expect("a name"));
    let create =
        format!("CREATE DATABASE {latin} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    operator.execute(AssertSqlSafe(create)).await.expect("created");
    let url = format!("{}_latin", database.url);
    assert!(matches!(refused(&url, &usual).await, ConnectError::NotUtf8 { .. }));
    operator.execute(AssertSqlSafe(format!("DROP DATABASE {latin} WITH (FORCE)"))).await.expect("dropped");
}

#[tokio::test]
async fn other_tables_are_not_changed_and_a_newer_schema_is_rejected_unless_compatible() {
    let Some(database) = Database::create().await else { return };
    let mut owner = PgConnection::connect(&database.url).await.expect("a connection");
    owner
        .execute("CREATE TABLE users (id int); CREATE TABLE _sqlx_migrations (version int)")
        .await
        .expect("created");
    let storage = connect(&database.url).await.expect("opened next to other tables");
    storage.check_ready().await.into_result().expect("ready");

    let newer = async |owner: &mut PgConnection, oldest_program: &str| {
        let sql = format!(
            "DELETE FROM referral._migrations WHERE version = 999; \
             DELETE FROM referral.migration_compatibility WHERE version = 999; \
             INSERT INTO referral._migrations (version, description, success, checksum, execution_time) \
             VALUES (999, 'from the future', TRUE, '', 0); \
             INSERT INTO referral.migration_compatibility (version, oldest_program) VALUES (999, '{oldest_program}')"
        );
        owner.execute(AssertSqlSafe(sql)).await.expect("inserted");
    };
    newer(&mut owner, env!("CARGO_PKG_VERSION")).await;
    storage.check_ready().await.into_result().expect("still ready");
    connect(&database.url)
        .await
        .expect("opened by an older program")
        .check_ready()
        .await
        .into_result()
        .expect("ready");

    newer(&mut owner, "99.0.0").await;
    let readiness = storage.check_ready().await;
    assert!(readiness.database.is_passed() && !readiness.schema.is_passed(), "{readiness:?}");
    let error = connect(&database.url).await.err().expect("a newer program is needed").to_string();
    for part in ["99.0.0", env!("CARGO_PKG_VERSION"), "migration 999 in referral._migrations"] {
        assert!(error.contains(part), "{error}");
    }
}

/// Clock that is one minute ahead of the system clock.
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + Duration::from_mins(1)
    }
}

#[tokio::test]
async fn a_host_whose_clock_differs_from_that_of_the_server_is_not_ready() {
    let Some(database) = Database::create().await else { return };
    for (is_ahead, is_ready) in [(false, true), (true, false)] {
        let storage = connect(&database.url).await.expect("a database");
        let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
        let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
        let builder = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
        let builder = if is_ahead { builder.clock(Ahead) } else { builder };
        let referral = builder.build().expect("valid policy and keys");
        let measured = referral.measure_clock().await.expect("measured").expect("a clock");
        // The server runs on this machine and has the same clock.
        let expected = if is_ahead { 60_000 } else { 0 };
        let error = measured.milliseconds().abs_diff(expected);
        assert!(u128::from(error) <= measured.uncertainty.as_millis() + 1, "{measured:?}");
        assert_eq!(referral.check_ready().await.is_ok(), is_ready, "{measured:?}");
    }
}

#[tokio::test]
async fn a_read_only_database_is_not_ready() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.referral.check_ready().await.expect("ready");
    let name = harness.database.url.rsplit('/').next().expect("a name");
    let standby = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    harness.operator.execute(AssertSqlSafe(standby)).await.expect("set");
    harness.cut_off().await;
    assert_eq!(harness.referral.check_ready().await.expect_err("a standby").code(), "unavailable");
}

#[tokio::test]
async fn a_server_with_a_full_disk_is_not_ready_until_space_is_free() {
    let Some(mut harness) = Harness::new().await else { return };
    harness.sabotage("challenges", 1, "RAISE disk_full").await;
    assert_eq!(harness.enter(1, None).await.expect_err("full").code(), "unavailable");
    harness.operator.execute("ALTER TABLE referral.disk_probe ADD CHECK (filler = '')").await.expect("set");
    for _ in 0..2 {
        let readiness = harness.referral.readiness().await;
        assert!(readiness.database.is_passed() && readiness.schema.is_passed(), "{readiness:?}");
        assert!(!readiness.disk.is_passed(), "{readiness:?}");
    }
    let room = "ALTER TABLE referral.disk_probe DROP CONSTRAINT disk_probe_filler_check";
    harness.operator.execute(room).await.expect("set");
    assert!(harness.referral.readiness().await.is_ready());
    assert_eq!(harness.count("disk_probe").await, 0, "the probe must be undone");
}

#[tokio::test]
async fn requests_succeed_after_a_newer_program_adds_columns() {
    let Some(mut harness) = Harness::new().await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    for round in 0..2 {
        let boris = harness.enter(10 + round, Some(&anna.user.invite_code)).await.expect("signed in");
        harness.enter(10 + round, None).await.expect("signed in again");
        let refreshed = harness.referral.refresh(&boris.tokens.refresh).await.expect("refreshed");
        let access = &refreshed.tokens.access;
        harness.referral.current_user(access).await.expect("valid");
        let bearer = harness.referral.authenticate(access).await.expect("valid");
        let name = Some(Name::parse("Boris").ok());
        let change = ProfileChange { first_name: name, ..ProfileChange::default() };
        harness.referral.edit_profile(&bearer, change, &Client::default()).await.expect("edited");
        search(harness.referral.clone(), bearer.clone()).await.expect("a page");
        harness.referral.users(&bearer, ListUsers::default()).await.expect("a page");
        harness.referral.sessions(&bearer).await.expect("sessions");
        harness.referral.set_active(boris.user.id, true).await.expect("set");
        harness.referral.run_maintenance().await.expect("deleted");
        assert!(harness.referral.readiness().await.is_ready());
        // All statements are prepared now. A migration that adds columns must not break them.
        let tables = "SELECT string_agg(format('ALTER TABLE %s ADD COLUMN added int NOT NULL DEFAULT 0', \
                      oid::regclass), ';') FROM pg_class WHERE relkind = 'r' AND relnamespace = 'referral'::regnamespace";
        if round == 0 {
            let expand: String = harness.operator.fetch_one(tables).await.expect("tables").get(0);
            harness.operator.execute(AssertSqlSafe(expand)).await.expect("expanded");
        }
    }
}
