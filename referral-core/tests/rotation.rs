//! Tests of the replacement of keys while the service is in use.

#[path = "common/sign_in.rs"]
mod sign_in;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use referral_core::{
    Check, Error, ListUsers, PageLink, PageSize, ReferralService, Refusal, SendCode, SentCode,
    SettingDifference,
    keys::{KeyMismatch, KeyPurpose, Peppers, SigningKeys},
    policy::{Limits, Policy},
    random::SystemRandom,
    sms::DevelopmentSender,
    storage::MemoryStorage,
};
use serde_json::{Value, json};

use crate::sign_in::{enter, phone, with_right_code};

/// Returns a set with one new key.
fn new_key() -> Value {
    serde_json::from_str(&SigningKeys::generate(&SystemRandom).to_jwk_set()).expect("JSON")
}

/// Returns a set with one new symmetric key for tokens.
fn new_secret() -> Value {
    serde_json::from_str(&SigningKeys::generate_symmetric(&SystemRandom).to_jwk_set()).expect("JSON")
}

/// Returns a set with one new pepper.
fn new_pepper() -> Value {
    serde_json::from_str(&Peppers::generate(&SystemRandom).to_jwk_set()).expect("JSON")
}

/// Returns a set with the keys of several sets.
fn together(sets: &[&Value]) -> String {
    let keys: Vec<_> = sets.iter().flat_map(|set| set["keys"].as_array().expect("keys")).collect();
    json!({ "keys": keys }).to_string()
}

fn keys(sets: &[&Value]) -> SigningKeys {
    SigningKeys::from_jwk_set(&together(sets)).expect("usable")
}

fn peppers(sets: &[&Value]) -> Peppers {
    Peppers::from_jwk_set(&together(sets)).expect("usable")
}

fn referral(key: &Value, pepper: &Value) -> ReferralService {
    referral_on(Arc::new(MemoryStorage::new()), key, pepper)
}

fn referral_on(storage: Arc<MemoryStorage>, key: &Value, pepper: &Value) -> ReferralService {
    let mut policy = Policy::development();
    policy.codes_per_phone = Limits::off();
    ReferralService::builder(storage, Arc::new(DevelopmentSender), keys(&[key]), peppers(&[pepper]))
        .policy(policy)
        .build()
        .expect("valid policy and keys")
}

async fn send_code(referral: &ReferralService, number: u32) -> SentCode {
    referral.send_code(SendCode::new(phone(number))).await.expect("sent")
}

/// Returns the key id in the header of a token.
fn key_id(token: &str) -> Value {
    json!(jsonwebtoken::decode_header(token).expect("valid token").kid)
}

#[tokio::test]
async fn new_first_key_keeps_all_sessions_and_signs_new_tokens() {
    for (old, new) in [(new_key(), new_key()), (new_secret(), new_secret()), (new_secret(), new_key())] {
        let [old_pepper, new_pepper] = [new_pepper(), new_pepper()];
        let referral = referral(&old, &old_pepper);
        referral.register_keys().await.expect("first service");
        let anna = enter(&referral, 1, None).await;
        let boris = enter(&referral, 2, None).await;
        let sent = send_code(&referral, 3).await;
        let list = ListUsers { limit: PageSize::new(1).expect("valid size"), ..ListUsers::default() };
        let current_user = referral.authenticate(&anna.tokens.access).await.expect("signed in");
        let page = referral.users(&current_user, list).await.expect("first page");
        let Some(PageLink::Cursor(cursor)) = page.next else { panic!("no second page") };

        let (ring, pepper_ring) = (keys(&[&new, &old]), peppers(&[&new_pepper, &old_pepper]));
        referral.clone().replace_keys(ring, pepper_ring).await.expect("replaced");

        let current_user = referral.authenticate(&anna.tokens.access).await.expect("signed with the old key");
        let list = ListUsers { cursor: Some(&cursor), ..list };
        referral.users(&current_user, list).await.expect("a cursor of the old pepper");
        let refreshed =
            referral.refresh(&boris.tokens.refresh).await.expect("signed with the old key").tokens;
        let vera = referral.sign_in(with_right_code(&sent)).await.expect("hashed with the old pepper").tokens;
        for token in [&refreshed.access, &refreshed.refresh, &vera.access, &vera.refresh] {
            assert_eq!(key_id(token), new["keys"][0]["kid"]);
            referral.verify(token, None).await.expect("signed with the new key");
        }
        enter(&referral, 4, None).await;
    }
}

