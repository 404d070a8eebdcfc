//! Cases of the transaction hook for each database. The host has the tables `profiles` and `rewards`, with a row
//! for each user and each invitation.

use referral_core::{
    CreateUser, EditProfile, Error, ProfileChange, ReferralService, SendCode, SignIn, storage::StorageError,
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
    referral.make_staff(phone(5)).await.expect("made");
    referral.create_user(CreateUser::new(phone(6))).await.expect("created");
    assert_eq!(rows().await, (6, 3));
}

/// Asserts that an error of the hook undoes a sign-in, and keeps its code and the counted attempts. `schema` is
/// the start of the names of the tables. `set_failing` makes the hook fail or work.
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
