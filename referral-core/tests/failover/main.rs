//! Fail-over between several gateways.

mod circuit_breaker;
mod fake;
#[path = "../common/mock_gateway.rs"]
mod mock_gateway;
#[path = "../common/service.rs"]
mod service;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use referral_core::{
    Error, PhoneNumber, ReferralService, Refusal, SendCode,
    policy::LimitName,
    sms::{
        Attempt, Failover, FailoverBuilder, FailoverError, Observer, OnUnknownOutcome, Receipt, SmsError,
        SmsMessage, SmsSender,
    },
    storage::MemoryStorage,
};
use tokio::time::{Instant, advance};
use uuid::Uuid;

use crate::{
    fake::{
        Accept, Busy, Hang, Permanent, Response, Script, Temporary, Unknown, gateways, message, send, take,
    },
    mock_gateway::MockGateway,
};

#[tokio::test(start_paused = true)]
async fn gateways_are_tried_in_order_until_one_accepts() {
    for (responses, expected) in [
        (&[&[Accept][..], &[Accept]][..], "a: accepted by a"),
        (&[&[Temporary], &[Accept]], "ab: accepted by b"),
        (&[&[Busy(5)], &[Accept], &[Accept]], "ab: accepted by b"),
        (&[&[Unknown], &[Accept]], "ab: accepted by b"),
        (&[&[Hang], &[Accept]], "ab: accepted by b"),
        (&[&[Permanent], &[Accept]], "a: permanent"),
        (&[&[Temporary], &[Permanent], &[Accept]], "ab: permanent"),
        (&[&[Temporary], &[Temporary]], "ab: temporary"),
        // Busy only if all gateways are busy, and until the first of them is available.
        (&[&[Busy(50)], &[Busy(5)]], "ab: busy for 5"),
        (&[&[Busy(5)], &[Busy(50)]], "ab: busy for 5"),
        (&[&[Temporary], &[Busy(5)]], "ab: temporary"),
        (&[&[Busy(5)], &[Temporary]], "ab: temporary"),
        // The message may have been sent, independent of the other results.
        (&[&[Unknown], &[Temporary]], "ab: unknown"),
        (&[&[Unknown], &[Permanent]], "ab: unknown"),
        (&[&[Temporary], &[Unknown], &[Busy(5)]], "abc: unknown"),
        (&[&[Hang], &[Temporary]], "ab: unknown"),
    ] {
        let (builder, calls) = gateways(responses);
        let sender = builder.build().expect("valid configuration");
        assert_eq!(send(&sender, &calls).await, expected, "{responses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_further_gateway_is_tried_after_an_unknown_result_with_stop() {
    for response in [Unknown, Hang] {
        let (builder, calls) = gateways(&[&[Temporary], &[response], &[Accept]]);
        let sender = builder.on_unknown_outcome(OnUnknownOutcome::Stop).build().expect("valid configuration");
        assert_eq!(send(&sender, &calls).await, "ab: unknown");
    }
}

#[tokio::test]
async fn each_gateway_gets_the_same_message() {
    let is_it = |message: &SmsMessage| {
        message.id == Uuid::from_u128(17)
            && message.code.reveal() == "4711"
            && message.text.reveal() == "4711 it is"
            && message.phone.as_str() == "+79608543017"
    };
    let mut first = MockGateway::new();
    first.expect_send().withf(is_it).once().returning(|_| Err(SmsError::Unknown("no response".into())));
    let mut second = MockGateway::new();
    second.expect_send().withf(is_it).once().returning(|_| Ok(Receipt::new("m1")));
    let mut third = MockGateway::new();
    third.expect_send().never();
    let builder =
        Failover::builder().gateway("first", first).gateway("second", second).gateway("third", third);
    let receipt = builder.build().expect("valid configuration").send(&message()).await.expect("accepted");
    assert_eq!((receipt.gateway.as_deref(), receipt.message_id.as_deref()), (Some("second"), Some("m1")));
}

#[tokio::test(start_paused = true)]
async fn time_limit_applies_if_gateways_hang() {
    let (builder, calls) = gateways(&[&[Hang], &[Hang], &[Hang], &[Hang]]);
    let sender = builder.time(Duration::from_secs(7)).time_per_gateway(Duration::from_secs(3)).build();
    let start = Instant::now();
    // Three seconds for each of the first two gateways, the remaining time for the third, none for the
    // fourth.
    assert_eq!(send(&sender.expect("valid configuration"), &calls).await, "abc: unknown");
    assert_eq!(start.elapsed(), Duration::from_secs(7));

    // The remaining time is too short for another gateway.
    let (builder, calls) = gateways(&[&[Hang], &[Accept]]);
    let sender = builder.time(Duration::from_millis(3_400)).time_per_gateway(Duration::from_secs(3)).build();
    assert_eq!(send(&sender.expect("valid configuration"), &calls).await, "a: unknown");
}

#[tokio::test]
async fn region_has_its_own_order_of_gateways() {
    let (builder, calls) = gateways(&[&[], &[], &[]]);
    let region = |name: &str| name.parse().expect("valid region");
    let sender = builder
        .order_for(region("RU"), ["c", "a"])
        .order_for(region("KZ"), ["b"])
        .build()
        .expect("valid configuration");
    for (phone, gateway) in [("+79608543017", "c"), ("+77011234567", "b"), ("+4915123456789", "a")] {
        let phone = PhoneNumber::parse(phone, None).expect("valid number");
        let mut message = message();
        message.phone = phone;
        let receipt = sender.send(&message).await.expect("accepted");
        assert_eq!(receipt.gateway.as_deref(), Some(gateway));
    }
    assert_eq!(take(&calls), "cba");
}

#[test]
fn invalid_order_of_gateways_is_rejected() {
    let region = "RU".parse().expect("valid region");
    let built = |builder: FailoverBuilder| builder.build().map(|_| ()).expect_err("invalid configuration");
    assert_eq!(built(Failover::builder()), FailoverError::NoGateway);
    let (builder, calls) = gateways(&[&[], &[]]);
    assert_eq!(built(builder.gateway("a", Script::new("a", &calls, &[]))), FailoverError::Name("a".into()));
    let named = |name: &str| Failover::builder().gateway(name, Script::default());
    assert_eq!(built(named("")), FailoverError::Name(String::new()));
    for route in [vec!["b"], vec![], vec!["a", "a"]] {
        assert_eq!(built(named("a").order_for(region, route)), FailoverError::Order { region });
    }
    let least = Duration::from_millis(500);
    for time in [Duration::ZERO, Duration::from_millis(499)] {
        let gateway = "a".to_owned();
        assert_eq!(built(named("a").time(time)), FailoverError::Time { gateway: gateway.clone(), least });
        assert_eq!(built(named("a").time_per_gateway(time)), FailoverError::Time { gateway, least });
    }
    assert_eq!(built(named("a").circuit_breaker(0, Duration::from_secs(1))), FailoverError::Numbers);
    assert_eq!(built(named("a").circuit_breaker(1, Duration::MAX)), FailoverError::Numbers);
    assert_eq!(built(named("a").time(Duration::MAX)), FailoverError::Numbers);
    assert!(named("a").time_per_gateway(Duration::MAX).build().is_ok(), "it is limited to the total time");
}

/// Observer that records all attempts.
#[derive(Clone, Default)]
struct RecordingHook(Arc<Mutex<Vec<String>>>);

impl Observer for RecordingHook {
    fn attempted(&self, attempt: &Attempt<'_>) {
        let region = attempt.region.map_or("-".to_owned(), |region| region.to_string());
        let error = attempt.error.map(ToString::to_string).unwrap_or_default();
        let entry =
            format!("{} {region} {} {:?} {error}", attempt.gateway, attempt.outcome.as_str(), attempt.took);
        self.0.lock().expect("not poisoned").push(entry.trim().to_owned());
    }
}

#[tokio::test(start_paused = true)]
async fn observer_is_notified_of_every_attempt() {
    let recorder = RecordingHook::default();
    let (builder, calls) = gateways(&[&[Hang], &[Busy(9)], &[]]);
    let sender = builder
        .circuit_breaker(1, Duration::from_secs(30))
        .observer(recorder.clone())
        .build()
        .expect("valid configuration");
    send(&sender, &calls).await;
    send(&sender, &calls).await;
    let expected = [
        "a RU unknown 4s it is unknown whether the gateway sent the message: no response in time",
        "b RU busy 0ns the gateway is busy for 9 s: too much",
        "c RU accepted 0ns",
        "a RU skipped 0ns",
        "b RU skipped 0ns",
        "c RU accepted 0ns",
    ];
    assert_eq!(*recorder.0.lock().expect("not poisoned"), expected);
}

fn referral(sender: impl SmsSender) -> ReferralService {
    service::builder(Arc::new(MemoryStorage::new()), sender).build().expect("valid policy and keys")
}

fn is_within_the_resend_interval(error: &Error) -> bool {
    matches!(error, Error::Refused(Refusal::TooManyRequests { limit: LimitName::ResendInterval, .. }))
}

#[tokio::test(start_paused = true)]
async fn code_is_counted_once_for_any_number_of_gateways() {
    let request = || SendCode::new(message().phone);
    // The limit is three codes in 15 minutes, and each code is offered to three gateways.
    let (builder, calls) = gateways(&[&[Temporary; 9], &[Temporary; 9], &[]]);
    let sent =
        referral(builder.circuit_breaker(9, Duration::from_secs(1)).build().expect("valid configuration"));
    sent.send_code(request()).await.expect("sent");
    assert_eq!(take(&calls), "abc");
    let refused = sent.send_code(request()).await.expect_err("within the resend interval");
    assert!(is_within_the_resend_interval(&refused), "{refused:?}");
    assert_eq!(take(&calls), "", "no gateway is called for a rejected request");

    // All gateways certainly rejected the message, so the client may request another code immediately.
    let (builder, _) = gateways(&[&[Temporary, Temporary], &[Busy(1), Permanent]]);
    let refused = referral(builder.build().expect("valid configuration"));
    for _ in 0..2 {
        let error = refused.send_code(request()).await.expect_err("not sent");
        assert!(matches!(error, Error::SmsNotSent(_)), "{error}");
    }
    refused.send_code(request()).await.expect("sent");

    // The result of one gateway is unknown, so the message is treated as sent.
    let (builder, _) = gateways(&[&[Unknown], &[Permanent]]);
    let unknown = referral(builder.build().expect("valid configuration"));
    unknown.send_code(request()).await.expect("treated as sent");
    let refused = unknown.send_code(request()).await.expect_err("within the resend interval");
    assert!(is_within_the_resend_interval(&refused), "{refused:?}");
}

proptest! {
    #[test]
    fn no_gateway_is_called_after_an_acceptance(
        scripts in prop::collection::vec(
            prop::collection::vec(
                prop_oneof![Just(Accept), Just(Permanent), Just(Temporary), (1..60_u64).prop_map(Busy), Just(Unknown), Just(Hang)],
                1..12,
            ),
            1..=4,
        ),
        pauses in prop::collection::vec(0..40_u64, 8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("the runtime starts").block_on(async {
            let responses: Vec<&[Response]> = scripts.iter().map(Vec::as_slice).collect();
            let (builder, calls) = gateways(&responses);
            let sender = builder.build().expect("valid configuration");
            let mut next = vec![0; scripts.len()];
            for pause in pauses {
                let start = Instant::now();
                let result = sender.send(&message()).await;
                assert!(start.elapsed() <= Failover::TIME);
                // The responses of the gateways that were called.
                let responses: Vec<_> = take(&calls).chars().map(|name| {
                    let gateway = "abcd".find(name).expect("one of four");
                    let response = scripts[gateway].get(next[gateway]).copied().unwrap_or(Accept);
                    next[gateway] += 1;
                    response
                }).collect();
                let ends = |response: &Response| matches!(response, Accept | Permanent);
                assert!(responses.iter().rev().skip(1).all(|response| !ends(response)), "{responses:?}");
                let may_be_sent = responses.iter().any(|response| matches!(response, Unknown | Hang));
                match result {
                    Ok(_) => assert_eq!(responses.last(), Some(&Accept)),
                    Err(SmsError::Unknown(_)) => assert!(may_be_sent, "{responses:?}"),
                    Err(SmsError::Busy { .. }) => {
                        assert!(responses.iter().all(|response| matches!(response, Busy(_))), "{responses:?}");
                    }
                    Err(SmsError::Permanent(_)) => {
                        assert!(!may_be_sent && responses.last() == Some(&Permanent), "{responses:?}");
                    }
                    Err(SmsError::Temporary(_)) => {
                        assert!(!may_be_sent && !responses.iter().any(ends), "{responses:?}");
                    }
                    Err(error) => panic!("{error}"),
                }
                advance(Duration::from_secs(pause)).await;
            }
        });
    }
}