#[tokio::test]
async fn two_tabs_get_the_same_tokens_if_the_key_is_replaced_between_them() {
    let ([old, new], pepper) = ([new_key(), new_key()], new_pepper());
    let referral = referral(&old, &pepper);
    let anna = enter(&referral, 1, None).await;
    let first = referral.refresh(&anna.tokens.refresh).await.expect("refreshed").tokens;
    referral.replace_keys(keys(&[&new, &old]), peppers(&[&pepper])).await.expect("replaced");
    let second = referral.refresh(&anna.tokens.refresh).await.expect("repeated").tokens;
    assert_eq!((first.access, first.refresh), (second.access, second.refresh));
}

#[tokio::test]
async fn values_of_a_removed_key_are_rejected_even_if_they_are_cached() {
    let [old, new] = [new_key(), new_key()];
    let [old_pepper, new_pepper] = [new_pepper(), new_pepper()];
    // The service has not recorded its keys in the storage, so the removal is not rejected.
    let referral = referral(&old, &old_pepper);
    let anna = enter(&referral, 1, None).await.tokens;
    let sent = send_code(&referral, 2).await;
    let is_accepted = async |token: &str| match referral.verify(token, None).await {
        Ok(_) => true,
        Err(Error::Refused(Refusal::TokenNotValid)) => false,
        Err(error) => panic!("{error}"),
    };
    for _ in 0..2 {
        assert!(is_accepted(&anna.access).await && is_accepted(&anna.refresh).await);
    }
    // The keys are removed without signing anything new, so only a cache could still accept the tokens.
    let swap = |signing: &[&Value], pepper: &[&Value]| referral.replace_keys(keys(signing), peppers(pepper));
    swap(&[&new], &[&new_pepper]).await.expect("replaced");
    assert!(!is_accepted(&anna.access).await && !is_accepted(&anna.refresh).await);
    let refused = referral.verify_without_storage(&anna.access);
    assert!(matches!(refused, Err(Refusal::TokenNotValid)), "{refused:?}");
    let refused = referral.refresh(&anna.refresh).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::TokenNotValid))), "{refused:?}");
    let refused = referral.sign_in(with_right_code(&sent)).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::InvalidCode))), "{refused:?}");

    // The missing key was the only reason.
    swap(&[&new, &old], &[&new_pepper, &old_pepper]).await.expect("replaced");
    assert!(is_accepted(&anna.access).await && is_accepted(&anna.refresh).await);
    referral.sign_in(with_right_code(&sent)).await.expect("the pepper is available again");
}

#[tokio::test]
async fn replacement_without_a_key_in_use_is_rejected_and_changes_nothing() {
    let [old, new] = [new_key(), new_key()];
    let [old_pepper, new_pepper] = [new_pepper(), new_pepper()];
    let referral = referral(&old, &old_pepper);
    referral.register_keys().await.expect("first service");
    let anna = enter(&referral, 1, None).await.tokens;
    let public = referral.public_jwk_set();
    for (ring, pepper_ring, purpose, missing) in [
        ([&new], [&old_pepper], KeyPurpose::Signing, &old),
        ([&old], [&new_pepper], KeyPurpose::Pepper, &old_pepper),
    ] {
        let refused = referral.replace_keys(keys(&ring), peppers(&pepper_ring)).await;
        let Err(Error::KeyMismatch(mismatch)) = refused else { panic!("{refused:?}") };
        let id = missing["keys"][0]["kid"].as_str().expect("key id").to_owned();
        assert_eq!(mismatch, KeyMismatch::Missing { purpose, id });
        assert_eq!(referral.public_jwk_set(), public);
        referral.authenticate(&anna.access).await.expect("still valid");
        assert_eq!(key_id(&enter(&referral, 2, None).await.tokens.access), old["keys"][0]["kid"]);
    }
}

