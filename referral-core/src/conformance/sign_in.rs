//! Codes that come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{Bench, SeededRandom, answer, assert_refused, in_parallel, phone, unnamed, wrong_answer};
use crate::{
    Error, Limits, Policy, Refusal, SignIn, SignedIn,
    random::{DRAWN_AT_ONCE, Random},
    storage::{Counting, Storage, StorageError},
};

/// The first sign-in makes the user; later ones find the same.
pub async fn an_unknown_phone_becomes_a_user_and_stays_that_user(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let first = bench.enter(1).await;
    assert!(first.created);
    assert_eq!(first.user.phone, phone(1));
    assert_eq!(first.user.last_login, Some(first.user.date_joined));
    assert!(first.user.is_active && !first.user.is_staff);

    bench.advance(Duration::from_hours(1));
    let second = bench.enter(1).await;
    assert!(!second.created);
    assert_ne!(second.session, first.session);
    let last_login = first.user.last_login.map(|login| login + Duration::from_hours(1));
    assert_eq!(second.user, crate::User { last_login, ..first.user });

    let bearer = bench.bearer(&second).await;
    assert_eq!(bearer.user, second.user, "what is stored is what was answered");
}

/// A code is used up by its first success.
pub async fn a_right_code_works_once(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let sent = bench.sent(&phone(1)).await;
    bench.sign_in(answer(&sent)).await.expect("signed in");
    assert_refused(bench.sign_in(answer(&sent)).await, Refusal::InvalidCode);
    assert_refused(bench.sign_in(unnamed(answer(&sent))).await, Refusal::InvalidCode);
}

/// After three wrong tries the right code is refused, and not before.
pub async fn wrong_tries_use_a_code_up(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    for (number, tries) in [(1, 2), (2, 3)] {
        let sent = bench.sent(&phone(number)).await;
        for _ in 0..tries {
            assert_refused(bench.sign_in(wrong_answer(&sent)).await, Refusal::InvalidCode);
        }
        let result = bench.sign_in(answer(&sent)).await;
        if tries < 3 {
            result.expect("signed in");
        } else {
            assert_refused(result, Refusal::InvalidCode);
        }
    }
}

/// A stranger without the challenge's id cannot use up the tries of the one who has it.
pub async fn tries_with_and_without_the_id_are_counted_apart(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let sent = bench.sent(&phone(1)).await;
    for _ in 0..10 {
        assert_refused(bench.sign_in(unnamed(wrong_answer(&sent))).await, Refusal::InvalidCode);
    }
    assert_refused(bench.sign_in(unnamed(answer(&sent))).await, Refusal::InvalidCode);
    bench.sign_in(answer(&sent)).await.expect("signed in");
}

/// A code lives for its time and no longer.
pub async fn a_code_expires(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let sent = [bench.sent(&phone(1)).await, bench.sent(&phone(2)).await];
    bench.advance(sent[0].expires_in.saturating_sub(Duration::from_micros(1)));
    bench.sign_in(answer(&sent[0])).await.expect("signed in at the last moment");
    bench.advance(Duration::from_micros(1));
    assert_refused(bench.sign_in(answer(&sent[1])).await, Refusal::InvalidCode);
}

/// Without an id the newest code counts; with its id an older one lives on.
pub async fn an_older_code_lives_on_under_its_id(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let older = bench.sent(&phone(1)).await;
    bench.advance(Duration::from_mins(1));
    // Two codes can be the same: then the older one would be the newer one's answer.
    let newer = loop {
        let newer = bench.sent(&phone(1)).await;
        if newer.revealed_code.as_ref().map(|code| code.reveal().to_owned())
            != older.revealed_code.as_ref().map(|code| code.reveal().to_owned())
        {
            break newer;
        }
        bench.storage.void_challenge(newer.challenge, &Counting::default()).await.expect("voided");
    };
    assert_refused(bench.sign_in(unnamed(answer(&older))).await, Refusal::InvalidCode);
    bench.sign_in(answer(&older)).await.expect("signed in");
    bench.sign_in(unnamed(answer(&newer))).await.expect("signed in");
}

/// A challenge answers for the phone it was sent to only; naming it for another costs no try.
pub async fn a_challenge_of_another_phone_is_refused_and_loses_no_try(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let sent = bench.sent(&phone(1)).await;
    for _ in 0..10 {
        let stolen = SignIn { phone: phone(2), ..answer(&sent) };
        assert_refused(bench.sign_in(stolen).await, Refusal::InvalidCode);
    }
    bench.sign_in(answer(&sent)).await.expect("signed in");
}

/// Of many at once that have the right code, one signs in.
pub async fn a_hundred_parallel_redemptions_give_one_session(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let sent = bench.sent(&phone(1)).await;
    let results = in_parallel(100, |number| {
        let (bench, answer) = (bench.clone(), answer(&sent));
        async move { bench.sign_in(if number % 2 == 0 { answer } else { unnamed(answer) }).await }
    });
    let results = results.await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    for refused in results.into_iter().filter(Result::is_err) {
        assert_refused(refused, Refusal::InvalidCode);
    }
}

