//! Cases about custom claims of access tokens.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use super::harness::{Harness, assert_refused, in_parallel, phone, with_right_code};
use crate::{
    error::{Error, refusal::Refusal},
    service::{sign_in::SignedIn, users::EditProfile},
    session::{Session, claims::MAX_CLAIMS_BYTES, jwt::TokenPair},
    storage::{Storage, StorageError},
    user::{User, name::Name, profile::ProfileChange},
};

const NAME: &str = "https://example.com/claims";

/// Returns the value of the claim in an access token.
fn claim(harness: &Harness, tokens: &TokenPair) -> Option<Value> {
    let token = harness.referral.verify_without_storage(&tokens.access).expect("valid token");
    token.claim(NAME).cloned()
}

/// Returns the stored session with the text of its claims.
async fn stored(harness: &Harness, signed_in: &SignedIn) -> (Session, Option<String>) {
    let found = harness.storage.session(signed_in.session, 0).await.expect("the storage responds");
    let session = found.expect("existing session").session;
    let text = session.issued.claims.as_ref().map(|claims| claims.as_str().to_owned());
    (session, text)
}

/// Claims are stored exactly, up to their largest size. A session without claims has none.
pub async fn custom_claims_are_stored_unchanged(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let without = harness.enter(1).await;
    assert_eq!(stored(&harness, &without).await.1, None);

    let text = "Анна 🙂 o'\"\\%_\u{0}\u{7f}\u{2028}\u{10ffff}";
    let largest = "я".repeat((MAX_CLAIMS_BYTES - json!({ NAME: "" }).to_string().len()) / 2);
    let numbers = json!([0.1, 1e300, -0.0, u64::MAX, i64::MIN, 100_000_000_000_000_000_000.0]);
    for (number, value) in (2..).zip([
        json!({ "a": numbers, "b": [null, true, {}], text: text }),
        json!(""),
        json!(false),
        json!(largest),
    ]) {
        let expected = value.clone();
        let harness = harness.with_claims(NAME, move |_, _| value.clone());
        let signed_in = harness.enter(number).await;
        assert_eq!(claim(&harness, &signed_in.tokens), Some(expected.clone()));
        let (session, text) = stored(&harness, &signed_in).await;
        assert_eq!(text, Some(json!({ NAME: expected.clone() }).to_string()));
        let user = harness.current_user(&signed_in).await;
        let listed = harness.referral.sessions(&user).await.expect("list of sessions");
        assert_eq!(listed, [session]);
        let refreshed = harness.referral.refresh(&signed_in.tokens.refresh).await.expect("exchanged").tokens;
        assert_eq!(claim(&harness, &refreshed), Some(expected));
        assert_eq!(stored(&harness, &signed_in).await.1, text);
    }
    // A rotation by a process without the function removes the claims.
    let harness = harness.with_claims(NAME, |_, _| 1);
    let signed_in = harness.enter(9).await;
    let without = harness.with_builder(|builder| builder);
    without.referral.refresh(&signed_in.tokens.refresh).await.expect("exchanged");
    assert_eq!(stored(&harness, &signed_in).await.1, None);
}

