//! Cases of the transaction hook for each database. The host has the tables `profiles` and `rewards`, with a
//! row for each user and each invitation.

use std::time::Duration;

use referral_core::{
    ChangePhone, CreateUser, DeleteAccount, EditProfile, Error, ProfileChange, ReferralService, SendCode,
    SendDeletionCode, SendPhoneChangeCode, SignIn, StaffRole, policy::Policy, storage::StorageError,
};
use referral_sqlx::HookError;

use crate::sign_in::{enter, phone, with_right_code, wrong_code};

/// Asserts that each user and each invitation has its row. `count` returns the number of rows of a table.
pub(crate) async fn rows_are_written(referral: &ReferralService, count: impl AsyncFn(&str) -> i64) {
    let rows = async || (count("profiles").await, count("rewards").await);
    let anna = enter(referral, 1, None).await;
    enter(referral, 2, Some(&anna.user.invite_code)).await;
    let vera = enter(referral, 3, None).await;
    assert_eq!(rows().await, (3, 1));
    // A second sign-in creates nothing, but it can accept an invitation.
    enter(referral, 3, Some(&anna.user.invite_code)).await;
    assert_eq!(rows().await, (3, 2));
    let galya = enter(referral, 4, None).await;
    let current_user = referral.authenticate(&galya.tokens.access).await.expect("a user");
    let change = ProfileChange { invited_by_code: Some(vera.user.invite_code), ..ProfileChange::default() };
    referral.edit_profile(&current_user, EditProfile::new(change)).await.expect("edited");
    referral.make_staff(phone(5), StaffRole::Admin).await.expect("made");
    referral.create_user(CreateUser::new(phone(6))).await.expect("created");
    assert_eq!(rows().await, (6, 3));
}

/// Asserts that the row of a user is deleted with the user, and that an error of the hook undoes the deletion
/// and keeps its code and the counted attempts. The arguments are as in [`an_error_undoes_the_sign_in`].
pub(crate) async fn rows_are_deleted(
    referral: &ReferralService,
    schema: &str,
    count: impl AsyncFn(&str) -> i64,
    set_failing: impl Fn(bool),
) {
    let (erased, attempts) = (
        format!("{schema}users WHERE erased_at IS NOT NULL"),
        format!("{schema}challenges WHERE attempts_with_id = 1 AND redeemed_at IS NULL"),
    );
    let anna = enter(referral, 1, None).await;
    let boris = enter(referral, 2, Some(&anna.user.invite_code)).await;
    let current_user = referral.authenticate(&boris.tokens.access).await.expect("a user");
    let sent = referral.send_deletion_code(&current_user, SendDeletionCode::new()).await.expect("sent");
    let wrong = DeleteAccount::new(sent.challenge, wrong_code(&sent));
    referral.delete_account(&current_user, wrong).await.expect_err("wrong");

    set_failing(true);
    let SignIn { code, .. } = with_right_code(&sent);
    let right = DeleteAccount::new(sent.challenge, code);
    for error in [
        referral.delete_account(&current_user, right.clone()).await.map(drop),
        referral.delete_user(boris.user.id).await.map(drop),
    ] {
        let error = error.expect_err("the hook fails");
        assert!(HookError::source_of(&error).is_some(), "{error:?}");
    }
    for (table, rows) in [("profiles", 2), (&*erased, 0), (&*attempts, 1)] {
        assert_eq!(count(table).await, rows, "{table}");
    }
    referral.authenticate(&boris.tokens.access).await.expect("the session is active");

    set_failing(false);
    let deleted = referral.delete_account(&current_user, right).await.expect("deleted");
    assert_eq!(deleted.ended_sessions, 1);
    assert_eq!((count("profiles").await, count(&erased).await), (1, 1));
    referral.delete_user(anna.user.id).await.expect("deleted");
    assert_eq!((count("profiles").await, count(&erased).await, count("rewards").await), (0, 2, 1));
}