/// A burst of guesses is counted guess by guess: afterwards the code is dead. One with fewer
/// guesses than there are tries leaves it alive, so none is counted twice.
pub async fn parallel_guesses_get_no_more_than_their_tries(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    for (number, guesses) in [(1, 2), (2, 50)] {
        let sent = bench.sent(&phone(number)).await;
        let results = in_parallel(guesses, |_| {
            let (bench, guess) = (bench.clone(), wrong_answer(&sent));
            async move { bench.sign_in(guess).await }
        });
        for refused in results.await {
            assert_refused(refused, Refusal::InvalidCode);
        }
        let result = bench.sign_in(answer(&sent)).await;
        assert_eq!(result.is_ok(), guesses < 3, "after {guesses} guesses");
    }
}

/// Many first sign-ins of one phone, each with a code of its own, make one user.
pub async fn parallel_first_sign_ins_of_one_phone_make_one_user(storage: Arc<dyn Storage>) {
    let policy = Policy { codes_per_phone: Limits::off(), ..Policy::development() };
    let bench = Bench::with_policy(storage, policy);
    let mut codes = Vec::new();
    for _ in 0..20 {
        codes.push(bench.sent(&phone(1)).await);
    }
    let results = in_parallel(20, |number| {
        let (bench, answer) = (bench.clone(), answer(&codes[number as usize]));
        async move { bench.sign_in(answer).await.expect("signed in") }
    });
    let signed_in = results.await;
    assert_eq!(signed_in.iter().filter(|signed_in| signed_in.created).count(), 1);
    assert!(signed_in.iter().all(|other| other.user.id == signed_in[0].user.id));
    bench.assert_sound(&bench.bearer(&signed_in[0]).await).await;
}

/// A generator that gives the same symbols again and again, for so many invite codes.
#[derive(Clone)]
struct Stutter {
    random: Arc<SeededRandom>,
    repeats: Arc<AtomicUsize>,
}

impl Random for Stutter {
    fn fill(&self, bytes: &mut [u8]) {
        // Ids, which are drawn otherwise, do not repeat.
        let repeats = bytes.len() == DRAWN_AT_ONCE
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

/// A service whose first user has the code that its generator repeats, and that generator.
async fn stuttering(storage: Arc<dyn Storage>) -> (Bench, Stutter, SignedIn) {
    let stutter = Stutter { random: Arc::new(SeededRandom::new(1)), repeats: Arc::default() };
    let bench = Bench::with(storage, Policy::standard(), stutter.clone());
    let sent = bench.sent(&phone(1)).await;
    stutter.repeats.store(1, Ordering::Relaxed);
    let first = bench.sign_in(answer(&sent)).await.expect("signed in");
    (bench, stutter, first)
}

/// A new user gets the first code that is free.
pub async fn seven_taken_invite_codes_are_passed_over(storage: Arc<dyn Storage>) {
    let (bench, stutter, first) = stuttering(storage).await;
    let sent = bench.sent(&phone(2)).await;
    stutter.repeats.store(7, Ordering::Relaxed);
    let second = bench.sign_in(answer(&sent)).await.expect("the eighth code is free");
    assert_eq!(stutter.repeats.load(Ordering::Relaxed), 0, "seven codes were the first user's");
    assert_ne!(second.user.invite_code, first.user.invite_code);
}

/// Without a free code nothing is committed, and the error has a type of its own.
pub async fn more_taken_invite_codes_are_an_error_and_leave_the_code_usable(storage: Arc<dyn Storage>) {
    let (bench, stutter, first) = stuttering(storage).await;
    let sent = bench.sent(&phone(2)).await;
    stutter.repeats.store(usize::MAX, Ordering::Relaxed);
    let error = bench.sign_in(answer(&sent)).await;
    assert!(matches!(error, Err(Error::Storage(StorageError::InviteCodesExhausted))), "{error:?}");

    stutter.repeats.store(0, Ordering::Relaxed);
    let second = bench.sign_in(answer(&sent)).await.expect("the code is still good");
    assert!(second.created);
    bench.assert_sound(&bench.bearer(&first).await).await;
}

/// An account that was deactivated shows only after a right code, which is used up by it.
pub async fn an_inactive_user_does_not_sign_in(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let user = bench.enter(1).await.user;
    bench.referral.set_active(user.id, false).await.expect("a user");
    let sent = bench.sent(&phone(1)).await;
    assert_refused(bench.sign_in(wrong_answer(&sent)).await, Refusal::InvalidCode);
    assert_refused(bench.sign_in(answer(&sent)).await, Refusal::UserInactive);
    assert_refused(bench.sign_in(answer(&sent)).await, Refusal::InvalidCode);

    bench.referral.set_active(user.id, true).await.expect("a user");
    bench.advance(Duration::from_mins(1));
    assert!(!bench.enter(1).await.created);
    let nobody = crate::UserId(uuid::Uuid::nil());
    let refused = bench.referral.set_active(nobody, true).await;
    assert!(matches!(refused, Err(Error::Refused(Refusal::UserNotFound))));
}
