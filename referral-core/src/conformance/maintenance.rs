//! Cases about operators.

use std::{sync::Arc, time::Duration};

use super::harness::{Harness, assert_refused, in_parallel, phone};
use crate::{
    clock::{Clock as _, SystemClock},
    error::{Error, refusal::Refusal},
    keys::{Peppers, SigningKeys, jwk::KeyPurpose, registry::KeyMismatch},
    policy::Policy,
    readiness::Check,
    service::ReferralService,
    shared_settings::SharedSetting,
    sms::DevelopmentSender,
    storage::{Storage, StorageReadiness},
    user::staff_role::StaffRole,
};

/// A phone with or without an account becomes staff, and an existing user is kept.
pub async fn staff_are_created_and_promoted(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let anna = harness.enter(1).await.user;
    assert!(!anna.is_staff());
    let promoted = harness.referral.make_staff(phone(1), StaffRole::Admin).await.expect("promoted");
    assert_eq!(promoted, crate::user::User { staff_role: Some(StaffRole::Admin), ..anna });
    assert_eq!(harness.referral.make_staff(phone(1), StaffRole::Admin).await.expect("no change"), promoted);

    let created = harness.referral.make_staff(phone(2), StaffRole::Admin).await.expect("created");
    assert!(created.is_staff() && created.last_login.is_none());
    let signed_in = harness.enter(2).await;
    assert!(!signed_in.created && signed_in.user.is_staff());
    assert_eq!(signed_in.user.id, created.id);
}

/// The sessions were created with fewer rights, perhaps on a shared device.
pub async fn sessions_end_when_their_user_becomes_staff(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let [anna, boris] = [harness.enter(1).await, harness.enter(2).await];
    let elsewhere = harness.enter(1).await;
    harness.referral.make_staff(phone(1), StaffRole::Admin).await.expect("promoted");
    for session in [&anna, &elsewhere] {
        let access = harness.referral.authenticate(&session.tokens.access).await;
        assert_refused(access, Refusal::TokenNotValid);
        assert_refused(harness.referral.refresh(&session.tokens.refresh).await, Refusal::TokenNotValid);
    }
    harness.referral.authenticate(&boris.tokens.access).await.expect("session of another user");

    let staff = harness.enter(1).await;
    harness.referral.make_staff(phone(1), StaffRole::Admin).await.expect("no change");
    harness.referral.authenticate(&staff.tokens.access).await.expect("the user was staff before");
}

/// Concurrent promotions of one phone create one user.
pub async fn parallel_promotions_create_one_user(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let created = in_parallel(10, |_| {
        let harness = harness.clone();
        async move { harness.referral.make_staff(phone(1), StaffRole::Admin).await.expect("created").id }
    });
    let mut created = created.await;
    created.dedup();
    assert_eq!(created.len(), 1);
    let current_user = harness.current_user(&harness.enter(1).await).await;
    harness.assert_sound(&current_user).await;
}

/// An open storage makes each check, and passes it.
pub async fn storage_is_ready(storage: Arc<dyn Storage>) {
    let StorageReadiness { database, schema, disk } = storage.check_ready().await;
    assert!(database.is_passed(), "{database:?}");
    assert!(schema.is_passed(), "{schema:?}");
    assert!(disk.is_passed(), "{disk:?}");
}

/// A closed storage cannot serve requests, like one whose database is unavailable.
pub async fn closed_storage_is_not_ready(storage: Arc<dyn Storage>) {
    storage.close().await;
    let StorageReadiness { database, .. } = storage.check_ready().await;
    assert!(matches!(database, Check::Failed(_)), "{database:?}");
}

/// Settings replace settings with the same names. Others are kept.
pub async fn settings_are_recorded_under_their_names(storage: Arc<dyn Storage>) {
    assert_eq!(storage.shared_settings().await.expect("settings"), []);
    let of = |settings: &[(&str, &str)]| -> Vec<_> {
        settings.iter().map(|(name, value)| SharedSetting::new(*name, *value)).collect()
    };
    storage.record_settings(&[]).await.expect("nothing to record");
    storage.record_settings(&of(&[("issuer", "one"), ("Größe", "")])).await.expect("recorded");
    storage.record_settings(&of(&[("audience", "'; --"), ("issuer", "two")])).await.expect("recorded");
    let mut settings = storage.shared_settings().await.expect("settings");
    settings.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(settings, of(&[("Größe", ""), ("audience", "'; --"), ("issuer", "two")]));
}

/// A storage with its own clock reports the current time, which advances.
pub async fn storage_with_a_clock_reports_the_current_time(storage: Arc<dyn Storage>) {
    let Some(first) = storage.current_time().await.expect("a time or none") else { return };
    let now = SystemClock.now();
    let is_near = (now - first).unsigned_abs() <= Duration::from_secs(5);
    assert!(is_near, "the storage reports {first}, the system {now}");
    let second = storage.current_time().await.expect("a time or none").expect("a time again");
    assert!(second >= first, "{second} after {first}");
}

/// Returns a service with the keys of [`Harness`] or with other ones.
fn service(storage: Arc<dyn Storage>, key: &str, pepper: &str) -> ReferralService {
    let secret = |id: &str| [id.as_bytes()[1]; 32];
    let keys = SigningKeys::from_secret(key, &secret(key)).expect("sufficient length");
    let peppers = Peppers::from_secret(pepper, &secret(pepper)).expect("sufficient length");
    let referral = ReferralService::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
    referral.policy(Policy::standard()).build().expect("valid policy and keys")
}

/// A service on a shared storage must have the keys that are in use.
pub async fn service_without_a_key_in_use_is_rejected(storage: Arc<dyn Storage>) {
    assert_eq!(storage.registered_keys().await.expect("the storage responds"), []);
    let agree = |key, pepper| {
        let service = service(Arc::clone(&storage), key, pepper);
        async move { service.register_keys().await }
    };
    agree("k1", "p1").await.expect("first service");
    agree("k1", "p1").await.expect("the same keys");
    for (key, pepper, purpose, id) in
        [("k2", "p1", KeyPurpose::Signing, "k1"), ("k1", "p2", KeyPurpose::Pepper, "p1")]
    {
        let Err(Error::KeyMismatch(mismatch)) = agree(key, pepper).await else {
            panic!("not rejected");
        };
        assert_eq!(mismatch, KeyMismatch::Missing { purpose, id: id.into() });
    }
    let mut known: Vec<_> = storage
        .registered_keys()
        .await
        .expect("the storage responds")
        .into_iter()
        .map(|key| key.id)
        .collect();
    known.sort();
    assert_eq!(known, ["k1", "p1"], "a rejected service records no keys");
}

/// Two services with different keys that both see an empty storage must not both start.
pub async fn concurrent_startup_with_different_keys_is_rejected(storage: Arc<dyn Storage>) {
    let started = in_parallel(8, |number| {
        let service = service(Arc::clone(&storage), &format!("k{}", number % 2), "p1");
        async move { (number % 2, service.register_keys().await.is_ok()) }
    });
    let mut started: Vec<_> = started.await.into_iter().filter(|(_, ok)| *ok).map(|(key, _)| key).collect();
    assert_eq!(started.len(), 4);
    started.dedup();
    assert_eq!(started.len(), 1, "the accepted services have the same key");
}
