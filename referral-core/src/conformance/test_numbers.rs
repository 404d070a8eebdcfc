//! Cases about test numbers: they have a fixed code, get no message, and allow no more guesses than other
//! phones.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use super::harness::{
    Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code, without_challenge,
};
use crate::{
    error::{Error, refusal::Refusal},
    otp::{code::CodeInput, test_number::TestNumber},
    policy::{Budget, Policy},
    rate_limit::{client::Client, limits::LimitName},
    service::{
        send_code::{SendCode, SentCode},
        sign_in::SignIn,
    },
    storage::Storage,
    test_util::SeededRandom,
    user::staff_role::StaffRole,
};

const DAY: Duration = Duration::from_hours(24);

/// Returns the standard policy, in which `phone(1)` is a test number for a week.
fn policy(harness: &Harness, code: &str) -> Policy {
    let number = TestNumber::new(phone(1), code, harness.now() + 7 * DAY).expect("valid code");
    Policy { test_numbers: vec![number], ..Policy::standard() }
}

fn harness(storage: Arc<dyn Storage>, code: &str) -> Harness {
    let policy = policy(&Harness::new(Arc::clone(&storage)), code);
    Harness::with_policy(storage, policy)
}

fn with_code(sent: &SentCode, code: &str) -> SignIn {
    SignIn::new(sent.phone.clone(), CodeInput::parse(code).expect("digits")).challenge(sent.challenge)
}

/// A test number gets any number of codes, and uses up no codes of other phones.
pub async fn test_number_gets_codes_without_waiting(storage: Arc<dyn Storage>) {
    let one_message = Some(Budget::Messages(1));
    let policy = policy(&Harness::new(Arc::clone(&storage)), "47110815");
    let harness = Harness::with_policy(storage, Policy { messages_per_day: one_message, ..policy });
    for _ in 0..15 {
        let sent = harness.sent_code(&phone(1)).await;
        assert_eq!((sent.code_length, sent.resend_in), (8, Duration::ZERO));
        assert!(sent.revealed_code.is_none(), "nothing was sent");
    }
    let sent = harness.sent_code(&phone(1)).await;
    harness.sign_in(with_code(&sent, "47110815")).await.expect("signed in");
    harness.sent_code(&phone(2)).await;
}

/// Each code takes space in the storage, so the limit of the address applies. Like other codes they are
/// refunded at a sign-in.
pub async fn codes_of_a_test_number_count_against_the_client_address(storage: Arc<dyn Storage>) {
    let harness = harness(storage, "47110815");
    let client = || Client::default().address(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)));
    let request = || harness.referral.send_code(SendCode::new(phone(1)).client(client()));
    for _ in 0..12 {
        let sent = request().await.expect("refunded each time");
        let right = SignIn { client: client(), ..with_code(&sent, "47110815") };
        harness.sign_in(right).await.expect("signed in");
    }
    for waits in [false, false, false, false, false, false, false, false, false, true] {
        let sent = request().await.expect("ten codes that are not redeemed");
        assert_eq!(sent.resend_in > Duration::ZERO, waits, "the wait is returned with the last code");
    }
    let refused = request().await;
    assert!(
        matches!(
            refused,
            Err(Error::Refused(Refusal::TooManyRequests { limit: LimitName::CodesPerAddress, .. }))
        ),
        "{refused:?}"
    );
    harness.sent_code(&phone(1)).await;
}

/// A code of four digits allows five guesses, for any number of codes and concurrent requests.
pub async fn wrong_codes_invalidate_a_short_fixed_code(storage: Arc<dyn Storage>) {
    let harness = harness(storage, "4711");
    let mut codes = Vec::new();
    for _ in 0..10 {
        codes.push(harness.sent_code(&phone(1)).await);
    }
    let guesses = in_parallel(20, |number| {
        let (harness, sent) = (harness.clone(), codes[number as usize % 10].clone());
        async move { harness.sign_in(with_code(&sent, "4712")).await }
    });
    for guess in guesses.await {
        assert_refused(guess, Refusal::InvalidCode);
    }
    for sent in [&codes[0], &harness.sent_code(&phone(1)).await] {
        assert_refused(harness.sign_in(with_code(sent, "4711")).await, Refusal::InvalidCode);
    }
    // Exactly five guesses were counted: a guess at an invalid code is not counted.
    harness.advance(7 * DAY);
    assert_eq!(harness.sent_code(&phone(1)).await.code_length, 6);
}

