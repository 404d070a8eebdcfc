//! Cases about the redemption of codes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::harness::{
    Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code, without_challenge,
};
use crate::{
    error::{Error, refusal::Refusal},
    policy::Policy,
    random::{BUFFER_LENGTH, Random},
    rate_limit::limits::Limits,
    service::sign_in::{SignIn, SignedIn},
    storage::{CounterUpdate, Storage, error::StorageError},
    test_util::SeededRandom,
    user::staff_role::StaffRole,
};

/// The first sign-in creates the user. Later ones find the same user.
pub async fn first_sign_in_creates_the_user_and_later_ones_find_it(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let first = harness.enter(1).await;
    assert!(first.created);
    assert_eq!(first.user.phone, phone(1));
    assert_eq!(first.user.last_login, Some(first.user.date_joined));
    assert!(first.user.is_active && !first.user.is_staff());

    harness.advance(Duration::from_hours(1));
    let second = harness.enter(1).await;
    assert!(!second.created);
    assert_ne!(second.session, first.session);
    let last_login = first.user.last_login.map(|login| login + Duration::from_hours(1));
    assert_eq!(second.user, crate::user::User { last_login, last_active: last_login, ..first.user });

    let current_user = harness.current_user(&second).await;
    assert_eq!(current_user.user, second.user, "the stored user equals the returned user");
}

/// A code is invalid after the first success.
pub async fn code_can_be_redeemed_once(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = harness.sent_code(&phone(1)).await;
    harness.sign_in(with_right_code(&sent)).await.expect("signed in");
    assert_refused(harness.sign_in(with_right_code(&sent)).await, Refusal::InvalidCode);
    assert_refused(harness.sign_in(without_challenge(with_right_code(&sent))).await, Refusal::InvalidCode);
}

/// After three wrong attempts the correct code is rejected, and not before.
pub async fn three_wrong_attempts_invalidate_a_code(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for (number, attempts) in [(1, 2), (2, 3)] {
        let sent = harness.sent_code(&phone(number)).await;
        for _ in 0..attempts {
            assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);
        }
        let result = harness.sign_in(with_right_code(&sent)).await;
        if attempts < 3 {
            result.expect("signed in");
        } else {
            assert_refused(result, Refusal::InvalidCode);
        }
    }
}

/// A client that does not know the challenge cannot use up the attempts of the client that knows it.
pub async fn attempts_with_and_without_the_challenge_are_counted_separately(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = harness.sent_code(&phone(1)).await;
    for _ in 0..10 {
        assert_refused(
            harness.sign_in(without_challenge(with_wrong_code(&sent))).await,
            Refusal::InvalidCode,
        );
    }
    assert_refused(harness.sign_in(without_challenge(with_right_code(&sent))).await, Refusal::InvalidCode);
    harness.sign_in(with_right_code(&sent)).await.expect("signed in");
}

/// A code is valid exactly until it expires.
pub async fn code_expires(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = [harness.sent_code(&phone(1)).await, harness.sent_code(&phone(2)).await];
    harness.advance(sent[0].expires_in.saturating_sub(Duration::from_micros(1)));
    harness.sign_in(with_right_code(&sent[0])).await.expect("signed in at the last moment");
    harness.advance(Duration::from_micros(1));
    assert_refused(harness.sign_in(with_right_code(&sent[1])).await, Refusal::InvalidCode);
}

/// Without a challenge only the newest code is valid. With its challenge an older code stays valid.
pub async fn older_code_stays_valid_with_its_challenge(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let older = harness.sent_code(&phone(1)).await;
    harness.advance(Duration::from_mins(1));
    // Two codes can be equal. Then the older one would be accepted as the newer one.
    let newer = loop {
        let newer = harness.sent_code(&phone(1)).await;
        if newer.revealed_code.as_ref().map(|code| code.reveal().to_owned())
            != older.revealed_code.as_ref().map(|code| code.reveal().to_owned())
        {
            break newer;
        }
        harness.storage.cancel_challenge(newer.challenge, &CounterUpdate::default()).await.expect("canceled");
    };
    assert_refused(harness.sign_in(without_challenge(with_right_code(&older))).await, Refusal::InvalidCode);
    harness.sign_in(with_right_code(&older)).await.expect("signed in");
    harness.sign_in(without_challenge(with_right_code(&newer))).await.expect("signed in");
}

