//! Cases about requested codes.

use std::{sync::Arc, time::Duration};

use super::harness::{
    Harness, assert_refused, in_parallel, phone, with_right_code, with_wrong_code, without_challenge,
};
use crate::{
    error::refusal::Refusal,
    rate_limit::limits::LimitName,
    storage::{CounterUpdate, Storage},
};

/// A second code for a phone is rejected until the resend interval has passed, and `retry_after` is exact.
pub async fn second_code_for_a_phone_waits_for_the_resend_interval(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    harness.sent_code(&phone(1)).await;
    harness.advance(Duration::from_secs(15));
    let retry_after = Duration::from_secs(45);
    assert_refused(
        harness.send_code(&phone(1)).await,
        Refusal::TooManyRequests { retry_after, limit: LimitName::ResendInterval },
    );
    harness.advance(retry_after);
    harness.sent_code(&phone(1)).await;
}

/// A client that has signed in may request another code immediately.
pub async fn sign_in_ends_the_resend_interval(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = harness.sent_code(&phone(1)).await;
    harness.sign_in(with_right_code(&sent)).await.expect("signed in");
    harness.sent_code(&phone(1)).await;
}

/// The resend interval of one phone does not apply to another.
pub async fn resend_interval_applies_to_one_phone_only(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    harness.sent_code(&phone(1)).await;
    harness.sent_code(&phone(2)).await;
}

/// Concurrent requests must not get more codes than sequential ones.
pub async fn parallel_requests_for_one_phone_send_one_code(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let sent = in_parallel(20, |_| {
        let harness = harness.clone();
        async move { harness.send_code(&phone(1)).await }
    });
    let sent = sent.await;
    assert_eq!(sent.iter().filter(|result| result.is_ok()).count(), 1);
    let retry_after = Duration::from_mins(1);
    for refused in sent.into_iter().filter(Result::is_err) {
        assert_refused(refused, Refusal::TooManyRequests { retry_after, limit: LimitName::ResendInterval });
    }
}

/// A code whose message was not sent is invalid and does not start a resend interval. The previous code stays
/// valid.
pub async fn voided_code_is_invalid_and_the_previous_code_stays_valid(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let first = harness.sent_code(&phone(1)).await;
    harness.advance(Duration::from_mins(1));
    let second = harness.sent_code(&phone(1)).await;
    harness.storage.cancel_challenge(second.challenge, &CounterUpdate::default()).await.expect("canceled");
    harness
        .storage
        .cancel_challenge(second.challenge, &CounterUpdate::default())
        .await
        .expect("voiding again does nothing");

    assert_refused(harness.sign_in(with_right_code(&second)).await, Refusal::InvalidCode);
    let third = harness.sent_code(&phone(1)).await;
    harness.storage.cancel_challenge(third.challenge, &CounterUpdate::default()).await.expect("canceled");
    harness.sign_in(without_challenge(with_right_code(&first))).await.expect("signed in");
}

/// Requests for other phones neither replace a code nor change the code that is the newest of a phone.
pub async fn codes_of_different_phones_are_independent(storage: Arc<dyn Storage>) {
    let harness = Harness::new(storage);
    let mut sent = Vec::new();
    for number in 1..=3 {
        sent.push(harness.sent_code(&phone(number)).await);
        harness.advance(Duration::from_secs(1));
    }
    for sent in &sent {
        let wrong = without_challenge(with_wrong_code(sent));
        assert_refused(harness.sign_in(wrong).await, Refusal::InvalidCode);
    }
    harness.sign_in(with_right_code(&sent[1])).await.expect("signed in with the challenge");
    for sent in [&sent[0], &sent[2]] {
        let right = without_challenge(with_right_code(sent));
        let signed_in = harness.sign_in(right).await.expect("signed in with the newest code of the phone");
        assert_eq!(signed_in.user.phone, sent.phone);
    }
}
