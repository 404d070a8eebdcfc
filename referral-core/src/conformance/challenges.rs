//! Codes that are sent.

use std::{sync::Arc, time::Duration};

use super::{Bench, answer, assert_refused, in_parallel, phone, unnamed};
use crate::{
    LimitName, Refusal,
    storage::{Counting, Storage},
};

/// Between two codes for one phone lies the cool-down, and the wait that is told is true.
pub async fn a_second_code_waits_for_the_cool_down(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    bench.sent(&phone(1)).await;
    bench.advance(Duration::from_secs(15));
    let retry_after = Duration::from_secs(45);
    assert_refused(
        bench.send_code(&phone(1)).await,
        Refusal::TooManyRequests { retry_after, limit: LimitName::CoolDown },
    );
    bench.advance(retry_after);
    bench.sent(&phone(1)).await;
}

/// Whoever has signed in may ask for another code at once.
pub async fn a_sign_in_ends_the_cool_down(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let sent = bench.sent(&phone(1)).await;
    bench.sign_in(answer(&sent)).await.expect("signed in");
    bench.sent(&phone(1)).await;
}

/// The cool-down of one phone is not another's.
pub async fn phones_do_not_wait_for_one_another(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    bench.sent(&phone(1)).await;
    bench.sent(&phone(2)).await;
}

/// Many requests at once are granted as many codes as in turn.
pub async fn parallel_requests_for_one_phone_send_one_code(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let sent = in_parallel(20, |_| {
        let bench = bench.clone();
        async move { bench.send_code(&phone(1)).await }
    });
    let sent = sent.await;
    assert_eq!(sent.iter().filter(|result| result.is_ok()).count(), 1);
    let retry_after = Duration::from_mins(1);
    for refused in sent.into_iter().filter(Result::is_err) {
        assert_refused(refused, Refusal::TooManyRequests { retry_after, limit: LimitName::CoolDown });
    }
}

/// A code whose message was not sent is void, costs no waiting, and leaves the one before it.
pub async fn a_voided_code_is_forgotten_and_the_one_before_it_lives(storage: Arc<dyn Storage>) {
    let bench = Bench::new(storage);
    let first = bench.sent(&phone(1)).await;
    bench.advance(Duration::from_mins(1));
    let second = bench.sent(&phone(1)).await;
    bench.storage.void_challenge(second.challenge, &Counting::default()).await.expect("voided");
    bench
        .storage
        .void_challenge(second.challenge, &Counting::default())
        .await
        .expect("voiding again does nothing");

    assert_refused(bench.sign_in(answer(&second)).await, Refusal::InvalidCode);
    let third = bench.sent(&phone(1)).await;
    bench.storage.void_challenge(third.challenge, &Counting::default()).await.expect("voided");
    bench.sign_in(unnamed(answer(&first))).await.expect("signed in");
}
