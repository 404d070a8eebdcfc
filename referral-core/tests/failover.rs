//! Several gateways in order, of which some fail.

use std::{
    collections::VecDeque,
    future::{pending, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use proptest::prelude::*;
use referral_core::{
    Error, Peppers, PhoneNumber, Referral, Refusal, SendCode, SigningKeys, SmsCode,
    sms::{
        AfterUnknown, Attempt, Failover, FailoverBuilder, FailoverError, Observer, Receipt, SmsError,
        SmsMessage, SmsSender,
    },
    storage::MemoryStorage,
};
use tokio::time::{Instant, advance};
use uuid::Uuid;

mockall::mock! {
    Gateway {}

    #[async_trait]
    impl SmsSender for Gateway {
        async fn send(&self, message: &SmsMessage) -> Result<Receipt, SmsError>;
    }
}

/// What a gateway does with a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Accept,
    Permanent,
    Temporary,
    Busy(u64),
    Unknown,
    /// Never answers.
    Hang,
}

use Answer::{Accept, Busy, Hang, Permanent, Temporary, Unknown};

/// A gateway that answers as it is told, and then accepts, and notes who was asked.
#[derive(Clone, Default)]
struct Script {
    name: &'static str,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Script {
    fn new(name: &'static str, asked: &Arc<Mutex<Vec<&'static str>>>, answers: &[Answer]) -> Self {
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
        Self { name, answers, asked: Arc::clone(asked) }
    }
}

#[async_trait]
impl SmsSender for Script {
    async fn send(&self, _message: &SmsMessage) -> Result<Receipt, SmsError> {
        self.asked.lock().expect("nobody panics").push(self.name);
        let answer = self.answers.lock().expect("nobody panics").pop_front().unwrap_or(Accept);
        match answer {
            Accept => Ok(Receipt::new(format!("{}-1", self.name))),
            Permanent => Err(SmsError::Permanent("no such number".into())),
            Temporary => Err(SmsError::Temporary("out of order".into())),
            Busy(seconds) => {
                Err(SmsError::Busy { reason: "too much".into(), retry_after: Duration::from_secs(seconds) })
            }
            Unknown => Err(SmsError::Unknown("no answer".into())),
            Hang => pending().await,
        }
    }
}

type Asked = Arc<Mutex<Vec<&'static str>>>;

/// Gateways called a, b, … that answer like this, in this order.
fn gateways(answers: &[&[Answer]]) -> (FailoverBuilder, Asked) {
    let asked = Asked::default();
    let named = ["a", "b", "c", "d"].into_iter().zip(answers);
    let builder = named.fold(Failover::builder(), |builder, (name, answers)| {
        builder.gateway(name, Script::new(name, &asked, answers))
    });
    (builder, asked)
}

fn take(asked: &Asked) -> String {
    std::mem::take(&mut *asked.lock().expect("nobody panics")).concat()
}

fn message() -> SmsMessage {
    let phone = PhoneNumber::parse("+79608543017", None).expect("a number");
    SmsMessage::new(Uuid::from_u128(17), phone, SmsCode::known("4711"), "4711 it is".into(), None)
}

/// Who was asked for one message, and what came of it.
async fn send(sender: &Failover, asked: &Asked) -> String {
    let result = match sender.send(&message()).await {
        Ok(receipt) => format!("accepted by {}", receipt.gateway.unwrap_or_default()),
        Err(SmsError::Permanent(_)) => "permanent".into(),
        Err(SmsError::Temporary(_)) => "temporary".into(),
        Err(SmsError::Busy { retry_after, .. }) => format!("busy for {}", retry_after.as_secs()),
        Err(_) => "unknown".into(),
    };
    format!("{}: {result}", take(asked))
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

#[tokio::test(start_paused = true)]
async fn a_gateway_that_fails_again_and_again_rests_and_is_tried_later() {
    let (builder, asked) = gateways(&[&[Temporary, Hang, Unknown, Temporary, Temporary], &[]]);
    let sender = builder.build().expect("sound");
    for _ in 0..3 {
        assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
    }
    for rest in [30, 60] {
        assert_eq!(send(&sender, &asked).await, "b: accepted by b");
        advance(Duration::from_secs(rest - 1)).await;
        assert_eq!(send(&sender, &asked).await, "b: accepted by b", "it rests");
        advance(Duration::from_secs(1)).await;
        assert_eq!(send(&sender, &asked).await, "ab: accepted by b", "it is tried after {rest} s");
    }
    advance(Duration::from_secs(119)).await;
    assert_eq!(send(&sender, &asked).await, "b: accepted by b", "longer each time");
    advance(Duration::from_secs(1)).await;
    assert_eq!(send(&sender, &asked).await, "a: accepted by a", "it is back");
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn no_rest_is_longer_than_twenty_times_the_first() {
    let (builder, asked) = gateways(&[&[Temporary; 12], &[]]);
    let sender = builder.rest(1, Duration::from_secs(1)).build().expect("sound");
    for _ in 0..12 {
        assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
        advance(Duration::from_secs(20)).await;
    }
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn failures_that_are_not_in_a_row_bring_no_rest() {
    let answers: Vec<_> = [Temporary, Temporary, Accept].repeat(4);
    let (builder, asked) = gateways(&[&answers, &[]]);
    let sender = builder.build().expect("sound");
    for _ in 0..4 {
        assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
        assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
        assert_eq!(send(&sender, &asked).await, "a: accepted by a");
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_wrong_says_nothing_of_the_gateway() {
    let (builder, asked) = gateways(&[&[Permanent; 9], &[]]);
    let sender = builder.build().expect("sound");
    for _ in 0..9 {
        assert_eq!(send(&sender, &asked).await, "a: permanent");
    }
}

#[tokio::test(start_paused = true)]
async fn many_at_once_bring_one_rest_and_one_trial() {
    let asked = Asked::default();
    let sender = Failover::builder()
        .gateway("a", Script::new("a", &asked, &[Hang; 9]))
        .gateway("b", Script::new("b", &asked, &[]))
        .build()
        .expect("sound");
    let sender = Arc::new(sender);
    let at_once = |sender: &Arc<Failover>| {
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
    at_once(&sender).await;
    assert_eq!(take(&asked).matches('a').count(), 8, "none knew of the others");
    // Eight failures at once are one reason to rest.
    advance(Duration::from_secs(30)).await;
    at_once(&sender).await;
    assert_eq!(take(&asked).matches('a').count(), 1, "one tries it for all");
    advance(Duration::from_mins(1)).await;
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_given_up_blocks_nobody_for_long() {
    let (builder, asked) = gateways(&[&[Temporary, Hang], &[]]);
    let sender = builder.rest(1, Duration::from_secs(10)).build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
    advance(Duration::from_secs(10)).await;
    // Whoever tries it leaves at once.
    let given_up = tokio::time::timeout(Duration::from_secs(1), sender.send(&message())).await;
    assert!(given_up.is_err());
    assert_eq!(take(&asked), "a");
    assert_eq!(send(&sender, &asked).await, "b: accepted by b");
    advance(Duration::from_secs(4)).await;
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_hangs_is_the_only_one_until_it_is_noted() {
    let (builder, asked) = gateways(&[&[Temporary, Hang, Hang], &[]]);
    let sender = builder.rest(1, Duration::from_secs(10)).build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
    advance(Duration::from_secs(10)).await;
    let message = message();
    let mut trial = sender.send(&message);
    assert!(poll_once(&mut trial).await.is_none());
    assert_eq!(take(&asked), "a");
    // Its time is over, and nobody has looked yet.
    advance(Duration::from_secs(4)).await;
    assert_eq!(send(&sender, &asked).await, "b: accepted by b");
    trial.await.expect("accepted by b");
}

/// What a future gives at once, if it does.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|context| match Pin::new(&mut *future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_gateway_for_which_no_time_is_left_is_not_being_tried() {
    let (builder, asked) = gateways(&[&[Temporary, Hang], &[Temporary], &[]]);
    let builder = builder.time(Duration::from_millis(4_200)).rest(1, Duration::from_secs(10));
    let sender = builder.build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "abc: accepted by c");
    advance(Duration::from_secs(10)).await;
    assert_eq!(send(&sender, &asked).await, "a: unknown");
    assert_eq!(send(&sender, &asked).await, "b: accepted by b");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_says_it_is_busy_is_left_alone_for_that_long() {
    let (builder, asked) = gateways(&[&[Busy(90)]]);
    let sender = builder.build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "a: busy for 90");
    advance(Duration::from_secs(30)).await;
    // Though it is the only one.
    assert_eq!(send(&sender, &asked).await, ": busy for 60");
    advance(Duration::from_mins(1)).await;
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");

    let (builder, asked) = gateways(&[&[Busy(1_000_000)]]);
    let sender = builder.build().expect("sound");
    send(&sender, &asked).await;
    advance(Duration::from_hours(1)).await;
    assert_eq!(send(&sender, &asked).await, "a: accepted by a", "but for no longer than an hour");
}

#[tokio::test(start_paused = true)]
async fn one_that_rests_is_asked_if_the_others_want_to_be_left_alone() {
    let (builder, asked) = gateways(&[&[Temporary], &[Accept, Busy(90)]]);
    let sender = builder.rest(1, Duration::from_secs(30)).build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
    assert_eq!(send(&sender, &asked).await, "ba: accepted by a");
}

/// Says after a while that it is busy.
struct BusyLater;

#[async_trait]
impl SmsSender for BusyLater {
    async fn send(&self, _message: &SmsMessage) -> Result<Receipt, SmsError> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Err(SmsError::Busy { reason: "too much".into(), retry_after: Duration::from_secs(90) })
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_meanwhile_wants_to_be_left_alone_is_no_last_resort() {
    let asked = Asked::default();
    let sender = Failover::builder()
        .gateway("a", Script::new("a", &asked, &[Temporary, Busy(300)]))
        .gateway("b", BusyLater)
        .rest(1, Duration::from_secs(1));
    let sender = sender.build().expect("sound");
    // `a` fails and rests; while `b` is waited for, another message tries it again.
    let message = message();
    let mut first = sender.send(&message);
    assert!(poll_once(&mut first).await.is_none());
    let mut second = sender.send(&message);
    assert!(poll_once(&mut second).await.is_none());
    advance(Duration::from_secs(1)).await;
    let mut third = sender.send(&message);
    assert!(poll_once(&mut third).await.is_none());
    assert_eq!(take(&asked), "aa");
    assert!(matches!(second.await, Err(SmsError::Busy { .. })));
    assert_eq!(take(&asked), "", "it is left alone");
}

#[tokio::test(start_paused = true)]
async fn among_others_one_that_has_several_is_a_gateway_like_any() {
    let asked = Asked::default();
    let script = |name, answers| Script::new(name, &asked, answers);
    let inner = Failover::builder()
        .gateway("a", script("a", &[Temporary, Accept, Busy(40), Temporary]))
        .gateway("b", script("b", &[Busy(30), Busy(60)]));
    let inner = inner.build().expect("sound");
    let sender = Failover::builder().gateway("inner", inner).gateway("c", script("c", &[]));
    let sender = sender.build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "abc: accepted by c");
    // Not all in it are busy, so it is not left alone.
    assert_eq!(send(&sender, &asked).await, "a: accepted by inner");
    assert_eq!(send(&sender, &asked).await, "ac: accepted by c");
    // All are, until one of them is not.
    advance(Duration::from_secs(29)).await;
    assert_eq!(send(&sender, &asked).await, "c: accepted by c");
    advance(Duration::from_secs(1)).await;
    assert_eq!(send(&sender, &asked).await, "bc: accepted by c");
}

#[tokio::test]
async fn the_least_time_is_enough_on_a_clock_that_goes() {
    let (builder, asked) = gateways(&[&[]]);
    let sender = builder.time(Duration::from_millis(500)).build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "a: accepted by a");
}

#[tokio::test(start_paused = true)]
async fn those_that_rest_are_asked_last_first_whoever_is_back_first() {
    let (builder, asked) =
        gateways(&[&[Temporary, Temporary], &[Accept, Temporary, Accept], &[Accept, Temporary]]);
    let sender = builder.rest(1, Duration::from_secs(10)).build().expect("sound");
    assert_eq!(send(&sender, &asked).await, "ab: accepted by b");
    advance(Duration::from_secs(5)).await;
    assert_eq!(send(&sender, &asked).await, "bc: accepted by c");
    advance(Duration::from_secs(1)).await;
    assert_eq!(send(&sender, &asked).await, "cab: accepted by b");
    advance(Duration::from_secs(5)).await;
    assert_eq!(
        send(&sender, &asked).await,
        "a: accepted by a",
        "that it was asked before made its rest no longer"
    );
}

/// Takes phones of one region only, as gateways do that have no route to others.
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
async fn refusals_for_one_region_keep_nobody_of_another_from_a_message() {
    let sender = Failover::builder().gateway("a", Regional("RU")).gateway("b", Regional("KZ")).build();
    let sender = sender.expect("sound");
    for phone in ["+77011234567", "+79608543017"].repeat(9) {
        let mut message = message();
        message.phone = PhoneNumber::parse(phone, None).expect("a number");
        sender.send(&message).await.expect(phone);
    }
    for phone in ["+77011234567"].repeat(9).into_iter().chain(["+79608543017"].repeat(9)) {
        let mut message = message();
        message.phone = PhoneNumber::parse(phone, None).expect("a number");
        sender.send(&message).await.expect(phone);
    }
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
        "a RU unknown 4s the gateway did not say whether it sent the message: no answer in time",
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
