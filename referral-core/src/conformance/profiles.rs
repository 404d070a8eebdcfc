//! Cases about edits of profiles.

use std::sync::Arc;

use super::harness::{Harness, assert_refused, in_parallel};
use crate::{
    error::{Error, refusal::Refusal},
    invite::code::InviteCode,
    service::{sessions::CurrentUser, users::EditProfile},
    storage::Storage,
    user::{User, UserId, email::Email, name::Name, profile::ProfileChange, visibility::ProfileView},
};

fn email(address: &str) -> Email {
    Email::parse(address).expect("valid address")
}

fn name(name: &str) -> Name {
    Name::parse(name).expect("valid name")
}

async fn edit(
    harness: &Harness,
    current_user: &CurrentUser,
    change: ProfileChange,
) -> Result<ProfileView, Error> {
    harness.referral.edit_profile(current_user, EditProfile::new(change)).await
}

/// Given fields are changed, cleared fields are empty, and all others stay.
pub async fn profile_is_edited_and_cleared(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let current_user = harness.current_user(&anna).await;
    let all = ProfileChange {
        first_name: Some(Some(name("Анна"))),
        last_name: Some(Some(name("O'Neil"))),
        email: Some(Some(email("Anna@Example.com"))),
        invited_by_code: None,
    };
    edit(&harness, &current_user, all).await.expect("edited");
    let change = ProfileChange { last_name: Some(None), ..ProfileChange::default() };
    edit(&harness, &current_user, change).await.expect("edited");
    edit(&harness, &current_user, ProfileChange::default()).await.expect("nothing to do");

    let stored = harness.current_user(&anna).await.user;
    let expected = User {
        first_name: Name::parse("Анна").ok(),
        email: Email::parse("anna@example.com").ok(),
        ..anna.user
    };
    assert_eq!(stored, expected);
}

/// One invalid field prevents all changes, and all invalid fields are reported.
pub async fn edit_is_atomic(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let [anna, boris] = [harness.current_user(&anna).await, harness.current_user(&boris).await];
    let claim = ProfileChange { email: Some(Some(email("a@b.cd"))), ..ProfileChange::default() };
    edit(&harness, &anna, claim.clone()).await.expect("edited");

    let unknown = InviteCode::parse("ZZZZZZZZZZZZ").ok();
    let change = ProfileChange { first_name: Some(Some(name("Boris"))), invited_by_code: unknown, ..claim };
    match edit(&harness, &boris, change).await {
        Err(Error::ProfileRefused(refusals)) => {
            assert_eq!(refusals, [Refusal::EmailTaken, Refusal::UnknownInviteCode]);
        }
        other => panic!("not rejected: {other:?}"),
    }
    let stored = harness.referral.user(&anna, boris.user.id).await.expect("existing user");
    assert_eq!((stored.user.first_name, stored.user.email), (None, None));
}

/// An address of one user is rejected for another, in any letter case. After the user has cleared it, it is
/// free.
pub async fn email_belongs_to_one_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let [anna, boris] = [harness.current_user(&anna).await, harness.current_user(&boris).await];
    let claim = || ProfileChange { email: Some(Some(email("Same@Example.com"))), ..ProfileChange::default() };

    edit(&harness, &anna, claim()).await.expect("unused address");
    edit(&harness, &anna, claim()).await.expect("her own address");
    assert_refused(edit(&harness, &boris, claim()).await, Refusal::EmailTaken);
    let clear = ProfileChange { email: Some(None), ..ProfileChange::default() };
    edit(&harness, &anna, clear).await.expect("cleared");
    edit(&harness, &boris, claim()).await.expect("free again");
}

/// Exactly one of many concurrent claims of one email address succeeds.
pub async fn parallel_claims_of_an_email_succeed_once(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut current_users = Vec::new();
    for number in 0..20 {
        current_users.push(harness.current_user(&harness.enter(number).await).await);
    }
    let results = in_parallel(20, |number| {
        let (harness, current_user) = (harness.clone(), current_users[number as usize].clone());
        let change =
            ProfileChange { email: Some(Some(email("one@example.com"))), ..ProfileChange::default() };
        async move { edit(&harness, &current_user, change).await }
    });
    let results = results.await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.into_iter().filter(Result::is_err) {
        assert_refused(refused, Refusal::EmailTaken);
    }
}

/// Every character is stored as it is.
pub async fn text_is_stored_unchanged(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await;
    let current_user = harness.current_user(&anna).await;
    for text in [
        "'; DROP TABLE users; --",
        "\"",
        "\\",
        "%_?*$1:x",
        "🙂👩",
        "क्\u{200d}ष",
        "İıßﬁ",
        "नमस्ते",
        "a\u{301}",
        "NULL",
    ] {
        let change = ProfileChange { first_name: Some(Some(name(text))), ..ProfileChange::default() };
        let profile = edit(&harness, &current_user, change).await.expect("edited");
        assert_eq!(profile.user.first_name.as_ref().map(Name::as_str), Some(text));
        assert_eq!(harness.profile(&anna).await.user.first_name, profile.user.first_name);
    }
}

/// A user that does not exist cannot be edited.
pub async fn edit_of_an_unknown_user_is_rejected(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.current_user(&harness.enter(1).await).await;
    let unknown_user = UserId(uuid::Uuid::nil());
    let mut current_user = anna.clone();
    current_user.user.id = unknown_user;
    let change = ProfileChange { first_name: Some(Some(name("Anna"))), ..ProfileChange::default() };
    assert_refused(edit(&harness, &current_user, change).await, Refusal::UserNotFound);
    assert_refused(harness.referral.user(&anna, unknown_user).await, Refusal::UserNotFound);
}
