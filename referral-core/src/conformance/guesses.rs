//! Cases about guesses at one-time codes and invite codes: the limits of wrong codes, the code length steps,
//! and the attack alarm.

use std::sync::Arc;

use super::{
    harness::{
        Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code, without_challenge,
    },
    limits::{DAY, HOUR, MINUTE, client, far_phone, guess_six_times, send, wait},
};
use crate::{
    error::{Error, refusal::Refusal},
    invite::code::InviteCode,
    otp::code::CodeInput,
    service::{
        sign_in::{SignIn, SignedIn},
        users::EditProfile,
    },
    storage::Storage,
    user::profile::ProfileChange,
};

fn is_wrong(result: &Result<SignedIn, Error>) -> bool {
    matches!(result, Err(Error::Refused(Refusal::InvalidCode)))
}

/// A correct code that is expired or invalidated by others is not a guess.
pub async fn correct_code_that_is_no_longer_valid_is_not_counted(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let expired = send(&harness, &far_phone(1), client(1)).await.expect("sent");
    harness.advance(5 * MINUTE);
    let used_up = send(&harness, &far_phone(2), client(1)).await.expect("sent");
    guess_six_times(&harness, &used_up).await;
    for _ in 0..150 {
        for late in [&expired, &used_up] {
            let late = SignIn { client: client(2), ..with_right_code(late) };
            assert_refused(harness.sign_in(late).await, Refusal::InvalidCode);
        }
    }
    let sent = send(&harness, &far_phone(3), client(2)).await.expect("sent");
    harness
        .sign_in(SignIn { client: client(2), ..with_right_code(&sent) })
        .await
        .expect("no user is blocked");
}

/// Attempts that cannot succeed have a separate limit, which is ten times the limit of guesses.
pub async fn attempts_without_a_challenge_do_not_block_sign_ins(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let code = || CodeInput::parse("0000").expect("digits");
    let attempt = |number| SignIn::new(far_phone(number), code()).client(client(1));
    let attempts = in_parallel(220, |number| {
        let (harness, attempt) = (harness.clone(), attempt(100 + number));
        async move { harness.sign_in(attempt).await }
    });
    assert_eq!(attempts.await.iter().filter(|result| is_wrong(result)).count(), 200);
    let retry_after = wait(harness.sign_in(attempt(1)).await);

    let sent = send(&harness, &far_phone(2), client(1)).await.expect("sent");
    let wrong = SignIn { client: client(1), ..with_wrong_code(&sent) };
    assert_eq!(wait(harness.sign_in(wrong).await), retry_after, "the same response to a wrong code");
    harness
        .sign_in(SignIn { client: client(1), ..with_right_code(&sent) })
        .await
        .expect("sign-in with the correct code");
    harness.advance(retry_after);
    assert_refused(harness.sign_in(attempt(1)).await, Refusal::InvalidCode);
}

/// After five wrong codes new codes have six digits, after thirty eight digits. Shorter codes are invalid.
pub async fn wrong_codes_lengthen_new_codes_and_invalidate_shorter_codes(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let shorter = harness.sent_code(&phone(1)).await;
    harness.advance(MINUTE);
    for code_length in [4, 6, 6, 6, 6, 6, 8, 8] {
        let sent = harness.sent_code(&phone(1)).await;
        assert_eq!(sent.code_length, code_length);
        guess_six_times(&harness, &sent).await;
        // The sixth guess was made when the code of four digits was invalid, and so is any other of four
        // digits.
        assert_refused(harness.sign_in(with_right_code(&shorter)).await, Refusal::InvalidCode);
        harness.advance(HOUR);
    }
    harness.advance(31 * DAY);
    assert_eq!(harness.sent_code(&phone(1)).await.code_length, 4, "the failures are deleted after a month");
}

/// Neither a new code nor a sign-in gives a client further guesses.
pub async fn new_code_or_sign_in_does_not_reset_the_count_of_wrong_codes(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for guesses in [2, 2] {
        let sent = harness.sent_code(&phone(1)).await;
        assert_eq!(sent.code_length, 4);
        for _ in 0..guesses {
            assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);
        }
        harness.sign_in(with_right_code(&sent)).await.expect("signed in");
    }
    let sent = harness.sent_code(&phone(1)).await;
    assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);
    assert_refused(harness.sign_in(with_right_code(&sent)).await, Refusal::InvalidCode);
    harness.advance(15 * MINUTE);
    assert_eq!(harness.sent_code(&phone(1)).await.code_length, 6);
}

