//! Tests that a deleted user leaves no personal data in the tables, and that concurrent requests see the
//! deletion.

use referral_core::{EditProfile, ErrorCode, ProfileChange, StaffRole};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::{
    erasure::{assert_erased, delete_a_user},
    harness::{Harness, wait_for_locks},
    sign_in::{phone, with_right_code},
};

#[tokio::test]
async fn a_deleted_user_leaves_no_personal_data() {
    let Some(mut harness) = Harness::new().await else { return };
    let deleted = delete_a_user(&harness.referral).await;
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'referral'";
    let tables: Vec<String> =
        sqlx::query_scalar(tables).fetch_all(&mut harness.operator).await.expect("tables");
    let mut dumped = Vec::new();
    for table in tables {
        let rows =
            AssertSqlSafe(format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM referral.{table} t"));
        let values: String = sqlx::query_scalar(rows).fetch_one(&mut harness.operator).await.expect("values");
        dumped.push((table, values));
    }
    assert_erased(&dumped);
    let erased = "SELECT count(*) FROM referral.users WHERE id = $1 AND erased_at IS NOT NULL";
    let erased: i64 =
        sqlx::query_scalar(erased).bind(deleted.0).fetch_one(&mut harness.operator).await.expect("a count");
    assert_eq!(erased, 1);
}

/// Starts a transaction that erases the user with the phone of number 1. It keeps the codes of the phone.
const ERASE: &str = "BEGIN; \
    DELETE FROM referral.sessions WHERE user_id = (SELECT id FROM referral.users WHERE phone = '+79608000001'); \
    DELETE FROM referral.user_search WHERE user_id = (SELECT id FROM referral.users WHERE phone = '+79608000001'); \
    UPDATE referral.users SET phone = NULL, is_active = FALSE, last_login = NULL, last_active = NULL, erased_at = now() \
    WHERE phone = '+79608000001'";

/// Runs a request that waits for the deletion of a user, which is then committed.
async fn during_the_deletion<T: Send + 'static>(
    harness: &mut Harness,
    request: impl Future<Output = T> + Send + 'static,
) -> T {
    harness.operator.execute(ERASE).await.expect("erased");
    let request = tokio::spawn(request);
    let mut observer = PgConnection::connect(&harness.database.url).await.expect("a connection");
    wait_for_locks(&mut observer, 1).await;
    harness.operator.execute("COMMIT").await.expect("committed");
    request.await.expect("no panic")
}

#[tokio::test]
async fn an_invitation_that_waits_for_the_deletion_of_the_inviter_is_rejected() {
    // From 100 invitees on, invitations do not wait for the row of the inviter.
    for invitees in [0, 100] {
        for is_late in [false, true] {
            let Some(mut harness) = Harness::new().await else { return };
            let code = harness.enter(1, None).await.expect("signed in").user.invite_code;
            let boris = harness.enter(2, None).await.expect("signed in");
            let popular = AssertSqlSafe(format!("UPDATE referral.users SET invited_count = {invitees}"));
            harness.operator.execute(popular).await.expect("changed");
            let referral = harness.referral.clone();
            let current_user = referral.authenticate(&boris.tokens.access).await.expect("a user");
            let sent = harness.sent_code(3).await;
            let accepted = during_the_deletion(&mut harness, async move {
                if is_late {
                    let invited_by_code = Some(code);
                    let change = ProfileChange { invited_by_code, ..ProfileChange::default() };
                    referral.edit_profile(&current_user, EditProfile::new(change)).await.map(drop)
                } else {
                    referral.sign_in(with_right_code(&sent).invited_by(code)).await.map(drop)
                }
            });
            let error = accepted.await.expect_err("the inviter is erased");
            assert_eq!(error.code(), ErrorCode::UnknownInviteCode, "{invitees} {is_late}");
            assert_eq!(harness.count("invitations").await, 0);
        }
    }
}

#[tokio::test]
async fn a_sign_in_that_waits_for_the_deletion_of_its_user_starts_no_session_of_this_user() {
    let Some(mut harness) = Harness::new().await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    let sent = harness.sent_code(1).await;
    let referral = harness.referral.clone();
    let request = with_right_code(&sent);
    let signed_in = during_the_deletion(&mut harness, async move { referral.sign_in(request).await }).await;
    let signed_in = signed_in.expect("the code is still valid");
    assert!(signed_in.created && signed_in.user.id != anna.user.id);
    assert_eq!(harness.count("sessions").await, 1);
}

#[tokio::test]
async fn changes_of_a_user_that_wait_for_its_deletion_are_rejected() {
    let Some(mut harness) = Harness::new().await else { return };
    let anna = harness.enter(1, None).await.expect("signed in");
    let (referral, id) = (harness.referral.clone(), anna.user.id);
    let deleted = during_the_deletion(&mut harness, async move { referral.delete_user(id).await }).await;
    assert_eq!(deleted.expect_err("erased").code(), ErrorCode::NotFound);

    let staff = harness.enter(1, None).await.expect("signed in").user;
    let referral = harness.referral.clone();
    let promoted =
        during_the_deletion(
            &mut harness,
            async move { referral.make_staff(phone(1), StaffRole::Admin).await },
        )
        .await;
    let promoted = promoted.expect("a new user is created");
    assert!(promoted.is_staff() && promoted.id != staff.id);
}