/// A challenge is valid only for its phone. A request for another phone does not use up an attempt.
pub async fn challenge_of_another_phone_is_rejected_and_not_counted(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = harness.sent_code(&phone(1)).await;
    for _ in 0..10 {
        let stolen = SignIn { phone: phone(2), ..with_right_code(&sent) };
        assert_refused(harness.sign_in(stolen).await, Refusal::InvalidCode);
    }
    harness.sign_in(with_right_code(&sent)).await.expect("signed in");
}

/// Exactly one of many concurrent requests with the correct code succeeds.
pub async fn hundred_parallel_redemptions_create_one_session(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = harness.sent_code(&phone(1)).await;
    let results = in_parallel(100, |number| {
        let (harness, with_right_code) = (harness.clone(), with_right_code(&sent));
        async move {
            harness
                .sign_in(if number % 2 == 0 { with_right_code } else { without_challenge(with_right_code) })
                .await
        }
    });
    let results = results.await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.into_iter().filter(Result::is_err) {
        assert_refused(refused, Refusal::InvalidCode);
    }
}

/// Each of many concurrent guesses is counted, so that the code is invalid afterwards. Fewer guesses than
/// attempts leave the code valid, so that none is counted twice.
pub async fn parallel_guesses_do_not_exceed_the_attempts_of_a_code(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for (number, guesses) in [(1, 2), (2, 50)] {
        let sent = harness.sent_code(&phone(number)).await;
        let results = in_parallel(guesses, |_| {
            let (harness, guess) = (harness.clone(), with_wrong_code(&sent));
            async move { harness.sign_in(guess).await }
        });
        for refused in results.await {
            assert_refused(refused, Refusal::InvalidCode);
        }
        let result = harness.sign_in(with_right_code(&sent)).await;
        assert_eq!(result.is_ok(), guesses < 3, "after {guesses} guesses");
    }
}

/// Many first sign-ins of one phone, each with its own code, create one user.
pub async fn parallel_first_sign_ins_of_one_phone_create_one_user(storage: Arc<dyn Storage>) {
    let policy = Policy { codes_per_phone: Limits::off(), ..Policy::development() };
    let harness = Harness::with_policy(storage, policy);
    let mut codes = Vec::new();
    for _ in 0..20 {
        codes.push(harness.sent_code(&phone(1)).await);
    }
    let results = in_parallel(20, |number| {
        let (harness, with_right_code) = (harness.clone(), with_right_code(&codes[number as usize]));
        async move { harness.sign_in(with_right_code).await.expect("signed in") }
    });
    let signed_in = results.await;
    assert_eq!(signed_in.iter().filter(|signed_in| signed_in.created).count(), 1);
    assert!(signed_in.iter().all(|other| other.user.id == signed_in[0].user.id));
    harness.assert_sound(&harness.current_user(&signed_in[0]).await).await;
}

/// Generator that returns the same symbols for a number of invite codes.
#[derive(Clone)]
pub(super) struct RepeatingRandom {
    random: Arc<SeededRandom>,
    /// Number of invite codes that repeat the code of the first user.
    pub(super) repeats: Arc<AtomicUsize>,
}

impl Random for RepeatingRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Ids are generated in another size and do not repeat.
        let repeats = bytes.len() == BUFFER_LENGTH
            && self
                .repeats
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok();
        if repeats {
            bytes.fill(1);
        } else {
            self.random.fill(bytes);
        }
    }
}