/// Several codes are valid with their challenges. All concurrent guesses at all of them together are limited
/// to five.
pub async fn parallel_guesses_at_several_codes_do_not_exceed_the_limit_of_the_phone(
    storage: Arc<dyn Storage>,
) {
    let harness = Harness::new(storage);
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(harness.sent_code(&phone(1)).await);
        harness.advance(MINUTE);
    }
    let codes = Arc::new(codes);
    let guesses = in_parallel(18, |number| {
        let (harness, codes) = (harness.clone(), Arc::clone(&codes));
        async move { harness.sign_in(with_wrong_code(&codes[number as usize % 3])).await }
    });
    assert!(guesses.await.iter().all(is_wrong));
    for code in codes.iter() {
        assert_refused(harness.sign_in(with_right_code(code)).await, Refusal::InvalidCode);
    }
    // Exactly five guesses were counted: with six for each code, the thirtieth is made at the fifth code.
    for code_length in [6, 6, 6, 6, 6, 8] {
        harness.advance(HOUR);
        let sent = harness.sent_code(&phone(1)).await;
        assert_eq!(sent.code_length, code_length);
        guess_six_times(&harness, &sent).await;
    }
}

/// One address sends a guess at each of 40 phones concurrently. Its limit is twenty guesses.
pub async fn parallel_guesses_from_one_address_do_not_exceed_its_limit(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut codes = Vec::new();
    for number in 0..40 {
        codes.push(send(&harness, &far_phone(number), client(number)).await.expect("sent"));
    }
    let codes = Arc::new(codes);
    let guesses = in_parallel(40, |number| {
        let (harness, codes) = (harness.clone(), Arc::clone(&codes));
        async move {
            harness
                .sign_in(SignIn { client: client(1_000), ..with_wrong_code(&codes[number as usize]) })
                .await
        }
    });
    assert_eq!(guesses.await.iter().filter(|guess| is_wrong(guess)).count(), 20);
    let right = SignIn { client: client(1_000), ..with_right_code(&codes[0]) };
    let wait = wait(harness.sign_in(right.clone()).await);
    assert!(wait <= HOUR, "{wait:?}");
    harness.sign_in(SignIn { client: client(0), ..right }).await.expect("the owner, elsewhere, signs in");
}

/// A user who mistypes a code is not treated as an attacker.
pub async fn wrong_codes_before_a_sign_in_are_refunded(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for number in 0..15 {
        let sent = send(&harness, &far_phone(number), client(1)).await.expect("sent");
        for _ in 0..2 {
            let wrong = SignIn { client: client(2), ..with_wrong_code(&sent) };
            assert_refused(harness.sign_in(wrong).await, Refusal::InvalidCode);
        }
        // The user signs in from another address. The failures are refunded to the address that made them.
        harness.sign_in(SignIn { client: client(3), ..with_right_code(&sent) }).await.expect("signed in");
    }
}