/// Any number of codes allows at most sixty guesses a day at a fixed code of any length.
pub async fn test_number_is_locked_out_after_sixty_wrong_codes_in_a_day(storage: Arc<dyn Storage>) {
    let harness = harness(storage, "47110815");
    for _ in 0..10 {
        let sent = harness.sent_code(&phone(1)).await;
        harness.sign_in(with_code(&sent, "47110815")).await.expect("sign-in works until sixty wrong codes");
        harness.advance(Duration::from_millis(1));
        let sent = harness.sent_code(&phone(1)).await;
        for guess in [with_code(&sent, "47110816"), without_challenge(with_code(&sent, "47110816"))] {
            for _ in 0..3 {
                assert_refused(harness.sign_in(guess.clone()).await, Refusal::InvalidCode);
            }
        }
    }
    // The oldest wrong codes were sent nine milliseconds ago.
    let retry_after = DAY.saturating_sub(Duration::from_millis(9));
    let locked_out = harness.send_code(&phone(1)).await;
    assert_refused(locked_out, Refusal::TooManyRequests { retry_after, limit: LimitName::Lockout });
    harness.advance(retry_after);
    let sent = harness.sent_code(&phone(1)).await;
    harness.sign_in(with_code(&sent, "47110815")).await.expect("signed in");
}

/// After the end of a test number it is treated as any other phone, and its previous codes are invalid.
pub async fn test_number_expires(storage: Arc<dyn Storage>) {
    let harness = harness(storage, "47110815");
    harness.advance((7 * DAY).saturating_sub(Duration::from_secs(10)));
    let sent = harness.sent_code(&phone(1)).await;
    assert_eq!(sent.expires_in, Duration::from_secs(10), "its code expires with the test number");
    harness.advance(Duration::from_secs(10));
    assert_refused(harness.sign_in(with_code(&sent, "47110815")).await, Refusal::InvalidCode);

    harness.advance(Duration::from_mins(1));
    let sent = harness.sent_code(&phone(1)).await;
    assert_eq!((sent.code_length, sent.resend_in > Duration::ZERO), (4, true));
    harness.sign_in(with_right_code(&sent)).await.expect("signed in");
}

/// Staff must not sign in with a code that others know. It is rejected, even if the user became staff first.
pub async fn staff_cannot_sign_in_with_a_test_number(storage: Arc<dyn Storage>) {
    let without = Harness::new(Arc::clone(&storage));
    without.referral.make_staff(phone(1), StaffRole::Admin).await.expect("not a test number");
    let generated = without.sent_code(&phone(1)).await;

    let harness = Harness::with(storage, policy(&without, "4711"), SeededRandom::new(2));
    assert_refused(harness.referral.make_staff(phone(1), StaffRole::Admin).await, Refusal::TestNumber);
    let sent = harness.sent_code(&phone(1)).await;
    assert_refused(harness.sign_in(with_code(&sent, "4711")).await, Refusal::InvalidCode);
    assert_refused(harness.sign_in(with_right_code(&generated)).await, Refusal::InvalidCode);

    // Each attempt is counted as a wrong code, and after five the code is invalid.
    harness.advance(7 * DAY);
    for code_length in [4, 4, 6] {
        let sent = harness.sent_code(&phone(1)).await;
        assert_eq!(sent.code_length, code_length);
        assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);
        assert_refused(harness.sign_in(with_wrong_code(&sent)).await, Refusal::InvalidCode);
        harness.advance(DAY);
    }
    let sent = harness.sent_code(&phone(1)).await;
    harness.sign_in(with_right_code(&sent)).await.expect("staff sign in after the test number expired");
}

/// Several people know the code, and no limit of messages applies.
pub async fn test_number_has_at_most_twenty_sessions(storage: Arc<dyn Storage>) {
    let harness = harness(storage, "47110815");
    let mut sessions = Vec::new();
    for _ in 0..25 {
        let sent = harness.sent_code(&phone(1)).await;
        sessions.push(harness.sign_in(with_code(&sent, "47110815")).await.expect("signed in"));
        // The sessions get the order of the sign-ins.
        harness.advance(Duration::from_millis(1));
    }
    let (oldest, newest) = sessions.split_at(5);
    for session in oldest {
        let refreshed = harness.referral.refresh(&session.tokens.refresh).await;
        assert_refused(refreshed, Refusal::TokenNotValid);
        let found = harness.storage.session(session.session, 0).await.expect("the storage responds");
        assert_eq!(found, None, "the row is deleted");
    }
    for session in newest {
        harness.referral.authenticate(&session.tokens.access).await.expect("valid");
    }
    let another = harness.enter(2).await;
    harness.referral.authenticate(&another.tokens.access).await.expect("session of another user");
}
