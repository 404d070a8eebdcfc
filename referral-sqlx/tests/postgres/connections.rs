//! Connections that break, and connections whose request was canceled.

use referral_core::{EditProfile, Name, ProfileChange};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::harness::{Harness, wait_for_locks};

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
    assert_eq!(error.code().as_str(), "unavailable");
    assert_eq!(harness.attempts().await, 1);
    assert_eq!(harness.count("users").await, 0, "all changes must be undone");
}

#[tokio::test]
async fn a_canceled_request_does_not_affect_the_next_one() {
    let Some(mut harness) = Harness::with(1).await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    let current_user = harness.referral.authenticate(&anna.tokens.access).await.expect("valid");
    harness.operator.execute("BEGIN; SELECT 1 FROM referral.users FOR UPDATE").await.expect("locked");
    // Cancels a request with a transaction, and then one with a single statement, on the only connection.
    let referral = harness.referral.clone();
    let editing = tokio::spawn(async move {
        let change = ProfileChange { first_name: Some(Name::parse("Anna").ok()), ..ProfileChange::default() };
        referral.edit_profile(&current_user, EditProfile::new(change)).await
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
