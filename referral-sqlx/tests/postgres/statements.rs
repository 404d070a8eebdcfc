//! Statements with outdated statistics, and prepared statements after a change of the schema.

use referral_core::{
    EditProfile, ListUsers, Name, ProfileChange,
    clock::{Clock as _, SystemClock},
    storage::Retention,
};
use referral_sqlx::connect;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use crate::harness::{Harness, search};

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