/// A repeated refresh returns the same bytes, also after the user or the function changed. New tokens have
/// new claims.
pub async fn repeated_refresh_returns_the_same_custom_claims(storage: Arc<dyn Storage>) {
    let first_name = |user: &User, _| json!(user.first_name.as_ref().map_or("", Name::as_str));
    let harness = Harness::new(storage).with_claims(NAME, first_name);
    let anna = harness.enter(1).await;
    let user = harness.current_user(&anna).await;
    let rename = async |name: &str| {
        let first_name = Some(Name::parse(name).ok());
        let change = ProfileChange { first_name, ..ProfileChange::default() };
        harness.referral.edit_profile(&user, EditProfile::new(change)).await.expect("edited");
    };
    rename("Анна").await;
    let second = harness.referral.refresh(&anna.tokens.refresh).await.expect("exchanged").tokens;
    assert_eq!(claim(&harness, &second), Some(json!("Анна")));

    rename("Вера").await;
    let processes = [
        harness.clone(),
        harness.with_claims("urn:example:other", |_, _| "other"),
        harness.with_claims(NAME, |_, _| "x".repeat(MAX_CLAIMS_BYTES)),
        harness.with_builder(|builder| builder),
    ];
    for process in processes {
        let again = process.referral.refresh(&anna.tokens.refresh).await.expect("repeated").tokens;
        assert_eq!((&again.access, &again.refresh), (&second.access, &second.refresh));
    }
    let third = harness.referral.refresh(&second.refresh).await.expect("exchanged").tokens;
    assert_eq!(claim(&harness, &third), Some(json!("Вера")));
}

/// The function receives the user and the session that are committed.
pub async fn custom_claims_describe_the_committed_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage).with_claims(NAME, |user, session| json!([user, session]));
    let assert_committed = async |signed_in: &SignedIn, tokens: &TokenPair| {
        let found = harness.storage.session(signed_in.session, 0).await.expect("the storage responds");
        let found = found.expect("existing session");
        assert_eq!(claim(&harness, tokens), Some(json!([found.user.user, found.session.id])));
        found.user.user
    };
    let anna = harness.enter(1).await;
    assert_committed(&anna, &anna.tokens).await;
    let boris = harness.enter_invited(2, &anna.user).await;
    let user = assert_committed(&boris, &boris.tokens).await;
    assert_eq!(user.invited_by.map(|by| by.inviter), Some(anna.user.id));
    let vera = harness.enter(3).await;
    let late = harness.enter_invited(3, &anna.user).await;
    let user = assert_committed(&late, &late.tokens).await;
    assert_eq!((user.id, user.invited_by.is_some()), (vera.user.id, true));
    let refreshed = harness.referral.refresh(&anna.tokens.refresh).await.expect("exchanged").tokens;
    let user = assert_committed(&anna, &refreshed).await;
    assert_eq!(user.invited_count, 2);
}

/// If the function fails, nothing is stored: the code and the refresh token stay valid.
pub async fn failed_custom_claims_store_nothing(storage: Arc<dyn Storage>) {
    let fails = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&fails);
    let harness = Harness::new(storage).with_claims(NAME, move |_, _| {
        let fails = switch.load(Ordering::Relaxed);
        "x".repeat(if fails { MAX_CLAIMS_BYTES } else { 1 })
    });
    let anna = harness.enter(1).await;
    fails.store(true, Ordering::Relaxed);
    let sent = harness.sent_code(&phone(2)).await;
    assert_failed(&harness.sign_in(with_right_code(&sent)).await);
    assert_failed(&harness.referral.refresh(&anna.tokens.refresh).await);
    let found = harness.referral.find_user_by_phone(&phone(2)).await.expect("the storage responds");
    assert_eq!(found, None, "the user was not created");
    harness.referral.authenticate(&anna.tokens.access).await.expect("the session is valid");
    let failures = in_parallel(16, |_| {
        let (harness, token) = (harness.clone(), anna.tokens.refresh.clone());
        async move { harness.referral.refresh(&token).await }
    });
    failures.await.iter().for_each(assert_failed);

    fails.store(false, Ordering::Relaxed);
    let boris = harness.sign_in(with_right_code(&sent)).await.expect("the code is valid");
    assert!(boris.created);
    harness.referral.refresh(&anna.tokens.refresh).await.expect("the token was not exchanged");
    assert_refused(harness.sign_in(with_right_code(&sent)).await, Refusal::InvalidCode);
}

fn assert_failed<T: std::fmt::Debug>(result: &Result<T, Error>) {
    assert!(matches!(result, Err(Error::Storage(StorageError::Claims(_)))), "{result:?}");
}