/// Asserts that the row of a user has the new phone with the user, and that an error of the hook undoes the
/// change and keeps its code, the sessions and the counted attempts. The arguments are as in
/// [`an_error_undoes_the_sign_in`]. The table `phones` has the phone before each change, and the new one.
pub(crate) async fn phones_are_changed(
    referral: &ReferralService,
    schema: &str,
    count: impl AsyncFn(&str) -> i64,
    set_failing: impl Fn(bool),
) {
    let (changed, attempts) = (
        format!("{schema}users WHERE phone = '{}'", phone(3).as_str()),
        format!("{schema}challenges WHERE attempts_with_id = 1 AND redeemed_at IS NULL"),
    );
    let row = format!("phones WHERE old = '{}' AND new = '{}'", phone(1).as_str(), phone(3).as_str());
    let anna = enter(referral, 1, None).await;
    let elsewhere = enter(referral, 1, None).await;
    let current_user = referral.authenticate(&anna.tokens.access).await.expect("a user");
    let send = SendPhoneChangeCode::new(phone(3));
    let sent = referral.send_phone_change_code(&current_user, send).await.expect("sent");
    let wrong = ChangePhone::new(phone(3), sent.challenge, wrong_code(&sent));
    referral.change_phone(&current_user, wrong).await.expect_err("wrong");

    set_failing(true);
    let SignIn { code, .. } = with_right_code(&sent);
    let right = ChangePhone::new(phone(3), sent.challenge, code);
    let error = referral.change_phone(&current_user, right.clone()).await.expect_err("the hook fails");
    assert!(HookError::source_of(&error).is_some(), "{error:?}");
    for (table, rows) in [("phones", 0), (&*changed, 0), (&*attempts, 1)] {
        assert_eq!(count(table).await, rows, "{table}");
    }
    referral.authenticate(&elsewhere.tokens.access).await.expect("the session is active");

    set_failing(false);
    referral.change_phone(&current_user, right).await.expect("changed");
    assert_eq!((count("phones").await, count(&row).await, count(&changed).await), (1, 1, 1));
    referral.authenticate(&elsewhere.tokens.access).await.expect_err("the session has ended");
}

/// Asserts that the hook learns that a silent user lost the phone before it learns of the new user, or that the
/// user keeps the phone. `silence` makes all users silent.
pub(crate) async fn phones_are_detached(
    referral: &ReferralService,
    silence: impl AsyncFn(),
    count: impl AsyncFn(&str) -> i64,
    set_failing: impl Fn(bool),
) {
    let rows = async || (count("profiles").await, count("phones WHERE new = 'none'").await);
    let anna = enter(referral, 1, None).await.user;
    silence().await;
    let sent = referral.send_code(SendCode::new(phone(1))).await.expect("sent");
    set_failing(true);
    referral.sign_in(with_right_code(&sent)).await.expect_err("the hook fails");
    assert_eq!(rows().await, (1, 0));
    assert!(referral.find_user(anna.id).await.expect("read").expect("stored").has_phone());

    set_failing(false);
    assert!(referral.sign_in(with_right_code(&sent)).await.expect("signed in").created);
    assert_eq!(rows().await, (2, 1));
}

/// Policy of a host whose phones are recycled.
pub(crate) fn policy() -> Policy {
    let mut policy = Policy::development();
    policy.phones_recycled_after = Some(Duration::from_hours(40 * 24));
    policy
}

/// Asserts that an error of the hook undoes a sign-in, and keeps its code and the counted attempts. `schema`
/// is the start of the names of the tables. `set_failing` makes the hook fail or work.
pub(crate) async fn an_error_undoes_the_sign_in(
    referral: &ReferralService,
    schema: &str,
    count: impl AsyncFn(&str) -> i64,
    set_failing: impl Fn(bool),
) {
    let (users, attempts) = (
        format!("{schema}users"),
        format!("{schema}challenges WHERE attempts_with_id = 1 AND redeemed_at IS NULL"),
    );
    let anna = enter(referral, 1, None).await;
    let sent = referral.send_code(SendCode::new(phone(2))).await.expect("sent");
    let wrong = SignIn::new(phone(2), wrong_code(&sent)).challenge(sent.challenge);
    referral.sign_in(wrong).await.expect_err("wrong");
    assert_eq!(count(&attempts).await, 1);

    set_failing(true);
    let request = with_right_code(&sent).invited_by(Some(anna.user.invite_code));
    let error = referral.sign_in(request.clone()).await.expect_err("the hook fails");
    assert!(matches!(error, Error::Storage(StorageError::Failed(_))), "{error:?}");
    let source = HookError::source_of(&error).expect("an error of the hook").to_string();
    assert_eq!(source, "the host is closed");
    for (table, rows) in [(&*users, 1), ("profiles", 1), ("rewards", 0), (&*attempts, 1)] {
        assert_eq!(count(table).await, rows, "{table}");
    }

    set_failing(false);
    assert!(referral.sign_in(request).await.expect("signed in").created);
    assert_eq!((count("profiles").await, count("rewards").await), (2, 1));
}
