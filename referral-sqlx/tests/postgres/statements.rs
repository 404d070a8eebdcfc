//! Statements with outdated statistics, prepared statements after a change of the schema, and settings of
//! transactions that write.

use std::sync::Arc;

use referral_core::{
    CreateUser, EditProfile, InviteCode, ListUsers, Name, ProfileChange, UserId,
    clock::{Clock as _, SystemClock},
    policy::Policy,
    sms::DevelopmentSender,
    storage::{ImportBatch, ImportOutcome, ImportedInvitation, RecordedUser, Retention, UserStorage as _},
};
use referral_sqlx::{PostgresOptions, PostgresStorage, connect};
use sqlx::{AssertSqlSafe, Executor as _, PgPool, Row as _};
use uuid::Uuid;

use crate::{
    harness::{Harness, search},
    service,
    sign_in::{enter, phone},
};

#[tokio::test]
async fn a_deletion_removes_one_batch_with_outdated_statistics() {
    let Some(mut harness) = Harness::new().await else { return };
    // The statistics are those of a table that was almost empty when it was analyzed.
    harness.operator.execute("ANALYZE referral.challenges").await.expect("analyzed");
    let storage = connect(&harness.database.url).await.expect("opened");
    let insert = "INSERT INTO referral.challenges (id, phone, number, code_length, code_hash, pepper_id, sent_at, \
                  expires_at, attempts_with_id, attempts_without_id) \
                  SELECT gen_random_uuid(), '+79608543001', n, 4, decode(repeat('00', 32), 'hex'), 'p1', \
                         to_timestamp(0), to_timestamp(0), 0, 0 FROM generate_series(1, 500) n";
    harness.operator.execute(insert).await.expect("inserted");
    let now = SystemClock.now();
    let delete_expired = Retention {
        ended_before: now,
        global_counters_before: now,
        messages_before: now,
        code_requests_before: now,
        batch_size: 7,
    };
    for _ in 0..10 {
        assert_eq!(storage.delete_expired(&delete_expired).await.expect("deleted"), 7);
    }
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
        let current_user = harness.referral.authenticate(access).await.expect("valid");
        let name = Some(Name::parse("Boris").ok());
        let change = ProfileChange { first_name: name, ..ProfileChange::default() };
        harness.referral.edit_profile(&current_user, EditProfile::new(change)).await.expect("edited");
        search(harness.referral.clone(), current_user.clone()).await.expect("a page");
        harness.referral.users(&current_user, ListUsers::default()).await.expect("a page");
        harness.referral.sessions(&current_user).await.expect("sessions");
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

#[tokio::test]
async fn only_an_import_raises_the_limit_of_the_pending_list_of_the_search_index() {
    let Some(mut harness) = Harness::new().await else { return };
    let record = "CREATE TABLE limits (number serial, value text); \
                  CREATE FUNCTION record_limit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                      INSERT INTO limits (value) VALUES (current_setting('gin_pending_list_limit')); RETURN NULL; \
                  END $$; \
                  CREATE TRIGGER record_limit AFTER INSERT ON referral.user_search \
                  FOR EACH ROW EXECUTE FUNCTION record_limit()";
    harness.operator.execute(record).await.expect("created");
    harness.enter(1, None).await.expect("signed in");

    let pool = PgPool::connect(&harness.database.url).await.expect("connected");
    let storage = PostgresStorage::with_pool(pool.clone(), &PostgresOptions::default()).await;
    let storage = Arc::new(storage.expect("opened"));
    let builder = service::builder(storage.clone(), DevelopmentSender).policy(Policy::development());
    let referral = builder.build().expect("valid");
    enter(&referral, 2, None).await;

    let mut transaction = pool.begin().await.expect("started");
    let request = referral.create_user_request(CreateUser::new(phone(3))).expect("a mobile phone");
    storage.add_user_in(&mut transaction, &request).await.expect("added").expect("new");
    transaction.commit().await.expect("committed");

    let mut record = storage.export_users(None, 1).await.expect("read").remove(0);
    let RecordedUser::Present(user) = &mut record.user else { panic!("a user") };
    (user.id, user.phone) = (UserId(Uuid::from_u128(7)), phone(4));
    user.invite_code = InviteCode::parse("ABC234").expect("valid");
    let imported = storage.import_users(&ImportBatch::new(vec![record])).await.expect("imported");
    assert_eq!(imported, [ImportOutcome::Added(ImportedInvitation::None)]);

    let limits = sqlx::query_scalar("SELECT value FROM limits ORDER BY number");
    let limits: Vec<String> = limits.fetch_all(&mut harness.operator).await.expect("read");
    assert_eq!(limits, ["256kB", "256kB", "256kB", "1MB"]);
}
