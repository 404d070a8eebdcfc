//! What operators do.

use std::{sync::Arc, time::Duration};

use super::{Bench, answer, assert_refused, in_parallel, phone};
use crate::{
    Error, KeyMismatch, KeyPurpose, Peppers, Policy, Referral, Refusal, SharedSetting, SigningKeys,
    clock::{Clock as _, SystemClock},
    sms::DevelopmentSender,
    storage::Storage,
};

/// A phone becomes staff, with or without an account, and stays the same user.
pub async fn staff_are_made_and_promoted(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let anna = bench.enter(1).await.user;
    assert!(!anna.is_staff);
    let promoted = bench.referral.make_staff(phone(1)).await.expect("promoted");
    assert_eq!(promoted, crate::User { is_staff: true, ..anna });
    assert_eq!(bench.referral.make_staff(phone(1)).await.expect("no change"), promoted);

    let made = bench.referral.make_staff(phone(2)).await.expect("made");
    assert!(made.is_staff && made.last_login.is_none());
    let signed_in = bench.enter(2).await;
    assert!(!signed_in.created && signed_in.user.is_staff);
    assert_eq!(signed_in.user.id, made.id);
}

/// They began with fewer rights, perhaps at a device that others use.
pub async fn sessions_end_when_their_user_becomes_staff(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let [anna, boris] = [bench.enter(1).await, bench.enter(2).await];
    let elsewhere = bench.enter(1).await;
    bench.referral.make_staff(phone(1)).await.expect("promoted");
    for session in [&anna, &elsewhere] {
        let access = bench.referral.authenticate(&session.tokens.access).await;
        assert_refused(access, Refusal::TokenNotValid);
        assert_refused(bench.referral.refresh(&session.tokens.refresh).await, Refusal::TokenNotValid);
    }
    bench.referral.authenticate(&boris.tokens.access).await.expect("of another user");

    let staff = bench.enter(1).await;
    bench.referral.make_staff(phone(1)).await.expect("no change");
    bench.referral.authenticate(&staff.tokens.access).await.expect("they were staff before");
}

/// Two operators who do it at once make one user.
pub async fn parallel_promotions_make_one_user(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let made = in_parallel(10, |_| {
        let bench = bench.clone();
        async move { bench.referral.make_staff(phone(1)).await.expect("made").id }
    });
    let mut made = made.await;
    made.dedup();
    assert_eq!(made.len(), 1);
    let bearer = bench.bearer(&bench.enter(1).await).await;
    bench.assert_sound(&bearer).await;
}

/// Codes and sessions that have ended go; those that live stay.
pub async fn sweeping_deletes_what_has_ended_and_nothing_else(storage: Arc<dyn Storage>) {
    const HALF_A_SESSION: Duration = Duration::from_hours(15 * 24 + 1);
    let bench = Bench::new(storage);
    let ended = bench.enter(1).await;
    bench.advance(HALF_A_SESSION);
    let live = bench.enter(2).await;
    bench.advance(HALF_A_SESSION);
    let sent = bench.sent(&phone(3)).await;

    assert_ne!(bench.referral.sweep().await.expect("swept"), 0);
    assert_eq!(bench.referral.sweep().await.expect("swept"), 0);
    assert_eq!(bench.storage.session(ended.session, 0).await.expect("an answer"), None);
    assert!(bench.storage.session(live.session, 0).await.expect("an answer").is_some());
    bench.sign_in(answer(&sent)).await.expect("the code lives");
    bench.referral.refresh(&live.tokens.refresh).await.expect("the session lives");
    assert_refused(bench.referral.refresh(&ended.tokens.refresh).await, Refusal::TokenNotValid);
}

/// However much there is, one step is short.
pub async fn a_sweep_takes_no_more_than_its_batch(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    for number in 0..5 {
        bench.sent(&phone(number)).await;
    }
    bench.advance(Duration::from_hours(1));
    let now = bench.clock.now();
    for expected in [2, 2, 1, 0] {
        assert_eq!(bench.sweep_before(now, 2).await, expected);
    }
}

/// A storage that serves these cases says that it can.
pub async fn a_storage_is_ready(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    bench.referral.check_ready().await.expect("ready");
}

/// Settings replace those of the same names, and the others stay.
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

/// A storage with a clock of its own reports the time of now, and goes on.
pub async fn a_storage_with_a_clock_reports_the_current_time(storage: Arc<dyn Storage>) {
    let Some(first) = storage.current_time().await.expect("a time or none") else { return };
    let now = SystemClock.now();
    let is_near = (now - first).unsigned_abs() <= Duration::from_secs(5);
    assert!(is_near, "the storage has {first}, the system {now}");
    let second = storage.current_time().await.expect("a time or none").expect("a time again");
    assert!(second >= first, "{second} after {first}");
}

/// A service with other keys than those of [`Bench`], or with the same.
fn service(storage: Arc<dyn Storage>, key: &str, pepper: &str) -> Referral {
    let secret = |id: &str| [id.as_bytes()[1]; 32];
    let keys = SigningKeys::from_secret(key, &secret(key)).expect("long enough");
    let peppers = Peppers::from_secret(pepper, &secret(pepper)).expect("long enough");
    let referral = Referral::builder(storage, Arc::new(DevelopmentSender), keys, peppers);
    referral.policy(Policy::standard()).build().expect("a sound policy and a sound key")
}

/// Who shares a storage must have the keys that are in use.
pub async fn whoever_lacks_a_key_in_use_is_refused(storage: Arc<dyn Storage>) {
    assert_eq!(storage.known_keys().await.expect("an answer"), []);
    let agree = |key, pepper| {
        let service = service(Arc::clone(&storage), key, pepper);
        async move { service.agree_on_keys().await }
    };
    agree("k1", "p1").await.expect("the first");
    agree("k1", "p1").await.expect("the same");
    for (key, pepper, purpose, id) in
        [("k2", "p1", KeyPurpose::Signing, "k1"), ("k1", "p2", KeyPurpose::Pepper, "p1")]
    {
        let Err(Error::KeyMismatch(mismatch)) = agree(key, pepper).await else {
            panic!("not refused");
        };
        assert_eq!(mismatch, KeyMismatch::Missing { purpose, id: id.into() });
    }
    let mut known: Vec<_> =
        storage.known_keys().await.expect("an answer").into_iter().map(|key| key.id).collect();
    known.sort();
    assert_eq!(known, ["k1", "p1"], "whoever was refused left nothing behind");
}

/// Two who each take the storage for empty do not both begin.
pub async fn of_two_with_different_keys_who_begin_at_once_one_is_refused(storage: Arc<dyn Storage>) {
    let begun = in_parallel(8, |number| {
        let service = service(Arc::clone(&storage), &format!("k{}", number % 2), "p1");
        async move { (number % 2, service.agree_on_keys().await.is_ok()) }
    });
    let mut begun: Vec<_> = begun.await.into_iter().filter(|(_, ok)| *ok).map(|(key, _)| key).collect();
    assert_eq!(begun.len(), 4);
    begun.dedup();
    assert_eq!(begun.len(), 1, "those who began have the same key");
}
