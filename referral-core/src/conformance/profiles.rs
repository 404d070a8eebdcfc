//! Profiles that are edited.

use std::sync::Arc;

use super::{Bench, assert_refused, in_parallel};
use crate::{
    Bearer, Client, Email, Error, InviteCode, Name, ProfileChange, ProfileView, Refusal, User, UserId,
    storage::Storage,
};

fn email(address: &str) -> Email {
    Email::parse(address).expect("an address")
}

fn name(name: &str) -> Name {
    Name::parse(name).expect("a name")
}

async fn edit(bench: &Bench, bearer: &Bearer, change: ProfileChange) -> Result<ProfileView, Error> {
    bench.referral.edit_profile(bearer, change, &Client::default()).await
}

/// What is named changes, what is cleared is gone, the rest stays.
pub async fn a_profile_is_edited_and_cleared(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await;
    let bearer = bench.bearer(&anna).await;
    let all = ProfileChange {
        first_name: Some(Some(name("Анна"))),
        last_name: Some(Some(name("O'Neil"))),
        email: Some(Some(email("Anna@Example.com"))),
        invited_by_code: None,
    };
    edit(&bench, &bearer, all).await.expect("edited");
    let change = ProfileChange { last_name: Some(None), ..ProfileChange::default() };
    edit(&bench, &bearer, change).await.expect("edited");
    edit(&bench, &bearer, ProfileChange::default()).await.expect("nothing to do");

    let stored = bench.bearer(&anna).await.user;
    let expected = User {
        first_name: Name::parse("Анна").ok(),
        email: Email::parse("anna@example.com").ok(),
        ..anna.user
    };
    assert_eq!(stored, expected);
}

/// One bad field keeps all others from changing, and all bad ones are named.
pub async fn an_edit_is_all_or_nothing(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let [anna, boris] = [bench.enter(1).await, bench.enter(2).await];
    let [anna, boris] = [bench.bearer(&anna).await, bench.bearer(&boris).await];
    let claim = ProfileChange { email: Some(Some(email("a@b.cd"))), ..ProfileChange::default() };
    edit(&bench, &anna, claim.clone()).await.expect("edited");

    let unknown = InviteCode::parse("ZZZZZZZZZZZZ").ok();
    let change = ProfileChange { first_name: Some(Some(name("Boris"))), invited_by_code: unknown, ..claim };
    match edit(&bench, &boris, change).await {
        Err(Error::ProfileRefused(refusals)) => {
            assert_eq!(refusals, [Refusal::EmailTaken, Refusal::UnknownInviteCode]);
        }
        other => panic!("not refused: {other:?}"),
    }
    let stored = bench.referral.user(&anna, boris.user.id).await.expect("a user");
    assert_eq!((stored.user.first_name, stored.user.email), (None, None));
}

/// Nobody gets an address that somebody has, in whatever letter case; whoever clears theirs
/// leaves it free.
pub async fn an_email_belongs_to_one_user(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let [anna, boris] = [bench.enter(1).await, bench.enter(2).await];
    let [anna, boris] = [bench.bearer(&anna).await, bench.bearer(&boris).await];
    let claim = || ProfileChange { email: Some(Some(email("Same@Example.com"))), ..ProfileChange::default() };

    edit(&bench, &anna, claim()).await.expect("free");
    edit(&bench, &anna, claim()).await.expect("her own");
    assert_refused(edit(&bench, &boris, claim()).await, Refusal::EmailTaken);
    let clear = ProfileChange { email: Some(None), ..ProfileChange::default() };
    edit(&bench, &anna, clear).await.expect("cleared");
    edit(&bench, &boris, claim()).await.expect("free again");
}

/// Of many who ask for one address at once, one gets it.
pub async fn parallel_claims_of_an_email_give_it_to_one(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let mut bearers = Vec::new();
    for number in 0..20 {
        bearers.push(bench.bearer(&bench.enter(number).await).await);
    }
    let results = in_parallel(20, |number| {
        let (bench, bearer) = (bench.clone(), bearers[number as usize].clone());
        let change =
            ProfileChange { email: Some(Some(email("one@example.com"))), ..ProfileChange::default() };
        async move { edit(&bench, &bearer, change).await }
    });
    let results = results.await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.into_iter().filter(Result::is_err) {
        assert_refused(refused, Refusal::EmailTaken);
    }
}

/// No character is taken for anything but itself.
pub async fn any_text_comes_back_as_it_was(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await;
    let bearer = bench.bearer(&anna).await;
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
        let profile = edit(&bench, &bearer, change).await.expect("edited");
        assert_eq!(profile.user.first_name.as_ref().map(Name::as_str), Some(text));
        assert_eq!(bench.profile(&anna).await.user.first_name, profile.user.first_name);
    }
}

/// There is nothing to edit of somebody who is not there.
pub async fn a_profile_of_nobody_is_refused(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.bearer(&bench.enter(1).await).await;
    let nobody = UserId(uuid::Uuid::nil());
    let mut bearer = anna.clone();
    bearer.user.id = nobody;
    let change = ProfileChange { first_name: Some(Some(name("Nobody"))), ..ProfileChange::default() };
    assert_refused(edit(&bench, &bearer, change).await, Refusal::UserNotFound);
    assert_refused(bench.referral.user(&anna, nobody).await, Refusal::UserNotFound);
}
