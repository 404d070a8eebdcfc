//! Circuit breaker, and gateways that are busy.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use async_trait::async_trait;
use referral_core::{
    PhoneNumber,
    sms::{Failover, Receipt, SmsError, SmsMessage, SmsSender},
};
use tokio::time::advance;

use crate::fake::{
    Accept, Busy, Calls, Hang, Permanent, Script, Temporary, Unknown, gateways, message, send, send_notice,
    take,
};

#[tokio::test(start_paused = true)]
async fn circuit_opens_after_consecutive_failures_and_is_tested_later() {
    let (builder, calls) = gateways(&[&[Temporary, Hang, Unknown, Temporary, Temporary], &[]]);
    let sender = builder.build().expect("valid configuration");
    for _ in 0..3 {
        assert_eq!(send(&sender, &calls).await, "ab: accepted by b");
    }
    for open_time in [30, 60] {
        assert_eq!(send(&sender, &calls).await, "b: accepted by b");
        advance(Duration::from_secs(open_time - 1)).await;
        assert_eq!(send(&sender, &calls).await, "b: accepted by b", "the circuit is open");
        advance(Duration::from_secs(1)).await;
        assert_eq!(send(&sender, &calls).await, "ab: accepted by b", "a trial after {open_time} s");
    }
    advance(Duration::from_secs(119)).await;
    assert_eq!(send(&sender, &calls).await, "b: accepted by b", "the time doubles");
    advance(Duration::from_secs(1)).await;
    assert_eq!(send(&sender, &calls).await, "a: accepted by a", "the circuit is closed");
    assert_eq!(send(&sender, &calls).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn circuit_is_open_for_at_most_twenty_times_the_initial_time() {
    let (builder, calls) = gateways(&[&[Temporary; 12], &[]]);
    let sender = builder.circuit_breaker(1, Duration::from_secs(1)).build().expect("valid configuration");
    for _ in 0..12 {
        assert_eq!(send(&sender, &calls).await, "ab: accepted by b");
        advance(Duration::from_secs(20)).await;
    }
    assert_eq!(send(&sender, &calls).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn failures_that_are_not_consecutive_do_not_open_the_circuit() {
    let responses: Vec<_> = [Temporary, Temporary, Accept].repeat(4);
    let (builder, calls) = gateways(&[&responses, &[]]);
    let sender = builder.build().expect("valid configuration");
    for _ in 0..4 {
        assert_eq!(send(&sender, &calls).await, "ab: accepted by b");
        assert_eq!(send(&sender, &calls).await, "ab: accepted by b");
        assert_eq!(send(&sender, &calls).await, "a: accepted by a");
    }
}

#[tokio::test(start_paused = true)]
async fn permanent_rejection_is_not_a_failure_of_the_gateway() {
    let (builder, calls) = gateways(&[&[Permanent; 9], &[]]);
    let sender = builder.build().expect("valid configuration");
    for _ in 0..9 {
        assert_eq!(send(&sender, &calls).await, "a: permanent");
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_failures_open_the_circuit_once_and_cause_one_trial() {
    let calls = Calls::default();
    let sender = Failover::builder()
        .gateway("a", Script::new("a", &calls, &[Hang; 9]))
        .gateway("b", Script::new("b", &calls, &[]))
        .build()
        .expect("valid configuration");
    let sender = Arc::new(sender);
    let send_concurrently = |sender: &Arc<Failover>| {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let sender = Arc::clone(sender);
                tokio::spawn(async move { sender.send(&message()).await.expect("accepted").gateway })
            })
            .collect();
        async move {
            for task in tasks {
                assert_eq!(task.await.expect("no panic").as_deref(), Some("b"));
            }
        }
    };
    send_concurrently(&sender).await;
    assert_eq!(take(&calls).matches('a').count(), 8, "all requests were concurrent");
    // Eight concurrent failures open the circuit once.
    advance(Duration::from_secs(30)).await;
    send_concurrently(&sender).await;
    assert_eq!(take(&calls).matches('a').count(), 1, "one request is the trial");
    advance(Duration::from_mins(1)).await;
    assert_eq!(send(&sender, &calls).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn canceled_trial_delays_the_next_trial_only_briefly() {
    let (builder, calls) = gateways(&[&[Temporary, Hang], &[]]);
    let sender = builder.circuit_breaker(1, Duration::from_secs(10)).build().expect("valid configuration");
    assert_eq!(send(&sender, &calls).await, "ab: accepted by b");
    advance(Duration::from_secs(10)).await;
    // The trial is canceled.
    let given_up = tokio::time::timeout(Duration::from_secs(1), sender.send(&message())).await;
    let _: tokio::time::error::Elapsed = given_up.expect_err("the gateway does not respond");
    assert_eq!(take(&calls), "a");
    assert_eq!(send(&sender, &calls).await, "b: accepted by b");
    advance(Duration::from_secs(4)).await;
    assert_eq!(send(&sender, &calls).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn hanging_trial_is_the_only_one_until_its_result_is_recorded() {
    let (builder, calls) = gateways(&[&[Temporary, Hang, Hang], &[]]);
    let sender = builder.circuit_breaker(1, Duration::from_secs(10)).build().expect("valid configuration");
    assert_eq!(send(&sender, &calls).await, "ab: accepted by b");
    advance(Duration::from_secs(10)).await;
    let message = message();
    let mut trial = sender.send(&message);
    assert!(poll_once(&mut trial).await.is_none());
    assert_eq!(take(&calls), "a");
    // The time limit has passed, and the result is not recorded yet.
    advance(Duration::from_secs(4)).await;
    assert_eq!(send(&sender, &calls).await, "b: accepted by b");
    trial.await.expect("accepted by b");
}

/// Polls a future once, and returns its output if it is ready.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|context| match Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn gateway_without_remaining_time_starts_no_trial() {
    let (builder, calls) = gateways(&[&[Temporary, Hang], &[Temporary], &[]]);
    let builder = builder.time(Duration::from_millis(4_200)).circuit_breaker(1, Duration::from_secs(10));
    let sender = builder.build().expect("valid configuration");
    assert_eq!(send(&sender, &calls).await, "abc: accepted by c");
    advance(Duration::from_secs(10)).await;
    assert_eq!(send(&sender, &calls).await, "a: unknown");
    assert_eq!(send(&sender, &calls).await, "b: accepted by b");
}

#[tokio::test(start_paused = true)]
async fn busy_gateway_is_not_called_for_the_given_time() {
    let (builder, calls) = gateways(&[&[Busy(90)]]);
    let sender = builder.build().expect("valid configuration");
    assert_eq!(send(&sender, &calls).await, "a: busy for 90");
    advance(Duration::from_secs(30)).await;
    // Also if it is the only gateway.
    assert_eq!(send(&sender, &calls).await, ": busy for 60");
    advance(Duration::from_mins(1)).await;
    assert_eq!(send(&sender, &calls).await, "a: accepted by a");

    let (builder, calls) = gateways(&[&[Busy(1_000_000)]]);
    let sender = builder.build().expect("valid configuration");
    send(&sender, &calls).await;
    advance(Duration::from_hours(1)).await;
    assert_eq!(send(&sender, &calls).await, "a: accepted by a", "not longer than an hour");
}

#[tokio::test(start_paused = true)]
async fn gateway_with_an_open_circuit_is_tried_if_the_others_are_busy() {
    let (builder, calls) = gateways(&[&[Temporary], &[Accept, Busy(90)]]);
    let sender = builder.circuit_breaker(1, Duration::from_secs(30)).build().expect("valid configuration");
    assert_eq!(send(&sender, &calls).await, "ab: accepted by b");
    assert_eq!(send(&sender, &calls).await, "ba: accepted by a");
}

/// Gateway that reports after some time that it is busy.
struct BusyLater;

#[async_trait]
impl SmsSender for BusyLater {
    async fn send(&self, _message: &SmsMessage) -> Result<Receipt, SmsError> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Err(SmsError::Busy { reason: "too much".into(), retry_after: Duration::from_secs(90) })
    }
}

#[tokio::test(start_paused = true)]
async fn gateway_that_became_busy_is_not_tried_as_a_last_resort() {
    let calls = Calls::default();
    let sender = Failover::builder()
        .gateway("a", Script::new("a", &calls, &[Temporary, Busy(300)]))
        .gateway("b", BusyLater)
        .circuit_breaker(1, Duration::from_secs(1));
    let sender = sender.build().expect("valid configuration");
    // The circuit of `a` opens. While the request to `b` is pending, another message tests `a`.
    let message = message();
    let mut first = sender.send(&message);
    assert!(poll_once(&mut first).await.is_none());
    let mut second = sender.send(&message);
    assert!(poll_once(&mut second).await.is_none());
    advance(Duration::from_secs(1)).await;
    let mut third = sender.send(&message);
    assert!(poll_once(&mut third).await.is_none());
    assert_eq!(take(&calls), "aa");
    assert!(matches!(second.await, Err(SmsError::Busy { .. })));
    assert_eq!(take(&calls), "", "it is not called");
}

#[tokio::test(start_paused = true)]
async fn failover_can_be_a_gateway_of_another_failover() {
    let calls = Calls::default();
    let script = |name, responses| Script::new(name, &calls, responses);
    let inner = Failover::builder()
        .gateway("a", script("a", &[Temporary, Accept, Busy(40), Temporary]))
        .gateway("b", script("b", &[Busy(30), Busy(60)]));
    let inner = inner.build().expect("valid configuration");
    let sender = Failover::builder().gateway("inner", inner).gateway("c", script("c", &[]));
    let sender = sender.build().expect("valid configuration");
    assert_eq!(send(&sender, &calls).await, "abc: accepted by c");
    // Not all inner gateways are busy, so the inner `Failover` is called.
    assert_eq!(send(&sender, &calls).await, "a: accepted by inner");
    assert_eq!(send(&sender, &calls).await, "ac: accepted by c");
    // All inner gateways are busy until the first of them is available.
    advance(Duration::from_secs(29)).await;
    assert_eq!(send(&sender, &calls).await, "c: accepted by c");
    advance(Duration::from_secs(1)).await;
    assert_eq!(send(&sender, &calls).await, "bc: accepted by c");
}

#[tokio::test]
async fn minimum_time_is_sufficient_with_the_real_clock() {
    let (builder, calls) = gateways(&[&[]]);
    let sender = builder.time(Duration::from_millis(500)).build().expect("valid configuration");
    assert_eq!(send(&sender, &calls).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn gateways_with_an_open_circuit_are_tried_last_in_the_order_of_their_trials() {
    let (builder, calls) =
        gateways(&[&[Temporary, Temporary], &[Accept, Temporary, Accept], &[Accept, Temporary]]);
    let sender = builder.circuit_breaker(1, Duration::from_secs(10)).build().expect("valid configuration");
    assert_eq!(send(&sender, &calls).await, "ab: accepted by b");
    advance(Duration::from_secs(5)).await;
    assert_eq!(send(&sender, &calls).await, "bc: accepted by c");
    advance(Duration::from_secs(1)).await;
    assert_eq!(send(&sender, &calls).await, "cab: accepted by b");
    advance(Duration::from_secs(5)).await;
    assert_eq!(
        send(&sender, &calls).await,
        "a: accepted by a",
        "a call as a last resort does not extend the time of the open circuit"
    );
}

/// Gateway that accepts phones of one region only, since it has no route to others.
struct Regional(&'static str);

#[async_trait]
impl SmsSender for Regional {
    async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError> {
        let region = message.phone.region().map(|region| region.to_string());
        if region.as_deref() == Some(self.0) {
            Ok(Receipt::new("m1"))
        } else {
            Err(SmsError::Temporary("no route".into()))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rejections_for_one_region_do_not_prevent_messages_to_another() {
    let sender = Failover::builder().gateway("a", Regional("RU")).gateway("b", Regional("KZ")).build();
    let sender = sender.expect("valid configuration");
    for phone in ["+77011234567", "+79608543017"].repeat(9) {
        let mut message = message();
        message.phone = PhoneNumber::parse(phone, None).expect("valid number");
        sender.send(&message).await.expect(phone);
    }
    for phone in ["+77011234567"].repeat(9).into_iter().chain(["+79608543017"].repeat(9)) {
        let mut message = message();
        message.phone = PhoneNumber::parse(phone, None).expect("valid number");
        sender.send(&message).await.expect(phone);
    }
}

#[tokio::test(start_paused = true)]
async fn notices_go_to_gateways_that_send_them_and_open_no_circuit() {
    let calls = Calls::default();
    let script = |name, responses: &[_]| Script::new(name, &calls, responses);
    let without = Failover::builder().gateway("a", script("a", &[])).build().expect("valid configuration");
    assert!(!without.sends_notices());
    assert_eq!(send_notice(&without, &calls).await, ": the gateway sends no notices");

    let failing = script("b", &[Temporary, Unknown, Temporary, Hang, Temporary]).with_notices();
    let sender = Failover::builder()
        .gateway("a", script("a", &[Temporary]))
        .gateway("b", failing)
        .gateway("c", script("c", &[]).with_notices())
        .build()
        .expect("valid configuration");
    assert!(sender.sends_notices());
    for _ in 0..5 {
        assert_eq!(send_notice(&sender, &calls).await, "bc: accepted by c");
    }
    assert_eq!(send(&sender, &calls).await, "ab: accepted by b", "the circuit of b is closed");
}

#[tokio::test(start_paused = true)]
async fn notice_can_be_the_trial_of_an_open_circuit() {
    let calls = Calls::default();
    let gateway = Script::new("a", &calls, &[Temporary, Temporary, Temporary, Temporary]).with_notices();
    let sender = Failover::builder().gateway("a", gateway).build().expect("valid configuration");
    for _ in 0..3 {
        assert_eq!(send(&sender, &calls).await, "a: temporary");
    }
    advance(Duration::from_secs(30)).await;
    assert_eq!(send_notice(&sender, &calls).await, "a: temporary", "the circuit stays open");
    advance(Duration::from_mins(1)).await;
    assert_eq!(send_notice(&sender, &calls).await, "a: accepted by a");
    assert_eq!(send(&sender, &calls).await, "a: accepted by a");
}