#[tokio::test]
async fn process_without_a_key_that_others_use_is_not_ready() {
    let ([old, new], pepper) = ([new_key(), new_key()], new_pepper());
    let storage = Arc::new(MemoryStorage::new());
    let one = referral_on(Arc::clone(&storage), &old, &pepper);
    let other = referral_on(storage, &old, &pepper);
    one.register_keys().await.expect("first service");
    other.register_keys().await.expect("the same keys");
    assert!(one.readiness().await.is_ready());

    other.replace_keys(keys(&[&new, &old]), peppers(&[&pepper])).await.expect("replaced");
    let readiness = one.readiness().await;
    let failed: Vec<_> = readiness.checks().into_iter().filter(|(_, check)| !check.is_passed()).collect();
    assert!(matches!(failed[..], [("keys", Check::Failed(Error::KeyMismatch(_)))]), "{readiness:?}");
    one.replace_keys(keys(&[&old, &new]), peppers(&[&pepper])).await.expect("replaced");
    assert!(one.readiness().await.is_ready());
}

#[tokio::test]
async fn differences_in_the_settings_of_processes_are_reported() {
    let (key, pepper, storage) = (new_key(), new_pepper(), Arc::new(MemoryStorage::new()));
    let build = |issuer: &str, code_length| {
        let mut policy = Policy::development();
        policy.code_length = code_length;
        let builder = ReferralService::builder(
            Arc::clone(&storage) as _,
            Arc::new(DevelopmentSender),
            keys(&[&key]),
            peppers(&[&pepper]),
        );
        builder.policy(policy).issuer(issuer).build().expect("valid policy and keys")
    };
    let names = |differences: Vec<SettingDifference>| {
        differences.into_iter().map(|difference| difference.name).collect::<Vec<_>>()
    };
    let first = build("a", 4);
    assert_eq!(names(first.share_settings().await.expect("recorded")), [""; 0]);
    assert_eq!(names(build("a", 4).share_settings().await.expect("recorded")), [""; 0]);
    let other = build("b", 6).share_settings().await.expect("recorded");
    assert_eq!((&*other[0].here, &*other[0].elsewhere), ("6", "4"));
    assert_eq!(names(other), ["policy.code_length", "issuer"]);
    // Others are compared with the process that started last.
    assert_eq!(names(first.share_settings().await.expect("recorded")), ["policy.code_length", "issuer"]);
    assert_eq!(names(first.share_settings().await.expect("recorded")), [""; 0]);
}

#[tokio::test]
async fn public_keys_have_the_order_of_the_key_ring() {
    let ([old, new, secret], pepper) = ([new_key(), new_key(), new_secret()], new_pepper());
    let referral = referral(&old, &pepper);
    let public_ids = || {
        let public: Value = serde_json::from_str(&referral.public_jwk_set()).expect("JSON");
        let keys = public["keys"].as_array().expect("keys").iter().map(|key| key["kid"].clone());
        keys.collect::<Vec<_>>()
    };
    for ring in [&[&old, &new][..], &[&new, &old], &[&new, &old, &new_key()]] {
        // The symmetric key is not public, so it is not listed.
        let with_secret = [ring, &[&secret]].concat();
        referral.replace_keys(keys(&with_secret), peppers(&[&pepper])).await.expect("replaced");
        let ids: Vec<_> = ring.iter().map(|set| set["keys"][0]["kid"].clone()).collect();
        assert_eq!(public_ids(), ids);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_keys_are_replaced() {
    let [old, new] = [new_key(), new_key()];
    let [old_pepper, new_pepper] = [new_pepper(), new_pepper()];
    let referral = referral(&old, &old_pepper);
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = (0..4).map(|number| {
        let (referral, is_over) = (referral.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut tokens = enter(&referral, number, None).await.tokens;
            while !is_over.load(Ordering::Relaxed) {
                referral.authenticate(&tokens.access).await.expect("signed in");
                tokens = referral.refresh(&tokens.refresh).await.expect("refreshed").tokens;
                tokens = if number == 0 { enter(&referral, number, None).await.tokens } else { tokens };
                tokio::task::yield_now().await;
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for round in 0..100 {
        let (ring, pepper_ring) = match round % 2 {
            0 => ([&new, &old], [&new_pepper, &old_pepper]),
            _ => ([&old, &new], [&old_pepper, &new_pepper]),
        };
        referral.replace_keys(keys(&ring), peppers(&pepper_ring)).await.expect("replaced");
        tokio::task::yield_now().await;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("every request succeeded");
    }
}