/// The 99 other requests with the same correct code are not guesses.
pub async fn repeated_redemption_of_a_code_is_not_counted(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = send(&harness, &phone(1), client(1)).await.expect("sent");
    let right = SignIn { client: client(1), ..with_right_code(&sent) };
    let signed_in = in_parallel(100, |_| {
        let (harness, right) = (harness.clone(), right.clone());
        async move { harness.sign_in(right).await }
    });
    let signed_in = signed_in.await;
    assert_eq!(signed_in.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(signed_in.iter().filter(|result| is_wrong(result)).count(), 99);
    // The requests are not counted for the phone either: after four wrong codes the next code is still short.
    let sent = harness.sent_code(&phone(1)).await;
    for attempt in [with_wrong_code(&sent), without_challenge(with_wrong_code(&sent))] {
        for _ in 0..2 {
            assert_refused(harness.sign_in(attempt.clone()).await, Refusal::InvalidCode);
        }
    }
    harness.advance(15 * MINUTE);
    assert_eq!(harness.sent_code(&phone(1)).await.code_length, 4);
}

/// An invite code of six symbols can be guessed, so ten unknown codes an hour are allowed at each of two
/// endpoints. The SMS code stays valid.
pub async fn unknown_invite_codes_are_limited(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let unknown = InviteCode::parse("ZZZZZZZZZZZZ").expect("valid code");
    let sent = harness.sent_code(&phone(1)).await;
    let guess =
        SignIn { invited_by_code: Some(unknown.clone()), client: client(1), ..with_right_code(&sent) };
    let guesses = in_parallel(20, |_| {
        let (harness, guess) = (harness.clone(), guess.clone());
        async move { harness.sign_in(guess).await }
    });
    let is_unknown =
        |result: &&Result<_, _>| matches!(result, Err(Error::Refused(Refusal::UnknownInviteCode)));
    assert_eq!(guesses.await.iter().filter(is_unknown).count(), 10);
    wait(harness.sign_in(guess).await);
    let anna = harness.sign_in(with_right_code(&sent)).await.expect("sign-in without an invite code");

    let current_user = harness.current_user(&anna).await;
    let change = ProfileChange { invited_by_code: Some(unknown.clone()), ..ProfileChange::default() };
    let guess = || harness.referral.edit_profile(&current_user, EditProfile::new(change.clone()));
    let wait_here = wait(guess().await);
    harness.advance(wait_here + MINUTE);
    for _ in 0..10 {
        assert_refused(guess().await, Refusal::UnknownInviteCode);
    }
    wait(guess().await);
    // The address has a separate counter, which other users share.
    let sent = harness.sent_code(&phone(2)).await;
    let other = SignIn { invited_by_code: Some(unknown), client: client(1), ..with_right_code(&sent) };
    assert_refused(harness.sign_in(other).await, Refusal::UnknownInviteCode);
}

/// Guesses once at each of `number` phones, each from a different address.
async fn spray(harness: &Harness, number: u32, first: u32) {
    for phone in first..first + number {
        let sent = send(harness, &far_phone(phone), client(phone)).await.expect("sent");
        let guess = SignIn { client: client(phone), ..with_wrong_code(&sent) };
        assert_refused(harness.sign_in(guess).await, Refusal::InvalidCode);
    }
}

/// One guess at each of many phones does not exceed any other limit. No request is rejected, but new codes
/// get longer.
pub async fn attack_lengthens_new_codes_until_it_has_ended_for_some_time(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    spray(&harness, 50, 100).await;
    let before = harness.sent_code(&far_phone(1)).await;
    assert_eq!(before.code_length, 4);
    spray(&harness, 1, 200).await;
    // Otherwise an attacker could request all codes before the attack and never get a longer one.
    assert_refused(harness.sign_in(with_right_code(&before)).await, Refusal::InvalidCode);
    let under_attack = harness.sent_code(&far_phone(2)).await;
    assert_eq!(under_attack.code_length, 6);
    harness.sign_in(with_right_code(&under_attack)).await.expect("a legitimate user signs in");

    harness.advance(15 * MINUTE);
    assert_eq!(harness.sent_code(&far_phone(3)).await.code_length, 6, "the attack ended only recently");
    harness.advance(45 * MINUTE);
    assert_eq!(harness.sent_code(&far_phone(4)).await.code_length, 4);
}

/// A large service has many wrong codes every day.
pub async fn usual_number_of_wrong_codes_is_not_an_attack(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for day in 0..7 {
        spray(&harness, 30, 100 + day).await;
        harness.advance(DAY);
    }
    spray(&harness, 80, 200).await;
    assert_eq!(harness.sent_code(&far_phone(1)).await.code_length, 4);
    spray(&harness, 20, 400).await;
    assert_eq!(
        harness.sent_code(&far_phone(2)).await.code_length,
        6,
        "three times the usual number is an attack"
    );
}

/// The current minute is the last of ten. The minute before them is not counted.
pub async fn attack_counts_the_wrong_codes_of_ten_minutes(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    for (first, minutes, code_length) in [(100, 10, 4), (200, 9, 6)] {
        spray(&harness, 51, first).await;
        harness.advance(minutes * MINUTE);
        assert_eq!(harness.sent_code(&far_phone(minutes)).await.code_length, code_length);
    }
}

/// The usual number is that of the same ten minutes of past days, with the first of them and without the
/// minute after the last.
pub async fn usual_number_counts_the_same_ten_minutes_of_past_days(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let after = [(100, 9 * MINUTE, 4), (500, DAY.saturating_sub(MINUTE), 6)];
    for (first, after, code_length) in after {
        for day in 0..7 {
            spray(&harness, 30, first + day).await;
            harness.advance(DAY);
        }
        harness.advance(after);
        spray(&harness, 80, first + 100).await;
        assert_eq!(harness.sent_code(&far_phone(first + 200)).await.code_length, code_length);
        harness.advance(30 * DAY);
    }
}