/// Returns a service, its generator, and its first user, whose invite code the generator repeats.
pub(super) async fn stuttering(storage: Arc<dyn Storage>) -> (Harness, RepeatingRandom, SignedIn) {
    let stutter = RepeatingRandom { random: Arc::new(SeededRandom::new(1)), repeats: Arc::default() };
    let harness = Harness::with(storage, Policy::standard(), stutter.clone());
    let sent = harness.sent_code(&phone(1)).await;
    stutter.repeats.store(1, Ordering::Relaxed);
    let first = harness.sign_in(with_right_code(&sent)).await.expect("signed in");
    (harness, stutter, first)
}

/// A new user gets the first unused invite code.
pub async fn seven_taken_invite_codes_are_skipped(storage: Arc<dyn Storage>) {
    let (harness, stutter, first) = stuttering(storage).await;
    let sent = harness.sent_code(&phone(2)).await;
    stutter.repeats.store(7, Ordering::Relaxed);
    let second = harness.sign_in(with_right_code(&sent)).await.expect("the eighth code is unused");
    assert_eq!(stutter.repeats.load(Ordering::Relaxed), 0, "seven codes were the first user's");
    assert_ne!(second.user.invite_code, first.user.invite_code);
}

/// Without an unused invite code nothing is committed, and the error has a separate type.
pub async fn exhausted_invite_codes_are_an_error_and_keep_the_sms_code_valid(storage: Arc<dyn Storage>) {
    let (harness, stutter, first) = stuttering(storage).await;
    let sent = harness.sent_code(&phone(2)).await;
    stutter.repeats.store(usize::MAX, Ordering::Relaxed);
    let error = harness.sign_in(with_right_code(&sent)).await;
    assert!(matches!(error, Err(Error::Storage(StorageError::InviteCodesExhausted))), "{error:?}");

    stutter.repeats.store(0, Ordering::Relaxed);
    let second = harness.sign_in(with_right_code(&sent)).await.expect("the code is still valid");
    assert!(second.created);
    harness.assert_sound(&harness.current_user(&first).await).await;
}

/// An inactive user is reported only after a correct code, which is then used up.
pub async fn inactive_user_cannot_sign_in(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let user = harness.enter(1).await.user;
    harness.referral.set_active(user.id, false).await.expect("existing user");
    let sent = harness.sent_code(&phone(1)).await;
    assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);
    assert_refused(harness.sign_in(with_right_code(&sent)).await, Refusal::UserInactive);
    assert_refused(harness.sign_in(with_right_code(&sent)).await, Refusal::InvalidCode);

    harness.referral.set_active(user.id, true).await.expect("existing user");
    harness.advance(Duration::from_mins(1));
    assert!(!harness.enter(1).await.created);
    let unknown_user = crate::user::UserId(uuid::Uuid::nil());
    let refused = harness.referral.set_active(unknown_user, true).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::UserNotFound))));
}

/// A sign-in for staff is refused after the correct code of another phone, creates nothing, and leaves the code
/// valid.
pub async fn only_staff_sign_in_where_others_may_not(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    harness.referral.make_staff(phone(1), StaffRole::Support).await.expect("created");
    let boris = harness.enter(2).await;
    harness.advance(Duration::from_mins(1));
    for number in [2, 3] {
        let sent = harness.sent_code(&phone(number)).await;
        let refused = harness.sign_in(with_wrong_code(&sent).staff_only()).await;
        assert_refused(refused, Refusal::InvalidCode);
        for _ in 0..2 {
            assert_refused(harness.sign_in(with_right_code(&sent).staff_only()).await, Refusal::StaffOnly);
        }
        let user = harness.referral.find_user_by_phone(&phone(number)).await.expect("read");
        assert_eq!(user.map(|user| user.id), (number == 2).then_some(boris.user.id));
        let signed_in = harness.sign_in(with_right_code(&sent)).await.expect("the code is still valid");
        assert_eq!(signed_in.created, number == 3);
    }
    let sent = harness.sent_code(&phone(1)).await;
    let signed_in = harness.sign_in(with_right_code(&sent).staff_only()).await.expect("staff");
    assert!(signed_in.user.is_staff() && !signed_in.created);
    assert_refused(harness.sign_in(with_right_code(&sent).staff_only()).await, Refusal::InvalidCode);
}
