//! Several gateways in order, of which some fail.

mod fake;
mod rests;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use proptest::prelude::*;
use referral_core::{
    Error, Peppers, PhoneNumber, Referral, Refusal, SendCode, SigningKeys,
    sms::{
        AfterUnknown, Attempt, Failover, FailoverBuilder, FailoverError, Observer, Receipt, SmsError,
        SmsMessage, SmsSender,
    },
    storage::MemoryStorage,
};
use tokio::time::{Instant, advance};
use uuid::Uuid;

use crate::fake::{
    Accept, Answer, Busy, Hang, Permanent, Script, Temporary, Unknown, gateways, message, send, take,
};

mockall::mock! {
    Gateway {}

    #[async_trait]
    impl SmsSender for Gateway {
        async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError>;
    }
}

#[tokio::test(start_paused = true)]
async fn gateways_are_asked_in_order_until_one_accepts() {
    for (answers, expected) in [
        (&[&[Accept][..], &[Accept]][..], "a: accepted by a"),
        (&[&[Temporary], &[Accept]], "ab: accepted by b"),
        (&[&[Busy(5)], &[Accept], &[Accept]], "ab: accepted by b"),
        (&[&[Unknown], &[Accept]], "ab: accepted by b"),
        (&[&[Hang], &[Accept]], "ab: accepted by b"),
        (&[&[Permanent], &[Accept]], "a: permanent"),
        (&[&[Temporary], &[Permanent], &[Accept]], "ab: permanent"),
        (&[&[Temporary], &[Temporary]], "ab: temporary"),
        // Busy only if all are, and until the first of them is not.
        (&[&[Busy(50)], &[Busy(5)]], "ab: busy for 5"),
        (&[&[Busy(5)], &[Busy(50)]], "ab: busy for 5"),
        (&[&[Temporary], &[Busy(5)]], "ab: temporary"),
        (&[&[Busy(5)], &[Temporary]], "ab: temporary"),
        // It may have been sent, whatever the others say.
        (&[&[Unknown], &[Temporary]], "ab: unknown"),
        (&[&[Unknown], &[Permanent]], "ab: unknown"),
        (&[&[Temporary], &[Unknown], &[Busy(5)]], "abc: unknown"),
        (&[&[Hang], &[Temporary]], "ab: unknown"),
    ] {
        let (builder, asked) = gateways(answers);
        let sender = builder.build().expect("sound");
        assert_eq!(send(&sender, &asked).await, expected, "{answers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_else_is_asked_after_an_unknown_answer_if_that_is_the_setting() {
    for answer in [Unknown, Hang] {
        let (builder, asked) = gateways(&[&[Temporary], &[answer], &[Accept]]);
        let sender = builder.after_unknown(AfterUnknown::Stop).build().expect("sound");
        assert_eq!(send(&sender, &asked).await, "ab: unknown");
    }
}

#[tokio::test]
async fn each_gateway_gets_the_very_same_message() {
    let is_it = |message: &SmsMessage| {
        message.id == Uuid::from_u128(17)
            && message.code.reveal() == "4711"
            && message.text.reveal() == "4711 it is"
            && message.phone.as_str() == "+79608543017"
    };
    let mut first = MockGateway::new();
    first.expect_send().withf(is_it).once().returning(|_| Err(SmsError::Unknown("no answer".into())));
    let mut second = MockGateway::new();
    second.expect_send().withf(is_it).once().returning(|_| Ok(Receipt::new("m1")));
    let mut third = MockGateway::new();
    third.expect_send().never();
    let builder =
        Failover::builder().gateway("first", first).gateway("second", second).gateway("third", third);
    let receipt = builder.build().expect("sound").send(&message()).await.expect("accepted");
    assert_eq!((receipt.gateway.as_deref(), receipt.message_id.as_deref()), (Some("second"), Some("m1")));
}

#[tokio::test(start_paused = true)]
async fn the_time_is_bounded_whoever_hangs() {
    let (builder, asked) = gateways(&[&[Hang], &[Hang], &[Hang], &[Hang]]);
    let sender = builder.time(Duration::from_secs(7)).time_per_gateway(Duration::from_secs(3)).build();
    let start = Instant::now();
    // Three seconds for each of two, and what is left for the third; nothing for the fourth.
    assert_eq!(send(&sender.expect("sound"), &asked).await, "abc: unknown");
    assert_eq!(start.elapsed(), Duration::from_secs(7));

    // Too little is left for anything but nobody's knowing.
    let (builder, asked) = gateways(&[&[Hang], &[Accept]]);
    let sender = builder.time(Duration::from_millis(3_400)).time_per_gateway(Duration::from_secs(3)).build();
    assert_eq!(send(&sender.expect("sound"), &asked).await, "a: unknown");
}

#[tokio::test]
async fn a_region_has_gateways_of_its_own() {
    let (builder, asked) = gateways(&[&[], &[], &[]]);
    let region = |name: &str| name.parse().expect("a region");
    let sender =
        builder.order_for(region("RU"), ["c", "a"]).order_for(region("KZ"), ["b"]).build().expect("sound");
    for (phone, gateway) in [("+79608543017", "c"), ("+77011234567", "b"), ("+4915123456789", "a")] {
        let phone = PhoneNumber::parse(phone, None).expect("a number");
        let mut message = message();
        message.phone = phone;
        let receipt = sender.send(&message).await.expect("accepted");
        assert_eq!(receipt.gateway.as_deref(), Some(gateway));
    }
    assert_eq!(take(&asked), "cba");
}

#[test]
fn what_cannot_be_put_in_order_is_refused() {
    let region = "RU".parse().expect("a region");
    let built = |builder: FailoverBuilder| builder.build().map(|_| ()).expect_err("refused");
    assert_eq!(built(Failover::builder()), FailoverError::NoGateway);
    let (builder, asked) = gateways(&[&[], &[]]);
    assert_eq!(built(builder.gateway("a", Script::new("a", &asked, &[]))), FailoverError::Name("a".into()));
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
    assert_eq!(built(named("a").rest(0, Duration::from_secs(1))), FailoverError::Numbers);
    assert_eq!(built(named("a").rest(1, Duration::MAX)), FailoverError::Numbers);
    assert_eq!(built(named("a").time(Duration::MAX)), FailoverError::Numbers);
    assert!(named("a").time_per_gateway(Duration::MAX).build().is_ok(), "no longer than all of it");
}

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Observer for Diary {
    fn attempted(&self, attempt: &Attempt<'_>) {
        let region = attempt.region.map_or("-".to_owned(), |region| region.to_string());
        let error = attempt.error.map(ToString::to_string).unwrap_or_default();
        let entry =
            format!("{} {region} {} {:?} {error}", attempt.gateway, attempt.outcome.as_str(), attempt.took);
        self.0.lock().expect("nobody panics").push(entry.trim().to_owned());
    }
}

#[tokio::test(start_paused = true)]
async fn the_observer_is_told_of_every_turn() {
    let diary = Diary::default();
    let (builder, asked) = gateways(&[&[Hang], &[Busy(9)], &[]]);
    let sender = builder.rest(1, Duration::from_secs(30)).observer(diary.clone()).build().expect("sound");
    send(&sender, &asked).await;
    send(&sender, &asked).await;
    let expected = [
        "a RU unknown 4s it is unknown whether the gateway sent the message: no response in time",
        "b RU busy 0ns the gateway is busy for 9 s: too much",
        "c RU accepted 0ns",
        "a RU resting 0ns",
        "b RU resting 0ns",
        "c RU accepted 0ns",
    ];
    assert_eq!(*diary.0.lock().expect("nobody panics"), expected);
}

fn referral(sender: impl SmsSender) -> Referral {
    let keys = SigningKeys::from_secret("k1", &[1; 32]).expect("long enough");
    let peppers = Peppers::from_secret("p1", &[2; 32]).expect("long enough");
    Referral::builder(Arc::new(MemoryStorage::new()), Arc::new(sender), keys, peppers).build().expect("sound")
}

#[tokio::test(start_paused = true)]
async fn a_code_is_charged_once_however_many_gateways_are_asked() {
    let ask = || SendCode::new(message().phone);
    // Three codes in a quarter of an hour, and each takes three gateways.
    let (builder, asked) = gateways(&[&[Temporary; 9], &[Temporary; 9], &[]]);
    let sent = referral(builder.rest(9, Duration::from_secs(1)).build().expect("sound"));
    sent.send_code(ask()).await.expect("sent");
    assert_eq!(take(&asked), "abc");
    let refused = sent.send_code(ask()).await.expect_err("cooling down");
    assert!(matches!(refused, Error::Refused(Refusal::TooManyRequests { .. })));
    assert_eq!(take(&asked), "", "nobody is asked for what is refused");

    // Refused for certain by all: the phone may ask again at once.
    let (builder, _) = gateways(&[&[Temporary, Temporary], &[Busy(1), Permanent]]);
    let refused = referral(builder.build().expect("sound"));
    for _ in 0..2 {
        let error = refused.send_code(ask()).await.expect_err("not sent");
        assert!(matches!(error, Error::SmsNotSent(_)), "{error}");
    }
    refused.send_code(ask()).await.expect("sent");

    // Unknown of one of them: taken for sent.
    let (builder, _) = gateways(&[&[Unknown], &[Permanent]]);
    let unknown = referral(builder.build().expect("sound"));
    unknown.send_code(ask()).await.expect("taken for sent");
    unknown.send_code(ask()).await.expect_err("cooling down");
}

proptest! {
    #[test]
    fn whatever_gateways_answer_nobody_is_asked_after_an_acceptance(
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
        runtime.expect("a runtime").block_on(async {
            let answers: Vec<&[Answer]> = scripts.iter().map(Vec::as_slice).collect();
            let (builder, asked) = gateways(&answers);
            let sender = builder.build().expect("sound");
            let mut next = vec![0; scripts.len()];
            for pause in pauses {
                let start = Instant::now();
                let result = sender.send(&message()).await;
                assert!(start.elapsed() <= Failover::TIME);
                // What those who were asked have said.
                let said: Vec<_> = take(&asked).chars().map(|name| {
                    let gateway = "abcd".find(name).expect("one of four");
                    let answer = scripts[gateway].get(next[gateway]).copied().unwrap_or(Accept);
                    next[gateway] += 1;
                    answer
                }).collect();
                let ends = |answer: &Answer| matches!(answer, Accept | Permanent);
                assert!(said.iter().rev().skip(1).all(|answer| !ends(answer)), "{said:?}");
                let may_be_sent = said.iter().any(|answer| matches!(answer, Unknown | Hang));
                match result {
                    Ok(_) => assert_eq!(said.last(), Some(&Accept)),
                    Err(SmsError::Unknown(_)) => assert!(may_be_sent, "{said:?}"),
                    Err(SmsError::Busy { .. }) => {
                        assert!(said.iter().all(|answer| matches!(answer, Busy(_))), "{said:?}");
                    }
                    Err(_) => assert!(!may_be_sent && !said.contains(&Accept), "{said:?}"),
                }
                advance(Duration::from_secs(pause)).await;
            }
        });
    }
}
